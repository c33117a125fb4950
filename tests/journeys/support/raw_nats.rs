//! A publisher that writes NATS's protocol by hand, and so may write what no client
//! library would.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{Nats, nats::Role, wait::patiently};

/// A connection of its own.
pub(crate) struct RawNats(BufReader<TcpStream>);

/// A message, as its bytes came.
#[derive(Debug)]
pub(crate) struct RawMessage {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) headers: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl RawNats {
    /// Connects to a server that lets anyone in.
    pub(crate) async fn connect(nats: &Nats) -> Self {
        Self::log_in(nats, json!({})).await
    }

    /// Connects to a server that knows the users of `examples/nats-permissions.conf`.
    pub(crate) async fn connect_as(nats: &Nats, role: Role) -> Self {
        let (user, password) = role.login();
        Self::log_in(nats, json!({"user": user, "pass": password})).await
    }

    async fn log_in(nats: &Nats, mut connect: Value) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", nats.port())).await;
        let mut raw = Self(BufReader::new(
            stream.expect("nats-server takes connections"),
        ));
        connect["verbose"] = false.into();
        connect["headers"] = true.into();
        raw.send(format!("CONNECT {connect}\r\n").as_bytes()).await;
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
        let (block, payload) = (block.as_bytes(), payload.as_bytes());
        self.publish_bytes(subject, block, payload).await;
    }

    /// The same with a block that is no text.
    pub(crate) async fn publish_bytes(&mut self, subject: &str, block: &[u8], payload: &[u8]) {
        let (length, total) = (block.len(), block.len() + payload.len());
        let line = format!("HPUB {subject} {length} {total}\r\n");
        let bytes = [line.as_bytes(), block, payload, b"\r\n"].concat();
        self.send(&bytes).await;
        self.confirmed().await;
    }

    /// Subscribes; the server knows it when this returns.
    pub(crate) async fn subscribe(&mut self, subject: &str) {
        self.send(format!("SUB {subject} 1\r\n").as_bytes()).await;
        self.confirmed().await;
    }

    /// The next message of what it has subscribed to.
    pub(crate) async fn next(&mut self) -> RawMessage {
        patiently("a message", async {
            loop {
                let mut line = String::new();
                self.0.read_line(&mut line).await.expect("a line");
                let fields: Vec<_> = line.split_whitespace().collect();
                let (subject, reply, length, total) = match fields[..] {
                    ["PING"] => {
                        self.send(b"PONG\r\n").await;
                        continue;
                    }
                    ["MSG", subject, _, total] => (subject, None, "0", total),
                    ["MSG", subject, _, reply, total] => (subject, Some(reply), "0", total),
                    ["HMSG", subject, _, length, total] => (subject, None, length, total),
                    ["HMSG", subject, _, reply, length, total] => {
                        (subject, Some(reply), length, total)
                    }
                    _ => panic!("unexpected: {line}"),
                };
                let [length, total] =
                    [length, total].map(|field| field.parse::<usize>().expect("a length"));
                let mut bytes = vec![0; total + 2];
                self.0.read_exact(&mut bytes).await.expect("a message");
                let payload = bytes[length..total].to_vec();
                bytes.truncate(length);
                return RawMessage {
                    subject: subject.to_owned(),
                    reply: reply.map(str::to_owned),
                    headers: bytes,
                    payload,
                };
            }
        })
        .await
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
