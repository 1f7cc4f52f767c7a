//! The container engine: containers that end with this process, however it ends.

use std::{
    env,
    process::{self, Stdio},
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner,
};
use tokio::sync::OnceCell;

use crate::{Error, Result, images};

/// On every container of ours: the process that it belongs to, as `PID-START`.
const OWNER: &str = "session-testbed.owner";

/// A loaded machine may take so long for a container.
const PATIENCE: Duration = Duration::from_secs(120);

/// A container with one published port on 127.0.0.1. Removed when dropped, and when this process ends.
pub(crate) struct Container {
    id: String,
    /// Its standard input ends with this process, whatever ends it, and then it removes the container.
    watcher: process::Child,
    /// The port of 127.0.0.1 that leads to the server.
    pub(crate) port: u16,
}

impl Container {
    /// Starts `command` in the image of `server`. That it listens is for the caller to see.
    pub(crate) async fn start(server: &str, port: u16, command: &[String]) -> Result<Self> {
        static SWEPT: OnceCell<()> = OnceCell::const_new();
        SWEPT.get_or_try_init(remove_stale).await?;

        let (name, tag) = images::image(server).await?;
        let mut tries = 3;
        loop {
            // Chosen here, because a port that the engine chooses is another one after a restart.
            let host_port = free_port()?;
            let request = request(GenericImage::new(&name, &tag), (host_port, port), command);
            tries -= 1;
            match request.start().await {
                Ok(container) => return Self::keep(container, host_port),
                // Somebody else may have taken the port meanwhile.
                Err(error) if tries == 0 => {
                    let text = format!("{server} does not start in a container: {error}");
                    return Err(Error::new(text));
                }
                Err(_) => {}
            }
        }
    }

    fn keep(container: ContainerAsync<GenericImage>, port: u16) -> Result<Self> {
        let id = container.id().to_owned();
        let watcher = watch(&id)?;
        // Its own removal needs the runtime that started it; the watcher needs nothing.
        std::mem::forget(container);
        Ok(Self { id, watcher, port })
    }

    /// Sends the container's first process a signal (`"KILL"`, `"STOP"`, `"CONT"`).
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        docker(&["kill", "--signal", name, &self.id]).await.map(drop)
    }

    /// Starts the container again after its process has ended, on the same port.
    pub(crate) async fn start_again(&self) -> Result<()> {
        docker(&["start", &self.id]).await.map(drop)
    }

    /// What the server wrote to its log.
    pub(crate) async fn log(&self) -> String {
        docker(&["logs", "--tail", "40", &self.id])
            .await
            .unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

fn request(
    image: GenericImage,
    (host_port, port): (u16, u16),
    command: &[String],
) -> ContainerRequest<GenericImage> {
    image
        .with_cmd(command)
        .with_mapped_port(host_port, port.tcp())
        .with_label(OWNER, owner())
        .with_startup_timeout(PATIENCE)
        // Tests and their servers are nobody else's to reach.
        .with_host_config_modifier(|config| {
            for bindings in config
                .port_bindings
                .iter_mut()
                .flat_map(|ports| ports.values_mut())
            {
                for binding in bindings.iter_mut().flatten() {
                    binding.host_ip = Some("127.0.0.1".to_owned());
                }
            }
        })
}

/// Whether the engine has an image.
pub(crate) async fn has_image(image: &str) -> Result<bool> {
    docker(&["version"]).await?;
    Ok(docker(&["image", "inspect", image]).await.is_ok())
}

/// A process that waits for the end of its input, which this process holds, and then removes the container: after a
/// panic, an exit or SIGKILL as well. It is in a group of its own, so that a signal to ours does not end it.
fn watch(id: &str) -> Result<process::Child> {
    use std::os::unix::process::CommandExt;
    process::Command::new("sh")
        .args(["-c", "cat; docker rm --force --volumes \"$0\"", id])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| Error::new(format!("sh: {error}")))
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

fn free_port() -> Result<u16> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Error::new(format!("no free port on 127.0.0.1: {error}")))
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| {
            Error::new(format!(
                "docker: {error}: run scripts/images, which says what to install"
            ))
        })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::new(format!(
            "docker {}: {}: run scripts/images, which starts the engine where it can",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}
