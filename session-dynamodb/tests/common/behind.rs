//! The table, behind the store's back.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use session_conformance::{BoxError, Raw, async_trait};
use session_core::SessionKey;
use session_dynamodb::aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};

pub(crate) struct Behind {
    client: Client,
    table: String,
}

impl Behind {
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

fn bytes(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

fn of_record(key: &SessionKey) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("pk".to_owned(), bytes(key.as_bytes())),
        ("sk".to_owned(), bytes(b"-")),
    ])
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(120);
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(of_record(key)))
            .update_expression(
                "SET sealed = :value, expires = if_not_exists(expires, :end), #ttl = if_not_exists(#ttl, :ttl)",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":value", bytes(value))
            .expression_attribute_values(":end", AttributeValue::N(end.as_millis().to_string()))
            .expression_attribute_values(":ttl", AttributeValue::N(end.as_secs().to_string()))
            .send()
            .await?;
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let request = self.client.get_item().table_name(&self.table);
        let reply = request
            .set_key(Some(of_record(key)))
            .consistent_read(true)
            .send()
            .await?;
        match reply.item.and_then(|mut item| item.remove("sealed")) {
            None => Ok(None),
            Some(AttributeValue::B(value)) => Ok(Some(value.into_inner())),
            Some(other) => Err(format!("not bytes: {other:?}").into()),
        }
    }

    /// The store never scans; here the table is small.
    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let scan = self.client.scan().table_name(&self.table).consistent_read(true);
            let page = scan.set_exclusive_start_key(after).send().await?;
            for (name, value) in page.items.into_iter().flatten().flatten() {
                all.extend(name.into_bytes());
                match value {
                    AttributeValue::B(bytes) => all.extend(bytes.into_inner()),
                    AttributeValue::N(text) | AttributeValue::S(text) => all.extend(text.into_bytes()),
                    other => return Err(format!("not known here: {other:?}").into()),
                }
            }
            after = page.last_evaluated_key.filter(|key| !key.is_empty());
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
