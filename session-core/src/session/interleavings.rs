//! The protocol of renewal, change and log-out over **every** order of its store calls, lost replies included.
//!
//! Each request is a future that stops before each store call; the explorer chooses which goes on, and whether its
//! call works, is lost on the way there, on the way back, or arrives late. Every sequence of choices is run, from a
//! fresh session each time, and what is left in the store is checked against what the requests were told.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;

use super::{ClientAction, Lengths, OnLimit, Session, SessionError, Sessions};
use crate::{
    Clock, Error, ErrorKind, MemoryStore, Record, Result, SessionId, SessionKey, SessionStore, StoreProfile,
    Stored, Subject, Subjects, Sweep, Timestamp, Version,
};

/// Faults that can be planted in the protocol, to show that the exploration finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Log-out deletes what is under the client's key, whatever its version.
    UnconditionalDelete,
    /// Renewal deletes the new record when the reply to its second step is lost.
    UndoOnLostReply,
    /// A creation whose outcome is unknown is tried again under the same key: arriving late, it brings back what has
    /// been logged out since.
    CreateAgain,
    /// A record remembers its last write alone, and a write that is not it counts as not applied.
    OneWriteId,
    /// A session that is to be ended is ended even when it has become another subject's.
    EndsForeign,
    /// A log-in makes room before its own record is there.
    RoomIsMadeFirst,
    /// Of two log-ins at once, each takes the other for the older.
    EachEndsTheOther,
    /// What the writer before left is taken for the newest state, though a call of one's own may be in it.
    LeftDespiteLoss,
}

/// What happens to a store call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    RequestLost,
    ReplyLost,
    /// Given up by the caller, carried out by the server later.
    Late,
}

const ALL_FATES: (&[Fate], &[Fate]) = (
    &[Fate::Works, Fate::RequestLost, Fate::ReplyLost, Fate::Late],
    &[Fate::Works, Fate::RequestLost],
);
const LOST_REPLIES: (&[Fate], &[Fate]) = (&[Fate::Works, Fate::ReplyLost], &[Fate::Works]);

/// A store call that is about to be made.
#[derive(Debug, Clone, Copy)]
struct Call {
    writes: bool,
    /// `None`: any.
    key: Option<SessionKey>,
}

impl Call {
    /// Whether the order of the two makes no difference to anybody.
    fn commutes_with(self, other: Self) -> bool {
        let apart = self.key.zip(other.key).is_some_and(|(key, other)| key != other);
        apart || !(self.writes || other.writes)
    }
}

type LateCall = (SessionKey, Pin<Box<dyn Future<Output = ()> + Send>>);

/// What the explorer and the store tell each other.
#[derive(Default)]
struct Stage {
    /// Whether calls stop; off while a run is set up and checked.
    stepping: AtomicBool,
    /// The call before which the running request stopped.
    at_call: Mutex<Option<Call>>,
    /// The fate of the next call to go on.
    fate: Mutex<Option<Fate>>,
    late: Mutex<Vec<LateCall>>,
    /// Every key that was created, in order: the keys themselves are random, and a run must be one that can be repeated.
    created: Mutex<Vec<SessionKey>>,
}

/// The memory store, one call at a time.
struct Stepped {
    store: Arc<MemoryStore>,
    stage: Arc<Stage>,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl Stepped {
    /// Stops before a call until the explorer lets it go on, and returns its fate.
    async fn stop(&self, call: Call) -> Fate {
        if !self.stage.stepping.load(Ordering::Relaxed) {
            return Fate::Works;
        }
        *self.stage.at_call.lock().unwrap() = Some(call);
        std::future::poll_fn(|_| match self.stage.fate.lock().unwrap().take() {
            Some(fate) => Poll::Ready(fate),
            None => Poll::Pending,
        })
        .await
    }

    async fn call<T, F>(
        &self,
        writes: bool,
        key: SessionKey,
        run: impl FnOnce(Arc<MemoryStore>) -> F,
    ) -> Result<T>
    where
        T: 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fate = self
            .stop(Call {
                writes,
                key: Some(key),
            })
            .await;
        let unavailable = || Error::new(ErrorKind::Unavailable, "memory").with_detail(format!("{fate:?}"));
        match fate {
            Fate::Works => run(self.store.clone()).await,
            Fate::RequestLost => Err(unavailable()),
            Fate::ReplyLost => {
                let _ = run(self.store.clone()).await;
                Err(unavailable())
            }
            Fate::Late => {
                let call = run(self.store.clone());
                self.stage
                    .late
                    .lock()
                    .unwrap()
                    .push((key, Box::pin(async move { drop(call.await) })));
                Err(unavailable())
            }
        }
    }
}

#[async_trait]
impl SessionStore for Stepped {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let (key, record) = (*key, record.clone());
        self.stage.created.lock().unwrap().push(key);
        self.call(true, key, move |store| async move {
            store.create(&key, &record, ttl).await
        })
        .await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let key = *key;
        self.call(false, key, move |store| async move { store.load(&key).await })
            .await
    }

    async fn update(
        &self,
        key: &SessionKey,
        old: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let (key, record) = (*key, record.clone());
        self.call(true, key, move |store| async move {
            store.update(&key, old, &record, ttl).await
        })
        .await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        let key = *key;
        self.call(
            true,
            key,
            move |store| async move { store.touch(&key, ttl).await },
        )
        .await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let key = *key;
        self.call(true, key, move |store| async move {
            store.delete(&key, expected).await
        })
        .await
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

/// The list is one call, as the store's is; it may fail like a read.
#[async_trait]
impl Subjects for Stepped {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let any = Call {
            writes: false,
            key: None,
        };
        match self.stop(any).await {
            Fate::Works => {
                let mut keys = self.store.list(subject).await?;
                let created = self.stage.created.lock().unwrap();
                keys.sort_by_key(|key| created.iter().position(|other| other == key));
                Ok(keys)
            }
            fate => Err(Error::new(ErrorKind::Unavailable, "memory").with_detail(format!("{fate:?}"))),
        }
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        self.store.delete_all(subject, except).await
    }
}

/// A clock that stands still unless told.
#[derive(Debug, Default)]
pub(super) struct StillClock(pub(super) AtomicU64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// A request that reads, and is due for a new id.
    Renew,
    /// A request that adds one, and is due for a new id.
    RenewAdd,
    /// A log-in again, or another change of privilege, that adds one: a new id without grace.
    Elevate,
    /// Adds one to a counter.
    Add,
    LogOut,
    /// Another browser of the same subject's logs in.
    LogIn,
    /// The session's own browser logs in again.
    LogInAgain,
    /// The session's own browser logs in as somebody else.
    BecomeAnother,
    /// Another session of the same subject's ends this one.
    EndOther,
}
use Request::{Add, BecomeAnother, Elevate, EndOther, LogIn, LogInAgain, LogOut, Renew, RenewAdd};

type Outcome = std::result::Result<ClientAction, SessionError>;
type Running = Pin<Box<dyn Future<Output = Outcome>>>;

async fn add(session: &Session) -> std::result::Result<(), SessionError> {
    session
        .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
        .await
        .map(drop)
}

impl Request {
    fn adds(self) -> bool {
        matches!(self, Add | RenewAdd | Elevate)
    }

    fn start(self, session: Session, at: usize, subject: Subject, first: SessionKey) -> Running {
        Box::pin(async move {
            match self {
                Renew => drop(session.subject().await?),
                Elevate => {
                    add(&session).await?;
                    session.renew().await?;
                }
                Add | RenewAdd => add(&session).await?,
                LogOut => session.log_out().await?,
                LogIn => {
                    session.log_in(subject).await?;
                    session.insert("who", &(at as u32 + 1)).await?;
                }
                LogInAgain => {
                    // Too late for the session, it is another.
                    let is_new = session.get::<bool>("mark").await?.is_none();
                    session.log_in(subject).await?;
                    if is_new {
                        session.insert("who", &(at as u32 + 1)).await?;
                    }
                }
                BecomeAnother => session.log_in(another(&subject)).await?,
                EndOther => drop(session.end_other(&first).await?),
            }
            Ok(session.commit().await?.client)
        })
    }
}

/// The choices of one run: what was taken, of how many.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (taken, options) = self.taken[self.at];
        assert_eq!(options, of, "the run is not deterministic");
        self.at += 1;
        taken
    }

    /// The next run in depth-first order; `false` after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((taken, options)) = self.taken.pop() {
            if taken + 1 < options {
                self.taken.push((taken + 1, options));
                return true;
            }
        }
        false
    }
}

/// One step of a run, for the story of one that fails.
#[derive(Debug)]
#[allow(dead_code, reason = "read through Debug")]
enum Step {
    Call {
        request: usize,
        what: Request,
        writes: bool,
        fate: Fate,
    },
    LateCallArrives,
    Ends {
        request: usize,
    },
}

/// Which orders are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orders {
    /// Every one.
    All,
    /// Of those that differ only in neighbours that commute (other keys, or two reads), the first: what all of them
    /// lead to is the same, and each is equal to one without such a pair in descending order.
    Distinct,
}

struct Explorer {
    requests: Vec<Request>,
    per_subject: Option<(usize, OnLimit)>,
    faults: usize,
    /// What may happen to a write, and to a read, while there are faults left.
    fates: (&'static [Fate], &'static [Fate]),
    orders: Orders,
    planted: Option<Fault>,
}

/// Runs the orders of `requests`' calls with at most `faults` of them failing, and returns how many runs that were.
fn explore(explorer: &Explorer) -> std::result::Result<usize, String> {
    let mut choices = Choices::default();
    let (mut runs, mut store) = (0_usize, Arc::new(MemoryStore::new()));
    loop {
        if runs.is_multiple_of(2_000) {
            store = Arc::new(MemoryStore::new());
        }
        runs += 1;
        let mut story = Vec::new();
        if let Err(broken) = explorer.run(&mut choices, &store, &mut story) {
            let requests = &explorer.requests;
            let steps: Vec<_> = story.iter().map(|step| format!("{step:?}\n")).collect();
            return Err(format!("{requests:?}, run {runs}: {broken}\n{}", steps.concat()));
        }
        if !choices.advance() {
            return Ok(runs);
        }
    }
}

impl Explorer {
    fn run(
        &self,
        choices: &mut Choices,
        store: &Arc<MemoryStore>,
        story: &mut Vec<Step>,
    ) -> std::result::Result<(), String> {
        let stage = Arc::new(Stage::default());
        let clock = Arc::new(StillClock::default());
        let sessions = |interval: Option<Duration>| {
            let stepped = Stepped {
                store: store.clone(),
                stage: stage.clone(),
            };
            let builder = Sessions::builder(Arc::new(stepped))
                .clock(clock.clone())
                .renew_every(interval);
            let builder = builder.planted(self.planted);
            match self.per_subject {
                Some((limit, on_limit)) => builder.max_per_subject(limit, on_limit),
                None => builder,
            }
            .build()
            .unwrap()
        };
        let (quiet, due) = (sessions(None), sessions(Some(Duration::from_secs(60))));
        let subject = Subject::new(&**SessionId::random().unwrap().expose()).unwrap();
        let first = set_up(&quiet, &subject);
        let second = self
            .requests
            .contains(&EndOther)
            .then(|| set_up(&quiet, &subject));
        clock.0.store(120_000, Ordering::Relaxed);
        stage.stepping.store(true, Ordering::Relaxed);

        let open = |request: &Request| match request {
            Renew | RenewAdd => due.open(Some(first.clone())),
            LogIn => quiet.open(None),
            EndOther => quiet.open(second.clone()),
            _ => quiet.open(Some(first.clone())),
        };
        let mut running: Vec<Option<Running>> = self
            .requests
            .iter()
            .enumerate()
            .map(|(at, request)| {
                let key = first.key(quiet.namespace());
                Some(request.start(open(request), at, subject.clone(), key))
            })
            .collect();
        let mut outcomes: Vec<Option<Outcome>> = self.requests.iter().map(|_| None).collect();
        let mut stopped_at: Vec<Option<Call>> = vec![None; running.len()];
        let mut faults = self.faults;
        // To its first call, which changes nothing yet.
        for at in 0..running.len() {
            self.tick(&clock);
            Self::resume(at, None, &mut running, &mut outcomes, &mut stopped_at, &stage);
        }
        // Who has come to a call because of the step before.
        let mut woken: Vec<usize> = Vec::new();
        // The step before: whose, and what it did to the store.
        let mut last: Option<(usize, Call)> = None;
        let is_repeated = |last: Option<(usize, Call)>, at: usize, call: Call| {
            self.orders == Orders::Distinct
                && last.is_some_and(|(other, before)| at < other && call.commutes_with(before))
        };
        loop {
            let pending = |at: &usize| {
                stopped_at[*at].filter(|call| woken.contains(at) || !is_repeated(last, *at, *call))
            };
            let alive: Vec<usize> = (0..running.len()).filter(|at| running[*at].is_some()).collect();
            let ready: Vec<(usize, Call)> = alive
                .iter()
                .filter_map(|at| pending(at).map(|call| (*at, call)))
                .collect();
            let late = stage.late.lock().unwrap().len();
            if ready.is_empty() && late == 0 {
                if alive.is_empty() {
                    break;
                }
                if alive.iter().all(|at| stopped_at[*at].is_none()) {
                    return Err(format!("{alive:?} wait for each other"));
                }
                // What would follow has been run in another order.
                return Ok(());
            }
            // A late call may arrive before any other.
            let chosen = choices.choose(ready.len() + late);
            if chosen >= ready.len() {
                let (key, call) = stage.late.lock().unwrap().remove(chosen - ready.len());
                story.push(Step::LateCallArrives);
                now(call);
                last = Some((
                    running.len(),
                    Call {
                        writes: true,
                        key: Some(key),
                    },
                ));
                continue;
            }
            let (at, call) = ready[chosen];
            let fates = if call.writes { self.fates.0 } else { self.fates.1 };
            let fate = if faults == 0 {
                Fate::Works
            } else {
                fates[choices.choose(fates.len())]
            };
            faults -= usize::from(fate != Fate::Works);
            story.push(Step::Call {
                request: at,
                what: self.requests[at],
                writes: call.writes,
                fate,
            });
            self.tick(&clock);
            Self::resume(
                at,
                Some(fate),
                &mut running,
                &mut outcomes,
                &mut stopped_at,
                &stage,
            );
            // Whether others wait for a request makes a difference to who comes next, whatever its last call was.
            last = running[at].is_some().then_some((at, call));
            woken.clear();
            if running[at].is_none() {
                story.push(Step::Ends { request: at });
                for waiting in 0..running.len() {
                    if running[waiting].is_some() && stopped_at[waiting].is_none() {
                        Self::resume(
                            waiting,
                            None,
                            &mut running,
                            &mut outcomes,
                            &mut stopped_at,
                            &stage,
                        );
                        woken.extend(stopped_at[waiting].map(|_| waiting));
                    }
                }
            }
        }
        stage.stepping.store(false, Ordering::Relaxed);
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
        let is = |request| self.requests.contains(&request);
        let right = if is(LogIn) || is(LogInAgain) {
            self.check_limit(&outcomes, &first, &subject, &quiet, store)
        } else if is(EndOther) {
            self.check_end_of_other(&outcomes, &first, &subject, &quiet)
        } else {
            self.check(&outcomes, &first, &subject, &quiet, store)
        };
        right.map_err(|broken| format!("{broken}; {outcomes:?}"))
    }

    /// No two log-ins are of the same millisecond, or their random keys would say which one is the newer.
    fn tick(&self, clock: &StillClock) {
        if self.per_subject.is_some() {
            clock.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets one request go on to its next call, or its end.
    fn resume(
        at: usize,
        fate: Option<Fate>,
        running: &mut [Option<Running>],
        outcomes: &mut [Option<Outcome>],
        stopped_at: &mut [Option<Call>],
        stage: &Stage,
    ) {
        *stage.fate.lock().unwrap() = fate;
        let Some(future) = &mut running[at] else { return };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => {
                outcomes[at] = Some(outcome);
                running[at] = None;
            }
            // At a call; or waiting until another request has ended.
            Poll::Pending => stopped_at[at] = stage.at_call.lock().unwrap().take(),
        }
    }

    /// However the log-ins meet, no more sessions than the limit can be reached, and one can.
    fn check_limit(
        &self,
        outcomes: &[Outcome],
        first: &SessionId,
        subject: &Subject,
        sessions: &Sessions,
        store: &MemoryStore,
    ) -> std::result::Result<(), String> {
        let Some((limit, on_limit)) = self.per_subject else {
            return Err("no limit".to_owned());
        };
        let (mut released, mut admitted) = (vec![first.clone()], 0);
        for (request, outcome) in self.requests.iter().zip(outcomes) {
            match outcome {
                Ok(client) => {
                    admitted += usize::from(*request == LogIn);
                    if let ClientAction::Store { id, .. } = client {
                        released.push(id.clone());
                    }
                }
                Err(SessionError::TooManySessions { .. }) if on_limit == OnLimit::Refuse => {}
                // Ended by another log-in, or the old id was replaced by one.
                Err(SessionError::Gone)
                    if on_limit == OnLimit::EndOldest || self.requests.contains(&LogInAgain) => {}
                Err(SessionError::Store(error)) if error.is_retryable() && self.faults > 0 => {}
                Err(error) => return Err(format!("{request:?} ended in {error:?}")),
            }
        }
        let mut reached: Vec<u32> = released
            .iter()
            .filter_map(|id| {
                let session = sessions.open(Some(id.clone()));
                now(async {
                    (
                        session.subject().await.unwrap()?,
                        session.get::<u32>("who").await.unwrap(),
                    )
                        .1
                        .or(Some(0))
                })
            })
            .collect();
        reached.sort_unstable();
        reached.dedup();
        if reached.len() > limit {
            return Err(format!("{reached:?} can be reached, of {limit} at most"));
        }
        if self.faults > 0 {
            return Ok(());
        }
        let listed = now(store.list(subject)).unwrap().len();
        if listed != reached.len() {
            return Err(format!("{listed} records, and {reached:?} can be reached"));
        }
        // A log-in in a session that another one has ended meanwhile fails, and may have made room for itself before.
        let failed_late = self.requests.contains(&LogInAgain) && on_limit == OnLimit::EndOldest;
        if reached.is_empty() && !failed_late {
            return Err("nobody is logged in any more".to_owned());
        }
        // Whoever was there before stays, and nobody else comes in beyond the limit.
        if on_limit == OnLimit::Refuse && (!reached.contains(&0) || admitted > limit - 1) {
            return Err(format!("{admitted} admitted, {reached:?} can be reached"));
        }
        Ok(())
    }

    /// Nobody ends a session that has become another subject's.
    fn check_end_of_other(
        &self,
        outcomes: &[Outcome],
        first: &SessionId,
        subject: &Subject,
        sessions: &Sessions,
    ) -> std::result::Result<(), String> {
        let who = |id: &SessionId| now(sessions.open(Some(id.clone())).subject()).unwrap();
        let mut became_another = false;
        for (request, outcome) in self.requests.iter().zip(outcomes) {
            match outcome {
                Ok(ClientAction::Store { id, .. }) if *request == BecomeAnother => {
                    became_another = true;
                    if who(id) != Some(another(subject)) {
                        return Err("the session of another subject was ended".to_owned());
                    }
                }
                Ok(_) => {}
                Err(SessionError::Gone) if *request == BecomeAnother => {}
                Err(SessionError::Store(error)) if error.is_retryable() && self.faults > 0 => return Ok(()),
                Err(error) => return Err(format!("{request:?} ended in {error:?}")),
            }
        }
        match who(first) {
            Some(_) => Err(format!(
                "ended, and yet reached; became another's: {became_another}"
            )),
            None => Ok(()),
        }
    }

    /// What the requests were told must be so.
    fn check(
        &self,
        outcomes: &[Outcome],
        first: &SessionId,
        subject: &Subject,
        sessions: &Sessions,
        store: &MemoryStore,
    ) -> std::result::Result<(), String> {
        let mut released = vec![first.clone()];
        let (mut added, mut perhaps, mut logged_out, mut may_be_lost) = (0, 0, false, false);
        let exclusive = self.requests.contains(&Elevate);
        let may_be_gone = exclusive || self.requests.contains(&LogOut);
        for (request, outcome) in self.requests.iter().zip(outcomes) {
            match outcome {
                Ok(client) => {
                    if let ClientAction::Store { id, .. } = client {
                        released.push(id.clone());
                    }
                    added += u32::from(request.adds());
                    logged_out |= *request == LogOut;
                }
                Err(SessionError::Gone) if may_be_gone && *request != LogOut => {}
                Err(SessionError::Store(error)) if error.is_retryable() && self.faults > 0 => {
                    perhaps += u32::from(request.adds());
                    // A log-in whose outcome nobody could find out is done again: its new id was never handed out.
                    may_be_lost |= matches!(request, LogOut | Elevate);
                }
                Err(error) => return Err(format!("{request:?} ended in {error:?}")),
            }
        }
        let seen: Vec<Option<u32>> = released.iter().map(|id| count(sessions, id)).collect();
        let reached: Vec<u32> = seen.iter().copied().flatten().collect();
        if logged_out {
            if !reached.is_empty() {
                return Err(format!("logged out, and yet reached: {seen:?}"));
            }
        } else if !may_be_lost {
            if reached.is_empty() {
                return Err("the session is lost: no id reaches it".to_owned());
            }
            // With grace, nobody who was on the way is turned away.
            if !exclusive && reached.len() != released.len() {
                return Err(format!(
                    "an id within its grace does not reach the session: {seen:?}"
                ));
            }
        }
        for count in reached {
            if count < added || count > added + perhaps {
                return Err(format!(
                    "{added} additions acknowledged, {perhaps} unknown, {count} counted"
                ));
            }
        }
        let live = now(store.list(subject)).unwrap();
        let expected = usize::from(!logged_out);
        if self.faults == 0 && live.len() != expected {
            return Err(format!("{} live sessions where there is {expected}", live.len()));
        }
        Ok(())
    }
}

/// Somebody else.
fn another(subject: &Subject) -> Subject {
    Subject::new(format!("not {}", subject.as_str())).unwrap()
}

/// A session of `subject`'s, and its id.
fn set_up(sessions: &Sessions, subject: &Subject) -> SessionId {
    let session = sessions.open(None);
    now(async {
        session
            .log_in_for(subject.clone(), Lengths::default())
            .await
            .unwrap();
        session.insert("mark", &true).await.unwrap();
        match session.commit().await.unwrap().client {
            ClientAction::Store { id, .. } => id,
            other => panic!("{other:?}"),
        }
    })
}

/// The counter of the session that `id` reaches; `None` if it reaches none.
fn count(sessions: &Sessions, id: &SessionId) -> Option<u32> {
    let session = sessions.open(Some(id.clone()));
    now(async {
        session.get::<bool>("mark").await.unwrap()?;
        assert!(session.subject().await.unwrap().is_some());
        Some(session.get::<u32>("count").await.unwrap().unwrap_or(0))
    })
}

/// The output of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

fn holds(requests: &[Request], faults: usize, orders: Orders) -> usize {
    holds_under(requests, faults, ALL_FATES, orders)
}

fn holds_under(
    requests: &[Request],
    faults: usize,
    fates: (&'static [Fate], &'static [Fate]),
    orders: Orders,
) -> usize {
    holds_for(&Explorer {
        requests: requests.to_vec(),
        per_subject: None,
        faults,
        fates,
        orders,
        planted: None,
    })
}

/// No more than `limit` sessions, whatever the order.
fn limit_holds(limit: usize, requests: &[Request], faults: usize, orders: Orders) {
    for on_limit in [OnLimit::EndOldest, OnLimit::Refuse] {
        println!("{limit} at most, {on_limit:?}:");
        holds_for(&Explorer {
            requests: requests.to_vec(),
            per_subject: Some((limit, on_limit)),
            faults,
            fates: ALL_FATES,
            orders,
            planted: None,
        });
    }
}

fn holds_for(explorer: &Explorer) -> usize {
    let Explorer {
        requests,
        faults,
        orders,
        ..
    } = explorer;
    match explore(explorer) {
        Ok(runs) => {
            println!("{requests:?} with {faults} fault(s), {orders:?} orders: {runs} runs");
            runs
        }
        Err(broken) => panic!("{broken}"),
    }
}

fn is_found(fault: Fault, requests: &[Request], faults: usize) {
    is_found_at(None, fault, requests, faults);
}

fn is_found_at(per_subject: Option<(usize, OnLimit)>, fault: Fault, requests: &[Request], faults: usize) {
    for orders in [Orders::All, Orders::Distinct] {
        let explorer = Explorer {
            requests: requests.to_vec(),
            per_subject,
            faults,
            fates: ALL_FATES,
            orders,
            planted: Some(fault),
        };
        let found = explore(&explorer);
        assert!(
            found.is_err(),
            "{fault:?} was not found in {} runs",
            found.unwrap()
        );
    }
}

#[test]
fn renewal_update_and_log_out_in_all_orders() {
    // 3, 2 and 2 calls without any conflict: 7! / (3! 2! 2!) orders, and more with.
    assert!(holds(&[Renew, Add, LogOut], 0, Orders::All) >= 210);
    // 3, 3 and 2: 8! / (3! 3! 2!).
    assert!(holds(&[Renew, Renew, LogOut], 0, Orders::All) >= 560);
    assert!(holds(&[Elevate, Elevate, Add], 0, Orders::All) >= 560);
    assert!(holds(&[Elevate, Renew, LogOut], 0, Orders::All) >= 560);
}

/// Of three, the last goes by what the second has left.
#[test]
fn updates_that_wait_for_their_turn() {
    // 2, 2 and 2 calls without any conflict: 6! / (2! 2! 2!).
    assert!(holds(&[Add, Add, Add], 0, Orders::All) >= 90);
    holds(&[Add, Add, Add], 1, Orders::Distinct);
    holds(&[Add, Add, Add, LogOut], 0, Orders::Distinct);
    holds(&[Add, Add, Add, Elevate], 0, Orders::Distinct);
    holds(&[Add, Add, Renew, Renew], 0, Orders::Distinct);
}

#[test]
fn renewal_renewal_update_and_log_out_together() {
    holds(&[Renew, Renew, Add, LogOut], 0, Orders::Distinct);
    holds(&[RenewAdd, RenewAdd, Add, LogOut], 0, Orders::Distinct);
    holds(&[Elevate, Renew, Add, LogOut], 0, Orders::Distinct);
}

#[test]
fn renewal_renewal_update_and_log_out_with_a_lost_reply() {
    holds_under(&[Renew, Renew, Add, LogOut], 1, LOST_REPLIES, Orders::Distinct);
}

#[test]
fn one_request_with_three_faults() {
    for request in [Renew, RenewAdd, Elevate, Add, LogOut] {
        holds(&[request], 3, Orders::All);
    }
}

#[test]
fn two_requests_with_two_faults() {
    for pair in [
        [RenewAdd, Add],
        [RenewAdd, LogOut],
        [Add, Add],
        [Add, LogOut],
        [RenewAdd, RenewAdd],
    ] {
        holds(&pair, 2, Orders::Distinct);
    }
}

#[test]
fn a_privilege_change_with_a_fault() {
    for pair in [
        [Elevate, Add],
        [Elevate, LogOut],
        [Elevate, RenewAdd],
        [Elevate, Elevate],
    ] {
        holds(&pair, 1, Orders::Distinct);
    }
}

#[test]
fn three_requests_with_a_fault() {
    for three in [
        [RenewAdd, Add, LogOut],
        [RenewAdd, Renew, Add],
        [RenewAdd, RenewAdd, LogOut],
        [Add, Add, LogOut],
    ] {
        holds(&three, 1, Orders::Distinct);
    }
}

#[test]
fn unconditional_deletion_at_log_out_is_found() {
    is_found(Fault::UnconditionalDelete, &[Renew, LogOut], 0);
}

#[test]
fn undo_on_a_lost_reply_is_found() {
    is_found(Fault::UndoOnLostReply, &[Renew], 1);
}

#[test]
fn one_write_id_is_found() {
    is_found(Fault::OneWriteId, &[Add, Add], 1);
}

#[test]
fn going_by_what_was_left_despite_a_lost_reply_is_found() {
    is_found(Fault::LeftDespiteLoss, &[Add, Add], 1);
}

#[test]
fn creating_again_under_the_same_key_is_found() {
    is_found(Fault::CreateAgain, &[Renew, LogOut], 1);
}

#[test]
fn log_ins_at_once_never_exceed_the_limit() {
    for requests in [
        [LogIn, LogIn],
        [LogIn, LogInAgain],
        [LogInAgain, LogInAgain],
        [LogIn, Renew],
    ] {
        limit_holds(1, &requests, 0, Orders::All);
        limit_holds(2, &requests, 0, Orders::Distinct);
    }
    limit_holds(2, &[LogIn, LogIn, LogIn], 0, Orders::Distinct);
}

#[test]
fn log_ins_at_once_with_a_fault_never_exceed_the_limit() {
    limit_holds(1, &[LogIn], 2, Orders::All);
    for requests in [[LogIn, LogIn], [LogIn, LogInAgain], [LogIn, Renew]] {
        limit_holds(1, &requests, 1, Orders::Distinct);
    }
}

#[test]
fn session_that_becomes_another_subjects_is_not_ended() {
    holds(&[BecomeAnother, EndOther], 0, Orders::All);
    holds(&[BecomeAnother, EndOther], 1, Orders::Distinct);
}

#[test]
fn room_that_is_made_before_the_write_is_found() {
    for on_limit in [OnLimit::EndOldest, OnLimit::Refuse] {
        let limit = Some((2, on_limit));
        is_found_at(limit, Fault::RoomIsMadeFirst, &[LogIn, LogIn], 0);
    }
}

#[test]
fn log_ins_that_end_each_other_are_found() {
    let limit = Some((1, OnLimit::EndOldest));
    is_found_at(limit, Fault::EachEndsTheOther, &[LogIn, LogIn], 0);
}

#[test]
fn end_of_another_subjects_session_is_found() {
    is_found(Fault::EndsForeign, &[BecomeAnother, EndOther], 0);
}
