//! The commands that are clients, against real gateways: `usher ticket`, `push`,
//! `listen` and `bench`.

mod bench;
mod listen;
mod push;
pub(crate) mod run;
mod terminal;

use std::fs;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use self::run::{Ran, Running, bare, command, run, to_end};
use crate::support::{Client, Gateway, eventually, secret, servers, tls::Ca, world};

const TOKEN: &str = "a-token-that-is-long-enough";

fn minted(ran: &Ran) -> String {
    secret(ran.line())
}

fn event(data: impl Into<Value>) -> Value {
    json!({"event": "message", "data": data.into()})
}

#[tokio::test]
async fn a_ticket_from_the_command_line_opens_a_session_once() {
    let (_nats, redis, gateway) = world().await;
    let ticket = minted(&run(&gateway, &["ticket", "bob@example.com"]).await);
    let client = Client::open(&gateway, &ticket).await;
    assert_eq!(client.welcome()["user"], "bob@example.com");
    let again = Client::builder(&gateway, &ticket).refused().await;
    again.assert_refused(401, "ticket_unknown");

    let short = minted(&run(&gateway, &["ticket", "42", "--ttl", "1s"]).await);
    eventually("it expires", || async { !redis.exists(&short).await }).await;
}

#[tokio::test]
async fn the_gateway_is_found_in_its_own_configuration() {
    let (_nats, redis, gateway) = world().await;
    let file = NamedTempFile::new().expect("a file");
    let text = format!(
        "[grpc]\nlisten = \"{}\"\n[public]\nlisten = \"{}\"\n",
        gateway.grpc, gateway.public
    );
    fs::write(&file, text).expect("written");
    let path = file.path().to_str().expect("a path");
    let with_file = |arguments: &[&str]| bare(&[arguments, &["--config", path]].concat());
    let ticket = minted(&to_end(with_file(&["ticket", "42"]), Vec::new()).await);
    let mut client = Client::open(&gateway, &ticket).await;
    let mut listener = Running::start(with_file(&["listen", "--user", "42"]));
    listener.until("welcome").await;
    let push = to_end(with_file(&["push", "42", "1", "--receipt"]), Vec::new()).await;
    assert_eq!(push.json(), json!({"status": "queued", "sessions": 2}));
    assert_eq!(client.next_data().await, 1);
    assert_eq!(listener.frame().await, event(1));
    drop(redis);
}

#[tokio::test]
async fn the_gateway_is_reached_by_tls() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let (server, ours) = (ca.issue(), ca.issue());
    let path = |path: &std::path::Path| path.display().to_string();
    let mut builder = Gateway::builder(&nats, &redis).set("grpc.tls.client_ca_file", ca.file());
    for section in ["public.tls", "grpc.tls"] {
        builder = builder
            .set(
                &format!("{section}.certificate_file"),
                path(&server.certificate_file),
            )
            .set(&format!("{section}.key_file"), path(&server.key_file));
    }
    let gateway = builder.start().await;
    let (grpc, public) = (
        format!("https://{}", gateway.grpc),
        format!("https://{}", gateway.public),
    );
    let place = ["--grpc", &grpc, "--public", &public];
    let (ca_file, certificate, key) = (
        ca.file(),
        path(&ours.certificate_file),
        path(&ours.key_file),
    );
    let trust = ["--ca-file", &ca_file];
    let identity = ["--certificate-file", &certificate, "--key-file", &key];
    let with = |parts: &[&[&str]]| bare(&parts.concat());

    let mut listener = Running::start(with(&[
        &["listen", "--user", "42"],
        &place,
        &trust,
        &identity,
    ]));
    listener.until("welcome").await;
    let push = with(&[&["push", "42", "1", "--receipt"], &place, &trust, &identity]);
    let push = to_end(push, Vec::new()).await;
    assert_eq!(push.json(), json!({"status": "queued", "sessions": 1}));
    assert_eq!(listener.frame().await, event(1));

    let push = ["push", "42", "1"];
    let ran = to_end(with(&[&push, &place]), Vec::new()).await;
    ran.failed(&[
        "is not accepted (invalid peer certificate",
        "--ca-file FILE",
    ]);
    // Without a word of TLS.
    let plain = grpc.trim_start_matches("https://");
    let ran = to_end(bare(&["push", "42", "1", "--grpc", plain]), Vec::new()).await;
    ran.failed(&["If it speaks TLS, give --grpc https://HOST:PORT"]);
    let ran = to_end(with(&[&push, &place, &trust]), Vec::new()).await;
    assert_ne!(ran.code, Some(0), "{}", ran.out);
    let missing = ["--ca-file", "/nowhere"];
    let ran = to_end(with(&[&push, &place, &missing]), Vec::new()).await;
    assert_eq!(ran.code, Some(78), "{}", ran.err);
    assert!(
        ran.err.contains("--ca-file \"/nowhere\" can't be read"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_gateway_with_tokens_wants_one_of_them() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    for arguments in [
        &["push", "42", "x"][..],
        &["ticket", "42"],
        &["listen", "--user", "42"],
    ] {
        let ran = run(&gateway, arguments).await;
        ran.failed(&["wants a token", "--token-file", "grpc.tokens"]);
        let mut wrong = command(&gateway, arguments);
        wrong.env("USHER_GRPC__TOKENS", "another-token-long-enough");
        let ran = to_end(wrong, Vec::new()).await;
        ran.failed(&["does not know the token of grpc.tokens"]);
        assert!(!ran.err.contains("another-token"), "{}", ran.err);
    }
    let mut push = command(&gateway, &["push", "42", "x"]);
    push.env("USHER_GRPC__TOKENS", TOKEN);
    assert_eq!(
        to_end(push, Vec::new()).await.json(),
        json!({"status": "dispatched"})
    );

    // The gateway's own file of tokens will do: the first line counts.
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, format!("{TOKEN}\nand-another-one-of-them\n")).expect("written");
    let path = file.path().to_str().expect("a path");
    let with_file = ["--token-file", path];
    let push = run(&gateway, &[&["push", "42", "x"][..], &with_file].concat()).await;
    assert_eq!(push.json(), json!({"status": "dispatched"}));
    Running::listen(&gateway, &[&["--user", "42"][..], &with_file].concat()).await;
}
