//! The URLs of groups that are not ours.

use crate::{Error, Result};

/// What a URL with several addresses names.
pub(crate) struct Addresses {
    /// `USER:PASSWORD@`, or nothing.
    credentials: String,
    /// Each is `HOST:PORT`.
    pub(crate) list: Vec<String>,
}

impl Addresses {
    /// Of `SCHEME://[CREDENTIALS@]HOST:PORT,…[/PATH][?…]`, and the path. The error does not show the URL.
    pub(crate) fn parse(url: &str, scheme: &str) -> Result<(Self, String)> {
        let rest = url
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .ok_or_else(|| Error::new(format!("the URL does not begin with {scheme}://")))?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        let list: Vec<_> = hosts.split(',').map(str::to_owned).collect();
        if list.iter().any(|address| !address.contains(':')) {
            return Err(Error::new("the URL names no port for each host"));
        }
        Ok((Self { credentials, list }, path.to_owned()))
    }

    /// The URL of the server at an address, with the same credentials.
    pub(crate) fn url(&self, address: &str) -> String {
        format!("redis://{}{address}/", self.credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_a_group_is_taken_apart() {
        let (named, path) = Addresses::parse("redis+x://u:p@h1:1,h2:2/sessions?a=b", "redis+x").unwrap();
        assert_eq!(path, "sessions");
        let urls: Vec<_> = named.list.iter().map(|address| named.url(address)).collect();
        assert_eq!(urls, ["redis://u:p@h1:1/", "redis://u:p@h2:2/"]);

        let (named, path) = Addresses::parse("redis+x://h1:1/", "redis+x").unwrap();
        assert_eq!(
            (named.url("h1:1"), path),
            ("redis://h1:1/".to_owned(), String::new())
        );
        for wrong in ["redis://:secret@h:1/", "redis+x://:secret@h/"] {
            let error = Addresses::parse(wrong, "redis+x").err().unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
