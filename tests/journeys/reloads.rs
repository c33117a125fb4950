//! SIGHUP: certificates and secrets' files are read anew, and a bad one changes nothing.

use std::{fs, path::PathBuf};

use nkeys::KeyPair;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis, eventually,
    grpc::{push, with_token},
    http,
    login::{Login, in_seconds},
    redis::driver,
    secret, servers,
    tls::{Ca, Tls as _, front, tunnel},
};

/// Files that hold secrets.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    /// Writes one, and says where it is.
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Sends SIGHUP, and waits until the log has this after it.
async fn hang_up(gateway: &mut Gateway, said: &str) {
    let before = gateway.log().len();
    gateway.signal(Signal::HUP);
    eventually(&format!("it says {said:?}"), || async {
        gateway.log()[before..].contains(said)
    })
    .await;
}

const DONE: &str = "the files are read anew";

async fn code(gateway: &Gateway, token: &str) -> Code {
    let request = with_token(push("42", "1"), token);
    match gateway.grpc().await.push_notification(request).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn tokens_of_the_push_api_hold_from_then_on() {
    let (nats, redis) = servers().await;
    let files = Files::new();
    let file = files.write("tokens", "first-token-of-the-first-file\n");
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens_file", file)
        .start()
        .await;
    assert_eq!(
        code(&gateway, "first-token-of-the-first-file").await,
        Code::Ok
    );
    files.write(
        "tokens",
        "second-token-of-the-second-file\nthird-token-of-the-second-file\n",
    );
    hang_up(&mut gateway, DONE).await;
    for token in [
        "second-token-of-the-second-file",
        "third-token-of-the-second-file",
    ] {
        assert_eq!(code(&gateway, token).await, Code::Ok);
    }
    let old = code(&gateway, "first-token-of-the-first-file").await;
    assert_eq!(old, Code::Unauthenticated);

    for bad in ["", "short"] {
        files.write("tokens", bad);
        hang_up(&mut gateway, "grpc.tokens_file").await;
        assert_eq!(
            code(&gateway, "second-token-of-the-second-file").await,
            Code::Ok
        );
        assert_eq!(code(&gateway, bad).await, Code::Unauthenticated);
    }
    fs::remove_file(files.path("tokens")).expect("removed");
    hang_up(&mut gateway, "grpc.tokens_file").await;
    assert_eq!(
        code(&gateway, "second-token-of-the-second-file").await,
        Code::Ok
    );
    assert!(
        !gateway.log().contains("-token-of-the"),
        "{}",
        gateway.log()
    );
    gateway
        .metric_becomes(r#"usher_file_reloads_total{result="failed"}"#, 3.0)
        .await;
}

async fn mint(gateway: &Gateway, token: &str) -> u16 {
    let bearer = format!("Bearer {}", secret(token));
    let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
    let response = http::request("POST", &gateway.public, "/tickets", &headers).await;
    if response.status == 201 {
        secret(response.json()["ticket"].as_str().expect("a ticket"));
    }
    response.status
}

fn claims() -> Value {
    json!({ "sub": "42", "exp": in_seconds(600) })
}

#[tokio::test]
async fn the_secret_of_logins_holds_from_then_on() {
    let (nats, redis) = servers().await;
    let (files, mut login) = (Files::new(), Login::start());
    let first = "the first secret of at least 32 bytes";
    let second = "the second secret of at least 32 bytes";
    let file = files.write("secret", first);
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("tickets.jwt.secret_file", file)
        .start()
        .await;
    let mut token = |secret: &str| login.sign_with_secret(secret, "HS256", &claims());
    let (one, two) = (token(first), token(second));
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (201, 401)
    );
    files.write("secret", second);
    hang_up(&mut gateway, DONE).await;
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (401, 201)
    );
    files.write("secret", "too short");
    hang_up(&mut gateway, "tickets.jwt.secret_file").await;
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (401, 201)
    );
}

#[tokio::test]
async fn the_public_key_of_logins_holds_from_then_on() {
    let (nats, redis) = servers().await;
    let (files, mut login) = (Files::new(), Login::start());
    let mut key = |name: &str| {
        let key = login.key(name, "p256");
        let token = login.sign(name, "ES256", &claims());
        (key["pem"].as_str().expect("a key").to_owned(), token)
    };
    let (first, one) = key("first");
    let (second, two) = key("second");
    let file = files.write("key.pem", &first);
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("tickets.jwt.public_key_file", file)
        .start()
        .await;
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (201, 401)
    );
    files.write("key.pem", &second);
    hang_up(&mut gateway, DONE).await;
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (401, 201)
    );
    files.write("key.pem", "rubbish");
    hang_up(&mut gateway, "tickets.jwt.public_key_file").await;
    assert_eq!(
        (mint(&gateway, &one).await, mint(&gateway, &two).await),
        (401, 201)
    );
}

/// Messages pass in both directions.
async fn carries_messages(gateway: &Gateway, redis: &Redis) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    let pushed = gateway
        .grpc()
        .await
        .push_notification(push("42", "1"))
        .await;
    pushed.expect("pushed");
    assert_eq!(client.next_data().await, 1);
}

/// A password of NATS changes, and with it who is let in.
async fn a_new_password_of_nats(config: impl Fn(&str) -> String, key: &str, builder: Builder) {
    let files = Files::new();
    let first = config("first-sesame");
    let (mut nats, redis) = tokio::join!(Nats::start_with(&first), Redis::start());
    let content = |password: &str| match key {
        "nats.url_file" => format!("nats://usher:{password}@127.0.0.1:{}", nats.port()),
        _ => format!("{password}\n"),
    };
    let (first, second, wrong) = (
        content("first-sesame"),
        content("second-sesame"),
        content(""),
    );
    let file = files.write("password", &first);
    let builder = builder.set("redis.url", redis.url()).set(key, file);
    let builder = match key {
        "nats.url_file" => builder,
        _ => builder.set("nats.url", nats.url()),
    };
    let mut gateway = builder.start().await;
    carries_messages(&gateway, &redis).await;

    // Kept out, until it has read the new password.
    nats.write_config(&config("second-sesame"));
    nats.reload().await;
    let connections = ["interest", "push", "service", "calls"];
    for connection in connections {
        let metric = format!("usher_nats_connected{{connection={connection:?}}}");
        gateway.metric_becomes(&metric, 0.0).await;
    }
    files.write("password", &second);
    hang_up(&mut gateway, DONE).await;
    for connection in connections {
        let metric = format!("usher_nats_connected{{connection={connection:?}}}");
        gateway.metric_becomes(&metric, 1.0).await;
    }
    carries_messages(&gateway, &redis).await;
    if key != "nats.url_file" {
        files.write("password", &wrong.replace('\n', ""));
        hang_up(&mut gateway, key).await;
        nats.restart().await;
        let all = connections.len() as f64;
        gateway.metric_becomes("usher_nats_connected", all).await;
    }
    assert!(!gateway.log().contains("sesame"), "{}", gateway.log());
}

#[tokio::test]
async fn a_password_of_nats_holds_at_the_next_connect() {
    let config =
        |password: &str| format!("authorization {{ user: usher, password: {password} }}\n");
    let builder = Builder::new().set("nats.user", "usher");
    a_new_password_of_nats(config, "nats.password_file", builder).await;
}

#[tokio::test]
async fn a_token_of_nats_holds_at_the_next_connect() {
    let config = |token: &str| format!("authorization {{ token: {token} }}\n");
    a_new_password_of_nats(config, "nats.token_file", Builder::new()).await;
}

#[tokio::test]
async fn a_password_in_the_url_of_nats_holds_at_the_next_connect() {
    let config =
        |password: &str| format!("authorization {{ user: usher, password: {password} }}\n");
    a_new_password_of_nats(config, "nats.url_file", Builder::new()).await;
}

/// What is read at each connect: a bad file leaves what it said before in use.
#[tokio::test]
async fn bad_files_for_nats_and_redis_leave_the_old_ones_in_use() {
    let (ca, user) = (Ca::new(), KeyPair::new_user());
    let (server, ours) = (ca.issue(), ca.issue());
    let config = format!(
        "authorization {{ users: [{{ nkey: {} }}] }}\n\
         tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
        user.public_key(),
        server.certificate_file,
        server.key_file,
        ca.file()
    );
    let (mut nats, mut redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let plain = redis.url().replace("redis://", "");
    let front = front(ca.acceptor(true), &plain).await;
    let files = Files::new();
    let seed = files.write("seed", &user.seed().expect("a seed"));
    let authorities = fs::read_to_string(ca.file()).expect("a CA");
    let authorities = files.write("ca", &authorities);
    let mut gateway = Builder::new()
        .set("nats.url", nats.url())
        .set("nats.nkey_seed_file", seed)
        .identity("nats.tls", &ours)
        .set("nats.tls.ca_file", &authorities)
        .set("redis.url", format!("rediss://{front}"))
        .identity("redis.tls", &ours)
        .set("redis.tls.ca_file", &authorities)
        .start()
        .await;
    carries_messages(&gateway, &redis).await;

    let spoilt = [files.path("seed"), files.path("ca"), ours.key_file];
    for file in spoilt {
        fs::write(file, "rubbish").expect("written");
    }
    hang_up(&mut gateway, "what was read before stays in use").await;
    nats.kill();
    redis.kill();
    gateway.metric_becomes("usher_nats_connected", 0.0).await;
    gateway.readyz_lists("warnings", "redis_away").await;
    nats.restart().await;
    redis.restart().await;
    gateway.metric_becomes("usher_nats_connected", 4.0).await;
    eventually("Redis is back", || async {
        let warnings = gateway.ops_get("/readyz").await.json()["warnings"].clone();
        warnings.as_array().is_none_or(Vec::is_empty)
    })
    .await;
    carries_messages(&gateway, &redis).await;
    assert!(gateway.log().contains("a file is not good"));
}

/// A user of Redis with this password, and no connection that knew another one.
async fn set_password(redis: &Redis, password: &str) {
    let rules = ["on", "resetpass", &format!(">{password}"), "~*", "+@all"].map(str::to_owned);
    let mut client = redis.client().await;
    let set = driver::cmd("ACL")
        .arg("SETUSER")
        .arg("usher")
        .arg(&rules)
        .query_async::<()>(&mut client)
        .await;
    set.expect("a user");
    let kill = driver::cmd("CLIENT")
        .arg("KILL")
        .arg("USER")
        .arg("usher")
        .query_async::<i64>(&mut client)
        .await;
    kill.expect("killed");
}

#[tokio::test]
async fn a_password_of_redis_holds_at_the_next_connect() {
    for key in ["redis.password_file", "redis.url_file"] {
        let (nats, redis) = servers().await;
        let files = Files::new();
        let content = |password: &str| match key {
            "redis.url_file" => redis.url().replace("//", &format!("//usher:{password}@")),
            _ => password.to_owned(),
        };
        set_password(&redis, "first-sesame").await;
        let file = files.write("password", &content("first-sesame"));
        let (user, password) = nats.gateways_login().expect("roles");
        let builder = Builder::new()
            .set("nats.url", nats.url())
            .set("nats.user", user)
            .set("nats.password", password)
            .set(key, file);
        let builder = match key {
            "redis.url_file" => builder,
            _ => builder
                .set("redis.url", redis.url())
                .set("redis.user", "usher"),
        };
        let mut gateway = builder.start().await;
        carries_messages(&gateway, &redis).await;
        set_password(&redis, "second-sesame").await;
        gateway.readyz_lists("warnings", "redis_away").await;
        files.write("password", &content("second-sesame"));
        hang_up(&mut gateway, DONE).await;
        eventually("Redis lets it in", || async {
            gateway.ops_get("/readyz").await.json()["warnings"]
                .as_array()
                .is_none_or(Vec::is_empty)
        })
        .await;
        carries_messages(&gateway, &redis).await;
        assert!(!gateway.log().contains("sesame"), "{}", gateway.log());
    }
}

/// The new password of another user would be shown with the old name.
#[tokio::test]
async fn another_user_of_redis_takes_a_restart() {
    let (nats, redis) = servers().await;
    let files = Files::new();
    let url = |login: &str| redis.url().replace("//", &format!("//{login}@"));
    set_password(&redis, "first-sesame").await;
    let file = files.write("url", &url("usher:first-sesame"));
    let (user, password) = nats.gateways_login().expect("roles");
    let builder = Builder::new()
        .set("nats.url", nats.url())
        .set("nats.user", user)
        .set("nats.password", password)
        .set("redis.url_file", file);
    let mut gateway = builder.start().await;
    files.write("url", &url("other:second-sesame"));
    hang_up(&mut gateway, "redis.url_file names another user").await;
    // All log in anew, and are who they were.
    set_password(&redis, "first-sesame").await;
    carries_messages(&gateway, &redis).await;
}

/// The files are looked at every second anyway; a signal has them read at once, and names
/// what is wrong however often it is asked.
#[tokio::test]
async fn certificates_are_read_and_a_bad_one_is_named() {
    let (nats, redis) = servers().await;
    let (old, new) = (Ca::new(), Ca::new());
    let identity = old.issue();
    let path = |path: &std::path::Path| path.display().to_string();
    let mut gateway = Gateway::builder(&nats, &redis)
        .set(
            "public.tls.certificate_file",
            path(&identity.certificate_file),
        )
        .set("public.tls.key_file", path(&identity.key_file))
        .start()
        .await;
    let knows = async |gateway: &Gateway, ca: &Ca| {
        let door = tunnel(&gateway.public, ca.client(None)).await;
        http::get(&door, "/readyz", &[]).await.status == 200
    };
    assert!(knows(&gateway, &old).await);
    fs::write(&identity.certificate_file, "rubbish").expect("written");
    for _ in 0..2 {
        hang_up(&mut gateway, "public.tls.certificate_file").await;
    }
    assert!(knows(&gateway, &old).await);
    let newer = new.issue();
    fs::copy(&newer.certificate_file, &identity.certificate_file).expect("copied");
    fs::copy(&newer.key_file, &identity.key_file).expect("copied");
    hang_up(&mut gateway, DONE).await;
    assert!(knows(&gateway, &new).await);
}
