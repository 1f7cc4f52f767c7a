use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::COOKIE};
use proptest::prelude::*;
use session_core::SessionId;

use super::*;
use crate::{
    KeyRing, SecretKey,
    transport::{Credential, Form},
};

const NAME: &str = CookieConfig::DEFAULT_NAME;

/// 43 characters each, and different.
const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const TWO: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE";

fn set_cookie(cookie: &CookieConfig, lasts: Duration) -> String {
    let header = cookie.store(ONE, lasts).unwrap();
    assert!(header.is_sensitive());
    header.to_str().unwrap().to_owned()
}

fn removal(cookie: &CookieConfig) -> String {
    cookie.removal().unwrap().to_str().unwrap().to_owned()
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn attributes_are_as_documented() {
    assert_eq!(
        set_cookie(&CookieConfig::default(), HOUR),
        format!("__Host-session={ONE}; HttpOnly; SameSite=Lax; Secure; Path=/")
    );
    assert_eq!(
        set_cookie(&CookieConfig::insecure_for_development(), HOUR),
        format!("session={ONE}; HttpOnly; SameSite=Lax; Path=/")
    );
    let all = CookieConfig::builder()
        .name("__Secure-sid")
        .same_site(SameSite::None)
        .http_only(false)
        .path("/shop")
        .domain("shop.example.org")
        .partitioned(true)
        .persistent(true)
        .build()
        .unwrap();
    assert_eq!(
        set_cookie(&all, HOUR),
        format!(
            "__Secure-sid={ONE}; SameSite=None; Partitioned; Secure; Path=/shop; Domain=shop.example.org; Max-Age=3600"
        )
    );
    let strict = CookieConfig::builder()
        .same_site(SameSite::Strict)
        .build()
        .unwrap();
    assert!(set_cookie(&strict, HOUR).contains("; SameSite=Strict;"));
}

#[test]
fn both_ways_to_the_development_cookie_agree() {
    let built = CookieConfig::builder()
        .insecure_for_development()
        .build()
        .unwrap();
    assert_eq!(built, CookieConfig::insecure_for_development());
    assert_eq!(CookieConfig::builder().build().unwrap(), CookieConfig::default());
}

#[test]
fn max_age_runs_to_the_deadline_and_is_capped() {
    let cookie = CookieConfig::builder().persistent(true).build().unwrap();
    let max_age = |lasts| {
        let text = set_cookie(&cookie, lasts);
        text.split("Max-Age=").nth(1).unwrap().to_owned()
    };
    assert_eq!(max_age(Duration::from_millis(59_001)), "60");
    assert_eq!(max_age(Duration::from_secs(60)), "60");
    // `Max-Age=0` would remove the cookie.
    assert_eq!(max_age(Duration::ZERO), "1");
    assert_eq!(max_age(Duration::from_secs(34_560_001)), "34560000");
    assert_eq!(max_age(Duration::MAX), "34560000");
}

#[test]
fn removal_repeats_every_attribute() {
    assert_eq!(
        removal(&CookieConfig::default()),
        "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
}

fn refused(cookie: CookieConfigBuilder) -> CookieError {
    cookie.build().unwrap_err()
}

#[test]
fn what_a_prefix_promises_is_kept() {
    let named = |name: &str| CookieConfig::builder().name(name);
    for (prefix, name) in [
        ("__Host-", "__Host-id"),
        ("__Host-", "__hOST-id"),
        ("__Host-Http-", "__Host-Http-id"),
        ("__Host-Http-", "__host-http-id"),
    ] {
        let expect = |requires| CookieError::Prefix { prefix, requires };
        assert_eq!(refused(named(name).insecure_for_development()), expect("Secure"));
        assert_eq!(refused(named(name).path("/shop")), expect("Path=/"));
        assert_eq!(
            refused(named(name).domain("example.org")),
            expect("leaving Domain out")
        );
        assert!(named(name).build().is_ok(), "{name}");
    }
    for (prefix, name) in [
        ("__Secure-", "__Secure-id"),
        ("__Secure-", "__SECURE-id"),
        ("__Http-", "__Http-id"),
    ] {
        let expect = |requires| CookieError::Prefix { prefix, requires };
        assert_eq!(refused(named(name).insecure_for_development()), expect("Secure"));
        assert!(named(name).path("/shop").domain("example.org").build().is_ok());
    }
    for (prefix, name) in [("__Http-", "__Http-id"), ("__Host-Http-", "__Host-Http-id")] {
        let requires = "HttpOnly";
        assert_eq!(
            refused(named(name).http_only(false)),
            CookieError::Prefix { prefix, requires }
        );
    }
    assert!(named("__Host-id").http_only(false).build().is_ok());
    assert!(named("__Hos").insecure_for_development().build().is_ok());
    assert!(named("x__Host-id").insecure_for_development().build().is_ok());
}

#[test]
fn what_needs_secure_is_refused_without() {
    let plain = || CookieConfig::builder().insecure_for_development();
    assert_eq!(
        refused(plain().same_site(SameSite::None)),
        CookieError::SameSiteNoneWithoutSecure
    );
    assert_eq!(
        refused(plain().partitioned(true)),
        CookieError::PartitionedWithoutSecure
    );
    let both = CookieConfig::builder()
        .same_site(SameSite::None)
        .partitioned(true);
    assert!(both.build().is_ok());
}

#[test]
fn octets_that_no_cookie_may_hold_are_refused() {
    for byte in 0..=255_u8 {
        let char = char::from(byte);
        let token = char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
        let named = CookieConfig::builder().name(format!("a{char}b")).build();
        assert_eq!(named.is_ok(), token, "name with {char:?}");
        let printable = (' '..='~').contains(&char) && char != ';';
        let with_path = CookieConfig::builder()
            .name("a")
            .path(format!("/a{char}b"))
            .build();
        assert_eq!(with_path.is_ok(), printable, "path with {char:?}");
        let host = char.is_ascii_alphanumeric() || "-.".contains(char);
        let with_domain = CookieConfig::builder().name("a").domain(format!("a{char}b.org"));
        assert_eq!(with_domain.build().is_ok(), host, "domain with {char:?}");
    }
    let named = |name: &str| CookieConfig::builder().name(name);
    assert_eq!(refused(named("")), CookieError::Name);
    for path in [
        "",
        "shop",
        " /",
        "/ ",
        "/shop; Secure",
        "/\r\nSet-Cookie: a=b",
        "/é",
    ] {
        assert_eq!(refused(named("a").path(path)), CookieError::Path, "{path:?}");
    }
    let long_label = format!("{}.org", "a".repeat(64));
    let long_name = format!("{}org", "a.".repeat(126));
    for domain in [
        "",
        "localhost",
        ".example.org",
        "example.org.",
        "example..org",
        "-a.org",
        "a-.org",
        "127.0.0.1",
        "::1",
        "exämple.org",
        "example.org; Path=/x",
        &long_label,
        &long_name,
    ] {
        assert_eq!(
            refused(named("a").domain(domain)),
            CookieError::Domain,
            "{domain:?}"
        );
    }
}

#[test]
fn size_is_measured_whole() {
    let name = |len: usize| CookieConfig::builder().name("n".repeat(len - SessionId::TEXT_LEN));
    for kept in [4095, 4096] {
        let cookie = name(kept).persistent(true).build().unwrap();
        let text = set_cookie(&cookie, HOUR);
        assert_eq!(text.split(';').next().unwrap().len(), kept + "=".len());
    }
    let (size, limit) = (4097, 4096);
    assert_eq!(refused(name(4097)), CookieError::TooLarge { size, limit });

    let path = |len: usize| {
        CookieConfig::builder()
            .name("a")
            .path(format!("/{}", "p".repeat(len - 1)))
    };
    assert!(path(1024).build().is_ok());
    let (size, limit) = (1025, 1024);
    assert_eq!(refused(path(1025)), CookieError::TooLarge { size, limit });
    let domain = CookieConfig::builder().name("a").domain("d".repeat(1025));
    assert_eq!(refused(domain), CookieError::TooLarge { size, limit });
}

fn headers(fields: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(COOKIE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    headers
}

/// Whether a cookie of our name was there, and the id it held.
fn presented(headers: &HeaderMap) -> (bool, Option<String>) {
    let found = CookieConfig::default().find(&Form::Id, headers);
    let sent = found.is_sent();
    let text = |credential| match credential {
        Credential::Id(id) => id.expose().to_string(),
        #[cfg(feature = "sealed")]
        Credential::Token(token) => token,
    };
    (sent, found.judged("cookie").map(text))
}

#[test]
fn one_id_is_found_wherever_it_stands() {
    let found = (true, Some(ONE.to_owned()));
    let ours = format!("{NAME}={ONE}");
    for fields in [
        vec![ours.clone()],
        vec![format!("a=b; {ours}; c=d")],
        vec![format!("a=b;{ours};c=d")],
        vec![format!("\t {ours} ;; =;")],
        vec!["a=b".to_owned(), "c=\u{e9}\"".to_owned(), ours.clone()],
        vec![format!("{ours}; {ours}"), ours.clone()],
        vec![format!("{NAME}=nonsense; {ours}")],
        vec![format!("{ours}; {NAME}=")],
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(presented(&headers(&fields)), found, "{fields:?}");
    }
}

#[test]
fn other_names_are_not_ours() {
    for field in [
        "".to_owned(),
        "a=b".to_owned(),
        NAME.to_owned(),
        format!("={NAME}={ONE}"),
        format!("__host-session={ONE}"),
        format!("__HOST-SESSION={ONE}"),
        format!("{NAME}2={ONE}"),
        format!("x{NAME}={ONE}"),
        format!("{NAME} ={ONE}"),
        format!("a={NAME}={ONE}"),
        format!("a=\"{NAME}={ONE}\""),
    ] {
        assert_eq!(presented(&headers(&[&field])), (false, None), "{field:?}");
    }
}

#[test]
fn malformed_values_give_no_id() {
    for value in [
        String::new(),
        " ".to_owned(),
        format!("\"{ONE}\""),
        format!(" {ONE}"),
        format!("{ONE}="),
        format!("{ONE}{ONE}"),
        ONE[1..].to_owned(),
        format!("{}B", &ONE[1..]),
        format!("{}+", &ONE[1..]),
        format!("{}%", &ONE[1..]),
        "../".repeat(20)[..43].to_owned(),
        "é".repeat(21) + "a",
        "A".repeat(10_000_000),
    ] {
        let field = format!("{NAME}={value}");
        assert_eq!(presented(&headers(&[&field])), (true, None));
    }
}

#[test]
fn of_two_different_ids_none_is_used() {
    let one = format!("{NAME}={ONE}");
    let two = format!("{NAME}={TWO}");
    for fields in [
        vec![format!("{one}; {two}")],
        vec![one.clone(), two.clone()],
        vec![two.clone(), one.clone(), one.clone()],
        vec![one.clone(), format!("{NAME}=x"), two.clone()],
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(presented(&headers(&fields)), (true, None), "{fields:?}");
    }
}

fn ring(keys: &[&SecretKey]) -> KeyRing {
    let copy = |key: &SecretKey| SecretKey::from_text(&key.to_text()).unwrap();
    let older = keys[1..].iter();
    older.fold(KeyRing::new(copy(keys[0])), |ring, key| {
        ring.reading(copy(key)).unwrap()
    })
}

fn signed_by(keys: &[&SecretKey]) -> CookieConfig {
    CookieConfig::builder().signed(&ring(keys)).build().unwrap()
}

/// What this cookie reads in one field of that value.
fn read(cookie: &CookieConfig, value: &str) -> (bool, bool) {
    let found = cookie.find(&Form::Id, &headers(&[&format!("{}={value}", cookie.name())]));
    (found.is_sent(), found.judged("cookie").is_some())
}

/// The value that this cookie sets for an id.
fn value(cookie: &CookieConfig, id: &str) -> String {
    let header = cookie.store(id, HOUR).unwrap();
    let (pair, _) = header.to_str().unwrap().split_once(';').unwrap();
    pair.split_once('=').unwrap().1.to_owned()
}

const READ: (bool, bool) = (true, true);
const REFUSED: (bool, bool) = (true, false);

#[test]
fn id_without_a_good_signature_is_none() {
    let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let cookie = signed_by(&[&key]);
    let signed = value(&cookie, ONE);
    assert_eq!(read(&cookie, &signed), READ);
    assert_eq!(signed.len(), ONE.len() + 44);
    let signature = &signed[ONE.len()..];
    for forged in [
        ONE.to_owned(),
        format!("{ONE}."),
        format!("{TWO}{signature}"),
        format!("{ONE}{}", &signature[..43]),
        format!("{signed}A"),
        format!("{ONE}.{}", "A".repeat(43)),
        value(&signed_by(&[&other]), ONE),
        // The same key in another cookie.
        value(
            &CookieConfig::builder()
                .name("__Host-other")
                .signed(&ring(&[&key]))
                .build()
                .unwrap(),
            ONE,
        ),
    ] {
        assert_eq!(read(&cookie, &forged), REFUSED, "{forged}");
    }
    // And what is signed is no id where nothing is.
    assert_eq!(read(&CookieConfig::default(), &signed), REFUSED);
}

#[test]
fn signing_key_is_replaced_without_losing_anybody() {
    let (old, new) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let (before, during, after) = (signed_by(&[&old]), signed_by(&[&new, &old]), signed_by(&[&new]));
    assert_eq!(read(&during, &value(&before, ONE)), READ);
    assert_eq!(read(&after, &value(&during, ONE)), READ);
    assert_eq!(read(&after, &value(&before, ONE)), REFUSED);
    assert_ne!(before, after);
    assert_eq!(before, before.clone());
    assert!(!format!("{before:?}").contains(&*old.to_text()));
}

#[test]
fn signature_counts_in_the_size() {
    let key = SecretKey::generate().unwrap();
    let of = |len: usize| {
        CookieConfig::builder()
            .name("n".repeat(len))
            .signed(&ring(&[&key]))
            .build()
    };
    assert!(of(4096 - 87).is_ok());
    assert_eq!(
        of(4096 - 86),
        Err(CookieError::TooLarge {
            size: 4097,
            limit: 4096
        })
    );
}

proptest! {
    /// Whatever a client sends: no panic, and an id only where the cookie crate's own parser sees it too.
    #[test]
    fn hostile_fields_are_read_without_panic(fields in prop::collection::vec(hostile_field(), 0..4)) {
        let mut headers = HeaderMap::new();
        for field in &fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        let (sent, id) = presented(&headers);
        if let Some(id) = id {
            prop_assert!(sent);
            let seen = fields.iter().any(|field| {
                let text = String::from_utf8_lossy(field);
                cookie::Cookie::split_parse(text.into_owned())
                    .flatten()
                    .any(|cookie| cookie.name() == NAME && cookie.value() == id)
            });
            prop_assert!(seen, "{:?}", fields);
        }
    }

    /// What is set is what a client's parser reads, attribute by attribute, and the removal differs in time and value
    /// alone.
    #[test]
    fn removal_matches_creation(cookie in config(), lasts in 0_u64..100_000_000) {
        let set = set_cookie(&cookie, Duration::from_secs(lasts));
        let set = cookie::Cookie::parse(set).unwrap();
        let removed = cookie::Cookie::parse(removal(&cookie)).unwrap();
        prop_assert_eq!(set.value(), ONE);
        prop_assert_eq!(set.max_age().is_some(), cookie.is_persistent());
        prop_assert_eq!(set.secure().unwrap_or(false), cookie.is_secure());
        prop_assert_eq!(removed.value(), "");
        prop_assert!(removed.max_age().unwrap().is_zero());
        prop_assert!(removed.expires_datetime().unwrap().unix_timestamp() == 0);
        let attributes = |cookie: &cookie::Cookie<'_>| {
            (
                cookie.name().to_owned(),
                cookie.path().map(str::to_owned),
                cookie.domain().map(str::to_owned),
                (cookie.secure(), cookie.http_only(), cookie.partitioned()),
                cookie.same_site(),
            )
        };
        prop_assert_eq!(attributes(&set), attributes(&removed));
        prop_assert!(is_named(&cookie.removal().unwrap(), cookie.name()));
    }
}

/// Bytes that a header may hold, among them many that nearly are our cookie.
fn hostile_field() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(NAME.as_bytes().to_vec()),
        Just(ONE.as_bytes().to_vec()),
        Just(TWO.as_bytes().to_vec()),
        Just(format!("; {NAME}={ONE}").into_bytes()),
        Just(b"=".to_vec()),
        Just(b"; ".to_vec()),
        Just(b"\"".to_vec()),
        prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..50),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// Every combination that is not refused.
fn config() -> impl Strategy<Value = CookieConfig> {
    let name = prop_oneof![
        Just("__Host-session"),
        Just("__Host-Http-id"),
        Just("__Secure-id"),
        Just("__Http-id"),
        Just("id"),
    ];
    let same_site = prop_oneof![Just(SameSite::Strict), Just(SameSite::Lax), Just(SameSite::None)];
    let flags = [prop::bool::ANY; 6];
    (name, same_site, flags).prop_filter_map("refused", |(name, same_site, flags)| {
        let [plain, http_only, path, domain, partitioned, persistent] = flags;
        let mut cookie = CookieConfig::builder()
            .name(name)
            .same_site(same_site)
            .http_only(http_only)
            .partitioned(partitioned)
            .persistent(persistent);
        if plain {
            cookie = cookie.insecure_for_development();
        }
        if path {
            cookie = cookie.path("/shop/a b");
        }
        if domain {
            cookie = cookie.domain("shop.example.org");
        }
        cookie.build().ok()
    })
}
