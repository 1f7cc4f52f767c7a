//! The suite on memcached.

mod common;

use session_testbed::Memcached;

/// One server of Debian 13.
struct One;

impl common::Place for One {
    const NAME: &'static str = "memcached";
    const VERSION: Memcached = Memcached::Stable;
}

session_conformance::main!(common::On<One>);
