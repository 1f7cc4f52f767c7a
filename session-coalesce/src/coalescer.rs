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
    runtime::{self, Handle},
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
    /// Calls in a batch at most. Default: 256.
    pub batch: usize,
    /// So many calls go together if they wait; of more, each lane takes its share, so that lanes work side by side. As
    /// many as a `batch`: as few requests as possible. Default: 16.
    pub share: usize,
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
            share: 16,
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

    /// Other `share`, at least one.
    #[must_use]
    pub fn with_share(mut self, calls: usize) -> Self {
        self.share = calls.max(1);
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
    /// Calls in them.
    under_way: usize,
    /// Callers that were answered since the last batch was taken, and have not called again: many will.
    coming: usize,
    /// The task that waits for a lane: what arrives meanwhile goes with it.
    collecting: Option<Collector>,
    /// Of such tasks so far.
    collectors: u64,
    /// The runtime of callers who were answered a moment ago, where a task expects them to call again: no other one begins
    /// there meanwhile. Elsewhere it does, for nobody may be driving that runtime.
    expecting: Option<runtime::Id>,
    closed: bool,
    /// The last caller that was alone, and may still be.
    alone: Option<Alone>,
}

/// Which task waits for a lane, and where it runs.
#[derive(Clone, Copy)]
struct Collector {
    number: u64,
    runtime: runtime::Id,
}

/// A call, and where its answer goes.
struct Waiting<C: Carrier> {
    call: C::Call,
    answer: Answering<C>,
    /// The caller's.
    runtime: Option<Handle>,
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
            under_way: 0,
            coming: 0,
            collecting: None,
            collectors: 0,
            expecting: None,
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
        let waiting = Waiting {
            call,
            answer,
            runtime: Handle::try_current().ok(),
        };
        let place = match self.enter(waiting, deadline)? {
            Entered::Alone(work, decided) => return Self::alone(work, &decided, answered, deadline).await,
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
        state.coming = state.coming.saturating_sub(1);
        if state.is_idle() && !state.expects_on(waiting.runtime.as_ref()) {
            state.lanes += 1;
            state.under_way += 1;
            if let Some(key) = &key {
                state.queue.hold(key);
            }
            let batch = Batch {
                shared: Arc::clone(&self.shared),
                calls: vec![waiting.call],
                keys: key.into_iter().collect(),
                answers: vec![waiting.answer],
                deadline,
                under_way: Some(1),
            };
            let decided = Arc::new(AtomicBool::new(false));
            let work = Alone::new(batch.carry_alone(Arc::clone(&decided)));
            state.alone = Some(work.clone());
            return Ok(Entered::Alone(work, decided));
        }
        let alone = state.alone.take();
        let turn = state.queue.push(Entry {
            key: key.clone(),
            weight,
            deadline,
            value: waiting,
        });
        let collecting = self.shared.collect(&mut state, Vec::new());
        drop(state);
        Collecting::begin(collecting);
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
        decided: &AtomicBool,
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
            Err(_) => Err(match decided.swap(true, Ordering::SeqCst) {
                false => Failure::NotSent,
                true => Failure::NotAnswered,
            }),
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
    /// Nothing waits, and nothing is under way: what is to be done, and whether it is decided that it is sent, or that it will not
    /// be. Whoever sets that decides.
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
        let collecting = self.shared.collect(&mut state, Vec::new());
        drop(state);
        Collecting::begin(collecting);
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
        self.queue.len() == 0 && self.lanes == 0 && self.collecting.is_none()
    }

    /// Whether a task waits for a lane where somebody waits for a call. If all of them have gone, nobody may be driving that
    /// runtime.
    fn is_collecting(&self) -> bool {
        let runs_on = |runtime: &Handle| self.collecting.is_some_and(|task| task.runtime == runtime.id());
        let mut callers = self.queue.iter().filter_map(|waiting| waiting.runtime.as_ref());
        self.collecting.is_some() && callers.any(runs_on)
    }

    /// Whether a task on this runtime will see to the calls that wait.
    fn expects_on(&self, runtime: Option<&Handle>) -> bool {
        self.expecting.is_some() && self.expecting == runtime.map(Handle::id)
    }

    /// Calls that go together now: a lane's share of all that are there, or about to come.
    fn most(&self, limits: Limits) -> usize {
        let all = self.queue.ready() + self.under_way + self.coming;
        all.div_ceil(limits.lanes).max(limits.share).min(limits.batch)
    }

    /// Whether so many are ready.
    fn is_enough(&self, limits: Limits) -> bool {
        self.queue.ready() >= self.most(limits)
    }
}

impl<C: Carrier> Shared<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing panics under the lock but what drops a caller's value; the state is whole then too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Callers that were answered a moment ago are about to call again: those who are ready to run come first, unless a
    /// batch is whole without them.
    async fn others(&self) {
        if !self.state().is_enough(self.limits) {
            tokio::task::yield_now().await;
        }
    }

    /// Sees to it that somebody waits for a lane, if a call is ready and a lane may be had: on the runtime of a caller, which
    /// somebody drives as long as he waits, or else on this one, which may stop at any moment; but on none that has `ended`.
    ///
    /// What is returned is [begun](Collecting::begin) when the lock is free: a runtime that ends drops what it is given at
    /// once, and the drop takes the lock.
    #[must_use]
    fn collect(self: &Arc<Self>, state: &mut State<C>, ended: Vec<runtime::Id>) -> Option<Collecting<C>> {
        if state.lanes >= self.limits.lanes || state.queue.ready() == 0 || state.is_collecting() {
            if state.closed && state.is_idle() {
                self.ended.notify_waiters();
            }
            return None;
        }
        let goes_on = |runtime: &&Handle| !ended.contains(&runtime.id());
        let mut callers = state.queue.iter().filter_map(|waiting| waiting.runtime.as_ref());
        let callers = callers.find(goes_on).cloned();
        let current = || Handle::try_current().ok().filter(|runtime| goes_on(&runtime));
        // Without a runtime there is nobody to send it: those who wait end by their deadlines.
        let runtime = callers.or_else(current)?;
        if state.expects_on(Some(&runtime)) {
            return None;
        }
        state.collectors += 1;
        let number = state.collectors;
        state.collecting = Some(Collector {
            number,
            runtime: runtime.id(),
        });
        Some(Collecting {
            shared: Arc::clone(self),
            number,
            runtime,
            ended,
            has_ended_well: false,
        })
    }
}

/// The task that waits for a lane. Another may be put in its place: then it does nothing more.
struct Collecting<C: Carrier> {
    shared: Arc<Shared<C>>,
    number: u64,
    /// Where it runs.
    runtime: Handle,
    /// Runtimes on which it could not run to its end.
    ended: Vec<runtime::Id>,
    has_ended_well: bool,
}

impl<C: Carrier> Collecting<C> {
    fn begin(collecting: Option<Self>) {
        if let Some(collecting) = collecting {
            let runtime = collecting.runtime.clone();
            runtime.spawn(collecting.run());
        }
    }

    async fn run(mut self) {
        let Some(lane) = self.lane().await else {
            self.has_ended_well = true;
            return;
        };
        self.shared.others().await;
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

    fn is_current(&self, state: &State<C>) -> bool {
        state.collecting.is_some_and(|task| task.number == self.number)
    }

    /// What goes with the lane. From here on another task may wait for the next one.
    fn take(mut self) -> Batch<C> {
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        let mut batch = Batch {
            shared: Arc::clone(&shared),
            calls: Vec::new(),
            keys: Vec::new(),
            answers: Vec::new(),
            deadline: now,
            under_way: None,
        };
        let mut late = Vec::new();
        {
            let mut state = shared.state();
            let limits = shared.limits;
            let most = match self.is_current(&state) {
                true => state.most(limits),
                false => 0,
            };
            state.lanes += 1;
            state.coming = 0;
            for entry in state.queue.take(most, limits.weight) {
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
            state.under_way += batch.calls.len();
            batch.under_way = Some(batch.calls.len());
        }
        for waiting in late {
            let _ = waiting.answer.send(Err(Failure::NotSent));
        }
        // Lets the next task begin.
        self.has_ended_well = true;
        drop(self);
        batch
    }
}

impl<C: Carrier> Drop for Collecting<C> {
    /// However it ends, with its runtime too: whoever waits is not forgotten.
    fn drop(&mut self) {
        let mut ended = mem::take(&mut self.ended);
        if !self.has_ended_well {
            ended.push(self.runtime.id());
        }
        let mut state = self.shared.state();
        if self.is_current(&state) {
            state.collecting = None;
        }
        let collecting = self.shared.collect(&mut state, ended);
        drop(state);
        Self::begin(collecting);
    }
}

/// The task that expects callers to call again, who were answered a moment ago. It begins when all of them are answered:
/// else the first to call would travel alone, and the others find its lane taken.
struct Expecting<C: Carrier> {
    shared: Arc<Shared<C>>,
    runtime: runtime::Id,
    has_ended_well: bool,
}

impl<C: Carrier> Expecting<C> {
    fn begin(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        self.shared.others().await;
        self.has_ended_well = true;
        if let Some(collecting) = self.end() {
            collecting.run().await;
        }
    }

    fn end(&self) -> Option<Collecting<C>> {
        let ended = match self.has_ended_well {
            true => Vec::new(),
            false => vec![self.runtime],
        };
        let mut state = self.shared.state();
        state.expecting = None;
        self.shared.collect(&mut state, ended)
    }
}

impl<C: Carrier> Drop for Expecting<C> {
    /// With its runtime: others may have left the calls that wait to it.
    fn drop(&mut self) {
        if !self.has_ended_well {
            Collecting::begin(self.end());
        }
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
    /// Until it gives up its lane and its calls' keys: how many calls it has.
    under_way: Option<usize>,
}

impl<C: Carrier> Batch<C> {
    fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Gives up its lane and its keys. Of callers who are about to be answered, many will call again: they are expected,
    /// unless the next batch is whole without them.
    fn release(&mut self, answers: usize) -> Option<Expecting<C>> {
        let under_way = self.under_way.take()?;
        let mut state = self.shared.state();
        state.lanes -= 1;
        state.under_way -= under_way;
        state.coming += answers;
        for key in self.keys.drain(..) {
            state.queue.free(&key);
        }
        if answers < 2
            || state.collecting.is_some()
            || state.expecting.is_some()
            || state.is_enough(self.shared.limits)
        {
            return None;
        }
        let runtime = Handle::try_current().ok()?.id();
        state.expecting = Some(runtime);
        Some(Expecting {
            shared: Arc::clone(&self.shared),
            runtime,
            has_ended_well: false,
        })
    }

    /// Waits for a lane, and carries what is still asked for then.
    async fn carry_alone(mut self, decided: Arc<AtomicBool>) {
        let failure = match caught(self.shared.carrier.lane()).await {
            Some(Ok(_)) if self.answers.iter().all(oneshot::Sender::is_closed) => return,
            Some(Ok(_)) if Instant::now() >= self.deadline => Failure::NotSent,
            Some(Ok(lane)) => {
                if !decided.swap(true, Ordering::SeqCst) {
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
        let next = self.release(senders.len());
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
        if let Some(expecting) = next {
            expecting.begin();
        }
    }
}

impl<C: Carrier> Drop for Batch<C> {
    fn drop(&mut self) {
        drop(self.release(0));
        let mut state = self.shared.state();
        let collecting = self.shared.collect(&mut state, Vec::new());
        drop(state);
        Collecting::begin(collecting);
    }
}
