//! Topics that NATS takes away: the registry without a bus.

use super::*;
use crate::{
    bus::{Command, Commands},
    telemetry::Tracer,
};
use ulid::Ulid;

struct World {
    registry: Arc<Registry>,
    commands: Commands<Arc<Entry>>,
}

fn user() -> UserId {
    UserId::parse("42").expect("a user id")
}

fn topic() -> Topic {
    Topic::parse("news").expect("a topic")
}

impl World {
    /// NATS is here, and `settle` is a second.
    fn new() -> Self {
        let (subscriptions, commands) = Subscriptions::new();
        let config = Config {
            gateway: "g".to_owned(),
            reply_prefix: "_INBOX.".to_owned(),
            settle: Some(Duration::from_secs(1)),
            max_sessions_per_user: 10,
            queue_messages: 10,
            queue_bytes: 1000,
            total_queue_bytes: 1000,
            drain_window: Duration::from_secs(20),
            max_topics_per_session: 10,
            max_topics: 10,
            max_frame: 1000,
            tracer: Tracer::default(),
        };
        let metrics = Arc::new(Metrics::new());
        let registry = Arc::new(Registry::new(config, Arc::new(subscriptions), metrics));
        registry.up(false);
        Self { registry, commands }
    }

    /// The next subscription that the registry asks for; NATS confirms it.
    fn confirm(&mut self) -> (Arc<Entry>, u64) {
        match self.commands.try_recv() {
            Ok(Command::Subscribe(id, held)) => {
                held.confirm(id, 0);
                (held, id)
            }
            other => panic!("no subscription: {other:?}"),
        }
    }

    /// A session that was told its `welcome`.
    fn welcomed(&mut self) -> SessionHandle {
        let registry = &self.registry;
        let session: Arc<dyn Session> = Live::new(Protocol::UsherV1, registry.limits.clone());
        let (users, audience) = (&registry.users, Audience::User(user()));
        let joined = membership::join(users, &*registry.subscriptions, &audience, session.clone());
        let handle = SessionHandle {
            registry: registry.clone(),
            user: user(),
            held: joined.held,
            session,
        };
        if joined.confirmed_on.is_none() {
            self.confirm();
        }
        handle.commit().expect("it is confirmed");
        handle.started(Ulid::new());
        handle
    }
}

/// NATS confirms a topic and refuses it a moment later, before the session follows it.
#[tokio::test(start_paused = true)]
async fn a_session_does_not_stay_deaf_to_a_topic_that_nats_took_away() {
    let mut world = World::new();
    let (registry, handle) = (world.registry.clone(), world.welcomed());
    let change = TopicChange {
        follow: vec![topic()],
        ..TopicChange::default()
    };
    let following = tokio::spawn(handle.follower().change(change));
    tokio::task::yield_now().await;
    let (held, id) = world.confirm();
    // It waits until the subscription has settled.
    tokio::task::yield_now().await;
    registry.refuse(vec![(held, id)]);
    let followed = following.await.expect("no panic");
    let hears = followed.is_ok() && handle.backlog().is_open();
    assert!(!hears, "it follows what it does not hear: {followed:?}");
}

/// The same at a join.
#[tokio::test(start_paused = true)]
async fn a_join_fails_whose_topic_nats_took_away() {
    let mut world = World::new();
    let registry = world.registry.clone();
    let session = Live::new(Protocol::UsherV1, registry.limits.clone());
    let joining = tokio::spawn({
        let registry = registry.clone();
        async move {
            let (user, topics) = (user(), [topic()]);
            let joined = registry.join(&user, &topics, session, Instant::now());
            joined.await.map(drop)
        }
    });
    tokio::task::yield_now().await;
    world.confirm();
    let (held, id) = world.confirm();
    tokio::task::yield_now().await;
    registry.refuse(vec![(held, id)]);
    let joined = joining.await.expect("no panic");
    assert_eq!(joined, Err(JoinError::Forbidden));
}
