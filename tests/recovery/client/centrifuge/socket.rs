//! A connection that speaks the Centrifuge protocol, in JSON or in Protobuf. Both are read into
//! the same replies.

use std::collections::BTreeMap;

use ::usher::proto::centrifuge as proto;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::{proxy::connect, shared::Payload};

/// A connection that is open.
pub(super) struct Socket {
    socket: Box<WebSocketStream<TcpStream>>,
    protobuf: bool,
    /// What has come and is not read.
    replies: Vec<Reply>,
}

/// An answer, a push, or a ping, which has nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    pub(super) id: u32,
    pub(super) error: Option<Failure>,
    pub(super) connect: Option<Connected>,
    pub(super) subscribe: Option<Subscribed>,
    pub(super) unsubscribe: Option<Value>,
    pub(super) push: Option<Push>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Connected {
    pub(super) subs: BTreeMap<String, Subscribed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribed {
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) recovered: bool,
    pub(super) was_recovering: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Push {
    pub(super) channel: String,
    pub(super) r#pub: Option<Publication>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Publication {
    /// None where `tags` has a `gap`.
    pub(super) data: Option<Payload>,
    pub(super) offset: u64,
    pub(super) tags: BTreeMap<String, String>,
}

impl Socket {
    /// Connects.
    pub(super) async fn open(address: &str, protobuf: bool) -> Result<Self, String> {
        let stream = connect(address).await.map_err(|_| "no connection")?;
        let url = format!("ws://{address}/connection/websocket");
        let mut request = url.into_client_request().expect("an address");
        if protobuf {
            let protocol = HeaderValue::from_static("centrifuge-protobuf");
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", protocol);
        }
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self {
                socket: Box::new(socket),
                protobuf,
                replies: Vec::new(),
            }),
            Err(Error::Http(response)) => Err(response.status().as_str().to_owned()),
            Err(_) => Err("cut off".to_owned()),
        }
    }

    /// What comes next, or the code of its end. Dropping the future is safe.
    pub(super) async fn next(&mut self) -> Result<Reply, u16> {
        loop {
            if let Some(reply) = self.replies.pop() {
                return Ok(reply);
            }
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) if !self.protobuf => {
                    let replies = serde_json::Deserializer::from_str(&text).into_iter();
                    let read = |reply: Result<Reply, _>| {
                        reply.unwrap_or_else(|error| panic!("{error} in {text}"))
                    };
                    self.replies.extend(replies.map(read));
                    self.replies.reverse();
                }
                Some(Ok(Message::Binary(mut bytes))) if self.protobuf => {
                    while !bytes.is_empty() {
                        let reply = proto::Reply::decode_length_delimited(&mut bytes);
                        self.replies.push(reply.expect("a reply").into());
                    }
                    self.replies.reverse();
                }
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    panic!("it speaks another encoding than it was asked for");
                }
                Some(Ok(Message::Close(close))) => {
                    // The answer to it.
                    let _ = self.socket.flush().await;
                    return Err(close.map_or(1005, |close| close.code.into()));
                }
                Some(Ok(_)) => {
                    let _ = self.socket.flush().await;
                }
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// Where that fails, the connection is over, as [`Socket::next`] will say.
    pub(super) async fn say(&mut self, command: &Value) {
        let message = match self.protobuf {
            true => Message::binary(in_protobuf(command).encode_length_delimited_to_vec()),
            false => Message::text(command.to_string()),
        };
        let _ = self.socket.send(message).await;
    }
}

/// A command as it is written in JSON.
fn in_protobuf(command: &Value) -> proto::Command {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let subscribe = |sub: &Value| proto::SubscribeRequest {
        channel: text(&sub["channel"]),
        recover: sub["recover"] == true,
        epoch: text(&sub["epoch"]),
        offset: sub["offset"].as_u64().unwrap_or(0),
        ..proto::SubscribeRequest::default()
    };
    let id = command["id"].as_u64().unwrap_or(0);
    proto::Command {
        id: u32::try_from(id).expect("a small number"),
        connect: command.get("connect").map(|connect| {
            let subs = connect["subs"].as_object().into_iter().flatten();
            proto::ConnectRequest {
                data: connect["data"].to_string().into(),
                subs: subs
                    .map(|(name, sub)| (name.clone(), subscribe(sub)))
                    .collect(),
                ..Default::default()
            }
        }),
        subscribe: command.get("subscribe").map(subscribe),
        unsubscribe: command
            .get("unsubscribe")
            .map(|sub| proto::UnsubscribeRequest {
                channel: text(&sub["channel"]),
            }),
        ..Default::default()
    }
}

impl From<proto::Reply> for Reply {
    fn from(reply: proto::Reply) -> Self {
        Self {
            id: reply.id,
            error: reply.error.map(|error| Failure {
                code: error.code,
                message: error.message,
            }),
            connect: reply.connect.map(|connect| {
                let subs = connect.subs.into_iter();
                let subs = subs.map(|sub| (sub.channel, sub.result.unwrap_or_default().into()));
                Connected {
                    subs: subs.collect(),
                }
            }),
            subscribe: reply.subscribe.map(Into::into),
            unsubscribe: reply.unsubscribe.map(|_| Value::Null),
            push: reply.push.map(|push| Push {
                channel: push.channel,
                r#pub: push.r#pub.map(Into::into),
            }),
        }
    }
}

impl From<proto::SubscribeResult> for Subscribed {
    fn from(result: proto::SubscribeResult) -> Self {
        Self {
            epoch: result.epoch,
            offset: result.offset,
            recovered: result.recovered,
            was_recovering: result.was_recovering,
        }
    }
}

impl From<proto::Publication> for Publication {
    fn from(publication: proto::Publication) -> Self {
        let proto::Publication { data, offset, tags } = publication;
        let read = |data| serde_json::from_slice(data).expect("a payload of ours");
        Self {
            data: (!data.is_empty()).then(|| read(&data[..])),
            offset,
            tags: tags.into_iter().collect(),
        }
    }
}
