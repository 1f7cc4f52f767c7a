//! Contestants that do whole requests, through the session objects that applications use.

mod ours;
mod peer;

use std::{iter, sync::Arc};

use session_core::async_trait;

pub use self::{ours::OurRequests, peer::PeerRequests};
use crate::{
    Result,
    contest::{Contestant, Held},
    counting::Calls,
    peer::ATTRIBUTES,
    sizes,
};

/// Who is measured: [`Contestant::create`] begins a session, [`Contestant::load`] is a request that reads one of its
/// attributes, [`Contestant::update`] one that replaces it.
#[async_trait]
pub trait Requests: Contestant {
    /// A request that adds one to an attribute. `Ok`: it is acknowledged.
    async fn count_up(&self, held: &Held) -> Result<()>;

    /// Where that attribute stands.
    async fn count(&self, held: &Held) -> Result<u64>;

    /// The same, with the calls of its store counted. Apart, because counting costs something.
    ///
    /// # Errors
    ///
    /// The contestant cannot be built again.
    fn counting(&self) -> Result<(Arc<dyn Requests>, Calls)>;
}

/// The attribute that requests read and replace.
pub const READ: &str = "attribute-3";

/// The attribute that requests count up.
pub const COUNTED: &str = "count";

/// What attributes hold: texts.
#[derive(Debug, Clone)]
pub struct Texts(Vec<String>);

impl Texts {
    /// For sessions of `size` bytes.
    pub fn new(size: usize) -> Self {
        let text = || iter::repeat_with(fastrand::alphanumeric).take(size / ATTRIBUTES);
        Self((0..64).map(|_| text().collect()).collect())
    }

    /// One of them.
    pub fn any(&self) -> &str {
        sizes::any::<String>(&self.0)
    }

    /// The attributes of a session.
    pub fn attributes(&self) -> impl Iterator<Item = (String, &str)> + Send {
        (0..ATTRIBUTES).map(|number| (format!("attribute-{number}"), self.any()))
    }
}

/// Store calls that a request of each kind costs: the means of so many.
const COUNTED_REQUESTS: u32 = 600;

/// Calls of the store by a request.
#[derive(Debug, Clone, Copy)]
pub struct CallsEach {
    pub read_only: f64,
    pub changed: f64,
}

/// Counts the calls of a contestant's store.
///
/// # Errors
///
/// A request fails.
pub async fn calls_each(contestant: &dyn Requests) -> Result<CallsEach> {
    let (contestant, calls) = contestant.counting()?;
    let mut held = contestant.create().await?;
    let begun = calls.total();
    for _ in 0..COUNTED_REQUESTS {
        contestant.load(&held).await?;
    }
    let read = calls.total();
    for _ in 0..COUNTED_REQUESTS {
        contestant.update(&mut held).await?;
    }
    let mean = |calls: u64| calls as f64 / f64::from(COUNTED_REQUESTS);
    Ok(CallsEach {
        read_only: mean(read - begun),
        changed: mean(calls.total() - read),
    })
}
