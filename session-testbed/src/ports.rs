//! Ports of 127.0.0.1.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A port of 127.0.0.1 that nobody listens on, another one at each call. It is below those that the system takes for
/// connections and for port 0 (from 32768 on, by Linux' own `ip_local_port_range`), so that a server that is away for a
/// while finds it free when it starts again.
///
/// # Errors
///
/// All are taken.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Programs that run at the same time begin at different places.
    let begin = process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + begin.wrapping_add(next) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new("no free port on 127.0.0.1"))
}
