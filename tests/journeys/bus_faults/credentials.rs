//! Every way to log in to NATS holds for every connection of a gateway: the one that
//! hears, the one that pushes, and the one that reads the stream.

use std::fs;

use nkeys::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use usher::proto::PushStatus;

use crate::{
    logins::jwt,
    support::{
        Builder, Client, Gateway, Nats, Redis, eventually,
        grpc::{push_with_receipt, pushed},
        tls::Ca,
    },
};

/// A session, a push with receipt, and in durable mode a resume.
async fn all_connections_work(nats: &Nats, login: impl Fn(Builder) -> Builder) {
    let redis = Redis::start().await;
    let live = Gateway::builder(nats, &redis);
    let durable = Gateway::durable(nats, &redis);
    for (builder, is_durable) in [(live, false), (durable, true)] {
        let gateway = login(builder).start().await;
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        let mut caller = gateway.grpc().await;
        let pushed = pushed(&mut caller, push_with_receipt("42", "1")).await;
        assert_eq!(pushed.status(), PushStatus::Queued);
        assert_eq!(pushed.sessions, 1);
        assert_eq!(client.next_data().await, 1);
        if is_durable {
            let ticket = redis.ticket("42").await;
            let mut again = Client::builder(&gateway, &ticket).since("0").open().await;
            assert_eq!(again.welcome()["resume"], "complete");
            assert_eq!(again.next_data().await, 1);
        }
    }
}

async fn keeping(config: &str) -> Nats {
    Nats::start_with(&format!("jetstream: enabled\n{config}\n")).await
}

/// A folder with one file, and the path of that.
fn file(content: &str) -> (TempDir, String) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("secret");
    fs::write(&path, content).expect("written");
    let path = path.display().to_string();
    (folder, path)
}

#[tokio::test]
async fn a_token() {
    let nats = keeping("authorization { token: sesame-sesame }").await;
    all_connections_work(&nats, |builder| builder.set("nats.token", "sesame-sesame")).await;
}

#[tokio::test]
async fn a_user_and_a_password() {
    let nats = keeping("authorization { user: usher, password: sesame }").await;
    let login = |builder: Builder| {
        builder
            .set("nats.user", "usher")
            .set("nats.password", "sesame")
    };
    all_connections_work(&nats, login).await;
}

/// The same in the URL, percent-encoded.
#[tokio::test]
async fn a_user_and_a_password_in_the_url() {
    let nats = keeping("authorization { user: usher, password: \"se/s@me\" }").await;
    let url = nats.url().replace("://", "://usher:se%2Fs%40me@");
    all_connections_work(&nats, |builder| builder.set("nats.url", &url)).await;
}

#[tokio::test]
async fn a_credentials_file() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let (system, user) = (KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let claims = |kind: &str| json!({ "type": kind, "limits": limits });
    let system_claims = json!({ "type": "account" });
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\n\
         resolver_preload: {{ {}: {}\n {}: {} }}",
        jwt(&operator, &operator, json!({ "type": "operator" })),
        system.public_key(),
        account.public_key(),
        jwt(&operator, &account, claims("account")),
        system.public_key(),
        jwt(&operator, &system, system_claims),
    );
    let nats = keeping(&config).await;
    let claims = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
    let (_folder, path) = file(&format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(&account, &user, claims),
        user.seed().expect("a seed"),
    ));
    all_connections_work(&nats, |builder| builder.set("nats.credentials_file", &path)).await;
}

/// An nkey's public half is in the server's configuration, its seed in a file.
async fn knows(user: &KeyPair) -> Nats {
    let nkey = user.public_key();
    keeping(&format!("authorization {{ users: [{{ nkey: {nkey} }}] }}")).await
}

#[tokio::test]
async fn an_nkey_seed_file() {
    let user = KeyPair::new_user();
    let nats = knows(&user).await;
    let (_folder, path) = file(&format!("{}\n", user.seed().expect("a seed")));
    all_connections_work(&nats, |builder| builder.set("nats.nkey_seed_file", &path)).await;
}

/// The file is read at each connect: a new key is taken up by itself.
#[tokio::test]
async fn an_nkey_that_the_server_does_not_know() {
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let (nats, redis) = tokio::join!(knows(&user), Redis::start());
    let seed = stranger.seed().expect("a seed");
    let (_folder, path) = file(&seed);
    let builder = || Gateway::builder(&nats, &redis).set("nats.nkey_seed_file", &path);
    let (code, said) = builder().check().await;
    assert_eq!(code, Some(69), "{said}");
    assert!(!said.contains(&seed), "a secret");
    let gateway = builder().start_unready().await;
    eventually("the log says why", || async {
        gateway.log().contains("Authorization Violation")
    })
    .await;
    assert_eq!(gateway.readyz().await, 503);
    assert!(!gateway.log().contains(&seed), "a secret");
    fs::write(&path, user.seed().expect("a seed")).expect("written");
    gateway.becomes_ready().await;
    Client::open(&gateway, &redis.ticket("42").await).await;
}

#[tokio::test]
async fn an_nkey_seed_file_that_holds_none() {
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let account = KeyPair::new_account().seed().expect("a seed");
    for content in ["", "SUAX", &account] {
        let (_folder, path) = file(content);
        let builder = || Gateway::builder(&nats, &redis).set("nats.nkey_seed_file", &path);
        for (code, said) in [builder().fails().await, builder().check().await] {
            assert_eq!(code, Some(78), "{content:?}: {said}");
            assert!(said.contains("nats.nkey_seed_file"), "{said}");
            assert!(!said.contains(&account), "a secret");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_the_clients_own() {
    let ca = Ca::new();
    let (server, ours) = (ca.issue(), ca.issue());
    let nats = keeping(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        server.certificate_file,
        server.key_file,
        ca.file()
    ))
    .await;
    let login = |builder: Builder| {
        let path = |path: &std::path::Path| path.display().to_string();
        builder
            .set("nats.tls.ca_file", ca.file())
            .set("nats.tls.certificate_file", path(&ours.certificate_file))
            .set("nats.tls.key_file", path(&ours.key_file))
    };
    all_connections_work(&nats, login).await;
}

/// A gateway logs in to all servers alike, so two logins are a mistake.
#[tokio::test]
async fn two_logins_in_one_list_are_refused() {
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    for [first, second] in [
        ["alice:sesame-a@", "bob:sesame-b@"],
        ["alice:sesame-a@", "alice:sesame-b@"],
        ["token-sesame-a@", "token-sesame-b@"],
    ] {
        let url = |login: &str| nats.url().replace("://", &format!("://{login}"));
        let urls = format!("{},{}", url(first), url(second));
        let builder = || Gateway::builder(&nats, &redis).set("nats.url", &urls);
        let is_refused = |(code, said): (Option<i32>, String)| {
            assert_eq!(code, Some(78), "{first} {second}: {said}");
            assert!(said.contains("nats.url"), "{said}");
            assert!(!said.contains("sesame"), "a secret: {said}");
        };
        is_refused(builder().check().await);
        is_refused(builder().fails().await);
    }
}
