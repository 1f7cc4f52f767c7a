//! Every call, each on a session of its own, and what it may answer when a fault befalls it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{Error, ErrorKind, Record, SessionKey, SessionStore, Subject, Version};

use super::{answered, served};
use crate::{
    Cx, Fault, Proxy, Stop, Verdict,
    expect::{Answer, ensure, short},
};

/// A call, and what it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Load,
    LoadOfAbsent,
    Update,
    UpdateOfOldVersion,
    Touch,
    TouchOfAbsent,
    Delete,
    DeleteOfVersion,
    DeleteOfOldVersion,
    DeleteOfAbsent,
    List,
    DeleteAll,
}

impl Call {
    pub(super) const ALL: [Self; 13] = [
        Self::Create,
        Self::Load,
        Self::LoadOfAbsent,
        Self::Update,
        Self::UpdateOfOldVersion,
        Self::Touch,
        Self::TouchOfAbsent,
        Self::Delete,
        Self::DeleteOfVersion,
        Self::DeleteOfOldVersion,
        Self::DeleteOfAbsent,
        Self::List,
        Self::DeleteAll,
    ];

    /// Those that change something.
    pub(super) const WRITES: [Self; 6] = [
        Self::Create,
        Self::Update,
        Self::Touch,
        Self::Delete,
        Self::DeleteOfVersion,
        Self::DeleteAll,
    ];

    fn is_of_absent(self) -> bool {
        matches!(
            self,
            Self::Create | Self::LoadOfAbsent | Self::TouchOfAbsent | Self::DeleteOfAbsent
        )
    }

    /// Whether `store` has it.
    pub(super) fn is_had(self, store: &dyn SessionStore) -> bool {
        !matches!(self, Self::List | Self::DeleteAll) || store.subjects().is_some()
    }
}

/// What a call told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Written(Version),
    Found(Option<(Record, Version)>),
    Touched,
    Deleted(bool),
    Listed(Vec<SessionKey>),
    Ended(u64),
}

/// A store behind a proxy, for calls that meet one fault each.
pub(super) struct Behind {
    cx: Cx,
    pub(super) proxy: Proxy,
    pub(super) store: Arc<dyn SessionStore>,
}

/// What a call is made on: a session that the server holds, or none; and what a write would make of it.
struct Given {
    key: SessionKey,
    subject: Subject,
    held: Option<(Record, Version)>,
    new: Record,
}

impl Behind {
    pub(super) async fn new(cx: &Cx) -> Result<Self, Stop> {
        let (proxy, store) = cx.behind_proxy().await?;
        let cx = cx.clone();
        Ok(Self { cx, proxy, store })
    }

    /// The store has a connection that works.
    pub(super) async fn connected(&self) -> Verdict {
        let absent = self.cx.key();
        served("load(absent)", || self.store.load(&absent))
            .await
            .map(drop)
    }

    /// Makes `call` with `fault` at its first round trip, then at its second and so on, as long as it has more, six at
    /// most. Each time its answer is the right one or `Unavailable`, and what the server holds then is what was
    /// answered; after `Unavailable` the state before or the one after.
    pub(super) async fn meets(&self, call: Call, fault: Fault) -> Verdict {
        const MOST: usize = 6;
        for at in 0..MOST {
            if !self.meets_at(call, fault, at).await? {
                return ensure(at > 0, || {
                    format!("{call:?} with {fault:?}\nexpected: it takes place\nseen: it did not")
                });
            }
        }
        Ok(())
    }

    /// Whether it took place.
    async fn meets_at(&self, call: Call, fault: Fault, at: usize) -> Result<bool, Stop> {
        const TRIES: usize = 50;
        for _ in 0..TRIES {
            self.connected().await?;
            let given = self.given(call).await?;
            self.proxy.arm(fault, at..at + 1);
            let told = answered(&format!("{call:?} under {fault:?}"), self.make(call, &given)).await?;
            self.proxy.lift();
            let told = told.answer();
            // A machine may be so slow that the call ended before it came to that; or the server of this very session,
            // of several, was given up at an earlier fault and is asked again in a moment.
            let is_late = told == Err(ErrorKind::Unavailable);
            let what = || format!("{call:?} with {fault:?} at round trip {at}");
            self.judge(call, &given, told, &what).await?;
            if self.proxy.happened() > 0 || !is_late {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(self.proxy.happened() > 0)
    }

    /// Makes `call` under a fault that is armed already: the right answer comes in the end. `Unavailable` may come
    /// before it where the machine is slow.
    pub(super) async fn is_served(&self, call: Call) -> Verdict {
        const LONGEST: Duration = Duration::from_secs(10);
        let begun = Instant::now();
        loop {
            let given = self.given(call).await?;
            let told = answered(&format!("{call:?}"), self.make(call, &given)).await?;
            let told = told.answer();
            let is_served = told != Err(ErrorKind::Unavailable);
            self.judge(call, &given, told, &|| format!("{call:?}")).await?;
            if is_served {
                return Ok(());
            }
            ensure(begun.elapsed() < LONGEST, || {
                format!("{call:?}\nexpected: an answer\nseen: Unavailable for {LONGEST:?}")
            })?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn given(&self, call: Call) -> Result<Given, Stop> {
        let (key, subject) = (self.cx.key(), self.cx.subject());
        let record = |text: &str| {
            let data = [text.as_bytes(), key.as_bytes(), &[b'.'; 100]].concat();
            Record::new(data).with_subject(subject.clone())
        };
        let (old, new) = (record("old"), record("new"));
        let held = match call.is_of_absent() {
            true => None,
            false => {
                let version = self.cx.store().create(&key, &old, Cx::LONG).await?;
                Some((old, version))
            }
        };
        Ok(Given {
            key,
            subject,
            held,
            new,
        })
    }

    async fn make(&self, call: Call, given: &Given) -> Result<Told, Error> {
        let (store, key, new) = (&self.store, &given.key, &given.new);
        let version = given
            .held
            .as_ref()
            .map_or(Version::from_bytes([7; 16]), |(_, version)| *version);
        let other = Version::from_bytes([7; 16]);
        let unsupported = || Error::new(ErrorKind::Unsupported, store.profile().name);
        match call {
            Call::Create => store.create(key, new, Cx::LONG).await.map(Told::Written),
            Call::Load | Call::LoadOfAbsent => store
                .load(key)
                .await
                .map(|found| Told::Found(found.map(|stored| (stored.record, stored.version)))),
            Call::Update => store.update(key, version, new, Cx::LONG).await.map(Told::Written),
            Call::UpdateOfOldVersion => store.update(key, other, new, Cx::LONG).await.map(Told::Written),
            Call::Touch | Call::TouchOfAbsent => store.touch(key, Cx::LONG * 2).await.map(|()| Told::Touched),
            Call::Delete | Call::DeleteOfAbsent => store.delete(key, None).await.map(Told::Deleted),
            Call::DeleteOfVersion => store.delete(key, Some(version)).await.map(Told::Deleted),
            Call::DeleteOfOldVersion => store.delete(key, Some(other)).await.map(Told::Deleted),
            Call::List => {
                let subjects = store.subjects().ok_or_else(unsupported)?;
                subjects.list(&given.subject).await.map(Told::Listed)
            }
            Call::DeleteAll => {
                let subjects = store.subjects().ok_or_else(unsupported)?;
                subjects.delete_all(&given.subject, None).await.map(Told::Ended)
            }
        }
    }

    /// `told` is right, and so is what the server holds now.
    async fn judge(
        &self,
        call: Call,
        given: &Given,
        told: Result<Told, ErrorKind>,
        what: &(dyn Fn() -> String + Sync),
    ) -> Verdict {
        let stored = self.cx.store().load(&given.key).await?;
        let life = stored.as_ref().map(|stored| stored.remaining);
        let truth = stored.map(|stored| (stored.record, stored.version));
        let as_before = truth == given.held;
        let is_new = truth.as_ref().is_some_and(|(record, _)| *record == given.new);
        let (is_right, is_true) = match (call, &told) {
            (_, Err(ErrorKind::Unavailable)) => {
                let applied = match call {
                    Call::Create | Call::Update => is_new,
                    Call::Delete | Call::DeleteOfVersion | Call::DeleteAll => truth.is_none(),
                    _ => false,
                };
                (true, as_before || applied)
            }
            (Call::Create | Call::Update, Ok(Told::Written(version))) => {
                (true, truth == Some((given.new.clone(), *version)))
            }
            (Call::Load | Call::LoadOfAbsent, Ok(Told::Found(found))) => (*found == given.held, as_before),
            (Call::UpdateOfOldVersion | Call::DeleteOfOldVersion, Err(ErrorKind::Conflict))
            | (Call::TouchOfAbsent, Err(ErrorKind::NotFound)) => (true, as_before),
            (Call::Touch, Ok(Told::Touched)) => (true, as_before && life.is_some_and(|life| life > Cx::LONG)),
            (Call::Delete | Call::DeleteOfVersion, Ok(Told::Deleted(found))) => (*found, truth.is_none()),
            (Call::DeleteOfAbsent, Ok(Told::Deleted(found))) => (!found, as_before),
            (Call::List, Ok(Told::Listed(keys))) => (*keys == [given.key], as_before),
            (Call::DeleteAll, Ok(Told::Ended(count))) => (*count == 1, truth.is_none()),
            _ => (false, true),
        };
        ensure(is_right, || {
            format!(
                "{}\nexpected: the right answer, or Unavailable\nseen: {}",
                what(),
                short(&told)
            )
        })?;
        ensure(is_true, || {
            format!(
                "{}\nit was answered: {}\nbefore, the server held: {}\nexpected: what was answered\nseen: {}",
                what(),
                short(&told),
                short(&given.held),
                short(&truth),
            )
        })
    }
}
