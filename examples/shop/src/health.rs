//! What a balancer asks of one shop among several: does it live, does it want visitors, and which one is it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};

const X_NODE: HeaderName = HeaderName::from_static("x-node");

/// Whether the shop wants visitors. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    leaving: Arc<AtomicBool>,
}

impl Health {
    /// From now on the shop is not ready, for good. It still answers whoever comes.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// The shop with `/healthz`, which answers 200 as long as the process does, and `/readyz`, which answers 503 once it is
/// [leaving](Health::leave). Every response says which node it is from, if that has a name.
///
/// Neither asks the store. A store that is down is down for every node: if that made them unready, the balancer would
/// have none left, and visitors its bare error instead of the shop's page that says to try again.
pub(crate) fn around(shop: Router, health: &Health, node: Option<HeaderValue>) -> Router {
    let [asked, health] = [health.clone(), health.clone()];
    Router::new()
        .route("/healthz", get(|| async { probe(StatusCode::OK, "alive\n") }))
        .route(
            "/readyz",
            get(move || async move {
                match asked.is_leaving() {
                    false => probe(StatusCode::OK, "ready\n"),
                    true => probe(StatusCode::SERVICE_UNAVAILABLE, "leaving\n"),
                }
            }),
        )
        .merge(shop)
        .layer(map_response(move |response| {
            let marked = mark(response, &health, node.as_ref());
            async { marked }
        }))
}

fn probe(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

fn mark(mut response: Response, health: &Health, node: Option<&HeaderValue>) -> Response {
    let headers = response.headers_mut();
    if let Some(node) = node {
        headers.insert(X_NODE, node.clone());
    }
    if health.is_leaving() {
        // Whoever keeps connections open would else send the next request on one just as it is closed.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn ask(shop: &Router, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).unwrap();
        shop.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn leaving_shop_is_alive_and_serves_but_is_not_ready() {
        for (path, before, after) in [
            ("/healthz", 200, 200),
            ("/readyz", 200, 503),
            ("/", 200, 200),
            ("/nowhere", 404, 404),
        ] {
            let health = Health::default();
            let pages = Router::new().route("/", get(|| async { "page" }));
            let shop = around(pages, &health, Some(HeaderValue::from_static("a")));
            let answer = ask(&shop, path).await;
            assert_eq!(answer.status(), before, "{path}");
            assert_eq!(answer.headers()["x-node"], "a", "{path}");
            assert!(!answer.headers().contains_key("connection"), "{path}");
            health.leave();
            let answer = ask(&shop, path).await;
            assert_eq!(answer.status(), after, "{path}");
            assert_eq!(answer.headers()["x-node"], "a", "{path}");
            assert_eq!(answer.headers()["connection"], "close", "{path}");
        }
    }

    #[tokio::test]
    async fn shop_without_a_name_tells_none() {
        let shop = around(Router::new(), &Health::default(), None);
        assert!(!ask(&shop, "/readyz").await.headers().contains_key("x-node"));
    }
}
