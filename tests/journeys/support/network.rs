//! The network between a gateway and its servers, which a test can cut without
//! closing anything: what was sent stays under way, and nobody is told.

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// One way to a server.
pub(crate) struct Network {
    address: String,
    passes: watch::Sender<Passes>,
    server: watch::Sender<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    Everything,
    /// Requests, and no answers.
    Requests,
    Nothing,
}

impl Network {
    /// Leads to the server at this URL.
    pub(crate) async fn to(url: &str) -> Self {
        let (_, server) = url.split_once("://").expect("a URL");
        let (server, leads_to) = watch::channel(server.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (passes, cut) = watch::channel(Passes::Everything);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, cut) = (leads_to.borrow().clone(), cut.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(&server).await else {
                        return;
                    };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    // Either side's end is the other's.
                    tokio::select! {
                        () = carry(near_in, far_out, cut.clone(), |now| now != Passes::Nothing) => {}
                        () = carry(far_in, near_out, cut, |now| now == Passes::Everything) => {}
                    }
                });
            }
        });
        Self {
            address,
            passes,
            server,
        }
    }

    /// `host:port` of the near end.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on new connections lead to the server at this URL; those that are open
    /// stay where they are.
    pub(crate) fn lead_to(&self, url: &str) {
        let (_, server) = url.split_once("://").expect("a URL");
        self.server.send_replace(server.to_owned());
    }

    /// From now on nothing arrives.
    pub(crate) fn cut(&self) {
        self.passes.send_replace(Passes::Nothing);
    }

    /// From now on requests arrive, and answers do not.
    pub(crate) fn cut_answers(&self) {
        self.passes.send_replace(Passes::Requests);
    }

    /// What is under way arrives, and all that follows.
    pub(crate) fn mend(&self) {
        self.passes.send_replace(Passes::Everything);
    }
}

/// Takes connections at this address, or at a free port of 127.0.0.1, and never says
/// anything; returns where that is.
pub(crate) async fn silence(address: Option<&str>) -> String {
    let listener = TcpListener::bind(address.unwrap_or("127.0.0.1:0")).await;
    let listener = listener.expect("the address is free");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut now: watch::Receiver<Passes>,
    may_pass: fn(Passes) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // Also the news that a side has gone does not arrive.
        if now.wait_for(|now| may_pass(*now)).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
