//! The suite on an older memcached.

mod common;

use session_testbed::Memcached;

/// One server of Debian 12.
struct Old;

impl common::Place for Old {
    const NAME: &'static str = "memcached 1.6.18";
    const VERSION: Memcached = Memcached::Oldstable;
}

session_conformance::main!(common::On<Old>);
