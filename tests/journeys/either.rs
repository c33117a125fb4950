//! What holds on either kind of backend: NATS and Redis, or the embedded ones.
//! Each journey is told once and run on both.

use serde_json::json;
use tonic::{Code, transport::Channel};
use usher::proto::{
    IssueTicketRequest, PushRequest, PushStatus, notification_client::NotificationClient,
};

use super::support::{
    Client, Events, Gateway, Nats, Redis,
    gateway::Builder,
    grpc::{issue, push, push_with_receipt, pushed},
    servers,
};

/// Runs each journey on both backends, with these settings.
macro_rules! on_either {
    ($($(#[$doc:meta])* $name:ident [$($setting:expr),*] $journey:expr;)*) => {
        mod on_real_servers {
            use super::*;
            $(
                $(#[$doc])*
                #[tokio::test]
                async fn $name() {
                    let world = World::real(&[$($setting),*]).await;
                    ($journey)(world).await;
                }
            )*
        }
        mod embedded {
            use super::*;
            $(
                $(#[$doc])*
                #[tokio::test]
                async fn $name() {
                    let world = World::embedded(&[$($setting),*]).await;
                    ($journey)(world).await;
                }
            )*
        }
    };
}

on_either! {
    a_ticket_opens_one_door_once [] a_ticket;
    of_twenty_racing_with_one_ticket_one_wins [] a_race;
    a_push_reaches_every_session_of_its_user_and_nobody_else [] a_push;
    pushes_stay_in_order [] an_order;
    any_payload_arrives_as_what_it_is [] payloads;
    a_receipt_counts_sessions_and_the_absent_are_offline [] a_receipt;
    the_subscription_ends_with_the_last_session [] a_leave;
    one_session_too_many_replaces_the_oldest [("public.max_sessions_per_user", "2")] too_many;
    a_session_ends_when_its_ticket_says [] an_end;
    nonsense_is_4102 [] nonsense;
    a_drain_says_goodbye [("drain.delay", "100ms"), ("drain.window", "500ms")] a_drain;
    what_is_too_large_is_refused [("grpc.max_message", "2MiB")] too_large;
    server_sent_events_are_the_same_session
        [("drain.delay", "100ms"), ("drain.window", "500ms")]
        as_events;
}

/// A gateway and a service that pushes, on one kind of backend.
struct World {
    _servers: Option<(Nats, Redis)>,
    gateway: Gateway,
    service: NotificationClient<Channel>,
}

impl World {
    async fn real(settings: &[(&str, &str)]) -> Self {
        let (nats, redis) = servers().await;
        let builder = Gateway::builder(&nats, &redis);
        Self::start(builder, settings, Some((nats, redis))).await
    }

    async fn embedded(settings: &[(&str, &str)]) -> Self {
        let builder = Builder::new().argument("--embedded");
        Self::start(builder, settings, None).await
    }

    async fn start(
        builder: Builder,
        settings: &[(&str, &str)],
        servers: Option<(Nats, Redis)>,
    ) -> Self {
        let builder = settings
            .iter()
            .fold(builder, |builder, (key, value)| builder.set(key, *value));
        let gateway = builder.start().await;
        let service = gateway.grpc().await;
        Self {
            _servers: servers,
            gateway,
            service,
        }
    }

    async fn ticket(&mut self, user: &str) -> String {
        let request = IssueTicketRequest {
            user_id: user.to_owned(),
            ..Default::default()
        };
        issue(&mut self.service, request).await
    }

    async fn open(&mut self, user: &str) -> Client {
        let ticket = self.ticket(user).await;
        Client::open(&self.gateway, &ticket).await
    }

    async fn push(&mut self, user: &str, message: impl Into<Vec<u8>>) {
        let answer = pushed(&mut self.service, push(user, message)).await;
        assert_eq!(answer.status(), PushStatus::Dispatched);
    }

    async fn receipt(&mut self, user: &str) -> (PushStatus, u32) {
        let answer = pushed(&mut self.service, push_with_receipt(user, "0")).await;
        (answer.status(), answer.sessions)
    }
}

async fn a_ticket(mut world: World) {
    let ticket = world.ticket("42").await;
    let client = Client::open(&world.gateway, &ticket).await;
    assert_eq!(client.welcome()["user"], "42");
    let again = Client::try_open(&world.gateway, &ticket).await;
    again
        .err()
        .expect("a refusal")
        .assert_refused(401, "ticket_unknown");
}

async fn a_race(mut world: World) {
    let ticket = world.ticket("42").await;
    let tries = (0..20).map(|_| Client::try_open(&world.gateway, &ticket));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

async fn a_push(mut world: World) {
    let mut laptop = world.open("bob@example.com").await;
    let mut phone = world.open("bob@example.com").await;
    let mut other = world.open("bob").await;
    let request = PushRequest {
        event: "order.completed".into(),
        ..push("bob@example.com", "{\"a\":1}")
    };
    pushed(&mut world.service, request).await;
    for client in [&mut laptop, &mut phone] {
        let event = json!({"event": "order.completed", "data": {"a": 1}});
        assert_eq!(client.next_event().await, event);
    }
    world.push("bob", "2").await;
    assert_eq!(
        other.next_data().await,
        2,
        "the first that it gets is its own"
    );
}

async fn an_order(mut world: World) {
    let mut client = world.open("42").await;
    for number in 0..200 {
        world.push("42", number.to_string()).await;
    }
    for number in 0..200 {
        assert_eq!(client.next_data().await, number);
    }
}

async fn payloads(mut world: World) {
    let mut client = world.open("42").await;
    for (payload, key, seen) in [
        (&b"{\"a\": [1,2]}"[..], "data", json!({"a": [1, 2]})),
        (b"", "data", json!("")),
        (b"{\"a\":", "data", json!("{\"a\":")),
        (b"1 2", "data", json!("1 2")),
        (b"\xff\x00", "base64", json!("/wA=")),
    ] {
        world.push("42", payload).await;
        assert_eq!(
            client.next_event().await,
            json!({"event": "message", key: seen})
        );
    }
}

async fn a_receipt(mut world: World) {
    assert_eq!(world.receipt("42").await, (PushStatus::Offline, 0));
    let _laptop = world.open("42").await;
    assert_eq!(world.receipt("42").await, (PushStatus::Queued, 1));
    let _phone = world.open("42").await;
    assert_eq!(world.receipt("42").await, (PushStatus::Queued, 2));
    assert_eq!(world.receipt("43").await, (PushStatus::Offline, 0));
}

async fn a_leave(mut world: World) {
    let mut laptop = world.open("42").await;
    let mut phone = world.open("42").await;
    world
        .gateway
        .metric_becomes("usher_subscriptions", 1.0)
        .await;
    laptop.close(1000).await;
    world.gateway.metric_becomes("usher_sessions", 1.0).await;
    assert_eq!(world.receipt("42").await, (PushStatus::Queued, 1));
    phone.close(1000).await;
    world
        .gateway
        .metric_becomes("usher_subscriptions", 0.0)
        .await;
    world.gateway.metric_becomes("usher_users", 0.0).await;
    assert_eq!(world.receipt("42").await, (PushStatus::Offline, 0));
}

async fn too_many(mut world: World) {
    let mut first = world.open("42").await;
    let _second = world.open("42").await;
    let _third = world.open("42").await;
    assert_eq!(first.expect_close().await, (4101, "replaced".to_owned()));
    assert_eq!(world.receipt("42").await, (PushStatus::Queued, 2));
}

async fn an_end(mut world: World) {
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let request = IssueTicketRequest {
        user_id: "42".to_owned(),
        expires_at: Some(soon.into()),
        ..Default::default()
    };
    let ticket = issue(&mut world.service, request).await;
    let mut client = Client::open(&world.gateway, &ticket).await;
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );
}

async fn nonsense(mut world: World) {
    let mut client = world.open("42").await;
    client.send_text("[]").await;
    assert_eq!(client.expect_close().await, (4102, "bad_frame".to_owned()));
}

async fn a_drain(mut world: World) {
    let mut client = world.open("42").await;
    world.push("42", "1").await;
    world.gateway.terminate();
    assert_eq!(
        client.next_data().await,
        1,
        "what was on its way comes first"
    );
    let goodbye = client.expect_goodbye().await;
    assert_eq!(goodbye["reason"], "drain");
    assert!(goodbye["reconnect_after_ms"].is_u64(), "{goodbye}");
    assert_eq!(client.expect_close().await, (1012, "drain".to_owned()));
    assert!(world.gateway.wait().await.success());
}

async fn too_large(mut world: World) {
    let request = push("42", vec![b'x'; (1 << 20) + 1]);
    let refused = world
        .service
        .push_notification(request)
        .await
        .expect_err("a refusal");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("1048576"),
        "{}",
        refused.message()
    );
}

async fn as_events(mut world: World) {
    let ticket = world.ticket("42").await;
    let mut events = Events::open(&world.gateway, &ticket).await;
    Events::builder(&world.gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    let mut socket = world.open("42").await;
    assert_eq!(world.receipt("42").await, (PushStatus::Queued, 2));
    world.push("42", "[1,\n2]").await;
    for _ in 0..2 {
        let seen = (events.next_data().await, socket.next_data().await);
        assert_eq!(seen.0, seen.1);
    }
    world.gateway.terminate();
    assert_eq!(events.expect_goodbye().await["reason"], "drain");
    assert!(world.gateway.wait().await.success());
}
