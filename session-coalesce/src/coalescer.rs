//! Concurrent calls share a round trip.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    Carrier, Failure,
    alone::{Alone, Caller},
    queue::{Entry, Queue, Turn},
    unwind::caught,
};

/// How much goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Batches under way at once. Default: 4.
    pub lanes: usize,
    /// Calls in a batch. Default: 256.
    pub batch: usize,
    /// What the calls of a batch weigh together, by [`Carrier::weight`]; a call that is heavier travels alone. Default:
    /// 4 MiB.
    pub weight: usize,
    /// Calls that may wait; the next one is [`Failure::Full`]. Default: 65,536.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lanes: 4,
            batch: 256,
            weight: 4 * 1024 * 1024,
            waiting: 65_536,
        }
    }
}

impl Limits {
    /// Other `lanes`, at least one.
    #[must_use]
    pub fn with_lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// Other `batch`, at least one.
    #[must_use]
    pub fn with_batch(mut self, calls: usize) -> Self {
        self.batch = calls.max(1);
        self
    }

    /// Other `weight`.
    #[must_use]
    pub fn with_weight(mut self, weight: usize) -> Self {
        self.weight = weight;
        self
    }

    /// Other `waiting`, at least one.
    #[must_use]
    pub fn with_waiting(mut self, calls: usize) -> Self {
        self.waiting = calls.max(1);
        self
    }
}

/// Concurrent calls share a round trip: see the [crate's front page](crate).
pub struct Coalescer<C: Carrier> {
    shared: Arc<Shared<C>>,
}

struct Shared<C: Carrier> {
    carrier: C,
    limits: Limits,
    state: Mutex<State<C>>,
    /// The last batch of a closed coalescer has ended.
    ended: Notify,
}

struct State<C: Carrier> {
    queue: Queue<C::Key, Waiting<C>>,
    /// Batches under way.
    lanes: usize,
    /// Whether a task waits for a lane. There is one at most: what arrives meanwhile goes with it.
    collecting: bool,
    closed: bool,
    /// The last caller that was alone, and may still be.
    alone: Option<Alone>,
}

/// A call, and where its answer goes.
struct Waiting<C: Carrier> {
    call: C::Call,
    answer: Answering<C>,
}

/// Where an answer goes.
type Answering<C> = oneshot::Sender<Result<<C as Carrier>::Answer, Failure<<C as Carrier>::Error>>>;

impl<C: Carrier> Coalescer<C> {
    /// A coalescer that sends its calls by `carrier`.
    #[must_use]
    pub fn new(carrier: C, limits: Limits) -> Self {
        let state = State {
            queue: Queue::new(),
            lanes: 0,
            collecting: false,
            closed: false,
            alone: None,
        };
        Self {
            shared: Arc::new(Shared {
                carrier,
                limits,
                state: Mutex::new(state),
                ended: Notify::new(),
            }),
        }
    }

    /// What sends the calls.
    #[must_use]
    pub fn carrier(&self) -> &C {
        &self.shared.carrier
    }

    /// Sends a call, with others where lanes are busy, and waits for its answer until the deadline.
    ///
    /// A future that is dropped takes its call back if it was not sent yet.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether the call may have reached the server.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer.
    pub async fn call(&self, call: C::Call, deadline: Instant) -> Result<C::Answer, Failure<C::Error>> {
        let (answer, answered) = oneshot::channel();
        let place = match self.enter(Waiting { call, answer }, deadline)? {
            Entered::Alone(work, sent) => return Self::alone(work, &sent, answered, deadline).await,
            Entered::Queue(place) => place,
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Lost),
            Err(_) => Err(match place.withdraw() {
                true => Failure::NotSent,
                false => Failure::NotAnswered,
            }),
        }
    }

    fn enter(&self, waiting: Waiting<C>, deadline: Instant) -> Result<Entered<'_, C>, Failure<C::Error>> {
        let (key, weight) = (C::key(&waiting.call), C::weight(&waiting.call));
        let mut state = self.shared.state();
        if state.closed {
            return Err(Failure::Closed);
        }
        if state.queue.len() >= self.shared.limits.waiting {
            return Err(Failure::Full);
        }
        if state.is_idle() {
            state.lanes += 1;
            if let Some(key) = &key {
                state.queue.hold(key);
            }
            let batch = Batch {
                shared: Arc::clone(&self.shared),
                calls: vec![waiting.call],
                keys: key.into_iter().collect(),
                answers: vec![waiting.answer],
                deadline,
            };
            let sent = Arc::new(AtomicBool::new(false));
            let work = Alone::new(batch.carry_alone(Arc::clone(&sent)));
            state.alone = Some(work.clone());
            return Ok(Entered::Alone(work, sent));
        }
        let alone = state.alone.take();
        let turn = state.queue.push(Entry {
            key: key.clone(),
            weight,
            deadline,
            value: waiting,
        });
        self.shared.collect(&mut state);
        drop(state);
        if let Some(alone) = alone {
            alone.hand_over();
        }
        Ok(Entered::Queue(Place {
            shared: &self.shared,
            turn,
            key,
        }))
    }

    /// Nobody else is there: no task is needed, and others find their own lanes meanwhile.
    async fn alone(
        work: Alone,
        sent: &AtomicBool,
        mut answered: oneshot::Receiver<Result<C::Answer, Failure<C::Error>>>,
        deadline: Instant,
    ) -> Result<C::Answer, Failure<C::Error>> {
        let caller = Caller(work);
        let answer = poll_fn(|context| {
            caller.0.poll(context);
            Pin::new(&mut answered).poll(context)
        });
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Lost),
            Err(_) if sent.load(Ordering::Relaxed) => Err(Failure::NotAnswered),
            Err(_) => Err(Failure::NotSent),
        }
    }

    /// Takes no further calls, and returns when the last of those that came before has ended.
    pub async fn close(&self) {
        let mut ended = std::pin::pin!(self.shared.ended.notified());
        loop {
            // Before the look, or the end that comes after it is missed.
            ended.as_mut().enable();
            {
                let mut state = self.shared.state();
                state.closed = true;
                if state.is_idle() {
                    return;
                }
            }
            ended.as_mut().await;
            ended.set(self.shared.ended.notified());
        }
    }
}

impl<C: Carrier> fmt::Debug for Coalescer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Coalescer")
            .field("limits", &self.shared.limits)
            .field("waiting", &state.queue.len())
            .field("lanes", &state.lanes)
            .field("closed", &state.closed)
            .finish()
    }
}

/// How a call begins.
enum Entered<'a, C: Carrier> {
    /// Nothing waits, and nothing is under way: what is to be done, and whether it was sent.
    Alone(Alone, Arc<AtomicBool>),
    Queue(Place<'a, C>),
}

/// A caller's place in the queue, which it leaves when it goes.
struct Place<'a, C: Carrier> {
    shared: &'a Arc<Shared<C>>,
    turn: Turn,
    key: Option<C::Key>,
}

impl<C: Carrier> Place<'_, C> {
    /// Whether the call was not sent yet. It will not be.
    fn withdraw(&self) -> bool {
        let mut state = self.shared.state();
        let entry = state.queue.withdraw(self.turn, self.key.as_ref());
        // The next call of its key may have become ready, while no task was waiting for a lane.
        self.shared.collect(&mut state);
        drop(state);
        entry.is_some()
    }
}

impl<C: Carrier> Drop for Place<'_, C> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<C: Carrier> State<C> {
    fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.lanes == 0 && !self.collecting
    }
}

impl<C: Carrier> Shared<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing panics under the lock but what drops a caller's value; the state is whole then too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody waits for a lane, if a call is ready and a lane may be had.
    fn collect(self: &Arc<Self>, state: &mut State<C>) {
        if state.collecting || state.lanes >= self.limits.lanes || state.queue.ready() == 0 {
            if state.closed && state.is_idle() {
                self.ended.notify_waiters();
            }
            return;
        }
        // Without a runtime there is nobody to send it: those who wait end by their deadlines.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        state.collecting = true;
        let collecting = Collecting {
            shared: Arc::clone(self),
        };
        runtime.spawn(collecting.run());
    }
}

/// The one task that waits for a lane.
struct Collecting<C: Carrier> {
    shared: Arc<Shared<C>>,
}

impl<C: Carrier> Collecting<C> {
    async fn run(self) {
        let Some(lane) = self.lane().await else {
            return;
        };
        // Callers that were answered a moment ago are about to call again: those who are ready to run come first.
        tokio::task::yield_now().await;
        let batch = self.take();
        if !batch.is_empty() {
            batch.carry(lane).await;
        }
    }

    /// `None`: there was no lane, and nobody is waiting any more.
    async fn lane(&self) -> Option<C::Lane> {
        loop {
            let begun = self.shared.state().queue.next_turn();
            let failure = match caught(self.shared.carrier.lane()).await {
                Some(Ok(lane)) => return Some(lane),
                Some(Err(error)) => Failure::NoLane(error),
                None => Failure::Lost,
            };
            // Who came later has not been tried for.
            let failed = self.shared.state().queue.take_before(begun);
            for entry in failed {
                // Whoever is gone needs no answer.
                let _ = entry.value.answer.send(Err(failure.clone()));
            }
            if self.shared.state().queue.ready() == 0 {
                return None;
            }
        }
    }

    /// What goes with the lane. From here on another task may wait for the next one.
    fn take(self) -> Batch<C> {
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        let mut batch = Batch {
            shared: Arc::clone(&shared),
            calls: Vec::new(),
            keys: Vec::new(),
            answers: Vec::new(),
            deadline: now,
        };
        let mut late = Vec::new();
        {
            let mut state = shared.state();
            state.lanes += 1;
            let limits = shared.limits;
            for entry in state.queue.take(limits.batch, limits.weight) {
                if entry.deadline <= now {
                    if let Some(key) = &entry.key {
                        state.queue.free(key);
                    }
                    late.push(entry.value);
                    continue;
                }
                batch.deadline = batch.deadline.max(entry.deadline);
                batch.keys.extend(entry.key);
                batch.calls.push(entry.value.call);
                batch.answers.push(entry.value.answer);
            }
        }
        for waiting in late {
            let _ = waiting.answer.send(Err(Failure::NotSent));
        }
        // Lets the next task begin.
        drop(self);
        batch
    }
}

impl<C: Carrier> Drop for Collecting<C> {
    /// However it ends, with its runtime too: whoever waits is not forgotten.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.collecting = false;
        self.shared.collect(&mut state);
    }
}

/// Calls that travel together.
struct Batch<C: Carrier> {
    shared: Arc<Shared<C>>,
    calls: Vec<C::Call>,
    keys: Vec<C::Key>,
    answers: Vec<Answering<C>>,
    /// The latest among the calls': nobody waits longer.
    deadline: Instant,
}

impl<C: Carrier> Batch<C> {
    fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Waits for a lane, and carries what is still asked for then.
    async fn carry_alone(mut self, sent: Arc<AtomicBool>) {
        let failure = match caught(self.shared.carrier.lane()).await {
            Some(Ok(lane)) => {
                if !self.answers.iter().all(oneshot::Sender::is_closed) {
                    sent.store(true, Ordering::Relaxed);
                    self.carry(lane).await;
                }
                return;
            }
            Some(Err(error)) => Failure::NoLane(error),
            None => Failure::Lost,
        };
        let senders = mem::take(&mut self.answers);
        drop(self);
        for sender in senders {
            let _ = sender.send(Err(failure.clone()));
        }
    }

    async fn carry(mut self, lane: C::Lane) {
        let calls = mem::take(&mut self.calls);
        let carried = timeout_at(self.deadline, caught(self.shared.carrier.carry(lane, calls))).await;
        // The lane and the keys first: a caller that is answered may call again at once.
        let senders = mem::take(&mut self.answers);
        drop(self);
        match carried {
            Ok(Some(answers)) if answers.len() == senders.len() => {
                for (sender, answer) in senders.into_iter().zip(answers) {
                    // Whoever is gone needs no answer.
                    let _ = sender.send(Ok(answer));
                }
            }
            // A panic, or nobody knows whose answer is which: all senders are dropped, which is `Lost`.
            Ok(_) => {}
            Err(_) => {
                for sender in senders {
                    let _ = sender.send(Err(Failure::NotAnswered));
                }
            }
        }
    }
}

impl<C: Carrier> Drop for Batch<C> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.lanes -= 1;
        for key in &self.keys {
            state.queue.free(key);
        }
        self.shared.collect(&mut state);
    }
}
