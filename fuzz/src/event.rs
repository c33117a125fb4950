//! What a browser makes of the frames of a message.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use usher::{
    channel::Channel,
    frame::{Framed, Frames, Protocol},
    message::{Message, Stored},
};

use crate::{centrifuge, json, websocket};

const CENTRIFUGE: [Protocol; 2] = [Protocol::CentrifugeJson, Protocol::CentrifugeProtobuf];

/// Checks that every frame says this message and nothing else, or, where it would be larger
/// than `limit` bytes, that a message is missing.
pub fn check(message: &Message, limit: usize) {
    let mut whole = Frames::new(message, usize::MAX).to_user(centrifuge::USER);
    let mut whole = |protocol| match whole.get(protocol) {
        Framed::Whole(bytes) => bytes,
        Framed::TooLarge(_) => panic!("{protocol:?}: a frame is above no limit"),
    };
    let text = whole(Protocol::UsherV1);
    is_the_event(&text, message);
    is_the_same(&whole(Protocol::Sse), &text);

    let frame = whole(Protocol::RawV1);
    let first = match std::str::from_utf8(&message.payload) {
        Ok(_) => websocket::TEXT,
        Err(_) => websocket::BINARY,
    };
    assert_eq!(websocket::frames(&frame), [(first, &message.payload[..])]);

    for protocol in CENTRIFUGE {
        centrifuge::is_the_publication(protocol, &whole(protocol), message, false);
    }

    let mut limited = Frames::new(message, limit).to_user(centrifuge::USER);
    let mut gaps = Vec::new();
    for protocol in Protocol::ALL {
        let whole = whole(protocol);
        match limited.get(protocol) {
            Framed::Whole(bytes) => {
                assert!(bytes.len() <= limit, "{protocol:?}");
                assert_eq!(bytes, whole);
            }
            Framed::TooLarge(gap) => {
                assert!(whole.len() > limit, "{protocol:?}");
                assert_eq!(gap.is_some(), protocol != Protocol::RawV1);
                gaps.extend(gap.map(|gap| (protocol, gap)));
            }
        }
    }
    for (protocol, gap) in gaps {
        match protocol {
            Protocol::Sse => {
                let text = gap.strip_prefix(b"data: ").expect("a line of data");
                let text = text.strip_suffix(b"\n\n").expect("a blank line at the end");
                is_the_gap(text, message);
            }
            protocol if CENTRIFUGE.contains(&protocol) => {
                centrifuge::is_the_publication(protocol, &gap, message, true);
            }
            _ => is_the_gap(text_of(&gap), message),
        }
    }
}

/// The text of one text frame.
fn text_of(frame: &[u8]) -> &[u8] {
    let frames = websocket::frames(frame);
    let [(websocket::TEXT, text)] = frames[..] else {
        panic!("not one text frame: {frames:?}");
    };
    std::str::from_utf8(text).expect("UTF-8").as_bytes()
}

/// A `gap` that stands for this message.
fn is_the_gap(text: &[u8], message: &Message) {
    let members = json::object(text).expect("one JSON object");
    let [(b"gap", gap)] = members[..] else {
        panic!("not one gap: {members:?}");
    };
    let members = json::object(gap).expect("a JSON object");
    let named: BTreeMap<_, _> = members.iter().copied().collect();
    assert_eq!(named.len(), members.len(), "a key stands there twice");
    let mut expected = BTreeMap::from([(&b"reason"[..], b"\"too_large\"".to_vec())]);
    match &message.channel {
        Channel::User => {}
        Channel::Broadcast => drop(expected.insert(b"broadcast", b"true".to_vec())),
        Channel::Topic(topic) => drop(expected.insert(b"topic", text_json(topic.as_str()))),
    }
    for (key, number) in places(message) {
        expected.insert(key, number.into_bytes());
    }
    assert_eq!(named.len(), expected.len(), "{named:?}");
    assert!(expected.iter().all(|(key, value)| named[key] == value));
}

/// A text as JSON.
fn text_json(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a text is always JSON")
}

/// Where the stream has a message: each key and its number.
fn places(message: &Message) -> Vec<(&'static [u8], String)> {
    let Some(Stored { seq, prev, at }) = message.stored else {
        return Vec::new();
    };
    let numbers: [(&[u8], u64); 3] = [(b"seq", seq), (b"prev", prev), (b"at", at)];
    numbers
        .map(|(key, number)| (key, number.to_string()))
        .into()
}

/// A stream of events has this one event: the text, but for its kinds of line break.
fn is_the_same(event: &[u8], text: &[u8]) {
    let [(_, text)] = websocket::frames(text)[..] else {
        unreachable!("it is one frame");
    };
    let text = std::str::from_utf8(text).expect("UTF-8");
    let event = std::str::from_utf8(event).expect("UTF-8");
    let body = event.strip_suffix("\n\n").expect("a blank line at the end");
    let data: Vec<&str> = body
        .split('\n')
        .map(|line| line.strip_prefix("data: ").expect("a line of data"))
        .collect();
    assert!(!body.contains('\r'), "a line ends in one way");
    let expected = text.replace("\r\n", "\n").replace('\r', "\n");
    assert_eq!(data.join("\n"), expected);
}

fn is_the_event(frame: &[u8], message: &Message) {
    let payload = &message.payload[..];
    let text = text_of(frame);

    // Our own reader shows every key there is, a second one of a name too.
    let members = json::object(text).expect("one JSON object");
    let (members, (kind, data)) = (&members[..members.len() - 1], members[members.len() - 1]);
    let event = format!("\"{}\"", message.event.as_str());
    let places = places(message);
    let mut expected = vec![(&b"event"[..], event.as_bytes())];
    let topic = match &message.channel {
        Channel::Topic(topic) => text_json(topic.as_str()),
        Channel::User | Channel::Broadcast => Vec::new(),
    };
    match &message.channel {
        Channel::User => {}
        Channel::Broadcast => expected.push((b"broadcast", b"true")),
        Channel::Topic(_) => expected.push((b"topic", &topic)),
    }
    expected.extend(places.iter().map(|(key, number)| (*key, number.as_bytes())));
    assert_eq!(members, expected);

    match std::str::from_utf8(payload) {
        Ok(_) if json::is_value(payload) => {
            assert_eq!((kind, data), (&b"data"[..], json::trim(payload)));
            // Byte for byte, spaces too.
            assert!(text.ends_with(&[payload, b"}"].concat()));
        }
        Ok(payload) => {
            assert_eq!(kind, b"data");
            let data: String = serde_json::from_slice(data).expect("a JSON string");
            assert_eq!(data, payload);
        }
        Err(_) => {
            assert_eq!(kind, b"base64");
            let data: String = serde_json::from_slice(data).expect("a JSON string");
            assert_eq!(STANDARD.decode(data).expect("base64"), payload);
        }
    }
}
