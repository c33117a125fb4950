//! Reads Protobuf as its documents have it (encoding), without knowing any message.

/// What stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A varint.
    Number(u64),
    /// What has a length: a text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message, in order, each behind its number. None where the bytes are no message
/// of varints and of what has a length.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => Field::Bytes(delimited(&mut bytes)?),
            _ => return None,
        };
        fields.push((key >> 3, field));
    }
    Some(fields)
}

/// Messages, each behind its length.
pub fn messages(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        messages.push(delimited(&mut bytes)?);
    }
    Some(messages)
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        // The tenth byte has one bit left.
        if shift == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * shift);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
