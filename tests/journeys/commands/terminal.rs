//! The commands on a terminal.

use std::{process::Stdio, time::Duration};

use super::run::{command, on_a_terminal};
use crate::support::{Client, Gateway, secret, servers, world};

#[tokio::test]
async fn people_on_a_terminal_get_words() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.path_prefix", "/usher")
        .start()
        .await;
    let mut ticket = command(&gateway, &["ticket", "42", "--ttl", "90s"]);
    ticket.env("USHER_PUBLIC__PATH_PREFIX", "/usher");
    let (code, shown) = on_a_terminal(ticket, Stdio::null()).await;
    assert_eq!(code, Some(0), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    let ticket = secret(lines[0]);
    assert_eq!(
        lines[1],
        format!("ws://{}/usher/ws?ticket={ticket}", gateway.public)
    );
    assert!(lines[2].contains("90 s"), "{shown}");

    let push = || command(&gateway, &["push", "42", "x", "--receipt"]);
    assert_eq!(
        on_a_terminal(push(), Stdio::null()).await,
        (Some(0), "offline\r\n".to_owned())
    );
    let _client = Client::builder(&gateway, &ticket)
        .path("/usher/ws")
        .open()
        .await;
    assert_eq!(
        on_a_terminal(push(), Stdio::null()).await,
        (Some(0), "queued to 1 session\r\n".to_owned())
    );

    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let pushing = on_a_terminal(command(&gateway, &["push", "42", "-"]), reader.into());
    let writing = async {
        for number in 0..3 {
            std::io::Write::write_all(&mut writer, format!("{number}\n").as_bytes())
                .expect("written");
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        drop(writer);
    };
    let ((code, shown), ()) = tokio::join!(pushing, writing);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(" messages, "), "no bar was shown: {shown:?}");
    let summary = shown.lines().last().expect("a summary");
    assert!(
        summary.contains("3 messages in ") && summary.ends_with("a second"),
        "{summary:?}"
    );
}

#[tokio::test]
async fn people_on_a_terminal_see_events_as_they_come() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let listen = command(&gateway, &["listen", "--ticket", &ticket]);
    let listening = on_a_terminal(listen, Stdio::null());
    let rest = async {
        gateway.metric_becomes("usher_sessions", 1.0).await;
        nats.publish("usher.user.42", "{\"order\":123}").await;
        nats.publish("usher.broadcast", "\"\u{9b}2J\u{7f}\"").await;
        gateway
            .metric_becomes("usher_messages_delivered_total", 2.0)
            .await;
        drop(gateway);
    };
    let ((code, shown), ()) = tokio::join!(listening, rest);
    assert_eq!(code, Some(1), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].contains("Z  connected as 42 to "), "{shown:?}");
    assert!(
        lines[1].ends_with("Z  message  {\"order\":123}"),
        "{shown:?}"
    );
    assert!(
        lines[2].ends_with("Z  message (to everybody)  \"\\u009b2J\\u007f\""),
        "{shown:?}"
    );
    assert!(lines[3].contains("the connection is lost"), "{shown:?}");
}
