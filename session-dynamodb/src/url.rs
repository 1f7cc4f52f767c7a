//! Stores as URLs.

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
};
use session_core::{KeyError, Keys};
use url::{Url, form_urlencoded};

use crate::{ConfigError, DynamoDbStoreBuilder};

const KEYS: &[&str] = &[
    "endpoint",
    "max_record",
    "read_ms",
    "write_ms",
    "connect_ms",
    "create",
];

/// What a URL says, and whether the table is to be made.
pub(crate) fn read(text: &str) -> Result<(DynamoDbStoreBuilder, bool), ConfigError> {
    let url = Url::parse(text).map_err(|_| ConfigError::Url)?;
    // An `@` that is left is a part of a secret with a `/` or `?` that was not percent-encoded.
    let is_cut = url.path().contains('@') || url.query().is_some_and(|query| query.contains('@'));
    if url.scheme() != "dynamodb" || url.fragment().is_some() || url.port().is_some() || is_cut {
        return Err(ConfigError::Url);
    }
    let region = url.host_str().filter(|region| is_region(region));
    let region = region.ok_or(ConfigError::Url)?.to_owned();
    let table = url.path().strip_prefix('/').unwrap_or_default();
    let keys = Keys::new(url.query_pairs().into_owned(), |name| KEYS.contains(&name))?;
    let (key, secret) = (decoded(url.username()), url.password().map(decoded));
    let secret = secret.filter(|secret| !secret.is_empty() && !key.is_empty());
    let credentials = Credentials::builder()
        .access_key_id(key)
        .secret_access_key(secret.ok_or(ConfigError::Credentials)?)
        .provider_name("url")
        .build();

    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(credentials);
    if let Some(endpoint) = keys.text("endpoint") {
        config = config.endpoint_url(checked(endpoint)?);
    }
    let client = Client::from_conf(config.build());
    let mut builder = DynamoDbStoreBuilder::new(client, table.to_owned());
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
    Ok((builder, keys.flag("create")?.unwrap_or(false)))
}

/// It becomes a part of a host's name.
fn is_region(text: &str) -> bool {
    let of_region = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    !text.is_empty() && text.chars().all(of_region)
}

/// The address of a server, and nothing after it.
fn checked(endpoint: &str) -> Result<&str, KeyError> {
    let wrong = || KeyError::Value("endpoint".to_owned());
    let url = Url::parse(endpoint).map_err(|_| wrong())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(endpoint).ok_or_else(wrong)
}

/// Percent-decoded.
fn decoded(text: &str) -> String {
    // As the name of a form's value, in which these three mean something.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_says_everything() {
        let url = "dynamodb://AKID:se%2Fcret@eu-west-1/shop.visits?endpoint=http://127.0.0.1:8000&max_record=1000&read_ms=1\
                   &write_ms=2&connect_ms=3&create=yes";
        let (builder, creates) = read(url).unwrap();
        assert!(creates);
        let told = format!("{builder:?}");
        let text = format!("{told} {:?}", builder.build().unwrap());
        for part in ["eu-west-1", "shop.visits", "1000", "1ms", "2ms", "3ms"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("se/cret") && !text.contains("se%2Fcret"), "{text}");
        assert_eq!(decoded("a%2Fb+c=d&e%26"), "a/b+c=d&e&");
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_shows_no_secret() {
        for (url, names) in [
            ("redis://AKID:hunter2@eu-west-1/shop", "dynamodb://"),
            ("dynamodb:", "dynamodb://"),
            ("hunter2", "dynamodb://"),
            ("dynamodb://AKID:hunter2@eu-west-1:80/shop", "dynamodb://"),
            ("dynamodb://AKID:hunter2@EU/shop", "dynamodb://"),
            ("dynamodb://AKID:x/hunter2@eu-west-1/shop", "percent-encoded"),
            ("dynamodb://AKID:x?hunter2@eu-west-1/shop", "percent-encoded"),
            ("dynamodb://eu-west-1/shop", "aws-config"),
            ("dynamodb://AKID@eu-west-1/shop", "aws-config"),
            ("dynamodb://AKID:hunter2@eu-west-1/shop?colour=x", "\"colour\""),
            (
                "dynamodb://AKID:hunter2@eu-west-1/shop?read_ms=1&read_ms=1",
                "twice",
            ),
            (
                "dynamodb://AKID:hunter2@eu-west-1/shop?read_ms=soon",
                "\"read_ms\"",
            ),
            ("dynamodb://AKID:hunter2@eu-west-1/shop?create=1", "\"create\""),
            (
                "dynamodb://AKID:hunter2@eu-west-1/shop?endpoint=127.0.0.1:80",
                "\"endpoint\"",
            ),
            (
                "dynamodb://AKID:hunter2@eu-west-1/shop?endpoint=http://h/p",
                "\"endpoint\"",
            ),
        ] {
            let text = read(url).map(drop).unwrap_err().to_string();
            assert!(text.contains(names) && !text.contains("hunter2"), "{url}: {text}");
        }
        for end in [
            "",
            "a",
            "a%20b",
            "shop?max_record=0",
            "shop?max_record=409089",
            "shop?write_ms=0",
        ] {
            let url = format!("dynamodb://AKID:secret@eu-west-1/{end}");
            assert!(read(&url).unwrap().0.build().is_err(), "{url}");
        }
    }
}
