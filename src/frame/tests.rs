use serde_json::{Value, json};
use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::*;
use crate::{close::CloseReason, message::EventName};

fn message(payload: impl Into<Bytes>) -> Message {
    Message {
        event: EventName::default(),
        payload: payload.into(),
        channel: Channel::User,
        stored: None,
        probe: false,
        trace: None,
    }
}

fn whole(message: &Message, protocol: Protocol) -> Bytes {
    match Frames::new(message, usize::MAX).get(protocol) {
        Framed::Whole(bytes) => bytes,
        Framed::TooLarge(_) => panic!("there is no limit"),
    }
}

/// Reads a frame as a client does: (is text, body).
fn read(frame: &[u8]) -> (bool, Vec<u8>) {
    let mut cursor = std::io::Cursor::new(frame);
    let (header, length) = FrameHeader::parse(&mut cursor)
        .expect("a good header")
        .expect("a whole header");
    assert!(header.is_final && header.mask.is_none());
    let body = &frame[cursor.position() as usize..];
    assert_eq!(body.len() as u64, length);
    (header.opcode == OpCode::Data(Data::Text), body.to_vec())
}

fn text(frame: &[u8]) -> String {
    let (is_text, body) = read(frame);
    assert!(is_text);
    String::from_utf8(body).expect("UTF-8")
}

#[test]
fn valid_json_passes_untouched() {
    for payload in [
        "{\"order\":123}",
        " [1,\n 2]\n",
        "1e999",
        "\"\\ud800\"",
        "null",
    ] {
        let frame = whole(&message(payload), Protocol::UsherV1);
        assert_eq!(
            text(&frame),
            format!("{{\"event\":\"message\",\"data\":{payload}}}")
        );
    }
}

#[test]
fn depth_is_no_reason_to_quote() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let frame = whole(&message(deep.clone()), Protocol::UsherV1);
    assert_eq!(
        text(&frame),
        format!("{{\"event\":\"message\",\"data\":{deep}}}")
    );
}

#[test]
fn other_text_becomes_a_string() {
    for payload in [
        "",
        "hello",
        "{\"a\":1",
        "1 2",
        "{}{}",
        "\u{feff}1",
        "\"},\"x\":\"",
        "\u{0}",
    ] {
        let frame = whole(&message(payload), Protocol::UsherV1);
        let value: Value = serde_json::from_str(&text(&frame)).expect("JSON");
        assert_eq!(value, json!({"event": "message", "data": payload}));
    }
}

#[test]
fn other_bytes_become_base64() {
    let frame = whole(&message(&b"\xff\x00\xfe"[..]), Protocol::UsherV1);
    assert_eq!(text(&frame), r#"{"event":"message","base64":"/wD+"}"#);
}

#[test]
fn a_broadcast_says_so() {
    let mut message = message("1");
    message.channel = Channel::Broadcast;
    message.event = EventName::parse("news").expect("a name");
    let frame = whole(&message, Protocol::UsherV1);
    assert_eq!(
        text(&frame),
        r#"{"event":"news","broadcast":true,"data":1}"#
    );
}

#[test]
fn raw_frames_are_the_payload() {
    for (payload, is_text) in [(&b"hi"[..], true), (b"", true), (b"\xff", false)] {
        let frame = whole(&message(payload), Protocol::RawV1);
        assert_eq!(read(&frame), (is_text, payload.to_vec()));
    }
}

#[test]
fn headers_are_right_at_every_length_class() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        let payload = vec![b'x'; length];
        let frame = whole(&message(payload.clone()), Protocol::RawV1);
        assert_eq!(read(&frame), (true, payload));
    }
}

#[test]
fn control_frames_are_as_the_contract_words_them() {
    assert_eq!(ping(None), r#"{"ping":{}}"#);
    assert_eq!(gap(GapReason::BusLost), r#"{"gap":{"reason":"bus_lost"}}"#);
    let drain = Ending {
        reason: CloseReason::Drain,
        reconnect_after: Some(Duration::from_millis(4210)),
        message: None,
    };
    let value: Value = serde_json::from_str(&goodbye(&drain)).expect("JSON");
    assert_eq!(
        value,
        json!({"goodbye": {"reason": "drain", "reconnect_after_ms": 4210}})
    );
    assert_eq!(
        goodbye(&CloseReason::Replaced.into()),
        r#"{"goodbye":{"reason":"replaced"}}"#
    );
}

#[test]
fn a_gap_stands_for_a_message_that_is_too_large() {
    let mut large = message("x".repeat(500));
    large.channel = Channel::Broadcast;
    large.stored = Some(Stored {
        seq: 122,
        prev: 121,
        at: 5,
    });
    let mut frames = Frames::new(&large, 500);
    let gap = json!({"gap": {
        "reason": "too_large", "seq": 122, "prev": 121, "at": 5, "broadcast": true,
    }});
    for protocol in Protocol::ALL {
        match (protocol, frames.get(protocol)) {
            (Protocol::RawV1, Framed::TooLarge(None)) => {}
            (Protocol::UsherV1, Framed::TooLarge(Some(frame))) => {
                let value: Value = serde_json::from_str(&text(&frame)).expect("JSON");
                assert_eq!(value, gap);
            }
            (Protocol::Sse, Framed::TooLarge(Some(frame))) => {
                assert!(frame.starts_with(b"data: {\"gap\":"), "{frame:?}");
            }
            (Protocol::CentrifugeJson, Framed::TooLarge(Some(frame))) => {
                let value: Value = serde_json::from_str(&text(&frame)).expect("JSON");
                let tags = json!({"gap": "too_large"});
                let publication = json!({"data": null, "offset": 122, "tags": tags});
                let push = json!({"channel": "broadcast", "pub": publication});
                assert_eq!(value, json!({ "push": push }));
            }
            (Protocol::CentrifugeProtobuf, Framed::TooLarge(Some(frame))) => {
                let publication = publication(&frame);
                assert_eq!(publication.offset, 122);
                assert_eq!(publication.tags["gap"], "too_large");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a client of the Centrifuge protocol reads of a frame in Protobuf.
fn publication(frame: &[u8]) -> crate::proto::centrifuge::Publication {
    let (is_text, body) = read(frame);
    assert!(!is_text);
    let reply: crate::proto::centrifuge::Reply =
        prost::Message::decode_length_delimited(&*body).expect("a reply");
    let push = reply.push.expect("a push");
    push.r#pub.expect("a publication")
}

#[test]
fn every_protocol_frames_the_same_text() {
    let json = ping(Some(Proof { seq: 7, at: 9 }));
    assert_eq!(text(&Protocol::UsherV1.frame(&json)), json);
    let event = "data: {\"ping\":{\"at\":9,\"seq\":7}}\n\n";
    assert_eq!(Protocol::Sse.frame(&json), event);
    let message = message("{\"a\":\r\n1}");
    let frame = whole(&message, Protocol::Sse);
    let event = "data: {\"event\":\"message\",\"data\":{\"a\":\ndata: 1}}\n\n";
    assert_eq!(frame, event);
}

/// Any bytes, and what looks like JSON with line breaks.
fn payload() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    prop_oneof![
        any::<Vec<u8>>(),
        "[\\[{\"1,:}\\]\n\r ]{0,8}".prop_map(String::into_bytes),
        "\\[\n?1\r?\n?(, \"a\")?\r?\\]\n?".prop_map(String::into_bytes),
    ]
}

proptest::proptest! {
    /// Of the Centrifuge protocol too: one object on one line, and the payload as it is.
    #[test]
    fn no_payload_breaks_a_publication(payload in payload()) {
        let message = message(payload.clone());
        let frame = whole(&message, Protocol::CentrifugeProtobuf);
        proptest::prop_assert_eq!(&publication(&frame).data[..], &payload[..]);
        let text = text(&whole(&message, Protocol::CentrifugeJson));
        proptest::prop_assert!(!text.contains(['\n', '\r']));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let data = &value["push"]["pub"]["data"];
        match std::str::from_utf8(&payload) {
            Err(_) => proptest::prop_assert_eq!(
                BASE64.decode(data["base64"].as_str().expect("text")).expect("base64"),
                payload
            ),
            Ok(text) => match serde_json::from_str::<Value>(text) {
                Ok(json) => proptest::prop_assert_eq!(data, &json),
                Err(_) => proptest::prop_assert_eq!(data.as_str(), Some(text)),
            },
        }
    }

    /// No payload yields a frame that parses as anything but one event
    /// with exactly that payload.
    #[test]
    fn no_payload_breaks_the_framing(payload: Vec<u8>) {
        let frame = whole(&message(payload.clone()), Protocol::UsherV1);
        let value: Value = serde_json::from_str(&text(&frame)).expect("JSON");
        let object = value.as_object().expect("an object");
        proptest::prop_assert_eq!(object.len(), 2);
        proptest::prop_assert_eq!(&object["event"], "message");
        match std::str::from_utf8(&payload) {
            Err(_) => proptest::prop_assert_eq!(
                BASE64.decode(object["base64"].as_str().expect("text")).expect("base64"),
                payload
            ),
            Ok(text) => match serde_json::from_str::<Value>(text) {
                Ok(json) => proptest::prop_assert_eq!(&object["data"], &json),
                Err(_) => proptest::prop_assert_eq!(object["data"].as_str(), Some(text)),
            },
        }
    }
}
