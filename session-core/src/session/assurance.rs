//! Lengths for what a log-in has to prove.

use std::time::Duration;

use super::Lengths;

/// How sure a log-in makes of who is there: the authentication assurance levels of NIST SP 800-63B-4, and what comes before
/// one.
///
/// | | idle | in all | a new id each | NIST SP 800-63B-4, sections 2.1.3 to 2.3.3, has at most |
/// |---|---|---|---|---|
/// | `Anonymous` | 30 min | 24 h | log-in only | (nothing: nobody has logged in) |
/// | `Aal1` | 30 min | 12 h | 60 min | 30 d in all |
/// | `Aal1Remembered` | 7 d | 30 d | 24 h | 30 d in all |
/// | `Aal2` | 30 min | 8 h | 15 min | 1 h idle, 24 h in all |
/// | `Aal3` | 5 min | 4 h | 5 min | 15 min idle, 12 h in all |
///
/// Within those, the lengths are the OWASP Session Management Cheat Sheet's ("Session Expiration": 15 to 30 min idle for low
/// risk, 2 to 5 min for high value, 4 to 8 h in all), where it has some.
///
/// Longer lengths than NIST's are not refused: which level an application owes its users is not this crate's to know. OWASP
/// ASVS 5.0, 7.1.1, asks for the reason in the application's own documentation; [`Lengths::is_within`] is for its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Assurance {
    /// Nobody has logged in.
    Anonymous,
    /// One factor.
    Aal1,
    /// One factor, and the visitor asked to be remembered.
    Aal1Remembered,
    /// Two factors. The lengths are those of [`Lengths::default`].
    Aal2,
    /// Two factors, one of them hardware that resists phishing; or high value.
    Aal3,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Assurance {
    /// How long an id of a logged-in session serves before it is replaced; `None`: until the log-in.
    #[must_use]
    pub const fn renew_every(self) -> Option<Duration> {
        match self {
            Self::Anonymous => None,
            Self::Aal1 => Some(HOUR),
            Self::Aal1Remembered => Some(DAY),
            Self::Aal2 => Some(Duration::from_secs(15 * 60)),
            Self::Aal3 => Some(Duration::from_secs(5 * 60)),
        }
    }

    /// The longest idle and absolute lengths of NIST SP 800-63B-4.
    const fn most(self) -> (Duration, Duration) {
        match self {
            Self::Anonymous => (Duration::MAX, Duration::MAX),
            Self::Aal1 | Self::Aal1Remembered => (Duration::MAX, Duration::from_secs(30 * 24 * 60 * 60)),
            Self::Aal2 => (HOUR, DAY),
            Self::Aal3 => (Duration::from_secs(15 * 60), Duration::from_secs(12 * 60 * 60)),
        }
    }
}

impl Lengths {
    /// The lengths for a level: see the table of [`Assurance`]. The matching interval between renewals comes with
    /// [`SessionsBuilder::assurance`](super::SessionsBuilder::assurance).
    #[must_use]
    pub fn for_assurance(assurance: Assurance) -> Self {
        match assurance {
            Assurance::Anonymous => Self::new(30 * MINUTE, DAY),
            Assurance::Aal1 => Self::new(30 * MINUTE, 12 * HOUR),
            Assurance::Aal1Remembered => Self::new(7 * DAY, 30 * DAY),
            Assurance::Aal2 => Self::new(30 * MINUTE, 8 * HOUR),
            Assurance::Aal3 => Self::new(5 * MINUTE, 4 * HOUR),
        }
    }

    /// Whether NIST SP 800-63B-4 allows these lengths for a level: see the table of [`Assurance`].
    #[must_use]
    pub fn is_within(self, assurance: Assurance) -> bool {
        let (idle, absolute) = assurance.most();
        self.idle() <= idle && self.absolute() <= absolute
    }
}
