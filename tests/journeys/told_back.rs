//! What the log says is away, forbidden or failing, it also says to be well again: once.

use serde_json::Value;
use tokio::net::TcpStream;

use usher::proto::IssueTicketRequest;

use crate::support::{
    Client, Gateway, eventually, grpc::push, http, secret, servers, wait::patiently,
};

const PERMISSIONS: &str = include_str!("../../examples/nats-permissions.conf");

/// How often the log has a line of this level with this text.
fn lines(gateway: &Gateway, level: &str, text: &str) -> usize {
    let log = gateway.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["level"] == level)
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|said| said.contains(text))
        })
        .count()
}

/// Waits for the one line that says that it is well again; by then it was said once that it
/// was not.
async fn is_told(gateway: &Gateway, level: &str, bad: &str, good: &str) {
    gateway.logs(good).await;
    assert_eq!(lines(gateway, level, bad), 1, "{bad:?}:\n{}", gateway.log());
    assert_eq!(lines(gateway, "INFO", good), 1, "{good:?}");
}

/// The example's permissions without one line of the gateway's, such as `    "usher.call.>"`.
fn without(line: &str) -> String {
    let less = PERMISSIONS.replacen(&format!("{line}\n"), "", 1);
    assert_ne!(less, PERMISSIONS, "{line}");
    less
}

#[tokio::test]
async fn what_nats_forbids_and_permits_again() {
    const BROADCAST: &str = "NATS forbids it: no session gets any broadcast";
    const PUSH: &str = "NATS permits this gateway no push";
    const GATEWAYS: &str = "NATS forbids this gateway to speak to the other gateways";
    let (mut nats, redis) = servers().await;
    for (less, bad, good) in [
        (
            without(r#"    "usher.user.*", "usher.topic.*", "usher.broadcast", "_INBOX.>""#)
                .replacen(
                    "  subscribe: [\n",
                    "  subscribe: [\n    \"usher.user.*\", \"usher.topic.*\", \"_INBOX.>\"\n",
                    1,
                ),
            BROADCAST,
            "NATS permits broadcasts again: sessions get them",
        ),
        (
            without(r#"    "usher.user.*", "usher.topic.*", "usher.broadcast""#),
            PUSH,
            "NATS permits pushes again",
        ),
        (
            without(r#"    "usher.gateways", "usher.control""#),
            GATEWAYS,
            "NATS permits this gateway to speak to the other gateways again",
        ),
    ] {
        nats.write_config(&less);
        nats.restart().await;
        let gateway = Gateway::start(&nats, &redis).await;
        gateway.logs(bad).await;
        // A second connection without the right is no news.
        nats.restart().await;
        gateway.logs("connected to NATS again").await;
        gateway.becomes_ready().await;
        assert_eq!(lines(&gateway, "INFO", good), 0, "it is not so yet");
        nats.write_config(PERMISSIONS);
        nats.restart().await;
        is_told(&gateway, "ERROR", bad, good).await;
        for connection in ["interest", "push"] {
            let connected = format!("usher_nats_connected{{connection=\"{connection}\"}}");
            gateway.metric_becomes(&connected, 1.0).await;
        }
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        nats.publish("usher.broadcast", "1").await;
        assert_eq!(client.next_event().await["broadcast"], true);
        let answer = gateway
            .grpc()
            .await
            .push_notification(push("42", "2"))
            .await;
        answer.expect("a push");
        assert_eq!(client.next_data().await, 2);
    }
}

/// Its machine was paused, say.
#[tokio::test]
async fn a_gateway_that_vanishes_and_is_heard_again() {
    let (nats, redis) = servers().await;
    let stays = Gateway::start(&nats, &redis).await;
    let mut pauses = Gateway::start(&nats, &redis).await;
    stays.metric_becomes("usher_gateways", 2.0).await;
    pauses.pause();
    stays.logs("a gateway has vanished").await;
    pauses.resume();
    is_told(
        &stays,
        "WARN",
        "a gateway has vanished",
        "a gateway that had vanished is heard again",
    )
    .await;
}

/// The right to SET is for tickets that services ask for, so sessions open meanwhile.
#[tokio::test]
async fn a_redis_that_refuses_and_takes_a_command_again() {
    const BAD: &str = "Redis refuses a command that tickets need";
    let (nats, redis) = servers().await;
    let rights = ["~ticket:*", "+getdel", "+set", "+ping", "+unwatch"];
    redis.user(&rights).await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.user", "usher")
        .set("redis.password", "sesame")
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    let mut issue = async || {
        let request = IssueTicketRequest {
            user_id: "42".to_owned(),
            ..IssueTicketRequest::default()
        };
        patiently("an answer", grpc.issue_ticket(request)).await
    };
    let () = redis.command(&["ACL", "SETUSER", "usher", "-set"]).await;
    for _ in 0..3 {
        assert!(issue().await.is_err(), "SET is refused");
    }
    Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(lines(&gateway, "INFO", "takes this command"), 0);
    let () = redis.command(&["ACL", "SETUSER", "usher", "+set"]).await;
    for _ in 0..3 {
        secret(issue().await.expect("a ticket").into_inner().ticket);
    }
    is_told(
        &gateway,
        "WARN",
        BAD,
        "Redis takes this command of tickets again",
    )
    .await;
}

/// It answers what the watch asks, so nothing else says why there are no tickets.
#[tokio::test]
async fn a_redis_that_is_full_and_has_room_again() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut grpc = gateway.grpc().await;
    let mut issue = async || {
        let request = IssueTicketRequest {
            user_id: "42".to_owned(),
            ..IssueTicketRequest::default()
        };
        patiently("an answer", grpc.issue_ticket(request)).await
    };
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(issue().await.is_err(), "it is full");
    gateway.logs("OOM").await;
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    secret(issue().await.expect("a ticket").into_inner().ticket);
    is_told(
        &gateway,
        "WARN",
        "Redis refuses a command that tickets need",
        "Redis takes this command of tickets again",
    )
    .await;
}

/// Out of descriptors, and then not.
#[tokio::test]
async fn a_listener_that_cannot_accept_and_accepts_again() {
    const BAD: &str = "connections cannot be accepted";
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.handshake_timeout", "10m")
        .set("public.max_pending_per_ip", "0")
        .descriptors(128)
        .start()
        .await;
    let mut flood = Vec::new();
    while lines(&gateway, "WARN", BAD) == 0 {
        assert!(flood.len() < 5000, "it has 128 descriptors");
        for _ in 0..20 {
            let connection = patiently("a connection", TcpStream::connect(&gateway.public)).await;
            flood.push(connection.expect("the kernel takes it"));
        }
        tokio::task::yield_now().await;
    }
    drop(flood);
    eventually("it answers again, and says so", || async {
        let answer = http::get(&gateway.public, "/healthz", &[]).await;
        answer.status == 200 && lines(&gateway, "INFO", "connections are accepted again") > 0
    })
    .await;
    let failing = lines(&gateway, "WARN", BAD);
    let well = lines(&gateway, "INFO", "connections are accepted again");
    assert_eq!(failing, well, "{}", gateway.log());
}
