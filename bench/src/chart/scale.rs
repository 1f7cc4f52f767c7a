//! What was measured, extended by calculation: the assumptions are in `bench/scale.md`.

use std::fmt::Write;

use serde_json::Value;
use session_bench::Result;

use super::saved::Saved;

/// Sessions that are calculated for.
const MANY: u64 = 100_000_000;

/// What a server with 64 GiB of memory gives to sessions: a quarter is left for buffers, fragments and a fork.
const SHARD: f64 = 48.0 * GIB;

const GIB: f64 = (1_u64 << 30) as f64;

/// A page of a B-tree that grew by random keys is full to ln 2 (Yao, "On random 2-3 trees", 1978).
const FILL: f64 = std::f64::consts::LN_2;

/// Entries of 32-byte keys in a page of PostgreSQL: 8192 bytes less 24 of header; each 8 of header, 33 of key, 7 to the next multiple of
/// 8, 4 of pointer.
const POSTGRES: f64 = (8192.0 - 24.0) / 52.0 * FILL;

/// Entries of 32-byte keys in a page of SQLite: 4096 bytes less 12 of header; each 32 of key, about 13 of lengths, row and pointer.
const SQLITE: f64 = (4096.0 - 12.0) / 45.0 * FILL;

/// Pages on the way from the root of a B-tree to a leaf, both among them.
fn levels(entries: f64, count: u64) -> u32 {
    let mut reached = entries;
    let mut levels = 1;
    while reached < count as f64 {
        reached *= entries;
        levels += 1;
    }
    levels
}

/// Servers that hold so many bytes.
fn shards(bytes: f64) -> u64 {
    (bytes / SHARD).ceil() as u64
}

/// The tables.
pub(super) fn render(saved: &Saved) -> Result<String> {
    let mut text = format!(
        "Measured: `scripts/bench` at commit {} on {}, {}. Everything else is calculated.\n",
        saved.run("/commit"),
        saved.run("/date"),
        saved.run("/machine/cpu")
    );
    space(&mut text, saved)?;
    depth(&mut text)?;
    growth(&mut text, saved)?;
    Ok(text)
}

fn space(text: &mut String, saved: &Saved) -> Result<()> {
    text.push_str(
        "\n| a session of | takes with | bytes, measured | 10^8 of them in GiB, calculated | servers of 64 GiB, calculated |\n\
         |---|---|--:|--:|--:|\n",
    );
    let mut count = 0;
    for file in &saved.files {
        for taken in array(&file["footprint"]) {
            for one in array(&taken["contestants"]) {
                let each = one["bytes_each"].as_f64().ok_or("bytes_each is no number")?;
                let all = each * MANY as f64;
                let name = one["contestant"].as_str().unwrap_or_default();
                let first = taken["contestants"][0]["contestant"].as_str().unwrap_or_default();
                let on = match name == first {
                    true => String::new(),
                    false => format!(" (beside {first})"),
                };
                // On disk, memory need not hold all.
                let servers = match first {
                    "session-postgres" => "on disk".to_owned(),
                    _ => shards(all).to_string(),
                };
                writeln!(
                    text,
                    "| {} B | {name}{on} | {each:.0} | {:.0} | {servers} |",
                    taken["bytes"],
                    all / GIB
                )?;
                count += 1;
            }
        }
    }
    match count {
        0 => Err("no figures of `footprint` are there: scripts/bench makes them".into()),
        _ => Ok(()),
    }
}

fn depth(text: &mut String) -> Result<()> {
    text.push_str(
        "\n| sessions | pages from root to leaf, PostgreSQL, calculated | the same, SQLite, calculated |\n|--:|--:|--:|\n",
    );
    for count in [1_000, 10_000, 100_000, 1_000_000, 10_000_000, MANY] {
        let (postgres, sqlite) = (levels(POSTGRES, count), levels(SQLITE, count));
        writeln!(text, "| {count} | {postgres} | {sqlite} |")?;
    }
    Ok(())
}

fn growth(text: &mut String, saved: &Saved) -> Result<()> {
    let mut begun = false;
    for file in &saved.files {
        for step in array(&file["growth"]) {
            if !begun {
                text.push_str(
                    "\n| store | sessions | loads per second, measured | p50 of one caller, us, measured | p99, measured |\n\
                     |---|--:|--:|--:|--:|\n",
                );
                begun = true;
            }
            let of = |key: &str| step[key].as_f64().unwrap_or_default();
            writeln!(
                text,
                "| {} | {} | {:.0} | {:.1} | {:.1} |",
                file["contestants"].as_str().unwrap_or_default(),
                step["sessions"],
                of("per_second"),
                of("p50_us"),
                of("p99_us")
            )?;
        }
    }
    Ok(())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_more_for_each_factor() {
        assert_eq!(levels(100.0, 1), 1);
        assert_eq!(levels(100.0, 100), 1);
        assert_eq!(levels(100.0, 101), 2);
        assert_eq!(levels(100.0, 1_000_000), 3);
        assert_eq!(levels(100.0, MANY), 4);
    }

    #[test]
    fn a_server_is_whole() {
        assert_eq!(shards(1.0), 1);
        assert_eq!(shards(SHARD), 1);
        assert_eq!(shards(SHARD + 1.0), 2);
    }
}
