//! The settings for proxies, with real ones in front of real gateways. nginx is set by
//! `examples/nginx.conf`, and once by the annotations that the chart gives to
//! ingress-nginx, as directives; HAProxy by `examples/haproxy.cfg`, Envoy by
//! `examples/envoy.yaml`.

mod centrifuge;
mod envoy;
mod proxy;

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

use self::proxy::Proxy;
use crate::{
    helm::{Render, read},
    support::{Client, Events, Frame, Gateway, Nats, Redis, eventually, servers},
};

/// An example, with these gateways where it has others.
fn example(path: &str, gateways: [&Gateway; 2]) -> String {
    let text = read(path);
    for address in ["127.0.0.1:8080", "127.0.0.1:8081"] {
        assert!(text.contains(address), "{path} has no {address}");
    }
    text.replace("127.0.0.1:8080", &gateways[0].public)
        .replace("127.0.0.1:8081", &gateways[1].public)
}

/// Two gateways with servers of their own.
async fn two() -> (Nats, Redis, Gateway, Gateway) {
    let (nats, redis) = servers().await;
    let builder = || {
        Gateway::builder(&nats, &redis)
            .set("public.trusted_proxies", "127.0.0.1")
            .set("drain.window", "4s")
    };
    let (one, other) = tokio::join!(builder().start(), builder().start());
    (nats, redis, one, other)
}

/// The directives that ingress-nginx makes of the chart's annotations.
fn ingress_directives(ping: &str) -> String {
    let objects = Render::minimal()
        .set("nginx.enabled=true")
        .set("hosts={push.example.com}")
        .set("public.trustedProxies={10.0.0.0/8}")
        .set("session.idleTimeout=1h")
        .set(&format!("session.pingInterval={ping}"))
        .objects();
    let annotations = objects.one("Ingress", "")["metadata"]["annotations"].clone();
    let of = |name: &str| {
        let value = &annotations[format!("nginx.ingress.kubernetes.io/{name}")];
        value
            .as_str()
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    };
    format!(
        "proxy_http_version {};\nproxy_read_timeout {}s;\nproxy_send_timeout {}s;\n\
         proxy_connect_timeout {}s;\nproxy_buffering {};\nproxy_next_upstream {};\n\
         proxy_next_upstream_tries {};\n",
        of("proxy-http-version"),
        of("proxy-read-timeout"),
        of("proxy-send-timeout"),
        of("proxy-connect-timeout"),
        of("proxy-buffering"),
        of("proxy-next-upstream"),
        of("proxy-next-upstream-tries"),
    )
}

#[test]
fn the_example_is_what_the_chart_sets() {
    let words = |text: &str| -> Vec<String> {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect()
    };
    let example = words(&read("examples/nginx.conf"));
    for directive in words(&ingress_directives("25s")) {
        assert!(
            example.contains(&directive),
            "examples/nginx.conf has no {directive}"
        );
    }
}

#[test]
fn the_example_is_what_the_rolling_restart_is_measured_with() {
    let example = read("examples/haproxy.cfg");
    let (_, measured) = read("benches/gateway/balancer.rs")
        .split_once("const SETTINGS: &str = \"\\\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("the settings");
    let (measured, _) = measured.split_once("\";").expect("their end");
    for line in measured.lines().filter(|line| line.starts_with("    ")) {
        assert!(
            example.lines().any(|found| found == line),
            "examples/haproxy.cfg has no {line}"
        );
    }
}

#[tokio::test]
async fn an_upgrade_passes_and_no_log_holds_a_ticket() {
    let (nats, redis, one, other) = two().await;
    let gateways = [&one, &other];
    let (nginx, haproxy, envoy) = tokio::join!(
        Proxy::example_nginx(gateways),
        Proxy::example_haproxy(gateways),
        Proxy::example_envoy(gateways)
    );
    for proxy in [nginx, haproxy, envoy] {
        let user = format!("behind-{}", proxy.name);
        let ticket = redis.ticket(&user).await;
        let mut client = Client::builder(&one, &ticket)
            .at(&proxy.address)
            .open()
            .await;
        nats.publish(&format!("usher.user.{user}"), "{\"order\":1}")
            .await;
        assert_eq!(client.next_data().await["order"], 1);
        // A refusal passes as well, with its reason.
        let again = Client::builder(&one, &ticket)
            .at(&proxy.address)
            .refused()
            .await;
        again.assert_refused(401, "ticket_unknown");
        client.close(1000).await;
        drop(client);
        // Events come at once, each as it is published, and the end comes through.
        let ticket = redis.ticket(&user).await;
        let events = Events::builder(&one, &ticket).at(&proxy.address);
        let mut events = events.open().await;
        for order in 2..5 {
            let payload = format!("{{\"order\":{order}}}");
            nats.publish(&format!("usher.user.{user}"), &payload).await;
            assert_eq!(events.next_data().await["order"], order);
        }
        let again = Events::builder(&one, &ticket).at(&proxy.address);
        again.refused().await.assert_refused(401, "ticket_unknown");
        drop(events);
        eventually("all are logged", || {
            let log = proxy.log();
            let count = |path| log.matches(path).count();
            let logged = count("/ws") >= 2 && count("/events") >= 2;
            async move { logged }
        })
        .await;
        assert!(
            !proxy.log().contains(&ticket),
            "{}: {}",
            proxy.name,
            proxy.log()
        );
        assert!(
            !proxy.log().contains("ticket="),
            "{}: {}",
            proxy.name,
            proxy.log()
        );
        // Nothing but the browser's paths is behind it.
        for path in ["/readyz", "/healthz", "/metrics"] {
            let response = crate::support::http::get(&proxy.address, path, &[]).await;
            assert_eq!(response.status, 404, "{}: {path}", proxy.name);
        }
    }
}

/// With a ping each 63 s, beyond what nginx and HAProxy wait by themselves (nginx: 60 s;
/// HAProxy has no default of its own, Debian's file says 50 s). Envoy waits five minutes.
#[tokio::test]
async fn a_silent_session_lives_past_the_proxys_default() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "63s")
        .set("session.idle_timeout", "5m");
    let gateway = builder.start().await;
    let location = |directives: &str, address: &str| {
        format!(
            "server {{ listen {address}; access_log off; location / {{ proxy_pass http://{};\n\
             proxy_set_header Host $http_host;\nproxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection upgrade;\n{directives}}} }}",
            gateway.public
        )
    };
    let ours = ingress_directives("63s");
    assert!(ours.contains("proxy_read_timeout 189s;"), "{ours}");
    let balanced = |timeouts: &str, address: &str| {
        format!(
            "defaults\n    mode http\n    timeout connect 2s\n{timeouts}\n\
             listen public\n    bind {address}\n    server usher {}\n",
            gateway.public
        )
    };
    let set: String = read("examples/haproxy.cfg")
        .lines()
        .filter(|line| line.trim_start().starts_with("timeout ") && !line.contains("connect"))
        .map(|line| line.replace("75s", "189s") + "\n")
        .collect();
    assert!(set.contains("timeout tunnel 1h"), "{set}");
    let (nginx, bare_nginx, haproxy, bare_haproxy) = tokio::join!(
        Proxy::nginx(|address, _| location(&ours, address)),
        Proxy::nginx(|address, _| location("proxy_http_version 1.1;\n", address)),
        Proxy::start("haproxy", |address, _| balanced(&set, address)),
        Proxy::start("haproxy", |address, _| {
            balanced("    timeout client 50s\n    timeout server 50s\n", address)
        }),
    );
    let envoy = Proxy::example_envoy([&gateway, &gateway]).await;
    let began = Instant::now();
    let mut set = Vec::new();
    let mut bare = Vec::new();
    for proxy in [&nginx, &haproxy, &envoy] {
        set.push((proxy.name, proxy.open(&gateway, &redis, "silent", "").await));
    }
    for proxy in [&bare_nginx, &bare_haproxy] {
        bare.push((proxy.name, proxy.open(&gateway, &redis, "silent", "").await));
    }
    // Left to itself the proxy cuts it off, before any ping.
    for (name, client) in &mut bare {
        let cut = client.next_frame_within(Duration::from_secs(62)).await;
        let cut = cut.unwrap_or_else(|| panic!("{name} did not cut it off: what do we set?"));
        assert!(!matches!(cut, Frame::Text(_)), "{name}: {cut:?}");
    }
    // With our settings the next frame is the ping, and then a message.
    for (name, client) in &mut set {
        match client.next_frame_within(Duration::from_secs(15)).await {
            Some(Frame::Text(text)) if text.starts_with("{\"ping\"") => {}
            other => panic!("{name}: {other:?}, after {:?}", began.elapsed()),
        }
    }
    assert!(began.elapsed() > Duration::from_secs(60));
    nats.publish("usher.user.silent", "\"still here\"").await;
    for (name, client) in &mut set {
        assert_eq!(client.next_data().await, "still here", "{name}");
    }
}

#[tokio::test]
async fn the_cookie_leads_back_to_the_same_gateway() {
    let (_nats, redis, one, other) = two().await;
    let gateways = [&one, &other];
    let (nginx, haproxy) = tokio::join!(
        Proxy::example_nginx(gateways),
        Proxy::example_haproxy(gateways)
    );
    let sessions = || async {
        [
            one.metric("usher_sessions").await,
            other.metric("usher_sessions").await,
        ]
    };
    for proxy in [nginx, haproxy] {
        // Without a cookie both get some.
        let mut clients = Vec::new();
        for index in 0..16 {
            let user = format!("{}-{index}", proxy.name);
            clients.push(proxy.open(&one, &redis, &user, "").await);
        }
        let [here, there] = sessions().await;
        assert!(
            here > 0.0 && there > 0.0 && here + there == 16.0,
            "{}: {here}, {there}",
            proxy.name
        );
        // With one, all go where it was given.
        let cookie = clients[0]
            .response
            .header("set-cookie")
            .expect("a cookie")
            .to_owned();
        let cookie = cookie.split(';').next().unwrap_or_default();
        assert!(cookie.starts_with("usher_gateway="), "{cookie}");
        for client in &mut clients {
            client.close(1000).await;
        }
        drop(clients);
        eventually("all have left", || async { sessions().await == [0.0, 0.0] }).await;
        let mut clients = Vec::new();
        for index in 0..12 {
            let user = format!("{}-{index}", proxy.name);
            clients.push(proxy.open(&one, &redis, &user, cookie).await);
        }
        let mut found = sessions().await;
        found.sort_by(f64::total_cmp);
        assert_eq!(found, [0.0, 12.0], "{}", proxy.name);
        for client in &mut clients {
            client.close(1000).await;
        }
        drop(clients);
        eventually("all have left", || async { sessions().await == [0.0, 0.0] }).await;
    }
}

/// Those inside are sent away one by one with a hint, and no newcomer is refused.
#[tokio::test]
async fn a_drain_is_clean_behind_a_proxy() {
    let nginx = async {
        let (_nats, redis, one, other) = two().await;
        let proxy = Proxy::example_nginx([&one, &other]).await;
        drains_cleanly(proxy, redis, one, other).await;
    };
    let haproxy = async {
        let (_nats, redis, one, other) = two().await;
        let proxy = Proxy::example_haproxy([&one, &other]).await;
        drains_cleanly(proxy, redis, one, other).await;
    };
    tokio::join!(nginx, haproxy);
}

async fn drains_cleanly(proxy: Proxy, redis: Redis, mut one: Gateway, other: Gateway) {
    let mut clients = Vec::new();
    for index in 0..24 {
        clients.push(
            proxy
                .open(&other, &redis, &format!("user-{index}"), "")
                .await,
        );
    }
    let leaving = one.metric("usher_sessions").await;
    assert!(
        leaving > 0.0 && leaving < 24.0,
        "{}: {leaving} of 24",
        proxy.name
    );
    one.terminate();
    // Newcomers, all the while, and for a while after.
    let mut newcomers = Vec::new();
    let mut ended = None;
    let mut index = 0;
    while ended.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        newcomers.push(
            proxy
                .open(&other, &redis, &format!("new-{index}"), "")
                .await,
        );
        index += 1;
        if ended.is_none() && one.has_ended().is_some() {
            ended = Some(Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(one.wait().await.success());
    // How each of the first ones ended, if it did.
    let mut hints = HashSet::new();
    let mut sent_away = 0.0;
    for client in &mut clients {
        let Some(frame) = client.next_frame_within(Duration::from_millis(50)).await else {
            continue;
        };
        let Frame::Text(text) = frame else {
            panic!("{}: {frame:?}", proxy.name);
        };
        assert!(
            text.contains("\"goodbye\"") && text.contains("\"drain\""),
            "{text}"
        );
        hints.insert(text);
        assert_eq!(client.expect_close().await.0, 1012);
        sent_away += 1.0;
    }
    assert_eq!(sent_away, leaving, "{}", proxy.name);
    assert!(hints.len() > 1, "all with the same hint: {hints:?}");
    assert!(
        newcomers.len() > 20,
        "only {} came meanwhile",
        newcomers.len()
    );
}
