//! Clients that send before anybody counts, and are looked at without a part in the gateway's
//! runtime.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::time::sleep;

use crate::{Outcome, centrifuge::Encoding};

/// What a client may have in its socket.
const MOST: usize = 256 * 1024;
/// Between two looks, each of which costs instructions.
const LOOK: Duration = Duration::from_millis(50);

/// A client of a gateway; the kernel keeps what it is sent.
pub(super) struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects and sends the request; reads nothing yet.
    pub(super) fn send(gateway: SocketAddr, ticket: &str) -> io::Result<Self> {
        let path = format!("/ws?ticket={ticket}");
        Self::upgrade(gateway, &path, "Sec-WebSocket-Protocol: usher.v1\r\n", &[])
    }

    /// The same over the Centrifuge protocol, with the frame that opens the session.
    pub(super) fn send_connect(gateway: SocketAddr, ticket: &str) -> io::Result<Self> {
        let connect = Encoding::Json.connect(ticket);
        Self::upgrade(gateway, "/connection/websocket", "", &connect)
    }

    fn upgrade(gateway: SocketAddr, path: &str, header: &str, first: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(gateway)?;
        stream.set_nonblocking(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {gateway}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
        );
        stream.write_all(&[request.as_bytes(), first].concat())?;
        Ok(Self { stream })
    }

    /// How many messages have arrived, or welcomes.
    fn arrived(&self, buffer: &mut [u8], what: &[u8]) -> io::Result<usize> {
        match self.stream.peek(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let mut rest = &buffer[..count];
                if rest.starts_with(b"HTTP/1.1 ") && !rest.starts_with(b"HTTP/1.1 101") {
                    let answer = String::from_utf8_lossy(rest).into_owned();
                    return Err(io::Error::other(answer));
                }
                let mut found = 0;
                while let Some(at) = rest.windows(what.len()).position(|bytes| bytes == what) {
                    found += 1;
                    rest = &rest[at + what.len()..];
                }
                Ok(found)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// How many bytes have arrived.
    fn bytes(&self) -> io::Result<usize> {
        Ok(rustix::io::ioctl_fionread(&self.stream)? as usize)
    }

    /// Forgets what has arrived.
    fn forget(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            read => read,
        }
    }
}

/// All clients of a scene.
pub(super) struct Clients {
    each: Vec<Client>,
    buffer: Vec<u8>,
}

impl Clients {
    pub(super) fn new(each: Vec<Client>) -> Self {
        Self {
            each,
            buffer: vec![0; MOST],
        }
    }

    /// Waits until each has so many of these words; returns how many bytes each has. What has
    /// arrived is forgotten.
    pub(super) async fn take(&mut self, what: &[u8], count: usize) -> Outcome<Vec<usize>> {
        let mut bytes = Vec::new();
        for client in &mut self.each {
            while count > 0 && client.arrived(&mut self.buffer, what)? < count {
                sleep(LOOK).await;
            }
            // The last frame has come whole, since it is small.
            bytes.push(client.forget(&mut self.buffer)?);
        }
        Ok(bytes)
    }

    /// Waits until each has at least so many bytes. It costs a system call for each client, and
    /// one for each look.
    pub(super) async fn wait(&self, bytes: &[usize]) -> Outcome<()> {
        for (client, wanted) in self.each.iter().zip(bytes) {
            while client.bytes()? < *wanted {
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}
