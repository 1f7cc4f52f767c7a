//! What a server tells of itself. The client has no command for it, so it is asked on a connection of its own.

use session_core::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::error::unavailable;

/// What matters of `stats settings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Bytes of the largest item, with its key and all that the server keeps with it (`-I`).
    pub(crate) item_size_max: usize,
}

/// Lines that are read of an answer: it has about a hundred.
const MOST: usize = 1000;

pub(crate) async fn read(address: &str) -> Result<Settings, Error> {
    let lost = |error: std::io::Error| unavailable(error.to_string());
    let mut stream = TcpStream::connect(address).await.map_err(lost)?;
    stream.write_all(b"stats settings\r\n").await.map_err(lost)?;
    let mut lines = BufReader::new(stream).lines();
    let mut all = String::new();
    for _ in 0..MOST {
        match lines.next_line().await.map_err(lost)? {
            Some(line) if line == "END" => return parse(&all),
            Some(line) => {
                all.push_str(&line);
                all.push('\n');
                if !line.starts_with("STAT ") {
                    break;
                }
            }
            None => return Err(unavailable("the server closed the connection")),
        }
    }
    Err(unavailable(match all.lines().last() {
        // Before authentication every command is refused so.
        Some(line) if line.starts_with("CLIENT_ERROR unauth") => {
            "the server wants authentication (-Y or -S), which the client has not"
        }
        _ => "what answers is no memcached",
    }))
}

fn parse(lines: &str) -> Result<Settings, Error> {
    let value = |name: &str| {
        let of_name = |line: &str| {
            line.strip_prefix("STAT ")?
                .strip_prefix(name)?
                .strip_prefix(' ')
                .map(str::to_owned)
        };
        lines.lines().find_map(of_name)
    };
    if value("cas_enabled").as_deref() == Some("no") {
        return Err(unavailable(
            "the server compares nothing: it was started with -C, which turns CAS off",
        ));
    }
    let item_size_max = value("item_size_max")
        .and_then(|bytes| bytes.parse().ok())
        .ok_or_else(|| unavailable("the server does not tell its item_size_max"))?;
    Ok(Settings { item_size_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_tells_is_understood() {
        let told =
            "STAT maxbytes 67108864\nSTAT evictions on\nSTAT cas_enabled yes\nSTAT item_size_max 1048576\n";
        assert_eq!(parse(told).unwrap().item_size_max, 1_048_576);
        for wrong in [
            told.replace("cas_enabled yes", "cas_enabled no"),
            told.replace("item_size_max 1048576", "item_size_max many"),
            String::new(),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }
}
