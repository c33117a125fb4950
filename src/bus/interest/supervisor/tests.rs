use std::{future::poll_fn, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, timeout},
};
use url::Url;

use super::*;
use crate::{
    bus::{Config, example_config, servers::Servers},
    metrics::Metrics,
    readiness::{Part, Readiness},
};

const INFO: &str = "INFO {\"headers\":true,\"max_payload\":1024}\r\n";
const LAME_DUCK: &str = "INFO {\"headers\":true,\"max_payload\":1024,\"ldm\":true}\r\n";

/// Says on one connection what a test wants.
type Says = UnboundedSender<&'static str>;

/// Stands for a cluster: it takes each connection as another server would.
async fn cluster() -> (Url, UnboundedReceiver<Says>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, connections) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (says, said) = unbounded_channel();
            tokio::spawn(serve(socket, said));
            if sender.send(says).is_err() {
                return;
            }
        }
    });
    let url = format!("nats://{address}");
    (Url::parse(&url).expect("a URL"), connections)
}

async fn serve(socket: TcpStream, mut said: UnboundedReceiver<&'static str>) {
    let (reader, mut writer) = socket.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut text = Some(INFO);
    while let Some(now) = text {
        if writer.write_all(now.as_bytes()).await.is_err() {
            return;
        }
        text = tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) if line == "PING" => Some("PONG\r\n"),
                Ok(Some(_)) => Some(""),
                _ => None,
            },
            said = said.recv() => said,
        };
    }
}

async fn next(supervisor: &mut Supervisor) -> News {
    let next = poll_fn(|cx| supervisor.poll_next(cx));
    let next = timeout(Duration::from_secs(30), next).await;
    next.expect("news within 30 s")
}

/// The current server goes into lame-duck mode, and the connection moves.
async fn moves(supervisor: &mut Supervisor, current: &Says) {
    current.send(LAME_DUCK).expect("a connection");
    while !matches!(next(supervisor).await, News::SuccessorUp) {}
    supervisor.promote();
}

/// Of a cluster.
fn supervisor(url: Url) -> Supervisor {
    let config = Config {
        servers: vec![url],
        ..example_config()
    };
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::new(Duration::ZERO);
    let health = Health::new("calls", Part::Calls, false, metrics, readiness);
    let servers = Servers::new(&config.servers);
    Supervisor::new(Dialer::new(config, servers), health)
}

/// Answers to questions that were asked before both moves still come.
#[tokio::test]
async fn after_two_moves_the_first_connection_is_still_heard() {
    let (url, mut connections) = cluster().await;
    let mut supervisor = supervisor(url).lingering(Duration::from_secs(600));
    assert!(matches!(next(&mut supervisor).await, News::Up));
    let id = supervisor.current().expect("a connection").id();
    let first = connections.recv().await.expect("a connection");
    moves(&mut supervisor, &first).await;
    let second = connections.recv().await.expect("a connection");
    moves(&mut supervisor, &second).await;
    first.send("MSG a 1 1\r\nx\r\n").expect("it is open");
    let from = loop {
        if let News::FromOld(from, Received::Message(_)) = next(&mut supervisor).await {
            break from;
        }
    };
    assert_eq!(from, id);
    drop(first);
    let ended = loop {
        if let News::Ended(id) = next(&mut supervisor).await {
            break id;
        }
    };
    assert_eq!(ended, id);
}

/// Else a successor that nothing helps is connected and dropped all the time.
#[tokio::test]
async fn after_a_successor_was_dropped_the_next_one_takes_a_while() {
    let (url, mut connections) = cluster().await;
    let mut supervisor = supervisor(url);
    assert!(matches!(next(&mut supervisor).await, News::Up));
    let first = connections.recv().await.expect("a connection");
    first.send(LAME_DUCK).expect("it is open");
    while !matches!(next(&mut supervisor).await, News::SuccessorUp) {}
    let dropped = Instant::now();
    supervisor.drop_successor();
    while !matches!(next(&mut supervisor).await, News::SuccessorUp) {}
    assert!(dropped.elapsed() >= PAUSE / 2, "{:?}", dropped.elapsed());
}
