//! Responses whose bodies are sent for long, after their sessions were committed.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body, response::Response, routing::get};
use http_body_util::{BodyExt, channel::Channel};
use session_core::Bytes;
use session_http::{Error, Session, SessionLayer, SessionManager};
use tokio::sync::{Mutex, mpsc};
use tower::ServiceExt;

use crate::support::{Browser, Watched, manager, routes};

/// A body that tells, each time it is asked, who is logged in and what the session holds, until nobody is.
async fn stream(session: Session, asked: Arc<Mutex<mpsc::Receiver<()>>>) -> Result<Response, Error> {
    session.insert("value", &"begun".to_owned()).await?;
    let (mut body, response) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        while asked.lock().await.recv().await.is_some() {
            let now = session.reopen().await;
            let user = now.subject().await.unwrap();
            let value: Option<String> = now.get("value").await.unwrap();
            let seen: u32 = now.update("seen", |seen| seen.unwrap_or(0) + 1).await.unwrap();
            let line = match user {
                Some(user) => format!("{} {} {seen}", user.as_str(), value.unwrap_or_default()),
                None => "nobody".to_owned(),
            };
            if line != "nobody" {
                let _no_id = now.commit().await.unwrap();
            }
            let end = line == "nobody";
            body.send_data(line.into()).await.unwrap();
            if end {
                break;
            }
        }
    });
    Ok(Response::new(Body::new(response)))
}

async fn watch_a_session(manager: SessionManager) {
    let (ask, asked) = mpsc::channel(1);
    let asked = Arc::new(Mutex::new(asked));
    let site = routes()
        .route(
            "/stream",
            get(move |session: Session| stream(session, asked.clone())),
        )
        .layer(SessionLayer::new(manager));
    let site: Router = site;
    let mut page = Browser::new(&site);
    page.text("/login/zoe").await;

    let response = site.clone().oneshot(page.request("/stream")).await.unwrap();
    let mut body = response.into_body();
    let mut line = async || {
        ask.send(()).await.unwrap();
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    };
    // Committed before the head was sent, and not by halves.
    assert_eq!(line().await.as_deref(), Some("zoe begun 1"));
    assert_eq!(page.text("/read").await, "begun");
    page.text("/write/changed").await;
    assert_eq!(line().await.as_deref(), Some("zoe changed 2"));
    page.text("/logout").await;
    assert_eq!(line().await.as_deref(), Some("nobody"));
    assert!(body.frame().await.is_none(), "the stream ends");
}

#[tokio::test]
async fn stream_sees_the_session_as_it_is_now_and_ends_with_it() {
    watch_a_session(manager(&Watched::shared())).await;
}
