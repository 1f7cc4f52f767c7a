//! A record in DynamoDB: `cargo run -p session-dynamodb --example quickstart -- 'dynamodb://KEY:SECRET@REGION/TABLE?create=yes'`
//!
//! `cargo run -p session-testbed --features dynamodb -- dynamodb` starts an emulator, and prints its URL.

use std::{env, error::Error, time::Duration};

use session_core::{Record, SessionId, SessionStore};
use session_dynamodb::DynamoDbStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| {
        "dynamodb://key:secret@eu-central-1/sessions?endpoint=http://127.0.0.1:8000&create=yes".to_owned()
    });
    let store = DynamoDbStore::connect(&url).await?;
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
