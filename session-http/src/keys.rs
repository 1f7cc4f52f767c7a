//! Secret keys, and their rotation.

use std::{error, fmt, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::Mac;
use zeroize::Zeroizing;

use crate::mac;

/// A secret of 256 bits, from which every purpose derives a key of its own: HKDF-Expand with SHA-256 (RFC 5869, section 2.3).
///
/// Its memory is wiped when it is dropped, and `Debug` shows its [`id`](SecretKey::id) alone. Keep it where the
/// application keeps its other secrets, never in the source.
///
/// ```
/// use session_http::{KeyRing, SecretKey};
///
/// // Once, for the configuration: 43 characters of base64url.
/// let text = SecretKey::generate()?.to_text();
///
/// // The first key writes, all of them read.
/// let (new, old) = (SecretKey::generate()?, SecretKey::from_text(&text)?);
/// let keys = KeyRing::new(new).reading(old)?;
/// # Ok::<(), session_http::SecretKeyError>(())
/// ```
pub struct SecretKey {
    bytes: Zeroizing<[u8; 32]>,
}

/// A key with fewer different bytes is no random one: among 2^60 random keys there is none.
const FEWEST_DIFFERENT_BYTES: usize = 16;

impl SecretKey {
    /// Characters of the text form.
    pub const TEXT_LEN: usize = 43;

    /// A new key from the system's random number generator.
    ///
    /// # Errors
    ///
    /// [`SecretKeyError::Random`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, SecretKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(|_| SecretKeyError::Random)?;
        Self::from_bytes(*bytes)
    }

    /// A key of these bytes, which must be random: a password is no key.
    ///
    /// # Errors
    ///
    /// [`SecretKeyError::Weak`] if fewer than 16 of the 32 bytes differ.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, SecretKeyError> {
        let bytes = Zeroizing::new(bytes);
        let mut sorted = bytes.clone();
        sorted.sort_unstable();
        match sorted.chunk_by(|one, other| one == other).count() {
            0..FEWEST_DIFFERENT_BYTES => Err(SecretKeyError::Weak),
            _ => Ok(Self { bytes }),
        }
    }

    /// A key from its text form: 43 characters of unpadded base64url (RFC 4648, section 5), white space around them or not.
    ///
    /// # Errors
    ///
    /// [`SecretKeyError::Text`]; [`SecretKeyError::Weak`].
    pub fn from_text(text: &str) -> Result<Self, SecretKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        match Base64UrlUnpadded::decode(text.trim(), &mut *bytes) {
            Ok(decoded) if decoded.len() == 32 => Self::from_bytes(*bytes),
            _ => Err(SecretKeyError::Text),
        }
    }

    /// The text form, for the configuration and nobody else. Its memory is wiped when it is dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64UrlUnpadded::encode_string(&*self.bytes))
    }

    /// Tells keys apart: 11 characters, from which the key cannot be found. Not a secret.
    #[must_use]
    pub fn id(&self) -> String {
        Base64UrlUnpadded::encode_string(&self.derive("id")[..8])
    }

    /// The key for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mac = mac::keyed(&self.bytes)
            .chain_update(b"session-http/1\0")
            .chain_update(purpose)
            .chain_update([1]);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

/// Keys in rotation: the first writes, all of them read. Cheap to clone.
///
/// To replace a key: (1) every node reads the new one too, (2) every node writes with it, (3) once all that the old one wrote has
/// expired, it goes. A key that is known to have leaked goes at once, and with it everything that it wrote.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: Vec<Arc<SecretKey>>,
}

impl KeyRing {
    /// Writes and reads with this key.
    #[must_use]
    pub fn new(writes: SecretKey) -> Self {
        Self {
            keys: vec![Arc::new(writes)],
        }
    }

    /// Also reads what this key wrote.
    ///
    /// # Errors
    ///
    /// [`SecretKeyError::Repeated`] if it is there already.
    pub fn reading(mut self, older: SecretKey) -> Result<Self, SecretKeyError> {
        if self.keys.iter().any(|key| key.id() == older.id()) {
            return Err(SecretKeyError::Repeated);
        }
        self.keys.push(Arc::new(older));
        Ok(self)
    }

    /// The keys for one purpose.
    pub(crate) fn derive(&self, purpose: &str) -> Derived {
        Derived {
            keys: self.keys().map(|key| key.derive(purpose)).collect(),
            ids: self.keys().map(SecretKey::id).collect(),
        }
    }

    /// The keys, the one that writes first.
    pub fn keys(&self) -> impl Iterator<Item = &SecretKey> {
        self.keys.iter().map(|key| &**key)
    }
}

/// The keys of a ring for one purpose. Equal are those of rings with the same keys; `Debug` shows the ids.
#[derive(Clone)]
pub(crate) struct Derived {
    /// Never empty.
    keys: Arc<[Zeroizing<[u8; 32]>]>,
    ids: Vec<String>,
}

impl Derived {
    /// The key that writes.
    pub(crate) fn writer(&self) -> &[u8; 32] {
        &self.keys[0]
    }

    /// Whether one of the keys says so.
    pub(crate) fn any(&self, mut verifies: impl FnMut(&[u8; 32]) -> bool) -> bool {
        self.keys.iter().any(|key| verifies(key))
    }
}

impl PartialEq for Derived {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids
    }
}

impl Eq for Derived {}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Derived").field(&self.ids).finish()
    }
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretKeyError {
    /// It is not 43 characters of unpadded base64url.
    Text,
    /// Fewer than 16 of its 32 bytes differ: it was not made at random.
    Weak,
    /// The ring has it already.
    Repeated,
    /// The system has no randomness to give.
    Random,
}

impl fmt::Display for SecretKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a secret key is 43 characters of base64url (A-Z a-z 0-9 - _), without padding",
            Self::Weak => "this secret key was not made at random: fewer than 16 of its 32 bytes differ",
            Self::Repeated => "the key ring has this key already",
            Self::Random => "the system has no randomness to give",
        })
    }
}

impl error::Error for SecretKeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_comes_back_from_its_text_and_shows_none_of_it() {
        let key = SecretKey::generate().unwrap();
        let text = key.to_text();
        assert_eq!(text.len(), SecretKey::TEXT_LEN);
        let again = SecretKey::from_text(&format!(" {}\n", &*text)).unwrap();
        assert_eq!(*again.bytes, *key.bytes);
        assert_eq!(format!("{key:?}"), format!("SecretKey({})", key.id()));
        assert!(!text.contains(&key.id()));
        assert_ne!(*key.derive("one"), *key.derive("other"));
        assert_ne!(*key.derive("one"), *key.bytes);
    }

    #[test]
    fn what_is_no_random_key_is_refused() {
        for text in ["", "password", &"A".repeat(42), &"A".repeat(44), &"=".repeat(43)] {
            assert_eq!(
                SecretKey::from_text(text).unwrap_err(),
                SecretKeyError::Text,
                "{text}"
            );
        }
        assert_eq!(
            SecretKey::from_text(&"A".repeat(43)).unwrap_err(),
            SecretKeyError::Weak
        );
        let different = |count: u8| std::array::from_fn(|at| at as u8 % count);
        assert_eq!(
            SecretKey::from_bytes(different(15)).unwrap_err(),
            SecretKeyError::Weak
        );
        assert!(SecretKey::from_bytes(different(16)).is_ok());
    }

    #[test]
    fn ring_has_each_key_once_and_the_writer_first() {
        let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let again = SecretKey::from_text(&one.to_text()).unwrap();
        let ids = [one.id(), two.id()];
        let ring = KeyRing::new(one).reading(two).unwrap();
        assert_eq!(ring.keys().map(SecretKey::id).collect::<Vec<_>>(), ids);
        assert_eq!(ring.reading(again).unwrap_err(), SecretKeyError::Repeated);
    }
}
