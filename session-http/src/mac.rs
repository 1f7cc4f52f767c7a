//! HMAC-SHA-256 under a key of 256 bits.

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// A MAC to be fed. HMAC fills a key up to its block with zeros (RFC 2104, section 2).
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    Hmac::new(&block)
}
