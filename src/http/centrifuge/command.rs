//! What a client says over the Centrifuge protocol: one or several commands a message, in JSON
//! or in Protobuf, read into the same shape.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use tungstenite::Message;

use crate::{
    close::CloseReason,
    frame::Protocol,
    position::Mark,
    proto::centrifuge::{
        Command, ConnectRequest, RefreshRequest, RpcRequest, SubscribeRequest, Unread,
        UnsubscribeRequest,
    },
};

/// Commands of one message, where a burst of commands is no larger.
const MAX_COMMANDS: u32 = 256;

/// The bit of `flag` that says: answer with an error if something that was missed can't be sent.
const REJECT_UNRECOVERED: i64 = 2;

/// Reads a message. It may hold `connect` and a burst of so many commands: an SDK sends as many as
/// it has subscriptions when it returns.
///
/// # Errors
///
/// How the session ends: the message is none of this protocol, or holds too many commands.
pub(in crate::http) fn read(
    protocol: Protocol,
    message: &Message,
    burst: u32,
) -> Result<Vec<Command>, CloseReason> {
    let most = most(burst) as usize;
    match (protocol, message) {
        (Protocol::CentrifugeJson, Message::Text(text)) => json(text, most),
        (Protocol::CentrifugeProtobuf, Message::Binary(bytes)) => protobuf(bytes.clone(), most),
        _ => Err(CloseReason::BadFrame),
    }
}

/// How many commands one message may hold.
pub(in crate::http) fn most(burst: u32) -> u32 {
    MAX_COMMANDS.max(burst.saturating_add(1))
}

/// A command that answers a ping.
pub(in crate::http) fn is_pong(command: &Command) -> bool {
    *command == Command::default()
}

fn protobuf(mut bytes: Bytes, most: usize) -> Result<Vec<Command>, CloseReason> {
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        if commands.len() == most {
            return Err(CloseReason::TooManyFrames);
        }
        let command = Command::decode_length_delimited(&mut bytes);
        commands.push(command.map_err(|_| CloseReason::BadFrame)?);
    }
    Ok(commands)
}

fn json(text: &str, most: usize) -> Result<Vec<Command>, CloseReason> {
    let mut commands = Vec::new();
    for command in serde_json::Deserializer::from_str(text).into_iter::<Json<'_>>() {
        if commands.len() == most {
            return Err(CloseReason::TooManyFrames);
        }
        let command = command.map_err(|_| CloseReason::BadFrame)?;
        commands.push(command.into());
    }
    Ok(commands)
}

/// A command in JSON. Keys that are not known mean nothing.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow)]
    connect: Option<JsonConnect<'a>>,
    subscribe: Option<JsonSubscribe>,
    unsubscribe: Option<JsonChannel>,
    publish: Option<IgnoredAny>,
    presence: Option<IgnoredAny>,
    presence_stats: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
    ping: Option<IgnoredAny>,
    send: Option<IgnoredAny>,
    rpc: Option<JsonRpc<'a>>,
    refresh: Option<JsonToken>,
    sub_refresh: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct JsonConnect<'a> {
    #[serde(default)]
    token: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    subs: BTreeMap<String, JsonSubscribe>,
}

#[derive(Deserialize)]
struct JsonSubscribe {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    recover: bool,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
    tf: Option<IgnoredAny>,
    #[serde(default)]
    flag: i64,
    #[serde(default)]
    r#type: i32,
}

#[derive(Deserialize)]
struct JsonChannel {
    #[serde(default)]
    channel: String,
}

#[derive(Deserialize)]
struct JsonRpc<'a> {
    /// `null` is data too.
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(default)]
    method: String,
}

#[derive(Deserialize)]
struct JsonToken {
    #[serde(default)]
    token: String,
}

impl From<Json<'_>> for Command {
    fn from(json: Json<'_>) -> Self {
        let unread = |value: Option<IgnoredAny>| value.map(|IgnoredAny| Unread {});
        Self {
            id: json.id,
            connect: json.connect.map(|connect| ConnectRequest {
                token: connect.token,
                data: bytes(connect.data),
                subs: {
                    let subs = connect.subs.into_iter();
                    subs.map(|(name, sub)| (name, sub.into())).collect()
                },
            }),
            subscribe: json.subscribe.map(Into::into),
            unsubscribe: json
                .unsubscribe
                .map(|JsonChannel { channel }| UnsubscribeRequest { channel }),
            publish: unread(json.publish),
            presence: unread(json.presence),
            presence_stats: unread(json.presence_stats),
            history: unread(json.history),
            ping: unread(json.ping),
            send: unread(json.send),
            rpc: json.rpc.map(|rpc| RpcRequest {
                data: bytes(rpc.data),
                method: rpc.method,
            }),
            refresh: json
                .refresh
                .map(|JsonToken { token }| RefreshRequest { token }),
            sub_refresh: unread(json.sub_refresh),
        }
    }
}

impl From<JsonSubscribe> for SubscribeRequest {
    fn from(json: JsonSubscribe) -> Self {
        Self {
            channel: json.channel,
            recover: json.recover,
            epoch: json.epoch,
            offset: json.offset,
            tf: json.tf.map(|IgnoredAny| Unread {}),
            flag: json.flag,
            r#type: json.r#type,
        }
    }
}

fn some<'a, D: Deserializer<'a>>(value: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

fn bytes(json: Option<&RawValue>) -> Bytes {
    json.map_or_else(Bytes::new, |json| {
        Bytes::copy_from_slice(json.get().as_bytes())
    })
}

/// Where a client was in a channel that it wants to recover.
pub(in crate::http) fn mark(sub: &SubscribeRequest) -> Option<Mark> {
    sub.recover.then(|| Mark {
        epoch: sub.epoch.as_str().into(),
        offset: sub.offset,
    })
}

/// Whether the client wants a subscription only with everything that it missed.
pub(in crate::http) fn must_recover(sub: &SubscribeRequest) -> bool {
    sub.recover && sub.flag & REJECT_UNRECOVERED != 0
}

/// Whether a subscription is one that Usher has: of all publications, as they come.
pub(in crate::http) fn is_plain(sub: &SubscribeRequest) -> bool {
    sub.tf.is_none() && sub.r#type == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u32 = 320;

    fn of_json(text: &str) -> Result<Vec<Command>, CloseReason> {
        read(Protocol::CentrifugeJson, &Message::text(text), BURST)
    }

    fn of_protobuf(bytes: &[u8]) -> Result<Vec<Command>, CloseReason> {
        let message = Message::binary(Bytes::copy_from_slice(bytes));
        read(Protocol::CentrifugeProtobuf, &message, BURST)
    }

    #[test]
    fn both_encodings_say_the_same() {
        let text = r##"{"id":1,"connect":{"token":"t","data":{"ticket":"T"},"new":[],"subs":
            {"#42":{"recover":true,"epoch":"k","offset":7}}}}
            {"id":2,"rpc":{"method":"m","data":[1, 2]},"later":{}}
            {}
            {"id":3,"subscribe":{"channel":"a","recover":true,"flag":3}}
            {"id":4,"subscribe":{"channel":"a","flag":2,"type":1}}
            {"id":5,"subscribe":{"channel":"a","tf":{"op":"eq"}}}"##;
        let commands = of_json(text).expect("commands");
        assert_eq!(commands.len(), 6);
        let connect = commands[0].connect.as_ref().expect("a connect");
        assert_eq!(&connect.data[..], br#"{"ticket":"T"}"#);
        let at = mark(&connect.subs["#42"]).expect("a mark");
        assert_eq!((&*at.epoch, at.offset), ("k", 7));
        assert_eq!(
            &commands[1].rpc.as_ref().expect("a call").data[..],
            b"[1, 2]"
        );
        assert!(is_pong(&commands[2]) && !is_pong(&commands[1]));
        let said = commands[3..].iter().map(|command| {
            let sub = command.subscribe.as_ref().expect("a subscribe");
            (must_recover(sub), is_plain(sub))
        });
        let said: Vec<_> = said.collect();
        assert_eq!(said, [(true, true), (false, false), (false, false)]);

        let mut bytes = Vec::new();
        for command in &commands {
            let encoded = command.encode_length_delimited(&mut bytes);
            encoded.expect("a vector takes all that is written");
        }
        assert_eq!(of_protobuf(&bytes), Ok(commands));
    }

    #[test]
    fn what_is_no_command_ends_the_session() {
        let deep = format!("{{\"id\":1,\"rpc\":{{\"data\":{}", "[".repeat(100_000));
        for bad in [
            "x",
            "[]",
            "1",
            "{",
            "{}{",
            r#"{"id":-1}"#,
            r#"{"id":1,"id":2}"#,
            &deep,
        ] {
            assert_eq!(of_json(bad), Err(CloseReason::BadFrame), "{bad:.40}");
        }
        for bad in [&[5, 8][..], &[0xff; 9], &[0xff; 16], &[2, 8, 0xff], &[1]] {
            assert_eq!(of_protobuf(bad), Err(CloseReason::BadFrame), "{bad:?}");
        }
        let text = Message::text("{}");
        let crossed = read(Protocol::CentrifugeProtobuf, &text, BURST);
        assert_eq!(crossed, Err(CloseReason::BadFrame));
    }

    #[test]
    fn a_message_holds_a_bounded_number_of_commands() {
        let most = BURST as usize + 1;
        let all = of_json(&"{}\n".repeat(most));
        assert_eq!(all.map(|all| all.len()), Ok(most));
        let flood = Err(CloseReason::TooManyFrames);
        assert_eq!(of_json(&"{}".repeat(most + 1)), flood);
        assert_eq!(of_protobuf(&vec![0; most + 1]), flood);
        let text = Message::text("{}".repeat(MAX_COMMANDS as usize));
        let all = read(Protocol::CentrifugeJson, &text, 52);
        assert_eq!(all.map(|all| all.len()), Ok(MAX_COMMANDS as usize));
    }
}
