//! The shop whose visitors carry their sessions themselves, on a file that remembers who logged out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Carrier, Shop, command};

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
            store: format!(
                "sqlite:{}?read_ms=10000&write_ms=10000&connect_ms=10000",
                folder.join("s.db").display()
            ),
            keys: folder.join("keys"),
        }
    }

    fn start(&self, kind: &str) -> Shop {
        let keys = self.keys.to_str().unwrap();
        Shop::start(&["--store", &self.store, "--session", kind, "--keys", keys])
    }
}

#[test]
fn visitor_who_carries_the_session_shops_logs_in_and_logs_out() {
    for kind in KINDS {
        let place = Place::new(&format!("tokens-{kind}"));
        let shop = place.start(kind);
        let mut visitor = Carrier::new(&shop, None);
        visitor.post("/cart/add", "product=mug");
        let guest = visitor.held();
        assert!(guest.len() > 200, "{guest}");
        visitor.log_in();
        let cart = visitor.get("/cart").text;
        assert!(visitor.is_ada() && cart.contains("Stoneware mug"), "{cart}");
        let cart = Carrier::new(&shop, Some(&guest)).get("/cart").text;
        assert!(!cart.contains("Stoneware mug"), "{cart}");
        let page = visitor.get("/session").text;
        assert!(
            page.contains("your browser") && page.contains("/logout/everywhere"),
            "{page}"
        );
        let token = visitor.held();

        // Another process with the same file and the same keys knows all of it.
        shop.stop();
        let shop = place.start(kind);
        let (mut visitor, mut elsewhere) = (Carrier::new(&shop, Some(&token)), Carrier::new(&shop, None));
        assert!(visitor.is_ada());
        elsewhere.log_in();
        let out = visitor.post("/logout", "");
        assert_eq!((out.status, visitor.token), (303, None), "{}", out.text);
        let elsewhere = elsewhere.held();
        shop.stop();
        let shop = place.start(kind);
        assert!(!Carrier::new(&shop, Some(&token)).is_ada(), "{kind}: a copy");

        let (mut here, mut elsewhere) = (Carrier::new(&shop, None), Carrier::new(&shop, Some(&elsewhere)));
        here.log_in();
        assert!(elsewhere.is_ada(), "{kind}");
        here.post("/logout/elsewhere", "");
        assert!(here.is_ada() && !elsewhere.is_ada(), "{kind}");
        let copy = here.held();
        here.post("/logout/everywhere", "");
        assert!(
            !here.is_ada() && !Carrier::new(&shop, Some(&copy)).is_ada(),
            "{kind}"
        );
        shop.stop();
    }
}

#[test]
fn key_file_is_made_for_its_owner_and_its_keys_are_replaced() {
    let place = Place::new("tokens-keys");
    let shop = place.start("sealed");
    let mut visitor = Carrier::new(&shop, None);
    visitor.log_in();
    let old = visitor.held();
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
    let mut visitor = Carrier::new(&shop, Some(&old));
    assert!(visitor.is_ada());
    visitor.post("/cart/add", "product=mug");
    let new_token = visitor.held();
    shop.stop();
    fs::write(&place.keys, format!("{new}\n")).unwrap();
    let shop = place.start("sealed");
    assert!(Carrier::new(&shop, Some(&new_token)).is_ada());
    assert!(!Carrier::new(&shop, Some(&old)).is_ada());
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
