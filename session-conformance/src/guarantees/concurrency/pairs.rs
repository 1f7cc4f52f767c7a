//! Two calls on one record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{SessionKey, SessionStore, Version};

use super::super::one::{Answered, Call, FIRST, State, first, found};
use crate::{Cx, Stop, Verdict, callers::callers, expect::ensure};

/// What the calls of a pair would write.
const OWN: [&str; 2] = ["one", "two"];

/// Of every two calls on one record at once, on two nodes, both answers and what is there afterwards are what one order
/// of the two gives: on a live record, on an absent one, and on one that has ended and that sweeps remove meanwhile.
///
/// So an update beside a deletion is written or `NotFound`, and never `Conflict`, as it is by a statement that joins the
/// rows of an old snapshot.
pub(super) async fn two_calls_at_once_answer_as_if_one_came_first(cx: Cx) -> Verdict {
    const ROUNDS: usize = 10;
    let nodes = cx.nodes(3).await?;
    let pairs: Vec<[Call; 2]> = (0..Call::ALL.len())
        .flat_map(|a| (a..Call::ALL.len()).map(move |b| [Call::ALL[a], Call::ALL[b]]))
        .collect();
    let absent = |count| -> Result<Vec<_>, Stop> {
        let version = Version::random()?;
        Ok(cx.keys(count).into_iter().map(|key| (key, version)).collect())
    };
    let mut ended = first(&cx, ROUNDS * pairs.len(), cx.short()).await?;
    cx.ended(Instant::now(), cx.short()).await;
    for round in 0..ROUNDS {
        let on_live = first(&cx, pairs.len(), Cx::LONG).await?;
        let on_absent = absent(pairs.len())?;
        let on_ended = ended.split_off(ended.len() - pairs.len());
        for (what, before, on) in [
            ("a live record", Some(FIRST), on_live),
            ("no record", None, on_absent),
            ("a record that has ended", None, on_ended),
        ] {
            let done = Arc::new(AtomicBool::new(false));
            let races = async {
                let answers = race(&nodes, &pairs, &on, round).await;
                done.store(true, Ordering::Relaxed);
                answers
            };
            let (swept, answers) = tokio::join!(keep_sweeping(&nodes[2], &done), races);
            swept?;
            for ((pair, answers), (key, _)) in pairs.iter().zip(answers?.chunks(2)).zip(&on) {
                let left = found(&*cx.store(), key).await?.map(|(data, _)| data);
                let seen = (answers[0], answers[1], left.as_deref());
                let rights = [orders(*pair, before, [0, 1]), orders(*pair, before, [1, 0])];
                ensure(rights.contains(&seen), || {
                    format!(
                        "{pair:?} at once on {what}, round {round}: both answers, and the record afterwards\n\
                         expected: one of {rights:?}\nseen: {seen:?}"
                    )
                })?;
            }
        }
    }
    Ok(())
}

/// What is told and left if the calls come in this order.
fn orders(pair: [Call; 2], before: State, order: [usize; 2]) -> (Answered, Answered, State) {
    let mut answers = [const { Err(session_core::ErrorKind::Unavailable) }; 2];
    let mut state = before;
    for at in order {
        (answers[at], state) = pair[at].on(state, OWN[at]);
    }
    (answers[0], answers[1], state)
}

/// All pairs at once, each on a record of its own: the answers in their order.
async fn race(
    nodes: &[Arc<dyn SessionStore>],
    pairs: &[[Call; 2]],
    on: &[(SessionKey, Version)],
    round: usize,
) -> Result<Vec<Answered>, Stop> {
    callers(pairs.len() * 2, |caller| {
        let (pair, of_pair) = (caller / 2, caller % 2);
        let (call, (key, version)) = (pairs[pair][of_pair], on[pair]);
        let node = Arc::clone(&nodes[of_pair]);
        async move {
            // Now the one first and now the other, by a little.
            for _ in 0..(round * (1 + of_pair)) % 4 {
                tokio::task::yield_now().await;
            }
            Ok(call.make(&*node, &key, version, OWN[of_pair]).await)
        }
    })
    .await
}

async fn keep_sweeping(store: &Arc<dyn SessionStore>, done: &AtomicBool) -> Verdict {
    let Some(sweep) = store.sweep() else {
        return Ok(());
    };
    while !done.load(Ordering::Relaxed) {
        sweep.remove_expired(3).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
