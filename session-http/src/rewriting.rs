//! The session in the URLs of one response.

use http::{HeaderMap, HeaderValue, Uri, header::LOCATION};
use session_core::{ClientAction, SessionId, Timestamp};

use crate::{
    UrlConfig, UrlEncoder, host,
    transport::{Asked, Site},
};

/// What a response must know of its request to write the session into its URLs.
#[derive(Debug, Clone)]
pub(crate) struct Rewriting {
    config: UrlConfig,
    site: Site,
    /// Who sent the request, as the MAC is bound to it.
    agent: Vec<u8>,
    /// The id that came in the URL.
    presented: Option<SessionId>,
    plain_http: bool,
}

impl Rewriting {
    pub(crate) fn new(config: &UrlConfig, asked: &Asked<'_>, presented: Option<SessionId>) -> Self {
        let stripped = config.stripped(asked.target);
        let target = stripped.as_ref().unwrap_or(asked.target);
        Self {
            config: config.clone(),
            site: Site {
                authority: host::own_host(asked.target, asked.headers).map(str::to_owned),
                path: target.path().to_owned(),
            },
            agent: UrlConfig::user_agent(asked.headers).to_vec(),
            presented,
            plain_http: asked.plain_http,
        }
    }

    /// For a session that was committed and told this for its client.
    pub(crate) fn encoder(&self, client: &ClientAction, now: Timestamp) -> UrlEncoder {
        let id = match client {
            ClientAction::Store { id, .. } => Some(id),
            ClientAction::Keep => self.presented.as_ref(),
            _ => None,
        };
        let withheld = self.plain_http && self.config.is_secure();
        match id.filter(|_| !withheld) {
            Some(id) => {
                let written = self.config.write(id, &self.agent, now);
                UrlEncoder::new(self.config.clone(), self.site.clone(), written)
            }
            None => UrlEncoder::idle(),
        }
    }
}

/// A redirect leads to the same session.
pub(crate) fn redirect(headers: &mut HeaderMap, urls: &UrlEncoder) {
    let Some(Ok(location)) = headers.get(LOCATION).map(HeaderValue::to_str) else {
        return;
    };
    if let Ok(mut encoded) = HeaderValue::try_from(&*urls.encode(location)) {
        encoded.set_sensitive(true);
        headers.insert(LOCATION, encoded);
    }
}

/// In a request's extensions: the target as it came, before [`UrlLayer`](crate::UrlLayer) took the session out of it.
#[derive(Clone)]
pub(crate) struct Original(pub(crate) Uri);
