//! The claims of a session.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use session_core::{Codec, Encoded, JsonCodec, Lengths, SessionKey, SessionParts, Subject, Timestamp};

use super::super::{
    Claims, Refused, WriteError,
    sealed::{FORMAT, check_format, decode_array, encode},
};

/// All claims. What another issuer's token may also have is refused with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtClaims {
    iss: String,
    aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    session: SessionClaims,
    attributes: BTreeMap<String, Box<RawValue>>,
}

/// What goes on with the session. Times and lengths in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionClaims {
    v: u32,
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    issued: u64,
    expires: u64,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authenticated: Option<u64>,
    renewed: u64,
    deadline: u64,
    idle: u64,
    absolute: u64,
    renewals: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

/// What every format has.
#[derive(Deserialize)]
pub(super) struct AnyFormat {
    session: AnySession,
}

#[derive(Deserialize)]
struct AnySession {
    v: u32,
}

impl AnyFormat {
    pub(super) const fn is_newer(&self) -> bool {
        self.session.v > FORMAT
    }
}

impl JwtClaims {
    pub(super) fn new(
        issuer: &str,
        audience: &str,
        namespace: &str,
        claims: &Claims,
    ) -> Result<Self, WriteError> {
        let parts = SessionParts::from_data(&claims.data).ok().flatten();
        let parts = parts.ok_or(WriteError::Parts("the record is no session"))?;
        let attributes = parts.attributes.iter().map(|(name, Encoded { tag, bytes, .. })| {
            let json = std::str::from_utf8(bytes)
                .ok()
                .filter(|_| *tag == JsonCodec.tag());
            let json = json.and_then(|json| RawValue::from_string(json.to_owned()).ok());
            Ok((
                name.clone(),
                json.ok_or(WriteError::Parts("an attribute is not JSON"))?,
            ))
        });
        Ok(Self {
            attributes: attributes.collect::<Result<_, _>>()?,
            ..Self::without_attributes(issuer, audience, namespace, claims, &parts)
        })
    }

    /// As many characters as these claims have at most, with no attribute.
    pub(super) fn largest(issuer: &str, audience: &str, namespace: &str, claims: &Claims) -> Self {
        let latest = claims.expires_at;
        let mut parts = SessionParts::new(latest, latest, Lengths::new(Duration::MAX, Duration::MAX));
        parts.authenticated_at = Some(latest);
        parts.renewals = u32::MAX;
        parts.client = Some([0; 8]);
        Self::without_attributes(issuer, audience, namespace, claims, &parts)
    }

    fn without_attributes(
        issuer: &str,
        audience: &str,
        namespace: &str,
        claims: &Claims,
        parts: &SessionParts,
    ) -> Self {
        let (issued, expires) = (claims.issued_at.as_millis(), claims.expires_at.as_millis());
        let authenticated = parts.authenticated_at.map(Timestamp::as_millis);
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self {
            iss: issuer.to_owned(),
            aud: audience.to_owned(),
            sub: claims.subject.as_ref().map(|subject| subject.as_str().to_owned()),
            iat: issued / 1000,
            nbf: issued / 1000,
            // The session lives until then at least.
            exp: expires.div_ceil(1000),
            jti: encode(claims.key.as_bytes()),
            auth_time: authenticated.map(|at| at / 1000),
            session: SessionClaims {
                v: FORMAT,
                namespace: namespace.to_owned(),
                epoch: claims.epoch.as_ref().map(|epoch| encode(epoch)),
                issued,
                expires,
                created: parts.created_at.as_millis(),
                authenticated,
                renewed: parts.renewed_at.as_millis(),
                deadline: parts.deadline.as_millis(),
                idle: millis(parts.lengths.idle()),
                absolute: millis(parts.lengths.absolute()),
                renewals: parts.renewals,
                client: parts.client.as_ref().map(|client| encode(client)),
            },
            attributes: BTreeMap::new(),
        }
    }

    pub(super) fn into_claims(self, namespace: &str) -> Result<Claims, Refused> {
        let session = self.session;
        check_format(session.v)?;
        if session.namespace != namespace {
            return Err(Refused::Audience);
        }
        let at = Timestamp::from_millis;
        let (idle, absolute) = (session.idle, session.absolute);
        let lengths = Lengths::new(Duration::from_millis(idle), Duration::from_millis(absolute));
        let mut parts = SessionParts::new(at(session.created), at(session.deadline), lengths);
        parts.authenticated_at = session.authenticated.map(at);
        parts.renewed_at = at(session.renewed);
        parts.renewals = session.renewals;
        parts.client = session.client.as_deref().map(decode_array).transpose()?;
        let attributes = self.attributes.into_iter();
        parts.attributes = attributes
            .map(|(name, value)| {
                (
                    name,
                    Encoded::new(JsonCodec.tag(), value.get().as_bytes().to_vec()),
                )
            })
            .collect();
        let subject = self.sub.map(|subject| Subject::new(&*subject)).transpose();
        // Both tell the same times; where they do not, the earlier end counts.
        let expires_at = at(session.expires).min(at(self.exp.saturating_mul(1000)));
        Ok(Claims {
            key: SessionKey::from_bytes(decode_array(&self.jti)?),
            subject: subject.map_err(|_| Refused::Malformed)?,
            epoch: session.epoch.as_deref().map(decode_array).transpose()?,
            issued_at: at(session.issued).max(at(self.nbf.saturating_mul(1000))),
            expires_at,
            deadline: at(session.deadline),
            data: parts.into_data().map_err(|_| Refused::Malformed)?,
        })
    }
}
