//! A proxy before Redis that keeps one command back until it is told to let it pass.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::wait::patiently;

/// How far it is with the command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Passes,
    /// What has these bytes is kept back.
    Waits(Vec<u8>),
    Holds,
}

/// The proxy.
pub(super) struct Held {
    address: String,
    state: watch::Sender<State>,
}

impl Held {
    /// Leads to the server at this address.
    pub(super) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = watch::Sender::new(State::Passes);
        let (server, watched) = (server.to_owned(), state.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, server.clone(), watched.clone()));
            }
        });
        Self { address, state }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Keeps the next command back that has this in it.
    pub(super) fn hold(&self, mark: &str) {
        self.state
            .send_replace(State::Waits(mark.as_bytes().to_vec()));
    }

    /// Waits until it has it.
    pub(super) async fn holds(&self) {
        let mut state = self.state.subscribe();
        let holds = state.wait_for(|state| *state == State::Holds);
        drop(
            patiently("a command to hold", holds)
                .await
                .expect("it is there"),
        );
    }

    /// Lets it pass.
    pub(super) fn release(&self) {
        self.state.send_replace(State::Passes);
    }
}

async fn carry(near: TcpStream, server: String, state: watch::Sender<State>) {
    let Ok(far) = TcpStream::connect(&server).await else {
        return;
    };
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let answers = tokio::spawn(async move { copy(&mut far_in, &mut near_out).await });
    let mut chunk = [0; 16 * 1024];
    while let Ok(read @ 1..) = near_in.read(&mut chunk).await {
        // A command this short comes in one piece.
        let has = |mark: &[u8]| chunk[..read].windows(mark.len()).any(|part| part == mark);
        let held = state.send_if_modified(|state| match state {
            State::Waits(mark) if has(mark) => {
                *state = State::Holds;
                true
            }
            _ => false,
        });
        if held {
            let mut state = state.subscribe();
            let _ = state.wait_for(|state| *state == State::Passes).await;
        }
        if far_out.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    answers.abort();
}
