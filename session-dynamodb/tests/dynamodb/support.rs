//! Clients, and items as they are in JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use session_core::{Record, SessionId, SessionKey, Version, head};
use session_dynamodb::aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
};

pub(crate) const SECRET: &str = "hunter2-secret";
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) fn client(endpoint: &str) -> Client {
    client_of("eu-central-1", "AKIDTEST", SECRET, Some(endpoint))
}

pub(crate) fn client_of(region: &str, key: &str, secret: &str, endpoint: Option<&str>) -> Client {
    let credentials = Credentials::builder()
        .access_key_id(key)
        .secret_access_key(secret)
        .provider_name("test")
        .build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials);
    config.set_endpoint_url(endpoint.map(str::to_owned));
    Client::from_conf(config.build())
}

pub(crate) fn key() -> SessionKey {
    SessionId::random().unwrap().key("test")
}

pub(crate) fn millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// `{"B": "…"}`
pub(crate) fn binary(bytes: &[u8]) -> Value {
    json!({ "B": base64(bytes) })
}

pub(crate) fn number(number: u64) -> Value {
    json!({ "N": number.to_string() })
}

/// The item of a record that lives for an hour.
pub(crate) fn item(key: &SessionKey, version: Version, record: &Record) -> Value {
    let sealed = head::seal("test", key, version, record).unwrap();
    with_value(key, &binary(&sealed), sealed.len())
}

/// The item of a value as it was sent.
pub(crate) fn with_value(key: &SessionKey, sealed: &Value, len: usize) -> Value {
    json!({
        "pk": binary(key.as_bytes()),
        "sk": binary(b"-"),
        "sealed": sealed,
        "len": number(len as u64),
        "expires": number(millis() + 3_600_000),
        "ttl": number(millis() / 1000 + 7_200),
    })
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, at| {
            group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
