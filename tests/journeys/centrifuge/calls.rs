//! `rpc` is a call.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::{
    Kind, Sdk, speaking,
    wire::{connect_with, reply, say},
};
use crate::{
    calls::service::{Service, header},
    support::{Gateway, RawWs, servers},
};

fn rpc(id: u32, method: &str) -> String {
    let call = json!({"method": method, "data": {"n": id}});
    json!({"id": id, "rpc": call}).to_string()
}

async fn error_of(socket: &mut RawWs, asked: &str) -> (u64, bool, String) {
    say(socket, asked).await;
    error(reply(socket).await)
}

fn error(answer: Value) -> (u64, bool, String) {
    let error = &answer["error"];
    (
        error["code"].as_u64().expect("a code"),
        error["temporary"] == true,
        error["message"].as_str().expect("a message").to_owned(),
    )
}

#[tokio::test]
async fn a_call_is_answered_and_its_errors_have_codes() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("calls.timeout", "500ms")
        .set("calls.max_in_flight", "1")
        .set("session.max_outgoing_frame", "4KiB")
        .start()
        .await;
    let mut service = Service::of(&nats, "orders.*").await;
    let value = json!({"user_id": "42", "calls": ["orders.*", "nobody"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, connected) = connect_with(&gateway, &ticket, json!({})).await;
    let session = connected["connect"]["client"].clone();

    say(&mut socket, &rpc(7, "orders.cancel")).await;
    let asked = service.next().await;
    assert_eq!(&asked.payload[..], br#"{"n":7}"#);
    assert_eq!(header(&asked, "Usher-User"), "42");
    assert_eq!(header(&asked, "Usher-Session"), session);
    // One more than may be under way.
    let (code, temporary, message) = error_of(&mut socket, &rpc(8, "orders.cancel")).await;
    assert_eq!((code, temporary), (111, true));
    assert!(message.starts_with("too_many: "), "{message}");
    service.answer(&asked, "[1,\n2]").await;
    assert_eq!(
        reply(&mut socket).await,
        json!({"id": 7, "rpc": {"data": [1, 2]}})
    );

    for name in ["admin.reset", "a..b", ""] {
        let (code, _, message) = error_of(&mut socket, &rpc(9, name)).await;
        assert_eq!(code, 103, "{name:?}");
        assert!(message.starts_with("forbidden: "), "{message}");
    }
    let (code, _, message) = error_of(&mut socket, &rpc(10, "nobody")).await;
    assert_eq!(code, 104);
    assert!(message.starts_with("no_responders: "), "{message}");
    let (code, temporary, message) = error_of(&mut socket, &rpc(11, "orders.slow")).await;
    assert_eq!((code, temporary), (100, true));
    assert!(message.starts_with("timeout: "), "{message}");
    service.next().await;
    for (own, code) in [
        ("409", 409),
        ("1999", 1999),
        ("2000", 400),
        ("399", 400),
        ("shipped", 400),
    ] {
        say(&mut socket, &rpc(12, "orders.cancel")).await;
        let asked = service.next().await;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error-Code", own);
        headers.insert("Nats-Service-Error", "it is gone");
        service.answer_with(&asked, headers, "").await;
        let (found, temporary, message) = error(reply(&mut socket).await);
        assert_eq!((found, temporary), (code, false), "{own}");
        assert_eq!(message, format!("{own}: it is gone"));
    }
    say(&mut socket, &rpc(13, "orders.list")).await;
    let asked = service.next().await;
    service
        .answer(&asked, json!("x".repeat(5000)).to_string())
        .await;
    let (code, _, message) = error(reply(&mut socket).await);
    assert_eq!(code, 107);
    assert!(message.starts_with("too_large: "), "{message}");
}

/// Bytes as the client sent them; none are sent without `data`.
#[tokio::test]
async fn a_service_gets_null_where_that_was_sent() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let mut service = Service::of(&nats, "a").await;
    let ticket = redis.ticket_json(json!({"user_id": "42", "calls": ["a"]}));
    let (mut socket, _) = connect_with(&gateway, &ticket.await, json!({})).await;
    for (call, payload) in [
        (json!({"method": "a", "data": null}), "null"),
        (json!({"method": "a"}), ""),
    ] {
        say(&mut socket, &json!({"id": 2, "rpc": call}).to_string()).await;
        assert_eq!(service.next().await.payload, payload);
    }
}

#[tokio::test]
async fn every_sdk_calls_a_service() {
    call_a_service(&Kind::ALL).await;
}

pub(super) async fn call_a_service(kinds: &[Kind]) {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let service = Service::of(&nats, "demo.*").await.echoes();
    for &kind in kinds {
        let more = json!({"grants": {"calls": ["demo.*"]},
            "call": [["demo.echo", {"a": "ü"}], ["other", {}]]});
        let sdk = Sdk::with(kind, &gateway, "42", &gateway.public, more);
        sdk.sees("answer", 2).await;
        let answers = sdk.all("answer");
        let data = match kind.is_protobuf() {
            false => json!({"a": "ü"}),
            // Its bytes, each as a character.
            true => json!("{\"a\":\"Ã¼\"}"),
        };
        assert_eq!(answers[0]["data"], data, "{kind:?}");
        assert_eq!(answers[1]["code"], 103, "{kind:?}");
    }
    service.abort();
}
