//! A client of `/events` that reads the stream as the HTML standard says (9.2.6).

use std::collections::VecDeque;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{
    Gateway, Response, http, secret,
    wait::{PATIENCE, patiently},
};

/// An open stream.
pub(crate) struct Events {
    stream: TcpStream,
    /// Chunks that a proxy has cut the stream into, as far as they are not unpacked;
    /// none where it is not chunked.
    chunks: Option<Vec<u8>>,
    /// What was read, and is no whole line yet.
    buffer: Vec<u8>,
    /// The gateway's answer to the request.
    pub(crate) response: Response,
    welcome: Value,
    parser: Parser,
    ready: VecDeque<Item>,
}

/// What a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event, with its `id` where it had one.
    Event { data: String, id: Option<String> },
    /// A line that no script sees.
    Comment(String),
    /// The stream is over.
    End,
}

/// How a stream is to be opened.
pub(crate) struct Builder {
    address: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    small_buffers: bool,
}

/// The event that is being read.
#[derive(Default)]
struct Parser {
    data: String,
    id: Option<String>,
}

impl Events {
    /// Opens a stream with a ticket, and reads the `welcome`.
    pub(crate) async fn open(gateway: &Gateway, ticket: &str) -> Self {
        Self::builder(gateway, ticket).open().await
    }

    /// A stream that is opened in some other way.
    pub(crate) fn builder(gateway: &Gateway, ticket: &str) -> Builder {
        Self::nobody(gateway).query("ticket", &secret(ticket))
    }

    /// Somebody without a ticket.
    pub(crate) fn nobody(gateway: &Gateway) -> Builder {
        Builder {
            address: gateway.public.clone(),
            query: Vec::new(),
            headers: Vec::new(),
            small_buffers: false,
        }
    }

    /// What `welcome` said.
    pub(crate) fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// What comes next: an event, a comment, or the end.
    pub(crate) async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            let what = format!("something of a stream, within {PATIENCE:?}");
            let packed = self.chunks.as_mut().unwrap_or(&mut self.buffer);
            let read = self.stream.read_buf(packed);
            match patiently(&what, read).await {
                // What is no whole event by then is forgotten.
                Ok(0) | Err(_) => return Item::End,
                Ok(_) => self.read_lines(),
            }
        }
    }

    /// Takes whole chunks (RFC 9112, 7.1) apart.
    fn unpack(&mut self) {
        let Some(chunks) = &mut self.chunks else {
            return;
        };
        while let Some(end) = chunks.windows(2).position(|pair| pair == b"\r\n") {
            let size = str::from_utf8(&chunks[..end]).expect("a chunk's size");
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            let (start, whole) = (end + 2, end + 2 + size + 2);
            if chunks.len() < whole {
                return;
            }
            self.buffer.extend_from_slice(&chunks[start..start + size]);
            chunks.drain(..whole);
        }
    }

    /// A line ends with `\n`, `\r\n` or `\r`.
    fn read_lines(&mut self) {
        self.unpack();
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        while let Some(end) = self.buffer.iter().position(is_end) {
            let length = match self.buffer[end..] {
                // The other half may be under way.
                [b'\r'] => return,
                [b'\r', b'\n', ..] => 2,
                _ => 1,
            };
            let line: Vec<u8> = self.buffer.drain(..end + length).collect();
            let line = str::from_utf8(&line[..end]).expect("a stream is UTF-8");
            self.ready.extend(self.parser.line(line));
        }
    }

    /// The next event's data as it was sent, `ping` frames left out.
    pub(crate) async fn next_text(&mut self) -> String {
        patiently("something of a stream but pings", self.text()).await
    }

    async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                Item::Comment(_) => {}
                Item::Event { data, .. } if data.starts_with("{\"ping\":") => {}
                // A position goes with it in durable mode, and only there.
                Item::Event { data, id } => {
                    let durable = !self.welcome["epoch"].is_null() || data.contains("\"epoch\":");
                    assert!(id.is_none() || durable, "live mode has no positions");
                    return data;
                }
                Item::End => panic!("the stream is over"),
            }
        }
    }

    /// The next frame, `ping` frames left out.
    pub(crate) async fn next_json(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The `data` of the next message.
    pub(crate) async fn next_data(&mut self) -> Value {
        let mut frame = self.next_json().await;
        while frame["live"].is_object() {
            frame = self.next_json().await;
        }
        assert!(frame["event"].is_string(), "no message: {frame}");
        frame["data"].take()
    }

    /// Reads until a `goodbye`, and returns what it says; nothing follows it.
    pub(crate) async fn expect_goodbye(&mut self) -> Value {
        loop {
            let mut frame = self.next_json().await;
            if frame["goodbye"].is_object() {
                while let Item::Comment(_) = self.must_be_over().await {}
                return frame["goodbye"].take();
            }
        }
    }

    async fn must_be_over(&mut self) -> Item {
        let item = self.next().await;
        assert!(!matches!(item, Item::Event { .. }), "{item:?} at the end");
        item
    }

    /// Reads until the end, and returns what the messages said.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        loop {
            match self.next().await {
                Item::End => return rest,
                Item::Comment(_) => {}
                Item::Event { data, .. } => {
                    rest.push(serde_json::from_str(&data).expect("JSON"));
                }
            }
        }
    }

    /// Sends what a client of a stream has no business to send.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("taken");
    }

    /// Sends as much of that as is taken, up to `limit` bytes; returns how much it was.
    pub(crate) async fn upload(&mut self, limit: usize) -> usize {
        let mut sent = 0;
        while sent < limit {
            match self.stream.write(&[b'x'; 64 << 10]).await {
                Ok(length) => sent += length,
                Err(_) => break,
            }
        }
        sent
    }
}

impl Parser {
    fn line(&mut self, line: &str) -> Option<Item> {
        if line.is_empty() {
            let Self { data, id } = std::mem::take(self);
            let data = data.strip_suffix('\n')?.to_owned();
            return Some(Item::Event { data, id });
        }
        if let Some(comment) = line.strip_prefix(':') {
            return Some(Item::Comment(comment.to_owned()));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.data += value;
                self.data.push('\n');
            }
            "id" => self.id = Some(value.to_owned()),
            other => panic!("no field of ours: {other}"),
        }
        None
    }
}

impl Builder {
    /// Another parameter in the URL.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says where it left off.
    pub(crate) fn since(self, since: &str) -> Self {
        self.query("since", since)
    }

    /// Another header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Comes from a page of this origin.
    pub(crate) fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Connects there rather than to the gateway itself.
    pub(crate) fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Has the kernel keep as little as it can of what comes.
    pub(crate) fn small_buffers(mut self) -> Self {
        self.small_buffers = true;
        self
    }

    /// Opens the stream, and reads the `welcome`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub(crate) async fn open(self) -> Events {
        let opened = self.try_open().await;
        opened.unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// Asks in vain.
    ///
    /// # Panics
    ///
    /// When it is let in.
    pub(crate) async fn refused(self) -> Response {
        match self.try_open().await {
            Ok(events) => panic!("let in: {}", events.welcome),
            Err(response) => response,
        }
    }

    /// Opens the stream; a refusal comes back as it was answered.
    pub(crate) async fn try_open(self) -> Result<Events, Response> {
        let mut stream = self.connect().await;
        let mut buffer = Vec::new();
        let response = patiently("an answer", async {
            let sent = stream.write_all(self.request().as_bytes()).await;
            sent.expect("a request is taken");
            let mut response = http::read_head(&mut stream, &mut buffer).await;
            if response.status != 200 {
                http::read_body(&mut response, &mut stream, &mut buffer).await;
            }
            response
        })
        .await;
        if response.status != 200 {
            return Err(response);
        }
        let is_chunked = response.header("transfer-encoding") == Some("chunked");
        let (chunks, buffer) = match is_chunked {
            true => (Some(buffer), Vec::new()),
            false => (None, buffer),
        };
        let mut events = Events {
            stream,
            chunks,
            buffer,
            response,
            welcome: Value::Null,
            parser: Parser::default(),
            ready: VecDeque::new(),
        };
        events.read_lines();
        let mut first = events.next_json().await;
        events.welcome = first["welcome"].take();
        assert!(
            events.welcome.is_object(),
            "the first is no welcome: {first}"
        );
        Ok(events)
    }

    async fn connect(&self) -> TcpStream {
        let address = self.address.parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        if self.small_buffers {
            socket.set_recv_buffer_size(4096).expect("a small buffer");
        }
        patiently("a connection", socket.connect(address))
            .await
            .expect("the listener takes connections")
    }

    fn request(&self) -> String {
        let mut path = "/events".to_owned();
        for (index, (name, value)) in self.query.iter().enumerate() {
            path += &format!("{}{name}={value}", if index == 0 { '?' } else { '&' });
        }
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        http::head("GET", &self.address, &path, &headers)
    }
}
