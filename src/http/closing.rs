//! The end of a WebSocket, said so that the client hears it: a close code seen
//! as that code, not as 1006.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tungstenite::Message;

use super::socket::Socket;
use crate::{
    close::{CloseReason, Ending},
    frame,
};

/// After our close frame the client's is awaited: a connection dropped with
/// unread bytes in it is reset, and what was under way is lost with it.
const LINGER: Duration = Duration::from_secs(2);

/// Says why the session ends, where the client is still there, and waits until
/// it has been heard. `patience` is for a reader that takes no bytes.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    ending: Ending,
    raw: bool,
    patience: Duration,
) {
    let reason = ending.reason;
    let Some(code) = reason.code() else {
        // The answer to the client's own close frame.
        if reason == CloseReason::ClientLeft {
            let _ = timeout(LINGER, poll_fn(|cx| poll_flush(socket, cx))).await;
        }
        return;
    };
    if reason == CloseReason::SlowConsumer {
        socket.drop_unsent();
    }
    if reason.says_goodbye() && !raw {
        socket.queue(frame::goodbye(&ending));
    }
    let words = match ending.reconnect_after {
        Some(after) if raw => format!("{} {}", reason.name(), frame::millis(after)),
        _ => reason.name().to_owned(),
    };
    socket.close(code, words);

    let flushed = timeout(patience.max(LINGER), poll_fn(|cx| poll_flush(socket, cx))).await;
    if flushed != Ok(true) {
        return;
    }
    // After such an end nobody can tell where the client's next frame begins.
    let lost_thread = matches!(
        reason,
        CloseReason::ProtocolError
            | CloseReason::BadUtf8
            | CloseReason::FrameTooBig
            | CloseReason::TooManyFrames
    );
    let heard = poll_fn(|cx| {
        if lost_thread {
            let _ = socket.poll_shutdown(cx);
            return socket.poll_discard(cx);
        }
        loop {
            match socket.poll_receive(cx) {
                Poll::Ready(Ok(Message::Close(_)) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = timeout(LINGER, heard).await;
}

/// Ready when all is written (true), or nothing more can be.
fn poll_flush<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    while socket.has_unsent() {
        match socket.poll_write(cx, drop) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(true)
}
