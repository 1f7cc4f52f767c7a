//! A server that is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{Error, Record, SessionKey, SessionStore, Version};

use super::wire::served;
use crate::{Cx, Stop, Verdict, callers::callers, expect::ensure, table::table};

table! { "crash":
    acknowledged_writes_survive_a_crash: durable;
}

const CALLERS: usize = 16;

/// Sessions that each caller has written before the crash, at least.
const BEFORE: usize = 10;

/// A server that came back, and a store that connects anew, may take as long; a store that does neither takes longer.
const LONGEST: Duration = Duration::from_secs(20);

/// While 16 callers create, update and delete, the server is killed and started again. Each session is then as the last
/// acknowledged call left it, or as one left it whose outcome is unknown: what was created or updated is there, and what
/// was deleted is not. A store that was open goes on by itself, if the backend says that its stores do.
async fn acknowledged_writes_survive_a_crash(cx: Cx) -> Verdict {
    let server = cx.crash().await?;
    let goes_on = server.stores_reconnect();
    let store = cx.opened(&*server).await?;
    let clients = Clients {
        store: Arc::clone(&store),
        goes_on,
        ready: Arc::default(),
        crash: Arc::default(),
    };
    let crash = async {
        let begun = Instant::now();
        while clients.ready.load(Ordering::Relaxed) < CALLERS {
            ensure(begun.elapsed() < LONGEST, || {
                format!(
                    "{BEFORE} sessions by each of {CALLERS} callers\nexpected: in {LONGEST:?}\nseen: no end"
                )
            })?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        clients.crash.store(UNDER_WAY, Ordering::SeqCst);
        server.crash().await?;
        clients.crash.store(OVER, Ordering::SeqCst);
        Ok(())
    };
    let traffic = callers(CALLERS, |_| clients.clone().traffic(cx.clone()));
    let (sessions, ()) = tokio::try_join!(traffic, crash)?;

    let reopened = cx.opened(&*server).await?;
    for session in sessions.iter().flatten() {
        session
            .is_left(&*reopened, "a store opened after a crash")
            .await?;
        if goes_on {
            session
                .is_left(&*store, "a store open since before a crash")
                .await?;
        }
    }
    Ok(())
}

/// Where the crash is: before 1, during 1, after 2.
const UNDER_WAY: usize = 1;
const OVER: usize = 2;

/// What all callers share.
#[derive(Clone)]
struct Clients {
    store: Arc<dyn SessionStore>,
    goes_on: bool,
    /// Callers that have written enough.
    ready: Arc<AtomicUsize>,
    crash: Arc<AtomicUsize>,
}

impl Clients {
    /// Writes one session after the other until the crash is over, and then until one was acknowledged in full again.
    async fn traffic(self, cx: Cx) -> Result<Vec<Session>, Stop> {
        let mut sessions = Vec::new();
        let mut since_crash: Option<Instant> = None;
        for number in 1.. {
            let mut session = Session::new(cx.key());
            let over = self.crash.load(Ordering::SeqCst) == OVER;
            let acknowledged = self.write(&mut session, number).await?;
            sessions.push(session);
            if number == BEFORE {
                self.ready.fetch_add(1, Ordering::Relaxed);
            }
            let over_for = over.then(|| since_crash.get_or_insert_with(Instant::now).elapsed());
            match over_for {
                Some(_) if acknowledged || !self.goes_on => break,
                Some(over_for) => ensure(over_for < LONGEST, || {
                    format!(
                        "a store whose server crashed and is back\n\
                         expected: it goes on by itself\nseen: Unavailable for {over_for:?}"
                    )
                })?,
                None => {}
            }
            let pause = if acknowledged { 1 } else { 20 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(sessions)
    }

    /// A session that is created, updated, and now and then deleted: whether all of it was acknowledged.
    async fn write(&self, session: &mut Session, number: usize) -> Result<bool, Stop> {
        let (store, key) = (&self.store, session.key);
        let created = store.create(&key, &data(number, "created"), Cx::LONG).await;
        let Some(version) = self.note(session, created, Some(data(number, "created")))? else {
            return Ok(false);
        };
        if number.is_multiple_of(4) {
            return Ok(true);
        }
        let record = data(number, "updated");
        let updated: Result<Version, Error> = store.update(&key, version, &record, Cx::LONG).await;
        if self.note(session, updated, Some(record))?.is_none() {
            return Ok(false);
        }
        if number % 4 == 1 {
            return Ok(true);
        }
        let deleted = store.delete(&key, None).await;
        Ok(self.note(session, deleted, None)?.is_some())
    }

    /// Notes what a call wrote: for certain if it was acknowledged, perhaps if it was `Unavailable`.
    #[track_caller]
    fn note<T>(
        &self,
        session: &mut Session,
        answer: Result<T, Error>,
        wrote: Option<Record>,
    ) -> Result<Option<T>, Stop> {
        match answer {
            // One that does not go on answers for files that nobody has any more.
            Ok(told) if self.goes_on || self.crash.load(Ordering::SeqCst) < UNDER_WAY => {
                session.may_be = vec![wrote];
                Ok(Some(told))
            }
            Err(error) if !error.is_retryable() => Err(error.into()),
            _ => {
                session.may_be.push(wrote);
                Ok(None)
            }
        }
    }
}

fn data(number: usize, what: &str) -> Record {
    Record::new(format!("{number} {what}"))
}

/// A session, and what may be left of it.
struct Session {
    key: SessionKey,
    may_be: Vec<Option<Record>>,
}

impl Session {
    fn new(key: SessionKey) -> Self {
        let may_be = vec![None];
        Self { key, may_be }
    }

    async fn is_left(&self, store: &dyn SessionStore, on: &str) -> Verdict {
        // Each connection of a pool may have to find out by itself that the server was away.
        let call = format!("load by {on}");
        let seen = served(&call, || store.load(&self.key)).await?;
        let seen = seen.map(|stored| stored.record);
        ensure(self.may_be.contains(&seen), || {
            format!(
                "{call}, of what was acknowledged\nexpected: one of {:?}\nseen: {seen:?}",
                self.may_be
            )
        })
    }
}
