use super::*;

fn reached(nats_grace: Duration) -> Readiness {
    let readiness = Readiness::new(nats_grace);
    let parts = [Part::Interest, Part::Push, Part::Redis];
    for part in parts {
        readiness.needs(part);
    }
    for part in parts {
        assert!(!readiness.is_ready());
        readiness.up(part);
    }
    assert_eq!(readiness.reasons(), []);
    readiness
}

#[test]
fn it_names_what_has_not_answered_yet() {
    let readiness = Readiness::new(Duration::ZERO);
    for part in [Part::Interest, Part::Push, Part::Stream, Part::Redis] {
        readiness.needs(part);
    }
    assert_eq!(
        readiness.reasons(),
        [
            Reason::NatsNotReached,
            Reason::StreamNotReady,
            Reason::RedisNotReached
        ]
    );
    readiness.away(Part::Redis);
    assert!(readiness.reasons().contains(&Reason::RedisNotReached));
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_a_grace_is_a_warning() {
    let readiness = reached(Duration::ZERO);
    readiness.away(Part::Push);
    assert!(!readiness.can_push());
    readiness.away(Part::Redis);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(readiness.reasons(), []);
    assert_eq!(readiness.warnings(), [Reason::NatsAway, Reason::RedisAway]);
    readiness.drain();
    assert_eq!(readiness.reasons(), [Reason::Draining]);
}

#[test]
fn an_unusable_server_is_a_reason_until_it_is_usable() {
    let readiness = reached(Duration::ZERO);
    readiness.unusable(Part::Redis, Reason::RedisUnusable);
    assert_eq!(readiness.reasons(), [Reason::RedisUnusable]);
    readiness.up(Part::Redis);
    readiness.push_forbidden(true);
    assert!(readiness.is_ready() && !readiness.can_push());
    assert_eq!(readiness.warnings(), [Reason::PushForbidden]);
}

#[test]
fn an_unusable_server_that_goes_away_makes_nothing_ready() {
    let readiness = Readiness::new(Duration::ZERO);
    readiness.needs(Part::Redis);
    readiness.unusable(Part::Redis, Reason::RedisUnusable);
    readiness.away(Part::Redis);
    assert_eq!(readiness.reasons(), [Reason::RedisNotReached]);
    let readiness = reached(Duration::ZERO);
    readiness.unusable(Part::Redis, Reason::RedisUnusable);
    readiness.away(Part::Redis);
    assert_eq!(readiness.reasons(), [Reason::RedisUnusable]);
    readiness.up(Part::Redis);
    assert_eq!(readiness.reasons(), []);
    readiness.away(Part::Redis);
    assert_eq!(readiness.warnings(), [Reason::RedisAway]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_counts_when_the_grace_is_over() {
    let readiness = reached(Duration::from_secs(5));
    let start = Instant::now();
    readiness.away(Part::Interest);
    assert!(readiness.is_ready(), "within the grace");
    readiness.changed_from(&true, Readiness::is_ready).await;
    assert!(start.elapsed() > Duration::from_secs(5));
    assert_eq!(readiness.reasons(), [Reason::NatsAway]);
    let waiting = readiness.clone();
    let waiting =
        tokio::spawn(async move { waiting.changed_from(&false, Readiness::is_ready).await });
    tokio::task::yield_now().await;
    readiness.up(Part::Interest);
    waiting.await.expect("told");
    assert!(readiness.is_ready());
}

/// The service API is for callers who can ask elsewhere.
#[tokio::test(start_paused = true)]
async fn the_connection_of_the_service_only_warns() {
    let readiness = reached(Duration::from_secs(5));
    readiness.needs(Part::Service);
    assert_eq!(readiness.reasons(), []);
    assert_eq!(readiness.warnings(), [Reason::NatsNotReached]);
    readiness.up(Part::Service);
    readiness.away(Part::Service);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(readiness.reasons(), []);
    assert_eq!(readiness.warnings(), [Reason::NatsAway]);
}
