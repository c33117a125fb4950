//! A WebSocket over a byte stream, lean: tungstenite reads and judges what the
//! client sends and makes the control frames; frames of messages are ready
//! bytes, shared by many sessions, and are written past it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{
        CloseFrame, Role, WebSocketConfig,
        frame::{Frame, coding::CloseCode},
    },
};

use super::frame_rate::FrameRate;
use crate::{
    close::CloseReason,
    registry::{Charge, Outgoing},
};

/// Eagerly allocated for each session, so small; larger frames make it grow.
const READ_BUFFER: usize = 256;
/// Frames given to the kernel by one call.
const MAX_SLICES: usize = 32;

/// A connection after its upgrade.
pub(super) struct Socket<S> {
    websocket: WebSocket<Wire<S>>,
    chunks: VecDeque<Chunk>,
    /// The first chunk was written in part, so its rest must follow.
    in_part: bool,
    /// What was written may wait in the stream still, encrypted.
    unflushed: bool,
}

/// Bytes on their way: a whole frame, or several control frames.
struct Chunk {
    bytes: Bytes,
    arrived: Option<Instant>,
    source: Source,
}

enum Source {
    /// A frame that counts in the outbox until it is written, and its memory for
    /// as long as it is here.
    Outbox(#[allow(dead_code, reason = "counts until it is dropped")] Charge),
    /// A text frame of the session's own.
    Session,
    /// Control frames, which no script sees.
    Control,
}

/// What a write did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of frames that count in the outbox.
    pub(super) bytes: usize,
    /// Such frames that are written whole now.
    pub(super) frames: usize,
    /// A frame that scripts see was written whole.
    pub(super) visible: bool,
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
    pub(super) fn new(stream: S, early: &[u8], max_frame: usize, frames_per_second: u32) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_frame))
            .max_frame_size(Some(max_frame));
        let mut rate = FrameRate::new(frames_per_second);
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
            chunks: VecDeque::new(),
            in_part: false,
            unflushed: false,
        }
    }

    /// The next message of the client; pings are answered by themselves.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<Result<Message, CloseReason>> {
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

    /// Reads and forgets; ready when the client has closed its side. For when
    /// tungstenite has lost the thread of what the client sends.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            let stream = Pin::new(&mut self.websocket.get_mut().stream);
            match ready!(stream.poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Queues a frame of our own, behind what is queued.
    pub(super) fn queue(&mut self, bytes: Bytes) {
        self.push(Chunk {
            bytes,
            arrived: None,
            source: Source::Session,
        });
    }

    /// Queues a frame from the outbox.
    pub(super) fn queue_outgoing(&mut self, outgoing: Outgoing) {
        let Outgoing {
            bytes,
            arrived,
            charge,
            ..
        } = outgoing;
        self.push(Chunk {
            bytes,
            arrived,
            source: Source::Outbox(charge),
        });
    }

    fn push(&mut self, chunk: Chunk) {
        self.place_control();
        self.chunks.push_back(chunk);
    }

    /// Control frames go behind what was queued before them, and before the rest.
    fn place_control(&mut self) {
        let control = std::mem::take(&mut self.websocket.get_mut().control);
        if !control.is_empty() {
            self.chunks.push_back(Chunk {
                bytes: control.into(),
                arrived: None,
                source: Source::Control,
            });
        }
    }

    /// Queues a protocol ping.
    pub(super) fn ping(&mut self) {
        let _ = self.websocket.write(Message::Ping(Bytes::new()));
        let _ = self.websocket.flush();
    }

    /// Queues the close frame.
    pub(super) fn close(&mut self, code: u16, reason: String) {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        let control = &mut self.websocket.get_mut().control;
        Frame::close(Some(frame))
            .format(control)
            .expect("a vector takes all that is written");
    }

    /// Whether anything waits to be written.
    pub(super) fn has_unsent(&self) -> bool {
        !self.chunks.is_empty() || !self.websocket.get_ref().control.is_empty() || self.unflushed
    }

    /// Forgets what waits, but for the rest of a frame that has begun.
    pub(super) fn drop_unsent(&mut self) {
        self.chunks.truncate(usize::from(self.in_part));
        self.chunks.shrink_to_fit();
    }

    /// Writes as much as the kernel takes at once, and calls `delivered` with
    /// the arrival of each message that is written whole. Ready with nothing
    /// written only when nothing waits.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut delivered: impl FnMut(Instant),
    ) -> Poll<io::Result<Written>> {
        self.place_control();
        // One write at a time waits in the stream, so that backlog stays where it
        // is counted.
        ready!(self.poll_flush(cx))?;
        let stream = Pin::new(&mut self.websocket.get_mut().stream);
        let mut count = match self.chunks.len() {
            0 => return Poll::Ready(Ok(Written::default())),
            1 => ready!(stream.poll_write(cx, &self.chunks[0].bytes))?,
            _ => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                    *slice = IoSlice::new(&chunk.bytes);
                }
                let used = self.chunks.len().min(MAX_SLICES);
                ready!(stream.poll_write_vectored(cx, &slices[..used]))?
            }
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        let mut written = Written::default();
        while let Some(chunk) = self.chunks.front_mut() {
            let part = count.min(chunk.bytes.len());
            count -= part;
            let counts = matches!(chunk.source, Source::Outbox(_));
            written.bytes += if counts { part } else { 0 };
            if part < chunk.bytes.len() {
                chunk.bytes.advance(part);
                self.in_part |= part > 0;
                break;
            }
            written.frames += usize::from(counts);
            written.visible |= !matches!(chunk.source, Source::Control);
            chunk.arrived.into_iter().for_each(&mut delivered);
            self.chunks.pop_front();
            self.in_part = false;
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 8 {
            self.chunks = VecDeque::new();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.websocket.get_mut().stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the client that no more will come.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = Pin::new(&mut self.websocket.get_mut().stream);
        stream.poll_shutdown(cx).map(drop)
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
