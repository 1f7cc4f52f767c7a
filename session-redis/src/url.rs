//! Stores as URLs.

use std::time::Duration;

use redis::Client;
use session_core::{KeyError, Keys};
use url::Url;

use crate::{ConfigError, RedisStoreBuilder, Servers};

/// How long replicas may take to confirm a write, unless the URL says it.
const WAIT: Duration = Duration::from_millis(100);

/// What a URL leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    Socket,
    Sentinel,
    Cluster,
}

/// What a URL says.
pub(crate) fn read(text: &str) -> Result<RedisStoreBuilder, ConfigError> {
    let (scheme, rest) = text.split_once(':').ok_or(ConfigError::Url)?;
    let (tls, kind) = match scheme {
        "redis" => (false, Kind::One),
        "rediss" => (true, Kind::One),
        "redis+unix" => (false, Kind::Socket),
        "redis+sentinel" => (false, Kind::Sentinel),
        "rediss+sentinel" => (true, Kind::Sentinel),
        "redis+cluster" => (false, Kind::Cluster),
        "rediss+cluster" => (true, Kind::Cluster),
        other => return Err(ConfigError::Scheme(other.chars().take(32).collect())),
    };
    if tls {
        self::tls()?;
    }
    // No URL has several hosts: each has one of its own, with all the rest.
    let own = match (kind, tls) {
        (Kind::Socket, _) => "redis+unix",
        (_, true) => "rediss",
        (_, false) => "redis",
    };
    let urls = hosts(rest)
        .map(|rest| Url::parse(&format!("{own}:{rest}")).map_err(|_| ConfigError::Url))
        .collect::<Result<Vec<_>, _>>()?;
    let first = urls.first().ok_or(ConfigError::Url)?;
    if first.fragment().is_some() || (urls.len() > 1 && matches!(kind, Kind::One | Kind::Socket)) {
        // The client would read `#insecure` there, and one server is not several.
        return Err(ConfigError::Url);
    }
    if kind != Kind::Socket && first.host_str().is_none_or(str::is_empty) {
        return Err(ConfigError::Url);
    }
    // A password whose `/` or `?` was not percent-encoded: what is left of it is neither a path nor a key, and to show it
    // as one would tell it.
    let is_cut = |text: &str| kind != Kind::Socket && text.contains('@');
    if is_cut(first.path()) {
        return Err(ConfigError::Url);
    }
    let keys = keys(first, kind).map_err(|error| match first.query().is_some_and(is_cut) {
        true => ConfigError::Url,
        false => error.into(),
    })?;
    let servers = match kind {
        Kind::One | Kind::Socket => open(&urls[0], &keys)?.into(),
        Kind::Sentinel => sentinel(&urls, &keys)?,
        Kind::Cluster => {
            let nodes: Result<Vec<_>, _> = urls.iter().map(|url| open(url, &keys)).collect();
            Servers::cluster(nodes?)
        }
    };
    tuned(RedisStoreBuilder::new(servers), &keys)
}

/// `//USER:PASSWORD@A:1,B:2/PATH?KEYS`, once for each of `A:1` and `B:2`.
fn hosts(rest: &str) -> impl Iterator<Item = String> {
    let body = rest.strip_prefix("//").unwrap_or(rest);
    let slashes = &rest[..rest.len() - body.len()];
    let end = body.find(['/', '?', '#']).unwrap_or(body.len());
    let (authority, tail) = body.split_at(end);
    let (user, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    hosts
        .split(',')
        .map(move |host| format!("{slashes}{user}{host}{tail}"))
}

/// What follows the question mark.
fn keys(url: &Url, kind: Kind) -> Result<Keys, KeyError> {
    Keys::new(url.query_pairs().into_owned(), |name| match name {
        "prefix" | "max_record" | "read_ms" | "write_ms" | "connect_ms" | "wait_replicas" | "wait_ms"
        | "may_evict" => true,
        "db" | "user" | "pass" => kind == Kind::Socket,
        "sentinel_user" | "sentinel_pass" => kind == Kind::Sentinel,
        _ => false,
    })
}

fn tuned(mut builder: RedisStoreBuilder, keys: &Keys) -> Result<RedisStoreBuilder, ConfigError> {
    if let Some(prefix) = keys.text("prefix") {
        builder = builder.prefix(prefix);
    }
    if let Some(bytes) = keys.parsed("max_record")? {
        builder = builder.max_record(bytes);
    }
    if let Some(length) = keys.millis("read_ms")? {
        builder = builder.read_deadline(length);
    }
    if let Some(length) = keys.millis("write_ms")? {
        builder = builder.write_deadline(length);
    }
    if let Some(length) = keys.millis("connect_ms")? {
        builder = builder.connect_deadline(length);
    }
    if let Some(may_evict) = keys.parsed("may_evict")? {
        builder = builder.may_evict(may_evict);
    }
    let within = keys.millis("wait_ms")?.unwrap_or(WAIT);
    if let Some(replicas) = keys.parsed("wait_replicas")? {
        builder = builder.wait_for_replicas(replicas, within);
    }
    Ok(builder)
}

/// The client of a URL, without the keys that are ours.
fn open(url: &Url, keys: &Keys) -> Result<Client, ConfigError> {
    let mut url = url.clone();
    url.set_query(None);
    for name in ["db", "user", "pass"] {
        if let Some(value) = keys.text(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Client::open(url).map_err(ConfigError::Client)
}

/// `/SERVICE[/DATABASE]`; user and password are the servers', not the Sentinels'.
fn sentinel(urls: &[Url], keys: &Keys) -> Result<Servers, ConfigError> {
    let path = urls[0].path();
    let path = path.strip_prefix('/').unwrap_or(path);
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    let mut server = urls[0].clone();
    server.set_path(database);
    let mut sentinels = Vec::with_capacity(urls.len());
    for url in urls {
        let mut url = url.clone();
        url.set_path("");
        if url.port().is_none() {
            url.set_port(Some(26_379)).map_err(|()| ConfigError::Url)?;
        }
        url.set_username(keys.text("sentinel_user").unwrap_or(""))
            .map_err(|()| ConfigError::Url)?;
        url.set_password(keys.text("sentinel_pass"))
            .map_err(|()| ConfigError::Url)?;
        sentinels.push(open(&url, keys)?);
    }
    Ok(Servers::sentinel(sentinels, service, open(&server, keys)?))
}

/// The client's TLS takes the cryptography that the process has chosen; without a choice it would panic.
#[cfg(feature = "tls")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it is an error")]
fn tls() -> Result<(), ConfigError> {
    use rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none() {
        // Somebody else may be faster, which is as well.
        let _ = ring::default_provider().install_default();
    }
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn tls() -> Result<(), ConfigError> {
    Err(ConfigError::Tls)
}

#[cfg(test)]
mod tests {
    use session_core::SessionStore;

    use super::*;

    fn refused(url: &str) -> String {
        let error = match read(url) {
            Ok(builder) => builder.build().map(drop).expect_err(url),
            Err(error) => error,
        };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("horse"), "{shown}");
        error.to_string()
    }

    /// What `Debug` shows of the servers.
    fn servers(url: &str) -> String {
        let builder = read(url).unwrap();
        let (servers, shown) = (builder.servers.to_string(), format!("{builder:?}"));
        let shown = shown + &format!("{:?}", builder.build().unwrap());
        assert!(shown.contains(&servers) && !shown.contains("horse"), "{shown}");
        servers
    }

    #[tokio::test]
    async fn url_is_read_whole() {
        let url = "redis://ann:horse@127.0.0.1:7000/3?prefix=a/b-c_d.e:&max_record=100&read_ms=1&write_ms=20\
                   &connect_ms=3&wait_replicas=2&wait_ms=4&may_evict=false";
        let builder = read(url).unwrap();
        let may_evict = |url| read(url).unwrap().build().unwrap().profile().limits.may_evict;
        assert!(!may_evict(url) && may_evict("redis://h"));
        assert_eq!((builder.prefix.as_str(), builder.max_record), ("a/b-c_d.e:", 100));
        let millis = [builder.read, builder.write, builder.connect].map(|length| length.as_millis());
        assert_eq!(millis, [1, 20, 3]);
        let wait = builder.wait.unwrap();
        assert_eq!((wait.replicas, wait.within.as_millis()), (2, 4));
        assert_eq!(servers(url), "127.0.0.1:7000");
        for (url, at) in [
            ("redis://h", "h:6379"),
            ("redis://[::1]:6380/", "::1:6380"),
            (
                "redis+unix:///run/redis.sock?db=2&user=ann&pass=horse",
                "/run/redis.sock",
            ),
            (
                "redis+cluster://ann:horse@a:1,b,[::1]:3?prefix=x:",
                "Cluster of a:1, b:6379, ::1:3",
            ),
            ("redis+cluster://a/", "Cluster of a:6379"),
            (
                "redis+sentinel://ann:horse@a:1,b/sessions/3?sentinel_user=bob&sentinel_pass=horses",
                "sessions of Sentinel a:1, b:26379",
            ),
        ] {
            assert_eq!(servers(url), at, "{url}");
        }
    }

    #[test]
    fn user_password_and_database_go_where_they_belong() {
        let Ok(keys) = keys(
            &Url::parse("redis://h/?sentinel_user=bob&sentinel_pass=s%26t").unwrap(),
            Kind::Sentinel,
        ) else {
            panic!()
        };
        let urls: Vec<Url> = hosts("//ann:p%40w@a:1,b/sessions/3")
            .map(|rest| Url::parse(&format!("redis:{rest}")).unwrap())
            .collect();
        let settings = |servers: Servers| {
            let (sentinels, server) = servers.sentinel_parts();
            [&sentinels[0], &sentinels[1], &*server].map(|client| {
                let settings = client.get_connection_info().redis_settings();
                let text = |text: Option<&str>| text.unwrap_or("").to_owned();
                (
                    text(settings.username()),
                    text(settings.password()),
                    settings.db(),
                )
            })
        };
        let at_sentinel = ("bob".to_owned(), "s&t".to_owned(), 0);
        let at_server = ("ann".to_owned(), "p@w".to_owned(), 3);
        assert_eq!(
            settings(sentinel(&urls, &keys).unwrap()),
            [at_sentinel.clone(), at_sentinel, at_server]
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_no_password_is_shown() {
        for (url, says) in [
            ("", "not the URL"),
            ("horse", "not the URL"),
            ("redis:", "not the URL"),
            ("redis://", "not the URL"),
            ("redis://:horse@/", "not the URL"),
            ("redis://:horse@a,b/", "not the URL"),
            ("redis+cluster://:horse@a,/", "not the URL"),
            ("redis+cluster://:horse@a:1:2,b/", "not the URL"),
            ("redis+cluster://:horse@a,b:horse/", "not the URL"),
            ("redis+cluster://:horse@a/3", "0"),
            ("redis+sentinel://:horse@a,b/", "SERVICE"),
            ("redis+sentinel://:horse@a,b//3", "SERVICE"),
            ("redis+sentinel://:horse@a/sessions/horse", ""),
            ("redis+sentinel://:horse@a/sessions?user=a", "\"user\""),
            ("redis://:horse@a/?sentinel_pass=horse", "\"sentinel_pass\""),
            ("http://:horse@h/", "\"http\""),
            ("redis+tcp://:horse@h/", "\"redis+tcp\""),
            ("redis://:horse@h/#insecure", "not the URL"),
            ("redis://:horse@h/?colour=red", "\"colour\""),
            ("redis://:horse@h/?db=1", "\"db\""),
            ("redis+unix:///s?pass=horse&colour=red", "\"colour\""),
            ("redis://:horse@h/?prefix=a&prefix=b", "twice"),
            ("redis://:horse@h/?read_ms=fast", "\"read_ms\""),
            ("redis://:horse@h/?write_ms=-1", "\"write_ms\""),
            ("redis://:horse@h/?connect_ms=0", "deadline of zero"),
            ("redis://:horse@h/?max_record=0", "largest record"),
            ("redis://:horse@h/?max_record=67108865", "largest record"),
            ("redis://:horse@h/?prefix=", "prefix"),
            ("redis://:horse@h/?prefix={a}", "prefix"),
            ("redis://:horse@h/?prefix=a%20b", "prefix"),
            ("redis://:horse@h/?may_evict=no", "\"may_evict\""),
            ("redis://:horse@h/?wait_replicas=two", "\"wait_replicas\""),
            ("redis://:horse@h/?wait_replicas=1&wait_ms=0", "confirm"),
            ("redis://:horse@h/?wait_replicas=1&wait_ms=500", "confirm"),
            ("redis://:horse@h/horse", ""),
            // What is left of a password that was not percent-encoded.
            ("redis://ann:?horse@h/", "not the URL"),
            ("redis://ann:1?horse=horse&horse=@h/", "not the URL"),
            ("redis+sentinel://ann:/horse@a,b/1", "not the URL"),
            ("redis+sentinel://ann:1?horse@a,b/sessions", "not the URL"),
            ("redis+cluster://ann:1/horse@a,b", "not the URL"),
            ("redis+cluster://ann:1#horse@a,b", "not the URL"),
        ] {
            let text = refused(url);
            assert!(text.contains(says), "{url}: {text}");
        }
        assert!(refused(&format!("redis://h/?prefix={}", "p".repeat(65))).contains("64"));
    }

    #[test]
    fn tls_needs_its_feature() {
        for url in [
            "rediss://:horse@127.0.0.1/",
            "rediss+sentinel://:horse@127.0.0.1/sessions",
            "rediss+cluster://:horse@127.0.0.1,127.0.0.2",
        ] {
            let answer = read(url);
            assert_eq!(answer.is_ok(), cfg!(feature = "tls"), "{:?}", answer.err());
        }
    }
}
