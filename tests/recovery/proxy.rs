//! The way to a gateway that clients take: it stays where it is when the gateway is
//! replaced, and can cut all that goes through it. NATS servers take such ways to each other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Little waits on the way, so that whoever does not read is seen to.
const BUFFER: u32 = 16 * 1024;

/// Ends when it is dropped, and all that goes through it.
pub(crate) struct Proxy {
    pub(crate) address: String,
    leads_to: Arc<Mutex<String>>,
    cuts: watch::Sender<()>,
    accepting: AbortHandle,
}

impl Proxy {
    /// One that leads nowhere yet.
    pub(crate) async fn new() -> Self {
        Self::with(Some(BUFFER)).await
    }

    /// The same with as much room on the way as the kernel gives.
    pub(crate) async fn wide() -> Self {
        Self::with(None).await
    }

    async fn with(buffer: Option<u32>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let leads_to = Arc::<Mutex<String>>::default();
        let (cuts, _) = watch::channel(());
        let (there, cut) = (leads_to.clone(), cuts.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let there = there.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(near, &there, buffer) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            leads_to,
            cuts,
            accepting: accepting.abort_handle(),
        }
    }

    /// New connections lead there; to nowhere they end at once.
    pub(crate) fn leads_to(&self, address: &str) {
        let mut there = self.leads_to.lock().unwrap_or_else(PoisonError::into_inner);
        address.clone_into(&mut there);
    }

    /// Cuts all connections, and lets no new one through until [`Proxy::leads_to`].
    pub(crate) fn shut(&self) {
        self.leads_to("");
        self.cut();
    }

    /// Cuts all connections, with whatever is under way.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn carry(mut near: TcpStream, there: &str, buffer: Option<u32>) {
    let far = match buffer {
        Some(_) => connect(there).await,
        None => TcpStream::connect(there).await,
    };
    let Ok(mut far) = far else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let size = buffer.map_or(64 * 1024, |buffer| buffer as usize);
    let _ = copy_bidirectional_with_sizes(&mut near, &mut far, size, size).await;
}

/// Connects, with little room for what comes.
pub(crate) async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let address: SocketAddr = address.parse().map_err(invalid)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.connect(address).await
}
