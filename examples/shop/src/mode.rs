//! Where the sessions are: in the store, or with the visitors.

use std::{
    error, fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use session_core::{Lengths, SessionsBuilder};
use session_http::{KeyRing, SecretKey, SecretKeyError, Tokens, UrlConfig};

/// What of a session a visitor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An id; the store has the session.
    Stored,
    /// The session, in a sealed cookie; the store remembers who logged out.
    Sealed,
    /// The session, in a signed JWT.
    Jwt,
}

impl Kind {
    /// The word that chooses it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Sealed => "sealed",
            Self::Jwt => "jwt",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let kinds = [Self::Stored, Self::Sealed, Self::Jwt];
        kinds.into_iter().find(|kind| kind.word() == word).ok_or(())
    }
}

/// A kind, with what it needs.
#[derive(Debug, Clone)]
pub struct Mode {
    kind: Kind,
    tokens: Option<Tokens>,
    urls: Option<UrlConfig>,
    lengths: Lengths,
}

impl Mode {
    /// The store has the sessions.
    #[must_use]
    pub fn stored() -> Self {
        Self {
            kind: Kind::Stored,
            tokens: None,
            urls: None,
            lengths: Lengths::default(),
        }
    }

    /// This kind, and whether browsers without cookies have the session in their URLs, with keys from that file if it needs some. A file that is not there is made, with a new key, for its
    /// owner alone.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub fn open(kind: Kind, rewrite_urls: bool, file: &Path) -> Result<Self, KeyFileError> {
        let tokens = match kind {
            Kind::Stored => None,
            Kind::Sealed => Some(Tokens::sealed(&keys(file)?)),
            #[cfg(feature = "jwt")]
            Kind::Jwt => Some(Tokens::jwt(jwt(&keys(file)?).map_err(KeyFileError::Jwt)?)),
            #[cfg(not(feature = "jwt"))]
            Kind::Jwt => return Err(KeyFileError::NoJwt),
        };
        let urls = match rewrite_urls {
            true => Some(UrlConfig::new(&keys(file)?)),
            false => None,
        };
        Ok(Self {
            kind,
            tokens,
            urls,
            ..Self::stored()
        })
    }

    /// Sessions without "remember me" end so long after the last visit.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        let absolute = self.lengths.absolute().max(idle);
        self.lengths = Lengths::new(idle, absolute);
        self
    }

    /// The transport by URL, if there is one.
    pub(crate) fn urls(&self) -> Option<UrlConfig> {
        self.urls.clone()
    }

    /// The sessions as this mode writes them, and its tokens.
    pub(crate) fn apply(&self, sessions: SessionsBuilder) -> (SessionsBuilder, Option<Tokens>) {
        let sessions = sessions.lengths(self.lengths);
        let sessions = match self.kind {
            #[cfg(feature = "jwt")]
            Kind::Jwt => sessions.codec(session_core::JsonCodec),
            _ => sessions,
        };
        (sessions, self.tokens.clone())
    }

    /// For people.
    pub(crate) fn place(&self, store: &str) -> String {
        match self.kind {
            Kind::Stored => format!("sessions {store}"),
            Kind::Sealed => format!("sessions in sealed cookies, log-outs {store}"),
            Kind::Jwt => format!("sessions in JWTs, log-outs {store}"),
        }
    }
}

/// The first key signs. Its name and ours are in every token.
#[cfg(feature = "jwt")]
fn jwt(keys: &KeyRing) -> Result<session_http::Jwt, session_http::JwtError> {
    use session_http::{Jwt, JwtKey};

    let mut keys = keys.keys().map(JwtKey::hs256);
    let first = keys.next().ok_or(session_http::JwtError::NotSigning)?;
    keys.try_fold(Jwt::new("shop", "shop", first)?, Jwt::reading)
}

/// The keys of a file: one a line, the first writes; a line that begins with # is a comment.
fn keys(file: &Path) -> Result<KeyRing, KeyFileError> {
    let unusable = |source| KeyFileError::Unusable {
        file: file.to_owned(),
        source,
    };
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(file).map_err(unusable)?,
        text => text.map_err(unusable)?,
    };
    let lines = text.lines().enumerate();
    let mut ring: Option<KeyRing> = None;
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let wrong = |source| KeyFileError::Key {
            file: file.to_owned(),
            line: at + 1,
            source,
        };
        let key = SecretKey::from_text(line).map_err(wrong)?;
        ring = Some(match ring {
            None => KeyRing::new(key),
            Some(ring) => ring.reading(key).map_err(wrong)?,
        });
    }
    ring.ok_or_else(|| KeyFileError::Empty {
        file: file.to_owned(),
    })
}

/// A new file with a new key. Of two shops that make it at once, one wins and the other reads it.
fn make(file: &Path) -> io::Result<String> {
    let key = SecretKey::generate().map_err(io::Error::other)?;
    let text = format!(
        "# The first key writes, all of them read. Keep this file secret.\n{}\n",
        &*key.to_text()
    );
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(mut made) => {
            made.write_all(text.as_bytes())?;
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(file),
        Err(error) => Err(error),
    }
}

/// There are no keys for the tokens. No text of it holds one.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or made.
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the file is no key.
    Key {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: SecretKeyError,
    },
    /// The file has no key.
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The keys sign no tokens.
    #[cfg(feature = "jwt")]
    Jwt(session_http::JwtError),
    /// This shop was built without JWTs.
    #[cfg(not(feature = "jwt"))]
    NoJwt,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { file, source } => write!(f, "--keys {}: {source}", file.display()),
            Self::Key { file, line, source } => write!(f, "--keys {}: line {line}: {source}", file.display()),
            Self::Empty { file } => write!(
                f,
                "--keys {}: the file has no key; remove it, and a new one is made",
                file.display()
            ),
            #[cfg(feature = "jwt")]
            Self::Jwt(error) => write!(f, "--session jwt: {error}"),
            #[cfg(not(feature = "jwt"))]
            Self::NoJwt => f.write_str("--session jwt: this shop was built without the feature jwt"),
        }
    }
}

impl error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Unusable { source, .. } => Some(source),
            Self::Key { source, .. } => Some(source),
            #[cfg(feature = "jwt")]
            Self::Jwt(error) => Some(error),
            _ => None,
        }
    }
}
