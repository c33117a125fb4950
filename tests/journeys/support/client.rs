//! A browser, as far as the gateway can tell.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use super::{
    Gateway, RawWs, Response, http, secret,
    wait::{PATIENCE, patiently},
};

/// An open session.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The gateway's answer to the handshake.
    pub(crate) response: Response,
    welcome: Value,
    /// What came lately, for a test that fails to show.
    seen: Vec<String>,
}

/// What a session was sent; protocol pings are answered and not shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The end: 1005 is a close frame without a code, 1006 is no close frame.
    Closed(u16, String),
}

/// How a session is to be opened.
pub(crate) struct Builder {
    address: String,
    path: String,
    ticket: Option<String>,
    ticket_in_protocol: bool,
    protocols: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    small_buffers: bool,
}

/// A finished handshake.
struct Upgraded {
    stream: TcpStream,
    /// Bytes of frames that came with the answer.
    rest: Vec<u8>,
    response: Response,
}

impl Client {
    /// Opens a session with a ticket, and reads the `welcome`.
    pub(crate) async fn open(gateway: &Gateway, ticket: &str) -> Self {
        Self::builder(gateway, ticket).open().await
    }

    /// Tries to; a refusal comes back as it was answered.
    pub(crate) async fn try_open(gateway: &Gateway, ticket: &str) -> Result<Self, Response> {
        Self::builder(gateway, ticket).try_open().await
    }

    /// A session that is opened in some other way.
    pub(crate) fn builder(gateway: &Gateway, ticket: &str) -> Builder {
        Builder {
            address: gateway.public.clone(),
            path: "/ws".to_owned(),
            ticket: Some(secret(ticket)),
            ticket_in_protocol: false,
            protocols: vec!["usher.v1".to_owned()],
            query: Vec::new(),
            headers: Vec::new(),
            small_buffers: false,
        }
    }

    /// What `welcome` said.
    pub(crate) fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The next message, or the end.
    pub(crate) async fn next_frame(&mut self) -> Frame {
        self.next_frame_within(PATIENCE).await.unwrap_or_else(|| {
            panic!("nothing came within {PATIENCE:?}, after {:?}", self.seen);
        })
    }

    /// The next message or the end, if one comes in time.
    pub(crate) async fn next_frame_within(&mut self, limit: Duration) -> Option<Frame> {
        let next = async {
            loop {
                let frame = match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => Frame::Text(text.as_str().to_owned()),
                    Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
                    Some(Ok(Message::Close(Some(close)))) => {
                        Frame::Closed(close.code.into(), close.reason.as_str().to_owned())
                    }
                    Some(Ok(Message::Close(None))) => Frame::Closed(1005, String::new()),
                    Some(Ok(_)) => {
                        // The pong must leave now, not with the next read.
                        let _ = self.socket.flush().await;
                        continue;
                    }
                    Some(Err(error)) => Frame::Closed(1006, error.to_string()),
                    None => Frame::Closed(1006, String::new()),
                };
                return frame;
            }
        };
        let frame = timeout(limit, next).await.ok()?;
        if self.seen.len() > 20 {
            self.seen.remove(0);
        }
        self.seen
            .push(format!("{frame:?}").chars().take(200).collect());
        Some(frame)
    }

    /// The next text frame as it was sent, `ping` frames left out.
    pub(crate) async fn next_text(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_frame_within(left).await {
                Some(Frame::Text(text)) if text.starts_with("{\"ping\":") => {}
                Some(Frame::Text(text)) => return text,
                Some(other) => panic!("{other:?} instead of a text frame, after {:?}", self.seen),
                None => panic!("nothing came within {PATIENCE:?}, after {:?}", self.seen),
            }
        }
    }

    /// The next `usher.v1` frame, `ping` frames left out.
    pub(crate) async fn next_json(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next event, `{"event":…,"data":…}`; `live`, which ends every catching up, is left
    /// out.
    pub(crate) async fn next_event(&mut self) -> Value {
        let mut frame = self.next_json().await;
        while frame["live"].is_object() {
            frame = self.next_json().await;
        }
        assert!(
            frame["event"].is_string(),
            "no event: {frame}, after {:?}",
            self.seen
        );
        frame
    }

    /// The `data` of the next event.
    pub(crate) async fn next_data(&mut self) -> Value {
        self.next_event().await["data"].take()
    }

    /// Reads until a `goodbye`, and returns what it says.
    pub(crate) async fn expect_goodbye(&mut self) -> Value {
        self.expect("goodbye").await
    }

    /// Reads until a `gap`, and returns what it says.
    pub(crate) async fn expect_gap(&mut self) -> Value {
        self.expect("gap").await
    }

    async fn expect(&mut self, key: &str) -> Value {
        patiently(key, async {
            loop {
                let mut frame = self.next_json().await;
                if frame[key].is_object() {
                    return frame[key].take();
                }
            }
        })
        .await
    }

    /// Reads until the end, and tells how it came.
    pub(crate) async fn expect_close(&mut self) -> (u16, String) {
        let close = async {
            loop {
                if let Frame::Closed(code, reason) = self.next_frame().await {
                    return (code, reason);
                }
            }
        };
        patiently("a close", close).await
    }

    /// Checks that nothing but pings comes for as long.
    pub(crate) async fn quiet_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_frame_within(left).await {
                None => return,
                Some(Frame::Text(text)) if text.starts_with("{\"ping\":") => {}
                Some(frame) => panic!("not quiet: {frame:?}"),
            }
        }
    }

    /// Sends a text message.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the session is open");
    }

    /// Says goodbye, and waits for the answer to it.
    pub(crate) async fn close(&mut self, code: u16) -> (u16, String) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.socket
            .close(Some(frame))
            .await
            .expect("the session is open");
        self.expect_close().await
    }
}

impl Builder {
    /// Offers these sub-protocols, in this order.
    pub(crate) fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Says where it left off.
    pub(crate) fn since(self, since: &str) -> Self {
        self.query("since", since)
    }

    /// Another parameter in the URL.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects there rather than to the gateway itself.
    pub(crate) fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Comes from a page of this origin.
    pub(crate) fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Another header; one of the handshake's own is replaced.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for another path than `/ws`.
    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Shows the ticket as a sub-protocol rather than in the URL.
    pub(crate) fn ticket_in_protocol(mut self) -> Self {
        self.ticket_in_protocol = true;
        self
    }

    /// Shows no ticket.
    pub(crate) fn no_ticket(mut self) -> Self {
        self.ticket = None;
        self
    }

    /// Has the kernel keep as little as it can of what comes.
    pub(crate) fn small_buffers(mut self) -> Self {
        self.small_buffers = true;
        self
    }

    /// Opens the session, and reads the `welcome` where its protocol has one.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub(crate) async fn open(self) -> Client {
        let opened = self.try_open().await;
        opened.unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// Tries to; a refusal comes back as it was answered.
    pub(crate) async fn try_open(self) -> Result<Client, Response> {
        let Upgraded {
            stream,
            rest,
            response,
        } = self.handshake().await?;
        let config = WebSocketConfig::default();
        let socket =
            WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
        let mut client = Client {
            socket,
            response,
            welcome: Value::Null,
            seen: Vec::new(),
        };
        let protocol = client.response.header("sec-websocket-protocol");
        if protocol.is_none_or(|protocol| protocol == "usher.v1") {
            let mut first = client.next_json().await;
            client.welcome = first["welcome"].take();
            assert!(
                client.welcome.is_object(),
                "the first frame is no welcome: {:?}",
                client.seen
            );
        }
        Ok(client)
    }

    /// Opens the session for frames that are written and read by hand.
    pub(crate) async fn raw(self) -> RawWs {
        match self.handshake().await {
            Ok(Upgraded { stream, rest, .. }) => RawWs::new(stream, rest),
            Err(response) => panic!("refused: {response:?}"),
        }
    }

    /// Asks in vain.
    ///
    /// # Panics
    ///
    /// When it is let in.
    pub(crate) async fn refused(self) -> Response {
        match self.try_open().await {
            Ok(client) => panic!("let in: {}", client.welcome),
            Err(response) => response,
        }
    }

    async fn handshake(self) -> Result<Upgraded, Response> {
        let key = generate_key();
        let request = self.request(&key);
        let mut stream = self.connect().await;
        let mut rest = Vec::new();
        let response = patiently("an answer to a handshake", async {
            stream
                .write_all(request.as_bytes())
                .await
                .expect("a request is taken");
            http::read(&mut stream, &mut rest).await
        })
        .await;
        if response.status != 101 {
            return Err(response);
        }
        let accept = derive_accept_key(key.as_bytes());
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some(&*accept),
            "{response:?}"
        );
        let chosen = response.header("sec-websocket-protocol");
        let offered = |name| self.protocols.iter().any(|protocol| protocol == name);
        assert!(chosen.is_none_or(offered), "never offered: {response:?}");
        Ok(Upgraded {
            stream,
            rest,
            response,
        })
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

    fn request(&self, key: &str) -> String {
        let mut query = self.query.clone();
        let mut protocols = self.protocols.clone();
        match &self.ticket {
            Some(ticket) if self.ticket_in_protocol => {
                protocols.push(format!("usher.ticket.{ticket}"));
            }
            Some(ticket) => query.insert(0, ("ticket".to_owned(), ticket.clone())),
            None => {}
        }
        let mut path = self.path.clone();
        for (index, (name, value)) in query.iter().enumerate() {
            path += &format!("{}{name}={value}", if index == 0 { '?' } else { '&' });
        }
        let protocols = protocols.join(", ");
        let mut headers = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ];
        if !protocols.is_empty() {
            headers.push(("Sec-WebSocket-Protocol", &protocols));
        }
        for (name, value) in &self.headers {
            headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
            headers.push((name, value));
        }
        http::head("GET", &self.address, &path, &headers)
    }
}
