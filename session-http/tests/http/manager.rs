//! The manager alone, as a framework without tower uses it.

use http::{HeaderMap, Request, StatusCode, header::SET_COOKIE, request::Parts};
use session_http::SessionManager;

use crate::support::{Watched, manager};

fn parts(id: Option<&str>) -> Parts {
    let mut request = Request::get("/");
    if let Some(id) = id {
        request = request.header("cookie", format!("__Host-session={id}"));
    }
    request.body(()).unwrap().into_parts().0
}

/// One request that does `work`; the headers of its response.
async fn visit(
    manager: &SessionManager,
    id: Option<&str>,
    work: impl AsyncFnOnce(&session_core::Session),
) -> HeaderMap {
    let visit = manager.open(&parts(id));
    work(visit.session()).await;
    let mut headers = HeaderMap::new();
    manager.commit(&visit).await.unwrap().apply(&mut headers);
    headers
}

#[tokio::test]
async fn parts_in_headers_out() {
    let store = Watched::shared();
    let manager = manager(&store);
    let set = visit(&manager, None, async |session| {
        session.insert("value", &1_u32).await.unwrap();
    })
    .await;
    let cookie = set[SET_COOKIE].to_str().unwrap();
    let id = cookie.strip_prefix("__Host-session=").unwrap()[..43].to_owned();
    assert_eq!(set["vary"], "Cookie");
    assert_eq!(set["cache-control"], "no-store");

    let read = visit(&manager, Some(&id), async |session| {
        assert_eq!(session.get("value").await.unwrap(), Some(1_u32));
    })
    .await;
    assert!(!read.contains_key(SET_COOKIE));

    assert!(visit(&manager, Some(&id), async |_| {}).await.is_empty());

    let removed = visit(&manager, Some(&id), async |session| {
        session.log_out().await.unwrap()
    })
    .await;
    assert!(
        removed[SET_COOKIE]
            .to_str()
            .unwrap()
            .starts_with("__Host-session=; ")
    );
    assert!(store.memory.is_empty());
}

#[tokio::test]
async fn commit_fails_visibly() {
    let store = Watched::shared();
    let manager = manager(&store);
    let visit = manager.open(&parts(None));
    visit.session().insert("value", &1_u32).await.unwrap();
    store.set_down(true);
    let error = manager.commit(&visit).await.unwrap_err();
    assert_eq!(
        manager.error_response(&error).status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
}

/// A client that sent no cookie has none to remove, even if it got and lost a session meanwhile.
#[tokio::test]
async fn cookie_that_was_not_sent_is_not_removed() {
    let store = Watched::shared();
    let headers = visit(&manager(&store), None, async |session| {
        session.insert("value", &1_u32).await.unwrap();
        let _superseded = session.commit().await.unwrap();
        session.log_out().await.unwrap();
    })
    .await;
    assert!(!headers.contains_key(SET_COOKIE), "{headers:?}");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(store.memory.is_empty());
}
