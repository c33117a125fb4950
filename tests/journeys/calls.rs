//! Calls: what a client asks a service for through the gateway, over real NATS.

mod bounds;
mod faults;
mod odd;
pub(crate) mod service;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{
    HeaderMap,
    service::{ServiceExt as _, error},
};
use futures_util::StreamExt as _;
use serde_json::json;

use self::service::{Service, answer, call, caller, fails, header, ticket, works};
use crate::{
    support::{
        Builder, Client, Events, Frame, Gateway, RawNats, eventually, http, nats::Role, servers,
        world,
    },
    talking::{ask, is_error},
};

#[tokio::test]
async fn a_call_is_a_request_with_the_clients_own_bytes() {
    let (nats, redis, gateway) = world().await;
    let mut service = Service::of(&nats, "orders.*").await;
    let mut client = caller(&gateway, &redis, "bob@example.com").await;
    let session = client.welcome()["session"].clone();
    let began = SystemTime::now();
    let call = r#"{"data": {"a" : 1.0,"ü":"\u00fc"} , "call":"orders.cancel","id":"7"}"#;
    client.send_text(call).await;

    let asked = service.next().await;
    assert_eq!(asked.subject.as_str(), "usher.call.orders.cancel");
    assert_eq!(&asked.payload[..], r#"{"a" : 1.0,"ü":"\u00fc"}"#.as_bytes());
    assert_eq!(header(&asked, "Usher-User"), "bob@example.com");
    assert_eq!(header(&asked, "Usher-Session"), session);
    assert_eq!(header(&asked, "Usher-Gateway"), client.welcome()["gateway"]);
    let deadline: u64 = header(&asked, "Usher-Deadline").parse().expect("a number");
    let deadline = UNIX_EPOCH + Duration::from_millis(deadline);
    let left = deadline.duration_since(began).expect("later");
    assert!(left > Duration::from_millis(4900), "{left:?}");
    assert!(
        left < Duration::from_secs(5) + began.elapsed().expect("earlier"),
        "{left:?}"
    );
    let headers = asked.headers.as_ref().expect("headers");
    assert_eq!(
        headers.len(),
        4,
        "no traceparent where nothing is traced: {headers:?}"
    );

    service.answer(&asked, r#"{"ok" : true}"#).await;
    assert_eq!(
        client.next_text().await,
        r#"{"reply":{"id":"7","data":{"ok" : true}}}"#
    );
    assert_eq!(
        gateway.metric("usher_calls_total{result=\"ok\"}").await,
        1.0
    );
    assert_eq!(gateway.metric("usher_call_seconds_count").await, 1.0);
    assert_eq!(
        gateway
            .metric("usher_nats_connected{connection=\"calls\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn an_answer_is_given_by_the_rule_for_events() {
    let (nats, redis, gateway) = world().await;
    let mut service = Service::of(&nats, "a").await;
    let mut client = caller(&gateway, &redis, "42").await;
    for (payload, given) in [
        (&b"[1, 2]"[..], r#""data":[1, 2]"#),
        (b"plain \"text\"", r#""data":"plain \"text\"""#),
        (b"", r#""data":"""#),
        (b"null", r#""data":null"#),
        (b"1}, {", r#""data":"1}, {""#),
        (b"\xff\x00", r#""base64":"/wA=""#),
    ] {
        client.send_text(r#"{"id":"\"é","call":"a"}"#).await;
        let asked = service.next().await;
        assert!(asked.payload.is_empty(), "no data: {asked:?}");
        service.answer(&asked, payload.to_vec()).await;
        let reply = format!(r#"{{"reply":{{"id":"\"é",{given}}}}}"#);
        assert_eq!(client.next_text().await, reply);
    }
}

/// Both by hand, and by the service API of a NATS library.
#[tokio::test]
async fn a_services_error_is_the_clients() {
    let (nats, redis, gateway) = world().await;
    let mut client = caller(&gateway, &redis, "42").await;
    let mut by_hand = Service::of(&nats, "by.hand").await;
    call(&mut client, "1", "by.hand", json!({})).await;
    let asked = by_hand.next().await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error-Code", "already_shipped");
    headers.insert("Nats-Service-Error", "the order has left");
    by_hand
        .answer_with(&asked, headers, "{\"ignored\":1}")
        .await;
    let message = fails(&mut client, "1", "already_shipped").await;
    assert_eq!(message, "the order has left");

    let connection = nats.responder().await;
    let service = connection.service_builder().start("orders", "1.0.0").await;
    let service = service.expect("a service");
    let endpoint = service.endpoint("usher.call.by.api").await;
    let mut endpoint = endpoint.expect("an endpoint");
    connection.flush().await.expect("flushed");
    tokio::spawn(async move {
        while let Some(request) = endpoint.next().await {
            let answer = match &request.message.payload[..] {
                b"1" => Ok("\"done\"".into()),
                _ => Err(error::Error {
                    status: "not one".to_owned(),
                    code: 409,
                }),
            };
            let _ = request.respond(answer).await;
        }
    });
    eventually("the service answers", || async {
        !nats
            .all_subjects()
            .await
            .iter()
            .all(|one| one != "usher.call.by.api")
    })
    .await;
    call(&mut client, "2", "by.api", json!(2)).await;
    assert_eq!(fails(&mut client, "2", "409").await, "not one");
    call(&mut client, "3", "by.api", json!(1)).await;
    assert_eq!(
        answer(&mut client).await,
        ("3".to_owned(), Ok(json!("done")))
    );
    let errors = gateway
        .metric("usher_calls_total{result=\"service_error\"}")
        .await;
    assert_eq!(errors, 2.0);
}

#[tokio::test]
async fn a_call_that_nobody_answers_fails_at_once() {
    let (nats, redis) = servers().await;
    // It would come after the patience of this test.
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .start()
        .await;
    let mut client = caller(&gateway, &redis, "42").await;
    call(&mut client, "1", "nobody.here", json!({})).await;
    fails(&mut client, "1", "no_responders").await;
}

#[tokio::test]
async fn what_is_not_granted_or_breaks_the_rule_reaches_nobody() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.frames_per_second", "1000");
    let gateway = gateway.start().await;
    let mut service = Service::of(&nats, ">").await;
    let mut client = Client::open(&gateway, &ticket(&redis, "42", &["orders.*"]).await).await;
    let mut nothing = Client::open(&gateway, &redis.ticket("43").await).await;
    let refused = |name: &str| json!({"id": "1", "call": name, "data": 1});
    for name in [
        "orders",
        "orders.cancel.all",
        "users.delete",
        "",
        "orders.",
        "orders..x",
        "orders.*",
        "orders.>",
        "orders.a b",
        "orders.ü",
        "orders.a\r\nPUB",
        &"x".repeat(65),
    ] {
        is_error(
            &ask(&mut client, refused(name)).await,
            Some("1"),
            "forbidden",
        );
    }
    is_error(
        &ask(&mut nothing, refused("orders.cancel")).await,
        Some("1"),
        "forbidden",
    );
    for (said, id) in [
        (json!({"id": "1", "call": 7}), Some("1")),
        (json!({"id": "1", "call": {"name": "orders.x"}}), Some("1")),
        (json!({"id": "1", "call": "orders.x", "ping": {}}), None),
    ] {
        is_error(&ask(&mut client, said).await, id, "bad_request");
    }
    for id in [
        json!(7),
        json!(null),
        json!(""),
        json!(true),
        json!([]),
        json!({}),
        json!("x".repeat(65)),
    ] {
        let said = json!({"id": id, "call": "orders.x"});
        is_error(&ask(&mut client, said).await, None, "bad_request");
    }
    client
        .send_text(r#"{"id":"1","call":"orders.x","data":1,"data":2}"#)
        .await;
    is_error(&client.next_json().await, Some("1"), "bad_request");
    let id = "é".repeat(32);
    call(&mut client, &id, "orders.x", json!(1)).await;
    let first = service.next().await;
    assert_eq!(
        first.subject.as_str(),
        "usher.call.orders.x",
        "the others came to nobody"
    );
    service.answer(&first, "2").await;
    assert_eq!(answer(&mut client).await, (id, Ok(json!(2))));
    let forbidden = gateway
        .metric("usher_calls_total{result=\"forbidden\"}")
        .await;
    assert_eq!(forbidden, 13.0);
}

/// Errors of a call without an id are not answered, but for those of its shape.
#[tokio::test]
async fn a_call_without_an_id_is_published_and_not_answered() {
    let (nats, redis, gateway) = world().await;
    let mut service = Service::of(&nats, ">").await;
    let mut client = Client::open(&gateway, &ticket(&redis, "42", &["a"]).await).await;
    client.send_text(r#"{"call":"a","data":[1]}"#).await;
    let told = service.next().await;
    assert_eq!((&told.payload[..], &told.reply), (&b"[1]"[..], &None));
    assert_eq!(header(&told, "Usher-User"), "42");
    client.send_text(r#"{"call":"forbidden"}"#).await;
    client.send_text(r#"{"call":1}"#).await;
    is_error(&client.next_json().await, None, "bad_request");
    works(&mut client, &mut service, "a").await;
    let published = gateway
        .metric("usher_calls_total{result=\"published\"}")
        .await;
    assert_eq!(published, 1.0);
}

#[tokio::test]
async fn a_user_id_is_one_header_of_its_own_bytes() {
    let (nats, redis, gateway) = world().await;
    let mut raw = RawNats::connect_as(&nats, Role::Responder).await;
    raw.subscribe("usher.call.a").await;
    for user in [
        "jürgen: Usher-User: 1",
        "名前\u{2028}x",
        "a\\r\\nUsher-User: admin",
        "%0d%0a",
    ] {
        let mut client = caller(&gateway, &redis, user).await;
        call(&mut client, "1", "a", json!(1)).await;
        let asked = raw.next().await;
        let headers = String::from_utf8(asked.headers).expect("UTF-8");
        let users: Vec<_> = headers
            .split("\r\n")
            .filter(|line| line.starts_with("Usher-User:"))
            .collect();
        assert_eq!(users, [format!("Usher-User: {user}")], "{headers}");
    }
}

#[tokio::test]
async fn sessions_without_frames_of_their_own_make_no_calls() {
    let (nats, redis, gateway) = world().await;
    let mut service = Service::of(&nats, ">").await;
    let all = || ticket(&redis, "42", &[">"]);
    let (raw_ticket, events_ticket) = (all().await, all().await);
    let raw = Client::builder(&gateway, &raw_ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let _events = Events::open(&gateway, &events_ticket).await;
    call(&mut raw, "1", "by.raw", json!(1)).await;
    nats.publish("usher.user.42", "after it").await;
    assert_eq!(raw.next_frame().await, Frame::Text("after it".to_owned()));
    let mut client = caller(&gateway, &redis, "42").await;
    works(&mut client, &mut service, "by.client").await;
}

async fn demo_ticket(gateway: &Gateway) -> String {
    let body = r#"{"user_id":"42"}"#;
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", &body.len().to_string()),
    ];
    let request = http::head("POST", &gateway.public, "/demo/tickets", &headers) + body;
    let answer = http::raw(&gateway.public, request.as_bytes()).await;
    answer.json()["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned()
}

/// With real servers, and without any.
#[tokio::test]
async fn the_demo_answers_its_echo_by_itself() {
    let (nats, redis) = servers().await;
    let mut service = Service::of(&nats, "demo.*").await;
    let real = Gateway::builder(&nats, &redis)
        .argument("--demo")
        .start()
        .await;
    let embedded = Builder::new()
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await;
    for gateway in [&real, &embedded] {
        let mut client = Client::open(gateway, &demo_ticket(gateway).await).await;
        call(&mut client, "1", "demo.echo", json!({"a": [1]})).await;
        assert_eq!(
            answer(&mut client).await,
            ("1".to_owned(), Ok(json!({"a": [1]})))
        );
        client.send_text(r#"{"id":"2","call":"demo.echo"}"#).await;
        assert_eq!(answer(&mut client).await, ("2".to_owned(), Ok(json!(""))));
        client.send_text(r#"{"call":"demo.echo","data":1}"#).await;
        call(&mut client, "3", "demonstration", json!(1)).await;
        fails(&mut client, "3", "forbidden").await;
        call(&mut client, "4", "demo.nobody.else", json!(1)).await;
        fails(&mut client, "4", "no_responders").await;
    }
    assert!(!embedded.metrics().await.contains("connection=\"calls\""));
    let mut client = Client::open(&real, &demo_ticket(&real).await).await;
    works(&mut client, &mut service, "demo.other").await;
    // Without the demo it is a call as any other.
    let plain = Gateway::start(&nats, &redis).await;
    let mut client = caller(&plain, &redis, "42").await;
    works(&mut client, &mut service, "demo.echo").await;
}
