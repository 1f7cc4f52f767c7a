//! What a session in a token does as any other does, and what it costs.

use std::{sync::Arc, time::Duration};

use axum::http::{Request, StatusCode};
use session_core::{Lengths, SessionError, Subject};
use session_http::{Error, ResponseHeaders, SessionManager, Tokens};

use super::{KINDS, MINUTE, Maker};
use crate::support::{Browser, Moved, send, site_of};

/// The token that a response hands out.
fn token(headers: &ResponseHeaders) -> Option<String> {
    let (_, field) = headers.handed_out()?;
    let (_, value) = field.to_str().unwrap().split_once('=').unwrap();
    Some(value.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn session_travels_whole_and_the_store_keeps_nothing_of_it() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        assert_eq!(browser.text("/unused").await, "unused");
        assert_eq!(browser.text("/read").await, "nothing");
        assert_eq!(browser.id, None, "{kind:?}");

        browser.text("/write/apples").await;
        assert!(browser.held().len() > 200, "{kind:?}");
        assert_eq!(browser.text("/read").await, "apples");
        for count in 1..=3 {
            assert_eq!(browser.text("/count").await, count.to_string());
        }
        assert_eq!(browser.text("/read").await, "apples");
        assert!(maker.store.memory.is_empty(), "{kind:?}");
        // No handler asked: nobody asks the store.
        maker.store.calls();
        browser.text("/unused").await;
        assert!(maker.store.calls().is_empty());
    }
}

/// The round trips of the table in the README.
#[tokio::test]
async fn tokens_cost_the_round_trips_that_are_documented() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        assert!(maker.store.calls().is_empty(), "a new anonymous session");
        browser.text("/read").await;
        assert_eq!(maker.store.calls(), ["load"], "read");
        browser.text("/write/y").await;
        assert_eq!(maker.store.calls(), ["load"], "changed");
        browser.text("/login/zoe").await;
        let log_in = maker.store.calls();
        assert_eq!(
            log_in,
            ["load", "load", "create", "create"],
            "mark, epoch, new epoch, end of the old"
        );
        browser.text("/read").await;
        assert_eq!(
            maker.store.calls(),
            ["load", "load"],
            "the mark and the epoch, at once"
        );
        for path in ["/renew", "/logout"] {
            browser.text(path).await;
            assert_eq!(maker.store.calls(), ["load", "load", "create"], "{path}");
        }
        // The epoch lasts an eighth longer than it had to: the log-ins of the next hour only read it.
        maker.clock.forward(59 * MINUTE);
        Browser::new(&site).text("/login/zoe").await;
        assert_eq!(maker.store.calls(), ["load"]);
        maker.clock.forward(10 * MINUTE);
        Browser::new(&site).text("/login/zoe").await;
        assert_eq!(maker.store.calls(), ["load", "update"]);
    }
}

#[tokio::test]
async fn log_in_gives_another_token_and_ends_the_one_before() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut victim = Browser::new(&site);
        victim.text("/write/cart").await;
        let fixed = victim.held();
        victim.text("/login/zoe").await;
        assert_eq!(victim.text("/whoami").await, "zoe");
        assert_eq!(victim.text("/read").await, "cart");
        assert_eq!(Browser::with_id(&site, &fixed).text("/read").await, "nothing");

        // Again, and at any other change of privilege.
        for path in ["/login/zoe", "/renew"] {
            let before = victim.held();
            victim.text(path).await;
            assert_eq!(
                Browser::with_id(&site, &before).text("/whoami").await,
                "nobody",
                "{path}"
            );
            assert_eq!(victim.text("/whoami").await, "zoe");
        }
    }
}

/// CVE-2024-31999: what was sealed once was good for ever.
#[tokio::test]
async fn copied_token_is_nothing_after_logout() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        let before = browser.held();
        browser.text("/write/x").await;
        let copies = [before, browser.held()];
        let answer = browser.get("/logout").await;
        assert_eq!(answer.new_id().as_deref(), Some(""), "{kind:?}");
        for copy in &copies {
            assert_eq!(
                Browser::with_id(&site, copy).text("/whoami").await,
                "nobody",
                "{kind:?}"
            );
        }
        // Until the session would have ended in any case, and no longer: then its time is over too.
        maker.clock.forward(8 * 60 * MINUTE + Duration::from_secs(10));
        for copy in &copies {
            assert_eq!(
                Browser::with_id(&site, copy).text("/whoami").await,
                "nobody",
                "{kind:?}"
            );
        }
    }
}

/// The mark stays until the last node takes the token for expired.
#[tokio::test]
async fn logout_holds_on_a_node_whose_clock_is_behind() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let behind = Arc::new(Moved::default());
        maker.clock.forward(Tokens::SKEW);
        let site = |clock: &Arc<Moved>| {
            let sessions = maker.sessions().clock(clock.clone());
            let sessions = sessions.lengths(Lengths::new(60 * MINUTE, 60 * MINUTE));
            let manager = SessionManager::builder(sessions.build().unwrap());
            site_of(manager.tokens(maker.tokens()).build().unwrap())
        };
        let (site, late) = (site(&maker.clock), site(&behind));
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        let copy = browser.held();
        assert_eq!(Browser::with_id(&late, &copy).text("/read").await, "x");
        browser.text("/logout").await;
        for clock in [&maker.clock, &behind] {
            clock.forward(60 * MINUTE + Duration::from_secs(4));
        }
        assert_eq!(
            Browser::with_id(&late, &copy).text("/read").await,
            "nothing",
            "{kind:?}"
        );
    }
}

/// A mark lasts until the session's absolute end, not until that of the token which was presented: another copy may last longer.
#[tokio::test]
async fn logout_with_an_older_copy_ends_the_newer_one_for_good() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        let older = browser.held();
        maker.clock.forward(29 * MINUTE);
        browser.text("/read").await;
        assert_ne!(browser.held(), older);
        Browser::with_id(&site, &older).text("/logout").await;
        assert_eq!(browser.text("/read").await, "nothing", "{kind:?}");
        maker.clock.forward(10 * MINUTE);
        assert_eq!(browser.text("/read").await, "nothing", "{kind:?}");
    }
}

/// CVE-2025-46336, with nothing in the store to be brought back.
#[tokio::test]
async fn request_in_flight_hands_out_no_token_that_outlives_the_logout() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        let (parts, _) = browser.request("/write/late").into_parts();
        let slow = manager.open(&parts);
        let before: Option<String> = slow.session().get("value").await.unwrap();
        assert_eq!(before, None);
        browser.text("/logout").await;
        slow.session().insert("value", &"late".to_owned()).await.unwrap();
        let headers = manager.commit(&slow).await.unwrap();
        let (_, handed_out) = headers.handed_out().unwrap();
        let (_, token) = handed_out.to_str().unwrap().split_once('=').unwrap();
        let mut slow = Browser::with_id(&site, token.split(';').next().unwrap());
        assert_eq!(slow.text("/whoami").await, "nobody", "{kind:?}");
        assert_eq!(slow.text("/read").await, "nothing", "{kind:?}");
    }
}

/// Of requests that come with one token at once, one takes its place, or ends it; the others change nothing.
#[tokio::test]
async fn token_is_replaced_or_ended_once() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        for first in ["/login/zoe", "/renew", "/logout"] {
            let mut browser = Browser::new(&site);
            browser.text("/login/zoe").await;
            let late = manager.open(&browser.request("/").into_parts().0);
            assert!(late.session().subject().await.unwrap().is_some());
            browser.text(first).await;
            late.session().log_in(Subject::new("zoe").unwrap()).await.unwrap();
            let refused = manager.commit(&late).await.map(drop);
            assert!(
                matches!(refused, Err(Error::Session(SessionError::Gone))),
                "{kind:?} {first}: {refused:?}"
            );
            if let Some(held) = &browser.id {
                assert_eq!(Browser::with_id(&site, held).text("/whoami").await, "zoe");
            }
        }
    }
}

/// The store has done it, and its answer is lost: the request's own mark is not another's.
#[tokio::test]
async fn lost_reply_changes_nothing() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        for path in ["/login/zoe", "/login/zoe", "/renew", "/elsewhere", "/logout"] {
            let before = browser.held();
            if path == "/elsewhere" {
                maker.store.lose_reply_of("update");
                let answer = browser.get(path).await;
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{kind:?}");
                // Rather one log-in too many than one session.
                assert_eq!(browser.text("/whoami").await, "nobody", "{kind:?}");
                browser.text("/login/zoe").await;
                continue;
            }
            maker.store.lose_reply_of("create");
            browser.text(path).await;
            assert_eq!(
                Browser::with_id(&site, &before).text("/whoami").await,
                "nobody",
                "{kind:?} {path}"
            );
            let whom = match path {
                "/logout" => "nobody",
                _ => "zoe",
            };
            assert_eq!(browser.text("/whoami").await, whom, "{kind:?} {path}");
        }
    }
}

/// A new id is no new log-in: whoever was logged out everywhere meanwhile stays so.
#[tokio::test]
async fn renewal_in_flight_is_no_log_in_after_the_end_of_all() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let zoe = Subject::new("zoe").unwrap();
        for path in ["renew", "elsewhere", "log-in"] {
            let mut browser = Browser::new(&site);
            browser.text("/login/zoe").await;
            maker.clock.forward(MINUTE);
            let slow = manager.open(&browser.request("/").into_parts().0);
            assert_eq!(slow.session().subject().await.unwrap(), Some(zoe.clone()));
            manager.log_out_subject(&zoe).await.unwrap();
            match path {
                "renew" => slow.session().renew().await.unwrap(),
                "elsewhere" => assert_eq!(slow.session().log_out_elsewhere().await.unwrap(), 0),
                _ => slow.session().log_in(zoe.clone()).await.unwrap(),
            }
            let headers = manager.commit(&slow).await.unwrap();
            let mut slow = match token(&headers) {
                Some(token) => Browser::with_id(&site, &token),
                None => browser.clone(),
            };
            let after = match path {
                "log-in" => "zoe",
                _ => "nobody",
            };
            assert_eq!(slow.text("/whoami").await, after, "{kind:?} {path}");
            assert_eq!(browser.text("/whoami").await, "nobody", "{kind:?} {path}");
        }
    }
}

/// A log-in that sends everybody else away before it is committed, of a guest and of the user again.
#[tokio::test]
async fn log_in_that_logs_out_elsewhere_stays_alone() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        for begins in ["/unused", "/write/x", "/login/adam", "/login/zoe"] {
            let (mut here, mut there) = (Browser::new(&site), Browser::new(&site));
            here.text(begins).await;
            there.text("/login/zoe").await;
            maker.clock.forward(MINUTE);
            let visit = manager.open(&here.request("/").into_parts().0);
            visit
                .session()
                .log_in(Subject::new("zoe").unwrap())
                .await
                .unwrap();
            assert_eq!(visit.session().log_out_elsewhere().await.unwrap(), 1);
            let after = token(&manager.commit(&visit).await.unwrap()).unwrap();
            let after = Browser::with_id(&site, &after).text("/whoami").await;
            assert_eq!(after, "zoe", "{kind:?} {begins}");
            assert_eq!(there.text("/whoami").await, "nobody", "{kind:?} {begins}");
            assert_eq!(here.text("/whoami").await, "nobody", "{kind:?} {begins}");
        }
        // Another user of the same browser keeps his own.
        let mut adam = Browser::new(&site);
        adam.text("/login/adam").await;
        let visit = manager.open(&adam.request("/").into_parts().0);
        visit
            .session()
            .log_in(Subject::new("zoe").unwrap())
            .await
            .unwrap();
        visit.session().log_out_elsewhere().await.unwrap();
        assert_eq!(adam.text("/whoami").await, "adam", "nothing was committed");
    }
}

/// Two that send everybody else away at once: one of them at most stays.
#[tokio::test]
async fn of_two_that_log_out_elsewhere_not_both_stay() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let (mut one, mut other) = (Browser::new(&site), Browser::new(&site));
        one.text("/login/zoe").await;
        other.text("/login/zoe").await;
        let slow = manager.open(&other.request("/").into_parts().0);
        assert!(slow.session().subject().await.unwrap().is_some());
        one.text("/elsewhere").await;
        slow.session().log_out_elsewhere().await.unwrap();
        let headers = manager.commit(&slow).await.unwrap();
        let held = token(&headers).unwrap_or_else(|| other.held());
        assert_eq!(
            Browser::with_id(&site, &held).text("/whoami").await,
            "nobody",
            "{kind:?}: it was sent away"
        );
        assert_eq!(one.text("/whoami").await, "nobody", "{kind:?}: by the other");
    }
}

#[tokio::test]
async fn session_is_committed_as_often_as_its_handler_likes() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let mut known = Browser::new(&site);
        known.text("/login/adam").await;
        for browser in [Browser::new(&site), known] {
            let visit = manager.open(&browser.request("/").into_parts().0);
            let session = visit.session();
            session.insert("value", &"kept".to_owned()).await.unwrap();
            let _of_no_interest = session.commit().await.unwrap();
            session.log_in(Subject::new("zoe").unwrap()).await.unwrap();
            session.insert("value", &"kept".to_owned()).await.unwrap();
            let _of_no_interest = session.commit().await.unwrap();
            session.renew().await.unwrap();
            let headers = manager.commit(&visit).await.unwrap();
            let mut after = Browser::with_id(&site, &token(&headers).unwrap());
            assert_eq!(after.text("/whoami").await, "zoe", "{kind:?}");
            assert_eq!(after.text("/read").await, "kept", "{kind:?}");
            if let Some(before) = browser.id {
                assert_eq!(
                    Browser::with_id(&site, &before).text("/whoami").await,
                    "nobody",
                    "{kind:?}"
                );
            }
        }
    }
}

/// The body of a response is still being made when its head has the token.
#[tokio::test]
async fn logout_while_the_body_is_sent_ends_the_token_of_its_head() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        for ends in ["log-out", "renew"] {
            let visit = manager.open(&Browser::new(&site).request("/").into_parts().0);
            visit
                .session()
                .log_in(Subject::new("zoe").unwrap())
                .await
                .unwrap();
            let token = token(&manager.commit(&visit).await.unwrap()).unwrap();
            assert_eq!(Browser::with_id(&site, &token).text("/whoami").await, "zoe");
            match ends {
                "log-out" => visit.session().log_out().await.unwrap(),
                _ => visit.session().renew().await.unwrap(),
            }
            let _of_no_interest = visit.session().commit().await.unwrap();
            assert_eq!(
                Browser::with_id(&site, &token).text("/whoami").await,
                "nobody",
                "{kind:?} {ends}"
            );
        }
    }
}

#[tokio::test]
async fn everywhere_is_every_copy_of_every_token_of_the_subject_alone() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let (manager, site) = maker.managed();
        let mut browsers = [(); 3].map(|()| Browser::new(&site));
        for browser in &mut browsers {
            browser.text("/login/zoe").await;
        }
        let mut other = Browser::new(&site);
        other.text("/login/adam").await;

        let ended = manager
            .log_out_subject(&Subject::new("zoe").unwrap())
            .await
            .unwrap();
        assert_eq!(ended, 1, "whether there were any");
        for browser in &mut browsers {
            assert_eq!(browser.text("/whoami").await, "nobody", "{kind:?}");
        }
        assert_eq!(other.text("/whoami").await, "adam");
        // A new log-in is a new epoch.
        browsers[0].text("/login/zoe").await;
        assert_eq!(browsers[0].text("/whoami").await, "zoe");
        assert_eq!(browsers[1].text("/whoami").await, "nobody");
        let nobody = Subject::new("nobody").unwrap();
        assert_eq!(manager.log_out_subject(&nobody).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn elsewhere_is_every_token_but_the_one_that_asks() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let (mut here, mut there) = (Browser::new(&site), Browser::new(&site));
        here.text("/login/zoe").await;
        here.text("/write/x").await;
        there.text("/login/zoe").await;
        let copy = here.held();
        here.text("/elsewhere").await;
        assert_ne!(here.held(), copy);
        assert_eq!(here.text("/whoami").await, "zoe", "{kind:?}");
        assert_eq!(here.text("/read").await, "x");
        assert_eq!(there.text("/whoami").await, "nobody", "{kind:?}");
        assert_eq!(
            Browser::with_id(&site, &copy).text("/whoami").await,
            "nobody",
            "{kind:?}"
        );
    }
}

/// CVE-2018-1000814: an expired cookie was accepted again.
#[tokio::test]
async fn token_ends_with_its_idle_time_whatever_the_client_keeps() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/write/x").await;
        maker.clock.forward(29 * MINUTE);
        let before = browser.held();
        assert_eq!(browser.text("/read").await, "x");
        assert_ne!(browser.held(), before, "its idle time began anew");
        // At most once per slack.
        let at_once = browser.held();
        assert_eq!(browser.text("/read").await, "x");
        assert_eq!(browser.held(), at_once);

        maker.clock.forward(2 * MINUTE);
        assert_eq!(
            Browser::with_id(&site, &before).text("/read").await,
            "nothing",
            "{kind:?}"
        );
        assert_eq!(browser.text("/read").await, "x");
        maker.clock.forward(30 * MINUTE + Duration::from_secs(1));
        assert_eq!(browser.text("/read").await, "nothing", "{kind:?}");
    }
}

#[tokio::test]
async fn no_use_carries_a_token_past_its_absolute_deadline() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        for _ in 0..47 {
            maker.clock.forward(10 * MINUTE);
            assert_eq!(browser.text("/whoami").await, "zoe", "{kind:?}");
        }
        maker.clock.forward(10 * MINUTE);
        assert_eq!(browser.text("/whoami").await, "nobody", "{kind:?}");
    }
}

#[tokio::test]
async fn downed_store_fails_closed_for_tokens_too() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let mut browser = Browser::new(&site);
        browser.text("/login/zoe").await;
        let held = browser.held();
        maker.store.set_down(true);
        for path in ["/whoami", "/write/x", "/logout", "/login/adam"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{kind:?} {path}");
            assert_eq!(answer.new_id(), None);
        }
        maker.store.set_down(false);
        assert_eq!(browser.held(), held);
        assert_eq!(browser.text("/whoami").await, "zoe");
    }
}

/// The epoch of a log-in that lasts long is not cut by one that does not.
#[tokio::test]
async fn epoch_lasts_as_long_as_the_longest_token() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let site = maker.site();
        let (mut long, mut short) = (Browser::new(&site), Browser::new(&site));
        short.text("/login/zoe").await;
        long.text("/login/zoe").await;
        long.text("/remember/zoe").await;
        short.text("/login/zoe").await;
        for _ in 0..29 {
            maker.clock.forward(24 * 60 * MINUTE);
            assert_eq!(long.text("/whoami").await, "zoe", "{kind:?}");
        }
        assert_eq!(short.text("/whoami").await, "nobody");
    }
}

#[tokio::test]
async fn tokens_travel_in_headers_too() {
    for kind in KINDS {
        let maker = Maker::new(kind);
        let api = maker.api();
        let get = async |path: &str, token: Option<&str>| {
            let mut request = Request::get(path);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = send(&api, request.body(axum::body::Body::empty()).unwrap()).await;
            let handed_out = answer.headers.get("session-id");
            let token = handed_out.map(|token| token.to_str().unwrap().to_owned());
            (answer.body, token)
        };
        let (_, token) = get("/login/zoe", None).await;
        let token = token.unwrap();
        assert_eq!(get("/whoami", Some(&token)).await, ("zoe".to_owned(), None));
        assert_eq!(get("/logout", Some(&token)).await.1.as_deref(), Some(""));
        assert_eq!(get("/whoami", Some(&token)).await.0, "nobody");
    }
}
