//! The service `usher`, as NATS's service API has it.

use std::{path::Path, process::Command, time::Duration};

use async_nats::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{gateways, knows};
use crate::support::{
    Client, Gateway, Nats, RawNats, Redis, eventually,
    nats::Role,
    process::{Process, server},
    servers,
    wait::patiently,
};

const SERVICE: &str = "usher_nats_connected{connection=\"service\"}";

/// A call to an endpoint: the answer, or the error's code and text.
async fn call(
    nats: &async_nats::Client,
    endpoint: &str,
    body: &Value,
) -> Result<Value, (String, String)> {
    let subject = format!("usher.api.{endpoint}");
    let asking = nats.request(subject, body.to_string().into());
    let answer = patiently("an answer", asking).await;
    let answer = answer.map_err(|error| ("none".to_owned(), error.to_string()))?;
    let header = |name: &str| {
        let headers = answer.headers.as_ref();
        headers.and_then(|headers: &HeaderMap| headers.get(name).map(ToString::to_string))
    };
    match header("Nats-Service-Error-Code") {
        Some(code) => Err((code, header("Nats-Service-Error").unwrap_or_default())),
        None => Ok(serde_json::from_slice(&answer.payload).expect("JSON")),
    }
}

/// Other people's libraries, with the rights of `examples/nats-permissions.conf` for a caller.
#[tokio::test]
async fn services_find_it_and_call_it_with_their_own_libraries() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (packages, modules) = (
        root.join(".servers/python"),
        root.join(".servers/node/node_modules"),
    );
    assert!(
        packages.exists() && modules.join("@nats-io/services").exists(),
        "the clients are not there yet: run \"make test\" once"
    );
    let (nats, redis) = servers().await;
    let gateways = gateways(2, (&nats, &redis), &[]).await;
    let (user, password) = Role::Caller.login();
    let mut python = Command::new("python3");
    python
        .arg(root.join("tests/clients/python/services.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut node = Command::new(server("node"));
    node.arg(root.join("tests/clients/node/services.mjs"))
        .arg(&modules);
    for (mut command, says) in [(python, "by python"), (node, "by node")] {
        let mut client = Client::open(&gateways[1], &redis.ticket("42").await).await;
        command.args([&nats.url(), &user, &password, "2"]);
        let mut script = Process::spawn(command);
        let status = script.wait_for(Duration::from_secs(60)).await;
        assert!(status.success(), "{}", script.output());
        let goodbye = client.expect_goodbye().await;
        assert_eq!(goodbye, json!({"reason": "disconnected", "message": says}));
        assert_eq!(client.expect_close().await.0, 4100);
    }
}

/// NATS goes and comes, and the service is back. A caller's odd header cuts nothing.
#[tokio::test]
async fn it_comes_back() {
    let (mut nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    knows(&gateway, 1).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let name = client.welcome()["gateway"].clone();
    let online = json!({"users": {"42": {"sessions": 1, "gateways": [name]}}, "complete": true});
    let who = json!({"user_ids": ["42"]});
    let caller = nats.client().await;
    assert_eq!(call(&caller, "presence", &who).await, Ok(online.clone()));

    let mut odd = RawNats::connect(&nats).await;
    let block = "NATS/1.0\r\nno-colon\r\n\r\n";
    odd.publish_with_block("usher.api.presence", block, "{}")
        .await;
    let refused = "usher_service_requests_total{endpoint=\"presence\",code=\"400\"}";
    gateway.metric_becomes(refused, 1.0).await;
    assert!(!gateway.log().contains("is lost"), "{}", gateway.log());

    nats.kill();
    gateway.metric_becomes(SERVICE, 0.0).await;
    gateway.readyz_lists("warnings", "nats_away").await;
    nats.restart().await;
    gateway.metric_becomes(SERVICE, 1.0).await;
    let caller = nats.client().await;
    eventually("it answers again", || async {
        call(&caller, "presence", &who).await == Ok(online.clone())
    })
    .await;
    let found = patiently("a ping", caller.request("$SRV.PING.usher", "".into())).await;
    let found: Value = serde_json::from_slice(&found.expect("an answer").payload).expect("JSON");
    assert_eq!(found["metadata"]["gateway"], name);
    let ended = call(&caller, "disconnect", &json!({"user_id": "42"})).await;
    assert_eq!(ended, Ok(json!({"sessions": 1, "complete": true})));
    assert_eq!(client.expect_close().await.0, 4100);
    let counted = "usher_service_requests_total{endpoint=\"disconnect\",code=\"200\"}";
    gateway.metric_becomes(counted, 1.0).await;
}

/// Where NATS forbids the service, all else works; `check` warns.
#[tokio::test]
async fn it_is_not_needed() {
    let (user, password) = Role::Gateway.login();
    let config = format!(
        "authorization {{ users: [ {{ user: \"{user}\", password: \"{password}\", permissions: {{
           publish: \">\"
           subscribe: {{ allow: \">\", deny: [\"$SRV.>\", \"usher.api.>\"] }}
         }} }} ] }}"
    );
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let builder = || {
        let builder = Gateway::builder(&nats, &redis).set("nats.user", &user);
        builder.set("nats.password", &password)
    };
    let (code, said) = builder().check().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("usher.api.*"), "{said}");
    let gateway = builder().start().await;
    gateway.logs("NATS refused an operation").await;
    assert_eq!(gateway.readyz().await, 200);
    knows(&gateway, 1).await;
}

/// At the end of a drain it takes no more calls.
#[tokio::test]
async fn it_ends_with_a_drain() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "0s")
        .set("drain.window", "0s")
        .start()
        .await;
    let caller = nats.client().await;
    let who = json!({"user_ids": ["42"]});
    eventually("it answers", || async {
        call(&caller, "presence", &who).await.is_ok()
    })
    .await;
    gateway.terminate();
    assert!(gateway.wait().await.success());
    let refused = call(&caller, "presence", &who)
        .await
        .expect_err("nobody is there");
    assert!(refused.1.contains("no responders"), "{refused:?}");
}

/// What NATS sends to a gateway until it has heard that this leaves is answered.
#[tokio::test]
async fn a_drain_loses_no_call() {
    let (mut nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let settings = [("drain.delay", "0s"), ("drain.window", "0s")];
    let mut gateways = gateways(2, (&nats, &redis), &settings).await;
    for gateway in &gateways {
        gateway.metric_becomes(SERVICE, 1.0).await;
    }
    let mut callers = Vec::new();
    for _ in 0..32 {
        callers.push(nats.client().await);
    }
    // As many as one gateway answers at once. NATS reads them together with the gateway's goodbye.
    nats.pause();
    let who = json!({"user_ids": ["42"]});
    let calling = callers.iter().flat_map(|nats| [nats; 2]);
    let calling = futures_util::future::join_all(calling.map(|nats| call(nats, "presence", &who)));
    let draining = async {
        gateways[0].terminate();
        eventually("its API has ended", || async {
            TcpStream::connect(&gateways[0].grpc).await.is_err()
        })
        .await;
        nats.resume();
        assert!(gateways[0].wait().await.success());
    };
    let (answers, ()) = tokio::join!(calling, draining);
    for answer in answers {
        answer.expect("an answer");
    }
}
