//! Stores as URLs.

use session_core::{KeyError, Keys};
use url::form_urlencoded;

use crate::{ConfigError, SqliteStoreBuilder, Synchronous};

const KEYS: &[&str] = &[
    "max_record",
    "max_size",
    "read_ms",
    "write_ms",
    "connect_ms",
    "synchronous",
];

/// What a URL says.
pub(crate) fn read(text: &str) -> Result<SqliteStoreBuilder, ConfigError> {
    let rest = text.strip_prefix("sqlite:").ok_or(ConfigError::Url)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // `sqlite://a` is `sqlite:a`, and `sqlite:///a` is `sqlite:/a`, as for sqlx.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains('#') || query.contains('#') {
        return Err(ConfigError::Url);
    }
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
    let keys = Keys::new(pairs, |name| KEYS.contains(&name))?;
    let mut builder = SqliteStoreBuilder::new(path.into());
    if let Some(bytes) = keys.parsed("max_record")? {
        builder = builder.max_record(bytes);
    }
    if let Some(bytes) = keys.parsed("max_size")? {
        builder = builder.max_size(bytes);
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
    match keys.text("synchronous") {
        None => {}
        Some("full") => builder = builder.synchronous(Synchronous::Full),
        Some("normal") => builder = builder.synchronous(Synchronous::Normal),
        Some(_) => return Err(KeyError::Value("synchronous".to_owned()).into()),
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_says_everything() {
        let url = "sqlite:///srv/shop/s.db?max_record=1000&max_size=5000&read_ms=1&write_ms=2&connect_ms=3&synchronous=normal";
        let told = format!("{:?}", read(url).unwrap());
        for part in [
            "\"/srv/shop/s.db\"",
            "1000",
            "5000",
            "1ms",
            "2ms",
            "3ms",
            "Normal",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        for url in ["sqlite:s.db", "sqlite://s.db"] {
            assert!(
                format!("{:?}", read(url).unwrap()).contains("path: \"s.db\""),
                "{url}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (url, names) in [
            ("s.db", "sqlite:PATH"),
            ("postgres://127.0.0.1/shop", "sqlite:PATH"),
            ("sqlite:s.db#x", "sqlite:PATH"),
            ("sqlite:s.db?mode=ro", "\"mode\""),
            ("sqlite:s.db?read_ms=1&read_ms=2", "twice"),
            ("sqlite:s.db?read_ms=soon", "\"read_ms\""),
            ("sqlite:s.db?synchronous=off", "\"synchronous\""),
        ] {
            let text = read(url).map(drop).unwrap_err().to_string();
            assert!(text.contains(names), "{url}: {text}");
        }
        for url in [
            "sqlite:",
            "sqlite::memory:",
            "sqlite:s.db?max_record=0",
            "sqlite:s.db?write_ms=0",
        ] {
            assert!(read(url).unwrap().build().is_err(), "{url}");
        }
    }
}
