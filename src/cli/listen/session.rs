//! One connection to the gateway, over WebSocket.

use std::{fmt, time::Duration};

use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest as _,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::refused::Refused;
use crate::{
    cli::{
        connect::{Dialer, PublicUrl},
        output::{harmless, in_words},
    },
    tickets::Ticket,
    tls::Stream,
};

const CONNECT: Duration = Duration::from_secs(5);
/// To be admitted, and then to be welcomed.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// For the other side to say goodbye as well.
const GOODBYE: Duration = Duration::from_secs(2);
/// A payload of 8 MiB may grow sixfold as JSON.
const LARGEST_FRAME: usize = 64 << 20;
/// tungstenite's own 128 KiB are much for each of ten thousand sessions.
const READ_BUFFER: usize = 16 << 10;

/// An open session.
pub(in crate::cli) struct Session {
    socket: WebSocketStream<Stream>,
    heard: Instant,
    /// For how long nothing need be heard.
    patience: Duration,
    /// The gateway's goodbye, until it is answered.
    closing: Option<Close>,
}

/// What comes next.
pub(in crate::cli) enum Received {
    Frame(Utf8Bytes),
    Closed(Close),
}

/// How a session ended: 1006 is no close frame, 1005 is one without a code.
#[derive(Debug)]
pub(in crate::cli) struct Close {
    pub(in crate::cli) code: u16,
    reason: String,
}

impl Session {
    /// Opens one; the ticket is used up, whatever becomes of it.
    pub(in crate::cli) async fn open(
        public: &PublicUrl,
        dialer: &Dialer,
        ticket: &Ticket,
        since: Option<&str>,
    ) -> Result<Self, Refused> {
        let address = public.address();
        let unreachable = |cause: &dyn fmt::Display| Refused::unreachable(&address, cause);
        let stream = match timeout(CONNECT, dialer.dial(&address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => return Err(unreachable(&"no answer")),
        };
        let mut url = public.socket();
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", since);
        }
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|error| unreachable(&error))?;
        // In a header, since URLs are what proxies log.
        let bearer = format!("Usher-Ticket {}", ticket.expose());
        let mut bearer: http::HeaderValue =
            bearer.parse().map_err(|_| unreachable(&"no ticket"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let protocol = http::HeaderValue::from_static("usher.v1");
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(LARGEST_FRAME))
            .max_frame_size(Some(LARGEST_FRAME));
        let handshake = client_async_with_config(request, stream, Some(config));
        match timeout(HANDSHAKE, handshake).await {
            Ok(Ok((socket, _))) => Ok(Self {
                socket,
                heard: Instant::now(),
                patience: HANDSHAKE,
                closing: None,
            }),
            Ok(Err(tungstenite::Error::Http(answer))) => Err(Refused::by(&url, &answer)),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(unreachable(&"no answer")),
        }
    }

    /// From now on the connection is given up after `patience` without a frame.
    pub(in crate::cli) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The next frame, or the end. Nothing is lost where the wait is given up.
    pub(in crate::cli) async fn next(&mut self) -> Received {
        loop {
            if self.closing.is_some() {
                self.answer_the_close().await;
            }
            if let Some(close) = self.closing.take() {
                return Received::Closed(close);
            }
            // Only what a browser's script sees counts: a gateway that does no
            // more than answer pings has lost us.
            let Some(until) = self.heard.checked_add(self.patience) else {
                self.patience = HANDSHAKE;
                continue;
            };
            let close = match timeout_at(until, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.heard = Instant::now();
                    return Received::Frame(text);
                }
                Ok(Some(Ok(Message::Close(close)))) => {
                    // Kept here, since answering takes time.
                    self.closing = Some(Close::read(close));
                    continue;
                }
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => Close::broken(&error),
                Ok(None) => Close::broken(&"the connection ended"),
                Err(_) => Close::broken(&format_args!("nothing was heard for {:?}", self.patience)),
            };
            return Received::Closed(close);
        }
    }

    /// Says goodbye (1000), and waits a little for the answer.
    pub(in crate::cli) async fn leave(mut self) {
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        let goodbye = async {
            // Who can't be told has gone already.
            if self.socket.close(Some(close)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }

    /// Reading on is what writes the answer; the gateway then ends the stream.
    async fn answer_the_close(&mut self) {
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = timeout(GOODBYE, end).await;
    }
}

impl Close {
    fn read(close: Option<CloseFrame>) -> Self {
        match close {
            Some(close) => Self {
                code: close.code.into(),
                reason: close.reason.as_str().to_owned(),
            },
            None => Self {
                code: 1005,
                reason: String::new(),
            },
        }
    }

    fn broken(cause: &dyn fmt::Display) -> Self {
        Self {
            code: 1006,
            reason: in_words(cause),
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &*harmless(&self.reason)) {
            (1006, reason) => write!(f, "the connection is lost: {reason}"),
            (1005, _) => f.write_str("closed by the gateway, without a code"),
            (code, "") => write!(f, "closed by the gateway: {code}"),
            (code, reason) => write!(f, "closed by the gateway: {code} {reason}"),
        }?;
        match self.code {
            1012 => f.write_str(" (it is going away)"),
            4000 => f.write_str(" (we read more slowly than was sent)"),
            4002 => f.write_str(" (it heard nothing from us)"),
            4101 => f.write_str(" (newer sessions of the user took our place)"),
            _ => Ok(()),
        }
    }
}
