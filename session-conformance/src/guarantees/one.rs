//! One record as the contract's table has it, and the five calls on it: what each answers, and what it leaves.

use std::time::Duration;

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Version};

use crate::{Cx, Stop, callers::callers, expect::Answer};

/// A call that changes something, on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Update,
    Touch,
    Delete,
    /// With the version that the record had at first.
    DeleteOfVersion,
}

/// What a call told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Written,
    Touched,
    Deleted(bool),
}

pub(super) type Answered = Result<Told, ErrorKind>;

/// Whose record is there, by its data, if any is.
pub(super) type State = Option<&'static str>;

/// The record that is there at first.
pub(super) const FIRST: &str = "first";

impl Call {
    pub(super) const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Touch,
        Self::Delete,
        Self::DeleteOfVersion,
    ];

    /// What a record lives for after `create` or `update`, or after `touch`: so far apart that they are told apart, and
    /// far enough from [`Cx::LONG`] that no touch may be left out.
    pub(super) const LIFE: Duration = Duration::from_secs(20 * 60);
    pub(super) const TOUCHED: Duration = Duration::from_secs(40 * 60);

    /// Makes the call: `first` is the version of the first record, and `own` the data that it would write.
    pub(super) async fn make(
        self,
        store: &dyn SessionStore,
        key: &SessionKey,
        first: Version,
        own: &'static str,
    ) -> Answered {
        let record = Record::new(own);
        match self {
            Self::Create => store
                .create(key, &record, Self::LIFE)
                .await
                .map(|_| Told::Written),
            Self::Update => store
                .update(key, first, &record, Self::LIFE)
                .await
                .map(|_| Told::Written),
            Self::Touch => store.touch(key, Self::TOUCHED).await.map(|()| Told::Touched),
            Self::Delete => store.delete(key, None).await.map(Told::Deleted),
            Self::DeleteOfVersion => store.delete(key, Some(first)).await.map(Told::Deleted),
        }
        .answer()
    }

    /// What the contract's table has it answer, and leave.
    pub(super) fn on(self, state: State, own: &'static str) -> (Answered, State) {
        match (self, state) {
            (Self::Create, None) => (Ok(Told::Written), Some(own)),
            (Self::Create, Some(_)) => (Err(ErrorKind::AlreadyExists), state),
            (Self::Update | Self::Touch, None) => (Err(ErrorKind::NotFound), None),
            (Self::Update, Some(FIRST)) => (Ok(Told::Written), Some(own)),
            (Self::Touch, Some(_)) => (Ok(Told::Touched), state),
            (Self::Delete | Self::DeleteOfVersion, None) => (Ok(Told::Deleted(false)), None),
            (Self::Delete, Some(_)) | (Self::DeleteOfVersion, Some(FIRST)) => (Ok(Told::Deleted(true)), None),
            (Self::Update | Self::DeleteOfVersion, Some(_)) => (Err(ErrorKind::Conflict), state),
        }
    }
}

/// Creates so many first records, together.
pub(super) async fn first(cx: &Cx, count: usize, ttl: Duration) -> Result<Vec<(SessionKey, Version)>, Stop> {
    callers(count, |_| {
        let (store, key) = (cx.store(), cx.key());
        async move { Ok((key, store.create(&key, &Record::new(FIRST), ttl).await?)) }
    })
    .await
}

/// The data under a key, and the life that remains to it.
pub(super) async fn found(
    store: &dyn SessionStore,
    key: &SessionKey,
) -> Result<Option<(String, Duration)>, Stop> {
    let stored = store.load(key).await?;
    Ok(stored.map(|stored| {
        (
            String::from_utf8_lossy(&stored.record.data).into_owned(),
            stored.remaining,
        )
    }))
}
