//! Waiting for what a server says, never for a length of time.

use std::time::{Duration, Instant};

use crate::{Error, Result, engine::Container};

/// Longer than any server takes to begin or to agree with others, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is asked.
pub(crate) trait Server: Sync {
    /// `HOST:PORT`
    fn place(&self) -> Result<String>;

    /// Where it runs, if that is ours to say.
    fn container(&self) -> Result<&Container>;
}

/// Asks again until the answer is yes, and not for ever.
pub(crate) struct Wait {
    what: &'static str,
    begun: Instant,
}

/// The answer was no.
pub(crate) struct NotYet<'a> {
    server: &'a dyn Server,
    why: String,
}

impl Wait {
    /// `what` is waited for: the beginning of a sentence about it.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            begun: Instant::now(),
        }
    }

    /// Returns when it is time for the next question, or fails with the log of the server that said no last.
    pub(crate) async fn again(&mut self, no: NotYet<'_>) -> Result<()> {
        if self.begun.elapsed() > PATIENCE {
            let Self { what, .. } = self;
            let NotYet { server, why } = no;
            let place = server.place().unwrap_or_else(|error| error.to_string());
            let log = match server.container() {
                Ok(container) => container.log().await,
                Err(_) => String::new(),
            };
            return Err(Error::new(format!(
                "{what} is not ready after {PATIENCE:?}: {place}: {why}\n{log}"
            )));
        }
        // Between two questions, not instead of one.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

impl<'a> NotYet<'a> {
    pub(crate) fn new(server: &'a dyn Server, why: impl ToString) -> Self {
        Self {
            server,
            why: why.to_string(),
        }
    }
}
