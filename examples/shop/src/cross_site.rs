//! The first defence against forged forms, on top of the cookie's `SameSite=Lax`.
//!
//! A browser says where a request comes from: `Sec-Fetch-Site` on HTTPS and on loopback, `Origin` with every POST.
//! A page cannot set or remove either. So an unsafe method that comes from elsewhere is refused before anything is
//! done. A request with neither header is no browser's (curl, say), and whoever wrote it holds the cookie already.
//! Safe methods pass: they change nothing here.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::failure::Failure;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses unsafe requests that other sites made.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_ours(request.headers()) {
        next.run(request).await
    } else {
        Failure::CrossSite.into_response()
    }
}

fn is_ours(headers: &HeaderMap) -> bool {
    match one(headers, &SEC_FETCH_SITE) {
        // `none`: the visitor did it, by reloading the page, say. `same-site` is another host: not us.
        Some(site) => matches!(site, Some("same-origin" | "none")),
        None => match one(headers, &header::ORIGIN) {
            // A proxy may speak HTTPS in front of us, so the scheme is not compared. `null` is not ours.
            Some(origin) => origin
                .and_then(|origin| origin.split_once("://"))
                .is_some_and(|(_, host)| one(headers, &header::HOST) == Some(Some(host))),
            None => true,
        },
    }
}

/// The header's only value: `None` if it is absent, `Some(None)` if it is there twice or is no text.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_ours(&map)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:3000");

    #[test]
    fn own_pages_and_other_programs_pass() {
        assert!(ours(&[HOST]));
        assert!(ours(&[HOST, ("sec-fetch-site", "same-origin")]));
        assert!(ours(&[HOST, ("sec-fetch-site", "none")]));
        assert!(ours(&[HOST, ("origin", "http://127.0.0.1:3000")]));
        assert!(ours(&[
            ("host", "shop.example"),
            ("origin", "https://shop.example")
        ]));
    }

    #[test]
    fn other_sites_do_not() {
        assert!(!ours(&[HOST, ("sec-fetch-site", "cross-site")]));
        assert!(!ours(&[HOST, ("sec-fetch-site", "same-site")]));
        assert!(!ours(&[HOST, ("sec-fetch-site", "")]));
        assert!(!ours(&[
            HOST,
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none")
        ]));
        assert!(!ours(&[
            HOST,
            ("sec-fetch-site", "cross-site"),
            ("origin", "http://127.0.0.1:3000")
        ]));
        assert!(!ours(&[HOST, ("origin", "null")]));
        assert!(!ours(&[HOST, ("origin", "http://127.0.0.1:3001")]));
        assert!(!ours(&[HOST, ("origin", "http://127.0.0.1:3000.evil.example")]));
        assert!(!ours(&[
            HOST,
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "http://127.0.0.1:3000")
        ]));
        assert!(
            !ours(&[("origin", "http://127.0.0.1:3000")]),
            "no host to compare with"
        );
    }
}
