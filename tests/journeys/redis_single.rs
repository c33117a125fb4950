//! One server of Redis: restarts, roles, and commands that it refuses.

use futures_util::future::{join_all, select};

use crate::support::{
    Client, Gateway, Nats, Redis, eventually, grpc::issue, network::Network, servers,
    wait::patiently,
};

async fn opens(gateway: &Gateway, redis: &Redis) {
    eventually("newcomers are let in", || async {
        let ticket = redis.ticket("43").await;
        Client::try_open(gateway, &ticket).await.is_ok()
    })
    .await;
}

/// Not ready, the log says why, and nobody is let in.
async fn is_unusable(gateway: &Gateway, redis: &Redis, why: &str) {
    eventually("the log says why", || async { gateway.log().contains(why) }).await;
    eventually("/readyz says that Redis is unusable", || async {
        let answer = gateway.ops_get("/readyz").await;
        answer.status == 503 && answer.text().contains("redis_unusable")
    })
    .await;
    let ticket = redis.ticket("42").await;
    Client::builder(gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    assert!(redis.exists(&ticket).await, "and burns nothing");
}

#[tokio::test]
async fn a_restart_is_told_and_ends() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    for _ in 0..2 {
        let used = redis.ticket("42").await;
        Client::open(&gateway, &used).await;
        redis.restart().await;
        opens(&gateway, &redis).await;
        let refusal = Client::builder(&gateway, &used).refused().await;
        refusal.assert_refused(401, "ticket_unknown");
    }
    redis.kill();
    eventually("the log says that Redis is away", || async {
        gateway.log().contains("Redis is away")
    })
    .await;
    redis.restart().await;
    eventually("each outage in the log ends", || async {
        let log = gateway.log();
        log.matches("Redis is away").count() == log.matches("Redis is back").count()
    })
    .await;
}

/// A Redis that has never served makes nothing ready by going away.
#[tokio::test]
async fn an_unusable_server_that_goes_away_makes_nothing_ready() {
    let (nats, mut redis) = servers().await;
    redis.user(&["~ticket:*", "+ping"]).await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.user", "usher")
        .set("redis.password", "sesame")
        .start_unready()
        .await;
    is_unusable(&gateway, &redis, "GETDEL").await;
    redis.kill();
    gateway.readyz_lists("reasons", "redis_not_reached").await;
    assert_eq!(gateway.readyz().await, 503);
}

/// Its name leads to the new primary, while old connections lead to the old one, which is a
/// replica now.
#[tokio::test]
async fn connections_to_a_server_that_is_a_replica_now_are_given_up() {
    let (nats, old, new) = tokio::join!(Nats::start(), Redis::start(), Redis::start());
    let network = Network::to(&old.url()).await;
    let gateway = Gateway::builder(&nats, &old)
        .set("redis.url", format!("redis://{}", network.address()))
        .start()
        .await;
    Client::open(&gateway, &old.ticket("42").await).await;
    network.lead_to(&new.url());
    let port = new.port().to_string();
    let () = old.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    opens(&gateway, &new).await;
    Client::open(&gateway, &new.ticket("42").await).await;
    // Every connection to the old one is given up, not only the one that it answered.
    eventually("nobody is left at the old one", || async {
        let clients: String = old.command(&["CLIENT", "LIST"]).await;
        !clients.contains("cmd=getdel")
    })
    .await;
}

#[tokio::test]
async fn a_server_without_getdel_is_unusable() {
    let without = ["--rename-command", "GETDEL", ""];
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start_with("redis-server", &without));
    let gateway = Gateway::builder(&nats, &redis).start_unready().await;
    is_unusable(&gateway, &redis, "GETDEL is refused").await;
}

/// It is taken away from a gateway that works, and given back.
#[tokio::test]
async fn a_lost_right_to_getdel_makes_a_server_unusable() {
    let (nats, redis) = servers().await;
    let rights = ["~ticket:*", "+getdel", "+set", "+ping", "+unwatch"];
    redis.user(&rights).await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.user", "usher")
        .set("redis.password", "sesame")
        .start()
        .await;
    Client::open(&gateway, &redis.ticket("42").await).await;
    let () = redis.command(&["ACL", "SETUSER", "usher", "-getdel"]).await;
    is_unusable(&gateway, &redis, "Redis cannot be used").await;
    let () = redis.command(&["ACL", "SETUSER", "usher", "+getdel"]).await;
    gateway.becomes_ready().await;
    opens(&gateway, &redis).await;
    eventually("the log gives the all-clear", || async {
        gateway.log().contains("Redis is back")
    })
    .await;
}

/// `POST /tickets` needs SET, and nothing else does.
#[tokio::test]
async fn set_is_needed_where_tickets_are_minted() {
    let (nats, redis) = servers().await;
    redis
        .user(&["~ticket:*", "+getdel", "+ping", "+unwatch"])
        .await;
    let builder = || {
        Gateway::builder(&nats, &redis)
            .set("redis.user", "usher")
            .set("redis.password", "sesame")
    };
    let gateway = builder().start().await;
    Client::open(&gateway, &redis.ticket("42").await).await;
    let gateway = builder()
        .set(
            "tickets.jwt.secret",
            "a secret of at least thirty-two bytes",
        )
        .start_unready()
        .await;
    is_unusable(&gateway, &redis, "SET is refused").await;
}

/// With the rights of SECURITY.md Redis refuses nothing at all.
#[tokio::test]
async fn these_rights_are_enough() {
    let (nats, redis) = servers().await;
    redis
        .user(&["~ticket:*", "+getdel", "+set", "+ping", "+unwatch"])
        .await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.user", "usher")
        .set("redis.password", "sesame")
        .start()
        .await;
    let mut caller = gateway.grpc().await;
    let request = usher::proto::IssueTicketRequest {
        user_id: "43".to_owned(),
        ..Default::default()
    };
    Client::open(&gateway, &issue(&mut caller, request).await).await;
    is_examined_twice(&redis).await;
    assert_eq!(redis.refusals().await, Vec::<String>::new());
    // Without this one it works as well, and Redis notes each refusal.
    let () = redis
        .command(&["ACL", "SETUSER", "usher", "-unwatch"])
        .await;
    is_examined_twice(&redis).await;
    assert!(redis.refusals().await.contains(&"unwatch".to_owned()));
    Client::open(&gateway, &redis.ticket("42").await).await;
    assert!(
        !gateway.log().contains("Redis is away"),
        "{}",
        gateway.log()
    );
}

/// The second examination begins with a connection that was idle.
async fn is_examined_twice(redis: &Redis) {
    let before = getdels(redis).await;
    eventually("it was examined", || async {
        getdels(redis).await >= before + 2
    })
    .await;
}

async fn getdels(redis: &Redis) -> u64 {
    let stats: String = redis.command(&["INFO", "commandstats"]).await;
    let calls = stats
        .split_once("cmdstat_getdel:calls=")
        .map(|(_, rest)| rest);
    let calls = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
    calls.unwrap_or_else(|| panic!("no GETDEL in {stats}"))
}

/// An old proxy knows no HELLO.
#[tokio::test]
async fn a_server_without_hello_is_used_all_the_same() {
    let without = ["--rename-command", "HELLO", ""];
    let (nats, mut redis) =
        tokio::join!(Nats::start(), Redis::start_with("redis-server", &without));
    let gateway = Gateway::start(&nats, &redis).await;
    Client::open(&gateway, &redis.ticket("42").await).await;
    redis.restart().await;
    opens(&gateway, &redis).await;
}

/// Many come at once: they share a pool that is smaller than they are many.
#[tokio::test]
async fn a_small_pool_serves_many() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.pool_size", "1")
        .start()
        .await;
    let mut sessions = Vec::new();
    for user in 0..50 {
        let ticket = redis.ticket(&user.to_string()).await;
        let gateway = &gateway;
        sessions.push(async move { Client::open(gateway, &ticket).await });
    }
    join_all(sessions).await;
    let clients: String = redis.command(&["CLIENT", "LIST"]).await;
    let ours = clients
        .lines()
        .filter(|line| line.contains("cmd=getdel"))
        .count();
    assert_eq!(ours, 1, "{clients}");
}

/// The bound counts those that wait: one more is refused at once, and does not wait.
#[tokio::test]
async fn a_command_beyond_the_bound_is_refused() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.pool_size", "1")
        .set("redis.max_in_flight", "1")
        .set("redis.timeout", "60s")
        .start()
        .await;
    let tickets = [redis.ticket("1").await, redis.ticket("2").await];
    redis.pause();
    let [one, other] = tickets
        .each_ref()
        .map(|ticket| Box::pin(Client::try_open(&gateway, ticket)));
    let (first, waits) = patiently("one is refused", select(one, other))
        .await
        .factor_first();
    let refusal = first
        .err()
        .expect("nobody is let in while Redis stands still");
    refusal.assert_refused(503, "unavailable");
    redis.resume();
    assert!(waits.await.is_ok(), "the other one has waited");
}
