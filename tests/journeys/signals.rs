//! Which signals end a gateway, and how.

use std::{fs::File, io::Write as _, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Client, Gateway, servers, wait::patiently};

/// As Kubernetes, a terminal, and a terminal whose user presses Ctrl-\ end it.
#[tokio::test]
async fn each_of_three_signals_drains() {
    let (nats, redis) = servers().await;
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut gateway = Gateway::builder(&nats, &redis)
            .set("drain.delay", "0s")
            .set("drain.window", "0s")
            .start()
            .await;
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        gateway.signal(signal);
        assert_eq!(
            client.expect_goodbye().await["reason"],
            "drain",
            "{signal:?}"
        );
        assert_eq!(client.expect_close().await.0, 1012);
        assert_eq!(gateway.wait().await.code(), Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "1h")
        .start()
        .await;
    gateway.signal(Signal::QUIT);
    gateway.becomes_unready().await;
    gateway.signal(Signal::QUIT);
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// As a terminal that closes, or an operator who tries, might send.
#[tokio::test]
async fn other_signals_end_nothing() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for (number, signal) in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::PIPE]
        .into_iter()
        .enumerate()
    {
        for _ in 0..2 {
            gateway.signal(signal);
            nats.publish("usher.user.42", &number.to_string()).await;
            assert_eq!(client.next_data().await, number, "{signal:?}");
        }
    }
    gateway.logs("the files are read anew").await;
    assert_eq!(gateway.readyz().await, 200);
    assert!(gateway.has_ended().is_none());
}

/// Whoever rotates a secret may do so while the gateway starts.
#[tokio::test]
async fn a_hang_up_during_the_start_ends_nothing() {
    let (nats, redis) = servers().await;
    let folder = TempDir::new().expect("a folder");
    let pipe = folder.path().join("key");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let (mut starting, _folder) = Gateway::builder(&nats, &redis)
        .set("tickets.jwt.public_key_file", pipe.display().to_string())
        .begin();
    // The gateway reads it now, and waits for what it says.
    let opened = tokio::task::spawn_blocking(|| File::options().write(true).open(pipe));
    let key = patiently("it reads the key", opened).await;
    starting.signal(Signal::HUP);
    write!(key.expect("opened").expect("a pipe"), "rubbish").expect("written");
    assert_eq!(starting.wait().await.code(), Some(78));
}
