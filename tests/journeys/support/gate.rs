//! A proxy before NATS that can close, and keep out, all connections but the one that
//! hears what is published.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the interest connection subscribes to, in live mode and in durable mode.
const MARKS: [&[u8]; 2] = [b"SUB usher.broadcast ", b"SUB usher.live.broadcast "];

/// The proxy.
pub(crate) struct Gate {
    url: String,
    only_interest: watch::Sender<bool>,
}

impl Gate {
    /// Leads to the server at this URL.
    pub(crate) async fn to(url: &str) -> Self {
        let (_, server) = url.split_once("://").expect("a URL");
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("nats://{}", listener.local_addr().expect("an address"));
        let (only_interest, shut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Dropping it closes it.
                if !*shut.borrow() {
                    tokio::spawn(carry(near, server.clone(), shut.clone()));
                }
            }
        });
        Self { url, only_interest }
    }

    /// What a gateway's `nats.url` is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Closes all connections but the interest connection, and lets no other in.
    pub(crate) fn shut(&self) {
        self.only_interest.send_replace(true);
    }

    /// Lets everything pass again.
    pub(crate) fn open(&self) {
        self.only_interest.send_replace(false);
    }
}

/// Carries one connection until either side ends it, or until the gate is shut.
async fn carry(near: TcpStream, server: String, mut shut: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(&server).await else {
        return;
    };
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let answers = tokio::spawn(async move { copy(&mut far_in, &mut near_out).await });
    let mut sent = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let mut is_interest = false;
    loop {
        let read = tokio::select! {
            read = near_in.read(&mut chunk) => read.unwrap_or(0),
            _ = shut.wait_for(|shut| *shut), if !is_interest => 0,
        };
        if read == 0 || far_out.write_all(&chunk[..read]).await.is_err() {
            break;
        }
        if !is_interest {
            sent.extend_from_slice(&chunk[..read]);
            let holds = |mark: &[u8]| sent.windows(mark.len()).any(|part| part == mark);
            is_interest = MARKS.into_iter().any(holds);
            // A mark may be cut in two by the end of a chunk.
            sent.drain(..sent.len().saturating_sub(64));
        }
    }
    answers.abort();
}
