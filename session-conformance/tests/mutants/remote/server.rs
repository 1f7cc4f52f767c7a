//! The server: what it is asked it does on the store in memory.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, Subject, Subjects, Sweep, Version, head,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    PASSWORD,
    frame::{self, Ask, Say},
};
use crate::naive::NAME;

/// Opens the store in memory for a namespace.
pub(crate) type Open = Arc<dyn Fn(&str) -> Arc<dyn SessionStore> + Send + Sync>;

/// A server, until it is dropped.
pub(crate) struct Listening {
    address: SocketAddr,
    _acceptor: JoinSet<()>,
}

impl Listening {
    pub(crate) async fn start(open: Open) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut acceptor = JoinSet::new();
        acceptor.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while clients.try_join_next().is_some() {}
                clients.spawn(serve(client, Arc::clone(&open)));
            }
        });
        Ok(Self {
            address,
            _acceptor: acceptor,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Until the client goes, which is no error.
async fn serve(mut client: TcpStream, open: Open) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut store = None;
    loop {
        let ask = serde_json::from_slice(&frame::read(&mut client).await?)?;
        let say = match (&store, ask) {
            (_, Ask::Enter { namespace, password }) if password == PASSWORD => {
                store = Some(open(&namespace));
                Say::Done
            }
            (None, _) | (_, Ask::Enter { .. }) => Say::Denied,
            (Some(store), ask) => answer(&**store, ask)
                .await
                .unwrap_or_else(|error| Say::Refused(error.kind())),
        };
        frame::write(&mut client, &say.bytes()).await?;
    }
}

async fn answer(store: &dyn SessionStore, ask: Ask) -> Result<Say> {
    let key = SessionKey::from_bytes;
    Ok(match ask {
        Ask::Enter { .. } => Say::Denied,
        Ask::Create { key: at, row } => {
            Say::Written(at, store.create(&key(at), &row.record(), row.ttl).await?)
        }
        Ask::Load { key: at } => match store.load(&key(at)).await? {
            Some(stored) => found(&key(at), stored.version, &stored.record, stored.remaining)?,
            None => Say::Absent,
        },
        Ask::Update {
            key: at,
            expected,
            row,
        } => {
            let expected = Version::from_bytes(expected);
            Say::Written(
                at,
                store.update(&key(at), expected, &row.record(), row.ttl).await?,
            )
        }
        Ask::Touch { key: at, ttl } => {
            store.touch(&key(at), ttl).await?;
            Say::Done
        }
        Ask::Delete { key: at, expected } => {
            Say::Deleted(store.delete(&key(at), expected.map(Version::from_bytes)).await?)
        }
        Ask::List { subject } => Say::Keys(subjects(store)?.list(&named(subject)?).await?),
        Ask::DeleteAll { subject, except } => {
            let except = except.map(key);
            Say::Count(
                subjects(store)?
                    .delete_all(&named(subject)?, except.as_ref())
                    .await?,
            )
        }
        Ask::Sweep { most } => Say::Count(sweep(store)?.remove_expired(most).await? as u64),
    })
}

fn found(key: &SessionKey, version: Version, record: &Record, remaining: Duration) -> Result<Say> {
    Ok(Say::Found(remaining, head::seal(NAME, key, version, record)?))
}

fn subjects(store: &dyn SessionStore) -> Result<&dyn Subjects> {
    store
        .subjects()
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, NAME))
}

fn sweep(store: &dyn SessionStore) -> Result<&dyn Sweep> {
    store
        .sweep()
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, NAME))
}

fn named(subject: String) -> Result<Subject> {
    Subject::new(subject).map_err(|_| Error::new(ErrorKind::Unavailable, NAME))
}
