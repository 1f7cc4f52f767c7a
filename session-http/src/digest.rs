//! SHA-256 of something in a namespace, for one purpose.

use sha2::{Digest, Sha256};

/// A digest to be fed: `label ‖ u32le(len namespace) ‖ namespace`. The label ends in a NUL, so that no two purposes run together, as
/// in [`SessionId::key`](session_core::SessionId::key).
pub(crate) fn labelled(label: &[u8], namespace: &str) -> Sha256 {
    // A namespace of 4 GiB does not exist; saturating keeps the function total.
    let len = u32::try_from(namespace.len()).unwrap_or(u32::MAX);
    Sha256::new()
        .chain_update(label)
        .chain_update(len.to_le_bytes())
        .chain_update(namespace)
}
