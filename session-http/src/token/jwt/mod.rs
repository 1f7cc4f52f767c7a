//! JWTs: JWS in its compact form, as RFC 8725 asks for it.

mod claims;
mod key;

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::{Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use session_core::{Codec, JsonCodec, Sessions};

use self::claims::{AnyFormat, JwtClaims};
pub use self::key::{JwtAlgorithm, JwtError, JwtKey};
use super::{Claims, Refused, WriteError, sealed::unpadded};
use crate::ManagerError;

/// The type in the header: no other kind of token that the same keys sign passes for one (RFC 8725, section 3.11).
const TYPE: &str = "session+jwt";

/// Who signs sessions, for whom, and with which keys.
///
/// ```
/// use session_http::{Jwt, JwtKey, KeyRing, SecretKey, Tokens};
///
/// let key = JwtKey::hs256(&SecretKey::generate().unwrap());
/// let tokens = Tokens::jwt(Jwt::new("https://shop.example", "shop", key)?);
/// # Ok::<(), session_http::JwtError>(())
/// ```
///
/// The claims, for other services that read them: `iss`, `aud`, `sub` (the subject), `iat`, `nbf`, `exp`, `jti` (the session's
/// key, which is no secret), `auth_time` (the last log-in, as OpenID Connect names it), `session` (what this crate
/// needs to go on with it), `attributes` (the session's attributes by name). Times of the registered claims are whole
/// seconds. **Everybody who holds the token reads all of it**; they check it for log-out only if they ask the store.
#[derive(Clone)]
#[must_use]
pub struct Jwt {
    issuer: String,
    audience: String,
    /// The one that signs is the first.
    keys: Vec<JwtKey>,
}

impl Jwt {
    /// Signed by `issuer` with this key, for `audience`: tokens with other names are refused.
    ///
    /// # Errors
    ///
    /// [`JwtError::NotSigning`]; [`JwtError::Unnamed`].
    pub fn new(issuer: &str, audience: &str, signs: JwtKey) -> Result<Self, JwtError> {
        if signs.signer().is_none() {
            return Err(JwtError::NotSigning);
        }
        if issuer.is_empty() || audience.is_empty() {
            return Err(JwtError::Unnamed);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            keys: vec![signs],
        })
    }

    /// Also takes what this key signed, of whatever algorithm.
    ///
    /// # Errors
    ///
    /// [`JwtError::Repeated`].
    pub fn reading(mut self, older: JwtKey) -> Result<Self, JwtError> {
        if self.keys.iter().any(|key| key.id() == older.id()) {
            return Err(JwtError::Repeated {
                id: older.id().to_owned(),
            });
        }
        self.keys.push(older);
        Ok(self)
    }

    pub(super) fn write(&self, namespace: &str, claims: &Claims) -> Result<String, WriteError> {
        let claims = JwtClaims::new(&self.issuer, &self.audience, namespace, claims)?;
        let key = &self.keys[0];
        let signer = key
            .signer()
            .ok_or(WriteError::Crypto("the first key does not sign"))?;
        let mut header = Header::new(key.algorithm().of_library());
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.id().to_owned());
        jsonwebtoken::encode(&header, &claims, signer)
            .map_err(|_| WriteError::Crypto("the token could not be signed"))
    }

    /// Characters of the token with these claims; 0 if there is none.
    pub(super) fn len(&self, namespace: &str, claims: &Claims) -> usize {
        let header = JwtHeader {
            typ: TYPE.to_owned(),
            alg: self.keys[0].algorithm().name().to_owned(),
            kid: self.keys[0].id().to_owned(),
        };
        let len = |json: Result<Vec<u8>, _>| unpadded(json.map_or(0, |json| json.len()));
        let claims = JwtClaims::largest(&self.issuer, &self.audience, namespace, claims);
        let signature = self.keys[0].algorithm().signature_len();
        len(serde_json::to_vec(&header)) + 1 + len(serde_json::to_vec(&claims)) + 1 + unpadded(signature)
    }

    /// The header is believed in nothing but the choice among our own keys.
    pub(super) fn read(&self, namespace: &str, text: &str) -> Result<Claims, Refused> {
        let header = JwtHeader::read(text)?;
        let key = self.keys.iter().find(|key| key.id() == header.kid);
        let key = key.ok_or(Refused::UnknownKey)?;
        if header.alg != key.algorithm().name() {
            return Err(Refused::Algorithm);
        }
        if header.typ != TYPE {
            return Err(Refused::Purpose);
        }
        let mut validation = Validation::new(key.algorithm().of_library());
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
        // By our own clock, and for both ends: see `Claims::check_time`.
        validation.validate_exp = false;
        let claims = match jsonwebtoken::decode::<JwtClaims>(text, &key.verifies, &validation) {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => Refused::Audience,
                    // The signature has been verified before.
                    ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) => {
                        match jsonwebtoken::decode::<AnyFormat>(text, &key.verifies, &validation) {
                            Ok(any) if any.claims.is_newer() => Refused::NewerFormat,
                            _ => Refused::Malformed,
                        }
                    }
                    _ => Refused::Forged,
                });
            }
        };
        claims.into_claims(namespace)
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys)
            .finish()
    }
}

/// A header with anything else in it (`crit`, `jku`, `jwk`, `x5u`, `zip` …) asks for something that is not done here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtHeader {
    typ: String,
    alg: String,
    kid: String,
}

impl JwtHeader {
    fn read(token: &str) -> Result<Self, Refused> {
        let (header, _) = token.split_once('.').ok_or(Refused::Malformed)?;
        let json = Base64UrlUnpadded::decode_vec(header).map_err(|_| Refused::Malformed)?;
        serde_json::from_slice(&json).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Refused::Purpose,
            _ => Refused::Malformed,
        })
    }
}

/// The attributes are JSON in JSON.
pub(super) fn check_codec(sessions: &Sessions) -> Result<(), ManagerError> {
    match sessions.codec_tag() == JsonCodec.tag() {
        true => Ok(()),
        false => Err(ManagerError::CodecNotJson),
    }
}
