//! Redis is away, in each of the ways in which a server can be. Sessions and
//! pushes do not need it, and nobody is let in without it.

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    network::Network,
    redis::driver,
    servers,
};

async fn through(nats: &Nats, redis: &Redis) -> (Network, Gateway) {
    let network = Network::to(&redis.url()).await;
    let gateway = Gateway::builder(nats, redis)
        .set("redis.url", format!("redis://{}", network.address()))
        .set("redis.timeout", "300ms")
        .start()
        .await;
    (network, gateway)
}

/// Who is in stays in and gets what is pushed; who is not is told to come back.
async fn nobody_new(gateway: &Gateway, redis: &Redis, inside: &mut Client, ticket: &str) {
    let refusal = Client::builder(gateway, ticket).refused().await;
    refusal.assert_refused(503, "unavailable");
    let wait = refusal
        .header("retry-after")
        .and_then(|after| after.parse().ok());
    assert!(
        wait.is_some_and(|seconds: u32| (1..=5).contains(&seconds)),
        "{refusal:?}"
    );
    assert_eq!(gateway.readyz().await, 200);
    pushed(&mut gateway.grpc().await, push("42", "\"inside\"")).await;
    assert_eq!(inside.next_data().await, "inside");
    let _ = redis;
}

async fn somebody_new(gateway: &Gateway, redis: &Redis) {
    eventually("doors open again", || async {
        let ticket = redis.ticket("43").await;
        Client::try_open(gateway, &ticket).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_partition_lets_nobody_in() {
    let (nats, redis) = servers().await;
    let (network, gateway) = through(&nats, &redis).await;
    let mut inside = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    network.cut();
    for _ in 0..3 {
        nobody_new(&gateway, &redis, &mut inside, &ticket).await;
    }
    network.mend();
    somebody_new(&gateway, &redis).await;
}

/// The ticket is used up, and nobody came in by it: closed is the safe side.
#[tokio::test]
async fn a_ticket_whose_answer_was_lost_opens_nothing_ever() {
    let (nats, redis) = servers().await;
    let (network, gateway) = through(&nats, &redis).await;
    let ticket = redis.ticket("42").await;
    network.cut_answers();
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    eventually("Redis has taken it", || async {
        !redis.exists(&ticket).await
    })
    .await;
    network.mend();
    somebody_new(&gateway, &redis).await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    assert_eq!(
        gateway
            .metric("usher_admissions_total{result=\"admitted\"}")
            .await,
        1.0
    );
}

/// As it is while another server is made the master.
#[tokio::test]
async fn a_redis_that_may_not_write_lets_nobody_in() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut inside = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    replicate(&redis, &["127.0.0.1", "1"]).await;
    nobody_new(&gateway, &redis, &mut inside, &ticket).await;
    assert!(redis.exists(&ticket).await, "and burns nothing");
    replicate(&redis, &["NO", "ONE"]).await;
    eventually("the ticket opens a session", || async {
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
}

async fn replicate(redis: &Redis, of: &[&str]) {
    let () = driver::cmd("REPLICAOF")
        .arg(of)
        .query_async(&mut redis.client().await)
        .await
        .expect("done");
}

/// After a restart with much to read.
#[tokio::test]
async fn a_redis_that_still_loads_lets_nobody_in() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut inside = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    redis.restart_loading().await;
    nobody_new(&gateway, &redis, &mut inside, &ticket).await;
    redis.loaded().await;
    // What was in its file is there.
    eventually("the door opens", || async {
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
}
