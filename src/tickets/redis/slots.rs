//! Which node of a Cluster has which keys.

use std::collections::HashSet;

use deadpool_redis::redis::{FromRedisValue as _, Value};

use super::config::Address;

/// Slots of a Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The most primaries that are believed: Redis's own advice is 1,000.
const MAX_NODES: usize = 1_024;

/// A primary's slots, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) address: Address,
}

impl Range {
    pub(super) fn has(&self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    pub(super) fn slots(&self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

/// A key's slot: CRC-16 (XMODEM) of the part in the first braces, if there is one and it
/// is not empty, else of the whole key (Redis Cluster specification, 'Hash tags').
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc >> 15 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

/// Reads the answer to CLUSTER SLOTS. A node that does not know its own address is where
/// it was `asked`.
pub(super) fn read(answer: Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else {
        return None;
    };
    let mut ranges = Vec::new();
    for row in rows {
        let Value::Array(row) = row else {
            return None;
        };
        let [first, last, primary, ..] =
            <[Value; 3]>::try_from(row.into_iter().take(3).collect::<Vec<_>>()).ok()?;
        let first = u16::from_redis_value(first).ok()?;
        let last = u16::from_redis_value(last).ok()?;
        let Value::Array(primary) = primary else {
            return None;
        };
        let mut primary = primary.into_iter();
        let host = Option::<String>::from_redis_value(primary.next()?).ok()?;
        let port = u16::from_redis_value(primary.next()?).ok()?;
        if first > last || last >= SLOTS {
            return None;
        }
        let known = host.filter(|host| !host.is_empty() && host != "?");
        ranges.push(Range {
            first,
            last,
            address: Address {
                host: known.unwrap_or_else(|| asked.host.clone()),
                port,
            },
        });
    }
    let nodes: HashSet<_> = ranges.iter().map(|range| &range.address).collect();
    (nodes.len() <= MAX_NODES).then_some(ranges)
}

/// Where a redirection such as `3999 127.0.0.1:6381` leads. Without a host it is the host
/// of the node that says so.
pub(super) fn redirection(detail: &str, said_by: &Address) -> Option<Address> {
    let (_, to) = detail.split_once(' ')?;
    let (host, port) = to.split_whitespace().next()?.rsplit_once(':')?;
    Some(Address {
        host: match host {
            "" | "?" => said_by.host.clone(),
            host => host.to_owned(),
        },
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address {
            host: "h".into(),
            port,
        }
    }

    /// Vectors of the specification and of `CLUSTER KEYSLOT`.
    #[test]
    fn keys_have_their_slots() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [
            (&b"foo"[..], 12_182),
            (b"{foo}.bar", 12_182),
            (b"{user1000}.following", 3_443),
            (b"foo{}{bar}", 8_363),
            (b"foo{{bar}}zap", 4_015),
            (b"", 0),
        ] {
            assert_eq!(slot(key), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    fn row(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn the_answer_names_each_primary() {
        let host = Value::BulkString(b"10.0.0.1".to_vec());
        let answer = Value::Array(vec![row(0, 1, host, 1), row(2, 16_383, Value::Nil, 2)]);
        let ranges = read(answer, &at(9)).expect("ranges");
        assert_eq!(ranges[0].address.to_string(), "10.0.0.1:1");
        assert_eq!(ranges[1].address, at(2));
        for bad in [
            row(3, 2, Value::Nil, 1),
            row(0, 16_384, Value::Nil, 1),
            Value::Nil,
        ] {
            assert_eq!(read(Value::Array(vec![bad]), &at(9)), None);
        }
    }

    #[test]
    fn a_redirection_leads_somewhere() {
        let leads = |detail| redirection(detail, &at(9)).map(|address| address.to_string());
        assert_eq!(
            leads("3999 10.0.0.1:6381").as_deref(),
            Some("10.0.0.1:6381")
        );
        assert_eq!(leads("3999 :6381").as_deref(), Some("h:6381"));
        assert_eq!(leads("3999 ::1:6381").as_deref(), Some("[::1]:6381"));
        for bad in ["", "3999", "3999 x", "3999 x:y"] {
            assert_eq!(leads(bad), None, "{bad:?}");
        }
    }
}
