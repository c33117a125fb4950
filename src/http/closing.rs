//! The end of a session, said so that the client hears it: on a WebSocket a close
//! code seen as that code, not as 1006; on a stream of events its last frame.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;

use super::transport::Transport;
use crate::{
    close::{CloseReason, Ending},
    frame::{self, Protocol},
};

/// After our last bytes the client's are awaited: a connection dropped with
/// unread bytes in it is reset, and what was under way is lost with it.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Says why the session ends, where the client is still there, and waits until
/// it has been heard. `patience` is for a reader that takes no bytes.
pub(super) async fn close<T: Transport>(
    transport: &mut T,
    ending: Ending,
    protocol: Protocol,
    patience: Duration,
) {
    let reason = ending.reason;
    let Some(code) = code(reason, protocol) else {
        // The answer to the client's own goodbye.
        if reason == CloseReason::ClientLeft {
            let _ = timeout(LINGER, poll_fn(|cx| poll_flush(transport, cx))).await;
        }
        return;
    };
    let own_frames = protocol.has_own_frames();
    if reason.says_goodbye() && own_frames {
        transport.queue(protocol.frame(&frame::goodbye(&ending)));
    }
    let words = match ending.reconnect_after {
        Some(after) if protocol == Protocol::RawV1 => {
            format!("{} {}", reason.name(), frame::millis(after))
        }
        _ => reason.name().to_owned(),
    };
    say(transport, (code, words), reason, patience).await;
}

/// The close code that a client of this protocol gets, if it is still there to get one.
pub(super) const fn code(reason: CloseReason, protocol: Protocol) -> Option<u16> {
    match protocol.is_centrifuge() {
        false => reason.code(),
        true => reason.centrifuge_code(),
    }
}

/// Sends a close code, and waits until the client has heard it.
pub(super) async fn say<T: Transport>(
    transport: &mut T,
    (code, words): (u16, String),
    reason: CloseReason,
    patience: Duration,
) {
    transport.close(code, words);
    let flushed = timeout(
        patience.max(LINGER),
        poll_fn(|cx| poll_flush(transport, cx)),
    )
    .await;
    if flushed == Ok(true) {
        let heard = poll_fn(|cx| transport.poll_heard(cx, reason));
        let _ = timeout(LINGER, heard).await;
    }
}

/// Ready when all is written (true), or nothing more can be.
pub(super) fn poll_flush<T: Transport>(transport: &mut T, cx: &mut Context<'_>) -> Poll<bool> {
    while transport.has_unsent() {
        match transport.poll_write(cx, drop) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(true)
}
