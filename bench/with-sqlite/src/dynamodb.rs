//! What is measured on an emulator of DynamoDB.

use std::{env, path::Path, process::Stdio, sync::Arc};

use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::POPULATION,
    options::Options,
    ours::Ours,
    report::Progress,
};
use session_dynamodb::DynamoDbStore;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use url::Url;

use crate::raw::dynamodb::Raw;

/// Who takes part.
const WHO: &str = "session-dynamodb; aws-sdk-dynamodb: its client, one conditional request a call; connections as they need";

/// Sessions that each contestant has: the emulator makes some thousand in a second.
const SESSIONS: usize = POPULATION / 5;

/// A table, and who is measured in it.
pub(crate) async fn open(options: &Options, progress: &mut Progress) -> Result<Arena> {
    let (server, url) = match &options.url {
        Some(url) => (Server::existing(url)?, url.clone()),
        None => {
            progress.tell("starting the emulator, which may have to be built first");
            Server::start().await?
        }
    };
    let mut with_table = Url::parse(&url)?;
    with_table.query_pairs_mut().append_pair("create", "yes");
    let store = DynamoDbStore::connect(with_table.as_str()).await?;
    let size = options.size;
    Ok(Arena {
        ground: Box::new(server),
        who: WHO,
        contestants: vec![
            Arc::new(Ours::new("session-dynamodb", store, size)),
            Arc::new(Raw::new(&url, size)?),
        ],
        sessions: SESSIONS,
    })
}

struct Server {
    told: String,
    /// Ends when its standard input does.
    _own: Option<Child>,
}

impl Server {
    fn existing(url: &str) -> Result<Self> {
        let form = "--url: dynamodb://KEY:SECRET@REGION/TABLE?endpoint=http://HOST:PORT is expected";
        let url = Url::parse(url).map_err(|_| form)?;
        let endpoint = url.query_pairs().find(|(name, _)| name == "endpoint");
        let place = match &endpoint {
            Some((_, endpoint)) => endpoint.as_ref(),
            None => url.host_str().ok_or(form)?,
        };
        Ok(Self {
            told: format!("DynamoDB, or what answers in its place, at {place}"),
            _own: None,
        })
    }

    /// The emulator of session-testbed, as a process of its own: its SQLite is another than the peers'.
    async fn start() -> Result<(Self, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
        let mut child = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["run", "--quiet", "--release", "--package", "session-testbed"])
            .args(["--features", "dynamodb", "--manifest-path"])
            .arg(root)
            .args(["--", "dynamodb"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cargo, which starts the emulator: {error}"))?;
        let output = child.stdout.take().ok_or("the emulator has no output")?;
        let url = BufReader::new(output).lines().next_line().await?;
        let url = url.ok_or("the emulator did not start: its message is above")?;
        let own = Self {
            told: "the emulator of DynamoDB that session-testbed has (dynoxide), a process on this machine: it shows what the \
                   clients cost, and nothing of Amazon's servers"
                .to_owned(),
            _own: Some(child),
        };
        Ok((own, url))
    }
}

impl Ground for Server {
    fn told(&self) -> String {
        self.told.clone()
    }
}
