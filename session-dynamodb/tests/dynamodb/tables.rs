//! The table, made and looked at.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use session_dynamodb::{
    DynamoDbStore, TableProblem,
    aws_sdk_dynamodb::{
        Client,
        types::{
            AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
            TimeToLiveSpecification,
        },
    },
};
use session_testbed::DynamoDbServer;

use crate::endpoint::{Endpoint, Reply};

/// A table of a test's own.
pub(crate) struct Table {
    pub(crate) store: DynamoDbStore,
    pub(crate) client: Client,
    pub(crate) name: String,
}

/// One that is not there yet. The store's deadlines are those that no slow machine meets.
pub(crate) async fn named() -> Table {
    let server = DynamoDbServer::shared().await.unwrap();
    let (key, secret) = server.credentials();
    let client = crate::support::client_of(server.region(), key, secret, server.endpoint());
    on(client)
}

pub(crate) fn on(client: Client) -> Table {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("own_{}_{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let long = std::time::Duration::from_secs(30);
    let builder = DynamoDbStore::builder(client.clone(), &name).max_record(409_088);
    let store = builder.read_deadline(long).write_deadline(long).build().unwrap();
    Table { store, client, name }
}

pub(crate) async fn opened() -> Table {
    let table = named().await;
    table.store.create_table().await.unwrap();
    table
}

impl Table {
    /// Makes it by other means, with these keys.
    async fn make(&self, keys: &[(&str, KeyType, ScalarAttributeType)]) {
        let mut making = self.client.create_table().table_name(&self.name);
        making = making.billing_mode(BillingMode::PayPerRequest);
        for (name, kind, of) in keys {
            let attribute = AttributeDefinition::builder()
                .attribute_name(*name)
                .attribute_type(of.clone());
            let key = KeySchemaElement::builder()
                .attribute_name(*name)
                .key_type(kind.clone());
            making = making
                .attribute_definitions(attribute.build().unwrap())
                .key_schema(key.build().unwrap());
        }
        making.send().await.unwrap();
    }

    async fn set_time_to_live(&self, attribute: &str) {
        let on = TimeToLiveSpecification::builder()
            .attribute_name(attribute)
            .enabled(true);
        let setting = self.client.update_time_to_live().table_name(&self.name);
        setting
            .time_to_live_specification(on.build().unwrap())
            .send()
            .await
            .unwrap();
    }
}

const OURS: [(&str, KeyType, ScalarAttributeType); 2] = [
    ("pk", KeyType::Hash, ScalarAttributeType::B),
    ("sk", KeyType::Range, ScalarAttributeType::B),
];

#[tokio::test]
async fn table_is_made_once_however_many_nodes_begin() {
    let Table { store, client, name } = named().await;
    assert_eq!(store.check_table().await.unwrap(), [TableProblem::Missing]);
    tokio::try_join!(store.create_table(), store.create_table(), store.create_table()).unwrap();
    store.create_table().await.unwrap();
    assert!(store.check_table().await.unwrap().is_empty());
    let described = client
        .describe_table()
        .table_name(&name)
        .send()
        .await
        .unwrap()
        .table
        .unwrap();
    let billing = described.billing_mode_summary.unwrap().billing_mode.unwrap();
    assert_eq!(billing, BillingMode::PayPerRequest);
    assert!(described.global_secondary_indexes.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn table_of_another_program_is_told_and_left_alone() {
    for keys in [
        &[("id", KeyType::Hash, ScalarAttributeType::S)][..],
        &[("pk", KeyType::Hash, ScalarAttributeType::B)],
        &[
            ("pk", KeyType::Hash, ScalarAttributeType::S),
            ("sk", KeyType::Range, ScalarAttributeType::B),
        ],
    ] {
        let table = named().await;
        table.make(keys).await;
        let problems = table.store.check_table().await.unwrap();
        let [TableProblem::Keys(told)] = &*problems else {
            panic!("{problems:?}");
        };
        assert!(told.contains(keys[0].0) && problems[0].is_fatal(), "{told}");
        let error = table.store.create_table().await.unwrap_err().to_string();
        assert!(
            error.contains("another program") && error.contains(&table.name),
            "{error}"
        );
        let ttl = table
            .client
            .describe_time_to_live()
            .table_name(&table.name)
            .send()
            .await
            .unwrap();
        assert!(
            ttl.time_to_live_description
                .is_none_or(|ttl| ttl.attribute_name.is_none())
        );
    }
}

#[tokio::test]
async fn time_to_live_that_is_off_is_told_and_switched_on() {
    let table = named().await;
    table.make(&OURS).await;
    let problems = table.store.check_table().await.unwrap();
    assert_eq!(problems, [TableProblem::TimeToLiveOff]);
    assert!(!problems[0].is_fatal());
    table.store.create_table().await.unwrap();
    assert!(table.store.check_table().await.unwrap().is_empty());
}

#[tokio::test]
async fn time_to_live_by_another_attribute_is_told() {
    let table = named().await;
    table.make(&OURS).await;
    table.set_time_to_live("expires").await;
    let problems = table.store.check_table().await.unwrap();
    assert_eq!(
        problems,
        [TableProblem::TimeToLiveAttribute("expires".to_owned())]
    );
    let error = table.store.create_table().await.unwrap_err().to_string();
    assert!(
        error.contains("\"expires\"") && error.contains("\"ttl\""),
        "{error}"
    );
}

#[tokio::test]
async fn connect_looks_at_the_table_or_makes_it() {
    let server = DynamoDbServer::shared().await.unwrap();
    let url = server.url();
    let table = named().await;
    let url = url.replace("/sessions?", &format!("/{}?", table.name));
    let error = DynamoDbStore::connect(&url).await.unwrap_err().to_string();
    assert!(
        error.contains("does not exist") && error.contains(&table.name),
        "{error}"
    );
    DynamoDbStore::connect(&format!("{url}&create=yes"))
        .await
        .unwrap();
    let store = DynamoDbStore::connect(&url).await.unwrap();
    let shown = format!("{store:?}");
    assert!(
        shown.contains(&table.name) && !shown.contains(server.credentials().1),
        "{shown}"
    );
}

#[tokio::test]
async fn table_that_may_not_be_looked_at_can_be_used() {
    let endpoint =
        Endpoint::new(|_| Reply::Exception(400, "AccessDeniedException", serde_json::json!({}))).await;
    let url = format!(
        "dynamodb://AKIDTEST:secret@eu-central-1/sessions?endpoint={}",
        endpoint.url()
    );
    DynamoDbStore::connect(&url).await.unwrap();
    let error = DynamoDbStore::connect(&format!("{url}&create=yes"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("dynamodb:CreateTable on table \"sessions\""),
        "{error}"
    );
}
