//! The store.

use std::{fmt, sync::Arc, time::Duration};

use aws_sdk_dynamodb::Client;
use session_core::{
    Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep, Version, async_trait,
};

use crate::{ConnectError, DynamoDbStoreBuilder, item, load::Loads, node::Node, url, write::Writing};

/// Sessions in Amazon DynamoDB: see the [crate's front page](crate).
///
/// An [`Arc`] shares it.
pub struct DynamoDbStore {
    pub(crate) node: Arc<Node>,
    pub(crate) loads: Loads,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) profile: StoreProfile,
}

impl DynamoDbStore {
    /// A store with the defaults in a table, by a client that has a region and credentials. It connects at the first call;
    /// the table must be there by then: see [`DynamoDbStore::create_table`].
    ///
    /// The client's connections, region and credentials are used. Its timeouts and its repeats are not: the store has
    /// deadlines of its own, and decides itself which requests may be sent twice.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self::builder(client, table).assume_valid()
    }

    /// Names what [`DynamoDbStore::new`] leaves at its default.
    pub fn builder(client: Client, table: impl Into<String>) -> DynamoDbStoreBuilder {
        DynamoDbStoreBuilder::new(client, table.into())
    }

    /// A store in the table of a URL, `dynamodb://KEY:SECRET@REGION/TABLE`, where `KEY` and `SECRET` are an access key,
    /// percent-encoded. The table is looked at ([`DynamoDbStore::check_table`]), or made if the URL says `create=yes`.
    ///
    /// What may follow as `?KEY=VALUE&…`:
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `endpoint` | where the server is: `http://HOST:PORT` or `https://…` | the region's own |
    /// | `max_record` | bytes of data in the largest record | 65536 |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    /// | `create` | `yes` or `no`: whether to make a table that is not there | `no` |
    ///
    /// An application with a role (a container, a function, a virtual machine) has no such key: there, `aws-config` makes a
    /// client for [`DynamoDbStore::new`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or the server does
    /// not answer, or the table is not as it must be. None of it shows the secret. A policy that does not allow to look at
    /// the table, and a time to live that is off, are warnings.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let (builder, creates) = url::read(url)?;
        let store = builder.build()?;
        match creates {
            true => store.create_table().await?,
            false => store.warn_of_table().await?,
        }
        Ok(store)
    }
}

impl fmt::Debug for DynamoDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.node.client();
        f.debug_struct("DynamoDbStore")
            .field("region", &client.config().region().map(AsRef::as_ref))
            .field("table", &self.node.table)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for DynamoDbStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let writing = Writing::new(key, record, ttl)?;
        self.node.create(&writing, self.write).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some(item) = self.loads.load(*key, self.read).await? else {
            return Ok(None);
        };
        let opened = item::open(item, key, item::now())
            .inspect_err(|error| tracing::error!(%key, %error, "the value cannot be read"))?;
        Ok(opened.map(|(record, version, remaining)| Stored::new(record, version, remaining)))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let writing = Writing::new(key, record, ttl)?;
        self.node.replace(&writing, expected, self.write).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        self.node.set_life(key, ttl, self.write).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.node.remove(key, expected, self.write).await
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        // DynamoDB removes what has expired. To look for it otherwise would be to read the whole table.
        None
    }
}
