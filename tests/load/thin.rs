//! A client as thin as can be, so that thousands fit beside the gateway: it reads
//! frames when it is told to, and answers nothing by itself.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// What the kernel keeps for a client that does not read, as little as can be.
const RECEIVE_BUFFER: u32 = 4096;
/// An empty close frame with code 1000, masked with zeros.
const GOODBYE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];

pub(crate) struct Thin {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Thin {
    /// Opens a session and reads its welcome; a refusal's status is the error's text.
    pub(crate) async fn open(address: &str, ticket: &str) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let stream = socket
            .connect(address.parse().map_err(io::Error::other)?)
            .await?;
        let mut thin = Self {
            stream,
            buffer: Vec::new(),
        };
        let request = format!(
            "GET /ws?ticket={ticket} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        thin.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            let mut windows = thin.buffer.windows(4);
            if let Some(end) = windows.position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            thin.more().await?;
        };
        let head: Vec<u8> = thin.buffer.drain(..end).collect();
        let status = String::from_utf8_lossy(&head);
        let status = status.split(' ').nth(1).unwrap_or_default();
        if status != "101" {
            return Err(io::Error::other(status.to_owned()));
        }
        thin.frame().await?;
        Ok(thin)
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next frame: its first byte, and what it carries.
    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let found = match self.buffer[..] {
                [first, 126, a, b, ..] => Some((first, 4, usize::from(u16::from_be_bytes([a, b])))),
                [_, 126 | 127, ..] => None,
                [first, length, ..] => Some((first, 2, usize::from(length))),
                _ => None,
            };
            if let Some((first, start, length)) = found
                && self.buffer.len() >= start + length
            {
                let frame: Vec<u8> = self.buffer.drain(..start + length).collect();
                return Ok((first, frame[start..].to_vec()));
            }
            self.more().await?;
        }
    }

    /// Reads on until it is closed, and says by which code; 1006 is none.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Ok((0x88, payload)) => {
                    let code = payload.first_chunk().copied();
                    let _ = self.stream.write_all(&GOODBYE).await;
                    return code.map_or(1005, u16::from_be_bytes);
                }
                Ok(_) => {}
                Err(_) => return 1006,
            }
        }
    }

    /// Says goodbye, and waits until that is answered.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.write_all(&GOODBYE).await;
        self.closed().await;
    }

    /// Is gone at once.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("a socket's option");
    }
}
