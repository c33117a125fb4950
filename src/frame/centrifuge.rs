//! Frames of the Centrifuge client protocol: publications, which all sessions that speak it
//! share, and replies to one client.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::{
    Protocol, is_json,
    websocket::{self, Data},
};
use crate::{
    channel::{Channel, Topic},
    message::Message,
    proto::centrifuge::{
        Error, Publication, Push, Reply, Subscribe, SubscribeResult, Unsubscribe, UnsubscribeResult,
    },
};

/// The name of the broadcast's channel. No topic of that name is offered.
pub const BROADCAST: &str = "broadcast";
/// How a user's channel begins. No topic that begins so is offered.
pub const USER: char = '#';
/// A client does not subscribe again.
const UNSUBSCRIBED: u32 = 2000;

/// How a channel is called that a session of `user` follows.
pub fn name(channel: &Channel, user: &str) -> String {
    match channel {
        Channel::User => format!("{USER}{user}"),
        Channel::Broadcast => BROADCAST.to_owned(),
        Channel::Topic(topic) => topic.as_str().to_owned(),
    }
}

/// Whether a topic is to be had here: the name of no other channel.
pub fn is_offered(topic: &Topic) -> bool {
    topic.as_str() != BROADCAST && !topic.as_str().starts_with(USER)
}

/// A change of a session's subscriptions.
#[derive(Debug)]
pub struct Changed<'a> {
    /// The `id` of the client's command; `None` if a service made the change.
    pub id: Option<&'a str>,
    /// Topics that it follows from now on.
    pub new: &'a [Topic],
    /// Topics that it follows no more.
    pub gone: &'a [Topic],
    /// Something was to be followed.
    pub follows: bool,
    /// The client wants what it missed.
    pub recovers: bool,
    /// Where the new topics begin; `None` in live mode.
    pub stream: Option<Begins<'a>>,
}

/// Where a subscription begins.
#[derive(Debug)]
pub struct Begins<'a> {
    /// Which stream.
    pub epoch: &'a str,
    /// After this sequence.
    pub offset: u64,
    /// The client gets everything that it missed.
    pub recovered: bool,
}

impl Begins<'_> {
    /// The subscription as a reply describes it.
    pub fn result(&self) -> SubscribeResult {
        SubscribeResult {
            recoverable: true,
            positioned: true,
            epoch: self.epoch.to_owned(),
            offset: self.offset,
            recovered: self.recovered,
            was_recovering: false,
        }
    }
}

/// What a client is told of a change: the reply to its command, or a push for each topic. `None`
/// if there is nothing to tell.
pub fn changed(protocol: Protocol, changed: &Changed<'_>) -> Option<Bytes> {
    let Some(id) = changed.id else {
        let gone = changed.gone.iter().map(|topic| {
            let unsubscribe = Unsubscribe {
                code: UNSUBSCRIBED,
                reason: "server unsubscribe".to_owned(),
            };
            (
                topic,
                Push {
                    unsubscribe: Some(unsubscribe),
                    ..Push::default()
                },
            )
        });
        let new = changed.new.iter().map(|topic| {
            let begins = changed.stream.as_ref();
            let result = begins.map(Begins::result).unwrap_or_default();
            let subscribe = Subscribe {
                recoverable: result.recoverable,
                epoch: result.epoch,
                offset: result.offset,
                positioned: result.positioned,
            };
            (
                topic,
                Push {
                    subscribe: Some(subscribe),
                    ..Push::default()
                },
            )
        });
        let pushes = gone.chain(new).map(|(topic, push)| {
            let channel = topic.as_str().to_owned();
            let push = Some(Push { channel, ..push });
            reply(
                protocol,
                &Reply {
                    push,
                    ..Reply::default()
                },
            )
        });
        // Frames of a WebSocket may follow each other in one piece.
        let pushes: Vec<Bytes> = pushes.collect();
        return (!pushes.is_empty()).then(|| pushes.concat().into());
    };
    let id = id.parse().unwrap_or_default();
    let mut answer = Reply {
        id,
        ..Reply::default()
    };
    if !changed.follows {
        answer.unsubscribe = Some(UnsubscribeResult {});
    } else if changed.new.is_empty() {
        answer.error = Some(already_subscribed());
    } else {
        let begins = changed.stream.as_ref();
        answer.subscribe = Some(SubscribeResult {
            was_recovering: changed.recovers,
            ..begins.map(Begins::result).unwrap_or_default()
        });
    }
    Some(reply(protocol, &answer))
}

/// The answer to a client that subscribes a second time.
pub fn already_subscribed() -> Error {
    Error {
        code: 105,
        message: "the session is subscribed to this already".to_owned(),
        temporary: false,
    }
}

/// A published message.
pub(super) fn publication(protocol: Protocol, message: &Message, user: &str) -> Bytes {
    let tag = ("event", message.event.as_str());
    let channel = name(&message.channel, user);
    match protocol {
        Protocol::CentrifugeProtobuf => {
            protobuf_push(channel, message, message.payload.clone(), tag)
        }
        _ => json_push(&channel, message, tag, |out| data(&message.payload, out)),
    }
}

/// What stands in the place of a message that is too large.
pub(super) fn too_large(protocol: Protocol, message: &Message, user: &str) -> Bytes {
    let tag = ("gap", "too_large");
    let channel = name(&message.channel, user);
    match protocol {
        Protocol::CentrifugeProtobuf => protobuf_push(channel, message, Bytes::new(), tag),
        _ => json_push(&channel, message, tag, |out| out.extend_from_slice(b"null")),
    }
}

/// The server's ping: an empty reply.
pub fn ping(protocol: Protocol) -> Bytes {
    reply(protocol, &Reply::default())
}

/// One reply.
pub fn reply(protocol: Protocol, reply: &Reply) -> Bytes {
    match (protocol, &reply.rpc) {
        (Protocol::CentrifugeProtobuf, _) => protobuf(reply),
        (_, Some(rpc)) => websocket::frame(Data::Text, rpc.data.len() + 64, |out| {
            let _ = write!(out, "{{\"id\":{},\"rpc\":{{\"data\":", reply.id);
            data(&rpc.data, out);
            out.extend_from_slice(b"}}");
        }),
        (_, None) => {
            let json = json_reply(reply).to_string();
            let body = |out: &mut Vec<u8>| out.extend_from_slice(json.as_bytes());
            websocket::frame(Data::Text, json.len(), body)
        }
    }
}

fn protobuf(reply: &Reply) -> Bytes {
    // Ten bytes hold any length.
    let capacity = reply.encoded_len() + 10;
    websocket::frame(Data::Binary, capacity, |out| {
        reply
            .encode_length_delimited(out)
            .expect("a vector takes all that is written");
    })
}

fn protobuf_push(channel: String, message: &Message, data: Bytes, tag: (&str, &str)) -> Bytes {
    let publication = Publication {
        data,
        offset: offset(message),
        tags: [(tag.0.to_owned(), tag.1.to_owned())].into(),
    };
    let push = Push {
        channel,
        r#pub: Some(publication),
        ..Push::default()
    };
    protobuf(&Reply {
        push: Some(push),
        ..Reply::default()
    })
}

/// Neither a tag's name nor its value needs an escape.
fn json_push(
    channel: &str,
    message: &Message,
    tag: (&str, &str),
    data: impl FnOnce(&mut Vec<u8>),
) -> Bytes {
    let capacity = message.payload.len() + channel.len() + 128;
    websocket::frame(Data::Text, capacity, |out| {
        out.extend_from_slice(b"{\"push\":{\"channel\":");
        serde_json::to_writer(&mut *out, channel).expect("a text is always JSON");
        out.extend_from_slice(b",\"pub\":{\"data\":");
        data(out);
        if let offset @ 1.. = offset(message) {
            let _ = write!(out, ",\"offset\":{offset}");
        }
        let (name, value) = tag;
        let _ = write!(out, ",\"tags\":{{\"{name}\":\"{value}\"}}}}}}}}");
    })
}

/// The stream's sequence; 0 in live mode.
fn offset(message: &Message) -> u64 {
    message.stored.map_or(0, |stored| stored.seq)
}

/// A payload inside JSON: itself where it is one JSON text, else a text, else
/// `{"base64":"…"}`.
///
/// Line breaks divide the objects of this protocol. In a JSON text they stand between its
/// tokens only, where a space is as good.
fn data(payload: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(payload) {
        Ok(text) if is_json(text) => {
            let start = out.len();
            out.extend_from_slice(payload);
            for byte in &mut out[start..] {
                if matches!(byte, b'\n' | b'\r') {
                    *byte = b' ';
                }
            }
        }
        Ok(text) => serde_json::to_writer(out, text).expect("a text is always JSON"),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(BASE64.encode(payload).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

/// A reply as JSON. Fields that hold their default are left out, as the protocol wants.
fn json_reply(reply: &Reply) -> Value {
    let mut json = object([("id", reply.id.into())]);
    if let Some(error) = &reply.error {
        let body = object([
            ("code", error.code.into()),
            ("message", error.message.as_str().into()),
            ("temporary", error.temporary.into()),
        ]);
        json.insert("error".to_owned(), Value::Object(body));
    }
    if let Some(connect) = &reply.connect {
        let mut body = object([
            ("client", connect.client.as_str().into()),
            ("version", connect.version.as_str().into()),
            ("ttl", connect.ttl.into()),
            ("ping", connect.ping.into()),
            ("pong", connect.pong.into()),
            ("node", connect.node.as_str().into()),
        ]);
        body.insert("expires".to_owned(), connect.expires.into());
        let subs = connect.subs.iter();
        let subs = subs.map(|sub| {
            let result = sub.result.as_ref().map_or_else(|| json!({}), subscription);
            (sub.channel.clone(), result)
        });
        body.insert("subs".to_owned(), Value::Object(subs.collect()));
        json.insert("connect".to_owned(), Value::Object(body));
    }
    if let Some(push) = &reply.push {
        json.insert("push".to_owned(), Value::Object(json_change(push)));
    }
    if let Some(result) = &reply.subscribe {
        json.insert("subscribe".to_owned(), subscription(result));
    }
    if reply.unsubscribe.is_some() {
        json.insert("unsubscribe".to_owned(), json!({}));
    }
    if let Some(refresh) = &reply.refresh {
        let body = object([
            ("client", refresh.client.as_str().into()),
            ("version", refresh.version.as_str().into()),
            ("expires", refresh.expires.into()),
            ("ttl", refresh.ttl.into()),
        ]);
        json.insert("refresh".to_owned(), Value::Object(body));
    }
    Value::Object(json)
}

/// A push that is no publication: those are written as they are published.
fn json_change(push: &Push) -> Map<String, Value> {
    let mut json = object([("channel", push.channel.as_str().into())]);
    if let Some(Unsubscribe { code, reason }) = &push.unsubscribe {
        let body = object([("code", (*code).into()), ("reason", reason.as_str().into())]);
        json.insert("unsubscribe".to_owned(), Value::Object(body));
    }
    if let Some(subscribe) = &push.subscribe {
        let body = object([
            ("recoverable", subscribe.recoverable.into()),
            ("epoch", subscribe.epoch.as_str().into()),
            ("offset", subscribe.offset.into()),
            ("positioned", subscribe.positioned.into()),
        ]);
        json.insert("subscribe".to_owned(), Value::Object(body));
    }
    json
}

fn subscription(result: &SubscribeResult) -> Value {
    Value::Object(object([
        ("recoverable", result.recoverable.into()),
        ("positioned", result.positioned.into()),
        ("epoch", result.epoch.as_str().into()),
        ("offset", result.offset.into()),
        ("recovered", result.recovered.into()),
        ("was_recovering", result.was_recovering.into()),
    ]))
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let set =
        |value: &Value| *value != Value::Bool(false) && *value != json!(0) && *value != json!("");
    let fields = fields.into_iter().filter(|(_, value)| set(value));
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
