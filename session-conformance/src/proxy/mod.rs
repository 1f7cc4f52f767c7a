//! Faults between store and server.

mod fault;
mod link;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use self::fault::Fault;
use self::fault::Faults;

/// Between a store and its servers: ports of 127.0.0.1 that lead to them, and do what is armed to what passes.
///
/// One [`Fault`] is armed at a time, for all connections to all servers. What it counts is what it happens to: for
/// faults of a reply the whole replies, for faults of a request what was read of a connection at once, for
/// [`Fault::Refuse`] the new connections.
///
/// Dropping it closes all it had open, and ends its tasks.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    _acceptors: JoinSet<()>,
}

type ReplyLen = dyn Fn(&[u8]) -> Option<usize> + Send + Sync;

/// What the connections share.
struct Shared {
    faults: Faults,
    reply_len: Box<ReplyLen>,
    held: Mutex<Vec<Held>>,
}

/// A request that its server has not seen, and the connection on which it was to go.
struct Held {
    server: TcpStream,
    request: Vec<u8>,
}

impl Proxy {
    /// A proxy before `servers`. `reply_len` tells where a reply ends, as [`Wire::reply_len`](crate::Wire::reply_len);
    /// all that is random comes from `seed`.
    ///
    /// # Errors
    ///
    /// The system gives no port.
    pub async fn start(
        servers: &[SocketAddr],
        reply_len: impl Fn(&[u8]) -> Option<usize> + Send + Sync + 'static,
        seed: u64,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            faults: Faults::new(seed),
            reply_len: Box::new(reply_len),
            held: Mutex::default(),
        });
        let (mut addresses, mut acceptors) = (Vec::new(), JoinSet::new());
        for server in servers {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            acceptors.spawn(accept(listener, *server, Arc::clone(&shared)));
        }
        Ok(Self {
            addresses,
            shared,
            _acceptors: acceptors,
        })
    }

    /// Where it listens: one address for each server, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on, until it is lifted.
    pub fn always(&self, fault: Fault) {
        self.arm(fault, 0..usize::MAX);
    }

    /// To those of `when`, counted from now: `0..1` is the next one, `2..3` the third, `0..5` the next five.
    pub fn arm(&self, fault: Fault, when: Range<usize>) {
        self.shared.faults.arm(fault, when, None);
    }

    /// The same, and from the moment on at which the last of `when` was met, `then` until it is lifted.
    pub fn arm_then(&self, fault: Fault, when: Range<usize>, then: Fault) {
        self.shared.faults.arm(fault, when, Some(then));
    }

    /// No fault any more. What hung goes on its way, late.
    pub fn lift(&self) {
        self.shared.faults.lift();
    }

    /// How often a fault took place since the last one was armed. A guarantee that asks nothing of it may have seen
    /// no fault at all.
    #[must_use]
    pub fn happened(&self) -> usize {
        self.shared.faults.happened()
    }

    /// Connections accepted so far, those that were refused too.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.faults.connections()
    }

    /// Brings to their servers the requests that [`Fault::HoldRequest`] held, waits until they have been answered (a
    /// second at most), and tells how many there were.
    pub async fn deliver(&self) -> usize {
        let held = std::mem::take(&mut *self.shared.held.lock().unwrap_or_else(PoisonError::into_inner));
        let count = held.len();
        for late in held {
            let answered = late.deliver(&*self.shared.reply_len);
            // Without an answer the server has had it all the same.
            let _ = tokio::time::timeout(Duration::from_secs(1), answered).await;
        }
        count
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Held {
    async fn deliver(mut self, reply_len: &ReplyLen) -> io::Result<()> {
        self.server.write_all(&self.request).await?;
        let mut reply = Vec::new();
        while reply_len(&reply).is_none() {
            if self.server.read_buf(&mut reply).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if shared.faults.refuses() => link::reset(&client),
                Ok((client, _)) => {
                    links.spawn(link::serve(client, server, Arc::clone(&shared)));
                }
                // Too many open files, say: passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = links.join_next() => {}
        }
    }
}
