//! Events of async-nats, in the orders in which they can come.

use std::time::Duration;

use url::Url;

use super::*;
use crate::{
    bus::{Auth, CallsConfig},
    metrics::Metrics,
    readiness::Readiness,
    telemetry::Tracer,
    tls::ClientFiles,
};

/// The task of a gateway in live mode, which reaches no server.
async fn task() -> (Client, Task) {
    let config = Config {
        servers: vec![Url::parse("nats://127.0.0.1:1").expect("a URL")],
        auth: Auth::Anonymous,
        tls: ClientFiles::default(),
        name: "one".to_owned(),
        prefix: "usher".to_owned(),
        settle: None,
        reply_prefix: "_INBOX.".to_owned(),
        calls: CallsConfig {
            timeout: Duration::ZERO,
            max_in_flight: 0,
            max_total: 0,
            echoes: false,
        },
        presence_events: false,
        stream: None,
        tracer: Tracer::default(),
    };
    let readiness = Readiness::new(Duration::ZERO);
    let health = Health::new(
        "push",
        Part::Push,
        false,
        Arc::new(Metrics::new()),
        readiness,
    );
    let (servers, subjects) = (Servers::new(&config.servers), config.subjects());
    begin(config, servers, subjects, health)
        .await
        .expect("a client")
}

fn gate(client: &Client) -> Gate {
    *client.gate.borrow()
}

/// What is handed over to async-nats while no server is reached is published much later.
#[tokio::test]
async fn a_lame_duck_that_goes_before_another_is_found_closes_the_gate() {
    let (client, mut task) = task().await;
    client.open();
    task.event(&Event::LameDuckMode);
    assert_eq!(gate(&client), Gate::Open, "until then it works");
    task.event(&Event::Disconnected);
    assert_eq!(gate(&client), Gate::Away);
    assert!(task.leaving.is_none(), "async-nats looks for a server");
}

#[tokio::test]
async fn pushes_wait_for_a_connection_that_moves() {
    let (client, mut task) = task().await;
    client.open();
    task.event(&Event::LameDuckMode);
    client.hold(Gate::Open);
    task.event(&Event::Disconnected);
    assert_eq!(gate(&client), Gate::Held);
    assert!(task.leaving.is_some(), "for a bounded time");
}
