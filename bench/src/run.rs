//! Where and when figures were made.

use std::{env, fs, process::Command, thread};

use serde_json::{Value, json};
use time::OffsetDateTime;

/// The machine, the date, the commit and the command line. What this system does not tell is null.
pub fn told() -> Value {
    json!({
        "command": command(env::args()),
        "commit": commit(),
        "date": date(OffsetDateTime::now_utc()),
        "machine": {
            "cores": thread::available_parallelism().ok().map(usize::from),
            "cpu": field("/proc/cpuinfo", "model name"),
            "kernel": kernel(),
            "memory": field("/proc/meminfo", "MemTotal").and_then(|size| gibibytes(&size)),
        },
    })
}

/// Without the folders in which the program is: they say nothing, and differ.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.collect();
    if let Some(program) = words.first_mut()
        && let Some((_, name)) = program.rsplit_once('/')
    {
        *program = name.to_owned();
    }
    words.join(" ")
}

/// Of the working directory, and whether code has been changed since. Pages and figures are no code: a run replaces them.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":(exclude,top)*.json",
        ":(exclude,top)*.md",
        ":(exclude,top)*.svg",
    ])?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}-dirty"),
    })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn date(now: OffsetDateTime) -> String {
    format!(
        "{}-{:02}-{:02} {:02}:{:02} UTC",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute()
    )
}

fn kernel() -> Option<String> {
    let of = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    Some(format!("{} {}", of("ostype")?.trim(), of("osrelease")?.trim()))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Of what the kernel calls kB.
fn gibibytes(size: &str) -> Option<String> {
    let kibibytes: f64 = size.strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.1} GiB", kibibytes / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_folder_of_the_program() {
        let line = ["/some/where/session-bench", "redis", "--size", "100"].map(str::to_owned);
        assert_eq!(command(line.into_iter()), "session-bench redis --size 100");
    }

    #[test]
    fn memory_is_told_in_gibibytes() {
        assert_eq!(gibibytes("24684096 kB").as_deref(), Some("23.5 GiB"));
        assert_eq!(gibibytes("much"), None);
    }

    #[test]
    fn a_date_is_in_order_of_size() {
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        assert_eq!(date(at), "2027-01-15 08:00 UTC");
    }
}
