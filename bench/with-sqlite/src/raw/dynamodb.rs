//! The client of DynamoDB: one request for each call.

use std::time::{Duration, SystemTime};

use session_bench::{
    Result,
    contest::{self, Contestant, Held, TOUCH_EVERY, TTL},
};
use session_core::async_trait;
use session_dynamodb::aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
    types::AttributeValue,
};
use url::Url;

/// The sort key of a session. Ours has another.
const SORT: &[u8] = b"raw";

const IS_LIVE: &str = "expires > :now";

/// The client that session-dynamodb uses, asked for the same.
pub(crate) struct Raw {
    client: Client,
    table: String,
    value: Vec<u8>,
}

impl Raw {
    /// In the table of `url`, which is there; sessions of `size` bytes.
    pub(crate) fn new(url: &str, size: usize) -> Result<Self> {
        let mut value = vec![0; size];
        fastrand::fill(&mut value);
        let url = Url::parse(url)?;
        let region = url.host_str().ok_or("the URL names no region")?.to_owned();
        let secret = url.password().ok_or("the URL has no secret")?;
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(
                Credentials::builder()
                    .access_key_id(url.username())
                    .secret_access_key(secret)
                    .provider_name("url")
                    .build(),
            );
        if let Some((_, endpoint)) = url.query_pairs().find(|(name, _)| name == "endpoint") {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            table: url.path().trim_start_matches('/').to_owned(),
            value,
        })
    }
}

fn binary(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

fn pk(held: &Held) -> AttributeValue {
    binary(&held.id)
}

/// The time, in milliseconds since 1970, so much later.
fn after(length: Duration) -> AttributeValue {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    AttributeValue::N((since.unwrap_or_default() + length).as_millis().to_string())
}

fn now() -> AttributeValue {
    after(Duration::ZERO)
}

/// When DynamoDB may remove it, in seconds.
fn ttl() -> AttributeValue {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    AttributeValue::N((since.unwrap_or_default() + TTL).as_secs().to_string())
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        "aws-sdk-dynamodb"
    }

    async fn create(&self) -> Result<Held> {
        let held = Held::random();
        let request = self.client.put_item().table_name(&self.table);
        request
            .item("pk", pk(&held))
            .item("sk", binary(SORT))
            .item("data", binary(&self.value))
            .item("version", binary(&held.version))
            .item("expires", after(TTL))
            .item("ttl", ttl())
            .condition_expression("attribute_not_exists(pk) OR expires <= :now")
            .expression_attribute_values(":now", now())
            .send()
            .await?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let request = self.client.get_item().table_name(&self.table);
        let reply = request
            .key("pk", pk(held))
            .key("sk", binary(SORT))
            .consistent_read(true)
            .send()
            .await?;
        match reply.item.as_ref().and_then(|item| item.get("data")) {
            Some(AttributeValue::B(data)) if data.as_ref().len() == self.value.len() => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let version = contest::version();
        let request = self.client.update_item().table_name(&self.table);
        request
            .key("pk", pk(held))
            .key("sk", binary(SORT))
            .update_expression("SET #data = :data, version = :version, expires = :end, #ttl = :ttl")
            .condition_expression(format!("version = :expected AND {IS_LIVE}"))
            .expression_attribute_names("#data", "data")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":data", binary(&self.value))
            .expression_attribute_values(":version", binary(&version))
            .expression_attribute_values(":expected", binary(&held.version))
            .expression_attribute_values(":end", after(TTL))
            .expression_attribute_values(":ttl", ttl())
            .expression_attribute_values(":now", now())
            .send()
            .await?;
        held.version = version;
        Ok(())
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        let request = self.client.update_item().table_name(&self.table);
        request
            .key("pk", pk(held))
            .key("sk", binary(SORT))
            .update_expression("SET expires = :end, #ttl = :ttl")
            .condition_expression(IS_LIVE)
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":end", after(TTL))
            .expression_attribute_values(":ttl", ttl())
            .expression_attribute_values(":now", now())
            .send()
            .await?;
        Ok(())
    }

    /// As often as ours.
    async fn visit(&self, held: &Held) -> Result<()> {
        self.load(held).await?;
        match fastrand::u32(..TOUCH_EVERY) {
            0 => self.touch(held).await,
            _ => Ok(()),
        }
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        let request = self.client.delete_item().table_name(&self.table);
        request
            .key("pk", pk(held))
            .key("sk", binary(SORT))
            .condition_expression(IS_LIVE)
            .expression_attribute_values(":now", now())
            .send()
            .await?;
        Ok(())
    }
}
