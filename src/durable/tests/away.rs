//! Durable mode whose stream is never reached: for what it does without the stream.

use std::{sync::Arc, time::Duration};

use crate::{
    bus::{
        self, Auth, CallsConfig, Config, Nats, Subscriber, Subscriptions,
        stream::{self, LeaderState},
    },
    channel::{Audience, Topic},
    durable::{self, Durable, Session},
    frame::Protocol,
    metrics::Metrics,
    readiness::Readiness,
    registry::Limits,
    telemetry::Tracer,
    tls::ClientFiles,
    user::UserId,
};

/// The most that a session is sent again.
pub(in crate::durable) const MAX_REPLAY: u64 = 10;

#[derive(Clone)]
struct Nobody(Audience);

impl Subscriber for Nobody {
    fn audience(&self) -> &Audience {
        &self.0
    }
}

/// Durable mode in which a backlog has this many messages at most.
pub(in crate::durable) async fn durable(messages: usize) -> Arc<Durable> {
    durable_with(Limits::new(messages, usize::MAX, usize::MAX)).await
}

/// The same with all bounds.
pub(in crate::durable) async fn durable_with(limits: Limits) -> Arc<Durable> {
    let (_, commands) = Subscriptions::<Nobody>::new();
    let (metrics, readiness) = (Arc::new(Metrics::new()), Readiness::new(Duration::ZERO));
    let nats = bus::nats(config(), commands, metrics.clone(), readiness.clone());
    let Nats { stream, .. } = nats.await.expect("a good address");
    let config = durable::Config {
        max_replay: MAX_REPLAY,
        audit: Duration::from_secs(60),
        drain_window: Duration::ZERO,
        max_frame: usize::MAX,
    };
    let watched = (metrics, readiness, Tracer::default());
    Durable::new(
        stream.expect("durable mode"),
        config,
        limits.into(),
        watched,
    )
}

fn config() -> Config {
    Config {
        // Nobody listens on this port.
        servers: vec!["nats://127.0.0.1:1".parse().expect("an address")],
        auth: Auth::default(),
        tls: ClientFiles::default(),
        name: "g".to_owned(),
        prefix: "usher".to_owned(),
        settle: None,
        reply_prefix: "_INBOX.".to_owned(),
        calls: CallsConfig {
            timeout: Duration::from_secs(1),
            max_in_flight: 1,
            max_total: 1,
            echoes: false,
        },
        presence_events: false,
        stream: Some(stream::Config {
            name: "USHER".to_owned(),
            manage: false,
            max_age: None,
            max_messages_per_channel: 1000,
            max_bytes: 1 << 20,
            replicas: 1,
            on_disk: false,
            duplicate_window: Duration::from_secs(1),
            replay_bytes: 1 << 20,
            offline_events: false,
        }),
        tracer: Tracer::default(),
    }
}

/// What the leader of a stream with this many messages has.
pub(in crate::durable) fn leader(last: u64) -> LeaderState {
    LeaderState::example(1, (last, last), 1000)
}

pub(in crate::durable) fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic")
}

/// A session on its way in.
pub(in crate::durable) fn joining(durable: &Arc<Durable>, topics: &[&str]) -> Arc<Session> {
    let user = UserId::parse("42").expect("a user");
    let topics: Vec<_> = topics.iter().map(|name| topic(name)).collect();
    durable.session(&user, Protocol::UsherV1, &topics)
}

/// A session that is up to date with this leader.
pub(in crate::durable) fn open(
    durable: &Arc<Durable>,
    topics: &[&str],
    leader: &LeaderState,
) -> Arc<Session> {
    durable.learn(leader);
    let session = joining(durable, topics);
    let opening = session.open(leader, None);
    opening.expect("the stream is that of the leader");
    session
}
