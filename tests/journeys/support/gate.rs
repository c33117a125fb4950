//! A proxy before NATS that can close, and keep out, all connections but the one that
//! hears what is published, and if wanted those of async-nats.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the interest connection subscribes to, in live mode and in durable mode.
const MARKS: [&[u8]; 2] = [b"SUB usher.broadcast ", b"SUB usher.live.broadcast "];

/// What the gateway's own client says of itself, and async-nats does not.
const OURS: &[u8] = concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\"").as_bytes();

/// The proxy.
pub(crate) struct Gate {
    url: String,
    passes: watch::Sender<Passes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    All,
    Interest,
    /// The interest connection, and those of async-nats.
    NoReading,
}

impl Gate {
    /// Leads to the server at this URL.
    pub(crate) async fn to(url: &str) -> Self {
        let (_, server) = url.split_once("://").expect("a URL");
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("nats://{}", listener.local_addr().expect("an address"));
        let (passes, now) = watch::channel(Passes::All);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Dropping it closes it.
                if *now.borrow() != Passes::Interest {
                    tokio::spawn(carry(near, server.clone(), now.clone()));
                }
            }
        });
        Self { url, passes }
    }

    /// What a gateway's `nats.url` is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Closes all connections but the interest connection, and lets no other in.
    pub(crate) fn shut(&self) {
        self.passes.send_replace(Passes::Interest);
    }

    /// Closes the connections on which stored messages are read and calls are made, and lets no
    /// other of them in.
    pub(crate) fn shut_reading(&self) {
        self.passes.send_replace(Passes::NoReading);
    }

    /// Lets everything pass again.
    pub(crate) fn open(&self) {
        self.passes.send_replace(Passes::All);
    }
}

/// Carries one connection until either side ends it, or until the gate is shut.
async fn carry(near: TcpStream, server: String, mut now: watch::Receiver<Passes>) {
    let Ok(far) = TcpStream::connect(&server).await else {
        return;
    };
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let answers = tokio::spawn(async move { copy(&mut far_in, &mut near_out).await });
    let mut sent = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let (mut is_interest, mut is_ours) = (false, false);
    loop {
        let is_shut = |now: &Passes| match now {
            Passes::All => false,
            Passes::Interest => true,
            Passes::NoReading => is_ours,
        };
        let read = tokio::select! {
            read = near_in.read(&mut chunk) => read.unwrap_or(0),
            _ = now.wait_for(is_shut), if !is_interest => 0,
        };
        if !is_interest {
            sent.extend_from_slice(&chunk[..read]);
            let holds = |mark: &[u8]| sent.windows(mark.len()).any(|part| part == mark);
            is_ours |= holds(OURS);
            is_interest = MARKS.into_iter().any(holds);
            // A mark may be cut in two by the end of a chunk.
            sent.drain(..sent.len().saturating_sub(64));
            if is_ours && !is_interest && *now.borrow() == Passes::NoReading {
                break;
            }
        }
        if read == 0 || far_out.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    answers.abort();
}
