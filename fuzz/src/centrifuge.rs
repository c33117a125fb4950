//! What a client of the Centrifuge protocol makes of the frames of a message, and commands in
//! both encodings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use prost::Message as _;
use usher::{
    channel::Channel, frame::Protocol, http::fuzzing::commands, message::Message,
    proto::centrifuge::Command,
};

use crate::{
    json,
    protobuf::{Field, fields, messages},
    websocket,
};

/// Whose session it is. Its channel needs escapes in JSON.
pub const USER: &str = "a \"user\"\\\u{fc}";
/// Commands of one message.
pub const MOST: usize = 256;

/// Checks that a frame is one publication of this message, or, as a gap, says that a message is
/// too large.
pub fn is_the_publication(protocol: Protocol, frame: &[u8], message: &Message, is_gap: bool) {
    let tag = match is_gap {
        true => ("gap", "too_large"),
        false => ("event", message.event.as_str()),
    };
    let offset = message.stored.map_or(0, |stored| stored.seq);
    let channel = match &message.channel {
        Channel::User => format!("#{USER}"),
        Channel::Broadcast => "broadcast".to_owned(),
        Channel::Topic(topic) => topic.as_str().to_owned(),
    };
    let payload = (!is_gap).then_some(&message.payload[..]);
    let wanted = (channel.as_str(), payload, offset, tag);
    match (protocol, &websocket::frames(frame)[..]) {
        (Protocol::CentrifugeJson, [(websocket::TEXT, text)]) => says_in_json(text, wanted),
        (Protocol::CentrifugeProtobuf, [(websocket::BINARY, bytes)]) => {
            says_in_protobuf(bytes, wanted);
        }
        (_, frames) => panic!("{protocol:?}: not one frame: {frames:?}"),
    }
}

/// Channel, payload, offset, and a tag with its value.
type Wanted<'a> = (&'a str, Option<&'a [u8]>, u64, (&'a str, &'a str));

fn says_in_json(text: &[u8], (channel, payload, offset, (tag, value)): Wanted<'_>) {
    assert!(
        !text.iter().any(|byte| b"\r\n".contains(byte)),
        "line breaks divide objects"
    );
    let members = |text| json::object(text).expect("a JSON object");
    let [(b"push", push)] = members(text)[..] else {
        panic!("not one push");
    };
    let [(b"channel", name), (b"pub", publication)] = members(push)[..] else {
        panic!("not one publication");
    };
    let name: String = serde_json::from_slice(name).expect("a JSON string");
    assert_eq!(name, channel);
    let publication = members(publication);
    let (data, rest) = publication.split_first().expect("data");
    let tags = format!("{{\"{tag}\":\"{value}\"}}");
    let offset = (offset > 0).then(|| offset.to_string());
    let mut expected = Vec::new();
    expected.extend(
        offset
            .as_ref()
            .map(|offset| (&b"offset"[..], offset.as_bytes())),
    );
    expected.push((b"tags", tags.as_bytes()));
    assert_eq!(rest, expected);
    let (b"data", data) = *data else {
        panic!("data comes first");
    };
    is_the_data(data, payload);
}

fn is_the_data(data: &[u8], payload: Option<&[u8]>) {
    let Some(payload) = payload else {
        assert_eq!(data, b"null");
        return;
    };
    match std::str::from_utf8(payload) {
        Ok(_) if json::is_value(payload) => {
            let space = |byte: &u8| if b"\r\n".contains(byte) { b' ' } else { *byte };
            let payload: Vec<u8> = payload.iter().map(space).collect();
            assert_eq!(data, json::trim(&payload));
        }
        Ok(payload) => {
            let data: String = serde_json::from_slice(data).expect("a JSON string");
            assert_eq!(data, payload);
        }
        Err(_) => {
            let [(b"base64", data)] = json::object(data).expect("an object")[..] else {
                panic!("not base64 alone");
            };
            let data: String = serde_json::from_slice(data).expect("a JSON string");
            assert_eq!(STANDARD.decode(data).expect("base64"), payload);
        }
    }
}

fn says_in_protobuf(bytes: &[u8], (channel, payload, offset, (tag, value)): Wanted<'_>) {
    let [reply] = messages(bytes).expect("lengths")[..] else {
        panic!("not one reply");
    };
    let fields = |bytes| fields(bytes).expect("a message");
    let [(4, Field::Bytes(push))] = fields(reply)[..] else {
        panic!("not one push");
    };
    let [(2, Field::Bytes(name)), (4, Field::Bytes(publication))] = fields(push)[..] else {
        panic!("not one publication");
    };
    assert_eq!(name, channel.as_bytes());
    let publication = fields(publication);
    let (tags, rest) = publication.split_last().expect("tags");
    let payload = payload.filter(|payload| !payload.is_empty());
    let mut expected = Vec::new();
    expected.extend(payload.map(|payload| (4, Field::Bytes(payload))));
    expected.extend((offset > 0).then_some((6, Field::Number(offset))));
    assert_eq!(rest, expected);
    let (7, Field::Bytes(entry)) = *tags else {
        panic!("no tags: {tags:?}");
    };
    let named = [(1, tag), (2, value)].map(|(key, text)| (key, Field::Bytes(text.as_bytes())));
    assert_eq!(fields(entry), named);
}

/// Commands in Protobuf.
pub fn encoded(commands: &[Command]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        let encoded = command.encode_length_delimited(&mut bytes);
        encoded.expect("a vector takes all that is written");
    }
    bytes
}

/// Checks that commands are the same when they were written and read in Protobuf.
pub fn survive_protobuf(read: &[Command]) {
    let bytes = Bytes::from(encoded(read));
    let again = commands(
        Protocol::CentrifugeProtobuf,
        &tungstenite::Message::binary(bytes),
    );
    assert_eq!(again.as_deref(), Ok(read));
}
