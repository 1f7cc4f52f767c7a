//! How often the allocator is asked.

use tokio::runtime::{Builder, Runtime};

/// A runtime on one thread, on which all that runs is counted: the calls of a store, its client's tasks among them.
#[derive(Debug)]
pub struct Counted(Runtime);

impl Counted {
    /// # Errors
    ///
    /// The system gives the runtime nothing to wait with.
    pub fn new() -> std::io::Result<Self> {
        Builder::new_current_thread().enable_all().build().map(Self)
    }

    /// Waits for something that is not counted.
    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.0.block_on(call)
    }

    /// # Panics
    ///
    /// The call asks the allocator more often than `ceiling`, the least of twenty times: the first one may connect, and
    /// fill a cache.
    #[track_caller]
    pub fn at_most(&self, ceiling: u64, mut call: impl AsyncFnMut()) {
        let once = |_| allocation_counter::measure(|| self.0.block_on(call())).count_total;
        let counted = (0..20).map(once).min().unwrap_or(u64::MAX);
        println!("{counted} allocations");
        assert!(
            counted <= ceiling,
            "{counted} allocations, {ceiling} at most: a mistake, or a price that somebody decides to pay: then raise it"
        );
    }
}
