//! Bytes of every format ever released: they are read for ever. Never change one; add another.
#![cfg(all(feature = "bincode", feature = "json"))]
#![allow(clippy::unwrap_used)] // The lint sees helpers of tests as no tests.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use session_core::{Codecs, JsonCodec};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Visitor {
    name: String,
    initial: char,
    cart: BTreeMap<String, Line>,
    balance: i64,
    coupon: Option<u16>,
    address: Option<Address>,
    seen: Vec<u32>,
    login: Login,
    flags: (bool, i8, f64),
    by_year: BTreeMap<i32, u64>,
    unit: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    count: u32,
    cents: i128,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Login {
    Anonymous,
    Password { at: u64 },
    Token(String, [u8; 3]),
}

fn visitor() -> Visitor {
    Visitor {
        name: "Zoë \"Z\" \0\n".into(),
        initial: '𝄞',
        cart: BTreeMap::from([
            ("chair".into(), Line { count: 1, cents: -5 }),
            (
                "table".into(),
                Line {
                    count: 70_000,
                    cents: i128::MIN,
                },
            ),
        ]),
        balance: i64::MIN,
        coupon: None,
        address: Some(Address("1 Rue d'Été".into())),
        seen: vec![0, 250, 251, 65_535, 65_536, u32::MAX],
        login: Login::Token("t".into(), [0, 127, 255]),
        flags: (true, -1, -0.1),
        by_year: BTreeMap::from([(-44, 1), (2_026, u64::MAX)]),
        unit: (),
    }
}

/// A comment for each field, so that a reader can check the bytes by the format's specification: unsigned integers up
/// to 250 are one byte; 251, 252, 253, 254 announce 2, 4, 8, 16 bytes, little endian; signed ones are zigzag.
const BINCODE: &str = "
    0b 5a6fc3ab20225a2220000a                        name: 11 bytes
    f09d849e                                         initial: its UTF-8
    02                                               cart: two entries
       05 6368616972   01           09                  chair: 1, -5
       05 7461626c65   fc 70110100                      table: 70,000 in 4 bytes,
                       fe ffffffffffffffffffffffffffffffff  and the smallest in 16
    fd ffffffffffffffff                              balance: the smallest in 8
    00                                               coupon: none
    01 0d 3120527565206427c38974c3a9                 address: some, 13 bytes
    06 00 fa fbfb00 fbffff fc00000100 fcffffffff     seen: six
    02 01 74 007fff                                  login: the third variant, its string and its array
    01 ff 9a9999999999b9bf                           flags
    02 57 01 fbd40f fdffffffffffffffff               by_year: two entries
                                                     unit: nothing
";

const JSON: &str = concat!(
    r#"{"name":"Zoë \"Z\" \u0000\n","initial":"𝄞","#,
    r#""cart":{"chair":{"count":1,"cents":-5},"#,
    r#""table":{"count":70000,"cents":-170141183460469231731687303715884105728}},"#,
    r#""balance":-9223372036854775808,"coupon":null,"address":"1 Rue d'Été","#,
    r#""seen":[0,250,251,65535,65536,4294967295],"login":{"Token":["t",[0,127,255]]},"#,
    r#""flags":[true,-1,-0.1],"by_year":{"-44":1,"2026":18446744073709551615},"unit":null}"#,
);

/// The left column.
fn golden_hex() -> String {
    let is_hex =
        |word: &&str| word.len().is_multiple_of(2) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line = |line: &'static str| line.split_whitespace().take_while(is_hex);
    BINCODE.lines().flat_map(line).collect()
}

fn golden_bincode() -> Vec<u8> {
    let hex = golden_hex();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[test]
fn bincode_of_release_0_1() {
    let encoded = Codecs::default().encode(&visitor()).unwrap();
    let hex: String = encoded.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden_hex());
    assert_eq!(Codecs::default().decode(1, &golden_bincode()), Ok(visitor()));
}

#[test]
fn json_of_release_0_1() {
    let encoded = Codecs::new(Arc::new(JsonCodec)).encode(&visitor()).unwrap();
    assert_eq!(std::str::from_utf8(&encoded.bytes), Ok(JSON));
    assert_eq!(Codecs::default().decode(2, JSON.as_bytes()), Ok(visitor()));
}

/// bincode is no longer maintained: should it have to go, this reads what it wrote.
#[test]
fn another_implementation_reads_bincode_too() {
    let bytes = golden_bincode();
    let (value, read): (Visitor, usize) =
        oxicode::serde::decode_owned_from_slice(&bytes, oxicode::config::standard()).unwrap();
    assert_eq!((value, read), (visitor(), bytes.len()));
}
