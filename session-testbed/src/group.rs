//! Servers that know each other: in one network, where 127.0.0.1 is right among them as it is for the tests outside.

use tokio::task::JoinHandle;

use crate::{
    Error, Result,
    engine::{self, Container, Folder, Network, Watcher},
};

/// The servers of a group announce themselves where they are published, and a replica gets its data at once.
pub(crate) const REPLICATION: [&str; 6] = [
    "--replica-announce-ip",
    "127.0.0.1",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// A container that runs no server, but holds the network and the published ports of a group, so that each server can end
/// and start again while they stay. It and the servers are removed when it is dropped, and when this process ends.
pub(crate) struct Group {
    /// Whose image all run from.
    server: &'static str,
    name: String,
    /// The same on 127.0.0.1 and in the group's network.
    pub(crate) published: Vec<u16>,
    /// Only in the group's network.
    pub(crate) inside: Vec<u16>,
    _watcher: Watcher,
}

impl Group {
    /// A network for `published` servers, with `inside` further ports.
    pub(crate) async fn start(server: &'static str, published: usize, inside: usize) -> Result<Self> {
        engine::with_free_ports(published + inside, |ports| async move {
            let name = engine::new_name();
            let (published, inside) = ports.split_at(published);
            let servers: Vec<_> = published
                .iter()
                .map(|port| engine::name_in(&name, *port))
                .collect();
            let servers: Vec<_> = servers.iter().map(String::as_str).collect();
            let watcher = Watcher::start(&[&servers, &[&name]])?;
            let network = Network::Own {
                published: published.iter().map(|port| (*port, *port)).collect(),
                // Else a connection between two servers could take the port of a third that starts again.
                reserved: ports.clone(),
            };
            let command = ["sleep".to_owned(), "infinity".to_owned()];
            engine::run(server, &name, network, &Folder::None, &command).await?;
            Ok(Self {
                server,
                name,
                published: published.to_vec(),
                inside: inside.to_vec(),
                _watcher: watcher,
            })
        })
        .await
    }

    /// Runs each command in a container of its own, all at once. The port is a published one, and no command has it yet.
    pub(crate) async fn run(&self, commands: Vec<(u16, Vec<String>)>) -> Result<Vec<Container>> {
        let starting: Vec<JoinHandle<_>> = commands
            .into_iter()
            .map(|(port, command)| {
                let (server, group) = (self.server, self.name.clone());
                tokio::spawn(async move { Container::join(server, &group, port, &command).await })
            })
            .collect();
        // All of them end before the first failure is told: none appears after the group is removed.
        let mut started = Vec::new();
        for task in starting {
            started.push(task.await.map_err(|error| Error::new(error.to_string())));
        }
        started.into_iter().flatten().collect()
    }
}

/// A command that finds `content` in the file at `path` when it runs first, and what it made of it when it runs again.
pub(crate) fn with_file(path: &str, content: &str, command: Vec<String>) -> Vec<String> {
    let script = r#"test -e "$0" || printf %s "$1" >"$0"; shift; exec "$@""#;
    ["sh", "-c", script, path, content]
        .map(str::to_owned)
        .into_iter()
        .chain(command)
        .collect()
}
