//! Frames of a WebSocket. A server's are not masked (RFC 6455, 5.1), so every session
//! that speaks the same sub-protocol gets the very same bytes.

use bytes::Bytes;
use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

pub(super) use tungstenite::protocol::frame::coding::Data;

/// The longest header of a frame that is not masked (RFC 6455, 5.2).
const MAX_HEADER: usize = 10;

/// Writes the body behind room for a header, then the header against the body.
pub(super) fn frame(opcode: Data, capacity: usize, write_body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut buffer = Vec::with_capacity(MAX_HEADER + capacity);
    buffer.resize(MAX_HEADER, 0);
    write_body(&mut buffer);

    let mut header = [0; MAX_HEADER];
    let mut rest = &mut header[..];
    FrameHeader {
        opcode: OpCode::Data(opcode),
        ..FrameHeader::default()
    }
    .format((buffer.len() - MAX_HEADER) as u64, &mut rest)
    .expect("ten bytes hold any header that has no mask");
    let length = MAX_HEADER - rest.len();
    let start = MAX_HEADER - length;
    buffer[start..MAX_HEADER].copy_from_slice(&header[..length]);
    Bytes::from(buffer).slice(start..)
}
