//! Keys that sign, and keys that only verify.

use std::{error, fmt, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};

use crate::SecretKey;

/// How a JWT is signed. One key has one algorithm (RFC 8725, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// Ed25519, which the header calls `EdDSA` (RFC 8037).
    Ed25519,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// HMAC with SHA-256: whoever verifies can sign.
    Hs256,
}

impl JwtAlgorithm {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "EdDSA",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }

    pub(super) const fn of_library(self) -> Algorithm {
        match self {
            Self::Ed25519 => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
            Self::Hs256 => Algorithm::HS256,
        }
    }

    pub(super) const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 | Self::Es256 => 64,
            Self::Hs256 => 32,
        }
    }
}

/// A key of one algorithm under one key id. `Debug` shows both and nothing else.
#[derive(Clone)]
pub struct JwtKey {
    id: String,
    algorithm: JwtAlgorithm,
    signs: Option<EncodingKey>,
    pub(super) verifies: DecodingKey,
}

impl JwtKey {
    /// Signs and verifies with Ed25519: the private key in PKCS#8 and the public one in SPKI, both in PEM (RFC 7468), as
    /// `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
    ///
    /// # Errors
    ///
    /// [`JwtError::Id`]; [`JwtError::Key`], also where the two are no pair.
    pub fn ed25519(id: &str, private_pem: &[u8], public_pem: &[u8]) -> Result<Self, JwtError> {
        Self::ed25519_public(id, public_pem)?.signing(EncodingKey::from_ed_pem(private_pem))
    }

    /// Verifies with Ed25519.
    ///
    /// # Errors
    ///
    /// As [`JwtKey::ed25519`].
    pub fn ed25519_public(id: &str, public_pem: &[u8]) -> Result<Self, JwtError> {
        Self::verifying(id, JwtAlgorithm::Ed25519, DecodingKey::from_ed_pem(public_pem))
    }

    /// Signs and verifies with ECDSA on P-256, keys in PEM as those of [`JwtKey::ed25519`].
    ///
    /// # Errors
    ///
    /// As [`JwtKey::ed25519`].
    pub fn es256(id: &str, private_pem: &[u8], public_pem: &[u8]) -> Result<Self, JwtError> {
        Self::es256_public(id, public_pem)?.signing(EncodingKey::from_ec_pem(private_pem))
    }

    /// Verifies with ECDSA on P-256.
    ///
    /// # Errors
    ///
    /// As [`JwtKey::ed25519`].
    pub fn es256_public(id: &str, public_pem: &[u8]) -> Result<Self, JwtError> {
        let key = DecodingKey::from_ec_pem(public_pem).and_then(|key| match key.try_get_as_bytes()?.len() {
            // A point of P-256, whole or compressed: with one of another curve nothing would verify.
            65 | 33 => Ok(key),
            _ => Err(ErrorKind::InvalidEcdsaKey.into()),
        });
        Self::verifying(id, JwtAlgorithm::Es256, key)
    }

    /// Signs and verifies with HMAC-SHA-256 under a key that is derived from this one, for this application alone.
    #[must_use]
    pub fn hs256(secret: &SecretKey) -> Self {
        let derived = secret.derive("signed token");
        Self {
            id: secret.id(),
            algorithm: JwtAlgorithm::Hs256,
            signs: Some(EncodingKey::from_secret(&*derived)),
            verifies: DecodingKey::from_secret(&*derived),
        }
    }

    /// The id that headers name it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    pub(super) fn signer(&self) -> Option<&EncodingKey> {
        self.signs.as_ref()
    }

    fn verifying(
        id: &str,
        algorithm: JwtAlgorithm,
        key: Result<DecodingKey, jsonwebtoken::errors::Error>,
    ) -> Result<Self, JwtError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(JwtError::Id);
        }
        Ok(Self {
            id: id.to_owned(),
            algorithm,
            signs: None,
            verifies: key.map_err(JwtError::key)?,
        })
    }

    /// The pair, once it is seen to be one.
    fn signing(mut self, key: Result<EncodingKey, jsonwebtoken::errors::Error>) -> Result<Self, JwtError> {
        let key = key.map_err(JwtError::key)?;
        let algorithm = self.algorithm.of_library();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let probe = jsonwebtoken::encode(&Header::new(algorithm), &Probe { nonce: 1 }, &key);
        probe
            .and_then(|probe| jsonwebtoken::decode::<Probe>(probe, &self.verifies, &validation))
            .map_err(JwtError::key)?;
        self.signs = Some(key);
        Ok(self)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Probe {
    nonce: u32,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .field("signs", &self.signs.is_some())
            .finish()
    }
}

/// Why JWTs cannot be made this way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JwtError {
    /// A key's id is not 1 to 64 letters, digits, `-`, `_` and `.`.
    Id,
    /// Two keys have this id.
    Repeated {
        /// The id.
        id: String,
    },
    /// The first key only verifies.
    NotSigning,
    /// The issuer or the audience is empty: tokens of other purposes could not be told from these.
    Unnamed,
    /// A key cannot be read, is of another algorithm, or is no pair with the other.
    Key(Arc<dyn error::Error + Send + Sync>),
}

impl JwtError {
    fn key(source: jsonwebtoken::errors::Error) -> Self {
        Self::Key(Arc::new(source))
    }
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("a key's id is 1 to 64 letters, digits, -, _ and ."),
            Self::Repeated { id } => write!(f, "two keys have the id {id:?}"),
            Self::NotSigning => f.write_str("the first key must sign, and this one only verifies"),
            Self::Unnamed => f.write_str("a token needs the name of its issuer and of its audience"),
            Self::Key(_) => {
                f.write_str("the key cannot be used for this algorithm, or is no pair with the other")
            }
        }
    }
}

impl error::Error for JwtError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Key(source) => Some(&**source),
            _ => None,
        }
    }
}
