//! Redis behind Sentinels: a fail-over loses no ticket and lets none in twice.

use futures_util::future::join_all;

use crate::support::{
    Client, Gateway, Nats, Redis, Sentinels, eventually,
    tls::{Ca, Tls as _},
};

async fn gateway(nats: &Nats, sentinels: &Sentinels) -> Gateway {
    Gateway::builder(nats, &sentinels.servers[0])
        .set("redis.url", sentinels.url())
        .set("redis.timeout", "2s")
        .start()
        .await
}

async fn opens(gateway: &Gateway, redis: &Redis) {
    eventually("newcomers are let in", || async {
        let ticket = redis.ticket("43").await;
        Client::try_open(gateway, &ticket).await.is_ok()
    })
    .await;
}

/// Until it is let in: no answer but 503 may come before.
async fn keeps_trying(gateway: &Gateway, ticket: &str) {
    eventually("a ticket opens a session", || async {
        match Client::try_open(gateway, ticket).await {
            Ok(_) => true,
            Err(refusal) => {
                refusal.assert_refused(503, "unavailable");
                false
            }
        }
    })
    .await;
}

async fn is_used_up(gateway: &Gateway, ticket: &str) {
    Client::builder(gateway, ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
}

/// The primary is gone, and its replica takes over.
#[tokio::test]
async fn a_fail_over_loses_no_ticket() {
    let (nats, mut sentinels) = tokio::join!(Nats::start(), Sentinels::start());
    let gateway = gateway(&nats, &sentinels).await;
    let mut tickets = Vec::new();
    for user in 0..10 {
        tickets.push(sentinels.servers[0].ticket(&user.to_string()).await);
    }
    let used = tickets.pop().expect("a ticket");
    Client::open(&gateway, &used).await;
    eventually("the replica has all", || async {
        let mut has_all = !sentinels.servers[1].exists(&used).await;
        for ticket in &tickets {
            has_all &= sentinels.servers[1].exists(ticket).await;
        }
        has_all
    })
    .await;
    // A Sentinel that is gone as well does not matter.
    sentinels.kill(0);
    sentinels.servers[0].kill();
    let waiting = tickets[0].clone();
    Client::builder(&gateway, &waiting)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    assert_eq!(gateway.readyz().await, 200, "sessions stay");
    // All the others come again and again meanwhile.
    let newcomers = tickets.iter().map(|ticket| keeps_trying(&gateway, ticket));
    join_all(newcomers).await;
    sentinels.have_failed_over().await;
    for ticket in tickets.iter().chain([&used]) {
        is_used_up(&gateway, ticket).await;
    }
    eventually("the log tells the outage and its end", || async {
        let log = gateway.log();
        log.contains("Redis is away") && log.contains("Redis is back")
    })
    .await;
}

/// The old primary lives on as a replica, and closes no connection.
#[tokio::test]
async fn connections_to_a_server_that_is_a_replica_now_are_given_up() {
    let (nats, sentinels) = tokio::join!(Nats::start(), Sentinels::start());
    let gateway = gateway(&nats, &sentinels).await;
    let [old, new] = &sentinels.servers;
    let used = old.ticket("42").await;
    Client::open(&gateway, &used).await;
    let kept = old.ticket("42").await;
    eventually("the replica has all", || async {
        new.exists(&kept).await && !new.exists(&used).await
    })
    .await;
    sentinels.change_roles().await;
    opens(&gateway, new).await;
    Client::open(&gateway, &kept).await;
    is_used_up(&gateway, &kept).await;
    is_used_up(&gateway, &used).await;
}

/// By TLS with a certificate, to the Sentinels and to the server that they name.
#[tokio::test]
async fn all_of_it_by_tls() {
    let ca = Ca::new();
    let (nats, sentinels) = tokio::join!(Nats::start(), Sentinels::start_with_tls(&ca));
    let builder = || {
        Gateway::builder(&nats, &sentinels.servers[0])
            .set("redis.url", sentinels.url())
            .set("redis.tls.ca_file", ca.file())
    };
    let gateway = builder().identity("redis.tls", &ca.issue()).start().await;
    let ticket = sentinels.servers[0].ticket("42").await;
    Client::open(&gateway, &ticket).await;
    is_used_up(&gateway, &ticket).await;
    let gateway = builder().start_unready().await;
    eventually("one without a certificate is kept out", || async {
        gateway.log().contains("Redis cannot be reached")
    })
    .await;
    assert_eq!(gateway.readyz().await, 503);
}
