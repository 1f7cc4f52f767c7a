//! One call: its deadline, and how often it is tried.

use std::time::Duration;

use session_core::Error;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{self, Asked, Failure};

/// After the first refusal because of too many requests, about so long; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a request whose fate is not known is sent again. Several connections of the client may be broken at once.
const REPEATS: u32 = 2;

/// The time that a call has, and its tries so far.
///
/// The client itself never sends a request twice: which ones may be is decided here.
pub(crate) struct Tries {
    limit: Duration,
    deadline: Instant,
    busy: u32,
    /// The last refusal because of too many requests.
    refusal: Option<Error>,
    lost: u32,
}

/// Why a call has ended without an answer.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: Error,
    /// Whether a request may have been carried out.
    pub(crate) may_be_done: bool,
}

impl Tries {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            deadline: Instant::now() + limit,
            busy: 0,
            refusal: None,
            lost: 0,
        }
    }

    /// For another request of the same call.
    pub(crate) fn afresh(&self) -> Self {
        Self {
            limit: self.limit,
            deadline: self.deadline,
            busy: 0,
            refusal: None,
            lost: 0,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether an earlier try may have been carried out.
    pub(crate) fn is_repeated(&self) -> bool {
        self.lost > 0
    }

    /// The answer to a request, if it comes in time.
    pub(crate) async fn once<T>(
        &self,
        asked: &Asked<'_>,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout_at(self.deadline, request)
            .await
            .unwrap_or_else(|_| Err(self.late(asked)))
    }

    fn late(&self, asked: &Asked<'_>) -> Failure {
        let text = format!("{asked}: no reply within {:?}", self.limit);
        let before = self.refusal.as_ref().and_then(Error::detail);
        Failure::Lost(error::unavailable(match before {
            Some(before) => format!("{text}, after {before}"),
            None => text,
        }))
    }

    /// Returns when it is time to send the request again, even if it was carried out before.
    pub(crate) async fn again(&mut self, failure: Failure) -> Result<(), Broken> {
        match failure {
            Failure::Lost(error) => {
                self.lost += 1;
                // At once the first time: one connection of the client's was broken. Then perhaps it is the server.
                let pause = match self.lost {
                    1 => Duration::ZERO,
                    _ => pause(0),
                };
                if self.lost > REPEATS || Instant::now() + pause >= self.deadline {
                    return Err(self.broken(error));
                }
                sleep(pause).await;
                Ok(())
            }
            other => self.again_if_not_done(other).await,
        }
    }

    /// Returns when it is time to send the request again, if it is known that nothing was done.
    pub(crate) async fn again_if_not_done(&mut self, failure: Failure) -> Result<(), Broken> {
        match failure {
            Failure::Busy(error) => {
                let pause = pause(self.busy);
                self.busy += 1;
                if Instant::now() + pause >= self.deadline {
                    return Err(self.broken(error));
                }
                self.refusal = Some(error);
                sleep(pause).await;
                Ok(())
            }
            Failure::Lost(error) => {
                self.lost += 1;
                Err(self.broken(error))
            }
            Failure::Refused(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: Error) -> Broken {
        Broken {
            error,
            may_be_done: self.is_repeated(),
        }
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        broken.error
    }
}

/// Before try `busy`, counted from none: half of it is fixed, half at random, so that nodes which were refused together do not
/// come again together.
pub(crate) fn pause(busy: u32) -> Duration {
    let whole = PAUSE * 2_u32.pow(busy.min(6));
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use session_core::ErrorKind;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn throttled_call_comes_again_until_its_deadline() {
        let mut tries = Tries::new(Duration::from_millis(500));
        let begun = Instant::now();
        let mut count = 0;
        let broken = loop {
            count += 1;
            let busy = Failure::Busy(error::fail(ErrorKind::Unavailable));
            if let Err(broken) = tries.again(busy).await {
                break broken;
            }
        };
        assert!(!broken.may_be_done);
        assert!((4..=7).contains(&count), "{count}");
        // The timer counts whole milliseconds.
        assert!(begun.elapsed() <= Duration::from_millis(501));
    }

    #[tokio::test]
    async fn lost_request_is_sent_again_only_where_that_is_harmless() {
        let lost = || Failure::Lost(error::fail(ErrorKind::Unavailable));
        let mut tries = Tries::new(Duration::from_secs(10));
        for _ in 0..REPEATS {
            assert!(tries.again(lost()).await.is_ok());
        }
        assert!(tries.again(lost()).await.unwrap_err().may_be_done);
        let mut once = Tries::new(Duration::from_secs(10));
        assert!(once.again_if_not_done(lost()).await.unwrap_err().may_be_done);
    }
}
