//! Sessions that the client carries itself, in a token: no store is asked for their content.

#[cfg(feature = "jwt")]
mod jwt;
mod refused;
mod revocation;
mod sealed;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use session_core::{Bytes, SessionKey, Sessions, StoreProfile, Subject, Timestamp};

#[cfg(feature = "jwt")]
pub use self::jwt::{Jwt, JwtAlgorithm, JwtError, JwtKey};
pub(crate) use self::store::TokenStore;
use self::{
    refused::Refused,
    revocation::{Epoch, Revocation},
    sealed::Sealed,
};
use crate::{CookieConfig, KeyRing, ManagerError};

/// Makes sessions travel whole, in a token that the server can check by itself: nothing is stored for them, and
/// [`Session`](session_core::Session) serves handlers as ever.
///
/// | | sealed ([`Tokens::sealed`]) | signed (`Tokens::jwt`, feature `jwt`) |
/// |---|---|---|
/// | format | PASETO v4.local: XChaCha20, keyed BLAKE2b | JWS: Ed25519, ES256 or HS256 |
/// | who reads it | this application | everybody who has it, the client too |
/// | bound to | the keys, the namespace of the [`Sessions`] | the keys, issuer, audience, namespace |
/// | attributes | about 1,800 bytes, any codec | about 2,000 bytes of JSON |
///
/// **What is different from a stored session:**
///
/// - There is no compare-and-set. Of two responses that change the session at the same time the later one to arrive at the
///   client wins, and what the other changed is lost.
/// - Log-out needs a memory. By default it is the store of the [`Sessions`]: a log-out leaves a mark there until the
///   session's absolute end, and each subject has a random *epoch* there, which
///   [`log_out_everywhere`](session_core::Session::log_out_everywhere) replaces. So a request that uses its session costs one round trip
///   (the mark and the epoch are asked for at once), which a small and fast store answers. A store that is down fails closed,
///   and so does a subject whose epoch is gone.
/// - [`own_sessions`](session_core::Session::own_sessions) and the limit per subject need a list that nobody has: `Unsupported`.
/// - A copy of a token stays what it was: after a change the old content can be presented again until its idle time is
///   over or the session is ended. Keep nothing there that must not be taken back, such as a used voucher.
/// - What the first page of a user begins (the secret of its forms' tokens, say) two tabs may begin twice: the form of one of them is
///   refused, once.
/// - The id is not renewed but at a log-in or another change of privilege, which ends the token that it replaces.
///
/// A token that does not verify is no session, and never tried any other way: the request begins anew, as with an unknown id,
/// and an event says why (`token_refused`).
///
/// ```
/// use session_core::{MemoryStore, Sessions};
/// use session_http::{KeyRing, SecretKey, SessionManager, Tokens};
///
/// // The store that remembers log-outs; in production one that all nodes share.
/// let sessions = Sessions::builder(std::sync::Arc::new(MemoryStore::new())).build().unwrap();
/// let keys = KeyRing::new(SecretKey::generate().unwrap());
/// let manager = SessionManager::builder(sessions).tokens(Tokens::sealed(&keys)).build().unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Tokens {
    format: Format,
    revoked: bool,
    eviction_accepted: bool,
}

impl Tokens {
    /// Characters of a token at most, the name of its cookie included.
    pub const SIZE_LIMIT: usize = CookieConfig::SIZE_LIMIT;

    /// The longest absolute life of sessions that cannot be ended: 15 minutes.
    pub const LONGEST_WITHOUT_REVOCATION: Duration = Duration::from_secs(15 * 60);

    /// How far ahead the clock of the node may be that made a token: 5 seconds.
    pub const SKEW: Duration = Duration::from_secs(5);

    /// Encrypted and authenticated under these keys: PASETO v4.local, with a payload of this crate's own. The first key
    /// seals, all of them open.
    pub fn sealed(keys: &KeyRing) -> Self {
        Self::new(Format::Sealed(Sealed::new(keys)))
    }

    /// Signed, and readable by everybody who has it: JWS in its compact form (RFC 7515). The [`Sessions`] must write JSON
    /// ([`JsonCodec`](session_core::JsonCodec)).
    #[cfg(feature = "jwt")]
    pub fn jwt(jwt: Jwt) -> Self {
        Self::new(Format::Jwt(jwt))
    }

    const fn new(format: Format) -> Self {
        Self {
            format,
            revoked: true,
            eviction_accepted: false,
        }
    }

    /// Asks no store for anything, so that nothing ends a session before its time: a log-out makes the client forget its token, and
    /// whoever has a copy goes on. The absolute length must be [`Tokens::LONGEST_WITHOUT_REVOCATION`] or less (a log-in for longer
    /// ends in `InvalidTtl`, at the commit), and log-out everywhere is `Unsupported`.
    pub fn without_revocation(mut self) -> Self {
        self.revoked = false;
        self
    }

    /// Remembers log-outs in a store that may evict records when memory runs short
    /// ([`Limits::may_evict`](session_core::Limits::may_evict)): a session whose mark is evicted is alive again. (An epoch
    /// that is evicted ends its subject's sessions.) Without this call such a store is an error when the manager is built.
    pub fn accept_eviction(mut self) -> Self {
        self.eviction_accepted = true;
        self
    }

    /// With what the manager knows.
    ///
    /// # Errors
    ///
    /// [`ManagerError`] where these sessions cannot be kept in tokens.
    pub(crate) fn build(self, sessions: &Sessions, name_len: usize) -> Result<Arc<Shared>, ManagerError> {
        if let Some(limit) = sessions.max_per_subject() {
            return Err(ManagerError::LimitWithTokens { limit });
        }
        self.format.check(sessions)?;
        let absolute = sessions.lengths().absolute();
        let limits = &sessions.store().profile().limits;
        let revocation = match self.revoked {
            false if absolute > Self::LONGEST_WITHOUT_REVOCATION => {
                return Err(ManagerError::TooLongWithoutRevocation { absolute });
            }
            false => None,
            true if absolute > limits.max_ttl => {
                return Err(ManagerError::TooLongForStore {
                    absolute,
                    longest: limits.max_ttl,
                });
            }
            true if limits.may_evict && !self.eviction_accepted => {
                return Err(ManagerError::RevocationMayBeEvicted {
                    store: sessions.store().profile().name,
                });
            }
            true => Some(Revocation::new(sessions)),
        };
        let budget = Self::SIZE_LIMIT.saturating_sub(name_len);
        let namespace = sessions.namespace().to_owned();
        let max_record = self.format.most_data(&namespace, budget);
        Ok(Arc::new(Shared {
            profile: store::profile(self.format.name(), max_record, revocation.is_some()),
            format: self.format,
            namespace,
            budget,
            clock: sessions.clock().clone(),
            revocation,
        }))
    }
}

/// What every request's [`TokenStore`] needs.
#[derive(Debug)]
pub(crate) struct Shared {
    format: Format,
    namespace: String,
    /// Characters of a token at most.
    budget: usize,
    profile: StoreProfile,
    clock: Arc<dyn session_core::Clock>,
    revocation: Option<Revocation>,
}

impl Shared {
    /// The longest absolute life of a session: for so long its end is remembered, if it is.
    fn longest(&self) -> Duration {
        let revocation = self.revocation.as_ref();
        revocation.map_or(Tokens::LONGEST_WITHOUT_REVOCATION, Revocation::longest)
    }

    /// Whether this is a token by its form. Whether it is ours, the keys tell.
    pub(crate) fn is_well_formed(&self, text: &[u8]) -> bool {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        text.len() <= Tokens::SIZE_LIMIT && text.iter().all(plain) && self.format.is_well_formed(text)
    }
}

/// What a token says.
#[derive(Clone)]
struct Claims {
    key: SessionKey,
    subject: Option<Subject>,
    epoch: Option<Epoch>,
    issued_at: Timestamp,
    expires_at: Timestamp,
    /// The end of the session, whatever happens: until then an end of it is remembered.
    deadline: Timestamp,
    /// The data of the session's record.
    data: Bytes,
}

impl Claims {
    /// # Errors
    ///
    /// [`Refused::Expired`]; [`Refused::NotYet`].
    fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        if self.expires_at <= now {
            return Err(Refused::Expired);
        }
        if self.issued_at.since(now) > Tokens::SKEW {
            return Err(Refused::NotYet);
        }
        Ok(())
    }

    /// As large as can be, but for its data and the escapes of odd names and subjects: those are measured when it is written.
    fn largest(data: usize) -> Self {
        let subject = Subject::new("s".repeat(Subject::MAX_LEN)).ok();
        let latest = Timestamp::from_millis(9_999_999_999_999);
        Self {
            key: SessionKey::from_bytes([0; 32]),
            subject,
            epoch: Some([0; 16]),
            issued_at: latest,
            expires_at: latest,
            deadline: latest,
            data: vec![0; data].into(),
        }
    }
}

#[derive(Debug, Clone)]
enum Format {
    Sealed(Sealed),
    #[cfg(feature = "jwt")]
    Jwt(Jwt),
}

impl Format {
    const fn name(&self) -> &'static str {
        match self {
            Self::Sealed(_) => "sealed-token",
            #[cfg(feature = "jwt")]
            Self::Jwt(_) => "jwt",
        }
    }

    fn is_well_formed(&self, text: &[u8]) -> bool {
        match self {
            Self::Sealed(_) => text.starts_with(sealed::HEADER),
            #[cfg(feature = "jwt")]
            Self::Jwt(_) => text.split(|&byte| byte == b'.').count() == 3,
        }
    }

    fn check(&self, sessions: &Sessions) -> Result<(), ManagerError> {
        _ = sessions;
        match self {
            Self::Sealed(_) => Ok(()),
            #[cfg(feature = "jwt")]
            Self::Jwt(_) => jwt::check_codec(sessions),
        }
    }

    /// # Errors
    ///
    /// An error of the store that the token stands for: its parts cannot be written as this token, or there is no randomness.
    fn write(&self, namespace: &str, claims: &Claims) -> Result<String, session_core::Error> {
        match self {
            Self::Sealed(sealed) => sealed.write(namespace, claims),
            #[cfg(feature = "jwt")]
            Self::Jwt(jwt) => jwt.write(namespace, claims),
        }
        .map_err(|error| error.into_store_error(self.name()))
    }

    /// # Errors
    ///
    /// [`Refused`]: it is none of ours, or none of now.
    fn read(&self, namespace: &str, text: &str, now: Timestamp) -> Result<Claims, Refused> {
        let claims = match self {
            Self::Sealed(sealed) => sealed.read(namespace, text),
            #[cfg(feature = "jwt")]
            Self::Jwt(jwt) => jwt.read(namespace, text),
        }?;
        claims.check_time(now)?;
        Ok(claims)
    }

    /// Bytes of data that a token of `budget` characters holds, whatever the subject.
    fn most_data(&self, namespace: &str, budget: usize) -> usize {
        let len = |data| match self {
            Self::Sealed(sealed) => sealed.len(&Claims::largest(data)),
            #[cfg(feature = "jwt")]
            Self::Jwt(jwt) => jwt.len(namespace, &Claims::largest(0)) + data.div_ceil(3) * 4,
        };
        _ = namespace;
        let (mut fits, mut over) = (0, budget);
        while over - fits > 1 {
            let middle = usize::midpoint(fits, over);
            match len(middle) <= budget {
                true => fits = middle,
                false => over = middle,
            }
        }
        fits
    }
}

/// Why a token could not be written.
#[derive(Debug)]
enum WriteError {
    /// The parts of the session cannot be in such a token.
    Parts(&'static str),
    /// The keys or the system's randomness fail.
    Crypto(&'static str),
}

impl WriteError {
    fn into_store_error(self, format: &'static str) -> session_core::Error {
        use session_core::ErrorKind::{Corrupt, Unavailable};
        let (kind, detail) = match self {
            Self::Parts(detail) => (Corrupt, detail),
            Self::Crypto(detail) => (Unavailable, detail),
        };
        session_core::Error::new(kind, format).with_detail(detail)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("key", &self.key)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
