//! The optional signature of an id in a cookie.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use session_core::SessionId;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyRing, keys::Derived, mac};

/// Characters that a signature adds to the id: a dot, and 256 bits of base64url.
pub(super) const SIGNATURE_LEN: usize = 44;

/// Signs with the first key, verifies with all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer(Derived);

impl Signer {
    pub(super) fn new(ring: &KeyRing) -> Self {
        Self(ring.derive("signed cookie"))
    }

    /// The id and its signature.
    pub(super) fn sign(&self, cookie: &str, id: &str) -> Zeroizing<String> {
        let signature = mac(self.0.writer(), cookie, id.as_bytes())
            .finalize()
            .into_bytes();
        Zeroizing::new(format!("{id}.{}", Base64UrlUnpadded::encode_string(&signature)))
    }

    /// The id, if one of the keys signed it in this cookie. Takes the same time wherever the signature differs.
    pub(super) fn verify<'v>(&self, cookie: &str, value: &'v [u8]) -> Option<&'v [u8]> {
        let (id, rest) = value.split_at_checked(SessionId::TEXT_LEN)?;
        let mut signature = [0; 32];
        let decoded = Base64UrlUnpadded::decode(rest.strip_prefix(b".")?, &mut signature).ok()?;
        let signed = decoded.len() == 32
            && self
                .0
                .any(|key| mac(key, cookie, id).verify_slice(decoded).is_ok());
        signed.then_some(id)
    }
}

/// Names hold no NUL, so no two cookies run together: a signature of one is none in another.
fn mac(key: &[u8; 32], cookie: &str, id: &[u8]) -> Hmac<Sha256> {
    mac::keyed(key)
        .chain_update(cookie)
        .chain_update([0])
        .chain_update(id)
}
