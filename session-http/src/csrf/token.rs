//! The token: bound to a session and its last log-in, and another text each time.

use std::{fmt, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use session_core::{SessionError, Timestamp};
use sha2::Sha256;

use super::{CsrfError, Settings};
use crate::{Error, Session, layer::to_its_end, mac};

/// The attribute that holds the secret of a session's tokens. Its value is for nobody's eyes; a page that lists
/// attributes leaves it out.
pub const CSRF_ATTRIBUTE: &str = "session-http.csrf";

/// A token for the forms and scripts of one page: [`Session::csrf_token`] makes it. `Display` is its text.
///
/// Its text is 64 characters of base64url: 16 random bytes, and the HMAC-SHA-256 of them and of the time of the last
/// log-in under a secret that the session keeps. So
///
/// - it differs in every response, and a compressed page does not give it away (BREACH);
/// - it is worth nothing in another session (CVE-2023-45128), nor after a log-in;
/// - it stays good when the id is renewed periodically, for as long as the session lives.
///
/// It may be sent any number of times, from any number of tabs.
#[derive(Clone)]
pub struct CsrfToken {
    text: String,
    settings: Arc<Settings>,
}

impl CsrfToken {
    /// The text, for the form's field or the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the form's field that carries it.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.settings.field
    }

    /// The field in HTML: `<input type="hidden" name="csrf_token" value="…">`. Nothing in it needs escaping.
    #[must_use]
    pub fn hidden_field(&self) -> String {
        format!(
            "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
            self.field(),
            self.text
        )
    }
}

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Without its text.
impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken")
    }
}

/// What a [`CsrfLayer`](crate::CsrfLayer) asks for, made and checked. Both need that layer around the route.
impl Session {
    /// A token for the forms and scripts of the page that is being made; `None` where the layer asks this session for
    /// none ([`RequireToken`](crate::RequireToken)). Ask for it after a log-in or log-out of the same request.
    ///
    /// The first token of a session makes its secret and **commits it at once**, with whatever the request has changed
    /// until then: of several requests that make one at the same time, one wins, and every page must show a token of
    /// the winner's. That is one write in the life of a session; later tokens cost nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Session`] if the session cannot be loaded or the secret not be kept. The page must not be sent.
    /// - [`CsrfError::LayerMissing`].
    pub async fn csrf_token(&self) -> Result<Option<CsrfToken>, Error> {
        let settings = self.csrf_settings()?;
        if !self.has_tokens(settings).await? {
            return Ok(None);
        }
        let secret = match self.get(CSRF_ATTRIBUTE).await? {
            Some(secret) => secret,
            None => self.agreed_secret().await?,
        };
        let nonce = random()?;
        let mut token = [0; NONCE_LEN + MAC_LEN];
        token[..NONCE_LEN].copy_from_slice(&nonce);
        let mac = mac(&secret, &nonce, self.authenticated_at().await?);
        token[NONCE_LEN..].copy_from_slice(&mac.finalize().into_bytes());
        Ok(Some(CsrfToken {
            text: Base64UrlUnpadded::encode_string(&token),
            settings: Arc::clone(settings),
        }))
    }

    /// For a handler that reads the token itself, from a multipart form, say, on a route whose layer
    /// [leaves it to the handler](crate::CsrfLayer::token_left_to_handler). Call it before anything is done.
    ///
    /// # Errors
    ///
    /// - [`CsrfError::TokenMissing`] if it is `None` though the layer asks this session for one.
    /// - [`CsrfError::TokenWrong`] if it is not one of this session since its last log-in.
    /// - [`Error::Session`] if the session cannot be loaded, and [`CsrfError::LayerMissing`].
    pub async fn check_csrf(&self, token: Option<&str>) -> Result<(), Error> {
        if !self.must_send_token().await? {
            return Ok(());
        }
        let token = token.ok_or(CsrfError::TokenMissing)?;
        let secret: Secret = self.get(CSRF_ATTRIBUTE).await?.ok_or(CsrfError::TokenWrong)?;
        let (nonce, tag) = decode(token).ok_or(CsrfError::TokenWrong)?;
        // Takes the same time wherever the first difference is.
        let verified = mac(&secret, &nonce, self.authenticated_at().await?).verify(&tag.into());
        verified.map_err(|_| CsrfError::TokenWrong.into())
    }

    /// Whether a request that would change something must carry a token. Without the store nobody can tell, and no
    /// route may take the request for a guest's.
    pub(super) async fn must_send_token(&self) -> Result<bool, Error> {
        let settings = self.csrf_settings()?;
        let must = self.has_tokens(settings).await?;
        if self.is_degraded() {
            // A route that tolerates an outage. Whatever would change the session is the store's own error.
            self.renew().await?;
        }
        Ok(must)
    }

    async fn has_tokens(&self, settings: &Settings) -> Result<bool, SessionError> {
        // No browser sends such a header by itself: whoever forged the request would have to hold the session.
        Ok(!self.in_header && settings.protect(self).await?)
    }

    fn csrf_settings(&self) -> Result<&Arc<Settings>, CsrfError> {
        self.csrf.as_ref().ok_or(CsrfError::LayerMissing)
    }

    /// A secret, and the same one for all requests that make one at the same time.
    async fn agreed_secret(&self) -> Result<Secret, Error> {
        let new: Secret = random()?;
        self.update(CSRF_ATTRIBUTE, move |old: Option<Secret>| old.unwrap_or(new))
            .await?;
        // Where another request was faster, the commit takes its secret over.
        let session = session_core::Session::clone(self);
        let commit = async move { Ok(session.commit().await?) };
        // A new id is told by the commit at the request's end, too.
        let _told_later = to_its_end(Box::pin(commit)).await?;
        let agreed = self.get(CSRF_ATTRIBUTE).await?;
        Ok(agreed.ok_or(SessionError::Gone)?)
    }
}

type Secret = [u8; 32];

const NONCE_LEN: usize = 16;

const MAC_LEN: usize = 32;

fn mac(secret: &Secret, nonce: &[u8; NONCE_LEN], authenticated_at: Option<Timestamp>) -> Hmac<Sha256> {
    // Every part has one length, so no two inputs run together to the same bytes.
    let authenticated_at = authenticated_at.map_or([0; 9], |at| {
        let mut bytes = [1; 9];
        bytes[1..].copy_from_slice(&at.as_millis().to_le_bytes());
        bytes
    });
    mac::keyed(secret)
        .chain_update(b"session-csrf/1\0")
        .chain_update(nonce)
        .chain_update(authenticated_at)
}

fn decode(text: &str) -> Option<([u8; NONCE_LEN], [u8; MAC_LEN])> {
    let mut bytes = [0; NONCE_LEN + MAC_LEN];
    // A longer text does not fit, a shorter one does not fill it.
    let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?;
    let (nonce, tag) = decoded.split_first_chunk()?;
    Some((*nonce, tag.try_into().ok()?))
}

fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(SessionError::Random(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation: Python's `hmac`, `hashlib` and `base64`.
    #[test]
    fn known_answers() {
        let secret: Secret = std::array::from_fn(|at| at as u8);
        let nonce: [u8; NONCE_LEN] = std::array::from_fn(|at| 0xa0 + at as u8);
        for (at, text) in [
            (
                None,
                "oKGio6SlpqeoqaqrrK2ur9vB_sZ-s8ViZO2bf2Siuf5cISQB4FY5PWj0mpdKb3Ju",
            ),
            (
                Some(1_234_567_890_123),
                "oKGio6SlpqeoqaqrrK2ur3KqDtIlaLAyD5ygy8p4XeIlfnYGLb8XIrbSQ5NSvF5d",
            ),
        ] {
            let (decoded, tag) = decode(text).unwrap();
            assert_eq!(decoded, nonce);
            let mac = mac(&secret, &nonce, at.map(Timestamp::from_millis));
            assert_eq!(mac.finalize().into_bytes()[..], tag);
        }
    }

    #[test]
    fn texts_of_another_length_or_alphabet_are_no_tokens() {
        let text = "oKGio6SlpqeoqaqrrK2ur9vB_sZ-s8ViZO2bf2Siuf5cISQB4FY5PWj0mpdKb3Ju";
        assert!(decode(text).is_some());
        for len in 0..text.len() {
            assert_eq!(decode(&text[..len]), None, "{len}");
        }
        for wrong in [
            format!("{text}A"),
            format!("{text}AAAA"),
            format!("{text}="),
            format!(" {text}"),
            text.replace('_', "/"),
            text.replace('-', "+"),
            text.replace('-', "\0"),
            "é".repeat(32),
            "A".repeat(1 << 20),
        ] {
            assert_eq!(decode(&wrong), None);
        }
    }
}
