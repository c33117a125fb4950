//! How much anybody may ask for before they are in.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::interval,
};

use crate::support::{Client, Gateway, eventually, http, servers, wait::patiently};

#[tokio::test]
async fn whoever_is_refused_too_often_has_to_wait() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.refusals_per_second_per_ip", "1")
        .set("public.trusted_proxies", "127.0.0.0/8,2001:db8:ffff::/48")
        .start()
        .await;
    let from = |client: &str| {
        let builder = Client::builder(&gateway, "").no_ticket();
        builder.header("X-Forwarded-For", client).refused()
    };
    // A burst of five times the rate, and what a slow machine adds meanwhile.
    let mut refusals = 0;
    let limited = loop {
        let answer = from("192.0.2.1").await;
        if answer.status == 429 {
            break answer;
        }
        answer.assert_refused(401, "ticket_missing");
        refusals += 1;
        assert!(refusals < 1000, "a thousand refusals at once are too many");
    };
    limited.assert_refused(429, "too_many");
    assert!(limited.header("retry-after").is_some());
    assert!(refusals >= 5, "only after the burst: {refusals}");

    // Others are not affected: the rightmost address that is no proxy counts.
    from("192.0.2.2")
        .await
        .assert_refused(401, "ticket_missing");
    from("192.0.2.1, 192.0.2.3")
        .await
        .assert_refused(401, "ticket_missing");
    from("192.0.2.2, 127.0.0.9, 2001:db8:ffff::1")
        .await
        .assert_refused(401, "ticket_missing");
    // Of IPv6 a /64 is one.
    let mut refusals = 0;
    while from("2001:db8:1:1::1").await.status == 401 {
        refusals += 1;
        assert!(refusals < 1000, "a thousand refusals at once are too many");
    }
    assert!(gateway.metric("usher_refused_addresses").await >= 4.0);
}

/// The limit comes before the origin and the ticket, good or not.
#[tokio::test]
async fn whoever_has_to_wait_burns_no_ticket() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.refusals_per_second_per_ip", "1")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let mut denied = 0;
    loop {
        let builder = Client::builder(&gateway, &ticket).origin("https://evil.example");
        let answer = builder.refused().await;
        if answer.status == 429 {
            break;
        }
        answer.assert_refused(403, "origin_denied");
        denied += 1;
        assert!(denied < 1000);
    }
    assert!(redis.exists(&ticket).await);
}

/// A request that names no host, or two, is refused before any path is looked at; it
/// counts all the same.
#[tokio::test]
async fn requests_without_a_host_are_counted_too() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.refusals_per_second_per_ip", "1")
        .set("public.trusted_proxies", "127.0.0.0/8")
        .start()
        .await;
    for (client, hosts) in [
        ("192.0.2.1", ""),
        ("192.0.2.2", "Host: a\r\nHost: b\r\n"),
        ("192.0.2.3", "Host: a/b\r\n"),
    ] {
        let request = |target: &str| {
            format!("GET {target} HTTP/1.1\r\nX-Forwarded-For: {client}\r\n{hosts}\r\n")
        };
        let mut refusals = 0;
        loop {
            let answer = http::raw(&gateway.public, request("/ws").as_bytes()).await;
            if answer.status == 429 {
                answer.assert_refused(429, "too_many");
                break;
            }
            answer.assert_refused(400, "bad_request");
            refusals += 1;
            assert!(refusals < 1000, "a thousand refusals at once are too many");
        }
        assert!(refusals >= 5, "only after the burst: {refusals}");
    }
    let builder = Client::builder(&gateway, "").no_ticket();
    let other = builder
        .header("X-Forwarded-For", "192.0.2.4")
        .refused()
        .await;
    other.assert_refused(401, "ticket_missing");
}

#[tokio::test]
async fn an_address_in_a_header_counts_only_from_a_proxy() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.refusals_per_second_per_ip", "1")
        .start()
        .await;
    let mut attempt = 0;
    loop {
        let builder = Client::builder(&gateway, "").no_ticket();
        let forwarded = format!("192.0.2.{attempt}");
        let answer = builder
            .header("X-Forwarded-For", &forwarded)
            .refused()
            .await;
        if answer.status == 429 {
            break;
        }
        attempt += 1;
        assert!(attempt < 250, "all came from one address");
    }
    let log = gateway.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("X-Forwarded-For"));
    assert_eq!(warnings.count(), 1, "{log}");
}

#[tokio::test]
async fn a_head_is_bounded_in_bytes_and_in_headers() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_header_bytes", "8KiB")
        .set("public.max_headers", "16")
        .start()
        .await;
    let long = "x".repeat(9000);
    let answer = http::get(&gateway.public, "/healthz", &[("X-Long", &long)]).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let many: Vec<String> = (0..16).map(|number| format!("X-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = http::get(&gateway.public, "/healthz", &many).await;
    assert_eq!(answer.status, 431, "{answer:?}");
    let answer = http::get(&gateway.public, "/healthz", &many[..15]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let cut = r#"usher_connections_cut_total{reason="head_too_large"}"#;
    gateway.metric_becomes(cut, 2.0).await;
}

/// Whoever is not admitted in time is cut off, however busy it keeps itself.
#[tokio::test]
async fn a_connection_that_never_becomes_a_session_is_cut_off() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("public.handshake_timeout", "500ms");
    let gateway = builder.start().await;
    let connect = || async {
        let stream = TcpStream::connect(&gateway.public).await;
        stream.expect("the listener takes connections")
    };
    // Says nothing.
    let silent = connect().await;
    // Says a letter at a time.
    let mut slow = connect().await;
    let trickle = async {
        loop {
            if slow.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // Announces a body that never comes.
    let mut empty_handed = connect().await;
    empty_handed
        .write_all(b"POST /tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        .await
        .expect("sent");
    let ended = |mut stream: TcpStream| async move {
        let mut all = Vec::new();
        let _ = patiently("the connection ends", stream.read_to_end(&mut all)).await;
    };
    tokio::join!(
        ended(silent),
        ended(empty_handed),
        patiently("the connection ends", trickle)
    );
    let slow = r#"usher_connections_cut_total{reason="too_slow"}"#;
    crate::support::eventually("they are counted", || async {
        gateway.metric(slow).await >= 2.0
    })
    .await;
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;
}

/// One request a connection: nobody keeps a place by asking again and again.
#[tokio::test]
async fn a_connection_carries_one_request() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut stream = TcpStream::connect(&gateway.public).await.expect("accepted");
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    stream
        .write_all(request.repeat(3).as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    let _ = patiently("the end", stream.read_to_string(&mut answer)).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
}

/// A connection that comes from this address of the machine.
async fn connect_from(source: &str, gateway: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(
        format!("{source}:0")
            .parse::<SocketAddr>()
            .expect("an address"),
    )?;
    let gateway = gateway.parse().expect("an address");
    socket.connect(gateway).await
}

/// 400 silent connections a second from one address would hold every permit; others
/// come in all the same.
#[tokio::test]
async fn one_address_that_says_nothing_keeps_nobody_else_out() {
    const FLOOD: usize = 2000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_pending", "64")
        .set("public.max_pending_per_ip", "16")
        .set("public.handshake_timeout", "10m")
        .start()
        .await;
    let opened = Arc::new(AtomicUsize::new(0));
    let (address, count) = (gateway.public.clone(), opened.clone());
    let flood = tokio::spawn(async move {
        let mut silent = Vec::new();
        let mut pace = interval(Duration::from_micros(2500));
        while count.load(Ordering::Relaxed) < FLOOD {
            pace.tick().await;
            silent.extend(connect_from("127.0.0.66", &address).await);
            count.fetch_add(1, Ordering::Relaxed);
        }
        silent
    });
    eventually("there are more than may wait", || async {
        opened.load(Ordering::Relaxed) > 100
    })
    .await;

    let mut inside = Vec::new();
    for _ in 0..30 {
        let ticket = redis.ticket("42").await;
        let newcomer = Client::try_open(&gateway, &ticket).await;
        inside.push(newcomer.unwrap_or_else(|refusal| panic!("kept out: {refusal:?}")));
    }
    let _silent = patiently("the flood ends", flood).await.expect("no panic");
    let cut = r#"usher_connections_cut_total{reason="too_many_pending_per_ip"}"#;
    gateway.metric_becomes(cut, (FLOOD - 16) as f64).await;
    gateway
        .metric_becomes("usher_pending_connections", 16.0)
        .await;
    // During the flood few are told why; now the address is.
    eventually("the address is told why", || async {
        let mut stream = connect_from("127.0.0.66", &gateway.public)
            .await
            .expect("a connection");
        let mut answer = Vec::new();
        let _ = patiently("an end", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"full\"")
    })
    .await;
}

/// A proxy speaks for many: its own connections are not counted, and those of each
/// client are as soon as its header has named it.
#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_share() {
    let (nats, mut redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_pending_per_ip", "2")
        .set("public.trusted_proxies", "127.0.0.1")
        .set("public.handshake_timeout", "10m")
        // A request waits for Redis for as long as this test does.
        .set("redis.timeout", "60s")
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        let connection = TcpStream::connect(&gateway.public).await;
        silent.push(connection.expect("a connection"));
    }
    let tickets = [
        redis.ticket("1").await,
        redis.ticket("2").await,
        redis.ticket("3").await,
        redis.ticket("4").await,
    ];
    redis.pause();
    let ask = |client: &str, ticket: &str| {
        let builder = Client::builder(&gateway, ticket);
        builder.header("X-Forwarded-For", client).try_open()
    };
    let waiting = tokio::join!(
        ask("192.0.2.1", &tickets[0]),
        ask("192.0.2.1", &tickets[1]),
        ask("192.0.2.2", &tickets[2]),
        async {
            gateway
                .metric_becomes("usher_pending_connections", 13.0)
                .await;
            // One more than its share, and of it nothing is burnt.
            let refusal = ask("192.0.2.1", &tickets[3]).await;
            let page = ("Origin", &*format!("http://{}", gateway.public));
            let headers = [page, ("X-Forwarded-For", "192.0.2.1")];
            let events = http::get(&gateway.public, "/events", &headers).await;
            redis.resume();
            (refusal, events)
        }
    );
    let (first, second, other, (refusal, events)) = waiting;
    assert!(first.is_ok() && second.is_ok() && other.is_ok());
    // A page that asks by fetch can read why, and when to come back.
    events.assert_refused(503, "full");
    let reader = events.header("access-control-allow-origin");
    assert_eq!(reader, Some(&*format!("http://{}", gateway.public)));
    let refusal = refusal.err().expect("a third one is refused");
    refusal.assert_refused(503, "full");
    // Whoever is in waits no longer.
    let third = ask("192.0.2.1", &tickets[3]).await;
    assert!(third.is_ok());
    let cut = r#"usher_connections_cut_total{reason="too_many_pending_per_ip"}"#;
    gateway.metric_becomes(cut, 2.0).await;
}
