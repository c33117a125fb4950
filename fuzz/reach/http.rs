//! What `fuzz/` reaches of this module: a client's bytes, as a session reads them.

use std::{
    io,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::Message;

use super::{
    centrifuge::command,
    frame_rate::FrameRate,
    running_clock::AwakeClock,
    session,
    socket::Socket,
    transport::{Kind, Transport as _},
};
use crate::{close::CloseReason, frame::Protocol, proto::centrifuge::Command};

/// A client after its upgrade.
pub struct Client<S>(Socket<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// `early` is what came with the request.
    pub fn new(stream: S, early: &[u8], max_frame: usize, frames_per_second: u32) -> Self {
        let rate = FrameRate::new(frames_per_second, AwakeClock::never_still());
        Self(Socket::new(stream, early, max_frame, rate, Kind::WebSocket))
    }

    /// The next message, if it is there.
    pub fn receive(&mut self) -> Poll<Result<Message, CloseReason>> {
        self.0.poll_message(&Context::from_waker(Waker::noop()))
    }

    /// Writes what waits to be written.
    pub fn write(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        self.0.poll_write(&mut cx, drop).map_ok(drop)
    }
}

/// Whether a session understands a text.
pub fn understands(text: &str) -> bool {
    session::understands(text)
}

/// The commands of a message of the Centrifuge protocol.
pub fn commands(protocol: Protocol, message: &Message) -> Result<Vec<Command>, CloseReason> {
    command::read(protocol, message, 0)
}
