//! What signals do to a command.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that end it: SIGTERM, SIGINT and SIGQUIT, which no longer end the process by
/// themselves.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
        ]))
    }

    /// Waits for the next of them. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self) {
        any(&mut self.0).await;
    }
}

/// Those that end a gateway by default, and must not: SIGHUP, for which it reads its files,
/// SIGUSR1 and SIGUSR2. (SIGPIPE is ignored by Rust's runtime.)
pub(super) struct HangUps {
    hang_up: Signal,
    _ignored: [Signal; 2],
}

impl HangUps {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            _ignored: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for the next SIGHUP. Nothing is lost where the wait is given up.
    pub(super) async fn next(&mut self) {
        self.hang_up.recv().await;
    }
}

async fn any(signals: &mut [Signal]) {
    poll_fn(|cx| {
        let ready = |signal: &mut Signal| signal.poll_recv(cx).is_ready();
        match signals.iter_mut().any(ready) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
