//! URLs of this site, with the session in them.

use std::{borrow::Cow, fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{UrlConfig, is_dots};

/// Writes the session into URLs of this site, for a client that keeps no cookies. Cheap to clone.
///
/// [`Session::urls`](crate::Session::urls) makes it, for the request's own client: for one that came with a cookie every URL stays
/// as it is.
#[derive(Clone)]
pub struct UrlEncoder {
    writes: Option<Arc<Writes>>,
}

struct Writes {
    config: UrlConfig,
    site: Site,
    written: Written,
}

/// An id as it stands in URLs.
pub(crate) struct Written(pub(super) Zeroizing<String>);

/// What a request was asked of.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Host and port, if the request names them.
    pub(crate) authority: Option<String>,
    pub(crate) path: String,
}

impl UrlEncoder {
    /// Leaves every URL as it is.
    pub(crate) const fn idle() -> Self {
        Self { writes: None }
    }

    pub(crate) fn new(config: UrlConfig, site: Site, written: Written) -> Self {
        let writes = Writes {
            config,
            site,
            written,
        };
        Self {
            writes: Some(Arc::new(writes)),
        }
    }

    /// Whether the client needs the session in its URLs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.writes.is_some()
    }

    /// The URL with the session in its path, for `href`, `action` and the like. A reference to this site alone is changed: a path,
    /// absolute or relative; a query, to the page that was asked for; a URL of this host. It stays as it is
    ///
    /// - if it leads to another host or port, or to plain HTTP where the session is for HTTPS;
    /// - if it has another scheme (`mailto:`, `data:`, `javascript:` …), or a user's name;
    /// - if it is a fragment (`#top`), or empty;
    /// - if it holds a space, a control character or a backslash, which browsers read in several ways.
    ///
    /// A session that is in it already is replaced.
    #[must_use]
    pub fn encode<'u>(&self, url: &'u str) -> Cow<'u, str> {
        let encoded = self.writes.as_ref().and_then(|writes| writes.encode(url));
        encoded.map_or(Cow::Borrowed(url), Cow::Owned)
    }
}

impl Writes {
    fn encode(&self, url: &str) -> Option<String> {
        let odd = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'\\';
        if url.is_empty() || url.starts_with('#') || url.bytes().any(odd) {
            return None;
        }
        let (origin, rest) = self.own_origin(url)?;
        let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let path = match (path.is_empty(), origin.is_empty()) {
            (true, true) if self.site.path.bytes().any(odd) => return None,
            (true, true) => &self.site.path,
            (true, false) => "/",
            _ => path,
        };
        let mut encoded =
            String::with_capacity(url.len() + 2 + self.config.name().len() + self.written.0.len());
        encoded.push_str(origin);
        // The page's own path is no reference to a host, whatever it begins with.
        if origin.is_empty() && path.starts_with("//") {
            encoded.push_str("/.");
        }
        encoded.push_str(&self.config.without(path));
        // A parameter would make another segment of it.
        if path.rsplit('/').next().is_some_and(is_dots) {
            encoded.push('/');
        }
        encoded.push(';');
        encoded.push_str(self.config.name());
        encoded.push('=');
        encoded.push_str(&self.written.0);
        encoded.push_str(tail);
        Some(encoded)
    }

    /// The scheme and host that the URL begins with, if any, and the rest; `None` if they are not this site's.
    fn own_origin<'u>(&self, url: &'u str) -> Option<(&'u str, &'u str)> {
        let end = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (scheme, after) = match url[..end].split_once(':') {
            Some((scheme, _)) => (Some(scheme), &url[scheme.len() + 1..]),
            None => (None, url),
        };
        let Some(authority) = after.strip_prefix("//") else {
            // A scheme without a host is not one of the web's.
            return scheme.is_none().then_some(("", url));
        };
        let authority = &authority[..authority.find(['/', '?', '#']).unwrap_or(authority.len())];
        let is = |name: &str| scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(name));
        let default_port = match (is("https"), is("http") && !self.config.is_secure()) {
            // Without a scheme it is the page's.
            (true, true) => "",
            (true, false) => ":443",
            (false, true) => ":80",
            (false, false) => return None,
        };
        let host = |authority: &'_ str| {
            let host = authority.strip_suffix(default_port).unwrap_or(authority);
            host.to_ascii_lowercase()
        };
        let own = self.site.authority.as_deref()?;
        (!authority.is_empty() && host(authority) == host(own))
            .then(|| url.split_at(url.len() - after.len() + 2 + authority.len()))
    }
}

impl fmt::Debug for UrlEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlEncoder")
            .field("is_active", &self.is_active())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRing, SecretKey};

    fn encoder(secure: bool) -> UrlEncoder {
        let mut config = UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap()));
        if !secure {
            config = config.insecure_for_development();
        }
        let site = Site {
            authority: Some("shop.example".to_owned()),
            path: "/list".to_owned(),
        };
        UrlEncoder::new(config, site, Written(Zeroizing::new("ID".to_owned())))
    }

    #[test]
    fn urls_of_this_site_carry_the_session() {
        for (url, encoded) in [
            ("/", "/;sid=ID"),
            ("/cart", "/cart;sid=ID"),
            ("/cart?x=1", "/cart;sid=ID?x=1"),
            ("/cart#top", "/cart;sid=ID#top"),
            ("/cart?x=/#a?b", "/cart;sid=ID?x=/#a?b"),
            ("/cart/", "/cart/;sid=ID"),
            ("cart", "cart;sid=ID"),
            ("../cart", "../cart;sid=ID"),
            ("..", "../;sid=ID"),
            (".?x", "./;sid=ID?x"),
            ("a/..", "a/../;sid=ID"),
            ("?x=1", "/list;sid=ID?x=1"),
            ("/cart;sid=OLD?x", "/cart;sid=ID?x"),
            ("/a;v=1/b;sid=OLD;w=2", "/a;v=1/b;w=2;sid=ID"),
            ("https://shop.example", "https://shop.example/;sid=ID"),
            ("https://shop.example/cart", "https://shop.example/cart;sid=ID"),
            (
                "HTTPS://SHOP.example:443/cart?x",
                "HTTPS://SHOP.example:443/cart;sid=ID?x",
            ),
            ("https://shop.example?x", "https://shop.example/;sid=ID?x"),
            ("//shop.example/cart", "//shop.example/cart;sid=ID"),
            ("/http://evil.example/", "/http://evil.example/;sid=ID"),
            ("%2e%2E", "%2e%2E/;sid=ID"),
            ("/a/.%2e?x", "/a/.%2e/;sid=ID?x"),
        ] {
            assert_eq!(encoder(true).encode(url), encoded, "{url}");
        }
        let plain = encoder(false);
        assert_eq!(
            plain.encode("http://shop.example:80/x"),
            "http://shop.example:80/x;sid=ID"
        );
        assert_eq!(plain.encode("//shop.example/x"), "//shop.example/x;sid=ID");
    }

    /// What is taken out of a reference never makes another host's of it, nor climbs: an application may have checked it before.
    #[test]
    fn reference_leads_where_it_led() {
        for (url, encoded) in [
            ("/;sid=x/evil.example/", "/;sid=x/evil.example/;sid=ID"),
            ("/;sid=x;sid=y/evil.example", "/;sid=x;sid=y/evil.example;sid=ID"),
            (";sid=x//evil.example/", ";sid=x//evil.example/;sid=ID"),
            (";sid=x/cart", ";sid=x/cart;sid=ID"),
            ("/a/..;sid=x/cart", "/a/..;sid=x/cart;sid=ID"),
            ("/a/%2E.;sid=x/cart", "/a/%2E.;sid=x/cart;sid=ID"),
            ("/a/;sid=x", "/a/;sid=ID"),
        ] {
            assert_eq!(encoder(true).encode(url), encoded, "{url}");
        }
        let at = |path: &str| {
            let Writes { config, written, .. } = Arc::into_inner(encoder(true).writes.unwrap()).unwrap();
            let (authority, path) = (None, path.to_owned());
            UrlEncoder::new(config, Site { authority, path }, written)
        };
        assert_eq!(
            at("//evil.example/a").encode("?x=1"),
            "/.//evil.example/a;sid=ID?x=1"
        );
        assert_eq!(at("/\\evil.example/a").encode("?x=1"), "?x=1");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for url in [
            "",
            "#top",
            "https://evil.example/",
            "https://shop.example.evil.example/",
            "https://shop.example:8443/",
            "https://shop.example@evil.example/",
            "https://zoe@shop.example/",
            "https://zoe:secret@shop.example/",
            "http://shop.example/cart",
            "//evil.example/cart",
            "///evil.example/cart",
            "////evil.example",
            "https:/cart",
            "https:cart",
            "https://",
            "//",
            "ftp://shop.example/",
            "mailto:zoe@shop.example",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "tel:1",
            "a:b",
            "\\\\evil.example/",
            "/\\evil.example/",
            " //evil.example",
            "/a b",
            "\t//evil.example",
            "/\n/evil.example",
            "/\r",
        ] {
            for encoder in [encoder(true), UrlEncoder::idle()] {
                assert_eq!(encoder.encode(url), url, "{url}");
            }
        }
        assert_eq!(UrlEncoder::idle().encode("/cart"), "/cart");
        assert!(!format!("{:?}", encoder(true)).contains("ID"));
    }
}
