//! Every 'no' before the upgrade: its form, its place in the order of checks,
//! and that a ticket survives all that comes before Redis.

mod heads;
mod logged;
mod origins;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Client, Gateway, Nats, Redis, client::Builder, eventually, http, servers, wait::patiently,
    world,
};

/// The headers of a good handshake.
const HANDSHAKE: [(&str, &str); 5] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "usher.v1"),
];

/// A good handshake with one header put otherwise, or left out (`""`).
fn handshake_but<'a>(name: &str, value: &'a str) -> Vec<(&'static str, &'a str)> {
    let mut headers = HANDSHAKE.to_vec();
    for header in &mut headers {
        if header.0 == name {
            header.1 = value;
        }
    }
    headers.retain(|(_, value)| !value.is_empty());
    headers
}

#[tokio::test]
async fn other_methods_are_told_which_one_is_right() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let path = format!("/ws?ticket={ticket}");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let headers = [&HANDSHAKE[..], &[("Content-Length", "0")]].concat();
        let answer = http::request(method, &gateway.public, &path, &headers).await;
        answer.assert_refused(405, "method_not_allowed");
    }
    assert!(redis.exists(&ticket).await);
}

#[tokio::test]
async fn whoever_asks_without_an_upgrade_is_told_to() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let path = format!("/ws?ticket={ticket}");
    for headers in [
        vec![],
        handshake_but("Connection", ""),
        handshake_but("Connection", "keep-alive"),
        handshake_but("Upgrade", ""),
        handshake_but("Upgrade", "h2c"),
        handshake_but("Sec-WebSocket-Version", ""),
        handshake_but("Sec-WebSocket-Version", "8"),
    ] {
        let answer = http::get(&gateway.public, &path, &headers).await;
        answer.assert_refused(426, "upgrade_required");
    }
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ"] {
        let headers = handshake_but("Sec-WebSocket-Key", key);
        http::get(&gateway.public, &path, &headers)
            .await
            .assert_refused(400, "bad_request");
    }
    // A proxy that takes another one of the two would expect another answer.
    for keys in [
        ["dGhlIHNhbXBsZSBub25jZQ=="; 2],
        ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA=="],
    ] {
        let mut headers = handshake_but("Sec-WebSocket-Key", keys[0]);
        headers.push(("Sec-WebSocket-Key", keys[1]));
        http::get(&gateway.public, &path, &headers)
            .await
            .assert_refused(400, "bad_request");
    }
    assert!(redis.exists(&ticket).await);
}

/// A connection carries one request, whatever is answered: so nobody keeps a permit of
/// `public.max_pending` by asking again and again.
#[tokio::test]
async fn a_connection_ends_with_the_advice_to_upgrade() {
    let (nats, redis) = servers().await;
    // Nothing else ends the connection while this test runs.
    let builder = Gateway::builder(&nats, &redis).set("public.handshake_timeout", "10m");
    let gateway = builder.start().await;
    let mut stream = TcpStream::connect(&gateway.public)
        .await
        .expect("a connection");
    let request = http::head("GET", &gateway.public, "/ws", &[]);
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut buffer = Vec::new();
    let answer = http::read(&mut stream, &mut buffer).await;
    answer.assert_refused(426, "upgrade_required");
    let rest = patiently("the connection ends", stream.read_to_end(&mut buffer)).await;
    assert_eq!(rest.expect("an end"), 0);
    let said = answer.header("connection");
    assert_eq!(said, Some("Upgrade, close"), "{answer:?}");
}

#[tokio::test]
async fn a_handshake_brings_no_body() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let path = format!("/ws?ticket={ticket}");
    for (header, body) in [
        (("Content-Length", "3"), "abc"),
        (("Transfer-Encoding", "chunked"), "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let headers = [&HANDSHAKE[..], &[header]].concat();
        let request = http::head("GET", &gateway.public, &path, &headers) + body;
        http::raw(&gateway.public, request.as_bytes())
            .await
            .assert_refused(400, "bad_request");
    }
    assert!(redis.exists(&ticket).await);
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    for path in ["/", "/nope", "/ws/more", "/WS", "/metrics", "/status"] {
        let path = format!("{path}?ticket={ticket}");
        let answer = http::get(&gateway.public, &path, &HANDSHAKE).await;
        answer.assert_refused(404, "not_found");
    }
    assert!(redis.exists(&ticket).await);
}

#[tokio::test]
async fn sub_protocols_that_nobody_speaks_are_refused() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let in_protocol = format!("usher.ticket.{ticket}");
    for protocols in [&["usher.v2"][..], &["graphql-ws", "mqtt"], &["USHER.V1"]] {
        let answer = Client::builder(&gateway, &ticket)
            .protocols(protocols)
            .refused()
            .await;
        answer.assert_refused(400, "protocol_unknown");
    }
    for protocols in [&[&*in_protocol][..], &["mqtt", &in_protocol]] {
        let builder = Client::builder(&gateway, "")
            .no_ticket()
            .protocols(protocols);
        builder
            .refused()
            .await
            .assert_refused(400, "protocol_unknown");
    }
    assert!(redis.exists(&ticket).await);
}

#[tokio::test]
async fn a_position_has_a_form() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    for since in [
        "", "1", "-1", "k3f9", "k3f9.", ".5", "k3f9.x", "k3f9.1.2", "k3f9.-1", "k3f9.+1",
    ] {
        let answer = Client::builder(&gateway, &ticket)
            .since(since)
            .refused()
            .await;
        answer.assert_refused(400, "since_malformed");
    }
    for since in ["k3f9.18446744073709551616", "%00.1", "k3f9.1%20", "0%20"] {
        let answer = Client::builder(&gateway, &ticket)
            .since(since)
            .refused()
            .await;
        answer.assert_refused(400, "since_malformed");
    }
    assert!(redis.exists(&ticket).await);
}

/// Each request breaks one rule and all that come after it; the answer names
/// the first, and no ticket is burnt.
#[tokio::test]
async fn checks_come_in_the_contracts_order() {
    let (mut nats, mut redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions", "1")
        .set("drain.delay", "0s")
        .set("drain.window", "8s")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let bad_shape = "0123456789abcdef*";

    let bad_origin = |builder: Builder| builder.origin("https://evil.example");
    let all_bad = || {
        let builder = Client::builder(&gateway, "")
            .no_ticket()
            .query("ticket", bad_shape);
        bad_origin(builder).since("x").protocols(&["mqtt"])
    };

    // While all is well: the request's own faults.
    let answer = http::request("PUT", &gateway.public, "/ws?since=x", &[]).await;
    answer.assert_refused(405, "method_not_allowed");
    let headers = [("Sec-WebSocket-Protocol", "mqtt")];
    let answer = http::get(&gateway.public, "/ws?since=x", &headers).await;
    answer.assert_refused(426, "upgrade_required");
    all_bad()
        .refused()
        .await
        .assert_refused(400, "protocol_unknown");
    all_bad()
        .protocols(&["usher.v1"])
        .refused()
        .await
        .assert_refused(400, "since_malformed");
    let bad = Client::builder(&gateway, "")
        .no_ticket()
        .query("ticket", bad_shape);
    bad_origin(bad)
        .refused()
        .await
        .assert_refused(403, "origin_denied");

    // Redis is away, and the shape is still looked at first.
    redis.pause();
    let bad = Client::builder(&gateway, "")
        .no_ticket()
        .query("ticket", bad_shape);
    bad.refused().await.assert_refused(400, "ticket_malformed");
    Client::builder(&gateway, "")
        .no_ticket()
        .refused()
        .await
        .assert_refused(401, "ticket_missing");
    redis.resume();

    // NATS is away: before the origin.
    let mut inside = Client::open(&gateway, &redis.ticket("1").await).await;
    inside.close(1000).await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let answer = bad_origin(Client::builder(&gateway, &ticket))
        .refused()
        .await;
    answer.assert_refused(503, "unavailable");
    nats.restart().await;
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
        .await;

    // Full: before NATS. A session stays when NATS goes.
    let _inside = Client::open(&gateway, &redis.ticket("1").await).await;
    bad_origin(Client::builder(&gateway, &ticket))
        .refused()
        .await
        .assert_refused(503, "full");
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    bad_origin(Client::builder(&gateway, &ticket))
        .refused()
        .await
        .assert_refused(503, "full");

    // Draining: before full, and after since.
    gateway.terminate();
    gateway.becomes_unready().await;
    eventually("newcomers are told that it drains", || async {
        let answer = bad_origin(Client::builder(&gateway, &ticket))
            .refused()
            .await;
        answer.json()["error"]["code"] == "draining"
    })
    .await;
    bad_origin(Client::builder(&gateway, &ticket))
        .refused()
        .await
        .assert_refused(503, "draining");
    let answer = Client::builder(&gateway, &ticket)
        .since("x")
        .refused()
        .await;
    answer.assert_refused(400, "since_malformed");

    assert!(
        redis.exists(&ticket).await,
        "nothing before Redis burns a ticket"
    );
}

/// What NATS does not let a gateway subscribe to, no session is welcomed on.
#[tokio::test]
async fn a_user_whom_nats_forbids_is_unavailable() {
    let nats = Nats::start_with(
        r#"authorization { users: [
            { user: gateway, password: secret-of-the-gateway, permissions: {
                publish: ">", subscribe: { allow: ">", deny: "usher.user.forbidden" } } }
        ] }"#,
    )
    .await
    .log_in_as("gateway", "secret-of-the-gateway");
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", "gateway")
        .set("nats.password", "secret-of-the-gateway")
        .start()
        .await;
    for _ in 0..2 {
        let ticket = redis.ticket("forbidden").await;
        Client::builder(&gateway, &ticket)
            .refused()
            .await
            .assert_refused(503, "unavailable");
    }
    // Others are let in, and stay.
    let mut other = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("forbidden").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    nats.publish("usher.user.42", "1").await;
    assert_eq!(other.next_data().await, 1);
    assert!(!gateway.log().contains("secret-of-the-gateway"));
}

/// A server that takes a SUB and answers nothing has confirmed nothing.
#[tokio::test]
async fn nobody_is_welcomed_before_nats_has_confirmed() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let ticket = redis.ticket("42").await;
    nats.pause();
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    nats.resume();
    eventually("doors open again", || async {
        Client::try_open(&gateway, &redis.ticket("42").await)
            .await
            .is_ok()
    })
    .await;
}
