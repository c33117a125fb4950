//! Redis as a Cluster: slots move, nodes fail, and a ticket opens one session all the same.

use crate::support::{
    Client, Gateway, Nats, RedisCluster, eventually,
    tls::{Ca, Tls as _},
};

async fn gateway(nats: &Nats, cluster: &RedisCluster) -> Gateway {
    Gateway::builder(nats, &cluster.nodes[0])
        .set("redis.url", cluster.url())
        .set("redis.timeout", "2s")
        .start()
        .await
}

async fn is_used_up(gateway: &Gateway, ticket: &str) {
    Client::builder(gateway, ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
}

#[tokio::test]
async fn tickets_of_every_node_open_a_session_once() {
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = gateway(&nats, &cluster).await;
    let mut caller = gateway.grpc().await;
    for node in 0..3 {
        let ticket = cluster.ticket_on(node, "42").await;
        Client::open(&gateway, &ticket).await;
        is_used_up(&gateway, &ticket).await;
    }
    for user in 0..12 {
        let request = usher::proto::IssueTicketRequest {
            user_id: user.to_string(),
            ..Default::default()
        };
        let ticket = crate::support::grpc::issue(&mut caller, request).await;
        Client::open(&gateway, &ticket).await;
    }
}

/// ASK while it moves, MOVED afterwards; nothing is refused meanwhile.
#[tokio::test]
async fn a_slot_that_moves_takes_its_tickets_along() {
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = gateway(&nats, &cluster).await;
    let moved = cluster.ticket_on(0, "42").await;
    let slot = cluster.slot(&moved).await;
    cluster.begin_to_move(&moved, 0, 1).await;
    assert!(!cluster.has(0, &moved).await && cluster.has(1, &moved).await);
    Client::open(&gateway, &moved).await;
    is_used_up(&gateway, &moved).await;
    cluster.end_of_move(&slot, 1).await;
    cluster.set(1, &moved, "42").await;
    Client::open(&gateway, &moved).await;
    is_used_up(&gateway, &moved).await;
    assert!(
        !gateway.log().contains("Redis is away"),
        "{}",
        gateway.log()
    );
}

/// Its node carried GETDEL out, and the answer was lost: it is never sent again.
#[tokio::test]
async fn a_command_whose_answer_was_lost_is_not_sent_again() {
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = Gateway::builder(&nats, &cluster.nodes[0])
        .set("redis.url", cluster.url())
        .set("redis.timeout", "500ms")
        .start()
        .await;
    let ticket = cluster.ticket_on(1, "42").await;
    cluster.networks[1].cut_answers();
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    eventually("Redis has taken it", || async {
        !cluster.has(1, &ticket).await
    })
    .await;
    // Another one of the same name: a second GETDEL would take it.
    cluster.set(1, &ticket, "42").await;
    // The other nodes' tickets open sessions all the while.
    Client::open(&gateway, &cluster.ticket_on(0, "42").await).await;
    assert_eq!(gateway.readyz().await, 200);
    cluster.networks[1].mend();
    eventually("that node's tickets open sessions again", || async {
        let ticket = cluster.ticket_on(1, "43").await;
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
    assert!(cluster.has(1, &ticket).await);
    Client::open(&gateway, &ticket).await;
}

/// A node is gone, and comes back empty with the same slots.
#[tokio::test]
async fn a_node_that_is_away_is_named_and_found_again() {
    let (nats, mut cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = gateway(&nats, &cluster).await;
    let lost = cluster.ticket_on(2, "42").await;
    cluster.nodes[2].kill();
    Client::builder(&gateway, &lost)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    eventually("the log names it", || async {
        gateway.log().contains("Redis is away")
            && gateway.log().contains(cluster.networks[2].address())
    })
    .await;
    eventually("the status says it", || async {
        gateway.status().await["redis_connected"] == false
    })
    .await;
    cluster.nodes[2].restart().await;
    eventually("its tickets open sessions again", || async {
        let info: String = cluster.nodes[2].command(&["CLUSTER", "INFO"]).await;
        if !info.contains("cluster_state:ok") {
            return false;
        }
        let ticket = cluster.ticket_on(2, "42").await;
        Client::try_open(&gateway, &ticket).await.is_ok()
    })
    .await;
    eventually("the log gives the all-clear", || async {
        gateway.log().contains("Redis is back")
    })
    .await;
}

/// Its replica takes over, and it lives on as a replica itself.
#[tokio::test]
async fn a_fail_over_without_a_broken_connection_loses_no_ticket() {
    let (nats, mut cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = gateway(&nats, &cluster).await;
    let used = cluster.ticket_on(0, "42").await;
    Client::open(&gateway, &used).await;
    let kept = cluster.ticket_on(0, "42").await;
    cluster.take_over_from(0).await;
    eventually("its tickets open sessions", || async {
        Client::try_open(&gateway, &kept).await.is_ok()
    })
    .await;
    // The nodes may still learn who has the slots, and answer nobody meanwhile.
    eventually("its tickets are judged", || async {
        let refused = Client::builder(&gateway, &used).refused().await;
        refused.status == 401
    })
    .await;
    is_used_up(&gateway, &kept).await;
}

/// By TLS with a certificate, to the nodes that the URL names and to those that they name.
#[tokio::test]
async fn all_of_it_by_tls() {
    let ca = Ca::new();
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start_with_tls(&ca));
    let gateway = Gateway::builder(&nats, &cluster.nodes[0])
        .set("redis.url", cluster.url())
        .set("redis.tls.ca_file", ca.file())
        .identity("redis.tls", &ca.issue())
        .start()
        .await;
    for node in 0..3 {
        let ticket = cluster.ticket_on(node, "42").await;
        Client::open(&gateway, &ticket).await;
        is_used_up(&gateway, &ticket).await;
    }
}

/// One node answers for a third of the tickets only.
#[tokio::test]
async fn a_plain_url_at_a_node_is_refused() {
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let gateway = Gateway::builder(&nats, &cluster.nodes[0])
        .start_unready()
        .await;
    eventually("the log says so", || async {
        gateway.log().contains("write redis-cluster://HOST:PORT")
    })
    .await;
    let answer = gateway.ops_get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("redis_unusable"), "{answer:?}");
}
