//! Stores as URLs.

use session_core::Keys;
use url::Url;

use crate::{ConfigError, MemcachedStoreBuilder, Servers};

const KEYS: &[&str] = &["prefix", "max_record", "read_ms", "write_ms", "connect_ms"];

/// What a URL says.
pub(crate) fn read(text: &str) -> Result<MemcachedStoreBuilder, ConfigError> {
    let rest = text.strip_prefix("memcached://").ok_or(ConfigError::Url)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (hosts, tail) = rest.split_at(end);
    // A password whose `/` or `?` was not percent-encoded would be shown as a key.
    if rest.contains('@') {
        return Err(ConfigError::Credentials);
    }
    // No URL has several hosts: the rest is read without them.
    let url = Url::parse(&format!("memcached://h{tail}")).map_err(|_| ConfigError::Url)?;
    if url.fragment().is_some() || !matches!(url.path(), "" | "/") || hosts.is_empty() {
        return Err(ConfigError::Url);
    }
    let keys = Keys::new(url.query_pairs().into_owned(), |name| KEYS.contains(&name))?;
    let mut builder = MemcachedStoreBuilder::new(Servers::new(hosts.split(',')));
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
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_read_whole() {
        let url = "memcached://cache1,cache2:11212,[::1]:11213/?prefix=shop:&max_record=1000&read_ms=1&write_ms=2&connect_ms=3";
        let told = format!("{:?}", read(url).unwrap());
        for part in [
            "[\"cache1:11211\", \"cache2:11212\", \"[::1]:11213\"]",
            "\"shop:\"",
            "Some(1000)",
            "read_deadline: 1ms",
            "write_deadline: 2ms",
            "connect_deadline: 3ms",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(read("memcached://127.0.0.1").unwrap().build().is_ok());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (url, says) in [
            ("", "memcached://HOST"),
            ("redis://h", "memcached://HOST"),
            ("memcached:h", "memcached://HOST"),
            ("memcached://", "memcached://HOST"),
            ("memcached:///?prefix=a", "memcached://HOST"),
            ("memcached://h/shop", "memcached://HOST"),
            ("memcached://h/#x", "memcached://HOST"),
            ("memcached://ann:horse@h/", "neither users nor passwords"),
            ("memcached://ann:?horse@h/", "neither users nor passwords"),
            ("memcached://h,/", "address"),
            ("memcached://h:port/", "address"),
            ("memcached://h,h:11211/", "twice"),
            ("memcached://h/?colour=red", "\"colour\""),
            ("memcached://h/?prefix=a&prefix=b", "twice"),
            ("memcached://h/?read_ms=soon", "\"read_ms\""),
            ("memcached://h/?write_ms=0", "deadline of zero"),
            ("memcached://h/?max_record=0", "largest record"),
            ("memcached://h/?max_record=67108865", "largest record"),
            ("memcached://h/?prefix=", "prefix"),
            ("memcached://h/?prefix=a%20b", "prefix"),
            ("memcached://h/?prefix=a%0d%0ab", "prefix"),
            ("memcached://h/?prefix=%00", "prefix"),
            ("memcached://h/?prefix=%7f", "prefix"),
        ] {
            let error = match read(url) {
                Ok(builder) => builder.build().map(drop).expect_err(url),
                Err(error) => error,
            };
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains("horse"), "{url}: {text}");
        }
        let long = format!("memcached://h/?prefix={}", "p".repeat(65));
        assert!(read(&long).unwrap().build().is_err());
    }
}
