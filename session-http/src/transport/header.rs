//! A header field that carries the credential: for clients that are no browsers.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Form, Found};

/// Carries the credential in a header field of the request, and hands another out in one of the response.
///
/// For clients that are no browsers: a page's script that holds a credential is one that a smuggled-in script robs, and
/// no browser sends a header by itself (OWASP, "HTML5 Web Storage API"). The client keeps what the response's field
/// holds and sends it with every further request; an empty field asks it to forget.
///
/// ```
/// use session_http::{HeaderConfig, HeaderError, SessionManager};
/// # let sessions = session_core::Sessions::builder(std::sync::Arc::new(session_core::MemoryStore::new())).build().unwrap();
///
/// // `Authorization: Bearer …` in requests, `Session-Id: …` in responses.
/// let api = SessionManager::builder(sessions).transports([HeaderConfig::bearer()]).build().unwrap();
///
/// // One field of your own for both.
/// let named = HeaderConfig::named("x-auth-token")?;
/// # Ok::<(), HeaderError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderConfig {
    request: HeaderName,
    response: HeaderName,
    secure: bool,
}

impl HeaderConfig {
    /// The field in which [`HeaderConfig::bearer`] hands a credential out.
    pub const RESPONSE_FIELD: &str = "session-id";

    /// `Authorization: Bearer` in requests (RFC 6750, section 2.1; the scheme in any case), `Session-Id` in responses.
    /// Credentials of other schemes are no business of this transport.
    #[must_use]
    pub fn bearer() -> Self {
        Self {
            request: header::AUTHORIZATION,
            response: HeaderName::from_static(Self::RESPONSE_FIELD),
            secure: true,
        }
    }

    /// A field of this name in requests and responses.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if it is no field's name, or that of a field with a meaning of its own.
    pub fn named(field: &str) -> Result<Self, HeaderError> {
        let field: HeaderName = field.parse().map_err(|_| HeaderError::Name)?;
        if TAKEN.contains(&field) {
            return Err(HeaderError::Taken);
        }
        Ok(Self {
            request: field.clone(),
            response: field,
            secure: true,
        })
    }

    /// Also over plain HTTP, for development: everybody on the network path can read and use the credential.
    #[must_use]
    pub fn insecure_for_development(mut self) -> Self {
        self.secure = false;
        self
    }

    /// The request's field.
    #[must_use]
    pub fn request_field(&self) -> &HeaderName {
        &self.request
    }

    /// The response's field.
    #[must_use]
    pub fn response_field(&self) -> &HeaderName {
        &self.response
    }

    /// Whether it is used over HTTPS alone.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// A request has the field once. One that has it several times was put together by two, and neither is believed.
    pub(super) fn find(&self, form: &Form, headers: &HeaderMap) -> Found {
        let bearer = self.request == header::AUTHORIZATION;
        let values = headers.get_all(&self.request).into_iter().filter_map(|field| {
            let value = field.as_bytes().trim_ascii();
            match bearer {
                true => after_scheme(value),
                // What a client sends that was asked to forget.
                false => Some(value).filter(|value| !value.is_empty()),
            }
        });
        Found::among(form, values).once()
    }

    /// The response's field with this credential; empty to make the client forget.
    ///
    /// # Errors
    ///
    /// [`HeaderError::Value`].
    pub(crate) fn store(&self, credential: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
        let mut value = HeaderValue::from_str(credential).map_err(|_| HeaderError::Value)?;
        // `Debug` then hides it, and HTTP/2 keeps it out of the compression table.
        value.set_sensitive(true);
        Ok((self.response.clone(), value))
    }
}

/// The credential after `Bearer`, if that is the scheme.
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(|byte| *byte == b' ');
    is_bearer.then(|| rest.trim_ascii())
}

/// Fields that mean something else, or that proxies and browsers set by themselves.
const TAKEN: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::LOCATION,
    header::ORIGIN,
    header::REFERER,
    header::SET_COOKIE,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
];

/// Why a header field cannot carry a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// It is no field's name (RFC 9110, section 5.1).
    Name,
    /// The field has a meaning of its own. For `Authorization` use [`HeaderConfig::bearer`].
    Taken,
    /// The credential holds a character that no field may hold.
    Value,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "this is no name of a header field",
            Self::Taken => {
                "this header field has a meaning of its own (for Authorization: HeaderConfig::bearer)"
            }
            Self::Value => "the credential holds a character that no header field may hold",
        })
    }
}

impl std::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Credential;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const TWO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE";

    /// Whether the field was sent, and the id that it held.
    fn found(config: &HeaderConfig, fields: &[(&'static str, &str)]) -> (bool, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let found = config.find(&Form::Id, &headers);
        let sent = found.is_sent();
        let text = |credential| match credential {
            Credential::Id(id) => id.expose().to_string(),
            #[cfg(feature = "sealed")]
            Credential::Token(token) => token,
        };
        (sent, found.judged("header").map(text))
    }

    #[test]
    fn bearer_is_found_in_any_case_and_other_schemes_are_not_ours() {
        let bearer = HeaderConfig::bearer();
        let one = (true, Some(ONE.to_owned()));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(
                found(&bearer, &[("authorization", &format!("{scheme} {ONE}"))]),
                one
            );
        }
        assert_eq!(
            found(&bearer, &[("authorization", &format!("Bearer   {ONE} "))]),
            one
        );
        for other in [
            format!("Basic {ONE}"),
            ONE.to_owned(),
            format!("Bearers {ONE}"),
            format!("Bearer{ONE}"),
        ] {
            assert_eq!(
                found(&bearer, &[("authorization", &other)]),
                (false, None),
                "{other}"
            );
        }
        for malformed in ["Bearer", "Bearer ", "Bearer x", "Bearer eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(
                found(&bearer, &[("authorization", malformed)]),
                (true, None),
                "{malformed}"
            );
        }
        let both = [
            ("authorization", "Basic YTpi"),
            ("authorization", &format!("Bearer {ONE}")),
        ];
        assert_eq!(found(&bearer, &both), one);
    }

    #[test]
    fn field_that_comes_twice_is_not_believed() {
        let named = HeaderConfig::named("X-Auth-Token").unwrap();
        assert_eq!(
            found(&named, &[("x-auth-token", ONE)]),
            (true, Some(ONE.to_owned()))
        );
        for second in [ONE, TWO, "nonsense"] {
            let fields = [("x-auth-token", ONE), ("x-auth-token", second)];
            assert_eq!(found(&named, &fields), (true, None), "{second}");
        }
        // A client that was asked to forget.
        assert_eq!(found(&named, &[("x-auth-token", "")]), (false, None));
    }

    #[test]
    fn names_of_other_fields_are_refused() {
        assert_eq!(HeaderConfig::named("Authorization"), Err(HeaderError::Taken));
        assert_eq!(HeaderConfig::named("cookie"), Err(HeaderError::Taken));
        assert_eq!(HeaderConfig::named("two words"), Err(HeaderError::Name));
        assert_eq!(HeaderConfig::named(""), Err(HeaderError::Name));
    }
}
