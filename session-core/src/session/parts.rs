//! A session taken apart, for who keeps it elsewhere than in a store.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    Lengths,
    attributes::Attribute,
    client,
    envelope::{self, Envelope, Live, Unreadable},
    handle::check_name,
};
use crate::{ErrorKind, Timestamp, codec::Encoded};

/// What the data of a session's record says: for a token that others read, say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionParts {
    /// When the session began.
    pub created_at: Timestamp,
    /// The last log-in.
    pub authenticated_at: Option<Timestamp>,
    /// When the present id was made.
    pub renewed_at: Timestamp,
    /// The end of the session, whatever happens.
    pub deadline: Timestamp,
    /// The session's own lengths.
    pub lengths: Lengths,
    /// How often the id has been renewed.
    pub renewals: u32,
    /// What stands for the kind of client that it began with ([`Sessions::open_for`](super::Sessions::open_for)).
    pub client: Option<[u8; 8]>,
    /// The attributes, encoded.
    pub attributes: BTreeMap<String, Encoded>,
}

impl SessionParts {
    /// A session without attributes, in which nobody has logged in.
    #[must_use]
    pub const fn new(created_at: Timestamp, deadline: Timestamp, lengths: Lengths) -> Self {
        Self {
            created_at,
            authenticated_at: None,
            renewed_at: created_at,
            deadline,
            lengths,
            renewals: 0,
            client: None,
            attributes: BTreeMap::new(),
        }
    }

    /// The parts of a record's data; `None` for what is left of a session under an id that has been replaced.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `NewerFormat`.
    pub fn from_data(data: &Bytes) -> Result<Option<Self>, ErrorKind> {
        let mut live = match envelope::decode(data) {
            Ok(Envelope::Live(live)) => Arc::unwrap_or_clone(live),
            Ok(Envelope::Retired(_)) => return Ok(None),
            Err(Unreadable::Newer(_)) => return Err(ErrorKind::NewerFormat),
            Err(Unreadable::Corrupt(_)) => return Err(ErrorKind::Corrupt),
        };
        let client = client::take(&mut live);
        let attributes = live.attributes.into_owned();
        Ok(Some(Self {
            client,
            created_at: live.created_at,
            authenticated_at: live.authenticated_at,
            renewed_at: live.renewed_at,
            deadline: live.deadline,
            lengths: live.lengths,
            renewals: live.renewals,
            attributes: attributes
                .map(|(name, attribute)| (name, Encoded::new(attribute.tag, attribute.bytes)))
                .collect(),
        }))
    }

    /// The data of a record of these parts. The client has come with its id.
    ///
    /// # Errors
    ///
    /// `Corrupt` where no session is like that: a name that no attribute can have, more than 65,535 of them.
    pub fn into_data(self) -> Result<Bytes, ErrorKind> {
        let names = self.attributes.keys();
        if names.len() > usize::from(u16::MAX) || { names }.any(|name| check_name(name).is_err()) {
            return Err(ErrorKind::Corrupt);
        }
        let attributes = self.attributes.into_iter();
        let mut live = Live {
            authenticated_at: self.authenticated_at,
            renewed_at: self.renewed_at,
            deadline: self.deadline,
            renewals: self.renewals,
            attributes: attributes
                .map(|(name, Encoded { tag, bytes })| (name, Attribute { tag, bytes }))
                .collect(),
            ..Live::new(self.created_at, self.lengths)
        };
        client::note(&mut live, self.client);
        Ok(envelope::encode_live(&live).into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn parts_come_back_as_they_were() {
        let lengths = Lengths::new(Duration::from_secs(60), Duration::from_secs(600));
        let at = Timestamp::from_millis;
        let mut parts = SessionParts::new(at(1_000), at(601_000), lengths);
        parts.authenticated_at = Some(at(2_000));
        parts.renewed_at = at(2_000);
        parts.renewals = 1;
        parts.client = Some([7; 8]);
        let value = Encoded::new(2, Bytes::from_static(b"[1]"));
        parts.attributes.insert("cart".to_owned(), value.clone());
        let data = parts.clone().into_data().unwrap();
        assert_eq!(SessionParts::from_data(&data), Ok(Some(parts.clone())));

        parts.attributes.insert("n".repeat(256), value);
        assert_eq!(parts.into_data(), Err(ErrorKind::Corrupt));
        assert_eq!(SessionParts::from_data(&data.slice(1..)), Err(ErrorKind::Corrupt));
        assert_eq!(
            SessionParts::from_data(&[&[9][..], &data[1..]].concat().into()),
            Err(ErrorKind::NewerFormat)
        );
    }
}
