//! How many requests a call costs, and what stands in an item.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use session_core::{Record, SessionStore, Subject, Subjects, Version};
use session_dynamodb::aws_sdk_dynamodb::{
    Client,
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef},
    error::BoxError,
    primitives::Blob,
    types::AttributeValue,
};

use crate::{
    support::{HOUR, key, millis},
    tables::{Table, named, on, opened},
};

/// Writes down what is sent.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<Mutex<Vec<String>>>);

impl Sent {
    /// What was sent since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "sent"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context
            .request()
            .headers()
            .get("x-amz-target")
            .unwrap_or_default();
        let action = target.rsplit('.').next().unwrap_or_default();
        self.0.lock().unwrap().push(action.to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn each_call_costs_the_requests_that_are_promised_and_never_a_scan() {
    let sent = Sent::default();
    let config = named()
        .await
        .client
        .config()
        .to_builder()
        .interceptor(sent.clone())
        .build();
    let Table { store, .. } = on(Client::from_conf(config));
    store.create_table().await.unwrap();
    sent.take();

    let (key, noted, record) = (key(), key(), Record::new("data"));
    let (zoe, ann) = (Subject::new("zoë").unwrap(), Subject::new("ann").unwrap());
    let of = |subject: &Subject| record.clone().with_subject(subject.clone());
    let other = Version::from_bytes([1; 16]);

    let version = store.create(&key, &record, HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem"]);
    store.create(&key, &record, HOUR).await.unwrap_err();
    assert_eq!(sent.take(), ["UpdateItem"]);
    store.load(&key).await.unwrap();
    assert_eq!(sent.take(), ["GetItem"]);
    store.touch(&key, HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem"]);
    let version = store.update(&key, version, &record, HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem"]);
    store.update(&key, other, &record, HOUR).await.unwrap_err();
    assert_eq!(sent.take(), ["UpdateItem"]);
    store.delete(&key, Some(other)).await.unwrap_err();
    assert_eq!(sent.take(), ["DeleteItem"]);
    store.delete(&key, Some(version)).await.unwrap();
    assert_eq!(sent.take(), ["DeleteItem"]);
    store.delete(&key, None).await.unwrap();
    assert_eq!(sent.take(), ["DeleteItem"]);
    store.update(&key, version, &record, HOUR).await.unwrap_err();
    assert_eq!(sent.take(), ["UpdateItem"]);

    // With a subject: the note comes first, and only when the subject is another one.
    let version = store.create(&noted, &of(&zoe), HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem", "UpdateItem"]);
    let version = store.update(&noted, version, &of(&zoe), HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem"]);
    let version = store.update(&noted, version, &of(&ann), HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem", "UpdateItem", "UpdateItem"]);
    let version = store.update(&noted, version, &record, HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem"]);
    store.update(&noted, version, &of(&ann), HOUR).await.unwrap();
    assert_eq!(sent.take(), ["UpdateItem", "UpdateItem", "UpdateItem"]);
    assert_eq!(store.list(&ann).await.unwrap(), [noted]);
    assert_eq!(sent.take(), ["Query", "BatchGetItem"]);
    assert!(
        store
            .list(&Subject::new("bob").unwrap())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(sent.take(), ["Query"]);
    store.delete_all(&ann, None).await.unwrap();
    store.delete_all(&zoe, None).await.unwrap();
    assert!(!sent.take().iter().any(|action| action == "Scan"));
}

async fn item_of(
    table: &Table,
    key: &session_core::SessionKey,
) -> std::collections::HashMap<String, AttributeValue> {
    let bytes = |bytes: &[u8]| AttributeValue::B(Blob::new(bytes));
    let get = table
        .client
        .get_item()
        .table_name(&table.name)
        .consistent_read(true);
    let get = get.key("pk", bytes(key.as_bytes())).key("sk", bytes(b"-"));
    get.send().await.unwrap().item.unwrap()
}

#[tokio::test]
async fn item_ends_in_milliseconds_and_is_removed_an_hour_after_the_whole_second() {
    let table = opened().await;
    let key = key();
    let number = |item: &std::collections::HashMap<String, AttributeValue>, name: &str| -> u64 {
        item[name].as_n().unwrap().parse().unwrap()
    };
    let version = table
        .store
        .create(&key, &Record::new("data"), HOUR)
        .await
        .unwrap();
    table
        .store
        .update(&key, version, &Record::new("more data"), HOUR)
        .await
        .unwrap();
    for ttl in [HOUR, Duration::from_millis(90_001), 2 * HOUR] {
        let before = millis();
        table.store.touch(&key, ttl).await.unwrap();
        let item = item_of(&table, &key).await;
        let length = u64::try_from(ttl.as_millis()).unwrap();
        let end = number(&item, "expires");
        assert!(
            (before + length + 1..=millis() + length + 1).contains(&end),
            "{end}"
        );
        assert_eq!(number(&item, "ttl"), end.div_ceil(1000) + 3_600);
    }
}

#[tokio::test]
async fn largest_record_of_all_is_kept_with_the_longest_subject() {
    let Table { store, .. } = opened().await;
    let key = key();
    let subject = Subject::new("s".repeat(Subject::MAX_LEN)).unwrap();
    let record = Record::new(vec![7; 409_088])
        .with_subject(subject)
        .with_not_after(session_core::Timestamp::from_millis(millis() * 2));
    store.create(&key, &record, HOUR).await.unwrap();
    assert_eq!(store.load(&key).await.unwrap().unwrap().record, record);
}
