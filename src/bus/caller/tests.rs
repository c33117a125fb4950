//! What a server says, and what becomes of a question.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    time::timeout,
};
use url::Url;

use super::*;
use crate::{
    bus::{Config, example_config, health::Health, interest::Dialer, servers::Servers},
    metrics::Metrics,
    readiness::{Part, Readiness},
};

/// A server that forbids to publish anything.
async fn server() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let (reader, mut writer) = socket.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut says = "INFO {\"headers\":true,\"max_payload\":1024}\r\n".to_owned();
        loop {
            writer.write_all(says.as_bytes()).await.expect("written");
            let line = lines.next_line().await.expect("a line");
            says = match line.as_deref().map(|line| line.split_once(' ')) {
                Some(Some(("PUB", rest))) => {
                    let subject = rest.split(' ').next().expect("a subject");
                    format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n")
                }
                Some(None) if line.as_deref() == Some("PING") => "PONG\r\n".to_owned(),
                Some(_) => String::new(),
                None => return,
            };
        }
    });
    Url::parse(&format!("nats://{address}")).expect("a URL")
}

#[tokio::test]
async fn a_question_for_many_answers_ends_where_nats_forbids_it() {
    let config = Config {
        servers: vec![server().await],
        ..example_config()
    };
    let (metrics, readiness) = (Arc::new(Metrics::new()), Readiness::new(Duration::ZERO));
    let health = Health::new("stream", Part::Calls, false, metrics, readiness);
    let servers = Servers::new(&config.servers);
    let supervisor = Supervisor::new(Dialer::new(config, servers), health);
    let (caller, task) = Caller::new(supervisor, "_INBOX.", None);
    tokio::spawn(task);
    caller.up().wait_for(|up| *up).await.expect("a connection");
    let mut replies = caller.ask("a.b", &"", 3).await.expect("it is asked");
    let ended = timeout(Duration::from_secs(10), replies.next()).await;
    let why = ended.expect("it ends").expect_err("no answer");
    assert_eq!(format!("{why:?}"), "Forbidden(\"a.b\")");
}
