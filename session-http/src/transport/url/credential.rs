//! What stands in a URL: the id, the time, and a MAC of both and of the browser.

use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use session_core::{SessionId, Timestamp};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyRing, keys::Derived, mac};

/// Bytes of the minute, and of the MAC: 128 bits of it.
const MINUTE_LEN: usize = 4;
const MAC_LEN: usize = 16;

/// Signs with the first key, verifies with all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer(Derived);

impl Signer {
    pub(super) fn new(ring: &KeyRing) -> Self {
        Self(ring.derive("session in a url"))
    }

    /// 43 characters of the id, a dot, and 27 of the minute and the MAC.
    pub(super) fn sign(&self, parameter: &str, agent: &[u8], id: &str, now: Timestamp) -> Zeroizing<String> {
        let minute = minute(now);
        let mac = mac(self.0.writer(), parameter, agent, id, minute)
            .finalize()
            .into_bytes();
        let mut signature = [0; MINUTE_LEN + MAC_LEN];
        signature[..MINUTE_LEN].copy_from_slice(&minute.to_le_bytes());
        signature[MINUTE_LEN..].copy_from_slice(&mac[..MAC_LEN]);
        Zeroizing::new(format!("{id}.{}", Base64UrlUnpadded::encode_string(&signature)))
    }

    /// The id, if it was signed for this browser, at most so long ago and not in the future.
    pub(super) fn verify<'v>(
        &self,
        parameter: &str,
        agent: &[u8],
        value: &'v str,
        now: Timestamp,
        valid_for: Duration,
    ) -> Option<&'v str> {
        let (id, rest) = value.split_at_checked(SessionId::TEXT_LEN)?;
        let mut signature = [0; MINUTE_LEN + MAC_LEN];
        let decoded = Base64UrlUnpadded::decode(rest.strip_prefix('.')?, &mut signature).ok()?;
        if decoded.len() != MINUTE_LEN + MAC_LEN {
            return None;
        }
        let (signed_at, tag) = signature.split_at(MINUTE_LEN);
        let signed_at = u32::from_le_bytes(signed_at.try_into().ok()?);
        let good = self.0.any(|key| {
            let mac = mac(key, parameter, agent, id, signed_at);
            mac.verify_truncated_left(tag).is_ok()
        });
        let (now, minutes) = (minute(now), valid_for.as_secs() / 60);
        // Nodes' clocks may differ by a minute.
        let timely =
            signed_at <= now.saturating_add(1) && u64::from(now.saturating_sub(signed_at)) <= minutes;
        (good && timely).then_some(id)
    }
}

/// Minutes since 1970: enough for 8,000 years.
fn minute(at: Timestamp) -> u32 {
    u32::try_from(at.as_millis() / 60_000).unwrap_or(u32::MAX)
}

/// The name holds no NUL, the id and the minute have one length, and the browser is the rest: no two run together.
fn mac(key: &[u8; 32], parameter: &str, agent: &[u8], id: &str, minute: u32) -> Hmac<Sha256> {
    mac::keyed(key)
        .chain_update(parameter)
        .chain_update([0])
        .chain_update(id)
        .chain_update(minute.to_le_bytes())
        .chain_update(agent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

    #[test]
    fn id_is_good_for_one_browser_and_a_while() {
        let ring = || KeyRing::new(SecretKey::generate().unwrap());
        let signer = Signer::new(&ring());
        let now = Timestamp::from_millis(1_800_000_000_000);
        let value = signer.sign("sid", b"agent", ID, now);
        assert_eq!(value.len(), 71);
        let read = |parameter: &str, agent: &[u8], value: &str, at: Timestamp| {
            let id = signer.verify(parameter, agent, value, at, HALF_AN_HOUR);
            id.map(str::to_owned)
        };
        assert_eq!(read("sid", b"agent", &value, now).as_deref(), Some(ID));
        let minutes = |count: u64| now.after(Duration::from_secs(60 * count));
        assert_eq!(read("sid", b"agent", &value, minutes(30)).as_deref(), Some(ID));
        assert_eq!(read("sid", b"agent", &value, minutes(31)), None);
        let early = Timestamp::from_millis(now.as_millis() - 60_000);
        assert!(read("sid", b"agent", &value, early).is_some());
        let earlier = Timestamp::from_millis(now.as_millis() - 120_000);
        assert_eq!(read("sid", b"agent", &value, earlier), None);

        assert_eq!(read("sid", b"other", &value, now), None);
        assert_eq!(read("sid", b"", &value, now), None);
        assert_eq!(read("other", b"agent", &value, now), None);
        for at in 0..value.len() {
            let mut changed = value.as_bytes().to_vec();
            changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(read("sid", b"agent", &changed, now), None, "{changed}");
            assert_eq!(read("sid", b"agent", &value[..at], now), None);
        }
        assert_eq!(read("sid", b"agent", &format!("{}A", &*value), now), None);
        assert_eq!(read("sid", b"agent", "é", now), None);
        let other = Signer::new(&ring());
        assert_eq!(other.verify("sid", b"agent", &value, now, HALF_AN_HOUR), None);
    }
}
