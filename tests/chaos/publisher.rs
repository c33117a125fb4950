//! Publishers that know for each message what became of it: one speaks to NATS
//! and counts a message as published when the PONG behind it has come, the other
//! pushes by gRPC and believes what it is told.

use std::{collections::HashMap, error::Error as _, io, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Code, transport::Channel};
use usher::proto::notification_client::NotificationClient;

use crate::{
    auditor::{Outcome, Stream},
    shared::Shared,
    support::grpc::push,
};

const OVER_NATS: u8 = 0;
const OVER_GRPC: u8 = 1;
/// No PONG within this: nobody will ever know.
const CONFIRM: Duration = Duration::from_secs(5);
/// A message of a flood, and how many there are: more than the kernel keeps for
/// a client that does not read.
const FLOOD: (usize, usize) = (16 * 1024, 400);

/// Publishes to random users, and a flood to whomever it is told.
pub(crate) async fn over_nats(
    shared: Arc<Shared>,
    port: u16,
    users: usize,
    seed: u64,
    mut floods: mpsc::UnboundedReceiver<usize>,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut connection = None;
    loop {
        sleep(Duration::from_millis(50)).await;
        if connection.is_none() {
            connection = timeout(CONFIRM, Connection::open(port))
                .await
                .ok()
                .and_then(Result::ok);
        }
        let Some(open) = &mut connection else {
            continue;
        };
        let mut batch: Vec<(Option<usize>, usize)> = (0..8)
            .map(|_| (Some(rng.random_range(0..users)), rng.random_range(0..2000)))
            .collect();
        if rng.random_ratio(1, 5) {
            batch.push((None, 100));
        }
        if let Ok(user) = floods.try_recv() {
            batch.extend((0..FLOOD.1).map(|_| (Some(user), FLOOD.0)));
        }
        let mut numbers = Vec::new();
        let mut bytes = Vec::new();
        for (user, padding) in batch {
            let stream = Stream {
                publisher: OVER_NATS,
                user,
            };
            let (number, text) = shared.compose(stream, padding);
            numbers.push((stream, number));
            let subject = match user {
                Some(user) => format!("usher.user.{user}"),
                None => "usher.broadcast".to_owned(),
            };
            bytes.extend(format!("PUB {subject} {}\r\n{text}\r\n", text.len()).into_bytes());
        }
        match timeout(CONFIRM, open.send(&bytes)).await {
            Ok(Ok(())) => {
                let mut auditor = shared.auditor();
                for (stream, number) in numbers {
                    auditor.learnt(stream, number, Outcome::Certain);
                }
            }
            Ok(Err(_)) | Err(_) => {
                shared.count("batches that NATS did not confirm");
                connection = None;
            }
        }
    }
}

/// A connection to NATS without anything that buffers or reconnects by itself.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut connection = Self(BufReader::new(stream));
        connection.send(b"CONNECT {\"verbose\":false}\r\n").await?;
        Ok(connection)
    }

    /// Returns when the server has taken all of it.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes).await?;
        self.0.get_mut().write_all(b"PING\r\n").await?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "PONG" => return Ok(()),
                "PING" => self.0.get_mut().write_all(b"PONG\r\n").await?,
                _ => {}
            }
        }
    }
}

/// Pushes one message after the other, each by any gateway.
pub(crate) async fn over_grpc(shared: Arc<Shared>, users: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut clients: HashMap<String, NotificationClient<Channel>> = HashMap::new();
    loop {
        sleep(Duration::from_millis(20)).await;
        let (_, address) = shared.any_gateway();
        if !clients.contains_key(&address) {
            let connecting = NotificationClient::connect(format!("http://{address}"));
            match timeout(CONFIRM, connecting).await {
                Ok(Ok(client)) => clients.insert(address.clone(), client),
                Ok(Err(_)) | Err(_) => continue,
            };
        }
        let Some(client) = clients.get_mut(&address) else {
            continue;
        };
        let user = rng.random_range(0..users);
        let stream = Stream {
            publisher: OVER_GRPC,
            user: Some(user),
        };
        let (number, text) = shared.compose(stream, 20);
        let pushing = client.push_notification(push(&user.to_string(), text));
        let outcome = match timeout(2 * CONFIRM, pushing).await {
            Ok(Ok(_)) => Outcome::Certain,
            // A gateway's own word; a broken connection to it says nothing.
            Ok(Err(status)) if status.source().is_none() => {
                shared.count(format!("pushes: {:?}", status.code()));
                match status.code() {
                    Code::Unavailable => Outcome::Never,
                    _ => Outcome::Unknown,
                }
            }
            Ok(Err(_)) | Err(_) => {
                shared.count("pushes: connection lost");
                clients.remove(&address);
                Outcome::Unknown
            }
        };
        shared.auditor().learnt(stream, number, outcome);
    }
}
