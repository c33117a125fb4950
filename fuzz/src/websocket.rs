//! Reads WebSocket frames as RFC 6455 (5.2) has them.

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    /// Of the whole head.
    pub length: usize,
    /// Of what follows it.
    pub payload: u64,
    /// Whether the length is written in as few bytes as it can be.
    pub shortest: bool,
    /// What the payload is masked with.
    pub mask: Option<[u8; 4]>,
}

/// A text frame that is whole in itself.
pub const TEXT: u8 = 0x81;
/// A binary one.
pub const BINARY: u8 = 0x82;
/// A pong.
pub const PONG: u8 = 0x8A;
/// A close.
pub const CLOSE: u8 = 0x88;

/// The head that `bytes` begin with, if all of it is there.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (extended, payload, least) = match second & 0x7F {
        126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 126),
        127 => (8, u64::from_be_bytes(*rest.first_chunk()?), 0x1_0000),
        short => (0, u64::from(short), 0),
    };
    let (mask, masking) = match second & 0x80 {
        0 => (None, 0),
        _ => (Some(*rest[extended..].first_chunk()?), 4),
    };
    Some(Head {
        first: *first,
        length: 2 + extended + masking,
        payload,
        shortest: payload >= least,
        mask,
    })
}

/// A server's frames, in order: their first byte and their payload. Panics
/// where the bytes are anything but whole frames of a server.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let head = head(bytes).expect("a whole head");
        assert!(head.shortest && head.mask.is_none(), "{head:?}");
        let end = usize::try_from(head.payload).expect("a length") + head.length;
        frames.push((head.first, &bytes[head.length..end]));
        bytes = &bytes[end..];
    }
    frames
}
