//! Bytes on their way to one client: frames that many sessions share, and what the
//! session itself has to say, several to a call where several wait.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::registry::{Arrival, Charge, Outgoing};

/// Chunks given to the kernel by one call.
const MAX_SLICES: usize = 32;

/// What waits to be written, in order.
#[derive(Default)]
pub(super) struct Chunks {
    queue: VecDeque<Chunk>,
    /// The first chunk must follow: it was written in part, or what belongs to it was.
    begun: bool,
    /// What was written may wait in the stream still, encrypted.
    unflushed: bool,
}

/// A whole frame, what belongs to the frame after it, or several that no script sees.
struct Chunk {
    bytes: Bytes,
    arrived: Option<Arrival>,
    source: Source,
}

enum Source {
    /// A frame that counts in the backlog until it is written, and its memory for
    /// as long as it is here.
    Backlog(#[allow(dead_code, reason = "counts until it is dropped")] Charge),
    /// A frame of the session's own.
    Session,
    /// The `id` of the frame after it.
    Id,
    /// What no script sees.
    Control,
}

impl Source {
    /// Whether scripts see it.
    fn is_frame(&self) -> bool {
        matches!(self, Self::Backlog(_) | Self::Session)
    }
}

/// What a write did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of frames that count in the backlog.
    pub(super) bytes: usize,
    /// Such frames that are written whole now.
    pub(super) frames: usize,
    /// A frame that scripts see was written whole.
    pub(super) visible: bool,
}

impl Chunks {
    /// Queues a frame of the session's own.
    pub(super) fn queue(&mut self, bytes: Bytes) {
        self.push(bytes, None, Source::Session);
    }

    /// Queues a frame from the backlog.
    pub(super) fn queue_outgoing(&mut self, outgoing: Outgoing) {
        let Outgoing {
            bytes,
            arrived,
            charge,
            ..
        } = outgoing;
        self.push(bytes, arrived, Source::Backlog(charge));
    }

    /// Queues the head of a response, which is never dropped.
    pub(super) fn queue_head(&mut self, bytes: Bytes) {
        self.queue_control(bytes);
        self.begun = true;
    }

    /// Queues the `id` of the frame that is queued next: both are written, or neither is.
    pub(super) fn queue_id(&mut self, bytes: Bytes) {
        self.push(bytes, None, Source::Id);
    }

    /// Queues what no script sees.
    pub(super) fn queue_control(&mut self, bytes: Bytes) {
        self.push(bytes, None, Source::Control);
    }

    fn push(&mut self, bytes: Bytes, arrived: Option<Arrival>, source: Source) {
        self.queue.push_back(Chunk {
            bytes,
            arrived,
            source,
        });
    }

    /// Whether anything waits to be written.
    pub(super) fn has_unsent(&self) -> bool {
        !self.queue.is_empty() || self.unflushed
    }

    /// How many chunks wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many of them scripts see.
    pub(super) fn frames(&self) -> usize {
        let is_frame = |chunk: &&Chunk| chunk.source.is_frame();
        self.queue.iter().filter(is_frame).count()
    }

    /// Forgets what waits, but for the rest of a frame that has begun.
    pub(super) fn drop_unsent(&mut self) {
        let is_id = |chunk: &&Chunk| matches!(chunk.source, Source::Id);
        let kept = match self.begun {
            true => 1 + self.queue.iter().take_while(is_id).count(),
            false => 0,
        };
        self.queue.truncate(kept);
        self.queue.shrink_to_fit();
    }

    /// Writes as much as the kernel takes in one call, and calls `delivered` with
    /// the arrival of each message that is written whole. Ready with nothing
    /// written only when nothing waits.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        delivered: impl FnMut(Arrival),
    ) -> Poll<io::Result<Written>> {
        // One write at a time waits in the stream, so that backlog stays where it
        // is counted.
        ready!(self.poll_flush(stream, cx))?;
        let out = Pin::new(&mut *stream);
        let count = match self.queue.len() {
            0 => return Poll::Ready(Ok(Written::default())),
            1 => ready!(out.poll_write(cx, &self.queue[0].bytes))?,
            _ => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
                    *slice = IoSlice::new(&chunk.bytes);
                }
                let used = self.queue.len().min(MAX_SLICES);
                ready!(out.poll_write_vectored(cx, &slices[..used]))?
            }
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        if let Poll::Ready(Err(error)) = self.poll_flush(stream, cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(self.take_off(count, delivered)))
    }

    /// Takes `count` bytes that are written off the queue.
    fn take_off(&mut self, mut count: usize, mut delivered: impl FnMut(Arrival)) -> Written {
        let mut written = Written::default();
        while let Some(chunk) = self.queue.front_mut() {
            let part = count.min(chunk.bytes.len());
            count -= part;
            let counts = matches!(chunk.source, Source::Backlog(_));
            written.bytes += if counts { part } else { 0 };
            if part < chunk.bytes.len() {
                chunk.bytes.advance(part);
                self.begun |= part > 0;
                break;
            }
            written.frames += usize::from(counts);
            written.visible |= chunk.source.is_frame();
            self.begun = matches!(chunk.source, Source::Id);
            let chunk = self.queue.pop_front();
            let arrived = chunk.and_then(|chunk| chunk.arrived);
            arrived.into_iter().for_each(&mut delivered);
        }
        if self.queue.is_empty() && self.queue.capacity() > 8 {
            self.queue = VecDeque::new();
        }
        written
    }

    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
