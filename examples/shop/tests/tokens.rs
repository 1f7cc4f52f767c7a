//! The shop whose visitors carry their sessions themselves, on a file that remembers who logged out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Answer, Shop, ask, command};

const KINDS: [&str; 2] = ["sealed", "jwt"];

struct Place {
    store: String,
    keys: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self {
            store: format!("sqlite:{}", folder.join("s.db").display()),
            keys: folder.join("keys"),
        }
    }

    fn start(&self, kind: &str) -> Shop {
        let keys = self.keys.to_str().unwrap();
        Shop::start(&["--store", &self.store, "--session", kind, "--keys", keys])
    }
}

fn log_in(shop: &Shop, token: Option<&str>) -> String {
    let form = "name=ada&password=analytical+engine";
    let login = ask(shop, "/login", token, Some(form));
    assert_eq!(login.status, 303, "{}", login.text);
    login.id.unwrap()
}

fn is_ada(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.contains("/logout")
}

#[test]
fn visitor_who_carries_the_session_shops_logs_in_and_logs_out() {
    for kind in KINDS {
        let place = Place::new(&format!("tokens-{kind}"));
        let shop = place.start(kind);
        let guest = ask(&shop, "/cart/add", None, Some("product=mug")).id.unwrap();
        assert!(guest.len() > 200, "{guest}");
        let token = log_in(&shop, Some(&guest));
        let cart = ask(&shop, "/cart", Some(&token), None);
        assert!(
            is_ada(&cart) && cart.text.contains("Stoneware mug"),
            "{}",
            cart.text
        );
        assert!(
            !ask(&shop, "/cart", Some(&guest), None)
                .text
                .contains("Stoneware mug")
        );
        let page = ask(&shop, "/session", Some(&token), None).text;
        assert!(
            page.contains("your browser") && page.contains("/logout/everywhere"),
            "{page}"
        );

        // Another process with the same file and the same keys knows all of it.
        shop.stop();
        let shop = place.start(kind);
        assert!(is_ada(&ask(&shop, "/cart", Some(&token), None)));
        let elsewhere = log_in(&shop, None);
        let out = ask(&shop, "/logout", Some(&token), Some(""));
        assert_eq!((out.status, out.id.as_deref()), (303, Some("")), "{}", out.text);
        shop.stop();
        let shop = place.start(kind);
        assert!(
            !is_ada(&ask(&shop, "/cart", Some(&token), None)),
            "{kind}: a copy"
        );

        let here = log_in(&shop, None);
        let out = ask(&shop, "/logout/elsewhere", Some(&here), Some(""));
        let here = out.id.unwrap();
        assert!(is_ada(&ask(&shop, "/cart", Some(&here), None)), "{kind}");
        assert!(!is_ada(&ask(&shop, "/cart", Some(&elsewhere), None)), "{kind}");
        ask(&shop, "/logout/everywhere", Some(&here), Some(""));
        assert!(!is_ada(&ask(&shop, "/cart", Some(&here), None)), "{kind}");
        shop.stop();
    }
}

#[test]
fn key_file_is_made_for_its_owner_and_its_keys_are_replaced() {
    let place = Place::new("tokens-keys");
    let shop = place.start("sealed");
    let old = log_in(&shop, None);
    shop.stop();
    let made = fs::read_to_string(&place.keys).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&place.keys).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let key = made.lines().find(|line| !line.starts_with('#')).unwrap();
    let new = "c2Vzc2lvbi1odHRwIGtleSBvZiBhIHRlc3QgMDEyMzQ";
    fs::write(&place.keys, format!("{new}\n{key}\n")).unwrap();
    let shop = place.start("sealed");
    assert!(is_ada(&ask(&shop, "/cart", Some(&old), None)));
    let added = ask(&shop, "/cart/add", Some(&old), Some("product=mug"))
        .id
        .unwrap();
    shop.stop();
    fs::write(&place.keys, format!("{new}\n")).unwrap();
    let shop = place.start("sealed");
    assert!(is_ada(&ask(&shop, "/cart", Some(&added), None)));
    assert!(!is_ada(&ask(&shop, "/cart", Some(&old), None)));
    let log = shop.stop();
    assert!(!log.contains(new) && !log.contains(key), "{log}");

    let refused = |text: &str, says: &str| {
        fs::write(&place.keys, text).unwrap();
        let keys = place.keys.to_str().unwrap();
        let arguments = [
            "--listen",
            "0",
            "--store",
            "memory:",
            "--session",
            "sealed",
            "--keys",
            keys,
        ];
        let output = command().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(says) && !error.contains(new), "{error}");
    };
    refused("# nothing\n", "has no key");
    refused("password\n", "line 1: a secret key is 43 characters");
    refused(
        &format!("{new}\n{new}\n"),
        "line 2: the key ring has this key already",
    );
}
