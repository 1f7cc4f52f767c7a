//! The suite, tested: every mutant is killed by the guarantees that name its fault, every guarantee kills at least
//! one, and the store that the mutants are made of keeps everything while it has no fault.
//!
//! A mutant is one line in `list.rs`, and its fault a few lines in `naive.rs`, in `naive/` for locks and crashes, or in
//! `remote/client.rs` for what takes a wire. What users of `Session` would meet is in `session.rs`.

mod down;
mod list;
mod naive;
mod remote;
mod session;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use session_conformance::{Backend, Guarantee, Outcome, Runtime, check, groups};

use self::{list::MUTANTS, naive::Naive, session::Faulty};

/// A failing run is repeated with `CONFORMANCE_SEED`.
const SEED: u64 = 20_261_123;

type Right = (&'static str, fn() -> Naive);

/// Stores that are right, each in its way: a guarantee that breaks on one asks for what the contract does not say.
const RIGHT: &[Right] = &[
    ("reference", Naive::whole),
    ("slow_and_coarse", Naive::slow_and_coarse),
    ("embedded", Naive::embedded),
];

/// What no store keeps where a lock is on everything.
const OF_LOCKED_RECORDS: &[&str] = &[
    "a_locked_record_delays_nobody_else",
    "sweep_passes_over_a_locked_record",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(48);
    let runtime = Arc::new(Runtime::new().expect("the system gives threads"));
    let seed = std::env::var("CONFORMANCE_SEED").map_or(SEED, |text| text.parse().expect("a whole number"));
    let mut trials = vec![Trial::test(
        "every_guarantee_kills_a_mutant",
        every_guarantee_kills_a_mutant,
    )];
    for guarantee in groups().iter().flat_map(|group| group.guarantees) {
        for (name, backend) in RIGHT {
            let runtime = Arc::clone(&runtime);
            trials.push(Trial::test(
                format!("{name} keeps {}", guarantee.name),
                move || {
                    let report = check(&runtime, &Arc::new(backend()), guarantee, seed);
                    let untested = *name == "embedded" && OF_LOCKED_RECORDS.contains(&guarantee.name);
                    match report.outcome {
                        Outcome::Untested if untested => Ok(()),
                        Outcome::Kept if !untested => Ok(()),
                        outcome => Err(format!("{outcome:?}: {}", report.reason).into()),
                    }
                },
            ));
        }
    }
    for mutant in MUTANTS {
        for killer in mutant.killed_by {
            let runtime = Arc::clone(&runtime);
            trials.push(Trial::test(
                format!("{:?} is killed by {killer}", mutant.fault),
                move || is_killed(&runtime, || Naive::with(mutant.fault), killer, seed),
            ));
        }
    }
    for (fault, killed_by) in session::MUTANTS {
        for killer in *killed_by {
            let runtime = Arc::clone(&runtime);
            trials.push(Trial::test(
                format!("session {fault:?} is killed by {killer}"),
                move || is_killed(&runtime, || Faulty::with(*fault), killer, seed),
            ));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A race is met by chance, and on a loaded machine less often: a guarantee has three runs to meet it.
const RUNS: u64 = 3;

fn is_killed<B: Backend>(
    runtime: &Runtime,
    mutant: impl Fn() -> B,
    killer: &str,
    seed: u64,
) -> Result<(), libtest_mimic::Failed> {
    let guarantee = named(killer).ok_or_else(|| format!("there is no guarantee {killer}"))?;
    let mut lives = String::new();
    for run in 0..RUNS {
        let report = check(runtime, &Arc::new(mutant()), guarantee, seed + run);
        match report.outcome {
            Outcome::Broken => return Ok(()),
            outcome => lives = format!("it lives: {outcome:?} {}", report.reason),
        }
    }
    Err(lives.into())
}

fn named(name: &str) -> Option<&'static Guarantee> {
    groups()
        .iter()
        .flat_map(|group| group.guarantees)
        .find(|guarantee| guarantee.name == name)
}

fn every_guarantee_kills_a_mutant() -> Result<(), libtest_mimic::Failed> {
    let kills = |name: &str| {
        MUTANTS.iter().any(|mutant| mutant.killed_by.contains(&name))
            || session::MUTANTS
                .iter()
                .any(|(_, killed_by)| killed_by.contains(&name))
    };
    let idle: Vec<&str> = groups()
        .iter()
        .flat_map(|group| group.guarantees)
        .map(|guarantee| guarantee.name)
        .filter(|name| !kills(name))
        .collect();
    match idle.is_empty() {
        true => Ok(()),
        false => Err(format!("these kill no mutant: {idle:#?}").into()),
    }
}
