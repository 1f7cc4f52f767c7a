//! The command line.

use std::{
    ffi::OsString,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use axum::http::HeaderValue;
use lexopt::{Arg, Parser};
use session_core::Lengths;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::mode::Kind;

/// What `--help` prints.
pub const HELP: &str = "\
An e-commerce site that keeps its visitors' sessions.

Usage: shop [OPTIONS]

Options:
  --listen ADDR    where to listen: IP:PORT, or a port of 127.0.0.1; port 0 takes any
                   free one [default: 127.0.0.1:3000]
  --metrics-listen ADDR
                   where to serve /metrics for Prometheus, as with --listen: an address that
                   visitors cannot reach [default: nowhere]
  --store URL      where sessions are kept: memory:, or if built with the feature sqlite
                   sqlite:PATH, dynamodb dynamodb://KEY:SECRET@REGION/TABLE, memcached memcached://HOST,
                   postgres postgres://HOST/DATABASE, redis redis://HOST,
                   redis+sentinel://HOST/SERVICE, redis+cluster://HOST …
                   [default: sqlite:shop-sessions.db, without that feature memory:]
  --session KIND   what a visitor has of a session: stored, an id, and the store has the rest;
                   sealed, all of it in a sealed cookie, and the store remembers who logged
                   out; jwt, the same in a signed JWT, if built with that feature
                   [default: stored]
  --idle SECONDS   a session that is not remembered ends so long after the last visit
                   [default: 1800]
  --rewrite-urls   visitors whose browsers keep no cookies have the session in their URLs;
                   not with sealed and jwt
  --keys FILE      the keys of sealed, jwt and --rewrite-urls, one a line, the first writes;
                   made with a new key if it is not there [default: shop-keys.txt]
  --https-proxy    an HTTPS proxy stands in front: the cookie is Secure and named __Host-session
  --node NAME      which of several shops this is: every response says X-Node: NAME, so choose
                   a name that tells nothing of the machine [default: no such header]
  --drain SECONDS  when told to stop, go on serving so long while /readyz answers 503, for
                   a balancer to notice; being told again ends it [default: 0]
  --log LEVEL      what goes to stderr: error, warn, info, debug, trace, or targets such as
                   warn,shop=debug [default: the variable RUST_LOG, else info]
  --help           print this and stop
  --version        print the version and stop
";

/// A file in the current folder, so that a shop that is started again knows its visitors.
const DEFAULT_STORE: &str = match cfg!(feature = "sqlite") {
    true => "sqlite:shop-sessions.db",
    false => "memory:",
};

/// Beside the default store.
const DEFAULT_KEYS: &str = "shop-keys.txt";

/// Characters in the name of a node.
const LONGEST_NAME: usize = 32;

/// Seconds: a shop that still serves after a day was not told to stop.
const DAY: u64 = 24 * 60 * 60;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve the shop.
    Serve(Box<Options>),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// How the shop is to be served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where to serve the metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Which store, as a URL.
    pub store: String,
    /// What a visitor has of a session.
    pub session: Kind,
    /// How long a session lives without a visit.
    pub idle: Duration,
    /// Whether browsers without cookies have the session in their URLs.
    pub rewrite_urls: bool,
    /// The file with the keys of tokens and URLs.
    pub keys: PathBuf,
    /// Whether an HTTPS proxy stands in front.
    pub https_proxy: bool,
    /// The name of this shop among several.
    pub node: Option<HeaderValue>,
    /// How long to go on serving once told to stop.
    pub drain: Duration,
    /// What is logged.
    pub log: Targets,
}

/// Reads a command line, without the program's name, and the value of `RUST_LOG`.
///
/// # Errors
///
/// [`UsageError`] names the option that is wrong and says what is right.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    rust_log: Option<OsString>,
) -> Result<Command, UsageError> {
    let mut listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000));
    let mut metrics_listen = None;
    let mut store = DEFAULT_STORE.to_owned();
    let mut session = Kind::Stored;
    let mut keys = PathBuf::from(DEFAULT_KEYS);
    let mut idle = Lengths::default().idle();
    let mut rewrite_urls = false;
    let mut https_proxy = false;
    let mut node = None;
    let mut drain = Duration::ZERO;
    let mut log = None;

    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("listen") => listen = address(&mut parser, "--listen")?,
            Arg::Long("metrics-listen") => metrics_listen = Some(address(&mut parser, "--metrics-listen")?),
            Arg::Long("store") => store = text(&mut parser, "--store")?,
            Arg::Long("session") => session = kind(&text(&mut parser, "--session")?)?,
            Arg::Long("idle") => idle = seconds("--idle", &text(&mut parser, "--idle")?)?,
            Arg::Long("rewrite-urls") => rewrite_urls = true,
            Arg::Long("keys") => keys = parser.value()?.into(),
            Arg::Long("https-proxy") => https_proxy = true,
            Arg::Long("node") => node = Some(alias(&text(&mut parser, "--node")?)?),
            Arg::Long("drain") => drain = seconds("--drain", &text(&mut parser, "--drain")?)?,
            Arg::Long("log") => log = Some(targets("--log", &text(&mut parser, "--log")?)?),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Command::Version),
            other => return Err(other.unexpected().into()),
        }
    }
    if !listen.ip().is_loopback() && !https_proxy {
        return Err(UsageError(format!(
            "--listen {listen} can be reached from other machines, and plain HTTP would show them the session \
             cookies: put an HTTPS proxy in front and add --https-proxy, or listen on a loopback address"
        )));
    }
    if metrics_listen == Some(listen) && listen.port() != 0 {
        return Err(UsageError(format!(
            "--metrics-listen {listen} is where visitors are served: metrics are shown on a port of their own"
        )));
    }
    if idle.is_zero() {
        return Err(UsageError(
            "--idle 0: no session would last until the next page".to_owned(),
        ));
    }
    if rewrite_urls && session != Kind::Stored {
        return Err(UsageError(format!(
            "--rewrite-urls with --session {}: a whole session does not belong in a URL; leave one of them out",
            session.word()
        )));
    }
    let log = match (log, rust_log) {
        (Some(log), _) => log,
        (None, Some(variable)) => targets("RUST_LOG", &variable.to_string_lossy())?,
        (None, None) => targets("--log", "info")?,
    };
    Ok(Command::Serve(Box::new(Options {
        listen,
        metrics_listen,
        store,
        session,
        idle,
        rewrite_urls,
        keys,
        https_proxy,
        node,
        drain,
        log,
    })))
}

fn text(parser: &mut Parser, option: &str) -> Result<String, UsageError> {
    parser
        .value()?
        .into_string()
        .map_err(|_| UsageError(format!("{option}: the value is not UTF-8")))
}

fn address(parser: &mut Parser, option: &str) -> Result<SocketAddr, UsageError> {
    let value = text(parser, option)?;
    if let Ok(port) = value.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    value.parse().map_err(|_| {
        UsageError(format!(
            "{option} {value:?}: an address is IP:PORT, such as 127.0.0.1:3000 or [::1]:3000, or a port alone"
        ))
    })
}

fn kind(value: &str) -> Result<Kind, UsageError> {
    value
        .parse()
        .map_err(|()| UsageError(format!("--session {value:?}: a kind is stored, sealed or jwt")))
}

fn alias(value: &str) -> Result<HeaderValue, UsageError> {
    let wrong = || {
        UsageError(format!(
            "--node {value:?}: a name is 1 to {LONGEST_NAME} letters, digits, - and _, such as a"
        ))
    };
    let fits = (1..=LONGEST_NAME).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    // Characters that pass are those of a header.
    HeaderValue::from_str(value)
        .ok()
        .filter(|_| fits)
        .ok_or_else(wrong)
}

fn seconds(option: &str, value: &str) -> Result<Duration, UsageError> {
    match value.parse() {
        Ok(seconds) if seconds <= DAY => Ok(Duration::from_secs(seconds)),
        _ => Err(UsageError(format!(
            "{option} {value:?}: a whole number of seconds, at most {DAY}"
        ))),
    }
}

fn targets(origin: &str, value: &str) -> Result<Targets, UsageError> {
    let wrong = || {
        UsageError(format!(
            "{origin} {value:?}: a level is error, warn, info, debug, trace or off, alone or for targets as in \
             warn,shop=debug"
        ))
    };
    // A word alone would be a target, at `trace`, and a mistyped level would silence everything.
    let mut words = value.split(',').filter(|part| !part.contains('='));
    if words.any(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(wrong());
    }
    value.parse().map_err(|_| wrong())
}

/// The command line cannot be followed; the text says why and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (--help shows every option)", self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(OsString::from), None) {
            Ok(Command::Serve(options)) => Ok(*options),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn defaults_are_what_help_says() {
        let options = parsed("").unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(options.metrics_listen, None);
        assert_eq!(options.store, DEFAULT_STORE);
        assert_eq!((options.session, options.rewrite_urls), (Kind::Stored, false));
        assert_eq!(options.keys, PathBuf::from(DEFAULT_KEYS));
        assert_eq!(options.idle, Duration::from_secs(1800));
        assert!(!options.https_proxy);
        assert_eq!((options.node, options.drain), (None, Duration::ZERO));
        assert_eq!(options.log, "info".parse().unwrap());
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let options =
            parsed("--listen=[::1]:80 --store memory: --https-proxy --log warn,shop=debug").unwrap();
        assert_eq!(options.listen.to_string(), "[::1]:80");
        assert!(options.https_proxy);
        let options = parsed("--metrics-listen=9464").unwrap();
        assert_eq!(options.metrics_listen.unwrap().to_string(), "127.0.0.1:9464");
        let options = parsed("--node=north-1_b --drain 20").unwrap();
        assert_eq!(options.node.unwrap(), "north-1_b");
        assert_eq!(options.drain, Duration::from_secs(20));
        assert_eq!(parsed("--idle 60").unwrap().idle, Duration::from_secs(60));
        assert!(parsed("--rewrite-urls").unwrap().rewrite_urls);
        let options = parsed("--session sealed --keys k").unwrap();
        assert_eq!((options.session, options.keys), (Kind::Sealed, "k".into()));
        assert_eq!(
            parsed("--listen 8080").unwrap().listen.to_string(),
            "127.0.0.1:8080"
        );
        assert!(matches!(parse(["-h".into()], None), Ok(Command::Help)));
        assert!(matches!(parse(["--version".into()], None), Ok(Command::Version)));
    }

    #[test]
    fn wrong_lines_are_refused_and_the_option_is_named() {
        for (line, names) in [
            ("--listen", "--listen"),
            ("--listen shop.example:80", "127.0.0.1:3000"),
            ("--listen 65536", "127.0.0.1:3000"),
            ("--listen 0.0.0.0:80", "--https-proxy"),
            ("--metrics-listen all", "--metrics-listen \"all\""),
            ("--metrics-listen 3000", "where visitors are"),
            ("--node=", "--node \"\""),
            ("--node 10.0.0.1:3000", "--node \"10.0.0.1:3000\""),
            ("--node aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1 to 32"),
            ("--drain 1.5", "whole number"),
            ("--drain -1", "--drain"),
            ("--drain 86401", "86400"),
            ("--idle 0", "next page"),
            ("--idle soon", "--idle \"soon\""),
            ("--session jwt --rewrite-urls", "does not belong in a URL"),
            ("--session sticky", "stored, sealed or jwt"),
            ("--log loud", "--log \"loud\""),
            ("--colour", "--colour"),
            ("extra", "extra"),
        ] {
            let text = parsed(line).unwrap_err();
            assert!(text.contains(names) && text.contains("--help"), "{line}: {text}");
        }
        assert!(parsed("--listen 0.0.0.0:80 --https-proxy").is_ok());
    }

    #[test]
    fn level_comes_from_the_environment_unless_it_is_on_the_line() {
        let log = |arguments: &[&str], variable: &str| match parse(
            arguments.iter().map(OsString::from),
            Some(variable.into()),
        ) {
            Ok(Command::Serve(options)) => Ok(options.log),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(log(&[], "debug").unwrap(), "debug".parse().unwrap());
        assert_eq!(
            log(&["--log", "error"], "debug").unwrap(),
            "error".parse().unwrap()
        );
        assert!(log(&[], "a=b=c").unwrap_err().contains("RUST_LOG"));
    }
}
