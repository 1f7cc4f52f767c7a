//! What follows the question mark of a store's URL.

use std::{error, fmt, str::FromStr, time::Duration};

/// The keys of a store's URL (`prefix=shop:&read_ms=100`) and their values: each key once, and none that the backend does
/// not know.
#[derive(Clone)]
pub struct Keys(Vec<(String, String)>);

impl Keys {
    /// The keys of a URL, decoded.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] and [`KeyError::Twice`].
    pub fn new(
        pairs: impl IntoIterator<Item = (String, String)>,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Self, KeyError> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(other, _)| other == name) {
                return Err(KeyError::Twice(name.clone()));
            }
            if !is_known(name) {
                return Err(KeyError::Unknown(name.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a key, if the URL has it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The same as a number, or whatever else is read from a text.
    ///
    /// # Errors
    ///
    /// [`KeyError::Value`]: it is none.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, KeyError> {
        let parse = |text: &str| text.parse().map_err(|_| KeyError::Value(name.to_owned()));
        self.text(name).map(parse).transpose()
    }

    /// The same as a length, in whole milliseconds.
    ///
    /// # Errors
    ///
    /// [`KeyError::Value`]: it is no whole number.
    pub fn millis(&self, name: &str) -> Result<Option<Duration>, KeyError> {
        Ok(self.parsed(name)?.map(Duration::from_millis))
    }

    /// The same as `yes` or `no`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Value`]: it is neither.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, KeyError> {
        match self.text(name) {
            None => Ok(None),
            Some("yes") => Ok(Some(true)),
            Some("no") => Ok(Some(false)),
            Some(_) => Err(KeyError::Value(name.to_owned())),
        }
    }
}

impl fmt::Debug for Keys {
    /// The names alone: a value may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What is wrong with a key of a URL. The value is not repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It means nothing here.
    Unknown(String),
    /// It is there twice.
    Twice(String),
    /// Its value cannot be.
    Value(String),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "the URL's key {name:?} means nothing here"),
            Self::Twice(name) => write!(f, "the URL has its key {name:?} twice"),
            Self::Value(name) => write!(f, "the URL's key {name:?} has a value that cannot be"),
        }
    }
}

impl error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Result<Keys, KeyError> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Keys::new(pairs, |name| ["a", "b", "c"].contains(&name))
    }

    #[test]
    fn each_key_is_known_and_there_once() {
        assert_eq!(
            keys(&[("x", "1")]).unwrap_err(),
            KeyError::Unknown("x".to_owned())
        );
        let twice = keys(&[("a", "1"), ("b", "2"), ("a", "1")]);
        assert_eq!(twice.unwrap_err(), KeyError::Twice("a".to_owned()));
    }

    #[test]
    fn values_are_read_and_not_shown() {
        let keys = keys(&[("a", "100"), ("b", "yes"), ("c", "hunter2")]).unwrap();
        assert_eq!((keys.text("a"), keys.text("d")), (Some("100"), None));
        assert_eq!(keys.parsed("a"), Ok(Some(100_usize)));
        assert_eq!(keys.millis("a"), Ok(Some(Duration::from_millis(100))));
        assert_eq!((keys.flag("b"), keys.flag("d")), (Ok(Some(true)), Ok(None)));
        for wrong in [keys.millis("c").map(drop), keys.flag("c").map(drop)] {
            let error = wrong.unwrap_err();
            assert!(!format!("{error} {error:?} {keys:?}").contains("hunter2"));
        }
    }
}
