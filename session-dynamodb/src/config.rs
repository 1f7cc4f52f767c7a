//! How a store is made.

use std::{fmt, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
};
use session_core::{Capability, ClockSource, Durability, KeyError, StoreProfile};

use crate::{BACKEND, DynamoDbStore, item::LARGEST_RECORD, load::Loads, node::Node};

/// Characters of a table's name: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
const NAME: std::ops::RangeInclusive<usize> = 3..=255;

/// Names what [`DynamoDbStore::new`] leaves at its default.
#[must_use]
pub struct DynamoDbStoreBuilder {
    client: Client,
    table: String,
    max_record: usize,
    read: Duration,
    write: Duration,
    connect: Duration,
}

impl DynamoDbStoreBuilder {
    pub(crate) fn new(client: Client, table: String) -> Self {
        Self {
            client,
            table,
            max_record: 64 * 1024,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
        }
    }

    /// Bytes of data in the largest record, 409,088 at most: an item has 400 KB, with the names of its attributes, and 512
    /// bytes are for all that is not data. Default: 64 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// How long a read may take, repeats included. Default: 250 ms.
    pub fn read_deadline(mut self, length: Duration) -> Self {
        self.read = length;
        self
    }

    /// How long a write may take, its note in the index and repeats included. Default: 500 ms.
    pub fn write_deadline(mut self, length: Duration) -> Self {
        self.write = length;
        self
    }

    /// How long a new connection may take. The call that needs it may end before. Default: 1 s.
    pub fn connect_deadline(mut self, length: Duration) -> Self {
        self.connect = length;
        self
    }

    /// The store. It connects at the first call; the table must be there by then: see [`DynamoDbStore::create_table`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the table's name, the largest record or a deadline cannot be.
    pub fn build(self) -> Result<DynamoDbStore, ConfigError> {
        let of_name = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if !NAME.contains(&self.table.len()) || !self.table.chars().all(of_name) {
            return Err(ConfigError::Table);
        }
        if !(1..=LARGEST_RECORD).contains(&self.max_record) {
            return Err(ConfigError::MaxRecord);
        }
        if [self.read, self.write, self.connect]
            .iter()
            .any(Duration::is_zero)
        {
            return Err(ConfigError::Deadline);
        }
        Ok(self.assume_valid())
    }

    /// [`DynamoDbStoreBuilder::build`], when only defaults were chosen.
    pub(crate) fn assume_valid(self) -> DynamoDbStore {
        let mut profile = StoreProfile::new(BACKEND);
        profile.capabilities = vec![Capability::Subjects];
        profile.limits.max_record = self.max_record;
        // A life is counted in milliseconds, and the one that has begun is given to the session.
        profile.limits.granularity = Duration::from_millis(10);
        // A write is on the disks of two availability zones before it is acknowledged.
        profile.limits.durability = Durability::Crash;
        profile.limits.may_evict = false;
        profile.limits.clock = ClockSource::Client;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .disable_read_timeout()
            .disable_operation_timeout()
            .disable_operation_attempt_timeout()
            .build();
        // The client would send a creation twice, and would not tell of a first try that may have been carried out.
        let config = self.client.config().to_builder();
        let config = config
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // Every call has a deadline.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let node = Arc::new(Node::new(Client::from_conf(config.build()), self.table));
        DynamoDbStore {
            loads: Loads::new(&node, self.max_record),
            node,
            read: self.read,
            write: self.write,
            profile,
        }
    }
}

impl fmt::Debug for DynamoDbStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbStoreBuilder")
            .field("region", &self.client.config().region().map(AsRef::as_ref))
            .field("table", &self.table)
            .field("max_record", &self.max_record)
            .field("read_deadline", &self.read)
            .field("write_deadline", &self.write)
            .field("connect_deadline", &self.connect)
            .finish_non_exhaustive()
    }
}

/// What was configured cannot be. No part of it is repeated that may be a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL of a table.
    Url,
    /// The URL names no access key.
    Credentials,
    /// A key of the URL means nothing here, is there twice, or has a value that cannot be.
    Key(KeyError),
    /// The table's name is not of 3 to 255 letters, digits, `_`, `-` and `.`.
    Table,
    /// The largest record has no byte, or more than an item has room for.
    MaxRecord,
    /// A deadline is zero.
    Deadline,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "not the URL of a table: dynamodb://KEY:SECRET@REGION/TABLE is expected, with key and secret \
                 percent-encoded",
            ),
            Self::Credentials => f.write_str(
                "the URL names no access key: dynamodb://KEY:SECRET@REGION/TABLE is expected. Where a role gives the \
                 credentials, make a client with aws-config, and the store with DynamoDbStore::new",
            ),
            Self::Key(error) => error.fmt(f),
            Self::Table => f.write_str("a table's name has 3 to 255 letters, digits, `_`, `-` and `.`"),
            Self::MaxRecord => write!(f, "the largest record has 1 to {LARGEST_RECORD} bytes"),
            Self::Deadline => f.write_str("a deadline of zero leaves no time for any call"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// Why [`DynamoDbStore::connect`] has no store to give.
pub type ConnectError = session_core::ConnectError<ConfigError>;

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
