//! Whether a request came over HTTPS.

use http::{HeaderMap, Uri, uri};

/// How a request reached the site, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Over HTTPS.
    Https,
    /// Over plain HTTP: no `Secure` cookie is read or sent.
    Http,
    /// Nobody said: treated as HTTPS.
    Unknown,
}

/// Where the manager learns whether a request came over HTTPS.
///
/// On a request known to have come over plain HTTP, a `Secure` cookie is neither read nor sent; an event says so. A
/// request of which nothing is known counts as HTTPS: most sites stand behind a proxy that ends it, and browsers drop a
/// `Secure` cookie that arrives over plain HTTP.
///
/// A header that names it is trusted only when chosen here: behind no proxy, every client could write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SchemeSource {
    /// The request target, where it has a scheme (HTTP/2; HTTP/1 through a proxy); otherwise unknown. The default.
    #[default]
    RequestTarget,
    /// Every request came over HTTPS, whatever it says itself: something in front of this process sees to it.
    AlwaysHttps,
    /// `X-Forwarded-Proto`, which the proxy in front of this process writes on every request, replacing what the client
    /// sent. HTTPS if every value listed is `https`; plain HTTP otherwise, and also without the header, since the
    /// request then did not come through the proxy.
    XForwardedProto,
}

impl SchemeSource {
    pub(crate) fn scheme(self, target: &Uri, headers: &HeaderMap) -> Scheme {
        match self {
            Self::AlwaysHttps => Scheme::Https,
            Self::RequestTarget => match target.scheme() {
                Some(scheme) if *scheme == uri::Scheme::HTTPS => Scheme::Https,
                Some(scheme) if *scheme == uri::Scheme::HTTP => Scheme::Http,
                _ => Scheme::Unknown,
            },
            Self::XForwardedProto => forwarded(headers),
        }
    }
}

fn forwarded(headers: &HeaderMap) -> Scheme {
    let mut values = headers
        .get_all("x-forwarded-proto")
        .into_iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .peekable();
    let present = values.peek().is_some();
    if present && values.all(|value| value.trim_ascii().eq_ignore_ascii_case(b"https")) {
        Scheme::Https
    } else {
        Scheme::Http
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: SchemeSource, target: &str, forwarded: &[&str]) -> Scheme {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-proto", value.parse().unwrap());
        }
        source.scheme(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn target_tells_its_scheme_or_nothing() {
        use SchemeSource::RequestTarget;
        assert_eq!(of(RequestTarget, "/cart", &[]), Scheme::Unknown);
        assert_eq!(of(RequestTarget, "https://shop.example/", &[]), Scheme::Https);
        assert_eq!(of(RequestTarget, "http://shop.example/", &[]), Scheme::Http);
        assert_eq!(of(RequestTarget, "ftp://shop.example/", &[]), Scheme::Unknown);
    }

    #[test]
    fn forwarded_header_counts_only_when_chosen() {
        use SchemeSource::{AlwaysHttps, RequestTarget, XForwardedProto};
        assert_eq!(of(RequestTarget, "/", &["http"]), Scheme::Unknown);
        assert_eq!(
            of(RequestTarget, "http://shop.example/", &["https"]),
            Scheme::Http
        );
        assert_eq!(of(AlwaysHttps, "http://shop.example/", &["http"]), Scheme::Https);
        assert_eq!(of(XForwardedProto, "/", &["https"]), Scheme::Https);
        assert_eq!(
            of(XForwardedProto, "http://node:8080/", &["HTTPS"]),
            Scheme::Https
        );
    }

    #[test]
    fn doubtful_forwarded_headers_are_plain_http() {
        let cases: [&[&str]; 6] = [
            &[],
            &["http"],
            &["https, http"],
            &["https", "http"],
            &["https,"],
            &["\"https\""],
        ];
        for forwarded in cases {
            let scheme = of(SchemeSource::XForwardedProto, "https://shop.example/", forwarded);
            assert_eq!(scheme, Scheme::Http, "{forwarded:?}");
        }
        assert_eq!(
            of(SchemeSource::XForwardedProto, "/", &["https, https", "https"]),
            Scheme::Https
        );
    }
}
