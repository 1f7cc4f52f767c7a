//! What a manager of tokens is built from: keys in rotation, lengths, stores, and how much a token holds.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode};
use session_core::{Lengths, MemoryStore, OnLimit, SessionError, SessionStore, Sessions};
use session_http::{
    CookieConfig, Jwt, JwtError, JwtKey, KeyRing, ManagerError, SecretKey, SessionManager, Tokens,
};

use super::{KINDS, Kind, MINUTE, Maker, pair, pem};
use crate::support::{Browser, Watched, site_of};

fn copy(key: &SecretKey) -> SecretKey {
    SecretKey::from_text(&key.to_text()).unwrap()
}

/// Sites of one store and one clock, one for each of these makers of tokens.
fn sites<const N: usize>(maker: &Maker, tokens: [Tokens; N]) -> [axum::Router; N] {
    tokens.map(|tokens| {
        let sessions = maker.sessions().build().unwrap();
        site_of(SessionManager::builder(sessions).tokens(tokens).build().unwrap())
    })
}

#[tokio::test]
async fn new_key_takes_over_while_the_old_one_is_still_read() {
    let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let before = Tokens::sealed(&KeyRing::new(copy(&one)));
    let during = Tokens::sealed(&KeyRing::new(copy(&two)).reading(copy(&one)).unwrap());
    let after = Tokens::sealed(&KeyRing::new(copy(&two)));
    rotation(&Maker::new(Kind::Sealed), [before, during, after]).await;
}

#[tokio::test]
async fn new_signing_key_takes_over_whatever_its_algorithm() {
    let (ed, ec) = (pair(), pem(&rcgen::PKCS_ECDSA_P256_SHA256));
    let signed = |key| Jwt::new("https://shop.example", "shop", key).unwrap();
    let before = JwtKey::ed25519("one", &ed.0, &ed.1).unwrap();
    let after = JwtKey::es256("two", &ec.0, &ec.1).unwrap();
    let public = JwtKey::ed25519_public("one", &ed.1).unwrap();
    let during = signed(after.clone()).reading(public.clone()).unwrap();
    assert!(matches!(during.clone().reading(public), Err(JwtError::Repeated { id }) if id == "one"));
    let tokens = [signed(before), during, signed(after)].map(Tokens::jwt);
    rotation(&Maker::new(Kind::Jwt), tokens).await;

    let secret = SecretKey::generate().unwrap();
    let hmac = || signed(JwtKey::hs256(&secret));
    let [site, _] = sites(&Maker::new(Kind::Jwt), [Tokens::jwt(hmac()), Tokens::jwt(hmac())]);
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    assert_eq!(browser.text("/read").await, "x");
}

async fn rotation(maker: &Maker, tokens: [Tokens; 3]) {
    let [before, during, after] = sites(maker, tokens);
    let mut browser = Browser::new(&before);
    browser.text("/write/x").await;
    browser.site = during;
    assert_eq!(browser.text("/read").await, "x");
    assert_eq!(
        Browser::with_id(&after, &browser.held()).text("/read").await,
        "nothing"
    );
    // Whatever is written is written with the new key.
    browser.text("/count").await;
    browser.site = after;
    assert_eq!(browser.text("/read").await, "x");
    assert_eq!(
        Browser::with_id(&before, &browser.held()).text("/read").await,
        "nothing"
    );
}

#[tokio::test]
async fn token_of_one_namespace_is_nothing_in_another() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let sessions = maker.sessions().namespace("other").build().unwrap();
        let other = SessionManager::builder(sessions).tokens(maker.tokens());
        let other = site_of(other.build().unwrap());
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        assert_eq!(
            Browser::with_id(&other, &browser.held()).text("/read").await,
            "nothing"
        );
        assert_eq!(browser.text("/read").await, "x");
    }
}

/// A session of a token does what it may to the last byte, and is told what is too large where it is put in.
#[tokio::test]
async fn token_holds_what_a_cookie_holds_and_tells_what_is_too_large() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let manager = maker.manager().build().unwrap();
        let visit = manager.open_with(&"/".parse().unwrap(), &HeaderMap::new());
        let session = visit.session();
        session.insert("small", &"x".repeat(10)).await.unwrap();
        let limit = match session.insert("large", &"x".repeat(5_000)).await {
            Err(SessionError::TooLarge { limit, largest, .. }) => {
                assert_eq!(largest[0].0, "large", "{kind:?}");
                limit
            }
            other => panic!("{other:?}"),
        };
        assert!((1_800..3_000).contains(&limit), "{kind:?}: {limit}");
        let mut fits = 0;
        for len in (1..limit).rev() {
            if session.insert("large", &"x".repeat(len)).await.is_ok() {
                fits = len;
                break;
            }
        }
        // As the documentation says.
        let least = match kind {
            Kind::Sealed => 1_800,
            Kind::Jwt => 2_000,
        };
        assert!((least..least + 100).contains(&fits), "{kind:?}: {fits}");
        // The longest subject, and all that a log-in adds.
        let subject = session_core::Subject::new("s".repeat(256)).unwrap();
        session.log_in(subject).await.unwrap();
        let headers = manager.commit(&visit).await.unwrap();
        let (_, cookie) = headers.handed_out().unwrap();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        assert!(
            pair.len() - 1 <= CookieConfig::SIZE_LIMIT,
            "{kind:?}: {}",
            pair.len()
        );
        assert!(
            pair.len() > CookieConfig::SIZE_LIMIT - 250,
            "{kind:?}: {}",
            pair.len()
        );
    }
}

/// A subject that JSON writes longer than it is: measured when it is written, and refused whole.
#[tokio::test]
async fn what_escapes_make_too_long_is_refused_and_hands_nothing_out() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let manager = maker.manager().build().unwrap();
        let visit = manager.open_with(&"/".parse().unwrap(), &HeaderMap::new());
        let mut len = 3_000;
        while visit.session().insert("large", &"x".repeat(len)).await.is_err() {
            len -= 1;
        }
        let subject = session_core::Subject::new("\u{1}".repeat(256)).unwrap();
        visit.session().log_in(subject).await.unwrap();
        let error = manager.commit(&visit).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let session_http::Error::Session(SessionError::Store(error)) = error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(
                error.kind(),
                session_core::ErrorKind::TooLarge { limit: 4082, .. }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn without_revocation_no_store_is_asked() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let lengths = Lengths::new(5 * MINUTE, Tokens::LONGEST_WITHOUT_REVOCATION);
        let sessions = maker.sessions().lengths(lengths).build().unwrap();
        let tokens = maker.tokens().without_revocation();
        let manager = SessionManager::builder(sessions).tokens(tokens).build().unwrap();
        let site = site_of(manager.clone());
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        browser.text("/write/x").await;
        let copy = browser.held();
        assert_eq!(
            browser.get("/elsewhere").await.status,
            StatusCode::INTERNAL_SERVER_ERROR
        );
        browser.text("/logout").await;
        assert_eq!(browser.id, None);
        assert_eq!(
            Browser::with_id(&site, &copy).text("/whoami").await,
            "zoe",
            "as documented"
        );
        maker.clock.forward(5 * MINUTE + Duration::from_secs(1));
        assert_eq!(Browser::with_id(&site, &copy).text("/whoami").await, "nobody");
        assert!(maker.store.calls().is_empty(), "{kind:?}");
        let zoe = session_core::Subject::new("zoe").unwrap();
        assert!(manager.log_out_subject(&zoe).await.is_err());
    }
}

/// "Remember me" is no way around the length that is refused when the manager is built.
#[tokio::test]
async fn log_in_for_longer_than_its_end_can_be_remembered_is_refused() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let lengths = Lengths::new(5 * MINUTE, Tokens::LONGEST_WITHOUT_REVOCATION);
        let sessions = maker.sessions().lengths(lengths).build().unwrap();
        let tokens = maker.tokens().without_revocation();
        let site = site_of(SessionManager::builder(sessions).tokens(tokens).build().unwrap());
        let mut browser = Browser::new(&site);
        let answer = browser.get("/remember/zoe").await;
        assert_eq!((answer.status.as_u16(), answer.new_id()), (500, None), "{kind:?}");
        browser.text("/login/zoe").await;
        assert_eq!(browser.text("/whoami").await, "zoe");

        // A store that keeps the mark of a log-out for 20 days at most.
        let mut maker = Maker::new(kind);
        maker.store = Watched::keeping(&maker.clock, 20 * 24 * 60 * MINUTE);
        let site = maker.site();
        let answer = Browser::new(&site).get("/remember/zoe").await;
        assert_eq!((answer.status.as_u16(), answer.new_id()), (500, None), "{kind:?}");
    }
}

/// A token from when nothing was remembered has no epoch. Nobody could end it.
#[tokio::test]
async fn token_without_an_epoch_is_refused_where_sessions_can_be_ended() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let lengths = Lengths::new(5 * MINUTE, Tokens::LONGEST_WITHOUT_REVOCATION);
        let sessions = maker.sessions().lengths(lengths).build().unwrap();
        let tokens = maker.tokens().without_revocation();
        let before = site_of(SessionManager::builder(sessions).tokens(tokens).build().unwrap());
        let mut browser = Browser::new(&before);
        browser.text("/login/zoe").await;
        browser.site = maker.site();
        assert_eq!(browser.text("/whoami").await, "nobody", "{kind:?}");
    }
}

#[tokio::test]
async fn no_debug_output_has_a_token() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        let visit = manager.open(&browser.request("/").into_parts().0);
        visit.session().insert("value", &"x".to_owned()).await.unwrap();
        let headers = manager.commit(&visit).await.unwrap();
        let (_, field) = headers.handed_out().unwrap();
        let handed_out = field.to_str().unwrap().split(['=', ';']).nth(1).unwrap();
        let shown = format!("{visit:?} {headers:?} {manager:?}");
        for token in [handed_out, &browser.held()] {
            // A part of it, as a line that was cut would have.
            assert!(!shown.contains(&token[40..80]), "{kind:?}: {shown}");
        }
    }
}

#[test]
fn what_tokens_cannot_keep_is_refused_when_built() {
    let keys = KeyRing::new(SecretKey::generate().unwrap());
    let tokens = || Tokens::sealed(&keys);
    let memory = || Sessions::builder(Arc::new(MemoryStore::new()));
    let refused = |sessions: Sessions, tokens| {
        let manager = SessionManager::builder(sessions).tokens(tokens);
        manager.build().unwrap_err()
    };

    let absolute = Tokens::LONGEST_WITHOUT_REVOCATION + Duration::from_secs(1);
    let long = memory().lengths(Lengths::new(MINUTE, absolute)).build().unwrap();
    assert_eq!(
        refused(long, tokens().without_revocation()),
        ManagerError::TooLongWithoutRevocation { absolute }
    );
    let limited = memory().max_per_subject(3, OnLimit::Refuse).build().unwrap();
    assert_eq!(
        refused(limited, tokens()),
        ManagerError::LimitWithTokens { limit: 3 }
    );

    let key = JwtKey::hs256(&SecretKey::generate().unwrap());
    let jwt = Jwt::new("issuer", "audience", key).unwrap();
    assert_eq!(
        refused(memory().build().unwrap(), Tokens::jwt(jwt)),
        ManagerError::CodecNotJson
    );

    let signed = CookieConfig::builder().signed(&keys).build().unwrap();
    let manager = SessionManager::builder(memory().build().unwrap()).cookie(signed);
    assert_eq!(
        manager.tokens(tokens()).build().unwrap_err(),
        ManagerError::TokenSignedAgain
    );
}

#[test]
fn store_that_may_forget_a_logout_is_refused_unless_that_is_accepted() {
    let keys = KeyRing::new(SecretKey::generate().unwrap());
    let store = || -> Arc<dyn SessionStore> { Watched::evicting() };
    let sessions = || Sessions::builder(store()).build().unwrap();
    let build = |tokens| SessionManager::builder(sessions()).tokens(tokens).build();
    let error = build(Tokens::sealed(&keys)).unwrap_err();
    assert_eq!(error, ManagerError::RevocationMayBeEvicted { store: "memory" });
    assert!(error.to_string().contains("accept_eviction"), "{error}");
    assert!(build(Tokens::sealed(&keys).accept_eviction()).is_ok());
    let short = Lengths::new(MINUTE, MINUTE);
    let sessions = Sessions::builder(store()).lengths(short).build().unwrap();
    let manager = SessionManager::builder(sessions).tokens(Tokens::sealed(&keys).without_revocation());
    assert!(manager.build().is_ok(), "nothing is remembered there");
}

#[test]
fn keys_that_sign_nothing_or_are_no_pair_are_refused() {
    let (one, two, ec) = (pair(), pair(), pem(&rcgen::PKCS_ECDSA_P256_SHA256));
    assert!(matches!(
        JwtKey::ed25519("k", &one.0, &two.1),
        Err(JwtError::Key(_))
    ));
    assert!(matches!(
        JwtKey::ed25519("k", &ec.0, &one.1),
        Err(JwtError::Key(_))
    ));
    assert!(matches!(JwtKey::es256("k", &ec.0, &one.1), Err(JwtError::Key(_))));
    assert!(matches!(JwtKey::ed25519("k", b"", b""), Err(JwtError::Key(_))));
    // Of another curve: every token would be refused.
    let p384 = pem(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert!(matches!(
        JwtKey::es256("k", &p384.0, &p384.1),
        Err(JwtError::Key(_))
    ));
    assert!(matches!(
        JwtKey::es256_public("k", &p384.1),
        Err(JwtError::Key(_))
    ));
    for id in ["", "a b", "../k", &"k".repeat(65)] {
        assert!(
            matches!(JwtKey::ed25519_public(id, &one.1), Err(JwtError::Id)),
            "{id}"
        );
    }
    let public = JwtKey::ed25519_public("k", &one.1).unwrap();
    assert!(matches!(Jwt::new("i", "a", public), Err(JwtError::NotSigning)));
    let key = JwtKey::ed25519("k", &one.0, &one.1).unwrap();
    assert!(matches!(Jwt::new("", "a", key.clone()), Err(JwtError::Unnamed)));
    assert!(!format!("{key:?}").contains("PRIVATE"));
    assert!(format!("{key:?}").contains("Ed25519"));
}
