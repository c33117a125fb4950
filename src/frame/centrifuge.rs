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
    channel::Channel,
    message::Message,
    proto::centrifuge::{Publication, Push, Reply, SubscribeResult},
};

/// The name of the broadcast's channel. No topic of that name is offered.
pub const BROADCAST: &str = "broadcast";
/// How a user's channel begins. No topic that begins so is offered.
pub const USER: char = '#';

/// How a channel is called that a session of `user` follows.
pub fn name(channel: &Channel, user: &str) -> String {
    match channel {
        Channel::User => format!("{USER}{user}"),
        Channel::Broadcast => BROADCAST.to_owned(),
        Channel::Topic(topic) => topic.as_str().to_owned(),
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
