//! What a session takes in this process.

use std::{env, fs, process::Command};

use session_bench::{
    Result,
    footprint::{self, Taken},
    options::Options,
    report::Progress,
};

use super::{WHO, open};

/// Sessions, of whatever size: the process's memory is measured in pages, and has more in it than sessions.
const COUNTS: (usize, usize) = (5_000, 200_000);

/// What the process holds in memory.
pub(super) fn resident() -> Result<u64> {
    let unknown = "what a process takes is read in /proc/self/status, which only Linux has";
    let status = fs::read_to_string("/proc/self/status").map_err(|_| unknown)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.ok_or(unknown)?.trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Measures each contestant in a process of its own, or the one that is asked for in this one: what one gave back to the
/// allocator, another would get.
pub(crate) async fn footprint(options: &Options, mut progress: Progress) -> Result<()> {
    if let Some(contestant) = options.contestant {
        let arena = open(options)?;
        let count = count(options);
        println!(
            "{}",
            footprint::measure(&arena, contestant, count, &mut progress).await?
        );
        return Ok(());
    }
    let mut all = Vec::new();
    for size in footprint::SIZES {
        let mut each = Vec::new();
        for (number, contestant) in open(options)?.contestants.iter().enumerate() {
            progress.tell(&format!("sessions of {size} bytes of {}", contestant.name()));
            let output = Command::new(env::current_exe()?)
                .args(["footprint", "memory", "--size", &size.to_string()])
                .args(["--contestant", &number.to_string()])
                .args(["--rows", &options.rows.to_string()])
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            let bytes = String::from_utf8(output.stdout)?.trim().parse()?;
            each.push((contestant.name().to_owned(), bytes));
        }
        all.push(Taken {
            size,
            count: count(&Options {
                size,
                ..options.clone()
            }),
            each,
        });
    }
    progress.end();
    let is = "resident memory of a process with these sessions alone, with what its allocator adds; a process for each figure";
    footprint::conclude("this process", WHO, is, &all, options.json.as_deref())
}

fn count(options: &Options) -> usize {
    const TOGETHER: usize = 200 << 20;
    let count = (TOGETHER / options.size.max(1)).clamp(COUNTS.0, COUNTS.1);
    count.min(options.rows as usize)
}
