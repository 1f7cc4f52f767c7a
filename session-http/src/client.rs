//! What stands for the kind of client that a request comes from.

use http::{HeaderMap, header::USER_AGENT};
use sha2::Digest;

use crate::digest;

/// The first 8 bytes of `SHA-256("session-client/1\0" ‖ u32le(len namespace) ‖ namespace ‖ User-Agent without its digits, dots
/// and underscores)`: a browser that was updated overnight is the same, another browser or system is not. A request without
/// the field is one with an empty field.
pub(crate) fn fingerprint(namespace: &str, headers: &HeaderMap) -> [u8; 8] {
    let mut hash = digest::labelled(b"session-client/1\0", namespace);
    let agent = headers.get(USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
    // In few pieces: a hash that is fed word by word takes longer to be fed than to run.
    let (mut piece, mut len) = ([0; 256], 0);
    for byte in agent {
        piece[len] = *byte;
        len += COUNTS[usize::from(*byte)];
        if len == piece.len() {
            hash.update(piece);
            len = 0;
        }
    }
    hash.update(&piece[..len]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    first
}

/// 1 for a byte that counts, 0 for one that stands in version numbers.
const COUNTS: [usize; 256] = {
    let mut counts = [1; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_digit() || byte == b'.' as usize || byte == b'_' as usize {
            counts[byte] = 0;
        }
        byte += 1;
    }
    counts
};

#[cfg(test)]
mod tests {
    use super::*;

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn of(agent: &str) -> [u8; 8] {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, agent.parse().unwrap());
        fingerprint("session", &headers)
    }

    #[test]
    fn updated_browser_is_the_same_and_another_is_not() {
        assert_eq!(of(FIREFOX), of(&FIREFOX.replace("140.0", "141.0.1")));
        for other in [
            FIREFOX.replace("X11; Linux", "Windows NT 10.0; Win64"),
            FIREFOX.replace("Firefox", "Fire"),
            "curl/8.14.1".to_owned(),
            String::new(),
        ] {
            assert_ne!(of(FIREFOX), of(&other), "{other}");
        }
        assert_eq!(of(""), fingerprint("session", &HeaderMap::new()));
        assert_ne!(of(""), fingerprint("shop", &HeaderMap::new()));
    }

    /// Fed in pieces, as if fed at once.
    #[test]
    fn agent_of_any_length_counts_as_a_whole() {
        let long = FIREFOX.replace('.', "").repeat(9);
        let words: String = long
            .chars()
            .filter(|char| !char.is_ascii_digit() && *char != '_')
            .collect();
        let whole = digest::labelled(b"session-client/1\0", "session")
            .chain_update(&words)
            .finalize();
        assert_eq!(of(&long), whole[..8]);
        for at in 250..260 {
            assert_ne!(of(&words[..at]), of(&words[..at + 1]), "{at}");
        }
    }

    /// Sessions keep it: another way to compute it would take every visitor for a thief.
    #[test]
    fn golden_bytes() {
        // printf 'session-client/1\0\7\0\0\0sessioncurl/' | sha256sum
        assert_eq!(of("curl/8.14.1"), 0x0f18_1152_90e4_8fa0_u64.to_be_bytes());
    }
}
