//! What each path does where all is well.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Http2, JSON, TOKEN, calls, post, post_with, posted, refused, request};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually, http, secret, servers,
    tls::{Ca, Tls as _, tunnel},
    wait::patiently,
    world,
};

#[tokio::test]
async fn a_push_is_on_the_screen() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    let body = json!({"user_id": "bob@example.com", "event": "order.completed", "data": {"a": 1}});
    let answer = posted(&gateway, "/v1/push", body).await;
    assert_eq!(answer, json!({"status": "dispatched"}));
    let event = json!({"event": "order.completed", "data": {"a": 1}});
    assert_eq!(client.next_event().await, event);
    for (payload, shown) in [
        (r#""data": null"#, json!({"data": null})),
        (r#""data": "text""#, json!({"data": "text"})),
        (r#""base64": "/w==""#, json!({"base64": "/w=="})),
        (r#""base64": "/w""#, json!({"base64": "/w=="})),
        (r#""base64": """#, json!({"data": ""})),
        (r#""event": """#, json!({"data": ""})),
    ] {
        let body = format!(r#"{{"user_id": "bob@example.com", {payload}}}"#);
        posted(&gateway, "/v1/push", body).await;
        let mut event = client.next_event().await;
        let name = event
            .as_object_mut()
            .and_then(|event| event.remove("event"));
        assert_eq!(name, Some(json!("message")));
        assert_eq!(event, shown);
    }
    assert_eq!(gateway.metric(&calls("PushNotification", "OK")).await, 7.0);
}

/// What NATS delivers is what stood in the request: no byte of `data` is written anew.
#[tokio::test]
async fn data_are_passed_on_byte_for_byte() {
    let (nats, _redis, gateway) = world().await;
    let observer = nats.operator().await;
    let mut seen = observer
        .subscribe("usher.user.*")
        .await
        .expect("subscribed");
    eventually("NATS knows of it", || async {
        nats.subscriptions("usher.user.*").await == 1
    })
    .await;
    for data in [
        "{ \"b\": 1.0,\n\t\"a\":[1e3 , 12345678901234567890123, \"\\u00e9\\/\"],\"a\":0}",
        "-0.0",
        "\"\u{e9} \\ud83d\\ude00\"",
        &format!("{}{}", "[".repeat(100), "]".repeat(100)),
    ] {
        let body = format!(
            "{{\"data\":  {data} ,\"user_id\":\"42\",\"event\":\"e\",\"message_id\":\"m\"}}"
        );
        posted(&gateway, "/v1/push", &body).await;
        let batch = format!("{{\"pushes\":[ {body}\n]}}");
        posted(&gateway, "/v1/push/batch", batch).await;
        for _ in 0..2 {
            let message = patiently("a message", seen.next()).await.expect("one");
            assert_eq!(message.subject.as_str(), "usher.user.42");
            assert_eq!(String::from_utf8_lossy(&message.payload), *data);
            let headers = message.headers.expect("headers");
            let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
            assert_eq!(header("Event").as_deref(), Some("e"));
            assert!(header("Nats-Msg-Id").is_some_and(|id| id.ends_with(":m")));
        }
    }
}

#[tokio::test]
async fn a_receipt_counts_sessions() {
    let (nats, redis, gateway) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let body = json!({"user_id": "42", "data": 1, "receipt": true});
    let answer = posted(&gateway, "/v1/push", &body).await;
    assert_eq!(answer, json!({"status": "offline", "sessions": 0}));
    let mut sessions = Vec::new();
    for gateway in [&gateway, &there] {
        sessions.push(Client::open(gateway, &redis.ticket("42").await).await);
    }
    let answer = posted(&gateway, "/v1/push", &body).await;
    assert_eq!(answer, json!({"status": "queued", "sessions": 2}));
}

/// A key is a message id, wherever it stands.
#[tokio::test]
async fn a_repeated_push_is_stored_once() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let body = |data: u64| json!({"user_id": "42", "data": data, "message_id": "order-7"});
    let without = json!({"user_id": "42", "data": 3});
    let key = [("Idempotency-Key", "order-7")];
    for answer in [
        post(&gateway, "/v1/push", body(1)).await,
        post(&gateway, "/v1/push", body(2)).await,
        post_with(&gateway, "/v1/push", &key, &without).await,
        post_with(&gateway, "/v1/push", &key, body(4)).await,
    ] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json(), json!({"status": "dispatched", "seq": 1}));
    }
    let other = [("Idempotency-Key", "order-8")];
    let answer = post_with(&gateway, "/v1/push", &other, body(5)).await;
    assert!(refused(&answer, 400, "bad_request").contains("differ"));
    let batch =
        json!({"pushes": [body(6), body(7), {"user_id": "42", "data": 8, "receipt": true}]});
    let answer = post_with(&gateway, "/v1/push/batch", &key, &batch).await;
    assert!(refused(&answer, 400, "bad_request").contains("message_id"));
    let answer = posted(&gateway, "/v1/push/batch", batch).await;
    let first = json!({"status": "dispatched", "seq": 1});
    let last = json!({"status": "queued", "sessions": 1, "seq": 2});
    assert_eq!(answer, json!({"results": [first, first, last]}));
    for data in [1, 8] {
        assert_eq!(client.next_data().await, data);
    }
}

#[tokio::test]
async fn a_broadcast_is_on_every_screen() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let live = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&live, &redis.ticket("41").await).await;
    let body = json!({"event": "maintenance", "data": {"in": 5}});
    assert_eq!(posted(&live, "/v1/broadcast", &body).await, json!({}));
    let event = client.next_event().await;
    let shown = json!({"event": "maintenance", "broadcast": true, "data": {"in": 5}});
    assert_eq!(event, shown);
    assert_eq!(live.metric(&calls("Broadcast", "OK")).await, 1.0);

    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut clients = Vec::new();
    for user in ["42", "43"] {
        clients.push(Client::open(&gateway, &redis.ticket(user).await).await);
    }
    let key = [("Idempotency-Key", "once")];
    let mut answers = Vec::new();
    for data in ["one", "two"] {
        let answer = post_with(&gateway, "/v1/broadcast", &key, json!({"data": data})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answers.push(answer.json());
    }
    assert!(answers[0]["seq"].is_u64(), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    posted(&gateway, "/v1/broadcast", json!({"base64": "MQ"})).await;
    for client in &mut clients {
        assert_eq!(client.next_data().await, "one");
        assert_eq!(client.next_data().await, 1);
    }
    for (body, says) in [
        (json!({"user_id": "42"}), "unknown field `user_id`"),
        (json!({"receipt": true}), "unknown field `receipt`"),
        (json!({"event": "usher.x"}), "event is not"),
    ] {
        let answer = post(&gateway, "/v1/broadcast", body).await;
        assert!(refused(&answer, 400, "bad_request").contains(says));
    }
}

/// Who is online on two gateways, and the end of their sessions.
#[tokio::test]
async fn sessions_are_found_and_ended() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let mut clients = Vec::new();
    for (gateway, user) in [(&here, "42"), (&there, "42"), (&there, "bob@example.com")] {
        clients.push(Client::open(gateway, &redis.ticket(user).await).await);
    }
    let name = |client: &Client| client.welcome()["gateway"].clone();
    let (one, other) = (name(&clients[0]), name(&clients[1]));
    let ids: Vec<String> = (0..997).map(|number| format!("away-{number}")).collect();
    let mut ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
    ids.extend([json!("42"), json!("bob@example.com"), json!("42")]);
    let asked = json!({"user_ids": ids});
    for gateway in [&there, &here] {
        eventually("the gateway knows all others", || async {
            posted(gateway, "/v1/presence", &asked).await["complete"] == true
        })
        .await;
    }
    let found = posted(&here, "/v1/presence", &asked).await;
    let users = found["users"].as_object().expect("users");
    assert_eq!(users.len(), 2, "{found}");
    assert_eq!(
        users["bob@example.com"],
        json!({"sessions": 1, "gateways": [&other]})
    );
    assert_eq!(users["42"]["sessions"], 2, "{found}");
    let gateways = users["42"]["gateways"].as_array().expect("gateways");
    assert!(gateways.len() == 2 && gateways.contains(&one) && gateways.contains(&other));

    let body = json!({"user_id": "42", "reason": "signed out"});
    let answer = posted(&there, "/v1/disconnect", body).await;
    assert_eq!(answer, json!({"sessions": 2, "complete": true}));
    for client in &mut clients[..2] {
        assert_eq!(client.expect_close().await.0, 4100);
    }
    let body = json!({"user_id": "bob@example.com", "reconnect": true});
    let answer = posted(&here, "/v1/disconnect", body).await;
    assert_eq!(answer, json!({"sessions": 1, "complete": true}));
    assert_eq!(clients[2].expect_close().await.0, 4004);
    assert_eq!(there.metric(&calls("Disconnect", "OK")).await, 1.0);
    assert!(here.metric(&calls("GetPresence", "OK")).await >= 1.0);
}

#[tokio::test]
async fn a_ticket_opens_a_session() {
    let (_nats, _redis, gateway) = world().await;
    for (body, expires_in) in [
        (json!({"user_id": "42"}), 60),
        (json!({"user_id": "42", "ttl": 30}), 30),
        (
            json!({"user_id": "42", "ttl": 90.0, "expires_at": 4_000_000_000_u64}),
            90,
        ),
    ] {
        let response = post(&gateway, "/v1/tickets", body).await;
        assert_eq!(response.status, 201, "{response:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let answer = response.json();
        assert_eq!(answer["expires_in"], expires_in, "{response:?}");
        let ticket = secret(answer["ticket"].as_str().expect("a ticket"));
        let client = Client::open(&gateway, &ticket).await;
        assert_eq!(client.welcome()["user"], "42");
        let twice = Client::try_open(&gateway, &ticket).await.map(drop);
        assert!(twice.is_err_and(|response| response.status == 401));
    }
    let origin = "https://app.example.com";
    let body = json!({"user_id": "42", "origin": origin});
    let answer = post(&gateway, "/v1/tickets", body).await.json();
    let ticket = secret(answer["ticket"].as_str().expect("a ticket"));
    let refusal = Client::try_open(&gateway, &ticket).await.map(drop);
    assert!(refusal.is_err_and(|response| response.status == 403));
    assert_eq!(gateway.metric(&calls("IssueTicket", "OK")).await, 4.0);
}

/// A thousand pushes of one request arrive in their order, and what is wrong with one
/// concerns no other.
#[tokio::test]
async fn a_batch_is_answered_in_order() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "5000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let push = |number: usize| match number {
        100 => json!({"user_id": "", "data": 1}),
        300 => json!({"user_id": "42", "dta": 1}),
        500 => json!({"user_id": "42", "data": 1, "base64": ""}),
        700 => json!(null),
        number => json!({"user_id": "42", "data": number}),
    };
    let pushes: Vec<Value> = (0..1000).map(push).collect();
    let answer = posted(&gateway, "/v1/push/batch", json!({"pushes": pushes})).await;
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 1000);
    for (number, result) in results.iter().enumerate() {
        let (code, says) = match number {
            100 => ("bad_request", "user_id"),
            300 => ("bad_request", "`dta`"),
            500 => ("bad_request", "not both"),
            700 => ("bad_request", "line 1, column"),
            _ => {
                assert_eq!(*result, json!({"status": "dispatched"}));
                assert_eq!(client.next_data().await, number);
                continue;
            }
        };
        let message = super::failed(result, code);
        assert!(message.contains(says), "{says} in {message}");
    }
    let counted = |code| calls("PushNotification", code);
    assert_eq!(gateway.metric(&counted("OK")).await, 996.0);
    assert_eq!(gateway.metric(&counted("INVALID_ARGUMENT")).await, 4.0);
}

/// The same by HTTP/2, many at once on one connection.
#[tokio::test]
async fn http_2_is_served_too() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let caller = Http2::connect(&gateway).await;
    let push = json!({"user_id": "42", "data": 1});
    let pushes = (0..100).map(|_| caller.post("/v1/push", &push));
    for answer in futures_util::future::join_all(pushes).await {
        assert_eq!(answer, (200, json!({"status": "dispatched"})));
    }
    let (status, answer) = caller
        .post("/v1/push/batch", json!({"pushes": [push, {}]}))
        .await;
    assert_eq!(
        (status, &answer["results"][0]["status"]),
        (200, &json!("dispatched"))
    );
    super::failed(&answer["results"][1], "bad_request");
    let (status, answer) = caller.post("/v1/tickets", json!({"user_id": "42"})).await;
    assert_eq!(status, 201, "{answer}");
    secret(answer["ticket"].as_str().expect("a ticket"));
    let (status, answer) = caller.post("/v1/nothing", "").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("not_found"))
    );
    for _ in 0..101 {
        assert_eq!(client.next_data().await, 1);
    }
}

/// One connection of HTTP/1.1 carries many calls of a caller that has a token.
#[tokio::test]
async fn a_connection_is_kept() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let bearer = format!("Bearer {TOKEN}");
    let token = ("Authorization", &bearer[..]);
    let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    let mut rest = Vec::new();
    for number in 0..20 {
        let body = json!({"user_id": "42", "data": number}).to_string();
        // One that is refused keeps the connection, too.
        let body = if number % 5 == 4 { "{" } else { &body };
        let request = request(&gateway.grpc, "/v1/push", &[token], body);
        stream.write_all(&request).await.expect("taken");
        let answer = patiently("an answer", http::read(&mut stream, &mut rest)).await;
        assert_eq!(
            answer.status,
            if number % 5 == 4 { 400 } else { 200 },
            "{answer:?}"
        );
        assert_eq!(answer.header("connection"), None);
    }
    // Without one there is one answer.
    let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    let request = super::request(&gateway.grpc, "/v1/push", &[], "{}");
    stream.write_all(&request.repeat(3)).await.expect("taken");
    let answer = patiently("an answer", http::read(&mut stream, &mut rest)).await;
    refused(&answer, 401, "unauthenticated");
    assert_eq!(answer.header("connection"), Some("close"));
}

/// curl offers HTTP/2 and HTTP/1.1; other clients offer one of them, or none.
#[tokio::test]
async fn tls_carries_both() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let gateway = Gateway::builder(&nats, &redis)
        .identity("grpc.tls", &ca.issue())
        .start()
        .await;
    let address = tunnel(&gateway.grpc, ca.client(None)).await;
    let body = json!({"user_id": "42", "data": 1}).to_string();
    let answer = http::raw(&address, &request("localhost", "/v1/push", &[JSON], &body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1"], "http/1.1"),
        (&["h2"], "h2"),
    ] {
        let mut config = ca.client(None).config().expect("good files");
        config.alpn_protocols = offered
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
        let name = "localhost".try_into().expect("a name");
        let stream = patiently("a handshake", connector.connect(name, stream)).await;
        let stream = stream.expect("a protocol in common");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
    }
}
