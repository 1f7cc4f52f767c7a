//! What the server refuses, and what is no reply.

use std::time::Duration;

use serde_json::json;
use session_core::{Error, ErrorKind, Record, SessionStore, Subject, Subjects, Version};
use session_dynamodb::DynamoDbStore;

use crate::{
    endpoint::{Endpoint, Reply},
    support::{HOUR, SECRET, item, key},
};

/// Nine calls of 300 ms end long before.
const PATIENCE: Duration = Duration::from_secs(30);

const THROTTLES: [&str; 3] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
];

/// Every call that the store has, and the action that it begins with.
async fn every_call(store: &DynamoDbStore) -> Vec<(&'static str, Error)> {
    let (key, record, version) = (key(), Record::new("data"), Version::from_bytes([1; 16]));
    let subject = Subject::new("zoë").unwrap();
    let noted = record.clone().with_subject(subject.clone());
    vec![
        ("UpdateItem", store.create(&key, &record, HOUR).await.unwrap_err()),
        ("UpdateItem", store.create(&key, &noted, HOUR).await.unwrap_err()),
        ("GetItem", store.load(&key).await.unwrap_err()),
        (
            "UpdateItem",
            store.update(&key, version, &record, HOUR).await.unwrap_err(),
        ),
        ("UpdateItem", store.touch(&key, HOUR).await.unwrap_err()),
        ("DeleteItem", store.delete(&key, None).await.unwrap_err()),
        ("DeleteItem", store.delete(&key, Some(version)).await.unwrap_err()),
        ("Query", store.list(&subject).await.unwrap_err()),
        ("Query", store.delete_all(&subject, None).await.unwrap_err()),
    ]
}

fn all_told(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!("{source} {source:?}"));
    format!("{error} {error:?} {}", source.unwrap_or_default())
}

#[tokio::test]
async fn throttled_call_comes_again_and_is_served() {
    for name in THROTTLES {
        let key = key();
        let found = item(&key, Version::from_bytes([1; 16]), &Record::new("data"));
        let endpoint = Endpoint::new(move |request| match (&*request.action, request.nth) {
            (_, 0 | 1) => Reply::Exception(400, name, json!({})),
            ("GetItem", _) => Reply::Ok(json!({ "Item": found })),
            // The echo of what was written.
            _ => Reply::Ok(
                json!({ "Attributes": { "sealed": request.body["ExpressionAttributeValues"][":sealed"] } }),
            ),
        })
        .await;
        let store = endpoint.patient();
        let stored = store.load(&key).await.unwrap().unwrap();
        assert_eq!(stored.record.data, "data");
        // A creation that was refused for want of capacity was not carried out: it may be sent again.
        store.create(&key, &Record::new("new"), HOUR).await.unwrap();
        let actions = endpoint.actions();
        assert_eq!(
            actions,
            [
                "GetItem",
                "GetItem",
                "GetItem",
                "UpdateItem",
                "UpdateItem",
                "UpdateItem"
            ]
        );
    }
}

#[tokio::test]
async fn throttled_without_end_is_unavailable_within_the_deadline_and_retryable() {
    for name in THROTTLES {
        let endpoint = Endpoint::new(move |_| Reply::Exception(400, name, json!({}))).await;
        let told = tokio::time::timeout(PATIENCE, every_call(&endpoint.hasty())).await;
        for (action, error) in told.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.is_retryable());
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(action), "{text}");
        }
        let each = endpoint.requests().len();
        assert!(each > 9 && each < 9 * 12, "{each} requests for nine calls");
    }
}

#[tokio::test]
async fn what_a_policy_denies_names_the_action_and_the_table_once() {
    let endpoint = Endpoint::new(|_| Reply::Exception(400, "AccessDeniedException", json!({}))).await;
    let store = endpoint.patient();
    let told = every_call(&store).await;
    assert_eq!(endpoint.requests().len(), told.len(), "each is asked once");
    for (action, error) in told {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = all_told(&error);
        assert!(
            text.contains(&format!("dynamodb:{action} on table \"scripted\"")),
            "{text}"
        );
        assert!(text.contains("AccessDeniedException"), "{text}");
        assert!(!text.contains("123456789012") && !text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn missing_table_is_unavailable_and_says_what_to_do() {
    let endpoint = Endpoint::new(|_| Reply::Exception(400, "ResourceNotFoundException", json!({}))).await;
    for (action, error) in every_call(&endpoint.patient()).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.contains(action) && text.contains("\"scripted\"") && text.contains("create_table"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn refused_credentials_are_sent_once_and_not_shown() {
    for name in [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
    ] {
        let endpoint = Endpoint::new(move |_| Reply::Exception(400, name, json!({}))).await;
        let store = endpoint.patient();
        let told = every_call(&store).await;
        assert_eq!(endpoint.requests().len(), told.len(), "each is asked once");
        for (_, error) in told {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let text = format!("{} {store:?}", all_told(&error));
            assert!(text.contains("refused the credentials"), "{text}");
            assert!(!text.contains(SECRET) && !text.contains("AKIDTEST"), "{text}");
        }
    }
}

#[tokio::test]
async fn server_error_and_what_is_no_reply_are_unavailable_never_an_absence() {
    let replies = [
        Reply::Exception(500, "InternalServerError", json!({})),
        Reply::Exception(503, "ServiceUnavailable", json!({})),
        Reply::Close,
        Reply::Half(json!({ "padding": "so that there is something to cut" })),
        Reply::Text("<html>not this one</html>"),
        Reply::Text("{\"Item\": 7}"),
        Reply::Text("{\"Item\": {\"pk\": {\"B\": "),
    ];
    for reply in replies {
        let answer = reply.clone();
        let endpoint = Endpoint::new(move |_| answer.clone()).await;
        for (action, error) in every_call(&endpoint.patient()).await {
            assert_eq!(
                error.kind(),
                ErrorKind::Unavailable,
                "{reply:?}: {action}: {error}"
            );
            let text = all_told(&error);
            assert!(text.contains("dynamodb:") && !text.contains(SECRET), "{text}");
        }
    }
}

#[tokio::test]
async fn hanging_endpoint_is_unavailable_within_the_deadline() {
    let endpoint = Endpoint::new(|_| Reply::Hang).await;
    let told = tokio::time::timeout(PATIENCE, every_call(&endpoint.hasty())).await;
    for (action, error) in told.unwrap() {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.contains(action) && text.contains("no reply within"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn too_large_and_wrong_lengths_are_found_before_any_request() {
    let endpoint = Endpoint::new(|_| Reply::Hang).await;
    let store = endpoint.builder().max_record(409_088).build().unwrap();
    let (key, version) = (key(), Version::from_bytes([1; 16]));
    let record = Record::new(vec![0; 409_089]).with_subject(Subject::new("zoë").unwrap());
    let kind = ErrorKind::TooLarge {
        size: 409_089,
        limit: 409_088,
    };
    assert_eq!(store.create(&key, &record, HOUR).await.unwrap_err().kind(), kind);
    assert_eq!(
        store
            .update(&key, version, &record, HOUR)
            .await
            .unwrap_err()
            .kind(),
        kind
    );
    assert!(store.touch(&key, Duration::ZERO).await.is_err());
    assert!(endpoint.requests().is_empty());
}

#[tokio::test]
async fn reply_of_another_key_is_not_given_and_its_connection_not_used_again() {
    let (mine, theirs) = (key(), key());
    let version = Version::from_bytes([1; 16]);
    let (right, wrong) = (
        item(&mine, version, &Record::new("mine")),
        item(&theirs, version, &Record::new("theirs")),
    );
    let endpoint = Endpoint::new(move |request| {
        Reply::Ok(json!({ "Item": if request.connection == 0 { &wrong } else { &right } }))
    })
    .await;
    let store = endpoint.patient();
    for _ in 0..5 {
        let stored = store.load(&mine).await.unwrap().unwrap();
        assert_eq!(stored.record.data, "mine");
    }
    let on_first = endpoint
        .requests()
        .iter()
        .filter(|request| request.connection == 0)
        .count();
    assert_eq!(on_first, 1);
}
