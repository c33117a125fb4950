//! Any body → the order that it is, byte for byte, or what is wrong with it.
//!
//! The input begins with which path reads it; the rest is the body.

#![no_main]

use std::{
    str,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine as _, alphabet::STANDARD, engine};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use usher::api::{PushOrder, fuzzing};
use usher_fuzz::json;

/// The longest text that says what is wrong, in characters.
const LONGEST: usize = 501;

fuzz_target!(|input: &[u8]| {
    let [path, body @ ..] = input else { return };
    let body = Bytes::copy_from_slice(body);
    let members = json::object(&body);
    match path % 5 {
        0 => {
            let read = fuzzing::push(&body, None);
            batched(&body, &read);
            let fields = [
                "user_id",
                "event",
                "message_id",
                "receipt",
                "data",
                "base64",
            ];
            if let Some(value) = judge(&body, &members, &read, &fields) {
                let push = read.expect("a push");
                assert_eq!(value["user_id"], push.user_id);
                assert_eq!(text(&value, "event"), push.event);
                assert_eq!(text(&value, "message_id"), push.message_id);
                assert_eq!(value["receipt"].as_bool().unwrap_or(false), push.receipt);
                payload(&members.expect("an object"), &value, &push.payload);
            }
        }
        1 => {
            let read = fuzzing::broadcast(&body);
            let fields = ["event", "message_id", "data", "base64"];
            if let Some(value) = judge(&body, &members, &read, &fields) {
                let broadcast = read.expect("a broadcast");
                assert_eq!(text(&value, "event"), broadcast.event);
                assert_eq!(text(&value, "message_id"), broadcast.message_id);
                payload(&members.expect("an object"), &value, &broadcast.payload);
            }
        }
        2 => {
            let read = fuzzing::ticket(&body);
            let fields = ["user_id", "ttl", "expires_at", "origin"];
            if let Some(value) = judge(&body, &members, &read, &fields) {
                let ticket = read.expect("a ticket");
                assert_eq!(value["user_id"], ticket.user_id);
                assert_eq!(text(&value, "origin"), ticket.origin);
                let seconds = |name: &str| value[name].as_f64();
                assert_eq!(seconds("ttl"), ticket.ttl.map(|ttl| ttl.as_secs() as f64));
                let at = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH);
                let at = ticket.expires_at.map(|end| at(end).expect("after 1970"));
                assert!(at.is_none_or(|at| at < Duration::from_secs(100_000_000_000)));
                assert_eq!(seconds("expires_at"), at.map(|at| at.as_secs() as f64));
            }
        }
        3 => {
            let read = fuzzing::presence(&body);
            if let Some(value) = judge(&body, &members, &read, &["user_ids"]) {
                let ids = read.expect("ids");
                assert!((1..=1000).contains(&ids.len()));
                assert_eq!(value["user_ids"], Value::from(ids));
            }
        }
        _ => {
            let read = fuzzing::disconnect(&body);
            let fields = ["user_id", "reconnect", "reason"];
            if let Some(value) = judge(&body, &members, &read, &fields) {
                let order = read.expect("an order");
                assert_eq!(value["user_id"], order.user_id);
                assert_eq!(
                    value["reconnect"].as_bool().unwrap_or(false),
                    order.reconnect
                );
                assert_eq!(text(&value, "reason"), order.reason);
            }
        }
    }
});

/// What a body that is an order says, by a reader that knows nothing of orders.
fn judge<T>(
    body: &[u8],
    members: &Option<Vec<(&[u8], &[u8])>>,
    read: &Result<T, String>,
    fields: &[&str],
) -> Option<Value> {
    if let Err(why) = read {
        wrong(body, why);
        return None;
    }
    let value: Value = serde_json::from_slice(body).expect("JSON");
    let known = value.as_object().expect("an object");
    assert!(known.keys().all(|key| fields.contains(&key.as_str())));
    let members = members.as_ref().expect("an object");
    assert_eq!(members.len(), known.len(), "a field that is there twice");
    Some(value)
}

/// What is wrong is said shortly, and at a place that the body has.
fn wrong(body: &[u8], why: &str) {
    assert!(!why.is_empty() && why.chars().count() <= LONGEST, "{why}");
    let Some(place) = why.strip_prefix("line ") else {
        return;
    };
    let (line, rest) = place.split_once(", column ").expect("a column");
    let column = rest.split(':').next().expect("a number");
    let [line, column] = [line, column].map(|number| number.parse::<usize>().expect("a number"));
    let lines: Vec<_> = body.split(|byte| *byte == b'\n').collect();
    assert!((1..=lines.len()).contains(&line), "{why}");
    assert!(column <= lines[line - 1].len() + 1, "{why}");
}

/// A push by itself and as the one push of a batch are the same, or both are none.
fn batched(body: &Bytes, alone: &Result<PushOrder, String>) {
    // Else the batch as a whole may be none, or another one.
    if !str::from_utf8(body).is_ok_and(|_| json::is_value(body)) {
        return;
    }
    let batch = Bytes::from([b"{\"pushes\":[", &body[..], b"]}"].concat());
    let Ok(orders) = fuzzing::pushes(&batch) else {
        // It nests deeper by two.
        return;
    };
    let [order] = &orders[..] else {
        panic!("{} pushes", orders.len());
    };
    let of = |order: &PushOrder| {
        let order = order.clone();
        (
            order.user_id,
            order.event,
            order.message_id,
            order.payload,
            order.receipt,
        )
    };
    match (alone, order) {
        (Ok(alone), Ok(order)) => assert_eq!(of(alone), of(order)),
        (Err(_), Err(why)) => wrong(&batch, why),
        other => panic!("{other:?}"),
    }
}

/// The message's bytes: `data` as they stand, or what `base64` stands for.
fn payload(members: &[(&[u8], &[u8])], value: &Value, payload: &[u8]) {
    if let Some((_, data)) = members.iter().find(|(key, _)| is(key, "data")) {
        assert_eq!(&payload, data);
        assert!(value.get("base64").is_none());
    } else if let Some(text) = value["base64"].as_str() {
        let padding = engine::DecodePaddingMode::Indifferent;
        let config = engine::GeneralPurposeConfig::new().with_decode_padding_mode(padding);
        let decoded = engine::GeneralPurpose::new(&STANDARD, config).decode(text);
        assert_eq!(decoded.as_deref(), Ok(payload));
    } else {
        assert!(payload.is_empty());
    }
}

/// Whether a key is this one, however it is written.
fn is(key: &[u8], name: &str) -> bool {
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key == name)
}

/// A text of the body; empty where there is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
