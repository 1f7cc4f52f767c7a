//! A reply that is lost after the request was carried out.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use session_core::{ErrorKind, Record, SessionKey, SessionStore, Subject, Version, head};

use crate::{
    endpoint::{Endpoint, Reply, Request},
    support::{HOUR, item, key, with_value},
};

/// The value that a request writes.
fn sent(request: &Request) -> Value {
    request.body["ExpressionAttributeValues"][":sealed"].clone()
}

/// An endpoint that carries the first update out and loses its reply, and then says what it has: what was written, or
/// what `later` makes of it.
async fn losing(
    key: SessionKey,
    len: usize,
    later: impl Fn(Value) -> Option<Value> + Send + Sync + 'static,
) -> Endpoint {
    let held = Arc::new(Mutex::new(None));
    Endpoint::new(move |request| {
        let mut held = held.lock().unwrap();
        match (&*request.action, request.nth) {
            ("UpdateItem", 0) => {
                *held = later(with_value(&key, &sent(request), len));
                Reply::Close
            }
            ("GetItem", _) => Reply::Ok(held.as_ref().map_or(json!({}), |item| json!({ "Item": item }))),
            _ => {
                let item = held.as_ref().map_or(json!({}), |item| json!({ "Item": item }));
                Reply::Exception(400, "ConditionalCheckFailedException", item)
            }
        }
    })
    .await
}

fn len(key: &SessionKey, record: &Record) -> usize {
    head::seal("test", key, Version::from_bytes([0; 16]), record)
        .unwrap()
        .len()
}

#[tokio::test]
async fn update_whose_reply_is_lost_knows_itself() {
    let (key, record) = (key(), Record::new("new"));
    let endpoint = losing(key, len(&key, &record), Some).await;
    let store = endpoint.patient();
    let version = store
        .update(&key, Version::from_bytes([1; 16]), &record, HOUR)
        .await
        .unwrap();
    assert_eq!(endpoint.actions(), ["UpdateItem", "UpdateItem"]);
    // It is the version that was written.
    let first = &endpoint.requests()[0];
    let written = head::seal("test", &key, version, &record).unwrap();
    assert_eq!(sent(first), crate::support::binary(&written));
}

#[tokio::test]
async fn update_whose_reply_is_lost_and_that_was_changed_since_is_unknown() {
    let (key, record) = (key(), Record::new("new"));
    let other = item(&key, Version::from_bytes([9; 16]), &Record::new("other"));
    for later in [Some(other), None] {
        let endpoint = losing(key, len(&key, &record), move |_| later.clone()).await;
        let store = endpoint.patient();
        let error = store
            .update(&key, Version::from_bytes([1; 16]), &record, HOUR)
            .await
            .unwrap_err();
        // Neither `Conflict` nor `NotFound`: it may have been written.
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(endpoint.actions(), ["UpdateItem", "UpdateItem"]);
    }
}

#[tokio::test]
async fn creation_whose_reply_is_lost_is_looked_for_and_never_sent_again() {
    let (key, record) = (key(), Record::new("new"));
    let endpoint = losing(key, len(&key, &record), Some).await;
    endpoint.patient().create(&key, &record, HOUR).await.unwrap();
    assert_eq!(endpoint.actions(), ["UpdateItem", "GetItem"]);

    let endpoint = losing(key, len(&key, &record), |_| None).await;
    let error = endpoint.patient().create(&key, &record, HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(endpoint.actions(), ["UpdateItem", "GetItem"]);
}

#[tokio::test]
async fn creation_that_meets_its_own_version_has_succeeded() {
    let (key, record) = (key(), Record::new("new"));
    let len = len(&key, &record);
    // A proxy on the way has sent it twice, and passes the second reply on.
    let endpoint = Endpoint::new(move |request| {
        let item = with_value(&key, &sent(request), len);
        Reply::Exception(400, "ConditionalCheckFailedException", json!({ "Item": item }))
    })
    .await;
    endpoint.patient().create(&key, &record, HOUR).await.unwrap();
    assert_eq!(endpoint.actions(), ["UpdateItem"]);
}

#[tokio::test]
async fn deletion_whose_reply_is_lost_is_never_told_as_none() {
    let endpoint = Endpoint::new(|request| match request.nth {
        0 => Reply::Close,
        _ => Reply::Exception(400, "ConditionalCheckFailedException", json!({})),
    })
    .await;
    let store = endpoint.patient();
    let error = store.delete(&key(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(endpoint.actions(), ["DeleteItem", "DeleteItem"]);
}

#[tokio::test]
async fn success_of_another_request_confirms_nothing() {
    let (key, record) = (key(), Record::new("new"));
    let other = item(&key, Version::from_bytes([9; 16]), &record);
    let replies = [
        json!({}),
        json!({ "Attributes": { "sealed": other["sealed"], "expires": { "N": "1" } } }),
    ];
    for reply in replies {
        let endpoint = Endpoint::new(move |request| match &*request.action {
            "GetItem" => Reply::Ok(json!({})),
            _ => Reply::Ok(reply.clone()),
        })
        .await;
        let store = endpoint.patient();
        let version = Version::from_bytes([1; 16]);
        for error in [
            store.create(&key, &record, HOUR).await.unwrap_err(),
            store.update(&key, version, &record, HOUR).await.unwrap_err(),
            store.touch(&key, HOUR).await.unwrap_err(),
            store.delete(&key, None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(
                error.to_string().contains("belongs to another request"),
                "{error}"
            );
        }
    }
}

/// It was the note in the index whose reply was lost, so nobody but another can have replaced the record.
#[tokio::test]
async fn lost_reply_to_a_note_makes_no_conflict_uncertain() {
    let (key, record) = (
        key(),
        Record::new("new").with_subject(Subject::new("ada").unwrap()),
    );
    let [expected, newer] = [1, 9].map(|byte| Version::from_bytes([byte; 16]));
    let items = [expected, newer].map(|version| item(&key, version, &Record::new("old")));
    let endpoint = Endpoint::new(move |request| match request.nth {
        0 => Reply::Exception(
            400,
            "ConditionalCheckFailedException",
            json!({ "Item": items[0] }),
        ),
        1 => Reply::Close,
        2 => {
            let written = &request.body["ExpressionAttributeValues"][":written"];
            Reply::Ok(json!({ "Attributes": { "written": written } }))
        }
        _ => Reply::Exception(
            400,
            "ConditionalCheckFailedException",
            json!({ "Item": items[1] }),
        ),
    })
    .await;
    let store = endpoint.patient();
    let error = store.update(&key, expected, &record, HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(endpoint.requests().len(), 4);
}
