//! An open session, over a WebSocket or as server-sent events, and what comes over it.

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{proxy::connect, shared::Payload};

/// A frame of `usher.v1`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    pub(crate) welcome: Option<Welcome>,
    pub(crate) event: Option<String>,
    pub(crate) seq: u64,
    pub(crate) prev: u64,
    pub(crate) at: u64,
    pub(crate) broadcast: bool,
    pub(crate) topic: Option<String>,
    pub(crate) data: Option<Payload>,
    pub(crate) ping: Option<Ping>,
    pub(crate) live: Option<Proof>,
    pub(crate) gap: Option<Gap>,
    pub(crate) goodbye: Option<Goodbye>,
    pub(crate) following: Option<Following>,
    pub(crate) error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) resume: String,
    pub(crate) topics: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Following {
    pub(crate) topics: Vec<String>,
    pub(crate) seq: u64,
    pub(crate) at: u64,
}

/// A command is not obeyed.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Proof {
    pub(crate) seq: u64,
    pub(crate) at: u64,
}

/// It has no sequence while the gateway cannot prove one.
#[derive(Debug, Deserialize)]
pub(crate) struct Ping {
    pub(crate) seq: Option<u64>,
    pub(crate) at: Option<u64>,
}

/// With a sequence it stands for one message.
#[derive(Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) reason: String,
    pub(crate) seq: Option<u64>,
    #[serde(default)]
    pub(crate) prev: u64,
    #[serde(default)]
    pub(crate) at: u64,
    #[serde(default)]
    pub(crate) broadcast: bool,
    pub(crate) topic: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Goodbye {
    pub(crate) reconnect_after_ms: Option<u64>,
}

/// What comes over a session.
pub(crate) enum Item {
    /// A frame, and the `id` beside it where there is one.
    Frame(Box<Frame>, Option<String>),
    /// The end, by its code; 1006 is none.
    End(u16),
}

pub(crate) enum Session {
    Socket(Box<WebSocketStream<TcpStream>>),
    Events(BufReader<TcpStream>),
}

impl Session {
    /// Opens one with a position, and asks for a topic.
    pub(crate) async fn open(
        address: &str,
        ticket: &str,
        (since, follow): (Option<&str>, Option<&str>),
        events: bool,
    ) -> Result<Self, String> {
        let stream = connect(address).await.map_err(|_| "no connection")?;
        // A position has `%` where it names a topic.
        let encode = form_urlencoded::byte_serialize;
        let asks = [("since", since), ("follow", follow)].into_iter();
        let asks = asks.filter_map(|(key, value)| Some((key, value?)));
        let asks = asks.flat_map(|(key, value)| {
            let value = encode(value.as_bytes());
            ["&", key, "="].into_iter().chain(value)
        });
        let since: String = asks.collect();
        if events {
            return Self::open_events(stream, address, ticket, &since).await;
        }
        let url = format!("ws://{address}/ws?ticket={ticket}{since}");
        let mut request = url.into_client_request().map_err(|e| e.to_string())?;
        let protocol = "usher.v1".parse().map_err(|_| "no protocol")?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocol);
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self::Socket(Box::new(socket))),
            Err(Error::Http(response)) => Err(response.status().as_str().to_owned()),
            Err(_) => Err("cut off".to_owned()),
        }
    }

    async fn open_events(
        mut stream: TcpStream,
        address: &str,
        ticket: &str,
        since: &str,
    ) -> Result<Self, String> {
        let request = format!(
            "GET /events?ticket={ticket}{since} HTTP/1.1\r\nHost: {address}\r\n\
             Accept: text/event-stream\r\n\r\n"
        );
        let sent = stream.write_all(request.as_bytes()).await;
        sent.map_err(|_| "cut off")?;
        let mut stream = BufReader::new(stream);
        let mut status = String::new();
        loop {
            let line = line(&mut stream).await.ok_or("cut off")?;
            if line.is_empty() {
                break;
            }
            if status.is_empty() {
                let code = line.split(' ').nth(1);
                code.ok_or("no status")?.clone_into(&mut status);
            }
        }
        match &*status {
            "200" => Ok(Self::Events(stream)),
            _ => Err(status),
        }
    }

    /// Asks to `follow` or to `unfollow` a topic. Where that fails, the session is over, as
    /// [`Session::next`] will say.
    pub(crate) async fn change(&mut self, what: &str, topic: &str) {
        if let Self::Socket(socket) = self {
            let command = json!({ what: [topic] }).to_string();
            let _ = socket.send(Message::text(command)).await;
        }
    }

    /// What comes next. Where this is dropped, part of an event may be lost: it is the
    /// end of the session.
    pub(crate) async fn next(&mut self) -> Item {
        match self {
            Self::Socket(socket) => loop {
                return match socket.next().await {
                    Some(Ok(Message::Text(text))) => frame(text.as_str(), None),
                    Some(Ok(Message::Close(close))) => {
                        // The answer to it.
                        let _ = socket.flush().await;
                        Item::End(close.map_or(1005, |close| close.code.into()))
                    }
                    Some(Ok(_)) => {
                        // The pong must leave now, not with the next read.
                        let _ = socket.flush().await;
                        continue;
                    }
                    Some(Err(_)) | None => Item::End(1006),
                };
            },
            Self::Events(stream) => {
                let (mut data, mut id) = (String::new(), None);
                while let Some(line) = line(stream).await {
                    if let Some(more) = line.strip_prefix("data: ") {
                        data += more;
                    } else if let Some(position) = line.strip_prefix("id: ") {
                        id = Some(position.to_owned());
                    } else if line.is_empty() && !data.is_empty() {
                        return frame(&data, id);
                    }
                }
                Item::End(1006)
            }
        }
    }
}

fn frame(text: &str, id: Option<String>) -> Item {
    let frame = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    Item::Frame(Box::new(frame), id)
}

/// None at the end of the connection, also in the middle of a line.
async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    Some(line.strip_suffix('\n')?.trim_end_matches('\r').to_owned())
}
