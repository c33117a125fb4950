//! Centrifuge's SDK for JavaScript (`tests/centrifuge/client.mjs`) through the proxies of the
//! examples.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::proxy::Proxy;
use crate::support::{
    Gateway, Nats, Redis, eventually,
    process::{Process, server},
    secrets,
    wait::patiently,
};

/// The SDK, and what it has printed.
struct Sdk(Process);

impl Sdk {
    /// Connects through a proxy, with tickets of this gateway.
    fn through(proxy: &Proxy, tickets: &Gateway, protobuf: bool) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let options = json!({
            "url": format!("ws://{}/connection/websocket", proxy.address),
            "tickets": format!("http://{}/v1/tickets", tickets.grpc),
            "user": "42",
            "protobuf": protobuf,
        });
        let mut command = Command::new(server("node"));
        command
            .arg(root.join("tests/centrifuge/client.mjs"))
            .arg(options.to_string());
        Self(Process::spawn(command))
    }

    /// What happened of this kind.
    fn all(&self, on: &str) -> Vec<Value> {
        let output = self.0.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        let lines = whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|one: &Value| one["on"] == on).collect()
    }

    async fn sees(&self, on: &str, count: usize) {
        eventually(&format!("{count} {on} in:\n{}", self.0.output()), || {
            std::future::ready(self.all(on).len() >= count)
        })
        .await;
    }

    fn tickets(&self) -> Vec<String> {
        let output = self.0.output();
        let tickets = output
            .lines()
            .filter_map(|line| line.strip_prefix("ticket "));
        tickets.map(secrets::secret).collect()
    }
}

async fn speaking(nats: &Nats, redis: &Redis) -> Gateway {
    Gateway::durable(nats, redis)
        .set("centrifuge.enabled", "true")
        .set("public.trusted_proxies", "127.0.0.1")
        .set("drain.window", "1s")
        .start()
        .await
}

async fn store(nats: &async_nats::Client, number: u64) {
    let asked = nats.request("usher.user.42", number.to_string().into());
    let answer = patiently("the stream's acknowledgement", asked).await;
    answer.expect("a stream captures it");
}

/// It connects, gets messages, and goes on at the other gateway when its own drains. No log of
/// the proxy holds a ticket.
#[tokio::test]
async fn an_sdk_of_centrifuge_passes_and_goes_on_after_a_drain() {
    for (name, protobuf) in [("nginx", false), ("haproxy", true)] {
        let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
        let (one, other) = tokio::join!(speaking(&nats, &redis), speaking(&nats, &redis));
        let proxy = match name {
            "nginx" => Proxy::example_nginx([&one, &other]).await,
            _ => Proxy::example_haproxy([&one, &other]).await,
        };
        let issuer = speaking(&nats, &redis).await;
        let sdk = Sdk::through(&proxy, &issuer, protobuf);
        sdk.sees("subscribed", 2).await;
        let publisher = nats.client().await;
        store(&publisher, 1).await;
        sdk.sees("publication", 1).await;

        let held = "usher_sessions{transport=\"centrifuge\"}";
        let (mut leaves, stays) = match one.metric(held).await > 0.0 {
            true => (one, other),
            false => (other, one),
        };
        leaves.terminate();
        store(&publisher, 2).await;
        assert!(leaves.wait().await.success(), "{name}");
        sdk.sees("connected", 2).await;
        sdk.sees("subscribed", 4).await;
        assert_eq!(sdk.all("connecting")[1]["code"], 3001, "{name}");
        for one in &sdk.all("subscribed")[2..] {
            assert_eq!(one["recovered"], true, "{name}: {one}");
        }
        store(&publisher, 3).await;
        sdk.sees("publication", 3).await;
        let data = sdk.all("publication").into_iter();
        let data: Vec<String> = data
            .map(|one| one["data"].to_string().trim_matches('"').to_owned())
            .collect();
        assert_eq!(data, ["1", "2", "3"], "{name}");
        assert_eq!(stays.metric(held).await, 1.0, "{name}");

        let log = proxy.log();
        assert!(log.contains("/connection/websocket"), "{name}: {log}");
        let tickets = sdk.tickets();
        assert!(tickets.len() >= 2, "{name}");
        for ticket in tickets {
            assert!(!log.contains(&ticket), "{name}: {log}");
        }
    }
}
