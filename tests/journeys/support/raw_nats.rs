//! A publisher that writes NATS's protocol by hand, and so may write what no client
//! library would.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{Nats, wait::patiently};

/// A connection of its own.
pub(crate) struct RawNats(BufReader<TcpStream>);

impl RawNats {
    /// Connects to a server that lets anyone in.
    pub(crate) async fn connect(nats: &Nats) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", nats.port())).await;
        let mut raw = Self(BufReader::new(
            stream.expect("nats-server takes connections"),
        ));
        raw.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n")
            .await;
        raw.confirmed().await;
        raw
    }

    /// Publishes this, to a subject of any bytes, and with such a reply subject or none.
    pub(crate) async fn publish(&mut self, subject: impl AsRef<[u8]>, reply: &[u8], payload: &str) {
        let rest = format!(" {}\r\n{payload}\r\n", payload.len());
        let parts = [b"PUB ", subject.as_ref(), b" ", reply, rest.as_bytes()];
        self.send(&parts.concat()).await;
        self.confirmed().await;
    }

    /// Publishes this under a header block of any bytes.
    pub(crate) async fn publish_with_block(&mut self, subject: &str, block: &str, payload: &str) {
        let (length, total) = (block.len(), block.len() + payload.len());
        let bytes = format!("HPUB {subject} {length} {total}\r\n{block}{payload}\r\n");
        self.send(bytes.as_bytes()).await;
        self.confirmed().await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        let sent = self.0.get_mut().write_all(bytes).await;
        sent.expect("nats-server reads");
    }

    /// Returns when the server has taken all that was sent.
    ///
    /// # Panics
    ///
    /// Where it complains.
    async fn confirmed(&mut self) {
        self.send(b"PING\r\n").await;
        patiently("a PONG", async {
            let mut line = String::new();
            while line.trim_end() != "PONG" {
                line.clear();
                let read = self.0.read_line(&mut line).await.expect("a line");
                assert!(read > 0, "nats-server has closed the connection");
                assert!(!line.starts_with("-ERR"), "nats-server refuses: {line}");
            }
        })
        .await;
    }
}
