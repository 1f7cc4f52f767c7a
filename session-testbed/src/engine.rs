//! The container engine: containers that end with this process, however it ends.

use std::{
    collections::HashMap,
    env,
    process::{self, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner,
};
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};

use crate::{Error, Result, free_port, images};

/// On every container of ours: the process that it belongs to, as `PID-START`.
const OWNER: &str = "session-testbed.owner";

/// A loaded machine may take so long for a container.
const PATIENCE: Duration = Duration::from_secs(120);

/// Within this time a container on this machine is reached, if its network can be reached at all.
const REACHED: Duration = Duration::from_secs(1);

/// A container that is reached on 127.0.0.1. Removed when dropped, unless it is one of a group, which ends as a whole.
pub(crate) struct Container {
    name: String,
    /// The port of 127.0.0.1 that leads to the server.
    pub(crate) port: u16,
    _watcher: Option<Watcher>,
}

/// How a container is reached.
pub(crate) enum Network {
    /// Its own network, of which these ports are published: (of 127.0.0.1, of the container). Connections out of it do
    /// not take the ports that are reserved.
    Own {
        published: Vec<(u16, u16)>,
        reserved: Vec<u16>,
    },
    /// That of the container with this name.
    Of(String),
}

/// A folder that a container has beside its image.
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "Redis keeps nothing"))]
pub(crate) enum Folder<'a> {
    None,
    /// An empty one at this path, which is there as long as the container is.
    Own(&'a str),
    /// That of another container, at the same path.
    Of(&'a Container),
}

impl Container {
    /// Starts `command` in the image of `server`. That it listens is for the caller to see.
    pub(crate) async fn start(
        server: &str,
        port: u16,
        folder: Folder<'_>,
        command: &[String],
    ) -> Result<Self> {
        let folder = &folder;
        // Chosen here, because a port that the engine chooses is another one after a restart.
        with_free_ports(1, |ports| async move {
            let name = new_name();
            let watcher = Watcher::start(&[&[&name]])?;
            let network = Network::Own {
                published: vec![(ports[0], port)],
                reserved: vec![],
            };
            run(server, &name, network, folder, command).await?;
            Ok(Self {
                name,
                port: ports[0],
                _watcher: Some(watcher),
            })
        })
        .await
    }

    /// Starts `command` in the network of the container `group`, which publishes `port` and removes this one.
    pub(crate) async fn join(server: &str, group: &str, port: u16, command: &[String]) -> Result<Self> {
        let name = name_in(group, port);
        let network = Network::Of(group.to_owned());
        run(server, &name, network, &Folder::None, command).await?;
        Ok(Self {
            name,
            port,
            _watcher: None,
        })
    }

    /// Its address in the engine's own network.
    pub(crate) async fn address(&self) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let all = docker(&["inspect", "--format", format, &self.name]).await?;
        all.split_whitespace()
            .next()
            .map(str::to_owned)
            .ok_or_else(|| Error::new("the container has no address"))
    }

    /// That address with a port, where this machine reaches it: the published port may lead through a proxy, which costs more
    /// than a command.
    pub(crate) async fn direct(&self, port: u16) -> Result<Option<String>> {
        let at = format!("{}:{port}", self.address().await?);
        let reached = timeout(REACHED, TcpStream::connect(&at)).await;
        Ok(matches!(reached, Ok(Ok(_))).then_some(at))
    }

    /// Sends the container's first process a signal (`"KILL"`, `"STOP"`, `"CONT"`).
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        docker(&["kill", "--signal", name, &self.name]).await.map(drop)
    }

    /// Stops every process of the container at one moment, or lets them go on.
    #[cfg(feature = "postgres")]
    pub(crate) async fn freeze(&self, is_frozen: bool) -> Result<()> {
        let command = if is_frozen { "pause" } else { "unpause" };
        docker(&[command, &self.name]).await.map(drop)
    }

    /// Sends the container's first process a signal, and waits until it has ended for that: well, or this fails.
    #[cfg(feature = "postgres")]
    pub(crate) async fn end(&self, signal: &str) -> Result<()> {
        self.signal(signal).await?;
        let status = docker(&["wait", &self.name]).await?;
        match status.trim() {
            "0" => Ok(()),
            status => Err(Error::new(format!(
                "the server ended with {status} after SIG{signal}"
            ))),
        }
    }

    /// Starts the container again after its process has ended, on the same port.
    pub(crate) async fn start_again(&self) -> Result<()> {
        docker(&["start", &self.name]).await.map(drop)
    }

    /// What the server wrote to its log, and why it did not begin.
    pub(crate) async fn log(&self) -> String {
        match output(&["logs", "--tail", "1000", &self.name]).await {
            Ok(output) => [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat(),
            Err(error) => error.to_string(),
        }
    }
}

/// Removes containers when it is dropped, and when this process ends.
///
/// It is a process that waits for the end of its input, which this process holds: that comes after a panic, an exit or
/// SIGKILL as well. It is in a group of its own, so that a signal to ours does not end it.
///
/// The engine may make a container after whoever asked for it has gone, so what was removed is looked for again later,
/// by a process for which nobody waits.
pub(crate) struct Watcher(process::Child);

/// For each argument, a set of containers. The pauses are in seconds, together a minute.
const REMOVE: &str = r#"
remove() { for set; do docker rm --force --volumes $set; done; }
cat
remove "$@"
for pause in 1 4 15 40; do sleep $pause; remove "$@"; done &
"#;

impl Watcher {
    /// For the containers with these names, one set after the other. None of them need be there: whoever starts the
    /// watcher first leaves nothing behind.
    pub(crate) fn start(sets: &[&[&str]]) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        process::Command::new("sh")
            .args(["-c", REMOVE, "sh"])
            .args(sets.iter().map(|names| names.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|error| Error::new(format!("sh: {error}")))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Starts what listens on `count` ports of 127.0.0.1 that nobody has: with others if it does not start, because somebody
/// else may have taken one meanwhile.
pub(crate) async fn with_free_ports<T, F>(count: usize, start: impl Fn(Vec<u16>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = 3;
    loop {
        let ports: Result<Vec<_>> = (0..count).map(|_| free_port()).collect();
        let started = start(ports?).await;
        tries -= 1;
        if started.is_ok() || tries == 0 {
            return started;
        }
    }
}

/// Runs `command` in a container of the image of `server`, which a [`Watcher`] knows by its name already.
pub(crate) async fn run(
    server: &str,
    name: &str,
    network: Network,
    folder: &Folder<'_>,
    command: &[String],
) -> Result<()> {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    SWEPT.get_or_try_init(remove_stale).await?;

    let (image, tag) = images::image(server).await?;
    let container = request(GenericImage::new(image, tag), name, network, folder, command)
        .start()
        .await
        .map_err(|error| Error::new(format!("{server} does not start in a container: {error}")))?;
    // Its own removal needs the runtime that started it; the watcher needs nothing.
    std::mem::forget(container);
    Ok(())
}

fn request(
    image: GenericImage,
    name: &str,
    network: Network,
    folder: &Folder<'_>,
    command: &[String],
) -> ContainerRequest<GenericImage> {
    let mut request = image
        .with_cmd(command)
        .with_container_name(name)
        .with_label(OWNER, owner())
        .with_startup_timeout(PATIENCE);
    // Without a name before the path, it goes with the last container that has it.
    let (binds, volumes_from) = match folder {
        Folder::None => (None, None),
        Folder::Own(path) => (Some(vec![(*path).to_owned()]), None),
        Folder::Of(other) => (None, Some(vec![other.name.clone()])),
    };
    if let Network::Own { published, .. } = &network {
        for (host_port, port) in published {
            request = request.with_mapped_port(*host_port, port.tcp());
        }
    }
    request.with_host_config_modifier(move |config| {
        config.binds = binds.clone();
        config.volumes_from = volumes_from.clone();
        match &network {
            Network::Own { reserved, .. } => {
                // Tests and their servers are nobody else's to reach.
                let ports = config.port_bindings.iter_mut();
                for binding in ports.flat_map(HashMap::values_mut).flatten().flatten() {
                    binding.host_ip = Some("127.0.0.1".to_owned());
                }
                if !reserved.is_empty() {
                    let list: Vec<_> = reserved.iter().map(u16::to_string).collect();
                    let sysctls = config.sysctls.get_or_insert_default();
                    sysctls.insert("net.ipv4.ip_local_reserved_ports".to_owned(), list.join(","));
                }
            }
            Network::Of(other) => {
                // with_network would look for a network of that name, and make one.
                config.network_mode = Some(format!("container:{other}"));
                config.publish_all_ports = None;
                config.port_bindings = None;
            }
        }
    })
}

/// Whether the engine has an image.
pub(crate) async fn has_image(image: &str) -> Result<bool> {
    docker(&["version"]).await?;
    Ok(docker(&["image", "inspect", image]).await.is_ok())
}

/// Removes the containers of processes that ended, and whose watcher ended with them (the machine was switched off).
async fn remove_stale() -> Result<()> {
    let format = format!("{{{{.ID}}}} {{{{.Label \"{OWNER}\"}}}}");
    let filter = format!("label={OWNER}");
    let list = docker(&["ps", "--all", "--filter", &filter, "--format", &format]).await?;
    for line in list.lines() {
        if let Some((id, owner)) = line.split_once(' ')
            && !is_alive(owner)
        {
            // Another process may be faster.
            let _ = docker(&["rm", "--force", "--volumes", id]).await;
        }
    }
    Ok(())
}

/// The name of a container that no container has had.
pub(crate) fn new_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!(
        "session-testbed-{}-{}",
        owner(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The name of the container in the network of `group` whose server listens on `port`.
pub(crate) fn name_in(group: &str, port: u16) -> String {
    format!("{group}-{port}")
}

/// `PID-START`: a number that is used again belongs to a process that started at another time.
fn owner() -> &'static str {
    static OWNER: OnceLock<String> = OnceLock::new();
    OWNER.get_or_init(|| {
        let pid = process::id();
        format!("{pid}-{}", started(pid).unwrap_or_else(unknown_start))
    })
}

fn is_alive(owner: &str) -> bool {
    let Some((pid, start)) = owner.split_once('-') else {
        return false;
    };
    match pid.parse().ok().and_then(started) {
        Some(started) => started == start,
        // No such process, or a system without /proc: there, an hour is longer than any test.
        None => env::consts::OS != "linux" && start.parse().is_ok_and(|start: u64| seconds() < start + 3600),
    }
}

/// When a process started, in ticks since the machine did, and of which boot (Linux: field 22 of `/proc/PID/stat`).
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(format!("{}.{}", fields.split(' ').nth(19)?, boot.trim()))
}

fn unknown_start() -> String {
    seconds().to_string()
}

fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |length| length.as_secs())
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let output = output(arguments).await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::new(format!(
            "docker {}: {}: run scripts/images, which starts the engine where it can",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

async fn output(arguments: &[&str]) -> Result<process::Output> {
    tokio::process::Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| {
            Error::new(format!(
                "docker: {error}: run scripts/images, which says what to install"
            ))
        })
}
