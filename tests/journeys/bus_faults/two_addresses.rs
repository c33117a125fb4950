//! A name that stands for several addresses, one of which takes connections and never
//! speaks. A gateway tries each of them.

use std::fs;

use tempfile::TempDir;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis,
    grpc::{push, pushed},
    network::silence,
    process::server,
};

const NAME: &str = "nats.test";

/// A file that tells the resolver what the name stands for, in this order.
struct Hosts(TempDir);

impl Hosts {
    fn new(addresses: [&str; 2]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let lines = addresses.map(|address| format!("{address} {NAME}\n"));
        fs::write(folder.path().join("hosts"), lines.concat()).expect("written");
        Self(folder)
    }

    /// The gateway resolves names by this file. Debian's nss_wrapper stands before the C
    /// library's own resolver.
    fn used_by(&self, builder: Builder) -> Builder {
        let library = server("libnss_wrapper.so");
        let hosts = self.0.path().join("hosts");
        builder
            .environment("LD_PRELOAD", library.display().to_string())
            .environment("NSS_WRAPPER_HOSTS", hosts.display().to_string())
    }
}

async fn carries_messages(gateway: &Gateway, redis: &Redis) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
}

/// Whichever of the two the resolver names first.
async fn reaches_the_one_that_answers(addresses: [&str; 2]) {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    silence(Some(&format!("127.0.0.2:{}", nats.port()))).await;
    let hosts = Hosts::new(addresses);
    let url = format!("nats://{NAME}:{}", nats.port());
    for builder in [
        Gateway::builder(&nats, &redis),
        Gateway::durable(&nats, &redis),
    ] {
        let gateway = hosts.used_by(builder).set("nats.url", &url).start().await;
        carries_messages(&gateway, &redis).await;
    }
}

#[tokio::test]
async fn a_silent_address_before_the_good_one_is_passed() {
    reaches_the_one_that_answers(["127.0.0.2", "127.0.0.1"]).await;
}

#[tokio::test]
async fn a_silent_address_behind_the_good_one_does_no_harm() {
    reaches_the_one_that_answers(["127.0.0.1", "127.0.0.2"]).await;
}

/// The good address dies while the gateway runs, comes back, and is found again.
#[tokio::test]
async fn a_gateway_finds_the_good_address_again() {
    let (mut nats, redis) = tokio::join!(Nats::start(), Redis::start());
    silence(Some(&format!("127.0.0.2:{}", nats.port()))).await;
    let hosts = Hosts::new(["127.0.0.2", "127.0.0.1"]);
    let builder = Gateway::builder(&nats, &redis);
    let url = format!("nats://{NAME}:{}", nats.port());
    let gateway = hosts.used_by(builder).set("nats.url", url).start().await;
    let interest = r#"usher_nats_connected{connection="interest"}"#;
    nats.kill();
    gateway.metric_becomes(interest, 0.0).await;
    nats.restart().await;
    gateway.metric_becomes(interest, 1.0).await;
    let push = r#"usher_nats_connected{connection="push"}"#;
    gateway.metric_becomes(push, 1.0).await;
    carries_messages(&gateway, &redis).await;
}

/// `usher check` names both addresses, and what became of each.
#[tokio::test]
async fn check_names_each_address_of_a_name() {
    let (mut nats, redis) = tokio::join!(Nats::start(), Redis::start());
    silence(Some(&format!("127.0.0.2:{}", nats.port()))).await;
    let hosts = Hosts::new(["127.0.0.2", "127.0.0.1"]);
    let url = format!("nats://{NAME}:{}", nats.port());
    let builder = Gateway::builder(&nats, &redis).set("nats.url", &url);
    let (code, said) = hosts.used_by(builder).check().await;
    assert_eq!(code, Some(0), "{said}");
    nats.kill();
    let builder = Gateway::builder(&nats, &redis).set("nats.url", &url);
    let (code, said) = hosts.used_by(builder).check().await;
    assert_eq!(code, Some(69), "{said}");
    for (address, why) in [("127.0.0.2", "no answer"), ("127.0.0.1", "refused")] {
        let tells = |line: &str| line.contains(address) && line.contains(why);
        assert!(said.lines().any(tells), "{address}: {why}: {said}");
    }
}
