//! A client that keeps the contract's rule: it reconnects where it should, with
//! full jitter and a fresh ticket, and stays away where it should. All waits are
//! a tenth of the contract's or less, so that a minute holds many sessions.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use deadpool_redis::redis::{self, AsyncConnectionConfig, RedisResult};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    shared::{Numbered, Shared},
    support::redis::{key, new_ticket},
};

/// The first wait is up to this, each that follows up to twice as long.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The backoff starts anew after a session of this length.
const GOOD: Duration = Duration::from_secs(3);
/// A connection that is not open within this is given up.
const OPENING: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TcpStream>;

pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) redis: String,
    pub(crate) user: usize,
    pub(crate) raw: bool,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// Loses the message with this number before the auditor hears of it.
    pub(crate) swallow: Option<usize>,
}

/// How a client misbehaves for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// It reads nothing, and so answers no ping, for this long.
    pub(crate) pause: Duration,
    /// Then it is gone, without a word; else it reads on.
    pub(crate) vanish: bool,
}

/// How a session ended.
struct Ended {
    code: u16,
    /// When a drain wants it to come back.
    hint: Option<Duration>,
}

impl Client {
    /// Lives until it is told to stay away.
    pub(crate) async fn live(mut self) {
        let mut backoff = SHORTEST;
        loop {
            let wait = match timeout(OPENING, self.open()).await {
                Ok(Ok(socket)) => {
                    let begun = Instant::now();
                    self.shared.count("sessions opened");
                    let ended = self.session(socket).await;
                    self.shared.count(format!("closed {}", ended.code));
                    if stays_away(ended.code) {
                        let Self { shared, user, .. } = &self;
                        let complaint = format!("a client of user {user} closed {}", ended.code);
                        shared.auditor().complain(complaint);
                        return;
                    }
                    if begun.elapsed() >= GOOD {
                        backoff = SHORTEST;
                    }
                    ended.hint.map(|hint| hint / 10)
                }
                Ok(Err(refused)) => {
                    self.shared.count(format!("not opened: {refused}"));
                    None
                }
                Err(_) => {
                    self.shared.count("not opened: no answer");
                    None
                }
            };
            sleep(wait.unwrap_or_else(|| backoff.mul_f64(rand::random()))).await;
            backoff = (backoff * 2).min(LONGEST);
        }
    }

    async fn open(&self) -> Result<Socket, String> {
        let ticket = self.ticket().await.map_err(|_| "no ticket")?;
        let (address, _) = self.shared.any_gateway();
        let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
        // Little waits in the kernel, so a slow reader shows.
        let _ = socket.set_recv_buffer_size(16 * 1024);
        let address = address.parse().map_err(|_| "no address")?;
        let connected = socket.connect(address).await;
        let stream = connected.map_err(|_| "no connection")?;
        let url = format!("ws://{address}/ws?ticket={ticket}");
        let mut request = url.into_client_request().map_err(|e| e.to_string())?;
        let protocol = match self.raw {
            true => "usher.raw.v1",
            false => "usher.v1",
        };
        let value = protocol.parse().map_err(|_| "no protocol")?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", value);
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_str().to_owned()),
            Err(_) => Err("cut off".to_owned()),
        }
    }

    /// What an auth service does.
    async fn ticket(&self) -> RedisResult<String> {
        let limit = Some(Duration::from_secs(2));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(limit)
            .set_response_timeout(limit);
        let client = redis::Client::open(&*self.redis)?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let ticket = new_ticket();
        let mut set = redis::cmd("SET");
        set.arg(key(&ticket)).arg(self.user.to_string());
        let () = set.arg("EX").arg(60).query_async(&mut connection).await?;
        Ok(ticket)
    }

    /// Reads until the end.
    async fn session(&mut self, mut socket: Socket) -> Ended {
        // Raw sessions have no welcome; the 101 is one.
        let mut session = match self.raw {
            true => Some(self.welcomed()),
            false => None,
        };
        let mut hint = None;
        let code = loop {
            let message = tokio::select! {
                message = socket.next() => message,
                Some(order) = self.orders.recv() => {
                    sleep(order.pause).await;
                    if order.vanish {
                        break 1006;
                    }
                    continue;
                }
            };
            match message {
                Some(Ok(Message::Text(text))) if self.raw => self.message(session, text.as_str()),
                Some(Ok(Message::Text(text))) => self.frame(&mut session, &mut hint, text.as_str()),
                Some(Ok(Message::Close(Some(close)))) => {
                    if let Some(("drain", millis)) = close.reason.split_once(' ') {
                        hint = millis.parse().ok();
                    }
                    break close.code.into();
                }
                Some(Ok(Message::Close(None))) => break 1005,
                // The pong must leave now, not with the next read.
                Some(Ok(_)) => drop(socket.flush().await),
                Some(Err(_)) | None => break 1006,
            }
        };
        if let Some(session) = session {
            self.shared.open.fetch_sub(1, Ordering::SeqCst);
            self.shared.auditor().ended(session);
        }
        // The answer to a close frame, where there was one.
        let _ = timeout(Duration::from_secs(1), socket.flush()).await;
        Ended {
            code,
            hint: hint.map(Duration::from_millis),
        }
    }

    fn welcomed(&self) -> usize {
        self.shared.open.fetch_add(1, Ordering::SeqCst);
        self.shared.auditor().welcomed(self.user)
    }

    /// A frame of `usher.v1`.
    fn frame(&mut self, session: &mut Option<usize>, hint: &mut Option<u64>, text: &str) {
        let frame: Value = serde_json::from_str(text).expect("frames are JSON");
        if frame["welcome"].is_object() {
            *session = Some(self.welcomed());
        } else if frame["event"].is_string() {
            self.message(*session, &frame["data"].to_string());
        } else if frame["gap"].is_object() {
            self.shared.count("gaps told");
            let session = session.expect("a welcome comes first");
            self.shared.auditor().gap(session);
        } else if frame["goodbye"].is_object() {
            *hint = frame["goodbye"]["reconnect_after_ms"].as_u64();
        }
    }

    fn message(&mut self, session: Option<usize>, text: &str) {
        let message: Numbered = serde_json::from_str(text).expect("a message of ours");
        if self.swallow == Some(message.number) {
            return;
        }
        let session = session.expect("a welcome comes first");
        let mut auditor = self.shared.auditor();
        auditor.received(session, message.stream(), message.number);
    }
}

/// After these ends a client does not come back, by the contract.
fn stays_away(code: u16) -> bool {
    matches!(code, 1000 | 1002 | 1005 | 1007..=1009 | 4100..=4199)
}
