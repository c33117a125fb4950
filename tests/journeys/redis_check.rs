//! What `usher check` says of Redis.

use std::process::Output;

use crate::support::{
    Gateway, Nats, Redis, RedisCluster, Sentinels, process::free_port, servers, tls::Ca,
};

/// Runs it with these keys; returns its exit code and its lines about Redis.
async fn check(nats: &Nats, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = crate::commands::run::bare(&["check"]);
    let (user, password) = nats.gateways_login().expect("roles");
    command
        .env("USHER_NATS__URL", nats.url())
        .env("USHER_NATS__USER", user)
        .env("USHER_NATS__PASSWORD", password);
    for (key, value) in settings {
        let name = format!("USHER_{}", key.replace('.', "__").to_uppercase());
        command.env(name, value);
    }
    // What stands between it and a server runs on this thread.
    let ran = tokio::task::spawn_blocking(move || command.output());
    let Output { status, stdout, .. } = ran.await.expect("no panic").expect("usher runs");
    let stdout = String::from_utf8_lossy(&stdout);
    let lines: Vec<_> = stdout
        .lines()
        .filter(|line| line.contains(" Redis: "))
        .collect();
    (status.code(), lines.join("\n"))
}

#[track_caller]
fn says((code, lines): (Option<i32>, String), expected: i32, texts: &[&str]) {
    assert_eq!(code, Some(expected), "{lines}");
    for text in texts {
        assert!(lines.contains(text), "{text:?} is not in:\n{lines}");
    }
}

#[tokio::test]
async fn it_tells_what_a_server_is() {
    let (nats, redis) = servers().await;
    let name = format!("ok    Redis: {}: ", redis.address());
    let version = ["-server ", ", standalone"];
    let said = check(&nats, &[("redis.url", &redis.url())]).await;
    says(said, 0, &[&name, version[0], version[1]]);
    redis.user(&["~ticket:*", "+getdel"]).await;
    let login = [
        ("redis.url", redis.url()),
        ("redis.user", "usher".to_owned()),
        ("redis.password", "sesame".to_owned()),
    ];
    let mut login: Vec<_> = login
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let warnings = [
        "warn  Redis: ",
        "SET is refused",
        "+ping is missing",
        "+unwatch is missing",
    ];
    says(check(&nats, &login).await, 0, &warnings);
    login.push((
        "tickets.jwt.secret",
        "a secret of at least thirty-two bytes",
    ));
    let bad = [
        "FAIL  Redis: ",
        "SET is refused, and without it POST /tickets gives no ticket",
    ];
    says(check(&nats, &login).await, 69, &bad);
    redis.user(&["~ticket:*", "+set", "+ping"]).await;
    says(
        check(&nats, &login).await,
        69,
        &["GETDEL is refused", "allow it to redis.user"],
    );
}

#[tokio::test]
async fn it_tells_why_a_server_cannot_be_reached() {
    let (nats, mut redis) = servers().await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let url = |address: &str| format!("redis://{address}");
    let said = check(&nats, &[("redis.url", &url(&nobody))]).await;
    says(said, 69, &[&format!("FAIL  Redis: {nobody}: refused")]);
    let named = format!("redis://localhost:{}", free_port());
    let said = check(&nats, &[("redis.url", &named)]).await;
    says(said, 69, &["localhost", "tried 127.0.0.1", ": refused"]);
    let said = check(
        &nats,
        &[
            ("redis.url", &redis.url()),
            ("redis.user", "u"),
            ("redis.password", "xyzzy"),
        ],
    )
    .await;
    assert!(!said.1.contains("xyzzy"), "{}", said.1);
    says(said, 69, &["wrong user or password"]);
    let () = redis
        .command(&["CONFIG", "SET", "requirepass", "sesame"])
        .await;
    let said = check(&nats, &[("redis.url", &redis.url())]).await;
    says(said, 69, &["it asks for a password; set redis.password"]);
    redis.pause();
    let said = check(
        &nats,
        &[("redis.url", &redis.url()), ("redis.timeout", "300ms")],
    )
    .await;
    redis.resume();
    says(said, 69, &["no answer within 300ms"]);
}

/// Each is another server's port.
#[tokio::test]
async fn it_tells_another_protocol_in_one_line() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let (_, at_nats) = nats
        .url()
        .split_once("://")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a URL");
    for address in [&at_nats, &gateway.ops, &gateway.grpc] {
        let url = format!("redis://{address}");
        let (code, lines) = check(&nats, &[("redis.url", &url)]).await;
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let (protocol, closed) = ("does not speak Redis's protocol", "closed the connection");
        assert!(
            lines.contains(protocol) || lines.contains(closed),
            "{lines}"
        );
        says((code, lines), 69, &[&format!("FAIL  Redis: {address}: ")]);
    }
    // And the other way round.
    let url = redis.url().replace("redis://", "rediss://");
    let (code, lines) = check(&nats, &[("redis.url", &url)]).await;
    assert_eq!((code, lines.lines().count()), (Some(69), 1), "{lines}");
}

#[tokio::test]
async fn it_tells_a_cluster_node_by_node() {
    let (nats, cluster) = tokio::join!(Nats::start(), RedisCluster::start());
    let said = check(&nats, &[("redis.url", &cluster.url())]).await;
    for network in &cluster.networks {
        let line = format!("ok    Redis: {}: ", network.address());
        assert!(said.1.contains(&line), "{}", said.1);
    }
    says(said, 0, &["node of a Cluster, 54"]);
    let said = check(&nats, &[("redis.url", &cluster.nodes[0].url())]).await;
    says(
        said,
        69,
        &["it is a node of a Cluster", "write redis-cluster://"],
    );
    let alone = Redis::start().await;
    let url = alone.url().replace("redis://", "redis-cluster://");
    let said = check(&nats, &[("redis.url", &url)]).await;
    says(said, 69, &["it is no node of a Cluster; write redis://"]);
    for node in &cluster.nodes {
        node.user(&[
            "~ticket:*",
            "+getdel",
            "+set",
            "+ping",
            "+unwatch",
            "+cluster|slots",
        ])
        .await;
    }
    let url = cluster.url();
    let login = [
        ("redis.url", &*url),
        ("redis.user", "usher"),
        ("redis.password", "sesame"),
    ];
    says(
        check(&nats, &login).await,
        0,
        &["warn  Redis: ", "+asking is missing"],
    );
    for node in &cluster.nodes {
        let () = node.command(&["ACL", "SETUSER", "usher", "+asking"]).await;
    }
    let (code, lines) = check(&nats, &login).await;
    assert!(!lines.contains("warn"), "{lines}");
    assert_eq!(code, Some(0));
    for node in &cluster.nodes {
        let () = node
            .command(&["ACL", "SETUSER", "usher", "-cluster|slots"])
            .await;
    }
    says(
        check(&nats, &login).await,
        69,
        &["allow CLUSTER SLOTS to redis.user"],
    );
}

#[tokio::test]
async fn it_tells_sentinels_one_by_one() {
    let (nats, mut sentinels) = tokio::join!(Nats::start(), Sentinels::start());
    let primary = sentinels.servers[0].address();
    let url = sentinels.url();
    let named = format!(": \"tickets\" is {primary}");
    let server = format!("ok    Redis: {primary}: ");
    let role = "standalone, the primary that the Sentinels name";
    says(
        check(&nats, &[("redis.url", &url)]).await,
        0,
        &["ok    Redis: Sentinel ", &named, &server, role],
    );
    let other = url.replace("master=tickets", "master=other");
    let said = check(&nats, &[("redis.url", &other)]).await;
    says(
        said,
        69,
        &["this Sentinel knows no \"other\"; is master= in redis.url right?"],
    );
    let wrong = format!("redis-sentinel://{primary}/0?master=tickets");
    says(
        check(&nats, &[("redis.url", &wrong)]).await,
        69,
        &["it is no Sentinel; write redis://"],
    );
    let plain = url.replace("redis-sentinel://", "redis://");
    let plain = plain.split(',').next().expect("a Sentinel");
    says(
        check(&nats, &[("redis.url", plain)]).await,
        69,
        &["it is a Sentinel"],
    );
    sentinels
        .user(&["-@all", "+sentinel|get-master-addr-by-name"])
        .await;
    let login = |password| {
        [
            ("redis.url", &*url),
            ("redis.sentinel.user", "usher"),
            ("redis.sentinel.password", password),
        ]
    };
    says(check(&nats, &login("abracadabra")).await, 0, &[&named]);
    says(
        check(&nats, &login("sesame")).await,
        69,
        &["wrong user or password; set redis.sentinel.user"],
    );
    sentinels.user(&["-@all"]).await;
    says(
        check(&nats, &login("abracadabra")).await,
        69,
        &["allow SENTINEL to redis.sentinel.user"],
    );
    sentinels.kill(0);
    says(
        check(&nats, &[("redis.url", &url)]).await,
        0,
        &["warn  Redis: Sentinel ", "refused"],
    );
}

/// A URL of TLS at a server that has none, and the other way round.
#[tokio::test]
async fn it_tells_that_a_server_speaks_tls() {
    let ca = Ca::new();
    let (nats, sentinels) = tokio::join!(Nats::start(), Sentinels::start_with_tls(&ca));
    let plain = sentinels.url().replace("rediss", "redis");
    says(
        check(&nats, &[("redis.url", &plain)]).await,
        69,
        &["write rediss:// in redis.url"],
    );
    let untrusted = check(&nats, &[("redis.url", &sentinels.url())]).await;
    says(untrusted, 69, &["FAIL  Redis: Sentinel "]);
}
