//! What memcached's items take.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use session_bench::Result;

/// Longer than any answer takes.
const SOON: Duration = Duration::from_secs(5);

/// Bytes of all chunks that hold an item, or a part of one.
pub(crate) fn taken(address: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"stats slabs\r\n")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        match line? {
            line if line == "END" => return Ok(chunks(&lines)),
            line => lines.push(line),
        }
    }
    Err("memcached closed the connection".into())
}

fn chunks(lines: &[String]) -> u64 {
    let mut classes: HashMap<&str, (u64, u64)> = HashMap::new();
    for line in lines {
        let Some((class, rest)) = line.strip_prefix("STAT ").and_then(|line| line.split_once(':')) else {
            continue;
        };
        let of = classes.entry(class).or_default();
        match rest.split_once(' ') {
            Some(("chunk_size", size)) => of.0 = size.parse().unwrap_or(0),
            Some(("used_chunks", count)) => of.1 = count.parse().unwrap_or(0),
            _ => {}
        }
    }
    classes.values().map(|(size, count)| size * count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_use_of_all_classes_are_added() {
        let lines = [
            "STAT 1:chunk_size 96",
            "STAT 1:chunks_per_page 10922",
            "STAT 1:used_chunks 3",
            "STAT 5:chunk_size 240",
            "STAT 5:used_chunks 2",
            "STAT active_slabs 2",
        ];
        assert_eq!(chunks(&lines.map(str::to_owned)), 3 * 96 + 2 * 240);
    }
}
