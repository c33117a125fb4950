//! Events of async-nats, in the orders in which they can come.

use std::time::Duration;

use async_nats::ServerError;
use futures_util::FutureExt as _;

use super::*;
use crate::{
    bus::{
        client::{
            Peers,
            pending::{Fate, Outcome},
        },
        example_config,
        interest::Info,
    },
    metrics::Metrics,
    readiness::{Readiness, Reason},
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

fn violation(what: &str, subject: &str) -> Event {
    let text = format!("Permissions Violation for {what} to {subject:?}");
    Event::ServerError(ServerError::Other(text))
}

/// async-nats drops errors beyond these, and the echo behind them comes all the same.
#[tokio::test]
async fn where_errors_may_be_lost_nothing_is_confirmed() {
    let (client, mut task) = task().await;
    client.open();
    let handed_over = client.pending.add("usher.user.42", 0);
    let waits = client.pending.add("usher.user.42", 0);
    let echo = client.pending.wants_echo(waits.number).expect("an echo");
    for _ in 1..EVENTS {
        task.event(&violation("Publish", "usher.user.7"));
    }
    assert_eq!(*waits.fate.borrow(), Fate::UnderWay);
    task.event(&violation("Publish", "usher.user.7"));
    task.echo(echo.to_string().as_bytes()).await;
    assert_eq!(*waits.fate.borrow(), Fate::Lost);
    assert_eq!(*handed_over.fate.borrow(), Fate::Lost);
}

/// The task of async-nats that hands errors on lets others run in between.
#[tokio::test]
async fn an_echo_waits_for_all_errors_before_it() {
    let (client, mut task) = task().await;
    client.open();
    let (sender, events) = mpsc::channel(EVENTS);
    task.events = events;
    let (of_nats, mut handed_on) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        while let Some(event) = handed_on.recv().await {
            sender.send(event).await.expect("the task");
        }
    });
    let push = client.pending.add("usher.user.42", 0);
    let echo = client.pending.wants_echo(push.number).expect("an echo");
    for _ in 2..EVENTS {
        let error = violation("Publish", "usher.user.7");
        of_nats.try_send(error).expect("room");
    }
    let error = violation("Publish", "usher.user.42");
    of_nats.try_send(error).expect("room");
    task.echo(echo.to_string().as_bytes()).await;
    assert_eq!(*push.fate.borrow(), Fate::Forbidden);
}

/// NATS's permissions are loaded anew, and the connection stays.
#[tokio::test]
async fn a_push_that_is_forbidden_has_the_connection_proven_anew() {
    let (client, mut task) = task().await;
    client.open();
    task.event(&violation("Publish", "usher.presence.42"));
    assert!(task.proving.is_none(), "it is no push");
    task.event(&violation("Publish", "usher.user.42"));
    assert!(task.proving.is_some());
    assert_eq!(gate(&client), Gate::Open, "perhaps only this user's");
}

/// The server before took it, or the network broke.
#[tokio::test]
async fn a_push_is_too_large_only_where_nats_said_so() {
    for (said, outcome) in [
        (false, Failure::Unknown),
        (
            true,
            Failure::TooLarge {
                size: 10_000,
                limit: 4096,
            },
        ),
    ] {
        let (client, mut task) = task().await;
        client.open();
        let push = Outgoing {
            subject: "usher.user.42".to_owned(),
            payload: vec![b'x'; 10_000].into(),
            ..Outgoing::default()
        };
        let mut sent = client.send(push, 0).await.expect("handed over");
        if said {
            let text = "Maximum Payload Violation".to_owned();
            task.event(&Event::ServerError(ServerError::Other(text)));
        }
        task.event(&Event::Disconnected);
        client.servers.learn(&Info {
            max_payload: 4096,
            ..Info::default()
        });
        client.open();
        assert_eq!(sent.confirmed().await, Err(outcome));
    }
}

/// Other gateways may answer it.
#[tokio::test]
async fn only_a_refused_question_is_forbidden() {
    let (client, mut task) = task().await;
    client.open();
    let [gateways, control] = [client.subjects.gateways(), client.subjects.control()];
    let question = client.pending.add(&control, 1);
    task.event(&violation("Subscription", &control));
    task.event(&violation("Publish", &gateways));
    assert_eq!(*question.fate.borrow(), Fate::UnderWay);
    task.event(&violation("Publish", &control));
    assert_eq!(*question.fate.borrow(), Fate::Forbidden);
}

/// Nobody need ask a question for it.
#[tokio::test]
async fn questions_that_were_forbidden_are_tried_again() {
    let (client, mut task) = task().await;
    client.open();
    let readiness = client.health.readiness.clone();
    let forbidden = vec![Reason::ControlForbidden];
    let refused = violation("Publish", &client.subjects.control());
    task.event(&refused);
    let pass = async || {
        let change = readiness.changed_from(&forbidden, Readiness::warnings);
        timeout(4 * REFUSAL, change).await.is_ok()
    };
    task.subscribe_again().await;
    task.event(&refused);
    assert!(!pass().await, "they are forbidden still");
    task.subscribe_again().await;
    assert!(pass().await);
}
