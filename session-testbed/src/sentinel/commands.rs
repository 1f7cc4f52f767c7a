//! The command lines of a group.

use super::SERVICE;
use crate::{
    Error, Kind, Result,
    group::{REPLICATION, with_file},
    redis::password,
};

/// Milliseconds. Left alone, a sentinel looks for changes every ten seconds, and trusts nobody for thirty after it was
/// held up for two.
pub(super) const HASTE: [&str; 10] = [
    "SENTINEL",
    "DEBUG",
    "info-period",
    "1000",
    "publish-period",
    "500",
    "min-link-reconnect-period",
    "1000",
    "tilt-period",
    "3000",
];

/// Sentinels write the password to their file as it is, and could not read every one when they start again.
pub(super) fn check(password: Option<&str>) -> Result<()> {
    let quoted = |c: char| c.is_whitespace() || c.is_control() || "\"'\\#".contains(c);
    match password {
        Some(password) if password.contains(quoted) => Err(Error::new(
            "sentinels keep no password with spaces, quotes, backslashes or #",
        )),
        _ => Ok(()),
    }
}

/// A server whose file holds its role: sentinels have it rewritten, and it begins with that when it starts again.
pub(super) fn server(kind: Kind, port: u16, primary: u16, options: &[&str]) -> Vec<String> {
    let announced = port.to_string();
    let file = format!("/tmp/server-{port}.conf");
    let role = match port == primary {
        true => String::new(),
        false => format!("replicaof 127.0.0.1 {primary}\n"),
    };
    let mut all = REPLICATION.to_vec();
    all.extend(["--replica-announce-port", &announced]);
    let password = password(options);
    if let Some(password) = &password {
        all.extend(["--masterauth", password]);
    }
    all.extend(options);
    let mut command = kind.command(port, &all);
    command.insert(1, file.clone());
    with_file(&file, &role, command)
}

/// A sentinel, whose file holds all that it knows.
pub(super) fn sentinel(kind: Kind, port: u16, primary: u16, password: Option<&str>) -> Vec<String> {
    let file = format!("/tmp/sentinel-{port}.conf");
    // A failover that does not come about is tried again after twice its timeout.
    let mut content = format!(
        "port {port}
protected-mode no
dir /tmp
sentinel announce-ip 127.0.0.1
sentinel announce-port {port}
sentinel monitor {SERVICE} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {SERVICE} 1500
sentinel failover-timeout {SERVICE} 3000
sentinel parallel-syncs {SERVICE} 1
"
    );
    if let Some(password) = password {
        content.push_str(&format!("sentinel auth-pass {SERVICE} {password}\n"));
    }
    let server = format!("{}-server", kind.name());
    with_file(
        &file,
        &content,
        vec![server, file.clone(), "--sentinel".to_owned()],
    )
}
