//! Why a token is no session.

/// Why a token is no session. The names are those of the event's field `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not of this form.
    Malformed,
    /// No key of the ring made it, by its own account.
    UnknownKey,
    /// It names another algorithm than its key has.
    #[cfg(feature = "jwt")]
    Algorithm,
    /// It is a token for another purpose, or asks for something that is not done here.
    #[cfg(feature = "jwt")]
    Purpose,
    /// The key that it names did not make it, or not for this application.
    Forged,
    /// It was made for somebody else, or by somebody else.
    #[cfg(feature = "jwt")]
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come: the clock of who made it is off.
    NotYet,
    /// Its session was logged out, or got another token at a log-in.
    Ended,
    /// Its subject was logged out everywhere.
    EndedEverywhere,
    /// A newer version of this software made it. The one reason that is an error and not an absent session.
    NewerFormat,
}

impl Refused {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            #[cfg(feature = "jwt")]
            Self::Algorithm => "algorithm",
            #[cfg(feature = "jwt")]
            Self::Purpose => "purpose",
            Self::Forged => "forged",
            #[cfg(feature = "jwt")]
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Ended => "ended",
            Self::EndedEverywhere => "ended_everywhere",
            Self::NewerFormat => "newer_format",
        }
    }

    /// Whether an honest client may come with it.
    pub(super) const fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::Expired | Self::Ended | Self::EndedEverywhere | Self::UnknownKey | Self::NewerFormat
        )
    }
}
