//! Stores as URLs.

use std::str::FromStr;

use session_core::{KeyError, Keys};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use url::Url;

use crate::{ConfigError, PostgresStoreBuilder};

/// Connections of a pool that is made for a URL.
const CONNECTIONS: u32 = 10;

/// Keys that the client understands. Others it would ignore, and log with their value.
const CLIENT: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "application_name",
];

const OWN: &[&str] = &[
    "schema",
    "table",
    "max_record",
    "read_ms",
    "write_ms",
    "connect_ms",
    "connections",
    "unlogged",
    "relaxed_touch",
    "migrate",
];

/// What a URL says, and whether the table is to be made.
pub(crate) fn read(text: &str) -> Result<(PostgresStoreBuilder, bool), ConfigError> {
    let mut url = Url::parse(text).map_err(|_| ConfigError::Url)?;
    // An `@` that is left is a part of a password with a `/` or `?` that was not percent-encoded.
    let is_cut = url.path().contains('@') || url.query().is_some_and(|query| query.contains('@'));
    if !matches!(url.scheme(), "postgres" | "postgresql") || url.fragment().is_some() || is_cut {
        return Err(ConfigError::Url);
    }
    let is_known = |name: &str| CLIENT.contains(&name) || OWN.contains(&name);
    let keys = Keys::new(url.query_pairs().into_owned(), is_known)?;
    url.set_query(None);
    for name in CLIENT {
        if let Some(value) = keys.text(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    if url.host_str().is_none_or(str::is_empty) && keys.text("host").is_none() {
        return Err(ConfigError::Url);
    }
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| ConfigError::Url)?;
    if cfg!(not(feature = "tls"))
        && !matches!(
            options.get_ssl_mode(),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
        )
    {
        return Err(ConfigError::Tls);
    }

    let connections = keys.parsed("connections")?.unwrap_or(CONNECTIONS);
    if connections == 0 {
        return Err(KeyError::Value("connections".to_owned()).into());
    }
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .connect_lazy_with(options);
    let mut builder = PostgresStoreBuilder::new(pool);
    if let Some(name) = keys.text("schema") {
        builder = builder.schema(name);
    }
    if let Some(name) = keys.text("table") {
        builder = builder.table(name);
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
    if keys.flag("unlogged")?.unwrap_or(false) {
        builder = builder.unlogged();
    }
    if keys.flag("relaxed_touch")?.unwrap_or(false) {
        builder = builder.relaxed_touch();
    }
    Ok((builder, keys.flag("migrate")?.unwrap_or(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn url_says_everything() {
        let url = "postgresql://ann:se%2Fcret@127.0.0.1:5433/shop?schema=web&table=visits&max_record=1000&read_ms=1\
                   &write_ms=2&connect_ms=3&connections=4&unlogged=yes&relaxed_touch=yes&migrate=no&sslmode=disable";
        let (builder, migrate) = read(url).unwrap();
        assert!(!migrate);
        let told = format!("{builder:?}");
        let text = format!("{told} {:?}", builder.build().unwrap());
        for part in [
            "\\\"web\\\".\\\"visits\\\"",
            "1000",
            "1ms",
            "2ms",
            "3ms",
            "unlogged: true",
            "relaxed_touch: true",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("se/cret") && !text.contains("se%2Fcret"), "{text}");
    }

    #[tokio::test]
    async fn what_is_not_understood_is_an_error_and_shows_no_password() {
        for (url, names) in [
            ("mysql://ann:hunter2@127.0.0.1/shop", "postgres://"),
            ("postgres:", "postgres://"),
            ("postgres:///shop", "postgres://"),
            ("hunter2", "postgres://"),
            ("postgres://ann:x/hunter2@127.0.0.1/shop", "percent-encoded"),
            ("postgres://ann:x?hunter2@127.0.0.1/shop", "percent-encoded"),
            ("postgres://127.0.0.1/shop?colour=x", "\"colour\""),
            ("postgres://127.0.0.1/shop?table=x&table=y", "twice"),
            ("postgres://127.0.0.1/shop?read_ms=soon", "\"read_ms\""),
            ("postgres://127.0.0.1/shop?unlogged=1", "\"unlogged\""),
            ("postgres://127.0.0.1/shop?connections=0", "\"connections\""),
            #[cfg(not(feature = "tls"))]
            ("postgres://127.0.0.1/shop?sslmode=verify-full", "feature `tls`"),
        ] {
            let text = read(url).map(drop).unwrap_err().to_string();
            assert!(text.contains(names) && !text.contains("hunter2"), "{url}: {text}");
        }
        for url in [
            "postgres://127.0.0.1/shop?table=",
            "postgres://127.0.0.1/shop?max_record=0",
            "postgres://127.0.0.1/shop?write_ms=0",
        ] {
            assert!(read(url).unwrap().0.build().is_err(), "{url}");
        }
    }
}
