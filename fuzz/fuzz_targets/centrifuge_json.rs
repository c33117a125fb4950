//! Whatever a client of the Centrifuge protocol says in JSON → commands that say the same, or
//! the end of its session.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tungstenite::Message;
use usher::{
    close::CloseReason,
    frame::Protocol,
    http::fuzzing::commands,
    proto::centrifuge::{Command, SubscribeRequest},
};
use usher_fuzz::{centrifuge, json};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let message = Message::text(text);
    let crossed = commands(Protocol::CentrifugeProtobuf, &message);
    assert_eq!(crossed, Err(CloseReason::BadFrame));
    let read = match commands(Protocol::CentrifugeJson, &message) {
        Ok(read) => read,
        Err(CloseReason::BadFrame) => return,
        Err(CloseReason::TooManyFrames) => {
            // The shortest command is `{}`.
            assert!(text.len() > 2 * centrifuge::MOST);
            return;
        }
        Err(other) => panic!("{other:?}"),
    };
    assert!(read.len() <= centrifuge::MOST);
    let written = json::values(input).expect("JSON, one value after the other");
    assert_eq!(written.len(), read.len());
    for (text, command) in written.into_iter().zip(&read) {
        // serde_json's values know no number that is too large.
        if let Ok(value) = serde_json::from_slice(text) {
            says(&value, command);
        }
    }
    centrifuge::survive_protobuf(&read);
});

/// A command is what its JSON says. serde reads an array as well, member by member.
fn says(value: &Value, command: &Command) {
    if !value.is_object() {
        return;
    }
    assert_eq!(value["id"].as_u64().unwrap_or(0), u64::from(command.id));
    for (name, is_there) in [
        ("connect", command.connect.is_some()),
        ("subscribe", command.subscribe.is_some()),
        ("unsubscribe", command.unsubscribe.is_some()),
        ("publish", command.publish.is_some()),
        ("presence", command.presence.is_some()),
        ("presence_stats", command.presence_stats.is_some()),
        ("history", command.history.is_some()),
        ("ping", command.ping.is_some()),
        ("send", command.send.is_some()),
        ("rpc", command.rpc.is_some()),
        ("refresh", command.refresh.is_some()),
        ("sub_refresh", command.sub_refresh.is_some()),
    ] {
        assert_eq!(!value[name].is_null(), is_there, "{name}");
    }
    let object = |name: &str| Some(&value[name]).filter(|body| body.is_object());
    if let Some((body, connect)) = object("connect").zip(command.connect.as_ref()) {
        assert_eq!(text(body, "token"), connect.token);
        holds(&body["data"], &connect.data);
        if let Some(subs) = body["subs"].as_object() {
            assert_eq!(subs.len(), connect.subs.len());
            for (channel, sub) in subs {
                subscribes(sub, &connect.subs[channel]);
            }
        }
    }
    if let Some((body, subscribe)) = object("subscribe").zip(command.subscribe.as_ref()) {
        subscribes(body, subscribe);
    }
    if let Some((body, unsubscribe)) = object("unsubscribe").zip(command.unsubscribe.as_ref()) {
        assert_eq!(text(body, "channel"), unsubscribe.channel);
    }
    if let Some((body, rpc)) = object("rpc").zip(command.rpc.as_ref()) {
        assert_eq!(text(body, "method"), rpc.method);
        holds(&body["data"], &rpc.data);
    }
    if let Some((body, refresh)) = object("refresh").zip(command.refresh.as_ref()) {
        assert_eq!(text(body, "token"), refresh.token);
    }
}

fn subscribes(body: &Value, sub: &SubscribeRequest) {
    if body.is_object() {
        assert_eq!(text(body, "channel"), sub.channel);
        assert_eq!(body["recover"].as_bool().unwrap_or(false), sub.recover);
        assert_eq!(text(body, "epoch"), sub.epoch);
        assert_eq!(body["offset"].as_u64().unwrap_or(0), sub.offset);
    }
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}

/// The data is this JSON; `null` is none.
fn holds(value: &Value, data: &[u8]) {
    match value {
        Value::Null => assert_eq!(data, b""),
        value => {
            let data: Value = serde_json::from_slice(data).expect("JSON");
            assert_eq!(data, *value);
        }
    }
}
