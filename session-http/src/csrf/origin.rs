//! Where a request comes from, as the browser says.
//!
//! `Sec-Fetch-Site` (Fetch Metadata, on HTTPS and on loopback), else `Origin`, which comes with every POST. A page can
//! neither set nor remove them. With neither, the request is no browser's: whoever wrote it holds the cookie already.

use http::{HeaderName, Request, Uri, header};

use crate::host::{one, own_host};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request comes from this host, from an allowed origin, or from no browser. Every doubt is a no.
pub(super) fn is_ours<B>(request: &Request<B>, allowed: &[String]) -> bool {
    let (headers, origin) = (request.headers(), one(request.headers(), &header::ORIGIN));
    if let Some(Some(origin)) = origin
        && allowed.iter().any(|allowed| allowed == origin)
    {
        return true;
    }
    match (one(headers, &SEC_FETCH_SITE), origin) {
        // `none`: the visitor did it, by reloading the page, say. `same-site` is another host: not us.
        (Some(site), _) => matches!(site, Some("same-origin" | "none")),
        // A proxy may speak HTTPS in front of us, so the scheme is not compared. `null` is not ours.
        (None, Some(origin)) => origin
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, host)| own_host(request.uri(), headers) == Some(host)),
        (None, None) => true,
    }
}

/// Whether it is an origin as browsers write it.
pub(super) fn is_origin(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let own_port = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let written = format!("{scheme}://{authority}");
    origin == written
        && origin == origin.to_ascii_lowercase()
        && !authority.as_str().contains('@')
        && !authority.as_str().ends_with(':')
        && (uri.port_u16().is_none() || uri.port_u16() != own_port)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn from(target: &str, headers: &[(&'static str, &'static str)], allowed: &[&str]) -> bool {
        let mut request = Request::post(target).body(()).unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        is_ours(&request, &allowed)
    }

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        from("/cart", headers, &[])
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
        // A page with `Referrer-Policy: no-referrer` has no other origin to show.
        assert!(ours(&[
            HOST,
            ("sec-fetch-site", "same-origin"),
            ("origin", "null")
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

    #[test]
    fn host_of_the_target_counts_before_the_header() {
        let origin = ("origin", "https://shop.example");
        let other = ("host", "evil.example");
        assert!(from("https://shop.example/cart", &[origin], &[]));
        assert!(from("https://shop.example/cart", &[origin, other], &[]));
        assert!(!from(
            "https://evil.example/cart",
            &[origin, ("host", "shop.example")],
            &[]
        ));
    }

    #[test]
    fn allowed_origins_pass_and_their_neighbours_do_not() {
        let allowed = &["https://app.example"];
        let asks = |origin| {
            from(
                "/cart",
                &[HOST, ("sec-fetch-site", "cross-site"), ("origin", origin)],
                allowed,
            )
        };
        assert!(asks("https://app.example"));
        for other in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://x.app.example",
            "null",
        ] {
            assert!(!asks(other), "{other}");
        }
        let twice = [
            HOST,
            ("origin", "https://app.example"),
            ("origin", "https://app.example"),
        ];
        assert!(!from("/cart", &twice, allowed));
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for origin in [
            "https://shop.example",
            "http://127.0.0.1:3000",
            "https://[::1]:8443",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for not in [
            "",
            "null",
            "*",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/cart",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://shop.example:",
            "https://Shop.example",
            "HTTPS://shop.example",
            "https://ann@shop.example",
            "https://*.shop.example?",
        ] {
            assert!(!is_origin(not), "{not}");
        }
    }
}
