//! A WebSocket written and read by hand: for clients that break the rules, and
//! for clients that just stop reading.

use std::{os::fd::AsFd as _, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{http, wait::patiently};

/// Opcodes of RFC 6455.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// A connection after its handshake.
pub(crate) struct RawWs {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A frame from the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFrame {
    /// The first byte: FIN, the reserved bits and the opcode.
    pub(crate) first: u8,
    /// What it carries.
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// The opcode.
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    /// What a close frame says; 1005 is no code.
    fn close(&self) -> (u16, String) {
        let (code, reason) = match self.payload.split_first_chunk() {
            Some((code, reason)) => (u16::from_be_bytes(*code), reason),
            None => (1005, &[][..]),
        };
        (code, String::from_utf8(reason.to_vec()).expect("UTF-8"))
    }

    /// What a text frame says.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).expect("text frames are UTF-8")
    }
}

impl RawWs {
    pub(super) fn new(stream: TcpStream, buffer: Vec<u8>) -> Self {
        Self { stream, buffer }
    }

    /// Sends a handshake, and whatever is behind it, in one write.
    pub(crate) async fn after_handshake(address: &str, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(bytes).await.expect("a handshake is taken");
        let mut buffer = Vec::new();
        let response = patiently("an answer", http::read(&mut stream, &mut buffer)).await;
        assert_eq!(response.status, 101, "{response:?}");
        Self::new(stream, buffer)
    }

    /// Another handle of the connection, to write while this one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        let handle = self.stream.as_fd().try_clone_to_owned();
        let handle = std::net::TcpStream::from(handle.expect("a handle"));
        TcpStream::from_std(handle).expect("a connection")
    }

    /// Writes these bytes as they are.
    ///
    /// A gateway that is through with us takes no more, so a broken connection
    /// is no error here: what it said before is what a test reads next.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = patiently("the gateway reads", self.stream.write_all(bytes)).await;
    }

    /// The same, without reading anything; false once the connection is broken.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads the next frame, pings too; nothing when the connection ended.
    ///
    /// # Panics
    ///
    /// On a frame that a server may never send: masked, with reserved bits, cut
    /// into fragments, or ended halfway.
    pub(crate) async fn read(&mut self) -> Option<RawFrame> {
        patiently("a frame", self.read_frame()).await
    }

    async fn read_frame(&mut self) -> Option<RawFrame> {
        if !self.fill(2).await {
            assert!(self.buffer.is_empty(), "a frame ended halfway");
            return None;
        }
        let (first, second) = (self.buffer[0], self.buffer[1]);
        assert_eq!(first & 0xF0, 0x80, "a frame's first byte: {first:#x}");
        assert_eq!(second & 0x80, 0, "a server's frame is masked");
        let (header, length) = match second {
            126 if self.fill(4).await => (
                4,
                usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
            ),
            127 if self.fill(10).await => {
                let length = self.buffer[2..]
                    .first_chunk()
                    .expect("eight bytes at least");
                (
                    10,
                    u64::from_be_bytes(*length).try_into().expect("a length"),
                )
            }
            short => (2, usize::from(short)),
        };
        assert!(self.fill(header + length).await, "a frame ended halfway");
        let payload = self.buffer.drain(..header + length).skip(header).collect();
        Some(RawFrame { first, payload })
    }

    async fn fill(&mut self, length: usize) -> bool {
        while self.buffer.len() < length {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ => return false,
            }
        }
        true
    }

    /// Writes this over and over, with a moment in between, until the end, and tells
    /// how it came: 1006 is no close frame.
    pub(crate) async fn drip(&mut self, piece: &[u8], pause: Duration) -> (u16, String) {
        patiently("a close", async {
            loop {
                let _ = self.stream.write_all(piece).await;
                match timeout(pause, self.read_frame()).await {
                    Ok(Some(frame)) if frame.opcode() == CLOSE => return frame.close(),
                    Ok(Some(_)) | Err(_) => {}
                    Ok(None) => return (1006, String::new()),
                }
            }
        })
        .await
    }

    /// Says that nothing more will be written.
    pub(crate) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads until the end, and tells how it came: 1006 is no close frame. Also
    /// returns the text frames before it.
    pub(crate) async fn expect_close(&mut self) -> (u16, String, Vec<String>) {
        patiently("a close", async {
            let mut texts = Vec::new();
            while let Some(frame) = self.read_frame().await {
                match frame.opcode() {
                    TEXT => texts.push(frame.text()),
                    CLOSE => {
                        let (code, reason) = frame.close();
                        return (code, reason, texts);
                    }
                    _ => {}
                }
            }
            (1006, String::new(), texts)
        })
        .await
    }
}

/// A whole message in one frame, masked as a client's must be.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(0x80 | opcode, true, payload)
}

/// A frame with any first byte (FIN 0x80, reserved 0x70, opcode 0x0F).
pub(crate) fn frame_with(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(mask_bit | length as u8),
        length @ ..65_536 => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = rand::random::<[u8; 4]>();
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    } else {
        frame.extend_from_slice(payload);
    }
    frame
}

/// A close frame's payload.
pub(crate) fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}
