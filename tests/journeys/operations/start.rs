//! How a gateway starts, or does not.

use std::net::TcpListener;

use crate::support::{Client, Gateway, gateway::Builder, servers};

#[tokio::test]
async fn bad_configuration_ends_with_78_and_says_how_to_mend_it() {
    for (key, value, mend) in [
        ("public.listen", "nonsense", "public.listen"),
        ("session.ping_interval", "soon", "session.ping_interval"),
        ("session.queue_bytes", "much", "session.queue_bytes"),
        ("session.queue_mesages", "4", "queue_messages"),
        ("redis.url", "http://127.0.0.1", "redis.url"),
        ("nats.prefix", "a.*", "nats.prefix"),
        ("grpc.listen", "0.0.0.0:0", "allow_anonymous"),
        ("grpc.tokens", "short", "grpc.tokens"),
        ("tickets.key_prefix", "", "tickets.key_prefix"),
    ] {
        let (code, output) = Builder::new().set(key, value).fails().await;
        assert_eq!(code, Some(78), "{key} = {value}: {output}");
        let names_it = output.contains(mend) || output.contains(&variable(mend));
        assert!(names_it, "{key} = {value} does not name {mend}: {output}");
        if !value.is_empty() && key != "grpc.tokens" && !key.ends_with("mesages") {
            assert!(output.contains(value), "{key} = {value}: {output}");
        }
        assert!(!output.contains("panicked"), "{output}");
    }
    for (file, mend) in [
        ("[session]\nqueue_mesages = 4\n", "queue_messages"),
        ("[sesion]\nqueue_messages = 4\n", "session"),
        ("[session]\nqueue_messages = \"four\"\n", "queue_messages"),
        ("this is no TOML", "usher.toml"),
    ] {
        let (code, output) = Builder::new().config(file).fails().await;
        assert_eq!(code, Some(78), "{file}: {output}");
        assert!(output.contains(mend), "{file}: {output}");
    }
    let (code, output) = Builder::new()
        .argument("--config=/nowhere/usher.toml")
        .fails()
        .await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("/nowhere/usher.toml"), "{output}");
}

/// A key as the environment spells it.
fn variable(key: &str) -> String {
    key.replace('.', "__").to_uppercase()
}

#[tokio::test]
async fn wrong_usage_ends_with_64() {
    for argument in ["--nope", "more"] {
        let (code, output) = Builder::new().argument(argument).fails().await;
        assert_eq!(code, Some(64), "{output}");
        assert!(output.contains(argument), "{output}");
    }
}

#[tokio::test]
async fn a_taken_port_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (nats, redis) = servers().await;
    for listener in ["public.listen", "grpc.listen", "ops.listen"] {
        let (code, output) = Gateway::builder(&nats, &redis)
            .set(listener, &address)
            .fails()
            .await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains(&address), "{output}");
    }
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .config("[public]\nmax_sessions = 1\n[session]\nping_interval = \"7s\"\n")
        .set("public.max_sessions", "5")
        .start()
        .await;
    let first = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(first.welcome()["ping"], 7);
    Client::open(&gateway, &redis.ticket("42").await).await;
}
