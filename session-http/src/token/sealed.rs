//! PASETO v4.local.

use std::{fmt, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use pasetors::{
    keys::SymmetricKey,
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use serde::{Deserialize, Serialize};
use session_core::{Bytes, SessionKey, Subject, Timestamp};

use super::{Claims, Refused, WriteError};
use crate::KeyRing;

pub(super) const HEADER: &[u8] = LocalToken::HEADER.as_bytes();

/// The format of what tokens of both kinds hold.
pub(super) const FORMAT: u32 = 1;

/// What the tag covers besides the token: no other application, and no other kind of token, can take it for its own.
const PURPOSE: &[u8] = b"session-http/sealed/1\0";

/// The keys, the one that seals first.
#[derive(Clone)]
pub(super) struct Sealed {
    keys: Arc<[Key]>,
}

struct Key {
    /// In the token's footer.
    id: String,
    key: SymmetricKey<V4>,
}

impl Sealed {
    pub(super) fn new(ring: &KeyRing) -> Self {
        let key = |secret: &crate::SecretKey| {
            let derived = secret.derive("sealed token");
            SymmetricKey::from(&*derived)
                .ok()
                .map(|key| Key { id: secret.id(), key })
        };
        Self {
            keys: ring.keys().filter_map(key).collect(),
        }
    }

    pub(super) fn write(&self, namespace: &str, claims: &Claims) -> Result<String, WriteError> {
        let payload = payload(claims)?;
        let bound = bound(namespace);
        let Key { id, key } = &self.keys[0];
        LocalToken::encrypt(key, &payload, Some(id.as_bytes()), Some(&bound))
            .map_err(|_| WriteError::Crypto("the token could not be sealed"))
    }

    /// Characters of the token with these claims.
    pub(super) fn len(&self, claims: &Claims) -> usize {
        /// The nonce and the tag.
        const CRYPTO: usize = 64;
        let payload = payload(claims).map_or(0, |payload| payload.len());
        let footer = self.keys[0].id.len();
        HEADER.len() + unpadded(CRYPTO + payload) + 1 + unpadded(footer)
    }

    /// The footer names the key; until the tag has verified it is only a name, and what it names alone is tried.
    pub(super) fn read(&self, namespace: &str, text: &str) -> Result<Claims, Refused> {
        let token = UntrustedToken::try_from(text).map_err(|_| Refused::Malformed)?;
        let footer = token.untrusted_footer();
        let named = self.keys.iter().find(|key| key.id.as_bytes() == footer);
        let Key { id, key } = named.ok_or(Refused::UnknownKey)?;
        let bound = bound(namespace);
        let opened = LocalToken::decrypt(key, &token, Some(id.as_bytes()), Some(&bound))
            .map_err(|_| Refused::Forged)?;
        claims(opened.payload())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| &key.id).collect();
        f.debug_struct("Sealed").field("keys", &ids).finish()
    }
}

/// PASETO's payload is a JSON object. The names are short because browsers keep 4,096 bytes; none is a registered claim.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// The format.
    v: u32,
    /// The session's key.
    k: String,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    /// The subject's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    /// Issued at, in milliseconds.
    i: u64,
    /// Expires at, in milliseconds.
    x: u64,
    /// The session's absolute end, in milliseconds.
    a: u64,
    /// The record's data.
    d: String,
}

/// What every format of the payload has.
#[derive(Deserialize)]
struct AnyFormat {
    v: u32,
}

fn payload(claims: &Claims) -> Result<Vec<u8>, WriteError> {
    let payload = Payload {
        v: FORMAT,
        k: encode(claims.key.as_bytes()),
        s: claims.subject.as_ref().map(|subject| subject.as_str().to_owned()),
        e: claims.epoch.as_ref().map(|epoch| encode(epoch)),
        i: claims.issued_at.as_millis(),
        x: claims.expires_at.as_millis(),
        a: claims.deadline.as_millis(),
        d: encode(&claims.data),
    };
    serde_json::to_vec(&payload).map_err(|_| WriteError::Parts("the payload is no JSON"))
}

fn claims(payload: &str) -> Result<Claims, Refused> {
    let any: AnyFormat = serde_json::from_str(payload).map_err(|_| Refused::Malformed)?;
    check_format(any.v)?;
    let payload: Payload = serde_json::from_str(payload).map_err(|_| Refused::Malformed)?;
    let subject = payload.s.map(|subject| Subject::new(&*subject)).transpose();
    Ok(Claims {
        key: SessionKey::from_bytes(decode_array(&payload.k)?),
        subject: subject.map_err(|_| Refused::Malformed)?,
        epoch: payload.e.as_deref().map(decode_array).transpose()?,
        issued_at: Timestamp::from_millis(payload.i),
        expires_at: Timestamp::from_millis(payload.x),
        deadline: Timestamp::from_millis(payload.a),
        data: decode(&payload.d)?,
    })
}

/// # Errors
///
/// [`Refused::NewerFormat`], or [`Refused::Malformed`] for a format that never was.
pub(super) const fn check_format(format: u32) -> Result<(), Refused> {
    match format {
        FORMAT => Ok(()),
        0 => Err(Refused::Malformed),
        _ => Err(Refused::NewerFormat),
    }
}

/// PASETO's implicit assertion. The purpose ends in a NUL and the rest is the namespace: no two run together.
fn bound(namespace: &str) -> Vec<u8> {
    [PURPOSE, namespace.as_bytes()].concat()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn decode(text: &str) -> Result<Bytes, Refused> {
    let bytes = Base64UrlUnpadded::decode_vec(text).map_err(|_| Refused::Malformed)?;
    Ok(bytes.into())
}

pub(super) fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    match Base64UrlUnpadded::decode(text, &mut bytes) {
        Ok(decoded) if decoded.len() == N => Ok(bytes),
        _ => Err(Refused::Malformed),
    }
}

/// Characters of so many bytes in unpadded base64.
pub(super) const fn unpadded(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn sealed(payload: &str) -> Result<Claims, Refused> {
        let sealed = Sealed::new(&KeyRing::new(SecretKey::generate().unwrap()));
        let Key { id, key } = &sealed.keys[0];
        let token = LocalToken::encrypt(key, payload.as_bytes(), Some(id.as_bytes()), Some(&bound("n")));
        sealed.read("n", &token.unwrap())
    }

    /// Written by this version's first release: it is read for ever.
    #[test]
    fn payload_of_format_1_is_read() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
        let payload = format!(
            r#"{{"v":1,"k":"{key}","s":"zoe","e":"AgICAgICAgICAgICAgICAg","i":1000,"x":61000,"a":90000,"d":"AQI"}}"#
        );
        let claims = sealed(&payload).unwrap();
        assert_eq!(claims.key.as_bytes(), &[1; 32]);
        assert_eq!(claims.subject.unwrap().as_str(), "zoe");
        assert_eq!(claims.epoch, Some([2; 16]));
        assert_eq!(
            (claims.issued_at.as_millis(), claims.expires_at.as_millis()),
            (1_000, 61_000)
        );
        assert_eq!(claims.deadline.as_millis(), 90_000);
        assert_eq!(&claims.data[..], [1, 2]);
    }

    #[test]
    fn other_payloads_are_told_apart() {
        assert_eq!(sealed(r#"{"v":2,"new":true}"#).unwrap_err(), Refused::NewerFormat);
        for payload in ["{}", r#"{"v":0}"#, r#"{"v":1}"#, r#"{"v":1,"v":1}"#, "[]", "x"] {
            assert_eq!(sealed(payload).unwrap_err(), Refused::Malformed, "{payload}");
        }
    }

    /// Its length is known before it is sealed.
    #[test]
    fn length_is_foretold() {
        let sealed = Sealed::new(&KeyRing::new(SecretKey::generate().unwrap()));
        for data in 0..200 {
            let claims = Claims::largest(data);
            assert_eq!(sealed.write("n", &claims).unwrap().len(), sealed.len(&claims));
        }
    }
}
