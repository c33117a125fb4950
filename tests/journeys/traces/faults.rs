//! A collector that is away, or stands still, hurts nothing.

use std::time::Duration;

use super::{Collector, USER, calling, publish, sampled, world};
use crate::support::{Client, Gateway, eventually, grpc::push, process::free_port, servers};

const WARNS: &str = "traces can't be sent";
const CLEAR: &str = "traces are sent again";

fn count(gateway: &Gateway, text: &str) -> usize {
    gateway.log().matches(text).count()
}

#[tokio::test]
async fn nobody_notices_a_collector_that_is_away() {
    let (nats, redis, mut collector, gateway) = world("0").await;
    let publisher = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    let before = sampled(30);
    publish(&publisher, before.headers(), "0").await;
    assert_eq!(client.next_data().await, 0);
    collector.only("deliver", &before.trace).await;

    let port = collector.port;
    collector.kill();
    for number in 1..=50_u8 {
        publish(
            &publisher,
            sampled(30 + number).headers(),
            &number.to_string(),
        )
        .await;
        assert_eq!(client.next_data().await, number);
    }
    gateway.logs(WARNS).await;
    let mut grpc = gateway.grpc().await;
    grpc.push_notification(push(USER, "51"))
        .await
        .expect("pushed");
    assert_eq!(client.next_data().await, 51);
    assert_eq!(gateway.readyz().await, 200);

    // What waited is here when it is back.
    let collector = Collector::start_at(port).await;
    gateway.logs(CLEAR).await;
    for number in 1..=50 {
        collector.only("deliver", &sampled(30 + number).trace).await;
    }
    let last = sampled(90);
    publish(&publisher, last.headers(), "52").await;
    assert_eq!(client.next_data().await, 52);
    collector.only("deliver", &last.trace).await;
    assert_eq!((count(&gateway, WARNS), count(&gateway, CLEAR)), (1, 1));
    let sent = gateway
        .metric("usher_trace_spans_total{result=\"sent\"}")
        .await;
    assert_eq!(sent, 52.0);
}

/// The queue of spans is full, and messages go on.
#[tokio::test]
async fn a_collector_that_stands_still_holds_up_nothing() {
    const MESSAGES: u32 = 6000;
    const DROPPED: &str = "usher_trace_spans_total{result=\"dropped\"}";
    let (nats, redis, mut collector, gateway) = world("1").await;
    let publisher = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    collector.process.pause();
    let subject = format!("usher.user.{USER}");
    for number in 0..MESSAGES {
        let published = publisher.publish(subject.clone(), number.to_string().into());
        published.await.expect("published");
        if number % 100 == 99 {
            publisher.flush().await.expect("flushed");
            for number in number - 99..=number {
                assert_eq!(client.next_data().await, number);
            }
        }
    }
    gateway.logs(WARNS).await;
    assert!(gateway.metric(DROPPED).await >= 1.0);
    collector.process.resume();
    gateway.logs(CLEAR).await;
    assert_eq!(count(&gateway, WARNS), 1);
    eventually("spans come again", || {
        let later = collector.spans().len() > 1000;
        std::future::ready(later)
    })
    .await;
}

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end_of_a_drain() {
    let (nats, redis) = servers().await;
    let collector = Collector::start().await;
    let start = async || {
        let gateway = collector.of(Gateway::builder(&nats, &redis), "0");
        let gateway = gateway.set("drain.delay", "0s").set("drain.window", "0s");
        gateway.start().await
    };
    let mut gateway = start().await;
    let caller = sampled(91);
    let request = calling(push(USER, "1"), &[("traceparent", &caller.header())]);
    let pushed = gateway.grpc().await.push_notification(request).await;
    pushed.expect("pushed");
    gateway.terminate();
    assert!(gateway.wait().await.success());
    collector.only("push", &caller.trace).await;
}

/// It ends all the same where nobody takes them.
#[tokio::test]
async fn a_drain_waits_for_no_collector() {
    let (nats, redis, mut collector, _) = world("0").await;
    collector.process.pause();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let frozen = format!("http://127.0.0.1:{}", collector.port);
    for endpoint in [nowhere, frozen] {
        let mut gateway = Gateway::builder(&nats, &redis)
            .set("telemetry.otlp_endpoint", endpoint)
            .set("telemetry.sample_ratio", "1")
            .set("drain.delay", "0s")
            .set("drain.window", "0s")
            .start()
            .await;
        let pushed = gateway
            .grpc()
            .await
            .push_notification(push(USER, "1"))
            .await;
        pushed.expect("pushed");
        gateway.terminate();
        let ends = tokio::time::timeout(Duration::from_secs(20), gateway.wait()).await;
        assert!(ends.expect("it ends").success(), "{}", gateway.log());
    }
    collector.process.resume();
}
