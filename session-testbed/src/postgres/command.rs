//! The command line of a server.

use crate::Clock;

/// Holds the data and the server's Unix socket. No folder of an image: the data outlives a kill, and others in
/// containers can be given the socket.
pub(crate) const FOLDER: &str = "/var/lib/session-testbed";

/// Owns the database.
pub(crate) const ROLE: &str = "session";

pub(crate) const SUPERUSER: &str = "postgres";

/// Of both roles.
pub(crate) const PASSWORD: &str = "right-horse";

pub(crate) const DATABASE: &str = "sessions";

/// PostgreSQL refuses to run as root, who owns a new folder. What is called with further words here becomes the
/// container's first process.
const AS_POSTGRES: &str = r#"
chown postgres .
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
"#;

/// Makes the data at the first start, in one step: who finds it finds all of it. Nothing of that needs to survive the
/// machine, so it is not synced; the server's own writes are.
const INITIALIZE: &str = r#"
set -eu
bin=$1 access=$2 statements=$3 certificate=$4 key=$5
shift 5
if ! test -e data; then
    umask 077
    "$bin/initdb" --pgdata=new --username=postgres --auth=reject --encoding=UTF8 --no-locale --no-sync --no-instructions
    printf '%s\n' "$access" >new/pg_hba.conf
    printf '%s\n' "$certificate" >new/server.crt
    printf '%s\n' "$key" >new/server.key
    printf '%s\n' "$statements" | "$bin/postgres" --single -F -D new postgres
    mv new data
fi
exec "$@"
"#;

/// In the official images of `version` and in those built from Debian's packages.
pub(super) fn command(
    version: u32,
    options: &[&str],
    clock: Option<Clock>,
    tls: Option<(&str, &str)>,
) -> Vec<String> {
    let bin = format!("/usr/lib/postgresql/{version}/bin");
    // Over the socket too: who is put beside the server is no other client than the rest.
    let over_tcp = if tls.is_some() { "hostssl" } else { "host" };
    let access = format!("local all all scram-sha-256\n{over_tcp} all all all scram-sha-256");
    // One statement in each line.
    let statements = format!(
        "ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'
CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'
CREATE DATABASE {DATABASE} OWNER {ROLE}"
    );
    let (certificate, key) = tls.unwrap_or_default();

    let mut settings = vec![
        "listen_addresses=*".to_owned(),
        format!("unix_socket_directories={FOLDER}"),
        "max_connections=200".to_owned(),
    ];
    if tls.is_some() {
        settings.push("ssl=on".to_owned());
    }
    settings.extend(options.iter().map(|option| (*option).to_owned()));
    let mut server = vec![format!("{bin}/postgres"), "-D".to_owned(), "data".to_owned()];
    for setting in settings {
        server.extend(["-c".to_owned(), setting]);
    }
    if let Some(clock) = clock {
        server = clock.command(server);
    }

    let as_postgres = format!("cd {FOLDER}\n{AS_POSTGRES}");
    ["sh", "-euc", &as_postgres, "sh"]
        .into_iter()
        .chain(["sh", "-c", INITIALIZE, "sh"])
        .chain([&bin, &access, &statements, certificate, key].map(|word| word as &str))
        .map(str::to_owned)
        .chain(server)
        .collect()
}
