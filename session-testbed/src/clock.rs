//! Servers whose clock is off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// How far the clock of a server is off, in whole seconds: the rest is left out. Lengths of time are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// It shows a time that is still to come.
    Ahead(Duration),
    /// It shows a time that is gone.
    Behind(Duration),
}

/// Between two questions to different clocks of one machine. memcached's is as old as its last tick, which comes once a second,
/// and late where the machine is busy.
const TOLERANCE: Duration = Duration::from_secs(5);

impl Clock {
    /// The command, with datefudge loaded before the C library. That it is there is for [`Clock::check`] to see.
    ///
    /// Not libfaketime: while the server waits, it tells the real time to a handler of signals, where PostgreSQL asks for
    /// it. No timeout would be right.
    pub(crate) fn command(self, command: Vec<String>) -> Vec<String> {
        let subtracted = match self {
            Self::Ahead(length) => format!("-{}", length.as_secs()),
            Self::Behind(length) => length.as_secs().to_string(),
        };
        [
            "env".to_owned(),
            // The loader puts the folder of this machine's kind in the place of $LIB.
            "LD_PRELOAD=/usr/$LIB/datefudge/datefudge.so".to_owned(),
            format!("DATEFUDGE={subtracted}"),
        ]
        .into_iter()
        .chain(command)
        .collect()
    }

    /// That the clock is as far off as it should be. `ask` tells its time, since 1970.
    pub(crate) async fn check(self, ask: impl Future<Output = Result<Duration>>) -> Result<()> {
        let earliest = self.shown()?;
        let told = ask.await?;
        let latest = self.shown()?;
        if earliest.saturating_sub(TOLERANCE) <= told && told <= latest + TOLERANCE {
            return Ok(());
        }
        Err(Error::new(format!(
            "the server's clock is not {self:?} but shows {told:?}, between {earliest:?} and {latest:?}: its image lacks \
             Debian's datefudge, which those of scripts/images have"
        )))
    }

    /// What such a clock shows now.
    fn shown(self) -> Result<Duration> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|error| Error::new(error.to_string()))?;
        match self {
            Self::Ahead(length) => Ok(now + Duration::from_secs(length.as_secs())),
            Self::Behind(length) => now
                .checked_sub(Duration::from_secs(length.as_secs()))
                .ok_or_else(|| Error::new("no clock shows a time before 1970")),
        }
    }
}
