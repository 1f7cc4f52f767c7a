//! Sessions that their clients carry: sealed cookies, and JWTs.

mod configured;
mod forged;
mod lives;
mod modes;

use std::{sync::Arc, time::Duration};

use axum::Router;
use session_core::{JsonCodec, SessionStore, Sessions, SessionsBuilder};
use session_http::{
    HeaderConfig, Jwt, JwtKey, KeyRing, SecretKey, SessionManager, SessionManagerBuilder, Tokens, Transport,
};

use crate::support::{Moved, NAMESPACE, Watched, site_of};

const MINUTE: Duration = Duration::from_secs(60);

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sealed,
    Jwt,
}

const KINDS: [Kind; 2] = [Kind::Sealed, Kind::Jwt];

/// What makes a site's tokens, and its clock.
struct Maker {
    kind: Kind,
    clock: Arc<Moved>,
    store: Arc<Watched>,
    keys: KeyRing,
    key: JwtKey,
    private: Vec<u8>,
    public: Vec<u8>,
}

impl Maker {
    fn new(kind: Kind) -> Self {
        let clock = Arc::new(Moved::default());
        let store = Watched::timed(&clock);
        let (private, public) = pair();
        Self {
            kind,
            store,
            clock,
            keys: KeyRing::new(SecretKey::generate().unwrap()),
            key: JwtKey::ed25519("2026-11", &private, &public).unwrap(),
            private,
            public,
        }
    }

    fn tokens(&self) -> Tokens {
        match self.kind {
            Kind::Sealed => Tokens::sealed(&self.keys),
            Kind::Jwt => Tokens::jwt(Jwt::new("https://shop.example", "shop", self.key.clone()).unwrap()),
        }
    }

    fn sessions(&self) -> SessionsBuilder {
        let store: Arc<dyn SessionStore> = self.store.clone();
        let sessions = Sessions::builder(store)
            .namespace(NAMESPACE)
            .clock(self.clock.clone());
        match self.kind {
            Kind::Sealed => sessions,
            Kind::Jwt => sessions.codec(JsonCodec),
        }
    }

    fn manager(&self) -> SessionManagerBuilder {
        SessionManager::builder(self.sessions().build().unwrap()).tokens(self.tokens())
    }

    /// A manager, and the site that it serves.
    fn managed(&self) -> (SessionManager, Router) {
        let manager = self.manager().build().unwrap();
        (manager.clone(), site_of(manager))
    }

    fn site(&self) -> Router {
        self.managed().1
    }

    /// A site whose credentials travel in `Authorization: Bearer` and `Session-Id`.
    fn api(&self) -> Router {
        let header: Transport = HeaderConfig::bearer().into();
        site_of(self.manager().transports([header]).build().unwrap())
    }
}

/// A private key and its public one, for Ed25519, in PEM.
fn pair() -> (Vec<u8>, Vec<u8>) {
    pem(&rcgen::PKCS_ED25519)
}

fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
    (
        pair.serialize_pem().into_bytes(),
        pair.public_key_pem().into_bytes(),
    )
}
