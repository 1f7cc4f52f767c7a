//! The shop on a file, as it is without any option.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{Shop, ask, command};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn restarted_shop_knows_its_visitors() {
    let url = format!(
        "sqlite:{}?read_ms=10000&write_ms=10000&connect_ms=10000",
        folder("restarted").join("s.db").display()
    );
    let shop = Shop::start(&["--store", &url]);
    let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
    assert_eq!(guest.status, 303, "{}", guest.text);
    let id = guest.id.unwrap();
    shop.stop();

    let mut shop = Shop::start(&["--store", &url]);
    let added = ask(&shop, "/cart/add", Some(&id), Some("product=lamp"));
    assert_eq!((added.status, added.id), (303, None), "{}", added.text);
    // Without a moment to write anything.
    shop.signal("KILL");
    shop.ended();

    let shop = Shop::start(&["--store", &url]);
    let cart = ask(&shop, "/cart", Some(&id), None).text;
    assert!(
        cart.contains("Stoneware mug") && cart.contains("Desk lamp"),
        "{cart}"
    );
    shop.stop();
}

/// Two shops on one file, as two processes behind a load balancer on one machine.
#[test]
fn two_shops_share_a_file() {
    let url = format!(
        "sqlite:{}?read_ms=10000&write_ms=10000&connect_ms=10000",
        folder("two").join("s.db").display()
    );
    let shops = [Shop::start(&["--store", &url]), Shop::start(&["--store", &url])];
    let id = ask(&shops[0], "/cart/add", None, Some("product=mug")).id.unwrap();
    for round in 0..10 {
        let added = ask(&shops[round % 2], "/cart/add", Some(&id), Some("product=mug"));
        assert_eq!(added.status, 303, "{}", added.text);
    }
    for shop in shops {
        let cart = ask(&shop, "/cart", Some(&id), None).text;
        assert!(cart.contains("Stoneware mug"), "{cart}");
        shop.stop();
    }
}

#[test]
fn file_that_cannot_be_used_ends_the_shop_with_the_reason() {
    let folder = folder("unusable");
    std::fs::write(
        folder.join("letter"),
        "Dear reader, this is no database at all. ".repeat(100),
    )
    .unwrap();
    for (path, code, says) in [
        ("letter", 1, "no SQLite database"),
        ("nowhere/s.db", 1, "folder of the file is not there"),
        ("s.db?colour=red", 2, "\"colour\""),
    ] {
        let output = command()
            .args(["--listen", "127.0.0.1:0", "--store", &format!("sqlite:{path}")])
            .current_dir(&folder)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    }
}
