//! A browser, as far as the gateway can tell.

mod builder;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::CloseFrame},
};

use super::{
    Gateway, Response, secret,
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
        Self::builder_at(&gateway.public, ticket)
    }

    /// The same at the public listener of any gateway.
    pub(crate) fn builder_at(public: &str, ticket: &str) -> Builder {
        Builder {
            address: public.to_owned(),
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
