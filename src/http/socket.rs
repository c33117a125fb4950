//! A WebSocket over a byte stream, lean: tungstenite reads and judges what the
//! client sends and makes the control frames; frames of messages are ready
//! bytes, shared by many sessions, and are written past it.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{
        CloseFrame, Role, WebSocketConfig,
        frame::{Frame, coding::CloseCode},
    },
};

use super::{
    chunks::{Chunks, Written},
    frame_rate::FrameRate,
    transport::{Kind, Transport, poll_discard},
};
use crate::{
    close::CloseReason,
    registry::{Arrival, Outgoing},
};

/// Eagerly allocated for each session, so small; larger frames make it grow.
const READ_BUFFER: usize = 256;
/// A connection after its upgrade.
pub(super) struct Socket<S> {
    websocket: WebSocket<Wire<S>>,
    chunks: Chunks,
    kind: Kind,
}

/// What tungstenite reads from and writes to.
struct Wire<S> {
    stream: S,
    /// Woken when there is more to read.
    waker: Waker,
    /// Control frames, until they take their place among the chunks.
    control: Vec<u8>,
    rate: FrameRate,
    /// The client sent more frames than it may; nothing more is read.
    flooded: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `early` is what the client sent before it saw the 101.
    pub(super) fn new(
        stream: S,
        early: &[u8],
        max_frame: usize,
        mut rate: FrameRate,
        kind: Kind,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_frame))
            .max_frame_size(Some(max_frame));
        let wire = Wire {
            stream,
            waker: Waker::noop().clone(),
            control: Vec::new(),
            flooded: !rate.allow(early),
            rate,
        };
        Self {
            websocket: if early.is_empty() {
                WebSocket::from_raw_socket(wire, Role::Server, Some(config))
            } else {
                let early = early.to_vec();
                WebSocket::from_partially_read(wire, early, Role::Server, Some(config))
            },
            chunks: Chunks::default(),
            kind,
        }
    }

    /// The next message of the client; pings are answered by themselves.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Result<Message, CloseReason>> {
        self.websocket.get_mut().waker.clone_from(cx.waker());
        let received = self.websocket.read();
        if self.websocket.get_ref().flooded {
            return Poll::Ready(Err(CloseReason::TooManyFrames));
        }
        Poll::Ready(match received {
            // A code that nobody may send, which tungstenite has replaced by
            // this. Not flushed: its own answer would say it in other words.
            Ok(Message::Close(Some(frame)))
                if frame.code == CloseCode::Protocol && frame.reason == "Protocol violation" =>
            {
                Err(CloseReason::ProtocolError)
            }
            Ok(message) => {
                // Moves an answer to a ping or a close into the control frames.
                let _ = self.websocket.flush();
                Ok(message)
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(error) => Err(reason(&error)),
        })
    }

    /// Control frames go behind what was queued before them, and before the rest.
    fn place_control(&mut self) {
        let control = std::mem::take(&mut self.websocket.get_mut().control);
        if !control.is_empty() {
            self.chunks.queue_control(control.into());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Socket<S> {
    const ANSWERS: bool = true;

    fn kind(&self) -> Kind {
        self.kind
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, CloseReason>> {
        let message = ready!(self.poll_message(cx))?;
        Poll::Ready(match message {
            Message::Close(_) => Err(CloseReason::ClientLeft),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
            Message::Text(_) | Message::Binary(_) => Ok(Some(message)),
        })
    }

    fn queue(&mut self, frame: Bytes) {
        self.place_control();
        self.chunks.queue(frame);
    }

    fn queue_outgoing(&mut self, outgoing: Outgoing) {
        self.place_control();
        self.chunks.queue_outgoing(outgoing);
    }

    fn heartbeat(&mut self) {
        let _ = self.websocket.write(Message::Ping(Bytes::new()));
        let _ = self.websocket.flush();
    }

    fn has_unsent(&self) -> bool {
        self.chunks.has_unsent() || !self.websocket.get_ref().control.is_empty()
    }

    fn unsent(&self) -> usize {
        self.chunks.len()
    }

    fn drop_unsent(&mut self) {
        self.chunks.drop_unsent();
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        delivered: impl FnMut(Arrival),
    ) -> Poll<io::Result<Written>> {
        self.place_control();
        let stream = &mut self.websocket.get_mut().stream;
        self.chunks.poll_write(stream, cx, delivered)
    }

    /// The close frame.
    fn close(&mut self, code: u16, words: String) {
        let frame = CloseFrame {
            code: code.into(),
            reason: words.into(),
        };
        let control = &mut self.websocket.get_mut().control;
        Frame::close(Some(frame))
            .format(control)
            .expect("a vector takes all that is written");
    }

    /// Waits for the client's close frame.
    fn poll_heard(&mut self, cx: &mut Context<'_>, reason: CloseReason) -> Poll<()> {
        // After such an end nobody can tell where the client's next frame begins.
        let lost_thread = matches!(
            reason,
            CloseReason::ProtocolError
                | CloseReason::BadUtf8
                | CloseReason::FrameTooBig
                | CloseReason::TooManyFrames
        );
        if lost_thread {
            let stream = &mut self.websocket.get_mut().stream;
            let _ = Pin::new(&mut *stream).poll_shutdown(cx);
            // The caller bounds the time. A connection that is dropped with unread bytes
            // is reset, and the close frame may be lost with it.
            return poll_discard(stream, cx, &mut { usize::MAX }).map(drop);
        }
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(Message::Close(_)) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

fn reason(error: &Error) -> CloseReason {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => CloseReason::ClientLeft,
        Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            CloseReason::ConnectionLost
        }
        Error::Capacity(_) => CloseReason::FrameTooBig,
        Error::Utf8(_) => CloseReason::BadUtf8,
        Error::Protocol(_) => CloseReason::ProtocolError,
        _ => CloseReason::Internal,
    }
}

impl<S: AsyncRead + Unpin> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.flooded {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut buffer = ReadBuf::new(buffer);
        let mut cx = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                self.flooded |= !self.rate.allow(buffer.filled());
                Ok(buffer.filled().len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.control.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
