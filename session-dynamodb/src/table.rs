//! The table: made, or looked at.

use std::{fmt, time::Duration};

use aws_sdk_dynamodb::{
    operation::{
        create_table::CreateTableError, describe_table::DescribeTableError,
        update_time_to_live::UpdateTimeToLiveError,
    },
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
        TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use session_core::{Error, Result};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    DynamoDbStore,
    error::{self, Asked, Failure},
    item::{PK, SK, TTL},
};

/// A table is made within seconds, as a rule.
const MAKING: Duration = Duration::from_secs(60);

/// Between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(200);

/// Questions about a table are answered more slowly than those about items.
const LOOKING: Duration = Duration::from_secs(5);

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableProblem {
    /// There is no such table.
    Missing,
    /// It is being made, changed or deleted, or cannot be reached: its status.
    NotActive(String),
    /// Its keys are other ones than `pk` (partition) and `sk` (sort), both binary: those that it has.
    Keys(String),
    /// Expired records are not removed: they are absent all the same, and cost their storage.
    TimeToLiveOff,
    /// The time to live goes by another attribute than `ttl`: this one.
    TimeToLiveAttribute(String),
}

impl TableProblem {
    /// Whether no call can succeed.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Missing | Self::NotActive(_) | Self::Keys(_))
    }
}

impl fmt::Display for TableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the table does not exist: DynamoDbStore::create_table makes it"),
            Self::NotActive(status) => write!(f, "the table is not ready: its status is {status}"),
            Self::Keys(keys) => write!(
                f,
                "the table has the keys {keys}, where {PK:?} (partition, binary) and {SK:?} (sort, binary) are needed: it \
                 belongs to another program"
            ),
            Self::TimeToLiveOff => write!(
                f,
                "the table's time to live is off: expired records are never removed. Switch it on for the attribute {TTL:?}"
            ),
            Self::TimeToLiveAttribute(name) => write!(
                f,
                "the table's time to live goes by the attribute {name:?}, not by {TTL:?}: expired records are never removed"
            ),
        }
    }
}

impl DynamoDbStore {
    /// Makes the table, if it is not there: with on-demand capacity, and its time to live switched on. Waits until it can be
    /// used, at most a minute. Several nodes may do so at once. A table that is there is looked at, and its time to live is
    /// switched on if it is off; nothing else is changed.
    ///
    /// Where tables are made by other means, they need the partition key `pk` and the sort key `sk`, both binary (type `B`),
    /// and the time to live on the attribute `ttl`.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the server does not answer, the policy does not allow it, or a table of that name has other keys or
    /// another attribute for its time to live.
    pub async fn create_table(&self) -> Result<()> {
        let deadline = Instant::now() + MAKING;
        self.make(deadline).await?;
        loop {
            let problems = self.problems(deadline).await?;
            if problems.contains(&TableProblem::TimeToLiveOff) && problems.len() == 1 {
                return self.switch_on(deadline).await;
            }
            let passes = |problem: &TableProblem| {
                matches!(problem, TableProblem::Missing | TableProblem::NotActive(_))
            };
            match problems.iter().find(|problem| !passes(problem)) {
                Some(problem) => return Err(self.told(problem)),
                None if problems.is_empty() => return Ok(()),
                None if Instant::now() + PAUSE >= deadline => return Err(self.told(&problems[0])),
                None => sleep(PAUSE).await,
            }
        }
    }

    /// What is wrong with the table: nothing, if the list is empty. Needs `dynamodb:DescribeTable` and
    /// `dynamodb:DescribeTimeToLive`, which no other call needs.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the server does not answer, or the policy does not allow to look.
    pub async fn check_table(&self) -> Result<Vec<TableProblem>> {
        self.problems(Instant::now() + LOOKING).await
    }

    /// Fails if no call can succeed, and warns of what else is wrong.
    pub(crate) async fn warn_of_table(&self) -> Result<()> {
        let problems = match self.looked(Instant::now() + LOOKING).await {
            Ok(problems) => problems,
            // Who may use the table need not be allowed to look at it.
            Err(Failure::Refused(error)) if is_denied(&error) => {
                tracing::warn!(%error, "the table was not looked at");
                return Ok(());
            }
            Err(failure) => return Err(failure.into()),
        };
        for problem in &problems {
            if problem.is_fatal() {
                return Err(self.told(problem));
            }
            tracing::warn!(table = self.node.table, %problem, "the table is not as it should be");
        }
        Ok(())
    }

    async fn make(&self, deadline: Instant) -> Result<()> {
        let asked = self.node.asked("CreateTable");
        let attribute = |name| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::B)
                .build()
                .map_err(|error| error::unavailable(error.to_string()))
        };
        let key = |name, kind| {
            KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind)
                .build()
                .map_err(|error| error::unavailable(error.to_string()))
        };
        let client = self.node.client();
        let making = client
            .create_table()
            .table_name(&self.node.table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute(PK)?)
            .attribute_definitions(attribute(SK)?)
            .key_schema(key(PK, KeyType::Hash)?)
            .key_schema(key(SK, KeyType::Range)?)
            .send();
        match in_time(&asked, deadline, making).await? {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                // It is there, or another node is making it.
                Some(CreateTableError::ResourceInUseException(_)) => Ok(()),
                _ => Err(error::of(&asked, &error).into()),
            },
        }
    }

    async fn switch_on(&self, deadline: Instant) -> Result<()> {
        let asked = self.node.asked("UpdateTimeToLive");
        let on = TimeToLiveSpecification::builder()
            .attribute_name(TTL)
            .enabled(true)
            .build()
            .map_err(|error| error::unavailable(error.to_string()))?;
        let switching = self.node.client().update_time_to_live();
        let switching = switching
            .table_name(&self.node.table)
            .time_to_live_specification(on)
            .send();
        match in_time(&asked, deadline, switching).await? {
            Ok(_) => Ok(()),
            Err(error) => {
                let is_meanwhile = matches!(
                    error.as_service_error(),
                    Some(UpdateTimeToLiveError::ResourceInUseException(_))
                );
                let failure = error::of(&asked, &error);
                // Another node may have switched it on since.
                match self.problems(deadline).await {
                    Ok(problems) if problems.is_empty() || is_meanwhile => Ok(()),
                    _ => Err(failure.into()),
                }
            }
        }
    }

    async fn problems(&self, deadline: Instant) -> Result<Vec<TableProblem>> {
        Ok(self.looked(deadline).await?)
    }

    async fn looked(&self, deadline: Instant) -> Result<Vec<TableProblem>, Failure> {
        let asked = self.node.asked("DescribeTable");
        let describing = self
            .node
            .client()
            .describe_table()
            .table_name(&self.node.table)
            .send();
        let described = in_time(&asked, deadline, describing)
            .await
            .map_err(Failure::Lost)?;
        let described = match described {
            Ok(described) => described.table,
            Err(error) => match error.as_service_error() {
                Some(DescribeTableError::ResourceNotFoundException(_)) => {
                    return Ok(vec![TableProblem::Missing]);
                }
                _ => return Err(error::of(&asked, &error)),
            },
        };
        let Some(table) = described else {
            return Err(error::out_of_step(&asked));
        };
        let mut problems = Vec::new();
        if let Some(status) = table.table_status()
            && !matches!(status, TableStatus::Active | TableStatus::Updating)
        {
            problems.push(TableProblem::NotActive(status.as_str().to_owned()));
        }
        let keys = keys(&table);
        if keys != expected_keys() {
            problems.push(TableProblem::Keys(keys));
        }
        if problems.is_empty() {
            problems.extend(self.time_to_live(deadline).await?);
        }
        Ok(problems)
    }

    async fn time_to_live(&self, deadline: Instant) -> Result<Option<TableProblem>, Failure> {
        let asked = self.node.asked("DescribeTimeToLive");
        let describing = self.node.client().describe_time_to_live();
        let describing = describing.table_name(&self.node.table).send();
        let described = in_time(&asked, deadline, describing)
            .await
            .map_err(Failure::Lost)?
            .map_err(|error| error::of(&asked, &error))?;
        let Some(described) = described.time_to_live_description else {
            return Ok(Some(TableProblem::TimeToLiveOff));
        };
        let is_on = matches!(
            described.time_to_live_status(),
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        );
        Ok(match described.attribute_name() {
            _ if !is_on => Some(TableProblem::TimeToLiveOff),
            Some(TTL) => None,
            name => Some(TableProblem::TimeToLiveAttribute(
                name.unwrap_or_default().to_owned(),
            )),
        })
    }

    fn told(&self, problem: &TableProblem) -> Error {
        error::unavailable(format!("table {:?}: {problem}", self.node.table))
    }
}

/// The answer of the server, if it comes in time.
async fn in_time<T>(asked: &Asked<'_>, deadline: Instant, request: impl Future<Output = T>) -> Result<T> {
    timeout_at(deadline, request)
        .await
        .map_err(|_| error::unavailable(format!("{asked}: no reply in time")))
}

fn is_denied(error: &Error) -> bool {
    error
        .detail()
        .is_some_and(|detail| detail.contains("AccessDeniedException"))
}

fn expected_keys() -> String {
    format!("{PK} (HASH, B), {SK} (RANGE, B)")
}

fn keys(table: &TableDescription) -> String {
    let kind = |name: &str| {
        let mut attributes = table.attribute_definitions().iter();
        let attribute = attributes.find(|attribute| attribute.attribute_name() == name);
        attribute.map_or("?", |attribute| attribute.attribute_type().as_str())
    };
    let mut keys: Vec<String> = table
        .key_schema()
        .iter()
        .map(|key| {
            let name = key.attribute_name();
            format!("{name} ({}, {})", key.key_type().as_str(), kind(name))
        })
        .collect();
    // The partition key first.
    keys.sort_by_key(|key| !key.contains("(HASH"));
    keys.join(", ")
}
