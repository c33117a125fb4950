//! `usher presence` and `usher disconnect`.

use std::process::Stdio;

use serde_json::{Value, json};

use super::knows;
use crate::{
    commands::run::{bare, command, on_a_terminal, run, to_end},
    support::{Client, Gateway, servers},
};

#[tokio::test]
async fn presence_prints_a_line_for_each_user() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    knows(&gateway, 1).await;
    let client = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    let name = client.welcome()["gateway"].as_str().expect("a name");
    let users = ["presence", "42", "bob@example.com", "-5"];
    let ran = run(&gateway, &users).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let offline = |user| json!({"user_id": user, "sessions": 0, "gateways": [], "complete": true});
    let online = json!({
        "user_id": "bob@example.com", "sessions": 1, "gateways": [name], "complete": true,
    });
    assert_eq!(
        lines.collect::<Vec<Value>>(),
        [offline("42"), online, offline("-5")]
    );

    let shown = on_a_terminal(command(&gateway, &users), Stdio::null()).await;
    let words = format!("42: offline\r\nbob@example.com: 1 session on {name}\r\n-5: offline\r\n");
    assert_eq!(shown, (Some(0), words));

    // More than a call takes.
    let many: Vec<_> = (0..1500).map(|id| id.to_string()).collect();
    let mut arguments = vec!["presence"];
    arguments.extend(many.iter().map(String::as_str));
    let ran = run(&gateway, &arguments).await;
    assert_eq!(
        (ran.code, ran.out.lines().count()),
        (Some(0), 1500),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn disconnect_ends_sessions_and_says_how_many() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    knows(&gateway, 1).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let ran = run(
        &gateway,
        &["disconnect", "42", "--reason", "account closed"],
    )
    .await;
    assert_eq!(ran.json(), json!({"sessions": 1, "complete": true}));
    assert_eq!(client.expect_goodbye().await["message"], "account closed");
    assert_eq!(client.expect_close().await.0, 4100);

    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let again = command(&gateway, &["disconnect", "42", "--reconnect"]);
    let shown = on_a_terminal(again, Stdio::null()).await;
    assert_eq!(shown, (Some(0), "1 session ends\r\n".to_owned()));
    assert_eq!(client.expect_close().await.0, 4004);
    let shown = on_a_terminal(command(&gateway, &["disconnect", "42"]), Stdio::null()).await;
    assert_eq!(shown, (Some(0), "0 sessions end\r\n".to_owned()));

    for (arguments, says) in [
        (
            &["disconnect", "42", "--reason", &"x".repeat(65)][..],
            "at most 64 bytes",
        ),
        (&["disconnect", ""], "is empty"),
        (&["presence"], "USER"),
    ] {
        let ran = to_end(bare(arguments), Vec::new()).await;
        assert_eq!(ran.code, Some(64), "{}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    let nobody = bare(&["disconnect", "42", "--grpc", "127.0.0.1:1"]);
    to_end(nobody, Vec::new())
        .await
        .failed(&["127.0.0.1:1", "--grpc"]);
}
