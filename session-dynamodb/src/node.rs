//! The table, as this node reaches it: one function for each request, and none that sends one twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_sdk_dynamodb::{
    Client,
    operation::{delete_item::DeleteItemError, update_item::UpdateItemError},
    types::{
        AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
    },
};
use session_core::SessionKey;

use crate::{
    error::{self, Asked, Failure},
    item::{self, EXPIRES, Item, PK, SUBJECT},
};

/// Keys in one `BatchGetItem`: <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
pub(crate) const MOST_KEYS: usize = 100;

pub(crate) struct Node {
    line: Mutex<Line>,
    pub(crate) table: String,
}

/// A client, and how many there were before it.
#[derive(Clone)]
struct Line {
    client: Client,
    number: u64,
}

/// What to change in an item, and when.
pub(crate) struct Change {
    pub(crate) key: Item,
    pub(crate) expression: String,
    pub(crate) condition: Option<String>,
    /// Of both, by their names (`:end`).
    pub(crate) values: Item,
    pub(crate) proof: Proof,
}

/// What the reply to a change shows of it: another change's reply does not.
pub(crate) enum Proof {
    Begins(&'static str, Vec<u8>),
    Is(&'static str, u64),
}

/// What became of a conditional write.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It was done.
    Done,
    /// The condition did not hold, and this is what was there.
    Refused(Option<Item>),
}

/// What is read of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// Its end and its subject.
    Life,
}

/// What a `BatchGetItem` found.
pub(crate) struct Found {
    pub(crate) items: HashMap<SessionKey, Item>,
    /// Those that had no place in this reply, or that the server had no capacity for.
    pub(crate) unprocessed: Vec<SessionKey>,
}

/// A page of an index.
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    pub(crate) next: Option<Item>,
}

impl Node {
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self {
            line: Mutex::new(Line { client, number: 0 }),
            table,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.line().client.clone()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply on a connection of `line` is none to its request. The client does not tell which connection that was, so
    /// all of them are given up: the client that takes its place has new ones, unless it was given an HTTP client to share.
    fn out_of_step(&self, asked: &Asked<'_>, line: &Line) -> Failure {
        let mut current = self.line();
        if current.number == line.number {
            current.client = Client::from_conf(line.client.config().clone());
            current.number += 1;
        }
        drop(current);
        error::out_of_step(asked)
    }

    pub(crate) fn asked(&self, action: &'static str) -> Asked<'_> {
        Asked {
            action,
            table: &self.table,
        }
    }

    /// The item of a record, read consistently.
    pub(crate) async fn get(&self, key: &SessionKey) -> Result<Option<Item>, Failure> {
        let asked = self.asked("GetItem");
        let line = self.line().clone();
        let request = line.client.get_item().table_name(&self.table);
        let reply = request
            .set_key(Some(item::key_of_record(key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| error::of(&asked, &error))?;
        match reply.item {
            Some(item) if !item::is_of(&item, key) => Err(self.out_of_step(&asked, &line)),
            item => Ok(item),
        }
    }

    /// The items of some records, each key once, read consistently.
    pub(crate) async fn batch_get(&self, keys: &[SessionKey], part: Part) -> Result<Found, Failure> {
        let asked = self.asked("BatchGetItem");
        let mut wanted = KeysAndAttributes::builder().consistent_read(true);
        for key in keys {
            wanted = wanted.keys(item::key_of_record(key));
        }
        if part == Part::Life {
            wanted = wanted.projection_expression(format!("{PK}, {EXPIRES}, {SUBJECT}"));
        }
        let wanted = wanted.build().map_err(|error| {
            // Keys were given: it cannot be without.
            Failure::Refused(error::unavailable(format!("{asked}: {error}")))
        })?;
        let line = self.line().clone();
        let reply = line
            .client
            .batch_get_item()
            .request_items(&self.table, wanted)
            .send()
            .await
            .map_err(|error| error::of(&asked, &error))?;

        // A reply to this action tells what was found, if it is nothing.
        let responses = reply.responses.ok_or_else(|| self.out_of_step(&asked, &line))?;
        let mut items = HashMap::with_capacity(keys.len());
        for item in responses.into_values().flatten() {
            let key = item::key(&item, PK).filter(|key| keys.contains(key));
            let key = key.ok_or_else(|| self.out_of_step(&asked, &line))?;
            items.insert(key, item);
        }
        let unprocessed = reply.unprocessed_keys.into_iter().flatten();
        let unprocessed = unprocessed
            .flat_map(|(_, left)| left.keys)
            .map(|left| item::key(&left, PK).filter(|key| keys.contains(key)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.out_of_step(&asked, &line))?;
        Ok(Found { items, unprocessed })
    }

    pub(crate) async fn update(&self, change: Change) -> Result<Seen, Failure> {
        let asked = self.asked("UpdateItem");
        let pk = change.key.get(PK).cloned();
        let names_ttl = HashMap::from([("#ttl".to_owned(), item::TTL.to_owned())]);
        let line = self.line().clone();
        let sent = line
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(change.key))
            .update_expression(change.expression)
            .set_condition_expression(change.condition)
            .set_expression_attribute_names(Some(names_ttl))
            .set_expression_attribute_values(Some(change.values))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(reply) => match change.proof.is_in(&reply.attributes.unwrap_or_default()) {
                true => Ok(Seen::Done),
                false => Err(self.out_of_step(&asked, &line)),
            },
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    refused(pk.as_ref(), failed.item.clone()).ok_or_else(|| self.out_of_step(&asked, &line))
                }
                _ => Err(error::of(&asked, &error)),
            },
        }
    }

    pub(crate) async fn delete(&self, key: Item, condition: &str, values: Item) -> Result<Seen, Failure> {
        let asked = self.asked("DeleteItem");
        let pk = key.get(PK).cloned();
        let line = self.line().clone();
        let sent = line
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        match sent {
            // A reply without what was deleted is another request's.
            Ok(reply) => match reply.attributes.and_then(|mut item| item.remove(PK)) == pk {
                true => Ok(Seen::Done),
                false => Err(self.out_of_step(&asked, &line)),
            },
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    refused(pk.as_ref(), failed.item.clone()).ok_or_else(|| self.out_of_step(&asked, &line))
                }
                _ => Err(error::of(&asked, &error)),
            },
        }
    }

    /// A page of the notes of a subject, read consistently.
    pub(crate) async fn query(&self, subject: &[u8; 32], after: Option<Item>) -> Result<Page, Failure> {
        let asked = self.asked("Query");
        let line = self.line().clone();
        let reply = line
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression(format!("{PK} = :subject"))
            .expression_attribute_values(":subject", item::bytes(subject))
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| error::of(&asked, &error))?;
        let items = reply.items.ok_or_else(|| self.out_of_step(&asked, &line))?;
        if items.iter().any(|item| item::blob(item, PK) != Some(subject)) {
            return Err(self.out_of_step(&asked, &line));
        }
        Ok(Page {
            items,
            next: reply.last_evaluated_key.filter(|key| !key.is_empty()),
        })
    }
}

/// What a condition that did not hold was compared with. `None`: it is another item.
fn refused(pk: Option<&AttributeValue>, item: Option<Item>) -> Option<Seen> {
    // An empty map is how some servers say that there is none.
    let item = item.filter(|item| !item.is_empty());
    match &item {
        Some(item) if item.get(PK) != pk => None,
        _ => Some(Seen::Refused(item)),
    }
}

impl Proof {
    fn is_in(&self, item: &Item) -> bool {
        match self {
            Self::Begins(name, begin) => item::blob(item, name).is_some_and(|value| value.starts_with(begin)),
            Self::Is(name, number) => item::natural(item, name) == Some(*number),
        }
    }
}
