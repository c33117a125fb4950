//! Every 'no' to a request for events: as for a WebSocket, and readable by the pages
//! that may come.

use crate::support::{
    Client, Events, Gateway, Redis, Response, eventually, http, secret, servers, sse::Builder,
    world,
};

const APP: &str = "https://app.example.com";

#[tokio::test]
async fn a_request_has_a_form() {
    let (_nats, redis, gateway) = world().await;
    let ticket = secret(&redis.ticket("42").await);
    let path = format!("/events?ticket={ticket}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let headers = [("Content-Length", "0")];
        let answer = http::request(method, &gateway.public, &path, &headers).await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let body = http::head("GET", &gateway.public, &path, &[("Content-Length", "3")]) + "abc";
    http::raw(&gateway.public, body.as_bytes())
        .await
        .assert_refused(400, "bad_request");

    let good = || Events::builder(&gateway, &ticket);
    for builder in [
        good().since("x"),
        good().since(""),
        good().since("0").since("0"),
        good().header("Last-Event-ID", "121"),
        good().header("Last-Event-ID", "k3f9.x").since("0"),
        good()
            .header("Last-Event-ID", "0")
            .header("Last-Event-ID", "0"),
        good().header("Last-Event-ID", "κ.1"),
    ] {
        builder
            .refused()
            .await
            .assert_refused(400, "since_malformed");
    }
    let authorization = format!("Usher-Ticket {ticket}");
    good()
        .header("Authorization", &authorization)
        .refused()
        .await
        .assert_refused(400, "bad_request");
    assert!(
        redis.exists(&ticket).await,
        "nothing of that burns a ticket"
    );
}

#[tokio::test]
async fn a_ticket_is_asked_for() {
    let (_nats, redis, gateway) = world().await;
    let nobody = || Events::nobody(&gateway);
    nobody()
        .refused()
        .await
        .assert_refused(401, "ticket_missing");
    nobody()
        .query("ticket", "0123456789abcdef*")
        .refused()
        .await
        .assert_refused(400, "ticket_malformed");
    nobody()
        .query("ticket", "0123456789abcdef")
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    // A sub-protocol is a WebSocket's.
    let ticket = redis.ticket("42").await;
    let protocol = format!("usher.v1, usher.ticket.{ticket}");
    nobody()
        .header("Sec-WebSocket-Protocol", &protocol)
        .refused()
        .await
        .assert_refused(401, "ticket_missing");
    assert!(redis.exists(&ticket).await);
    gateway
        .metric_becomes(r#"usher_admissions_total{result="ticket_missing"}"#, 2.0)
        .await;
}

/// Each request breaks one rule and all that come after it; the answer names the
/// first, and no ticket is burnt.
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
    let evil = |builder: Builder| builder.origin("https://evil.example");
    let bad = || evil(Events::nobody(&gateway).query("ticket", bad_shape));

    let answer = http::request("PUT", &gateway.public, "/events?since=x", &[]).await;
    answer.assert_refused(405, "method_not_allowed");
    bad()
        .since("x")
        .refused()
        .await
        .assert_refused(400, "since_malformed");
    bad().refused().await.assert_refused(403, "origin_denied");

    redis.pause();
    let builder = Events::nobody(&gateway).query("ticket", bad_shape);
    builder
        .refused()
        .await
        .assert_refused(400, "ticket_malformed");
    redis.resume();

    // Full: whatever holds the place.
    let inside = Events::open(&gateway, &redis.ticket("1").await).await;
    let good = || evil(Events::builder(&gateway, &ticket));
    good().refused().await.assert_refused(503, "full");
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "full");
    drop(inside);
    gateway.metric_becomes("usher_sessions", 0.0).await;
    eventually("the place is free", || async {
        good().refused().await.status == 403
    })
    .await;
    let _inside = Client::open(&gateway, &redis.ticket("1").await).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    good().refused().await.assert_refused(503, "full");

    gateway.terminate();
    gateway.becomes_unready().await;
    let good = || evil(Events::builder(&gateway, &ticket));
    eventually("newcomers are told that it drains", || async {
        good().refused().await.json()["error"]["code"] == "draining"
    })
    .await;
    good()
        .since("x")
        .refused()
        .await
        .assert_refused(400, "since_malformed");
    assert!(
        redis.exists(&ticket).await,
        "nothing before Redis burns a ticket"
    );
}

#[tokio::test]
async fn whoever_is_refused_too_often_has_to_wait() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("public.refusals_per_second_per_ip", "1");
    let gateway = gateway.start().await;
    let mut refusals = 0;
    loop {
        let answer = Events::nobody(&gateway).refused().await;
        if answer.status == 429 {
            answer.assert_refused(429, "too_many");
            break;
        }
        refusals += 1;
        assert!(refusals < 1000, "a thousand refusals at once are too many");
    }
}

/// A gateway that lets in pages of one origin.
async fn for_one_page(redis: &Redis, nats: &crate::support::Nats) -> Gateway {
    let builder = Gateway::builder(nats, redis).set("public.allowed_origins", APP);
    builder.start().await
}

fn is_shared(answer: &Response) {
    let is = |name, value| assert_eq!(answer.header(name), Some(value), "{answer:?}");
    is("access-control-allow-origin", APP);
    is("access-control-expose-headers", "Retry-After");
    is("vary", "Origin");
}

fn is_not_shared(answer: &Response) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        None,
        "{answer:?}"
    );
    assert_eq!(answer.header("vary"), Some("Origin"), "{answer:?}");
}

#[tokio::test]
async fn pages_of_allowed_origins_read_events_and_refusals() {
    let (nats, redis) = servers().await;
    let gateway = for_one_page(&redis, &nats).await;
    let ticket = redis.ticket("42").await;
    let builder = || Events::builder(&gateway, &ticket);
    let refusal = builder().origin("https://evil.example").refused().await;
    refusal.assert_refused(403, "origin_denied");
    is_not_shared(&refusal);
    let refusal = builder().origin(APP).since("x").refused().await;
    refusal.assert_refused(400, "since_malformed");
    is_shared(&refusal);

    is_shared(&builder().origin(APP).open().await.response);
    let refusal = builder().origin(APP).refused().await;
    refusal.assert_refused(401, "ticket_unknown");
    is_shared(&refusal);
    // Not a browser.
    let ticket = redis.ticket("42").await;
    is_not_shared(&Events::open(&gateway, &ticket).await.response);
}

#[tokio::test]
async fn a_browser_may_ask_beforehand() {
    let (nats, redis) = servers().await;
    let gateway = for_one_page(&redis, &nats).await;
    let preflight = async |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            (
                "Access-Control-Request-Headers",
                "authorization,last-event-id",
            ),
        ];
        http::request("OPTIONS", &gateway.public, "/events", &headers).await
    };
    let answer = preflight(APP).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    is_shared(&answer);
    for (name, allowed) in [
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-headers", "Authorization"),
        ("access-control-allow-headers", "Last-Event-ID"),
    ] {
        let value = answer.header(name);
        assert!(value.is_some_and(|v| v.contains(allowed)), "{answer:?}");
    }
    let answer = preflight("https://evil.example").await;
    answer.assert_refused(403, "origin_denied");
    is_not_shared(&answer);
}
