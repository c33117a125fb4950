//! Answers that no library would write, too late, or twice. None touches another call, and
//! none touches the connection.

use serde_json::json;

use super::service::{Service, answer, call, caller, fails, works};
use crate::support::{Client, Gateway, Nats, RawNats, Redis, nats::Role};

/// A service that writes NATS's protocol by hand, and the client that asks it.
struct World {
    _nats: Nats,
    _redis: Redis,
    gateway: Gateway,
    raw: RawNats,
    service: Service,
    client: Client,
}

async fn world(timeout: &str) -> World {
    world_with(Nats::start().await, timeout).await
}

async fn world_with(nats: Nats, timeout: &str) -> World {
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nats, &redis).set("calls.timeout", timeout);
    let gateway = gateway.start().await;
    let mut raw = RawNats::connect_as(&nats, Role::Responder).await;
    raw.subscribe("usher.call.odd").await;
    World {
        service: Service::of(&nats, "good").await,
        client: caller(&gateway, &redis, "42").await,
        _nats: nats,
        _redis: redis,
        gateway,
        raw,
    }
}

impl World {
    /// Calls the odd service; returns where the answer goes.
    async fn ask(&mut self, id: &str) -> String {
        call(&mut self.client, id, "odd", json!(1)).await;
        self.raw.next().await.reply.expect("a reply subject")
    }

    async fn still_works(&mut self) {
        works(&mut self.client, &mut self.service, "good").await;
        let log = self.gateway.log();
        assert!(!log.contains("connection to NATS is lost"), "{log}");
    }
}

#[tokio::test]
async fn odd_headers_are_read_for_what_they_say() {
    let mut world = world("5s").await;
    for block in [
        &b"NATS/1.0\r\nno colon\r\n\r\n"[..],
        b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\n\xff: 1\r\n: 2\r\n\r\n",
        b"NATS/1.0\nX: 1\n\n",
        b"NATS/1.0 200 Fine\r\n\r\n",
        b"no version\r\n\r\n",
        b"\r\n",
        b"\0",
    ] {
        let reply = world.ask("1").await;
        world.raw.publish_bytes(&reply, block, b"\"odd\"").await;
        let given = answer(&mut world.client).await;
        assert_eq!(given, ("1".to_owned(), Ok(json!("odd"))), "{block:?}");
    }
    let reply = world.ask("2").await;
    let error = b"NATS/1.0\r\nno colon\r\nnats-service-error-code: \xff1\r\nNATS-SERVICE-ERROR: \xff\r\n\r\n";
    world.raw.publish_bytes(&reply, error, b"").await;
    assert_eq!(fails(&mut world.client, "2", "\u{fffd}1").await, "\u{fffd}");
    world.still_works().await;
}

/// It would else be taken for the answer to another call.
#[tokio::test]
async fn a_second_answer_is_dropped() {
    // The example's permissions allow one answer.
    let mut world = world_with(Nats::start_with("").await, "5s").await;
    let reply = world.ask("1").await;
    world.raw.publish(&reply, b"", "\"first\"").await;
    world.raw.publish(&reply, b"", "\"second\"").await;
    let given = answer(&mut world.client).await;
    assert_eq!(given, ("1".to_owned(), Ok(json!("first"))));
    world.still_works().await;
}

#[tokio::test]
async fn a_late_answer_is_dropped() {
    let mut world = world("100ms").await;
    let reply = world.ask("1").await;
    let message = fails(&mut world.client, "1", "timeout").await;
    assert!(message.contains("may have been done"), "{message}");
    world.raw.publish(&reply, b"", "\"late\"").await;
    let timeouts = world
        .gateway
        .metric("usher_calls_total{result=\"timeout\"}")
        .await;
    assert_eq!(timeouts, 1.0);
    world
        .gateway
        .metric_becomes("usher_calls_in_flight", 0.0)
        .await;
    // The next frame is of the next call.
    let reply = world.ask("2").await;
    world.raw.publish(&reply, b"", "2").await;
    let (id, _) = answer(&mut world.client).await;
    assert_eq!(id, "2");
}
