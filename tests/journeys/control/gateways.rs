//! Gateways hear of each other, and notice one that vanishes.

use crate::support::{Gateway, Nats, Redis, nats::Role, servers};

const GATEWAYS: &str = "usher_gateways";
const LOST: &str = "usher_gateways_lost_total";

#[tokio::test]
async fn one_that_is_killed_is_missed_and_one_that_drains_is_not() {
    let (nats, redis) = servers().await;
    let stays = Gateway::start(&nats, &redis).await;
    stays.metric_becomes(GATEWAYS, 1.0).await;
    let quick = || {
        Gateway::builder(&nats, &redis)
            .set("drain.delay", "0s")
            .set("drain.window", "0s")
    };
    let mut drains = quick().start().await;
    let mut dies = quick().start().await;
    for gateway in [&stays, &drains, &dies] {
        gateway.metric_becomes(GATEWAYS, 3.0).await;
    }
    drains.terminate();
    assert!(drains.wait().await.success());
    // Its goodbye came before it ended.
    stays.metric_becomes(GATEWAYS, 2.0).await;
    dies.kill();
    stays.metric_becomes(LOST, 1.0).await;
    stays.logs("a gateway has vanished").await;
    stays.metric_becomes(GATEWAYS, 1.0).await;
    assert_eq!(stays.metric(LOST).await, 1.0, "nor is the drained one lost");
}

/// A gateway that hears nobody knows nothing of the others' end.
#[tokio::test]
async fn an_outage_of_nats_makes_no_gateway_vanish() {
    let (mut nats, redis) = servers().await;
    let first = Gateway::start(&nats, &redis).await;
    let second = Gateway::start(&nats, &redis).await;
    for gateway in [&first, &second] {
        gateway.metric_becomes(GATEWAYS, 2.0).await;
    }
    // For longer than a gateway may be silent: silent connections are left after 12 s.
    nats.pause();
    let away = "usher_nats_connected{connection=\"push\"}";
    for gateway in [&first, &second] {
        gateway.metric_becomes(away, 0.0).await;
    }
    nats.resume();
    for gateway in [&first, &second] {
        gateway.metric_becomes(away, 1.0).await;
        gateway.metric_becomes(GATEWAYS, 2.0).await;
        assert_eq!(gateway.metric(LOST).await, 0.0);
    }
}

/// A gateway without the rights says so, and delivers all the same.
#[tokio::test]
async fn one_that_may_not_speak_to_the_others_says_so() {
    let (user, password) = Role::Gateway.login();
    for denied in ["usher.gateways", "usher.control"] {
        let config = format!(
            "authorization {{ users: [ {{ user: \"{user}\", password: \"{password}\", permissions: {{
               publish: {{ allow: \">\", deny: \"{denied}\" }}
               subscribe: {{ allow: \">\", deny: \"{denied}\" }}
             }} }} ] }}"
        );
        let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
        let builder = || {
            Gateway::builder(&nats, &redis)
                .set("nats.user", &user)
                .set("nats.password", &password)
        };
        let (code, said) = builder().check().await;
        assert_eq!(code, Some(69), "{said}");
        let names = |line: &str| line.contains(denied) && line.contains("needs that right");
        assert!(said.lines().any(names), "{said}");

        let gateway = builder().start().await;
        gateway.readyz_lists("warnings", "control_forbidden").await;
        gateway.logs("presence and disconnect do not work").await;
        assert_eq!(gateway.readyz().await, 200);
    }
}
