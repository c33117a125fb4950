//! Envoy before gateways: by `examples/envoy.yaml`, by its own defaults, and as Istio's sidecar
//! has it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Endpoint;
use usher::proto::notification_client::NotificationClient;

use super::{Proxy, drains_cleanly, two};
use crate::{
    helm::read,
    support::{Events, Gateway, grpc::push, process::free_port},
};

/// The gateways of the example, and what stands for them.
fn example(address: &str, grpc: &str, gateways: [&Gateway; 2]) -> String {
    let mut text = read("examples/envoy.yaml");
    let [one, other] = gateways;
    for (port, at) in [
        ("8000", address),
        ("8001", grpc),
        ("8080", &one.public),
        ("8081", &other.public),
        ("9090", &one.grpc),
        ("9091", &other.grpc),
        ("9901", "127.0.0.1:0"),
    ] {
        let (_, to) = at.rsplit_once(':').expect("a port");
        let wanted = format!("port_value: {port}}}");
        assert!(text.contains(&wanted), "examples/envoy.yaml has no {port}");
        text = text.replace(&wanted, &format!("port_value: {to}}}"));
    }
    text.replace("address: 0.0.0.0", "address: 127.0.0.1")
}

impl Proxy {
    /// Envoy as the example has it; `grpc` is where services call.
    pub(super) async fn example_envoy_at(gateways: [&Gateway; 2], grpc: &str) -> Self {
        Self::start("envoy", |address, _| example(address, grpc, gateways)).await
    }

    pub(super) async fn example_envoy(gateways: [&Gateway; 2]) -> Self {
        Self::example_envoy_at(gateways, &format!("127.0.0.1:{}", free_port())).await
    }

    /// The example with these lines instead of others.
    async fn envoy_with(gateways: [&Gateway; 2], lines: &[(&str, &str)]) -> Self {
        let grpc = format!("127.0.0.1:{}", free_port());
        Self::start("envoy", |address, _| {
            let mut text = example(address, &grpc, gateways);
            for (ours, other) in lines {
                assert!(text.contains(ours), "examples/envoy.yaml has no {ours}");
                text = text.replace(ours, other);
            }
            text
        })
        .await
    }
}

/// What Istio gives a sidecar where nobody says anything: no idle limit of a stream, two more
/// tries, 503 among their reasons up to 1.23, and no health checks of its own.
const ISTIO: [(&str, &str); 3] = [
    ("stream_idle_timeout: 75s", "stream_idle_timeout: 0s"),
    (
        "retry_on: connect-failure,retriable-status-codes",
        "retry_on: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    ),
    ("unhealthy_threshold: 2", "unhealthy_threshold: 1000"),
];

#[tokio::test]
async fn a_drain_is_clean_behind_envoy() {
    let ours = async {
        let (_nats, redis, one, other) = two().await;
        let proxy = Proxy::example_envoy([&one, &other]).await;
        drains_cleanly(proxy, redis, one, other).await;
    };
    // Istio's second try alone leads newcomers to the other gateway.
    let istio = async {
        let (_nats, redis, one, other) = two().await;
        let proxy = Proxy::envoy_with([&one, &other], &ISTIO).await;
        drains_cleanly(proxy, redis, one, other).await;
    };
    tokio::join!(ours, istio);
}

/// Envoy's own limit of a response is 15 s, and a stream of events is a response without an end.
#[tokio::test]
async fn events_outlive_envoys_own_limit() {
    let (nats, redis, one, other) = two().await;
    let gateways = [&one, &other];
    let no_limit = "timeout: 0s\n                            # A gateway that drains";
    let own = "# A gateway that drains";
    let bare = [(no_limit, own)];
    let (ours, bare) = tokio::join!(
        Proxy::example_envoy(gateways),
        Proxy::envoy_with(gateways, &bare)
    );
    let began = Instant::now();
    let mut open = Vec::new();
    for proxy in [&ours, &bare] {
        let ticket = redis.ticket("reader").await;
        let events = Events::builder(&one, &ticket).at(&proxy.address);
        open.push(events.open().await);
    }
    let mut bare = open.pop().expect("two");
    assert_eq!(bare.rest().await, [] as [serde_json::Value; 0]);
    assert!(
        began.elapsed() > Duration::from_secs(14),
        "{:?}",
        began.elapsed()
    );
    nats.publish("usher.user.reader", "\"still here\"").await;
    let ours = &mut open[0];
    assert_eq!(ours.next_data().await, "still here");
}

/// One connection of a caller leads to all gateways, which a Service in front would not do.
#[tokio::test]
async fn calls_of_one_connection_go_to_all_gateways() {
    let (_nats, _redis, one, other) = two().await;
    let grpc = format!("127.0.0.1:{}", free_port());
    let _envoy = Proxy::example_envoy_at([&one, &other], &grpc).await;
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let mut client = NotificationClient::new(channel);
    for number in 0..20 {
        let pushed = client.push_notification(push("nobody", format!("{number}")));
        pushed.await.expect("published");
    }
    let mut calls = Vec::new();
    for gateway in [&one, &other] {
        calls.push(gateway.metric("usher_grpc_requests_total").await);
    }
    assert_eq!(calls, [10.0, 10.0]);
}
