//! Loads that come together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use session_core::{ErrorKind, Record, SessionKey, SessionStore, Version};
use session_dynamodb::DynamoDbStore;
use tokio::task::JoinSet;

use crate::{
    endpoint::{Endpoint, Reply, Request, TABLE},
    support::{base64, item, key},
};

/// Items by the text of their keys.
type Items = HashMap<String, Value>;

fn text(key: &SessionKey) -> String {
    base64(key.as_bytes())
}

fn held(keys: &[SessionKey]) -> Items {
    let item = |key| item(key, Version::from_bytes([1; 16]), &Record::new(format!("{key}")));
    keys.iter().map(|key| (text(key), item(key))).collect()
}

/// The texts of the keys in a `BatchGetItem`.
fn asked(request: &Request) -> Vec<String> {
    let keys = request.body["RequestItems"][TABLE]["Keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["pk"]["B"].as_str().unwrap().to_owned())
        .collect()
}

/// What a server that holds `items` answers, all but those that are `left`.
fn answer(items: &Items, request: &Request, left: &[String]) -> Reply {
    match &*request.action {
        "GetItem" => match items.get(request.body["Key"]["pk"]["B"].as_str().unwrap()) {
            Some(item) => Reply::Ok(json!({ "Item": item })),
            None => Reply::Ok(json!({})),
        },
        _ => {
            let (unprocessed, found): (Vec<_>, Vec<_>) =
                asked(request).into_iter().partition(|key| left.contains(key));
            let found: Vec<_> = found.iter().filter_map(|key| items.get(key)).collect();
            let keys: Vec<_> = unprocessed
                .iter()
                .map(|key| json!({ "pk": { "B": key }, "sk": { "B": "LQ==" } }))
                .collect();
            let unprocessed = match keys.is_empty() {
                true => json!({}),
                false => json!({ TABLE: { "Keys": keys, "ConsistentRead": true } }),
            };
            Reply::Ok(json!({ "Responses": { TABLE: found }, "UnprocessedKeys": unprocessed }))
        }
    }
}

/// Loads them all at once, and tells what each was answered.
async fn load_all(
    store: &Arc<DynamoDbStore>,
    keys: &[SessionKey],
) -> Vec<(SessionKey, Result<bool, ErrorKind>)> {
    let mut loads = JoinSet::new();
    for key in keys.iter().copied() {
        let store = Arc::clone(store);
        loads.spawn(async move {
            let answer = store.load(&key).await.map_err(|error| error.kind());
            let is_own = |stored: session_core::Stored| {
                assert_eq!(stored.record.data, key.to_string(), "its own record");
                true
            };
            (key, answer.map(|stored| stored.is_some_and(is_own)))
        });
    }
    loads.join_all().await
}

#[tokio::test]
async fn loads_that_come_together_share_requests_of_a_hundred_keys_each_once() {
    let keys: Vec<_> = (0..240).map(|_| key()).collect();
    let items = held(&keys[..200]);
    let endpoint = Endpoint::new(move |request| answer(&items, request, &[])).await;
    let store = Arc::new(endpoint.patient());
    // Some keys twice: once more in the request would fail all.
    let twice = [&keys[..], &keys[150..240]].concat();
    for (key, answer) in load_all(&store, &twice).await {
        assert_eq!(answer, Ok(keys[..200].contains(&key)));
    }
    let requests = endpoint.requests();
    assert!(
        requests.len() < 20,
        "{} requests for {} loads",
        requests.len(),
        twice.len()
    );
    for request in requests.iter().filter(|request| request.action == "BatchGetItem") {
        let keys = asked(request);
        assert!(keys.len() <= 100, "{} keys", keys.len());
        assert_eq!(
            keys.iter().collect::<HashSet<_>>().len(),
            keys.len(),
            "a key twice"
        );
        assert_eq!(request.body["RequestItems"][TABLE]["ConsistentRead"], json!(true));
    }
}

#[tokio::test]
async fn lone_load_is_one_consistent_read_and_one_key_asked_by_many_is_one_too() {
    let one = key();
    let items = held(&[one]);
    let endpoint = Endpoint::new(move |request| answer(&items, request, &[])).await;
    let store = Arc::new(endpoint.patient());
    assert_eq!(load_all(&store, &[one]).await, [(one, Ok(true))]);
    assert_eq!(load_all(&store, &[one; 50]).await.len(), 50);
    let requests = endpoint.requests();
    assert!(
        requests.len() < 10,
        "{} requests for 51 loads of a key",
        requests.len()
    );
    for request in requests {
        assert_eq!(request.action, "GetItem");
        assert_eq!(request.body["ConsistentRead"], json!(true));
    }
}

#[tokio::test]
async fn large_records_travel_in_smaller_batches() {
    let keys: Vec<_> = (0..200).map(|_| key()).collect();
    let items = held(&keys);
    let endpoint = Endpoint::new(move |request| answer(&items, request, &[])).await;
    let long = Duration::from_secs(60);
    let store = endpoint
        .builder()
        .max_record(409_088)
        .read_deadline(long)
        .build()
        .unwrap();
    assert!(
        load_all(&Arc::new(store), &keys)
            .await
            .iter()
            .all(|(_, answer)| *answer == Ok(true))
    );
    for request in endpoint
        .requests()
        .iter()
        .filter(|request| request.action == "BatchGetItem")
    {
        // 16 MB at most, all in all.
        assert!(asked(request).len() * 409_600 <= 16_000_000);
    }
}

#[tokio::test]
async fn unprocessed_keys_come_again_and_keep_nobody_else_waiting() {
    let keys: Vec<_> = (0..50).map(|_| key()).collect();
    let (items, left) = (held(&keys), vec![text(&keys[7]), text(&keys[8])]);
    let endpoint = Endpoint::new(move |request| match request.nth {
        // The first load is alone. What is left over of the others comes again, and is left over once more.
        0..=2 => answer(&items, request, &left),
        _ => answer(&items, request, &[]),
    })
    .await;
    let store = Arc::new(endpoint.patient());
    assert!(
        load_all(&store, &keys)
            .await
            .iter()
            .all(|(_, answer)| *answer == Ok(true))
    );
    let batches = endpoint.requests();
    let batches: Vec<_> = batches
        .iter()
        .filter(|request| request.action == "BatchGetItem")
        .collect();
    assert_eq!(asked(batches[0]).len(), 49);
    for batch in &batches[1..] {
        assert!(asked(batch).len() <= 2, "only what was left over");
    }
}

#[tokio::test]
async fn keys_that_stay_unprocessed_are_unavailable_at_their_deadline_never_absent() {
    let keys: Vec<_> = (0..20).map(|_| key()).collect();
    let (items, left) = (held(&keys), vec![text(&keys[7]), text(&keys[8])]);
    let endpoint = Endpoint::new(move |request| match &*request.action {
        // One that comes alone has no luck either.
        "GetItem" if left.iter().any(|key| request.body["Key"]["pk"]["B"] == **key) => {
            Reply::Exception(400, "ProvisionedThroughputExceededException", json!({}))
        }
        _ => answer(&items, request, &left),
    })
    .await;
    // Long enough for those that are served, and awaited by the others.
    let awaited = Duration::from_secs(2);
    let store = Arc::new(endpoint.builder().read_deadline(awaited).build().unwrap());
    for (key, answer) in load_all(&store, &keys).await {
        let expected = match keys[7..9].contains(&key) {
            true => Err(ErrorKind::Unavailable),
            false => Ok(true),
        };
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn batch_with_an_item_that_nobody_asked_for_is_nobodys() {
    let keys: Vec<_> = (0..20).map(|_| key()).collect();
    let other = key();
    let items = held(&keys);
    let stranger = item(&other, Version::from_bytes([1; 16]), &Record::new("a stranger's"));
    let endpoint = Endpoint::new(move |request| match (&*request.action, request.nth) {
        ("BatchGetItem", 0) => {
            Reply::Ok(json!({ "Responses": { TABLE: [stranger] }, "UnprocessedKeys": {} }))
        }
        _ => answer(&items, request, &[]),
    })
    .await;
    let store = Arc::new(endpoint.patient());
    // Not one is told to be absent.
    assert!(
        load_all(&store, &keys)
            .await
            .iter()
            .all(|(_, answer)| *answer == Ok(true))
    );
}
