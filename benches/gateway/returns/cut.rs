//! A way to NATS that can be cut: to a gateway behind it NATS is away then, and everybody
//! else can publish.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::AbortHandle,
};

use crate::Outcome;

pub(super) struct Way {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    connections: Mutex<Vec<AbortHandle>>,
}

impl Way {
    /// Passes on what it gets, by a thread of its own.
    pub(super) fn open(to: SocketAddr) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        runtime.spawn(accept(listener, to, state.clone()));
        thread::spawn(move || runtime.block_on(pending::<()>()));
        Ok(Self { address, state })
    }

    /// Ends all connections, and lets none through.
    pub(super) fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        let mut connections = self.state.connections();
        connections.drain(..).for_each(|one| one.abort());
    }

    pub(super) fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, state: Arc<State>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let passing = Handle::current().spawn(async move {
            let Ok(mut far) = TcpStream::connect(to).await else {
                return;
            };
            for stream in [&near, &far] {
                let _ = stream.set_nodelay(true);
            }
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
        let mut connections = state.connections();
        if state.cut.load(Ordering::SeqCst) {
            passing.abort();
        } else {
            connections.push(passing.abort_handle());
        }
    }
}
