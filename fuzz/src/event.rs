//! What a browser makes of the frames of a message.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use usher::{
    frame::{Frames, Protocol},
    message::Message,
};

use crate::{json, websocket};

/// Checks that every frame says this message and nothing else.
pub fn check(message: &Message) {
    let mut frames = Frames::new(message, None);
    let text = frames.get(Protocol::UsherV1);
    is_the_event(&text, message);
    is_the_same(&frames.get(Protocol::Sse), &text);

    let frame = frames.get(Protocol::RawV1);
    let first = match std::str::from_utf8(&message.payload) {
        Ok(_) => websocket::TEXT,
        Err(_) => websocket::BINARY,
    };
    assert_eq!(websocket::frames(&frame), [(first, &message.payload[..])]);
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
    let frames = websocket::frames(frame);
    let [(websocket::TEXT, text)] = frames[..] else {
        panic!("not one text frame: {frames:?}");
    };
    let text = std::str::from_utf8(text).expect("UTF-8").as_bytes();

    // Our own reader shows every key there is, a second one of a name too.
    let members = json::object(text).expect("one JSON object");
    let (members, (kind, data)) = (&members[..members.len() - 1], members[members.len() - 1]);
    let event = format!("\"{}\"", message.event.as_str());
    let mut expected = vec![(&b"event"[..], event.as_bytes())];
    if message.broadcast {
        expected.push((b"broadcast", b"true"));
    }
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
