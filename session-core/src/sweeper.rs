//! The removal of expired records in the background.

use std::{fmt, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{Result, random_bytes};

/// Rests so many times as long as a batch took.
const REST: u32 = 4;

/// Removes expired records in the background, until it is stopped or dropped: what stores give the application that
/// starts it.
#[must_use = "it stops when it is dropped"]
pub struct Sweeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sweeper {
    /// Calls `batch`, which removes some records and tells how many, about every `interval`, until nothing is left to
    /// remove. After each batch it rests four times as long as that took, so that others are hardly disturbed. Nodes that
    /// were started together do not sweep together: each wait is a quarter longer or shorter at random.
    ///
    /// A batch that fails ends the round, with a warning.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start<F: Future<Output = Result<usize>> + Send>(
        interval: Duration,
        batch: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = stopped.changed() => return,
                    () = sleep(about(interval)) => {}
                }
                loop {
                    let begun = Instant::now();
                    match batch().await {
                        Ok(0) => break,
                        Ok(count) => tracing::debug!(count, "expired records removed"),
                        Err(error) => {
                            tracing::warn!(%error, "expired records were not removed");
                            break;
                        }
                    }
                    tokio::select! {
                        _ = stopped.changed() => return,
                        () = sleep(begun.elapsed() * REST) => {}
                    }
                }
            }
        });
        Self { stop, task }
    }

    /// Stops, after the batch that is under way.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // A batch that is under way goes on to its end.
        let _ = self.stop.send(true);
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper").finish_non_exhaustive()
    }
}

/// Between three and five quarters of it.
fn about(interval: Duration) -> Duration {
    let share = random_bytes::<1>().map_or(0.5, |[byte]| f64::from(byte) / 255.0);
    interval.mul_f64(0.75 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{Error, ErrorKind};

    const INTERVAL: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn batches_go_on_until_nothing_is_left_and_come_again() {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let sweeper = Sweeper::start(INTERVAL, move || {
            let call = seen.fetch_add(1, SeqCst);
            async move { Ok(if call < 3 { 500 } else { 0 }) }
        });
        while calls.load(SeqCst) < 6 {
            sleep(INTERVAL).await;
        }
        sweeper.stop().await;
        let stopped = calls.load(SeqCst);
        sleep(INTERVAL * 5).await;
        assert_eq!(calls.load(SeqCst), stopped);
    }

    #[tokio::test]
    async fn failure_ends_the_round_and_not_the_task() {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let sweeper = Sweeper::start(INTERVAL, move || {
            seen.fetch_add(1, SeqCst);
            async { Err(Error::new(ErrorKind::Unavailable, "test")) }
        });
        while calls.load(SeqCst) < 3 {
            sleep(INTERVAL).await;
        }
        drop(sweeper);
        sleep(INTERVAL * 3).await;
        let stopped = calls.load(SeqCst);
        sleep(INTERVAL * 5).await;
        assert_eq!(calls.load(SeqCst), stopped);
    }
}
