#![doc = include_str!("../README.md")]

pub mod clock;
mod connect;
mod error;
#[cfg(feature = "session")]
mod event;
pub mod head;
mod id;
mod keys;
mod profile;
mod record;
mod store;

#[cfg(feature = "session")]
pub mod codec;
#[cfg(all(
    any(test, feature = "fuzzing"),
    feature = "bincode",
    feature = "json",
    feature = "memory"
))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "metrics")]
mod metered;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "session")]
mod session;
#[cfg(feature = "sweeper")]
mod sweeper;

pub use async_trait::async_trait;
pub use bytes::Bytes;

#[cfg(feature = "bincode")]
pub use self::codec::BincodeCodec;
#[cfg(feature = "json")]
pub use self::codec::JsonCodec;
#[cfg(feature = "session")]
pub use self::codec::{Codec, CodecError, CodecErrorKind, Codecs, Encoded};
#[cfg(feature = "session")]
pub use self::event::EventInfo;
#[cfg(feature = "memory")]
pub use self::memory::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "metrics")]
pub use self::metered::MeteredStore;
#[cfg(feature = "metrics")]
pub use self::metrics::{METRICS, MetricInfo, MetricKind};
#[cfg(feature = "session")]
pub use self::session::{
    Assurance, ClientAction, Committed, ConfigError, EVENTS, Lengths, OnLimit, OwnSession, RetiredIdPolicy,
    Session, SessionError, SessionInfo, SessionParts, Sessions, SessionsBuilder, Upkeep,
};
#[cfg(feature = "sweeper")]
pub use self::sweeper::Sweeper;
pub use self::{
    clock::{Clock, SystemClock, Timestamp},
    connect::ConnectError,
    error::{Error, ErrorKind, Result},
    id::{InvalidId, RandomError, SessionId, SessionKey},
    keys::{KeyError, Keys},
    profile::{Capability, ClockSource, Durability, Limits, StoreProfile},
    record::{InvalidSubject, Record, Stored, Subject, Version},
    store::{SessionStore, Subjects, Sweep},
};

/// `N` bytes from the system's random number generator.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError::from)?;
    Ok(bytes)
}
