//! The protocol by hand: what the SDKs never show.

use serde_json::{Value, json};

use super::{durable, speaking};
use crate::support::{
    Client, Gateway, RawWs, Redis, http,
    raw_ws::{BINARY, TEXT, frame},
    servers,
};

const PATH: &str = "/connection/websocket";

/// A WebSocket that has said nothing yet.
pub(super) async fn raw(gateway: &Gateway) -> RawWs {
    Client::builder(gateway, "")
        .path(PATH)
        .no_ticket()
        .protocols(&[])
        .raw()
        .await
}

/// The same for Protobuf.
pub(super) async fn raw_protobuf(gateway: &Gateway) -> RawWs {
    let builder = Client::builder(gateway, "").path(PATH).no_ticket();
    builder.protocols(&["centrifuge-protobuf"]).raw().await
}

/// Sends the `connect` of a session in Protobuf, by hand.
pub(super) async fn connect_in_protobuf(socket: &mut RawWs, redis: &Redis, user: &str) {
    let data = json!({"ticket": redis.ticket(user).await}).to_string();
    let mut connect = vec![0x12, data.len() as u8];
    connect.extend(data.bytes());
    let mut command = vec![8, 1, 0x22, connect.len() as u8];
    command.extend(connect);
    command.insert(0, command.len() as u8);
    socket.write(&frame(BINARY, &command)).await;
}

pub(super) async fn say(socket: &mut RawWs, text: &str) {
    socket.write(&frame(TEXT, text.as_bytes())).await;
}

/// The next JSON object.
pub(super) async fn reply(socket: &mut RawWs) -> Value {
    loop {
        let frame = socket.read().await.expect("a frame");
        if frame.opcode() == TEXT {
            return serde_json::from_str(&frame.text()).expect("JSON");
        }
        assert_ne!(frame.opcode(), 8, "{:?}", frame.payload);
    }
}

/// A session by this ticket, and the answer to its `connect`, which recovers these.
pub(super) async fn connect_with(gateway: &Gateway, ticket: &str, subs: Value) -> (RawWs, Value) {
    let mut socket = raw(gateway).await;
    let connect = json!({"data": {"ticket": ticket}, "subs": subs});
    let connect = json!({"id": 1, "connect": connect});
    say(&mut socket, &connect.to_string()).await;
    let answer = reply(&mut socket).await;
    (socket, answer)
}

pub(super) async fn connected(gateway: &Gateway, redis: &Redis, user: &str) -> RawWs {
    let mut socket = raw(gateway).await;
    let ticket = redis.ticket(user).await;
    let connect = json!({"id": 1, "connect": {"data": {"ticket": ticket}}});
    say(&mut socket, &connect.to_string()).await;
    assert_eq!(reply(&mut socket).await["id"], 1);
    socket
}

async fn ends(mut socket: RawWs) -> (u16, String) {
    let (code, reason, _) = socket.expect_close().await;
    (code, reason)
}

#[tokio::test]
async fn the_path_is_there_only_where_it_is_asked_for() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let answer = http::get(&gateway.public, PATH, &[]).await;
    answer.assert_refused(404, "not_found");

    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    http::get(&gateway.public, PATH, &[])
        .await
        .assert_refused(426, "upgrade_required");
    let builder = || Client::builder(&gateway, "").path(PATH).no_ticket();
    let refused = builder().protocols(&["usher.v1"]).refused().await;
    refused.assert_refused(400, "bad_request");
    // And `/ws` does not speak it.
    let refused = Client::builder(&gateway, &redis.ticket("42").await);
    let refused = refused.protocols(&["centrifuge-protobuf"]).refused().await;
    refused.assert_refused(400, "protocol_unknown");
}

#[tokio::test]
async fn connect_says_all_that_an_sdk_needs() {
    let (_nats, redis, gateway) = durable(&[("session.ping_interval", "7s")]).await;
    let mut socket = raw(&gateway).await;
    let ticket = redis.ticket("42").await;
    let connect =
        json!({"id": 5, "connect": {"data": {"ticket": ticket, "mine": 1}, "name": "js"}});
    // Commands of one message may be divided by any number of line breaks.
    let both = format!("\n{connect}\n\n{{\"id\":6,\"rpc\":{{\"method\":\"a\"}}}}\n");
    say(&mut socket, &both).await;
    let mut answer = reply(&mut socket).await;
    let connect = &mut answer["connect"];
    let epoch = connect["subs"]["#42"]["epoch"].clone();
    assert!(epoch.as_str().is_some_and(|epoch| !epoch.is_empty()));
    assert!(connect["client"].as_str().is_some_and(|id| id.len() == 26));
    assert!(
        connect["node"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    );
    connect["client"] = "".into();
    connect["node"] = "".into();
    let sub = json!({"recoverable": true, "positioned": true, "epoch": epoch});
    let expected = json!({"id": 5, "connect": {
        "client": "", "node": "", "expires": false, "ping": 7, "pong": true,
        "subs": {"#42": sub, "broadcast": sub}}});
    assert_eq!(answer, expected);
    let answer = reply(&mut socket).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(6), &json!(103))
    );
}

/// A ticket that opens nothing may be followed by one that does; a missing one not.
#[tokio::test]
async fn refusals_say_whether_to_try_again() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("public.allowed_origins", "https://app.example.com")
        .start()
        .await;
    let bound = json!({"user_id": "42", "origin": "https://app.example.com"});
    let bound = redis.ticket_json(bound).await;
    for (ticket, code) in [
        ("unknown-ticket-that-nobody-wrote", "ticket_unknown"),
        ("short", "ticket_malformed"),
        (&bound, "ticket_binding"),
    ] {
        let mut socket = raw(&gateway).await;
        let connect = json!({"id": 1, "connect": {"data": {"ticket": ticket}}});
        say(&mut socket, &connect.to_string()).await;
        let answer = reply(&mut socket).await;
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!(100), &json!(true))
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with(code), "{message}");
        // The SDK closes then; a client that does not is closed.
        assert_eq!(ends(socket).await, (3000, code.to_owned()));
        let label = format!("usher_admissions_total{{result=\"{code}\"}}");
        gateway.metric_becomes(&label, 1.0).await;
    }
    let ticket = redis.ticket("42").await;
    for (connect, code) in [
        (json!({}), "ticket_missing"),
        (json!({"data": {"other": 1}}), "ticket_missing"),
        (json!({"token": "a.b.c"}), "ticket_missing"),
    ] {
        let mut socket = raw(&gateway).await;
        let connect = json!({"id": 1, "connect": connect});
        say(&mut socket, &connect.to_string()).await;
        assert_eq!(ends(socket).await, (3500, code.to_owned()));
    }
    let foreign = Client::builder(&gateway, "").path(PATH).no_ticket();
    let mut socket = foreign
        .origin("https://evil.example")
        .protocols(&[])
        .raw()
        .await;
    let connect = json!({"id": 1, "connect": {"data": {"ticket": ticket}}});
    say(&mut socket, &connect.to_string()).await;
    assert_eq!(ends(socket).await, (3500, "origin_denied".to_owned()));
    assert!(
        redis.exists(&ticket).await,
        "nothing of this consumes a ticket"
    );
}

/// A message that is too large is told in its place, also when it is sent again.
#[tokio::test]
async fn a_message_that_is_too_large_closes_nothing() {
    let (nats, redis, gateway) = durable(&[("session.max_outgoing_frame", "1KiB")]).await;
    let mut socket = connected(&gateway, &redis, "42").await;
    let publisher = nats.client().await;
    let large = json!("x".repeat(2000)).to_string();
    crate::durable::store(&publisher, "usher.user.42", &large).await;
    crate::durable::store(&publisher, "usher.user.42", 2).await;
    let gap = json!({"push": {"channel": "#42",
        "pub": {"data": null, "offset": 1, "tags": {"gap": "too_large"}}}});
    let next = json!({"push": {"channel": "#42",
        "pub": {"data": 2, "offset": 2, "tags": {"event": "message"}}}});
    assert_eq!(reply(&mut socket).await, gap);
    assert_eq!(reply(&mut socket).await, next);

    let mut socket = raw(&gateway).await;
    let mut asked = json!({"id": 1, "connect": {"data": {"ticket": redis.ticket("43").await}}});
    say(&mut socket, &asked.to_string()).await;
    let epoch = reply(&mut socket).await["connect"]["subs"]["broadcast"]["epoch"].clone();
    asked["connect"] = json!({
        "data": {"ticket": redis.ticket("42").await},
        "subs": {"#42": {"recover": true, "epoch": epoch},
            // Another user's place is nobody's here.
            "#43": {"recover": true, "epoch": epoch}}});
    let mut socket = raw(&gateway).await;
    say(&mut socket, &asked.to_string()).await;
    let answer = reply(&mut socket).await;
    let subs = &answer["connect"]["subs"];
    assert_eq!(subs["#42"]["recovered"], true, "{answer}");
    assert!(
        subs["#42"]["offset"].is_null(),
        "its own, which is 0: {answer}"
    );
    assert_eq!(subs["broadcast"]["offset"], 2, "{answer}");
    assert!(subs["broadcast"]["was_recovering"].is_null());
    assert!(subs["#43"].is_null(), "{answer}");
    assert_eq!(reply(&mut socket).await, gap);
    assert_eq!(reply(&mut socket).await, next);
}

/// `{}` comes at its time whatever else is sent, and as often in Protobuf.
#[tokio::test]
async fn pings_come_whatever_else_is_sent() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.ping_interval", "300ms")
        .start()
        .await;
    let mut socket = connected(&gateway, &redis, "42").await;
    let (mut pings, mut pushes) = (0, 0);
    while pings < 3 {
        nats.publish("usher.user.42", "1").await;
        match reply(&mut socket).await {
            ping if ping == json!({}) => {
                pings += 1;
                say(&mut socket, "{}").await;
            }
            push => pushes += i32::from(push["push"].is_object()),
        }
    }
    assert!(pushes > 0);

    let mut socket = raw_protobuf(&gateway).await;
    connect_in_protobuf(&mut socket, &redis, "42").await;
    let mut seen = Vec::new();
    while seen
        .iter()
        .filter(|payload: &&Vec<u8>| ***payload == [0])
        .count()
        < 2
    {
        let frame = socket.read().await.expect("a frame");
        if frame.opcode() == BINARY {
            seen.push(frame.payload);
        }
    }
    assert!(
        seen[0].len() > 50,
        "the answer to connect comes first: {seen:?}"
    );
}
