//! A record in memcached: `cargo run -p session-memcached --example quickstart -- memcached://127.0.0.1`

use std::{env, error::Error, time::Duration};

use session_core::{Record, SessionId, SessionStore};
use session_memcached::MemcachedStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args()
        .nth(1)
        .unwrap_or_else(|| "memcached://127.0.0.1".to_owned());
    let store = MemcachedStore::connect(&url).await?;
    println!("{store:?}");

    let key = SessionId::random()?.key("quickstart");
    let hour = Duration::from_secs(60 * 60);
    let first = store.create(&key, &Record::new("a mug"), hour).await?;
    let second = store
        .update(&key, first, &Record::new("a mug, a lamp"), hour)
        .await?;
    // Somebody who has read the first version does not overwrite the second.
    if let Err(error) = store.update(&key, first, &Record::new("a chair"), hour).await {
        println!("{error}");
    }
    if let Some(stored) = store.load(&key).await? {
        println!("{:?} for {:?}", stored.record.data, stored.remaining);
    }
    println!("deleted: {}", store.delete(&key, Some(second)).await?);
    Ok(())
}
