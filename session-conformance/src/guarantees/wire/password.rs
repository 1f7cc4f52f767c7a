//! A password that the server refuses.

use std::error;

use session_core::{ErrorKind, Record};

use super::answered;
use crate::{
    Cx, Verdict,
    expect::{ensure, refused},
};

/// A wrong password is `Unavailable`, and is said once: no call makes a second connection to try it again, which would
/// lock the user out sooner. Neither an error, nor what caused it, nor the store's `Debug` shows it.
///
/// Catches a URL with its password in an error or a log, and a retry of what cannot succeed.
pub(super) async fn wrong_password_is_not_retried_and_not_shown(cx: Cx) -> Verdict {
    const CALLS: usize = 5;
    let secret = format!("horse{}", cx.rng(0).u64(..));
    let (proxy, store) = cx.denied(&secret).await?;
    // One to each server, where there are several.
    let servers = proxy.addresses().len();
    let opened = proxy.connections();
    ensure(opened <= servers, || {
        format!(
            "opening a store with a wrong password\nexpected: {servers} connections at most\nseen: {opened}"
        )
    })?;
    let shown = |what: &str, text: String| {
        ensure(!text.contains(&secret), || {
            format!("{what}\nexpected: no password\nseen: {text}")
        })
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => {
            ensure(opened > 0, || {
                "connections of a store that could not be opened\nexpected: one\nseen: none".to_owned()
            })?;
            return shown("the error at opening", text_of(&*error));
        }
    };
    shown("the store's Debug", format!("{store:?} {store:#?}"))?;
    let (key, record) = (cx.key(), Record::new("data"));
    for call in 0..CALLS {
        let seen = match call % 3 {
            0 => answered("load", store.load(&key)).await?.map(drop),
            1 => answered("create", store.create(&key, &record, Cx::LONG))
                .await?
                .map(drop),
            _ => answered("delete", store.delete(&key, None)).await?.map(drop),
        };
        if let Err(error) = &seen {
            shown("the error", text_of(error))?;
        }
        refused("a call with a wrong password", seen, ErrorKind::Unavailable)?;
    }
    let made = proxy.connections();
    let most = opened + CALLS * servers;
    ensure((1..=most).contains(&made), || {
        format!("connections of {CALLS} calls with a wrong password\nexpected: 1 to {most}\nseen: {made}")
    })?;
    shown("the store's Debug", format!("{store:?} {store:#?}"))
}

/// All that an error and its sources say.
fn text_of(error: &(dyn error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&format!("{error} {error:#} {error:?} {error:#?}\n"));
        next = error.source();
    }
    text
}
