//! Handles of connections that outlive their requests.

use super::{
    Session,
    tests::{MINUTE, World, ada, stored_id},
};
use crate::SessionId;

async fn member(world: &World) -> SessionId {
    let session = world.sessions.open(None);
    session.log_in(ada()).await.unwrap();
    session.insert("cart", &1_u32).await.unwrap();
    stored_id(session.commit().await.unwrap())
}

/// A connection's first handle, as its handshake leaves it.
async fn connect(world: &World, id: &SessionId) -> Session {
    let session = world.sessions.open(Some(id.clone()));
    assert_eq!(session.subject().await.unwrap(), Some(ada()));
    let _ = session.commit().await.unwrap();
    session
}

async fn cart(session: &Session) -> Option<u32> {
    session.get("cart").await.unwrap()
}

#[tokio::test]
async fn connection_sees_what_others_write_and_writes_itself() {
    let world = World::new();
    let id = member(&world).await;
    let connected = connect(&world, &id).await;
    let other = world.sessions.open(Some(id.clone()));
    other.insert("cart", &2_u32).await.unwrap();
    let _ = other.commit().await.unwrap();
    assert_eq!(cart(&connected).await, Some(1), "a handle is of one moment");

    let again = connected.reopen().await;
    assert_eq!(cart(&again).await, Some(2));
    again
        .update("cart", |cart: Option<u32>| cart.unwrap_or(0) + 1)
        .await
        .unwrap();
    let committed = again.commit().await.unwrap();
    assert!(matches!(committed.client, crate::ClientAction::Keep));
    assert_eq!(cart(&world.sessions.open(Some(id))).await, Some(3));
}

#[tokio::test]
async fn connection_follows_renewals_long_after_their_grace() {
    let world = World::new();
    let mut id = member(&world).await;
    let mut connected = connect(&world, &id).await;
    for _ in 0..6 {
        world.advance(16 * MINUTE);
        let page = world.sessions.open(Some(id.clone()));
        assert_eq!(cart(&page).await, Some(1));
        id = stored_id(page.commit().await.unwrap());
        // The browser has the new id, and has come with it.
        let _ = connect(&world, &id).await.commit().await.unwrap();
        world.advance(5 * MINUTE);
        connected = connected.reopen().await;
        assert_eq!(connected.subject().await.unwrap(), Some(ada()));
        let committed = connected.commit().await.unwrap();
        assert!(
            matches!(committed.client, crate::ClientAction::Keep),
            "it renews nothing"
        );
    }
}

#[tokio::test]
async fn connection_ends_with_its_session() {
    let world = World::new();
    let id = member(&world).await;
    let connected = connect(&world, &id).await;
    world.sessions.open(Some(id)).log_out().await.unwrap();
    let again = connected.reopen().await;
    assert_eq!((cart(&again).await, again.subject().await.unwrap()), (None, None));

    let id = member(&world).await;
    let connected = connect(&world, &id).await;
    world.advance(31 * MINUTE);
    assert_eq!(cart(&connected.reopen().await).await, None, "idle too long");

    let connected = connect(&world, &member(&world).await).await;
    connected.log_out().await.unwrap();
    assert_eq!(cart(&connected.reopen().await).await, None);
}

/// Whoever planted an id and holds a connection with it does not come into the rights of whoever logs in with that id.
#[tokio::test]
async fn connection_does_not_follow_a_log_in() {
    let world = World::new();
    let guest = world.sessions.open(None);
    guest.insert("cart", &1_u32).await.unwrap();
    let planted = stored_id(guest.commit().await.unwrap());
    let attacker = world.sessions.open(Some(planted.clone()));
    assert_eq!(cart(&attacker).await, Some(1));

    let victim = world.sessions.open(Some(planted));
    victim.log_in(ada()).await.unwrap();
    let id = stored_id(victim.commit().await.unwrap());
    let again = attacker.reopen().await;
    assert_eq!((cart(&again).await, again.subject().await.unwrap()), (None, None));
    assert_eq!(cart(&world.sessions.open(Some(id))).await, Some(1));
}

#[tokio::test]
async fn unused_handle_gives_one_that_loads_what_was_presented() {
    let world = World::new();
    let id = member(&world).await;
    let unused = world.sessions.open(Some(id));
    assert_eq!(cart(&unused.reopen().await).await, Some(1));
    assert_eq!(cart(&world.sessions.open(None).reopen().await).await, None);
}
