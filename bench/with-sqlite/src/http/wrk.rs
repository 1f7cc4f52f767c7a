//! wrk, which calls the pages.

use std::{fs, io, process::Stdio, time::Duration};

use session_bench::Result;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::{Options, Page, Server, visitor::USER_AGENT};

const MISSING: &str =
    "wrk, which calls the pages, is not installed: on Debian and Ubuntu, apt-get install wrk provides it";

/// After the list of cookies. Requests are made once: what is measured is the server, not the script.
const SCRIPT: &str = include_str!("visit.lua");

/// A script for the sessions of one server. Its file is removed when dropped.
pub(super) struct Wrk {
    script: NamedTempFile,
}

/// What was seen of one page of one variant in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) requests: u64,
    /// What they cost the server's process; zero where the system does not tell it.
    pub(super) cpu: Duration,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) failed: u64,
}

/// # Errors
///
/// There is no wrk.
pub(super) async fn check() -> Result<()> {
    let asked = Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match asked.await {
        // It tells its version and fails.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MISSING.into()),
        Err(error) => Err(error.into()),
    }
}

impl Wrk {
    pub(super) fn new(cookies: &[String]) -> Result<Self> {
        let script = tempfile::Builder::new().suffix(".lua").tempfile()?;
        let list: Vec<String> = cookies.iter().map(|cookie| format!("{cookie:?}")).collect();
        let text = format!("local cookies = {{\n{}\n}}\n{SCRIPT}", list.join(",\n"));
        fs::write(script.path(), text)?;
        Ok(Self { script })
    }

    pub(super) async fn run(&self, server: &Server, page: Page, options: &Options) -> Result<Sample> {
        let before = server.cpu();
        let output = Command::new("wrk")
            .args(["--threads", &options.threads.to_string()])
            .args(["--connections", &options.connections.to_string()])
            .args(["--duration", &format!("{}s", options.seconds)])
            .arg("--script")
            .arg(self.script.path())
            .arg(format!("http://{}", server.address()))
            .args(["--", page.path(), USER_AGENT])
            .stdin(Stdio::null())
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().find_map(|line| line.strip_prefix("figures: "));
        let mut sample = told.and_then(sample).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("wrk told no figures:\n{text}{errors}")
        })?;
        if let (Some(before), Some(after)) = (before, server.cpu()) {
            sample.cpu = after.saturating_sub(before);
        }
        Ok(sample)
    }
}

/// Requests that succeeded, microseconds, median and 99th percentile in microseconds, failures. None where nothing succeeded.
fn sample(told: &str) -> Option<Sample> {
    let mut numbers = Vec::new();
    for number in told.split(' ') {
        numbers.push(number.parse().ok()?);
    }
    let &[requests, micros, p50, p99, failed] = numbers.as_slice() else {
        return None;
    };
    let is_answered = requests > 0 && micros > 0;
    is_answered.then(|| Sample {
        rate: requests as f64 / Duration::from_micros(micros).as_secs_f64(),
        requests,
        cpu: Duration::ZERO,
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
        failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_wrk_are_understood() {
        let told = sample("1000 500000 640 2100 0").unwrap();
        assert_eq!(told.rate, 2_000.0);
        assert_eq!(told.requests, 1_000);
        assert_eq!(told.p99, Duration::from_micros(2_100));
        assert_eq!(sample("0 500000 0 0 64"), None, "nothing succeeded");
        assert_eq!(sample("many"), None);
    }
}
