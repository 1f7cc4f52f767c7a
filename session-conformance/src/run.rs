//! Running the guarantees.

use std::{
    env,
    io::{self, Write},
    panic::AssertUnwindSafe,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use session_core::Durability;
use tokio::task::JoinSet;

use crate::{Backend, Cx, Guarantee, Outcome, Report, Stop, Verdict, backend::Open, witness::Calls};

/// A guarantee that runs longer hangs. The first that needs a server of its own starts it.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Runs every guarantee on a backend, as the `main` of a test target: see [`main!`](crate::main).
///
/// It takes the arguments of a Rust test binary (a filter, `--skip`, `--list`, `--exact`, `--test-threads` …) and these
/// variables: `CONFORMANCE_REPORT_DIR`, where one JSON file for each result goes; `CONFORMANCE_SEED`, the number that
/// every random choice comes from.
#[must_use]
pub fn run<B: Backend>() -> ExitCode {
    run_with::<B>(Arguments::from_args())
}

fn run_with<B: Backend>(mut arguments: Arguments) -> ExitCode {
    arguments.test_threads.get_or_insert(B::AT_ONCE);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(|_| || Ok(Completion::Completed))).exit_code();
    }
    match start::<B>() {
        Ok(suite) => suite.run(&arguments),
        Err(why) => {
            // Nothing passes without its server; the message names the command that provides it.
            let _ = writeln!(io::stderr(), "error: {}: {why}", B::NAME);
            ExitCode::FAILURE
        }
    }
}

fn start<B: Backend>() -> Result<Suite<B>, crate::BoxError> {
    let seed = match env::var("CONFORMANCE_SEED") {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("CONFORMANCE_SEED={text}: a whole number is expected"))?,
        Err(_) => random_seed()?,
    };
    let runtime = Runtime::new()?;
    let backend = Arc::new(runtime.handle().block_on(B::start())?);
    let reports = env::var_os("CONFORMANCE_REPORT_DIR").map(PathBuf::from);
    Ok(Suite {
        runtime: Arc::new(runtime),
        backend,
        seed,
        reports,
    })
}

struct Suite<B> {
    runtime: Arc<Runtime>,
    backend: Arc<B>,
    seed: u64,
    reports: Option<PathBuf>,
}

impl<B: Backend> Suite<B> {
    fn run(self, arguments: &Arguments) -> ExitCode {
        let server = self.backend.server();
        let _ = writeln!(
            io::stdout(),
            "{} {} on {} {} (CONFORMANCE_SEED={})",
            B::NAME,
            B::VERSION,
            server.name,
            server.version,
            self.seed
        );
        let trials = trials(|guarantee| {
            let (runtime, backend) = (Arc::clone(&self.runtime), Arc::clone(&self.backend));
            let (seed, reports) = (self.seed, self.reports.clone());
            move || {
                let report = check(&runtime, &backend, &guarantee, seed);
                if let Some(dir) = reports {
                    report
                        .write(&dir)
                        .map_err(|error| format!("{}: {error}", dir.display()))?;
                }
                conclude(report)
            }
        });
        libtest_mimic::run(arguments, trials).exit_code()
    }
}

fn trials<F>(runner: impl Fn(Guarantee) -> F) -> Vec<Trial>
where
    F: FnOnce() -> Result<Completion, Failed> + Send + 'static,
{
    let of = |guarantee: &Guarantee| {
        let name = format!("{}::{}", guarantee.group.replace(' ', "_"), guarantee.name);
        let trial = Trial::ignorable_test(name, runner(*guarantee));
        if guarantee.provisional {
            trial.with_kind("provisional")
        } else {
            trial
        }
    };
    crate::groups()
        .iter()
        .flat_map(|group| group.guarantees)
        .map(of)
        .collect()
}

fn conclude(report: Report) -> Result<Completion, Failed> {
    match report.outcome {
        Outcome::Kept => Ok(Completion::Completed),
        Outcome::Unsupported | Outcome::Untested => Ok(Completion::ignored_with(
            format!("{:?}: {}", report.outcome, report.reason).to_lowercase(),
        )),
        Outcome::Broken if report.provisional => Ok(Completion::ignored_with(format!(
            "broken, provisional: {}",
            report.reason
        ))),
        Outcome::Broken => Err(report.reason.into()),
    }
}

/// Checks one guarantee on one backend, in a namespace of its own.
///
/// A guarantee that panics is broken, and so is one that runs for longer than two minutes.
#[must_use]
pub fn check<B: Backend>(runtime: &Runtime, backend: &Arc<B>, guarantee: &Guarantee, seed: u64) -> Report {
    check_within(TIME_LIMIT, runtime, backend, guarantee, seed)
}

fn check_within<B: Backend>(
    limit: Duration,
    runtime: &Runtime,
    backend: &Arc<B>,
    guarantee: &Guarantee,
    seed: u64,
) -> Report {
    let begun = Instant::now();
    let calls = Arc::new(Calls::default());
    let open: Arc<dyn Open> = Arc::clone(backend) as _;
    let (ended, end) = mpsc::channel();
    let (to_run, witness) = (*guarantee, Arc::clone(&calls));
    let task = runtime.handle().spawn(async move {
        // A set, because it ends its task when it is dropped by the time limit.
        let mut inner = JoinSet::from_iter([judge(open, witness, to_run, seed)]);
        let verdict = match inner.join_next().await {
            Some(joined) => joined.unwrap_or_else(|error| Err(panicked(error))),
            None => return,
        };
        // Nobody listens any more after the time limit.
        let _ = ended.send(verdict);
    });
    let verdict = end.recv_timeout(limit).unwrap_or_else(|_| {
        task.abort();
        Err(Stop::Broken(format!("still running after {limit:?}")))
    });
    let outcome = match verdict {
        Ok(()) => (Outcome::Kept, String::new()),
        Err(Stop::Untested(reason)) => (Outcome::Untested, reason),
        Err(Stop::Unsupported) => (Outcome::Unsupported, "not claimed by the store".to_owned()),
        Err(Stop::Broken(why)) => {
            let mut message = format!("{guarantee:?} is broken on {}\n{why}\n", B::NAME);
            if guarantee.stochastic {
                message.push_str(&format!("seed: CONFORMANCE_SEED={seed}\n"));
            }
            message.push_str(&format!("last calls:\n{calls}"));
            (Outcome::Broken, message)
        }
    };
    Report::new(
        (B::NAME, B::VERSION),
        backend.server(),
        guarantee,
        outcome,
        begun.elapsed(),
    )
}

/// Runs a guarantee, and holds its end against what the store claims: declared, it must hold; not declared, it must
/// end in `Unsupported`.
async fn judge(backend: Arc<dyn Open>, calls: Arc<Calls>, guarantee: Guarantee, seed: u64) -> Verdict {
    let cx = Cx::new(backend, calls, seed).await?;
    let store = cx.store();
    // Nothing shows that a store does *not* survive a crash: only the claim is held against it.
    if guarantee.durable && store.profile().limits.durability != Durability::Crash {
        return Err(Stop::Unsupported);
    }
    let missing = guarantee.needs.iter().find(|need| !store.profile().has(**need));
    match ((guarantee.run)(cx).await, missing) {
        (Ok(()), Some(need)) => Err(Stop::Broken(format!(
            "expected: the profile declares {need:?}\nseen: it works, but is not declared"
        ))),
        (Err(Stop::Unsupported), None) => Err(Stop::Broken(format!(
            "expected: what the profile declares ({:?}) and the five calls work\nseen: Unsupported",
            guarantee.needs
        ))),
        (verdict, _) => verdict,
    }
}

fn panicked(error: tokio::task::JoinError) -> Stop {
    let payload = match error.try_into_panic() {
        Ok(payload) => AssertUnwindSafe(payload),
        Err(error) => return Stop::Broken(error.to_string()),
    };
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    Stop::Broken(format!("panicked: {text}"))
}

/// The runtime that a process has for all its guarantees.
#[derive(Debug)]
pub struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// A runtime of several threads: at least four, so that callers meet on a small machine too.
    ///
    /// # Errors
    ///
    /// The system gives no threads.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.max(4))
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        match &self.0 {
            Some(runtime) => runtime.handle(),
            None => unreachable!("it is taken by `drop` alone"),
        }
    }
}

impl Drop for Runtime {
    /// Waits for nothing: a store that blocks its thread has been reported, and must not keep the process.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Fifteen digits, to be copied into `CONFORMANCE_SEED`.
fn random_seed() -> Result<u64, crate::BoxError> {
    let version = session_core::Version::random()?;
    let mut low = [0; 8];
    low.copy_from_slice(&version.as_bytes()[..8]);
    Ok(u64::from_le_bytes(low) % 1_000_000_000_000_000)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use session_core::{Capability, MemoryStore, Record, SessionStore};

    use super::*;
    use crate::{BoxError, Hook, Server, expect::same};

    /// The memory store, with an empty reason for the hooks that it lacks.
    #[derive(Debug)]
    struct Memory;

    #[async_trait]
    impl Backend for Memory {
        const NAME: &'static str = "memory";
        const VERSION: &'static str = "0";

        async fn start() -> Result<Self, BoxError> {
            Err("no server: start one with `make server`".into())
        }

        fn server(&self) -> Server {
            Server::none()
        }

        async fn open(&self, _: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
            Ok(Arc::new(MemoryStore::new()))
        }

        fn reason(hook: Hook) -> &'static str {
            match hook {
                Hook::Raw => "keeps no bytes",
                _ => "",
            }
        }
    }

    fn outcome_within(limit: Duration, guarantee: Guarantee) -> (Outcome, String) {
        let runtime = Runtime::new().unwrap();
        let report = check_within(limit, &runtime, &Arc::new(Memory), &guarantee, 7);
        (report.outcome, report.reason)
    }

    fn outcome(guarantee: Guarantee) -> (Outcome, String) {
        outcome_within(TIME_LIMIT, guarantee)
    }

    fn broken_within(limit: Duration, guarantee: Guarantee) -> String {
        let (outcome, reason) = outcome_within(limit, guarantee);
        assert_eq!(outcome, Outcome::Broken, "{reason}");
        reason
    }

    fn broken(guarantee: Guarantee) -> String {
        broken_within(TIME_LIMIT, guarantee)
    }

    #[test]
    fn kept_is_kept_and_a_failure_tells_what_there_is_to_tell() {
        let kept = Guarantee::new("group", "kept", |_| Box::pin(async { Ok(()) }));
        assert_eq!(outcome(kept), (Outcome::Kept, String::new()));
        let mut wrong = Guarantee::new("group", "wrong", |cx| {
            Box::pin(async move {
                cx.store()
                    .create(&cx.key(), &Record::new("data"), Cx::LONG)
                    .await?;
                same("load(key)", 1, 2)
            })
        });
        wrong.stochastic = true;
        let reason = broken(wrong);
        for part in [
            "group::wrong is broken on memory",
            "src/run.rs:",
            "load(key)",
            "expected: 2",
            "seen: 1",
            "CONFORMANCE_SEED=7",
            "create(",
        ] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }

    #[test]
    fn error_passed_on_is_broken_and_tells_its_place() {
        let reason = broken(Guarantee::new("group", "passed_on", |cx| {
            Box::pin(async move { Ok(cx.store().touch(&cx.key(), Cx::LONG).await?) })
        }));
        assert!(
            reason.contains("src/run.rs:") && reason.contains("no live record"),
            "{reason}"
        );
    }

    #[test]
    fn panic_hang_and_blocked_thread_are_broken() {
        let reason = broken(Guarantee::new("group", "panics", |_| {
            Box::pin(async { panic!("seven") })
        }));
        assert!(reason.contains("panicked: seven"), "{reason}");
        let hang = Guarantee::new("group", "hangs", |_| Box::pin(std::future::pending()));
        let soon = Duration::from_millis(200);
        assert!(broken_within(soon, hang).contains("still running after 200ms"));
        let blocked = Guarantee::new("group", "blocks", |_| {
            Box::pin(async {
                loop {
                    std::thread::park();
                }
            })
        });
        assert!(broken_within(soon, blocked).contains("still running after 200ms"));
    }

    #[test]
    fn claims_are_held_both_ways() {
        let unsupported = |_: Cx| -> crate::table::Running { Box::pin(async { Err(Stop::Unsupported) }) };
        assert!(broken(Guarantee::new("group", "five_calls", unsupported)).contains("seen: Unsupported"));
        let mut declared = Guarantee::new("group", "declared", unsupported);
        declared.needs = &[Capability::Subjects];
        assert!(broken(declared).contains("seen: Unsupported"));
    }

    #[test]
    fn durability_that_is_not_claimed_is_unsupported_before_a_hook_is_missed() {
        let mut durable = Guarantee::new("group", "durable", |cx| {
            Box::pin(async move { cx.crash().await.map(drop) })
        });
        durable.durable = true;
        assert_eq!(outcome(durable).0, Outcome::Unsupported);
        assert!(
            broken(Guarantee {
                durable: false,
                ..durable
            })
            .contains("gives no reason")
        );
    }

    #[test]
    fn missing_hook_is_untested_with_a_reason_and_broken_without() {
        let raw = Guarantee::new("group", "raw", |cx| {
            Box::pin(async move { cx.raw().await.map(drop) })
        });
        assert_eq!(outcome(raw), (Outcome::Untested, "keeps no bytes".to_owned()));
        let silent = Guarantee::new("group", "silent", |cx| {
            Box::pin(async move { cx.unreachable().await.map(drop) })
        });
        assert!(broken(silent).contains("gives no reason"));
    }

    #[test]
    fn missing_server_fails_the_run_and_a_list_needs_none() {
        let run = |arguments: &[&str]| {
            let code = run_with::<Memory>(Arguments::from_iter([&["suite"], arguments].concat()));
            format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
        };
        assert!(!run(&[]));
        assert!(run(&["--list", "--format", "terse"]));
    }
}
