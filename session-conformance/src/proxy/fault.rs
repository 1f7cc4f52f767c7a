//! What can be armed, and what is.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// What may happen between a store and its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Connections are reset, those there are at once and new ones when they come: the server is down.
    Refuse,
    /// Nothing passes, either way. Connections are accepted and stay open. When it is lifted, what waited passes.
    Hang,
    /// Requests pass, replies do not. When it is lifted, what waited passes.
    Mute,
    /// A request takes so long at most, at random.
    SlowRequest {
        /// The longest.
        most: Duration,
    },
    /// A reply takes so long at most, at random.
    SlowReply {
        /// The longest.
        most: Duration,
    },
    /// The connection is reset, and the server never sees the request.
    LoseRequest,
    /// The server has done what was asked; the reply is thrown away, and the connection is reset.
    LoseReply,
    /// The connection is reset, and the server sees the request when [`Proxy::deliver`](super::Proxy::deliver) is called.
    HoldRequest,
    /// A reply is cut, and the connection closed.
    CutReply {
        /// How many thousandths of its bytes pass. One byte at least does not.
        permille: u16,
    },
    /// A reply comes one byte at a time.
    ByteByByte,
    /// A reply is left out, and the connection goes on: the next one comes in its place.
    DropReply,
    /// A reply comes twice.
    RepeatReply,
    /// A reply comes after the next one of its connection.
    SwapReplies,
}

/// Whom a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    Reply,
}

impl Fault {
    fn befalls(self, of: Of) -> bool {
        match self {
            Self::Refuse | Self::Hang => true,
            Self::SlowRequest { .. } | Self::LoseRequest | Self::HoldRequest => of == Of::Request,
            Self::Mute
            | Self::SlowReply { .. }
            | Self::LoseReply
            | Self::CutReply { .. }
            | Self::ByteByByte
            | Self::DropReply
            | Self::RepeatReply
            | Self::SwapReplies => of == Of::Reply,
        }
    }

    /// A fault whose victim waits until another is armed, or none.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Hang | Self::Mute)
    }
}

/// What is armed, and what has happened.
pub(super) struct Faults {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    plan: Option<Plan>,
    happened: usize,
    connections: usize,
    random: fastrand::Rng,
}

struct Plan {
    fault: Fault,
    when: Range<usize>,
    then: Option<Fault>,
    met: usize,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            plan: None,
            happened: 0,
            connections: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn arm(&self, fault: Fault, when: Range<usize>, then: Option<Fault>) {
        let mut state = self.state();
        state.happened = 0;
        state.plan = Some(Plan::new(fault, when, then));
        self.changed.send_replace(());
    }

    pub(super) fn lift(&self) {
        self.state().plan = None;
        self.changed.send_replace(());
    }

    pub(super) fn happened(&self) -> usize {
        self.state().happened
    }

    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    /// A fault took place that had not when it was met.
    pub(super) fn took_place(&self) {
        self.state().happened += 1;
    }

    /// To be looked at before the state is, so that no change is missed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A new connection has come: whether it is refused.
    pub(super) fn refuses(&self) -> bool {
        let mut state = self.state();
        state.connections += 1;
        if !state.is(Fault::Refuse) {
            return false;
        }
        self.meet(&mut state)
    }

    /// Ends when the connections that there are are to be reset.
    pub(super) async fn refused(&self) {
        let mut changes = self.changes();
        while !self.state().is(Fault::Refuse) {
            // The sender is in `self`.
            let _ = changes.changed().await;
        }
        self.took_place();
    }

    /// What happens to a request or a reply that has come.
    pub(super) fn befall(&self, of: Of) -> Option<Fault> {
        let mut state = self.state();
        let fault = state.plan.as_ref()?.fault;
        if fault == Fault::Refuse {
            // Armed a moment ago: its connection is about to be reset, and nothing passes any more.
            state.happened += 1;
            return Some(fault);
        }
        if !fault.befalls(of) || !self.meet(&mut state) {
            return None;
        }
        if fault == Fault::SwapReplies {
            // It has happened once there is a second one.
            state.happened -= 1;
        }
        Some(fault)
    }

    /// A length up to `most`.
    pub(super) fn delay(&self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.state().random.u64(..=micros))
    }

    /// Counts one more for the plan: whether it is one of those that were meant.
    fn meet(&self, state: &mut State) -> bool {
        let Some(plan) = &mut state.plan else {
            return false;
        };
        let meant = plan.when.contains(&plan.met);
        plan.met += 1;
        state.happened += usize::from(meant);
        if plan.met >= plan.when.end
            && let Some(then) = plan.then
        {
            state.plan = Some(Plan::new(then, 0..usize::MAX, None));
            self.changed.send_replace(());
        }
        meant
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is(&self, fault: Fault) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.fault == fault)
    }
}

impl Plan {
    fn new(fault: Fault, when: Range<usize>, then: Option<Fault>) -> Self {
        Self {
            fault,
            when,
            then,
            met: 0,
        }
    }
}
