//! What carries a session's frames to its client. A session knows nothing else of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::Message;

use super::chunks::Written;
use crate::{
    close::CloseReason,
    frame::Protocol,
    position::{Step, Tracker},
    registry::{Arrival, Outgoing},
};

/// The frame that echoes a client's message, if any does.
pub(super) type Echo = fn(&Message) -> Option<Bytes>;

/// Whether a session is a WebSocket, a stream of server-sent events, or a WebSocket with the
/// Centrifuge protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    WebSocket,
    Events,
    Centrifuge,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::WebSocket, Self::Events, Self::Centrifuge];

    /// The one that carries this protocol.
    pub(super) const fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::UsherV1 | Protocol::RawV1 => Self::WebSocket,
            Protocol::Sse => Self::Events,
            Protocol::CentrifugeJson | Protocol::CentrifugeProtobuf => Self::Centrifuge,
        }
    }

    /// The metrics' label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "sse",
            Self::Centrifuge => "centrifuge",
        }
    }
}

/// One client's connection. What is queued is written in order.
pub(super) trait Transport {
    /// A client answers heartbeats, so one of which nothing is heard is gone.
    const ANSWERS: bool;

    /// Which it is.
    fn kind(&self) -> Kind;

    /// Ready when something of the client was heard: a message, or a sign of life.
    ///
    /// # Errors
    ///
    /// How the session ends.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, CloseReason>>;

    /// Queues a frame of our own.
    fn queue(&mut self, frame: Bytes);

    /// Queues the `welcome`; `position` is the client's after it, `None` in live mode. Who
    /// tells clients their position does so from here on.
    fn queue_welcome(&mut self, welcome: Bytes, _position: impl FnOnce() -> Option<Tracker>) {
        self.queue(welcome);
    }

    /// Queues a frame of our own that says this of the client's position.
    fn queue_step(&mut self, frame: Bytes, _step: Option<Step>) {
        self.queue(frame);
    }

    /// Queues a frame from the backlog.
    fn queue_outgoing(&mut self, outgoing: Outgoing);

    /// Queues what keeps the connection alive, and no script sees.
    fn heartbeat(&mut self);

    /// Whether anything waits to be written.
    fn has_unsent(&self) -> bool;

    /// How many chunks wait to be written.
    fn unsent(&self) -> usize;

    /// Forgets what waits, as far as the client still understands what follows.
    fn drop_unsent(&mut self);

    /// Writes as much as the kernel takes in one call, and calls `delivered` with
    /// the arrival of each message that is written whole. Ready with nothing
    /// written only when nothing waits.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        delivered: impl FnMut(Arrival),
    ) -> Poll<io::Result<Written>>;

    /// Queues what says that nothing follows, where there are words for it.
    fn close(&mut self, code: u16, words: String);

    /// After all is written: ready when the client has heard the end.
    fn poll_heard(&mut self, cx: &mut Context<'_>, reason: CloseReason) -> Poll<()>;
}

/// What was read and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discarded {
    /// All that the client sent; it has closed its side.
    All,
    /// As much as was to be read at most. The client has sent more, or may.
    Part,
}

/// Reads and forgets until the client has closed its side, at most `left` bytes.
///
/// # Errors
///
/// The connection is broken.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    left: &mut usize,
) -> Poll<io::Result<Discarded>> {
    let mut buffer = [0; 1024];
    while *left > 0 {
        let most = buffer.len().min(*left);
        let mut buffer = ReadBuf::new(&mut buffer[..most]);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        match buffer.filled().len() {
            0 => return Poll::Ready(Ok(Discarded::All)),
            length => *left -= length,
        }
    }
    Poll::Ready(Ok(Discarded::Part))
}
