//! The operators' page, and what it asks for.

use std::path::Path;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    browser::{LIMIT, has_package, node, prints},
    support::{
        Client, Events, Gateway, eventually, http, process, process::Process, servers,
        wait::patiently, world,
    },
};

async fn asks(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.ops_get(&format!("/status/users/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Waits until a gateway knows that it has heard of all others: 10 s after its start.
async fn is_complete(gateway: &Gateway) {
    eventually("its answers are complete", || async {
        asks(gateway, "nobody").await["complete"] == true
    })
    .await;
}

#[tokio::test]
async fn it_is_one_file_that_loads_nothing_and_is_framed_by_nobody() {
    let (_nats, _redis, gateway) = world().await;
    let page = gateway.ops_get("/").await;
    assert_eq!(page.status, 200);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(page.text().contains("Usher: operations"));
    // What browsers would run as code is set as text.
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
    ] {
        assert!(!page.text().contains(forbidden), "{forbidden}");
    }
}

/// A page that has made its own name point at this machine (DNS rebinding) reads nothing.
#[tokio::test]
async fn on_loopback_a_foreign_host_is_refused_on_every_path() {
    let (nats, redis, gateway) = world().await;
    let port = gateway.ops.rsplit_once(':').expect("a port").1;
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/status",
        "/status/users/42",
        "/nowhere",
    ] {
        let foreign = format!("evil.example:{port}");
        let answer = http::get(&gateway.ops, path, &[("Host", &foreign)]).await;
        answer.assert_refused(403, "host_denied");
    }
    for own in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9100"] {
        let answer = http::get(&gateway.ops, "/", &[("Host", own)]).await;
        assert_eq!(answer.status, 200, "{own}");
    }
    // A probe by HTTP/1.0 names no host, and is no browser.
    let probe = patiently("an answer by HTTP/1.0", async {
        let mut stream = TcpStream::connect(&gateway.ops).await.expect("taken");
        let request = b"GET /healthz HTTP/1.0\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    });
    let probe = probe.await;
    assert!(probe.starts_with("HTTP/1.0 200 "), "{probe}");

    let open = Gateway::builder(&nats, &redis)
        .set("ops.listen", "0.0.0.0:0")
        .start()
        .await;
    let answer = http::get(&open.ops, "/status", &[("Host", "usher-ops.ns.svc:9100")]).await;
    assert_eq!(answer.status, 200, "not on loopback, any name will do");
}

#[tokio::test]
async fn it_says_where_a_user_is_online() {
    let (nats, redis) = servers().await;
    let (first, second) =
        tokio::join!(Gateway::start(&nats, &redis), Gateway::start(&nats, &redis));
    for gateway in [&first, &second] {
        gateway.metric_becomes("usher_gateways", 2.0).await;
    }
    let name = "bob / jürgen@example.com";
    let ticket = redis.ticket(name).await;
    let session = Client::open(&first, &ticket).await;
    let events = Events::builder(&second, &redis.ticket(name).await);
    let events = events.query("follow", "news").open().await;
    let names = [session.welcome(), events.welcome()].map(|w| w["gateway"].clone());
    let mut both = names.to_vec();
    both.sort_by_key(ToString::to_string);

    let path = "bob%20%2F%20j%C3%BCrgen%40example.com";
    is_complete(&first).await;
    let found = asks(&first, path).await;
    assert_eq!(found["user"], name);
    assert_eq!(found["online"], true);
    assert_eq!(found["sessions"], 2);
    assert_eq!(found["gateways"], json!(both));
    assert_eq!(found["error"], Value::Null);
    assert_eq!(found["here"].as_array().map(Vec::len), Some(1), "{found}");
    let here = &found["here"][0];
    assert_eq!(here["session"], session.welcome()["session"]);
    assert_eq!(here["transport"], "websocket");
    assert_eq!(here["backlog"], json!({ "messages": 0, "bytes": 0 }));
    assert_eq!(here["topics"], json!([]));
    assert!(here["since"].as_str().is_some_and(|at| at.ends_with('Z')));
    assert!(!found.to_string().contains("127.0.0.1"), "no address");
    assert!(!found.to_string().contains(&ticket), "no ticket");

    drop(session);
    eventually("it is online at the other gateway alone", || async {
        let found = asks(&first, path).await;
        found["online"] == true
            && found["here"] == json!([])
            && found["gateways"] == json!([names[1]])
    })
    .await;
    let there = asks(&second, path).await;
    assert_eq!(there["here"][0]["transport"], "sse");

    let nobody = asks(&first, "nobody").await;
    assert_eq!(nobody["online"], false);
    assert_eq!(nobody["sessions"], 0);
    assert_eq!(nobody["gateways"], json!([]));
    assert_eq!(nobody["closes"], json!([]));
    for bad in ["%7B", "%20x", "%FF", "a%0Ab", &"x".repeat(129)] {
        let answer = first.ops_get(&format!("/status/users/{bad}")).await;
        answer.assert_refused(400, "bad_request");
    }
}

/// NATS brings no other gateway's answer: what is here is known all the same.
#[tokio::test]
async fn without_nats_it_says_what_this_gateway_knows() {
    let (mut nats, redis, gateway) = world().await;
    let _session = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.kill();
    let away = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(away, 0.0).await;
    let found = asks(&gateway, "42").await;
    assert_eq!(found["online"], true, "{found}");
    assert_eq!(found["sessions"], 1);
    assert_eq!(found["complete"], false);
    assert!(
        found["error"]
            .as_str()
            .is_some_and(|why| why.contains("NATS")),
        "{found}"
    );
    let nobody = asks(&gateway, "nobody").await;
    assert_eq!(
        (&nobody["online"], &nobody["complete"]),
        (&json!(false), &json!(false))
    );
}

#[tokio::test]
async fn the_last_closes_of_a_user_are_remembered() {
    let (_nats, redis, gateway) = world().await;
    let mut left = Client::open(&gateway, &redis.ticket("42").await).await;
    let first = left.welcome()["session"].clone();
    left.close(1000).await;
    gateway
        .metric_becomes("usher_session_closes_total", 1.0)
        .await;
    let mut rude = Client::open(&gateway, &redis.ticket("42").await).await;
    let second = rude.welcome()["session"].clone();
    rude.send_text("no json").await;
    assert_eq!(rude.expect_close().await.0, 4102);
    let mut other = Client::open(&gateway, &redis.ticket("43").await).await;
    other.close(1000).await;
    gateway
        .metric_becomes("usher_session_closes_total", 3.0)
        .await;

    let found = asks(&gateway, "42").await;
    assert_eq!(found["online"], false);
    let closes = found["closes"].as_array().expect("closes");
    let shown: Vec<_> = closes
        .iter()
        .map(|close| json!([close["session"], close["code"], close["reason"]]))
        .collect();
    let wanted = [
        json!([second, 4102, "bad_frame"]),
        json!([first, null, "client_left"]),
    ];
    assert_eq!(shown, wanted, "the newest first, and of nobody else");
    for close in closes {
        assert_eq!(close["transport"], "websocket");
        let lived = close["lived_seconds"].as_f64().expect("seconds");
        assert!((0.0..600.0).contains(&lived), "{close}");
        assert!(close["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    }
}

#[tokio::test]
async fn a_browser_shows_numbers_that_move() {
    has_package("playwright-core");
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ops.png");
    let (nats, redis, mut gateway) = world().await;
    let user = "alice <b>";
    let mut session = Client::open(&gateway, &redis.ticket(user).await).await;
    is_complete(&gateway).await;
    let mut command = node("ops.mjs");
    command
        .arg(format!("http://{}/", gateway.ops))
        .arg(process::server("chromium"))
        .arg(screenshot);
    let mut script = Process::spawn(command);
    prints(&mut script, "please push", |line| line == "please push").await;
    nats.publish("usher.broadcast", "1").await;
    assert_eq!(session.next_data().await, 1);
    prints(&mut script, "please close", |line| line == "please close").await;
    session.close(1000).await;
    prints(&mut script, "please kill", |line| line == "please kill").await;
    gateway.kill();
    let status = script.wait_for(LIMIT).await;
    assert!(status.success(), "{}", script.output());
}
