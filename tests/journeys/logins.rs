//! A gateway that NATS and Redis let in only with what they know.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    servers,
};

/// Messages pass in both directions.
async fn carries_messages(gateway: &Gateway, redis: &Redis) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
}

async fn is_kept_out(gateway: &Gateway, said: &str) {
    eventually("the log says why", || async {
        gateway.log().contains(said)
    })
    .await;
    assert_eq!(gateway.readyz().await, 503);
}

#[tokio::test]
async fn nats_knows_a_token() {
    let (nats, redis) = tokio::join!(
        Nats::start_with("authorization { token: sesame-sesame }"),
        Redis::start()
    );
    let builder = || Gateway::builder(&nats, &redis);
    let gateway = builder().set("nats.token", "sesame-sesame").start().await;
    carries_messages(&gateway, &redis).await;
    let gateway = builder().set("nats.token", "wrong").start_unready().await;
    is_kept_out(&gateway, "Authorization Violation").await;
    assert!(!gateway.log().contains("wrong"));
}

#[tokio::test]
async fn nats_knows_a_user() {
    let (nats, redis) = tokio::join!(
        Nats::start_with("authorization { user: usher, password: sesame }"),
        Redis::start()
    );
    let builder = || Gateway::builder(&nats, &redis).set("nats.user", "usher");
    let gateway = builder().set("nats.password", "sesame").start().await;
    carries_messages(&gateway, &redis).await;
    let gateway = builder()
        .set("nats.password", "xyzzy")
        .start_unready()
        .await;
    is_kept_out(&gateway, "Authorization Violation").await;
    assert!(!gateway.log().contains("xyzzy"));
}

/// As `nsc` would make them: an operator vouches for an account, and the account
/// for a user.
#[tokio::test]
async fn nats_knows_a_credentials_file() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
        jwt(&operator, &operator, json!({ "type": "operator" })),
        account.public_key(),
        jwt(
            &operator,
            &account,
            json!({ "type": "account", "limits": unlimited })
        )
    );
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("usher.creds");
    let write = |signer: &KeyPair| {
        let user = KeyPair::new_user();
        let claims = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(signer, &user, claims),
            user.seed().expect("a seed"),
        );
        fs::write(&file, text).expect("written");
    };
    let builder = || {
        let file = file.display().to_string();
        Gateway::builder(&nats, &redis).set("nats.credentials_file", file)
    };
    write(&KeyPair::new_account());
    let gateway = builder().start_unready().await;
    is_kept_out(&gateway, "Authorization Violation").await;
    // Read again at each connection: a new file is enough.
    write(&account);
    gateway.becomes_ready().await;
    carries_messages(&gateway, &redis).await;
}

/// What `signer` says of `subject` (NATS's JWT, signed with an nkey).
pub(crate) fn jwt(signer: &KeyPair, subject: &KeyPair, mut nats: Value) -> String {
    nats["version"] = json!(2);
    let claims = json!({
        "jti": "usher", "iat": 1_700_000_000, "iss": signer.public_key(), "name": "usher",
        "sub": subject.public_key(), "nats": nats,
    });
    let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = signer.sign(signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// All that a gateway needs of Redis, and nothing else.
#[tokio::test]
async fn redis_knows_a_user_with_few_rights() {
    let (nats, redis) = servers().await;
    redis.user(&["~ticket:*", "+getdel", "+set"]).await;
    let builder = || Gateway::builder(&nats, &redis).set("redis.user", "usher");
    let gateway = builder().set("redis.password", "sesame").start().await;
    carries_messages(&gateway, &redis).await;
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_usher"))
        .arg("check")
        .env("USHER_REDIS__URL", redis.url())
        .env("USHER_REDIS__USER", "usher")
        .env("USHER_REDIS__PASSWORD", "sesame")
        .env("USHER_NATS__URL", nats.url())
        .env("USHER_NATS__USER", nats.gateways_login().expect("roles").0)
        .env(
            "USHER_NATS__PASSWORD",
            nats.gateways_login().expect("roles").1,
        )
        .output()
        .expect("usher runs");
    assert!(check.status.success(), "{check:?}");
    let mut caller = gateway.grpc().await;
    let request = usher::proto::IssueTicketRequest {
        user_id: "43".to_owned(),
        ..Default::default()
    };
    let ticket = crate::support::grpc::issue(&mut caller, request).await;
    Client::open(&gateway, &ticket).await;
    let gateway = builder()
        .set("redis.password", "xyzzy")
        .start_unready()
        .await;
    is_kept_out(&gateway, "Redis cannot be reached").await;
    assert!(!gateway.log().contains("xyzzy"));
}

/// One whose rules are wrong says so once, and is not ready.
#[tokio::test]
async fn a_redis_that_refuses_is_named_in_the_log() {
    let (nats, redis) = servers().await;
    redis
        .user(&["resetkeys", "~other:*", "-@all", "+getdel", "+set", "+ping"])
        .await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.user", "usher")
        .set("redis.password", "sesame")
        .start_unready()
        .await;
    is_kept_out(&gateway, "GETDEL is refused").await;
    for _ in 0..3 {
        let ticket = redis.ticket("42").await;
        Client::builder(&gateway, &ticket)
            .refused()
            .await
            .assert_refused(503, "unavailable");
    }
    assert_eq!(gateway.log().matches("GETDEL is refused").count(), 1);
}
