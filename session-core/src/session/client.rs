//! Which kind of client a session began with, kept to notice when another kind presents it: detection, not defence, since
//! whoever steals a session can also imitate its client.

use bytes::Bytes;

use super::{
    attributes::Attribute,
    envelope::{Live, attribute_len},
};

/// Stands for a kind of client: what does not change from one request of a browser to the next. 8 bytes of a hash are enough to
/// tell one from another, and too few to say which it was.
pub(super) type Fingerprint = [u8; 8];

/// An attribute of the session, so that it follows merges and renewals like the others.
const NAME: &str = "\0client";

/// That of no codec.
const TAG: u8 = 0;

/// Names that no attribute of an application's may have.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with('\0')
}

/// Keeps what stands for the present client, in place of an earlier one.
pub(super) fn note(live: &mut Live, client: Option<Fingerprint>) {
    match client {
        Some(client) => {
            let bytes = Bytes::copy_from_slice(&client);
            live.attributes.insert(NAME, Attribute { tag: TAG, bytes });
        }
        None => _ = live.attributes.remove(NAME),
    }
}

/// Takes what stands for the client out of a session.
pub(super) fn take(live: &mut Live) -> Option<Fingerprint> {
    let client = live.attributes.get(NAME)?.bytes.try_into().ok();
    live.attributes.remove(NAME);
    client
}

/// Whether the session is another kind of client's. `false` if one of the two is not known.
pub(super) fn differs(live: &Live, client: Option<Fingerprint>) -> bool {
    match (live.attributes.get(NAME), client) {
        (Some(before), Some(client)) => before.bytes != client,
        _ => false,
    }
}

/// Bytes that [`note`] may still add.
pub(super) fn reserve(live: &Live, client: Option<Fingerprint>) -> usize {
    match client {
        Some(client) if live.attributes.get(NAME).is_none() => attribute_len(NAME, &client),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Session, SessionError,
            tests::{HOUR, MINUTE, World, ada, stored_id},
        },
        *,
    };
    use crate::{MemoryStore, SessionId, SessionStore, Sessions, StoreProfile, Subject};

    const HOME: Option<Fingerprint> = Some(*b"at home\0");
    const AWAY: Option<Fingerprint> = Some(*b"away\0\0\0\0");

    async fn begin(world: &World, client: Option<Fingerprint>) -> SessionId {
        let session = world.sessions.open_for(None, client);
        session.insert("cart", &1_u32).await.unwrap();
        stored_id(session.commit().await.unwrap())
    }

    async fn changed(world: &World, id: &SessionId, client: Option<Fingerprint>) -> bool {
        let session = world.sessions.open_for(Some(id.clone()), client);
        session.client_changed().await.unwrap()
    }

    async fn bytes(world: &World, id: &SessionId) -> (crate::Version, usize) {
        let stored = world.store.load(&id.key("session")).await.unwrap().unwrap();
        (stored.version, stored.record.data.len())
    }

    #[tokio::test]
    async fn another_kind_of_client_is_told_from_the_one_that_began() {
        let world = World::new();
        let id = begin(&world, HOME).await;
        assert!(!changed(&world, &id, HOME).await);
        assert!(changed(&world, &id, AWAY).await);
        assert!(!changed(&world, &id, None).await, "not known is not changed");
        let session = world.sessions.open_for(Some(id), AWAY);
        assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1), "and works");
        let made_up = SessionId::random().unwrap();
        assert!(!changed(&world, &made_up, AWAY).await);
    }

    #[tokio::test]
    async fn client_is_kept_by_the_first_write_and_by_a_log_in_alone() {
        let world = World::with(|builder| builder.renew_every(None));
        // A session of which the client was not known.
        let id = begin(&world, None).await;
        let before = bytes(&world, &id).await;
        let session = world.sessions.open_for(Some(id.clone()), HOME);
        assert!(!session.client_changed().await.unwrap());
        let committed = session.commit().await.unwrap();
        assert!(committed.upkeep.is_none());
        assert_eq!(bytes(&world, &id).await, before, "a read writes nothing");
        session.insert("cart", &2_u32).await.unwrap();
        let _ = session.commit().await.unwrap();
        assert!(!changed(&world, &id, AWAY).await, "nor does a change keep it");
        session.log_in(ada()).await.unwrap();
        let id = stored_id(session.commit().await.unwrap());
        assert!(changed(&world, &id, AWAY).await);
        // The next log-in is another client's, and one whose client is not known leaves nothing.
        for (client, changes) in [(AWAY, true), (None, false)] {
            let session = world.sessions.open_for(Some(begin(&world, HOME).await), client);
            session.log_in(ada()).await.unwrap();
            let id = stored_id(session.commit().await.unwrap());
            assert!(!changed(&world, &id, AWAY).await);
            assert_eq!(changed(&world, &id, HOME).await, changes);
        }
    }

    #[tokio::test]
    async fn client_alone_makes_no_session() {
        let world = World::new();
        let session = world.sessions.open_for(None, HOME);
        assert!(!session.client_changed().await.unwrap());
        let _ = session.commit().await.unwrap();
        session.insert("cart", &1_u32).await.unwrap();
        session.clear().await.unwrap();
        let _ = session.commit().await.unwrap();
        assert_eq!(world.store.len(), 0);
    }

    #[tokio::test]
    async fn client_outlasts_clearing_conflicts_and_renewals() {
        let world = World::new();
        let session = world.sessions.open_for(None, HOME);
        session.log_in(ada()).await.unwrap();
        let id = stored_id(session.commit().await.unwrap());
        let open = || world.sessions.open_for(Some(id.clone()), HOME);
        let (one, two) = (open(), open());
        one.insert("theme", &1_u32).await.unwrap();
        two.clear().await.unwrap();
        let _ = one.commit().await.unwrap();
        let _ = two.commit().await.unwrap();
        assert!(two.names().await.unwrap().is_empty());
        world.advance(16 * MINUTE);
        let session = world.sessions.open_for(Some(id), AWAY);
        assert!(session.client_changed().await.unwrap());
        let id = stored_id(session.commit().await.unwrap());
        assert!(changed(&world, &id, AWAY).await && !changed(&world, &id, HOME).await);
        // Another user of the same browser.
        let session = world.sessions.open_for(Some(id), HOME);
        session.log_in(Subject::new("grace").unwrap()).await.unwrap();
        let id = stored_id(session.commit().await.unwrap());
        assert!(changed(&world, &id, AWAY).await && !changed(&world, &id, HOME).await);
    }

    #[tokio::test]
    async fn names_of_its_own_are_out_of_the_applications_reach() {
        let world = World::new();
        let id = begin(&world, HOME).await;
        let session = world.sessions.open_for(Some(id.clone()), HOME);
        assert_eq!(session.names().await.unwrap(), ["cart"]);
        for name in [NAME, "\0", "\0other"] {
            let refused = |outcome: Result<(), SessionError>| {
                assert!(matches!(outcome, Err(SessionError::ReservedName)), "{outcome:?}");
            };
            refused(session.insert(name, &1_u8).await);
            refused(session.update(name, |_: Option<u8>| 1).await.map(drop));
            assert_eq!(session.get::<u8>(name).await.unwrap(), None);
            assert!(!session.remove(name).await.unwrap());
        }
        let _ = session.commit().await.unwrap();
        assert!(changed(&world, &id, AWAY).await);
    }

    /// What fits at the insert still fits when the client is added at the commit.
    #[tokio::test]
    async fn session_that_is_as_large_as_may_be_is_stored_with_its_client() {
        let store = std::sync::Arc::new(MemoryStore::new());
        let sessions = Sessions::builder(store.clone()).build().unwrap();
        let limit = StoreProfile::new("memory").limits.max_record;
        let fill = async |session: &Session, room: usize| {
            let value = "x".repeat(room);
            session.insert("all", &value).await.is_ok()
        };
        let session = sessions.open_for(None, HOME);
        let mut room = limit;
        while !fill(&session, room).await {
            room -= 1;
        }
        assert!(room > limit - 300, "{room}");
        let _ = stored_id(session.commit().await.unwrap());
        assert!(!fill(&session, room + 1).await);
        session
            .log_in_for(ada(), crate::Lengths::new(HOUR, HOUR))
            .await
            .unwrap();
        let _ = stored_id(session.commit().await.unwrap());
    }
}
