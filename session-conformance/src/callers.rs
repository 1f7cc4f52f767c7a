//! Calls that meet.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{sync::Barrier, task::JoinSet};

use crate::Stop;

/// Runs `count` callers that begin together, each on a task of its own, and returns what they return, in their order.
///
/// The first that stops stops them all. A panic goes on in the guarantee.
pub(crate) async fn callers<T, F>(count: usize, call: impl Fn(usize) -> F) -> Result<Vec<T>, Stop>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Stop>> + Send + 'static,
{
    let gate = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for caller in 0..count {
        let (gate, call) = (Arc::clone(&gate), call(caller));
        tasks.spawn(async move {
            gate.wait().await;
            call.await.map(|value| (caller, value))
        });
    }
    let mut values = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(value) => values.push(value?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => return Err(Stop::Broken(error.to_string())),
            },
        }
    }
    values.sort_unstable_by_key(|(caller, _)| *caller);
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

/// Drops `future` after so many polls: at once, or when it asks for the next one (its answer has come by then).
pub(crate) async fn cut<F: Future>(future: F, polls: usize, at_once: bool) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 && at_once => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn callers_answer_in_their_order() {
        let values = on(callers(20, async |caller| Ok(caller)));
        assert_eq!(values.unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn cut_drops_before_the_end_and_lets_a_short_one_end() {
        let twice = async || {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(on(cut(twice(), 0, true)), None);
        assert_eq!(on(cut(twice(), 2, true)), None);
        assert_eq!(on(cut(twice(), 2, false)), None);
        assert_eq!(on(cut(twice(), 3, true)), Some(7));
    }
}
