//! The index by subject.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use session_core::{Record, SessionKey, SessionStore, Subject, Subjects, Timestamp, Version};
use session_dynamodb::aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};

use crate::{
    endpoint::{Endpoint, Reply, TABLE},
    support::{HOUR, binary, key, millis, number},
    tables::{Table, opened},
};

fn subject() -> Subject {
    Subject::new("zoë").unwrap()
}

fn set(keys: &[SessionKey]) -> BTreeSet<SessionKey> {
    keys.iter().copied().collect()
}

async fn listed(store: &impl Subjects) -> BTreeSet<SessionKey> {
    store.list(&subject()).await.unwrap().into_iter().collect()
}

fn bytes(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// A note as the store writes it.
async fn note(client: &Client, table: &str, key: &SessionKey, written: u64) {
    let put = client.put_item().table_name(table);
    let put = put
        .item("pk", bytes(&subject().digest()))
        .item("sk", bytes(key.as_bytes()));
    put.item("written", AttributeValue::N(written.to_string()))
        .send()
        .await
        .unwrap();
}

async fn note_of(client: &Client, table: &str, key: &SessionKey) -> Option<u64> {
    let get = client.get_item().table_name(table);
    let get = get
        .key("pk", bytes(&subject().digest()))
        .key("sk", bytes(key.as_bytes()));
    let item = get.consistent_read(true).send().await.unwrap().item?;
    Some(
        item.get("ttl")
            .map_or(0, |ttl| ttl.as_n().unwrap().parse().unwrap()),
    )
}

#[tokio::test]
async fn old_note_without_a_record_is_removed_and_a_young_one_may_be_early() {
    let Table { store, client, name } = opened().await;
    let (live, old, young) = (key(), key(), key());
    store
        .create(&live, &Record::new("data").with_subject(subject()), HOUR)
        .await
        .unwrap();
    let an_hour_ago = millis() - 3_600_000;
    // Its record is there, however old it is.
    note(&client, &name, &live, an_hour_ago).await;
    note(&client, &name, &old, an_hour_ago).await;
    note(&client, &name, &young, millis()).await;
    assert_eq!(listed(&store).await, set(&[live]));
    assert!(note_of(&client, &name, &live).await.is_some());
    assert!(note_of(&client, &name, &old).await.is_none());
    assert!(note_of(&client, &name, &young).await.is_some());
}

#[tokio::test]
async fn note_lasts_as_long_as_the_session_may() {
    let Table { store, client, name } = opened().await;
    let key = key();
    let until = |hours: u64| Timestamp::from_millis(millis() + hours * 3_600_000);
    let record = |until: Option<Timestamp>| Record::new("data").with_subject(subject()).with_not_after(until);
    let seconds = |until: Timestamp| until.as_millis().div_ceil(1000) + 3_600;
    let (day, week) = (until(24), until(7 * 24));
    let version = store.create(&key, &record(Some(day)), HOUR).await.unwrap();
    assert_eq!(note_of(&client, &name, &key).await, Some(seconds(day)));
    let version = store
        .update(&key, version, &record(Some(week)), HOUR)
        .await
        .unwrap();
    assert_eq!(note_of(&client, &name, &key).await, Some(seconds(week)));
    // An earlier end needs no other note.
    let version = store
        .update(&key, version, &record(Some(day)), HOUR)
        .await
        .unwrap();
    assert_eq!(note_of(&client, &name, &key).await, Some(seconds(week)));
    store.update(&key, version, &record(None), HOUR).await.unwrap();
    assert_eq!(note_of(&client, &name, &key).await, Some(0));
    assert_eq!(listed(&store).await, set(&[key]));
}

#[tokio::test]
async fn more_sessions_than_a_request_has_keys_are_listed_and_ended() {
    let Table { store, .. } = opened().await;
    let keys: Vec<_> = (0..130).map(|_| key()).collect();
    for key in &keys {
        store
            .create(key, &Record::new("data").with_subject(subject()), HOUR)
            .await
            .unwrap();
    }
    assert_eq!(listed(&store).await, set(&keys));
    assert_eq!(store.delete_all(&subject(), Some(&keys[3])).await.unwrap(), 129);
    assert_eq!(listed(&store).await, set(&keys[3..4]));
}

#[tokio::test]
async fn every_page_of_the_index_is_read_consistently() {
    let keys: Vec<_> = (0..3).map(|_| key()).collect();
    let notes: Vec<_> = keys.iter().map(noted).collect();
    let live: Vec<_> = keys.iter().map(is_live).collect();
    let last = json!({ "pk": binary(&subject().digest()), "sk": binary(keys[0].as_bytes()) });
    let (start, endpoint) = (last.clone(), {
        Endpoint::new(move |request| match (&*request.action, request.nth) {
            ("Query", 0) => Reply::Ok(json!({ "Items": notes[..2], "LastEvaluatedKey": last })),
            // A page may be empty and not the last one.
            ("Query", 1) => Reply::Ok(json!({ "Items": [], "LastEvaluatedKey": last })),
            ("Query", _) => Reply::Ok(json!({ "Items": notes[2..] })),
            _ => Reply::Ok(json!({ "Responses": { TABLE: live }, "UnprocessedKeys": {} })),
        })
        .await
    });
    assert_eq!(listed(&endpoint.patient()).await, set(&keys));
    let requests = endpoint.requests();
    assert_eq!(endpoint.actions(), ["Query", "Query", "Query", "BatchGetItem"]);
    for (nth, request) in requests.iter().take(3).enumerate() {
        assert_eq!(request.body["ConsistentRead"], json!(true));
        assert_eq!(request.body.get("ExclusiveStartKey"), (nth > 0).then_some(&start));
    }
    assert_eq!(
        requests[3].body["RequestItems"][TABLE]["ConsistentRead"],
        json!(true)
    );
}

fn noted(key: &SessionKey) -> serde_json::Value {
    json!({
        "pk": binary(&subject().digest()),
        "sk": binary(key.as_bytes()),
        "written": number(millis()),
    })
}

fn is_live(key: &SessionKey) -> serde_json::Value {
    json!({
        "pk": binary(key.as_bytes()),
        "expires": number(millis() + 3_600_000),
        "subject": binary(&subject().digest()),
    })
}

/// The new record was not there when it was looked for, and the old one not any more: between the two, the session was
/// renewed.
#[tokio::test]
async fn session_that_is_renewed_between_two_looks_is_listed() {
    let (old, new) = (key(), key());
    let notes = json!([noted(&old), noted(&new)]);
    let is_there = is_live(&new);
    let endpoint = Endpoint::new(move |request| match (&*request.action, request.nth) {
        ("Query", _) => Reply::Ok(json!({ "Items": notes })),
        (_, 0) => Reply::Ok(json!({ "Responses": { TABLE: [] }, "UnprocessedKeys": {} })),
        _ => Reply::Ok(json!({ "Responses": { TABLE: [is_there] }, "UnprocessedKeys": {} })),
    })
    .await;
    assert_eq!(listed(&endpoint.patient()).await, set(&[new]));
}

#[tokio::test]
async fn list_waits_for_keys_that_had_no_capacity() {
    let keys = [key(), key()];
    let notes = json!([noted(&keys[0]), noted(&keys[1])]);
    let live = [is_live(&keys[0]), is_live(&keys[1])];
    let left = json!({ TABLE: { "Keys": [{ "pk": binary(keys[1].as_bytes()), "sk": { "B": "LQ==" } }] } });
    let endpoint = Endpoint::new(move |request| match (&*request.action, request.nth) {
        ("Query", _) => Reply::Ok(json!({ "Items": notes })),
        (_, 0) => Reply::Ok(json!({ "Responses": { TABLE: [live[0]] }, "UnprocessedKeys": left })),
        _ => Reply::Ok(json!({ "Responses": { TABLE: [live[1]] }, "UnprocessedKeys": {} })),
    })
    .await;
    assert_eq!(listed(&endpoint.patient()).await, set(&keys));
}

#[tokio::test]
async fn session_whose_creation_failed_is_not_listed() {
    let Table { store, .. } = opened().await;
    let (key, ended) = (key(), key());
    store.create(&key, &Record::new("data"), HOUR).await.unwrap();
    let noted = Record::new("data").with_subject(subject());
    store.create(&key, &noted, HOUR).await.unwrap_err();
    store
        .update(&key, Version::from_bytes([1; 16]), &noted, HOUR)
        .await
        .unwrap_err();
    assert_eq!(listed(&store).await, set(&[]));
    // And one that has ended is not listed, although its item is there.
    let short = Duration::from_millis(1);
    store.create(&ended, &noted, short).await.unwrap();
    tokio::time::sleep(short * 20).await;
    assert_eq!(listed(&store).await, set(&[]));
}
