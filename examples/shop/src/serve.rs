//! Listening, and stopping in an orderly way.

use std::{
    error, fmt,
    future::{Future, IntoFuture, pending},
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use session_core::{MeteredStore, SessionStore, Sweeper};
use tokio::{net::TcpListener, select, signal, sync::oneshot, task::JoinHandle, time};
use tracing::{debug, info, warn};

use crate::{
    SetupError,
    health::{self, Health},
    metrics::Recorder,
    mode::{KeyFileError, Mode},
    options::Options,
    shop,
    stores::{self, StoreUrlError},
};

/// How long requests in flight may take once the shop has been told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How often expired sessions are removed, from stores whose server does not do it.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Expired sessions that are removed together.
const SWEEP_AT_MOST: usize = 500;

/// Serves the shop until the process is told to stop (Ctrl-C, or SIGTERM), then lets requests in flight end, for five
/// seconds at most. With [`Options::drain`] it goes on serving for that time before, and says that it is not ready.
///
/// Once it listens, it prints one line to standard output: `shop: http://127.0.0.1:3000/ (sessions in memory)`; with
/// [`Options::metrics_listen`] another: `shop: metrics at http://127.0.0.1:9464/metrics`.
///
/// # Errors
///
/// [`ServeError`]: the store cannot be opened, or the address cannot be listened on.
pub async fn serve(options: &Options) -> Result<(), ServeError> {
    // Before the address is printed: whoever reads it may stop us at once.
    let stop = stop_signal().map_err(ServeError::Signals)?;
    let metrics = Metrics::of(options.metrics_listen).await?;
    let mut opened = stores::open(&options.store).await?;
    if metrics.is_some() {
        opened.store = Arc::new(MeteredStore::new(opened.store));
    }
    let mode = Mode::open(options.session, options.rewrite_urls, &options.keys)?.with_idle(options.idle);
    let shop = shop(Arc::clone(&opened.store), &mode, options.https_proxy)?;
    let health = Health::default();
    let shop = health::around(shop, &health, options.node.clone());
    let drain = options.drain;
    let listen = |source| ServeError::Listen {
        address: options.listen,
        source,
    };
    let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let mut lines = format!("shop: http://{address}/ ({})\n", mode.place(&opened.place));
    if let Some(metrics) = &metrics {
        lines += &format!("shop: metrics at http://{}/metrics\n", metrics.address);
    }
    // Not `println!`, which panics when nobody reads.
    if let Err(error) = io::stdout().write_all(lines.as_bytes()) {
        debug!(%error, "nobody reads standard output");
    }
    let sweeper = sweep(opened.store);

    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, shop).with_graceful_shutdown(async move {
        stop.await;
        health.leave();
        linger(drain).await;
        info!("stopping: requests in flight have {LAST_REQUESTS:?}");
        // If nobody waits, the server has ended already.
        let _ = stopping.send(());
    });
    let ended = select! {
        ended = server.into_future() => ended.map_err(listen),
        () = too_long(stopped) => {
            warn!("some connections were still busy after {LAST_REQUESTS:?}; they are cut");
            Ok(())
        }
    };
    drop((sweeper, metrics));
    info!("stopped");
    ended
}

/// The metrics of this process, served until this is dropped.
struct Metrics {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Metrics {
    async fn of(listen: Option<SocketAddr>) -> Result<Option<Self>, ServeError> {
        let Some(address) = listen else {
            return Ok(None);
        };
        let failed = |source| ServeError::ListenForMetrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let recorder = Recorder::install().map_err(|_| ServeError::RecorderTaken)?;
        let server = axum::serve(listener, recorder.routes());
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                warn!(%error, "metrics are no longer served");
            }
        });
        Ok(Some(Self { address, server }))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Goes on for so long, or until the process is told to stop once more.
async fn linger(long: Duration) {
    if long.is_zero() {
        return;
    }
    info!("draining: no longer ready, and stopping in {long:?}");
    match stop_signal() {
        Ok(again) => {
            // Either way it is over.
            let _ = time::timeout(long, again).await;
        }
        Err(_) => time::sleep(long).await,
    }
}

/// Ends when the last requests have had their time.
async fn too_long(stopped: oneshot::Receiver<()>) {
    match stopped.await {
        Ok(()) => time::sleep(LAST_REQUESTS).await,
        Err(_) => pending().await,
    }
}

/// Removes expired sessions now and then, until it is dropped, if the store wants that from its users.
fn sweep(store: Arc<dyn SessionStore>) -> Option<Sweeper> {
    store.sweep()?;
    Some(Sweeper::start(SWEEP_EVERY, move || {
        let store = Arc::clone(&store);
        async move {
            match store.sweep() {
                Some(sweep) => sweep.remove_expired(SWEEP_AT_MOST).await,
                None => Ok(0),
            }
        }
    }))
}

/// Starts to listen for the signals that ask the process to stop; the future ends with the first.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Starts to listen for Ctrl-C; the future ends with the first.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    })
}

/// The shop cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// No such store.
    Store(StoreUrlError),
    /// There are no keys for the tokens.
    Keys(KeyFileError),
    /// The site cannot be set up.
    Setup(SetupError),
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address for metrics cannot be listened on.
    ListenForMetrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Something else in this process records its metrics.
    RecorderTaken,
    /// The system does not let us wait for signals.
    Signals(io::Error),
}

impl From<StoreUrlError> for ServeError {
    fn from(error: StoreUrlError) -> Self {
        Self::Store(error)
    }
}

impl From<KeyFileError> for ServeError {
    fn from(error: KeyFileError) -> Self {
        Self::Keys(error)
    }
}

impl From<SetupError> for ServeError {
    fn from(error: SetupError) -> Self {
        Self::Setup(error)
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Setup(error) => error.fmt(f),
            Self::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "port {} of {} is taken: choose another, as in --listen {}, or any free one with --listen {}",
                address.port(),
                address.ip(),
                SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(3000)),
                SocketAddr::new(address.ip(), 0),
            ),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::ListenForMetrics { address, source } => {
                write!(f, "--metrics-listen {address}: cannot listen there: {source}")
            }
            Self::RecorderTaken => {
                f.write_str("--metrics-listen: this process records its metrics elsewhere")
            }
            Self::Signals(source) => write!(f, "cannot wait for signals: {source}"),
        }
    }
}

impl error::Error for ServeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Setup(error) => Some(error),
            Self::Listen { source, .. } | Self::ListenForMetrics { source, .. } | Self::Signals(source) => {
                Some(source)
            }
            Self::RecorderTaken => None,
        }
    }
}
