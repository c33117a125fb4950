//! One message → the bytes of a frame, built once for all sessions that speak the
//! same protocol; and the frames that a session says of itself.

pub mod answer;
pub mod centrifuge;
pub mod sse;
mod websocket;

use std::{io::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use self::websocket::Data;
use crate::{
    channel::Channel,
    close::Ending,
    message::{Message, Stored},
};

/// What a session speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `usher.v1`: one JSON object a text frame.
    UsherV1,
    /// `usher.raw.v1`: the payload as published, and nothing else.
    RawV1,
    /// Server-sent events: the JSON of `usher.v1` as each one's `data`.
    Sse,
    /// The Centrifuge client protocol in JSON.
    CentrifugeJson,
    /// The Centrifuge client protocol in Protobuf.
    CentrifugeProtobuf,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::UsherV1,
        Self::RawV1,
        Self::Sse,
        Self::CentrifugeJson,
        Self::CentrifugeProtobuf,
    ];

    /// The name of the WebSocket sub-protocol, where it is one.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::UsherV1 => Some("usher.v1"),
            Self::RawV1 => Some("usher.raw.v1"),
            Self::CentrifugeProtobuf => Some("centrifuge-protobuf"),
            Self::Sse | Self::CentrifugeJson => None,
        }
    }

    /// Whether it has the frames of `usher.v1` besides those of messages.
    pub const fn has_own_frames(self) -> bool {
        matches!(self, Self::UsherV1 | Self::Sse)
    }

    /// Whether it is the Centrifuge client protocol.
    pub const fn is_centrifuge(self) -> bool {
        matches!(self, Self::CentrifugeJson | Self::CentrifugeProtobuf)
    }

    /// The frame of a JSON text of `usher.v1`.
    pub fn frame(self, json: &str) -> Bytes {
        match self {
            Self::UsherV1 | Self::RawV1 | Self::CentrifugeJson | Self::CentrifugeProtobuf => {
                let body = |out: &mut Vec<u8>| out.extend_from_slice(json.as_bytes());
                websocket::frame(Data::Text, json.len(), body)
            }
            Self::Sse => sse::frame(json.as_bytes()),
        }
    }
}

/// The frames of one message, each built when the first session asks for it.
#[derive(Debug)]
pub struct Frames<'a> {
    message: &'a Message,
    /// Whose message it is; empty for one to many users.
    user: &'a str,
    /// The largest frame that a session is sent.
    limit: usize,
    built: [Option<Framed>; Protocol::ALL.len()],
}

/// What a session is sent of a message. Clones share the bytes.
#[derive(Debug, Clone)]
pub enum Framed {
    /// Its frame.
    Whole(Bytes),
    /// The frame is larger than it may be. This `gap` stands in its place; a raw session has
    /// no such frame.
    TooLarge(Option<Bytes>),
}

impl<'a> Frames<'a> {
    /// Nothing is built yet. A frame has at most `limit` bytes.
    pub fn new(message: &'a Message, limit: usize) -> Self {
        Self {
            message,
            user: "",
            limit,
            built: Default::default(),
        }
    }

    /// The message is one of this user's own channel. The Centrifuge protocol names it.
    pub fn to_user(self, user: &'a str) -> Self {
        Self { user, ..self }
    }

    /// The message.
    pub fn message(&self) -> &'a Message {
        self.message
    }

    /// The frame for a session that speaks `protocol`.
    pub fn get(&mut self, protocol: Protocol) -> Framed {
        let (message, user, limit) = (self.message, self.user, self.limit);
        self.built[protocol as usize]
            .get_or_insert_with(|| framed_within(message, user, protocol, limit))
            .clone()
    }

    /// The frame for a session that speaks `protocol` and was sent this one before it.
    pub fn after(&mut self, prev: u64, protocol: Protocol) -> Framed {
        match self.message.stored {
            Some(stored) if stored.prev != prev && protocol.has_own_frames() => {
                let stored = Some(Stored { prev, ..stored });
                let message = Message {
                    stored,
                    ..self.message.clone()
                };
                framed_within(&message, self.user, protocol, self.limit)
            }
            _ => self.get(protocol),
        }
    }
}

fn framed_within(message: &Message, user: &str, protocol: Protocol, limit: usize) -> Framed {
    let bytes = build(message, user, protocol);
    match bytes.len() > limit {
        false => Framed::Whole(bytes),
        true => Framed::TooLarge(match protocol {
            Protocol::RawV1 => None,
            Protocol::CentrifugeJson | Protocol::CentrifugeProtobuf => {
                Some(centrifuge::too_large(protocol, message, user))
            }
            Protocol::UsherV1 | Protocol::Sse => Some(protocol.frame(&too_large(message))),
        }),
    }
}

fn build(message: &Message, user: &str, protocol: Protocol) -> Bytes {
    match protocol {
        Protocol::CentrifugeJson | Protocol::CentrifugeProtobuf => {
            centrifuge::publication(protocol, message, user)
        }
        Protocol::UsherV1 => {
            websocket::frame(Data::Text, event_size(message), |out| event(message, out))
        }
        Protocol::RawV1 => raw(message),
        Protocol::Sse => {
            let mut json = Vec::with_capacity(event_size(message));
            event(message, &mut json);
            sse::frame(&json)
        }
    }
}

/// `{"welcome":{…}}`: the first frame of a session.
#[derive(Debug, Serialize)]
pub struct Welcome<'a> {
    /// This session's id.
    pub session: &'a str,
    /// Whose session it is.
    pub user: &'a str,
    /// Which gateway holds it.
    pub gateway: &'a str,
    /// `session.ping_interval`; in seconds on the wire.
    #[serde(serialize_with = "seconds")]
    pub ping: Duration,
    /// Which stream it is; `None` in live mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<&'a str>,
    /// Its last sequence when NATS had confirmed the subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the stream stored that, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What became of the client's `since`.
    pub resume: Resume,
    /// What is followed.
    pub topics: Vec<&'a str>,
}

/// Whether a client that came back got what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// It did not ask.
    None,
    /// It gets everything.
    Complete,
    /// Something may have been lost.
    Gap,
}

impl Welcome<'_> {
    /// Its JSON.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Outer<'a> {
            welcome: &'a Welcome<'a>,
        }
        json(&Outer { welcome: self })
    }
}

/// Whole seconds as a whole number, as people expect to read them.
fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match duration.subsec_nanos() {
        0 => serializer.serialize_u64(duration.as_secs()),
        _ => serializer.serialize_f64(duration.as_secs_f64()),
    }
}

/// Up to here a session has everything, by a comparison with the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// A sequence of the stream.
    pub seq: u64,
    /// When the stream stored the message with that sequence, in milliseconds since 1970.
    pub at: u64,
}

/// `{"ping":{}}`: for scripts, which never see a protocol ping. With a proof where there is
/// one.
pub fn ping(proof: Option<Proof>) -> String {
    match proof {
        Some(proof) => json(&serde_json::json!({ "ping": proof })),
        None => control("ping", serde_json::json!({})),
    }
}

/// `{"live":{"seq":131,"at":…}}`: the client was sent everything up to this sequence. Later
/// messages may still come from the stream, without another `live`.
pub fn live(proof: Proof) -> String {
    json(&serde_json::json!({ "live": proof }))
}

/// `{"gap":{"reason":"too_large",…}}`: in the place of a message that is too large.
fn too_large(message: &Message) -> String {
    let mut gap = serde_json::json!({ "reason": "too_large" });
    if let Some(Stored { seq, prev, at }) = message.stored {
        gap["seq"] = seq.into();
        gap["prev"] = prev.into();
        gap["at"] = at.into();
    }
    match &message.channel {
        Channel::User => {}
        Channel::Broadcast => gap["broadcast"] = true.into(),
        Channel::Topic(topic) => gap["topic"] = topic.as_str().into(),
    }
    control("gap", gap)
}

/// Why messages may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// NATS was away, and nothing is kept.
    BusLost,
    /// They are kept no longer.
    Retention,
    /// There are more than are sent again.
    Replay,
}

/// `{"gap":{"reason":"bus_lost"}}`: messages may have been missed.
pub fn gap(reason: GapReason) -> String {
    let reason = match reason {
        GapReason::BusLost => "bus_lost",
        GapReason::Retention => "retention",
        GapReason::Replay => "replay",
    };
    control("gap", serde_json::json!({ "reason": reason }))
}

/// `{"goodbye":{…}}`: the last frame before the close.
pub fn goodbye(ending: &Ending) -> String {
    let mut body = serde_json::json!({ "reason": ending.reason.name() });
    if let Some(after) = ending.reconnect_after {
        body["reconnect_after_ms"] = millis(after).into();
    }
    if let Some(message) = &ending.message {
        body["message"] = message.as_str().into();
    }
    control("goodbye", body)
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn control(key: &str, body: serde_json::Value) -> String {
    json(&serde_json::json!({ key: body }))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("such a value is always JSON")
}

/// Bytes of [`event`] where its payload passes untouched, and a few more.
fn event_size(message: &Message) -> usize {
    message.payload.len() + 96
}

/// `{"event":…,"data":…}`.
///
/// `data` is the payload itself where that is one valid JSON text: passed on
/// byte for byte, which is safe because a valid JSON text inside an object is
/// a valid object. Other UTF-8 becomes a JSON string, anything else base64.
fn event(message: &Message, out: &mut Vec<u8>) {
    let payload = &message.payload[..];
    out.extend_from_slice(b"{\"event\":\"");
    out.extend_from_slice(message.event.as_str().as_bytes());
    out.push(b'"');
    match &message.channel {
        Channel::User => {}
        Channel::Broadcast => out.extend_from_slice(b",\"broadcast\":true"),
        Channel::Topic(topic) => {
            out.extend_from_slice(b",\"topic\":");
            serde_json::to_writer(&mut *out, topic.as_str()).expect("a text is always JSON");
        }
    }
    if let Some(Stored { seq, prev, at }) = message.stored {
        let _ = write!(out, ",\"seq\":{seq},\"prev\":{prev},\"at\":{at}");
    }
    data(payload, out);
    out.push(b'}');
}

/// `,"data":…` or `,"base64":…`: a payload inside an object.
fn data(payload: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(payload) {
        Ok(text) => {
            out.extend_from_slice(b",\"data\":");
            if is_json(text) {
                out.extend_from_slice(payload);
            } else {
                serde_json::to_writer(&mut *out, text).expect("a text is always JSON");
            }
        }
        Err(_) => {
            out.extend_from_slice(b",\"base64\":\"");
            out.extend_from_slice(BASE64.encode(payload).as_bytes());
            out.push(b'"');
        }
    }
}

fn raw(message: &Message) -> Bytes {
    let payload = &message.payload[..];
    let opcode = match std::str::from_utf8(payload) {
        Ok(_) => Data::Text,
        Err(_) => Data::Binary,
    };
    websocket::frame(opcode, payload.len(), |out| out.extend_from_slice(payload))
}

/// Whether a text is exactly one JSON value (RFC 8259), however deep: skipping
/// a raw value keeps its own stack, so depth costs no recursion.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests;
