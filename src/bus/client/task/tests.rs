//! Events of async-nats, in the orders in which they can come.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::{
    bus::{
        client::{
            Peers,
            pending::{Fate, Outcome},
        },
        example_config,
    },
    metrics::Metrics,
    readiness::Readiness,
};

/// The task of a gateway in live mode, which reaches no server.
async fn task() -> (Client, Task) {
    let config = example_config();
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

/// As many pushes as there are echoes at the same time, each with its own.
fn pushes(client: &Client) -> Vec<Outcome> {
    let pushes: Vec<_> = (0..4)
        .map(|_| client.pending.add("usher.user.42", 0))
        .collect();
    for push in &pushes {
        assert!(client.pending.wants_echo(push.number).is_some());
    }
    let further = client.pending.add("usher.user.42", 0);
    assert_eq!(client.pending.wants_echo(further.number), None);
    pushes.into_iter().chain([further]).collect()
}

fn are_lost(client: &Client, pushes: &[Outcome]) {
    for push in pushes {
        assert_eq!(*push.fate.borrow(), Fate::Lost);
    }
    let next = client.pending.add("usher.user.42", 0);
    assert!(client.pending.wants_echo(next.number).is_some());
}

/// A flood of errors can push the event `Disconnected` out.
#[tokio::test]
async fn on_a_new_connection_no_echo_of_the_old_one_is_awaited() {
    let (client, mut task) = task().await;
    client.open();
    let pushes = pushes(&client);
    task.event(&Event::Connected);
    are_lost(&client, &pushes);
    assert_eq!(gate(&client), Gate::Held, "until it is proven");
}

/// NATS's permissions are loaded anew, and the connection stays.
#[tokio::test]
async fn an_echo_that_is_forbidden_from_now_on_closes_the_gate() {
    for verb in ["Publish", "Subscription"] {
        let (client, mut task) = task().await;
        client.open();
        let pushes = pushes(&client);
        let echo = client.subjects.echo();
        let refusal = format!("Permissions Violation for {verb} to {echo:?}");
        task.event(&Event::ServerError(ServerError::Other(refusal)));
        are_lost(&client, &pushes);
        assert_eq!(gate(&client), Gate::Forbidden);
        assert!(task.proving.is_some(), "it is tried again");
    }
}

/// Each is forbidden, and the next one is sent all the same.
#[tokio::test]
async fn any_number_of_probes_can_be_forbidden() {
    let (client, mut task) = task().await;
    for _ in 0..10 {
        let probe = client.pending.add(&client.subjects.probe(), 1);
        assert!(client.pending.wants_echo(probe.number).is_some());
        let echo = client.subjects.echo();
        let refusal = format!("Permissions Violation for Publish to {echo:?}");
        task.event(&Event::ServerError(ServerError::Other(refusal)));
        assert_eq!(*probe.fate.borrow(), Fate::Forbidden);
    }
}

/// The question came just before the connection moved; the answer leaves on the next one.
#[tokio::test]
async fn an_answer_to_a_gateway_waits_while_the_connection_moves() {
    let (client, _task) = task().await;
    let peers = Peers::new(client.clone(), "_INBOX.");
    client.open();
    client.hold(Gate::Open);
    let mut answering = Box::pin(peers.answer("_INBOX.1".to_owned(), "{}".into()));
    assert!((&mut answering).now_or_never().is_none(), "it waits");
    client.open();
    assert!(
        (&mut answering).now_or_never().is_some(),
        "async-nats has it"
    );
    client.close(&"the connection broke");
    let answer = peers.answer("_INBOX.1".to_owned(), "{}".into());
    assert!(answer.now_or_never().is_some(), "it is dropped");
}
