//! What is done with the calls.

use std::hash::Hash;

/// Carries calls to a server, many in one request.
pub trait Carrier: Send + Sync + 'static {
    /// What a caller asks for.
    type Call: Send + 'static;

    /// What it is answered. A call that fails alone says so in here.
    type Answer: Send + 'static;

    /// What two calls must not share while they are under way; `()` where all may go together.
    type Key: Eq + Hash + Clone + Send + 'static;

    /// A way to the server that one request has for itself, such as a connection out of a pool.
    type Lane: Send + 'static;

    /// Why there is no lane.
    type Error: Clone + Send + 'static;

    /// The key of a call: while one call of a key waits to be sent or is under way, the next one waits for its turn.
    /// `None`: it may go with any other.
    fn key(call: &Self::Call) -> Option<Self::Key>;

    /// What a call adds to its batch, in bytes, say.
    fn weight(call: &Self::Call) -> usize;

    /// Waits for a lane. It is asked before the calls are chosen: what arrives meanwhile travels along, and who gave up
    /// meanwhile does not. It should give up by itself after a while. It may be asked twice at once: for a call that was
    /// alone, and for those that came while it waited.
    ///
    /// # Errors
    ///
    /// There is none. All calls that were waiting for it end in [`Failure::NoLane`](crate::Failure::NoLane).
    fn lane(&self) -> impl Future<Output = Result<Self::Lane, Self::Error>> + Send;

    /// Sends the calls in one request and gives the answers, in the order of the calls.
    ///
    /// It is dropped when no caller waits any longer, after the latest deadline among them: a lane whose answer is
    /// still to come must not be used again then. A panic, or another number of answers than there were calls, is
    /// [`Failure::Lost`](crate::Failure::Lost) for every caller.
    fn carry(
        &self,
        lane: Self::Lane,
        calls: Vec<Self::Call>,
    ) -> impl Future<Output = Vec<Self::Answer>> + Send;
}
