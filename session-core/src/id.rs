//! The secret that the client holds, and the key that everybody else sees.

use std::{fmt, str::FromStr};

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// The secret that names a session to its client: 256 bits from the system's random number generator.
///
/// It is never stored and never logged: stores know the [`SessionKey`] that is derived from it, and `Debug` shows
/// nothing of it. There is no equality on purpose: ids are compared through their keys, so no comparison's time
/// tells how long a common prefix is (CVE-2019-16782). Its memory is wiped when it is dropped.
///
/// The text form is 43 characters of unpadded base64url (RFC 4648, section 5), and exactly one text stands for one id.
#[derive(Clone)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// Characters in the text form.
    pub const TEXT_LEN: usize = 43;

    /// A new id from the system's random number generator.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the system has no randomness to give. There is no weaker fallback.
    pub fn random() -> Result<Self, RandomError> {
        let mut id = Self([0; 32]);
        getrandom::fill(&mut id.0).map_err(RandomError::from)?;
        Ok(id)
    }

    /// The text form, for the client and nobody else. Its memory is wiped when it is dropped.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64UrlUnpadded::encode_string(&self.0))
    }

    /// The key under which a store keeps this session in `namespace`:
    /// `SHA-256("session-key/1\0" ‖ u32le(length of namespace) ‖ namespace ‖ id)`.
    ///
    /// The same id in another namespace is another key, so a cookie of one site is nothing on another.
    #[must_use]
    pub fn key(&self, namespace: &str) -> SessionKey {
        let mut hash = Sha256::new();
        hash.update(b"session-key/1\0");
        // A namespace of 4 GiB does not exist; saturating keeps the function total.
        hash.update(u32::try_from(namespace.len()).unwrap_or(u32::MAX).to_le_bytes());
        hash.update(namespace.as_bytes());
        hash.update(self.0);
        SessionKey(hash.finalize().into())
    }
}

impl FromStr for SessionId {
    type Err = InvalidId;

    /// Length and alphabet are checked here, before any store is asked.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != Self::TEXT_LEN {
            return Err(InvalidId);
        }
        let mut id = Self([0; 32]);
        match Base64UrlUnpadded::decode(text, &mut id.0) {
            Ok(bytes) if bytes.len() == 32 => Ok(id),
            _ => Err(InvalidId),
        }
    }
}

impl Drop for SessionId {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(redacted)")
    }
}

/// What stores, logs and lists see of a session: a digest from which the id cannot be found. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The 32 bytes, as a store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key read back from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SessionKey {
    /// 43 characters of unpadded base64url.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; SessionId::TEXT_LEN];
        f.write_str(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

/// The text is no session id: another length than 43, or a character outside base64url. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a session id: 43 characters of unpadded base64url are expected")
    }
}

impl std::error::Error for InvalidId {}

/// The system's random number generator failed. The request must fail too: there is no weaker fallback.
#[derive(Debug, Clone)]
pub struct RandomError {
    source: getrandom::Error,
}

impl From<getrandom::Error> for RandomError {
    fn from(source: getrandom::Error) -> Self {
        Self { source }
    }
}

impl fmt::Display for RandomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system's random number generator failed")
    }
}

impl std::error::Error for RandomError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made with another implementation: `printf 'session-key/1\0\4\0\0\0shop' ; head -c32 /dev/zero` through `sha256sum`.
    #[test]
    fn key_matches_the_golden_vector() {
        let id: SessionId = "A".repeat(43).parse().unwrap();
        let hex: String = id
            .key("shop")
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN);
    }
    const GOLDEN: &str = "4a21b95e986b941fa5412a0069b215f343439b214f1e4b3686ba17c00f0a8797";

    #[test]
    fn debug_shows_nothing() {
        let id = SessionId::random().unwrap();
        let text = id.expose();
        assert_eq!(format!("{id:?}"), "SessionId(redacted)");
        assert!(!format!("{:?}", id.key("a")).contains(text.as_str()));
    }

    #[test]
    fn namespaces_separate_keys_and_cannot_be_shifted() {
        let id = SessionId::random().unwrap();
        assert_ne!(id.key("a"), id.key("b"));
        assert_ne!(id.key(""), id.key("\0"));
        assert_eq!(id.key("a"), id.key("a"));
    }

    #[test]
    fn other_lengths_and_alphabets_are_refused() {
        let good = "A".repeat(43);
        assert!(good.parse::<SessionId>().is_ok());
        // The last character carries 4 bits of the id: "B" would set bits that are not there.
        let bad = [
            String::new(),
            "A".repeat(42),
            "A".repeat(44),
            format!("{}=", "A".repeat(42)),
            format!("{}+", "A".repeat(42)),
            format!("{}/", "A".repeat(42)),
            format!("{}B", "A".repeat(42)),
            format!("{}\0", "A".repeat(42)),
            format!(" {}", "A".repeat(42)),
            "../../../../../../../../../../etc/passwd\0aa".to_owned(),
            "%2e%2e%2f".repeat(5)[..43].to_owned(),
            "é".repeat(21) + "a",
            "A".repeat(10_000_000),
        ];
        for text in bad {
            assert!(
                text.parse::<SessionId>().is_err(),
                "{:?}",
                &text[..text.len().min(60)]
            );
        }
    }

    /// 256 bits, each as often set as clear (RUSTSEC-2024-0343 was an alphabet that lost some).
    #[test]
    fn random_ids_use_every_bit() {
        const IDS: u32 = 20_000;
        let mut set = [0_u32; 256];
        for _ in 0..IDS {
            let id = SessionId::random().unwrap();
            for (bit, count) in set.iter_mut().enumerate() {
                *count += u32::from(id.0[bit / 8] >> (bit % 8) & 1);
            }
        }
        // Six standard deviations of a fair coin are 424 of 20,000: a false alarm in 5·10^5 years of daily runs.
        for (bit, count) in set.into_iter().enumerate() {
            assert!(
                count.abs_diff(IDS / 2) < 430,
                "bit {bit} was set {count} times of {IDS}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 32]) {
            let id = SessionId(bytes);
            let again: SessionId = id.expose().parse().unwrap();
            prop_assert_eq!(again.0, bytes);
        }

        #[test]
        fn one_text_stands_for_one_id(text in "[A-Za-z0-9_-]{43}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert_eq!(&**id.expose(), text.as_str());
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in ".{0,60}") {
            let _ = text.parse::<SessionId>();
        }
    }
}
