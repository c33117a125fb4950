//! The push API's listener: accepts connections, and ends them all.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Phase,
    connection::{Connections, reaches},
    peers::Peers,
};
use crate::accepting::Accepting;

/// For the calls that are under way when the gateway ends: a push takes 2 s at most, and
/// its receipts a quarter of a second more.
pub const LAST_ANSWERS: Duration = Duration::from_millis(2500);
/// When the process is out of descriptors, the next try is worth this wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the phase is [`Phase::Ended`], then waits for their calls.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Connections>,
    peers: Arc<Peers>,
    phase: watch::Receiver<Phase>,
) {
    // Connections hear of the end when the listener is closed, and not before: a caller
    // that is asked to go must not come back.
    let (tell, told) = watch::channel(*phase.borrow());
    let mut connections = JoinSet::new();
    let mut state = Accepting::new("connections to the push API");
    let accepting = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        state.works();
                        if let Some(permit) = peers.admit() {
                            connections.spawn(shared.clone().serve(stream, permit, told.clone()));
                        }
                    }
                    Err(error) => {
                        state.fails(&error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    };
    let mut heard = phase.clone();
    let leaving = async {
        reaches(&mut heard, Phase::Leaving).await;
        tell.send_replace(Phase::Leaving);
        std::future::pending::<()>().await;
    };
    let mut heard = phase;
    tokio::select! {
        () = accepting => {}
        () = leaving => {}
        () = reaches(&mut heard, Phase::Ended) => {}
    }
    drop(listener);
    tell.send_replace(Phase::Ended);
    let answered = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_ANSWERS, answered).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "calls were still under way at the end; they are cut off"
        );
    }
}
