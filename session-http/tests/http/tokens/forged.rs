//! Tokens that nobody issued. Whatever is presented, it is refused before the store is asked, and never tried any other way.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{KINDS, Kind, Maker, pair, pem};
use crate::support::{Browser, Watched};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

/// A site, and a token of it that works.
async fn victim(maker: &Maker) -> (axum::Router, String) {
    let site = maker.site();
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    browser.text("/write/x").await;
    (site.clone(), browser.held())
}

/// Nobody, and nothing was asked of the store.
async fn refused(site: &axum::Router, store: &Watched, token: &str) {
    store.calls();
    let mut browser = Browser::with_id(site, token);
    assert_eq!(browser.text("/whoami").await, "nobody", "{token}");
    assert_eq!(browser.text("/read").await, "nothing", "{token}");
    assert!(store.calls().is_empty(), "{token}");
    assert_eq!(browser.held(), token, "it is left to the client");
}

/// CVE-2026-39324: what did not decrypt was decoded as it was.
#[tokio::test]
async fn changed_token_is_refused_and_tried_no_other_way() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (site, token) = victim(&maker).await;
        let flip = |at: usize| {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        for at in 0..token.len() {
            refused(&site, &maker.store, &flip(at)).await;
        }
        for len in 0..token.len() {
            if len % 7 == 0 || len + 100 > token.len() {
                refused(&site, &maker.store, &token[..len]).await;
            }
        }
        for other in [
            format!("{token}A"),
            format!("{token}."),
            token.replace('.', ".."),
            token.to_uppercase(),
        ] {
            refused(&site, &maker.store, &other).await;
        }
        assert_eq!(Browser::with_id(&site, &token).text("/whoami").await, "zoe");
    }
}

/// CVE-2026-39324, the other half: a payload that nobody encrypted or signed.
#[tokio::test]
async fn what_was_never_sealed_is_refused() {
    let maker = Maker::new(Kind::Sealed);
    let (site, token) = victim(&maker).await;
    let claims = json!({"v": 1, "k": b64([0; 32]), "s": "zoe", "i": 0, "x": u64::MAX, "d": ""}).to_string();
    let footer = token.rsplit_once('.').unwrap().1;
    let padded = [&[0; 32][..], claims.as_bytes(), &[0; 32]].concat();
    for forged in [
        b64(&claims),
        format!("v4.local.{}", b64(&claims)),
        format!("v4.local.{}", b64(&padded)),
        format!("v4.local.{}.{footer}", b64(&padded)),
        format!("v4.local.{}.{}", b64(&padded), b64("other key")),
        format!("v4.public.{}.{footer}", b64(&padded)),
        format!("v2.local.{}.{footer}", b64(&padded)),
        format!("v4.local..{footer}"),
        "v4.local.".to_owned(),
        "v4.local.A.A".to_owned(),
        format!("v4.local.{}", "A".repeat(4_087)),
        format!("v4.local.{}", "A".repeat(1_000_000)),
        // An id, and a JWT, are no token here.
        crate::support::made_up(),
        format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(&claims)),
    ] {
        refused(&site, &maker.store, &forged).await;
    }
    // Of the right form, under somebody else's key.
    let (_, other) = victim(&Maker::new(Kind::Sealed)).await;
    refused(&site, &maker.store, &other).await;
    let footer_of_ours = format!("{}.{footer}", other.rsplit_once('.').unwrap().0);
    refused(&site, &maker.store, &footer_of_ours).await;
    // And the other way round: tokens are nothing where ids are expected.
    let stored = crate::support::site(&maker.store);
    refused(&stored, &maker.store, &token).await;
}

/// The parts of a JWT.
struct Parts {
    header: BTreeMap<String, Value>,
    claims: Value,
}

impl Parts {
    fn of(token: &str) -> Self {
        let part = |at: usize| Base64UrlUnpadded::decode_vec(token.split('.').nth(at).unwrap()).unwrap();
        Self {
            header: serde_json::from_slice(&part(0)).unwrap(),
            claims: serde_json::from_slice(&part(1)).unwrap(),
        }
    }

    fn signed(&self, key: &jsonwebtoken::EncodingKey, algorithm: jsonwebtoken::Algorithm) -> String {
        let header = b64(serde_json::to_vec(&self.header).unwrap());
        let message = format!("{header}.{}", b64(self.claims.to_string()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn unsigned(&self) -> String {
        let header = b64(serde_json::to_vec(&self.header).unwrap());
        format!("{header}.{}.", b64(self.claims.to_string()))
    }
}

/// JWT algorithm confusion: `none`, and HMAC under the public key (CVE-2015-9235, CVE-2016-5431, CVE-2022-23540).
#[tokio::test]
async fn algorithm_is_the_keys_and_never_the_tokens() {
    use jsonwebtoken::{Algorithm, EncodingKey};
    let maker = Maker::new(Kind::Jwt);
    let (site, token) = victim(&maker).await;
    let mut parts = Parts::of(&token);
    assert_eq!(parts.header["alg"], "EdDSA");
    for none in ["none", "None", "NONE", "nOnE", ""] {
        parts.header.insert("alg".to_owned(), none.into());
        refused(&site, &maker.store, &parts.unsigned()).await;
        let signature = token.rsplit_once('.').unwrap().1;
        refused(&site, &maker.store, &format!("{}{signature}", parts.unsigned())).await;
    }

    let public = maker.public.clone();
    let text = String::from_utf8(public.clone()).unwrap();
    let raw = text
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let der = base64ct::Base64::decode_vec(&raw).unwrap();
    for secret in [
        &public[..],
        text.trim_end().as_bytes(),
        &der,
        &der[der.len() - 32..],
        b"",
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret);
            parts.header.insert("alg".to_owned(), json!(algorithm));
            refused(&site, &maker.store, &parts.signed(&key, algorithm)).await;
            // Signed by one algorithm, and naming the other.
            parts.header.insert("alg".to_owned(), "EdDSA".into());
            refused(&site, &maker.store, &parts.signed(&key, algorithm)).await;
        }
    }
    let ec = pem(&rcgen::PKCS_ECDSA_P256_SHA256);
    let key = EncodingKey::from_ec_pem(&ec.0).unwrap();
    parts.header.insert("alg".to_owned(), "ES256".into());
    refused(&site, &maker.store, &parts.signed(&key, Algorithm::ES256)).await;
    // Another key of the right algorithm, under our key's id.
    let key = EncodingKey::from_ed_pem(&pair().0).unwrap();
    parts.header.insert("alg".to_owned(), "EdDSA".into());
    refused(&site, &maker.store, &parts.signed(&key, Algorithm::EdDSA)).await;
}

/// RFC 8725, sections 3.8 to 3.12: a token that our own key signed is still refused if it is for another purpose, for others, or
/// asks for something. Each differs in one thing from one that works.
#[tokio::test]
async fn token_of_our_own_key_for_another_purpose_is_refused() {
    let maker = Maker::new(Kind::Jwt);
    let (site, token) = victim(&maker).await;
    let key = jsonwebtoken::EncodingKey::from_ed_pem(&maker.private).unwrap();
    let sign = |parts: &Parts| parts.signed(&key, jsonwebtoken::Algorithm::EdDSA);
    // The way of signing is right: unchanged, it works.
    let again = sign(&Parts::of(&token));
    assert_eq!(Browser::with_id(&site, &again).text("/whoami").await, "zoe");

    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("at+jwt")),
        ("typ", json!(null)),
        ("kid", json!("../../dev/null")),
        ("kid", json!("' OR 1=1 --")),
        ("kid", json!(null)),
        ("crit", json!(["exp"])),
        ("jku", json!("https://evil.example/keys")),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("x5u", json!("https://evil.example/cert")),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
    ] {
        let mut parts = Parts::of(&token);
        parts.header.insert(name.to_owned(), value);
        refused(&site, &maker.store, &sign(&parts)).await;
    }
    let now = 1_800_000_000_u64;
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(null)),
        ("aud", json!("bank")),
        ("aud", json!(["bank"])),
        ("exp", json!(now)),
        ("exp", json!(0)),
        ("exp", json!(null)),
        ("exp", json!("tomorrow")),
        ("nbf", json!(now + 60)),
        ("nbf", json!(null)),
        ("jti", json!("short")),
        ("sub", json!("")),
        ("attributes", json!({"": 1})),
        ("more", json!(1)),
    ] {
        let mut parts = Parts::of(&token);
        parts.claims[name] = value;
        refused(&site, &maker.store, &sign(&parts)).await;
    }
    for (name, value) in [
        ("namespace", json!("other")),
        ("expires", json!(now * 1000)),
        ("issued", json!((now + 60) * 1000)),
        ("v", json!(0)),
        ("idle", json!(-1)),
        ("more", json!(1)),
    ] {
        let mut parts = Parts::of(&token);
        parts.claims["session"][name] = value;
        refused(&site, &maker.store, &sign(&parts)).await;
    }
    // The clock of who made it may be ahead by so much, and no more.
    let skew = u64::try_from(session_http::Tokens::SKEW.as_millis()).unwrap();
    for (ahead, whom) in [(skew, "zoe"), (skew + 1, "nobody")] {
        let mut parts = Parts::of(&token);
        parts.claims["session"]["issued"] = json!(now * 1000 + ahead);
        let token = sign(&parts);
        assert_eq!(
            Browser::with_id(&site, &token).text("/whoami").await,
            whom,
            "{ahead}"
        );
    }
    // A newer version of this software is no absent session: nothing is begun anew over it.
    let mut parts = Parts::of(&token);
    parts.claims["session"] = json!({"v": 2, "new": true});
    let answer = Browser::with_id(&site, &sign(&parts)).get("/whoami").await;
    assert_eq!((answer.status.as_u16(), answer.new_id()), (503, None));
}

/// What other services read in it, by the names that they know.
#[tokio::test]
async fn claims_have_their_registered_names() {
    let maker = Maker::new(Kind::Jwt);
    let (site, token) = victim(&maker).await;
    maker.clock.forward(super::MINUTE);
    let mut browser = Browser::with_id(&site, &token);
    browser.text("/count").await;
    assert_eq!(Parts::of(&browser.held()).claims["iat"], 1_800_000_060_u64);
    let Parts { header, claims } = Parts::of(&token);
    assert_eq!(
        serde_json::to_value(header).unwrap(),
        json!({"alg": "EdDSA", "kid": "2026-11", "typ": "session+jwt"})
    );
    let now = 1_800_000_000_u64;
    assert_eq!(claims["iss"], "https://shop.example");
    assert_eq!(claims["aud"], "shop");
    assert_eq!(claims["sub"], "zoe");
    assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)));
    assert_eq!(claims["exp"], now + 30 * 60);
    assert_eq!(claims["auth_time"], now);
    assert_eq!(claims["attributes"], json!({"value": "x"}));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 43);
}

/// Two tokens of one cookie, both of them good: somebody has planted one, and nobody can tell which.
#[tokio::test]
async fn of_two_different_tokens_none_is_used() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (site, one) = victim(&maker).await;
        let mut browser = Browser::new(&site);
        browser.text("/login/adam").await;
        let two = browser.held();
        refused(&site, &maker.store, &format!("{one}; __Host-session={two}")).await;
        let twice = format!("{one}; __Host-session={one}");
        assert_eq!(Browser::with_id(&site, &twice).text("/whoami").await, "zoe");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a client sends: an answer, no session, and no question to the store.
    #[test]
    fn hostile_tokens_are_read_without_panic(
        kind in prop::sample::select(&KINDS[..]),
        parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5),
        start in prop::sample::select(vec!["", "v4.local.", "eyJhbGciOiJFZERTQSIsImtpZCI6IjIwMjYtMTEiLCJ0eXAiOiJzZXNzaW9uK2p3dCJ9."]),
    ) {
        let token = format!("{start}{}", parts.join("."));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let maker = Maker::new(kind);
            refused(&maker.site(), &maker.store, &token).await;
        });
    }
}
