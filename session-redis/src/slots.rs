//! The slots of a Cluster: which one a key is in, and which node has it.

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use crate::address::Address;

/// So many there are, in every Cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The slots from the first to the last, and the node that has them.
pub(crate) type Range = (u16, u16, Address);

/// Keys have no braces (a prefix may not have any), so the whole key counts.
pub(crate) fn slot(key: &[u8]) -> u16 {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    CRC.checksum(key) % SLOTS
}

/// The reply to `CLUSTER SLOTS` (<https://redis.io/docs/latest/commands/cluster-slots/>). A node without an address
/// is on the host that answered; one of which nothing is known (`?`) is left out.
pub(crate) fn ranges(reply: &Value, host: &str) -> Option<Vec<Range>> {
    let Value::Array(rows) = reply else { return None };
    let mut ranges = Vec::with_capacity(rows.len());
    for row in rows {
        let Value::Array(row) = row else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &row[..] else {
            return None;
        };
        let [name, Value::Int(port), ..] = &primary[..] else {
            return None;
        };
        let host = match name {
            Value::Nil => host.to_owned(),
            Value::BulkString(name) if name.is_empty() => host.to_owned(),
            Value::BulkString(name) => String::from_utf8_lossy(name).into_owned(),
            _ => return None,
        };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        if host != "?" && first <= last && last < SLOTS {
            ranges.push((first, last, Address::new(host, u16::try_from(*port).ok()?)));
        }
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/: CRC16("123456789") = 31C3
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        // What `CLUSTER KEYSLOT foo` answers.
        assert_eq!(slot(b"foo"), 12_182);
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn row(first: i64, last: i64, name: Value, port: i64) -> Value {
        let primary = Value::Array(vec![name, Value::Int(port), text("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary])
    }

    #[test]
    fn map_is_read_as_nodes_tell_it() {
        let reply = Value::Array(vec![
            row(0, 5460, text("10.0.0.1"), 7000),
            row(5461, 5461, Value::Nil, 7001),
            row(5462, 5462, text(""), 7002),
            row(5463, 16383, text("?"), 7003),
        ]);
        let expected = [
            (0, 5460, Address::new("10.0.0.1", 7000)),
            (5461, 5461, Address::new("me", 7001)),
            (5462, 5462, Address::new("me", 7002)),
        ];
        assert_eq!(ranges(&reply, "me").unwrap(), expected);
    }

    #[test]
    fn what_is_no_map_is_none() {
        for reply in [
            Value::Nil,
            Value::Int(7),
            Value::Array(vec![Value::Int(7)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
            Value::Array(vec![row(-1, 5, text("h"), 1)]),
            Value::Array(vec![row(0, 5, text("h"), 70_000)]),
        ] {
            assert_eq!(ranges(&reply, "me"), None, "{reply:?}");
        }
        assert_eq!(
            ranges(&Value::Array(vec![row(0, 16_384, text("h"), 1)]), "me"),
            Some(vec![])
        );
    }
}
