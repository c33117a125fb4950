//! What a connection reads and writes, with two bounds that HTTP/2's library lacks.
//!
//! A connection of which no call was let in yet may send few frames: PING and SETTINGS
//! are answered by the library, and so cost the gateway more than the sender. The frames'
//! heads are counted as they pass (RFC 9113 §4.1). Many calls may begin together before
//! the first is judged, so the frames of calls have a budget of their own.
//!
//! The end of a connection waits for the other side's: bytes that arrive at a closed
//! socket reset the connection, and a reset can take answers with it that the caller
//! has not read yet.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::peers::Peer;
use crate::tls;

/// Frames of the connection itself: PING, SETTINGS and the like.
const CONTROL: Budget = Budget::new(100, 50);
/// Frames of calls. As many calls as one connection may have under way come to a quarter.
const CALLS: Budget = Budget::new(8192, 200);
/// The kinds of frames of calls, DATA and HEADERS.
const OF_CALLS: [u8; 2] = [0x0, 0x1];
/// How long the other side may take to close a connection that is over.
const LINGER: Duration = Duration::from_millis(500);
/// How a connection of HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// A caller's connection.
pub(super) struct Frames {
    stream: tls::Stream,
    peer: Arc<Peer>,
    count: Count,
    /// From the moment at which our side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// A connection sent too many frames before a call that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many frames before a call that was let in")]
pub(super) struct TooManyFrames;

impl Frames {
    pub(super) fn new(stream: tls::Stream, peer: Arc<Peer>) -> Self {
        Self {
            stream,
            peer,
            count: Count::new(),
            lingering: None,
        }
    }
}

/// Counts frames in a stream of bytes.
struct Count {
    at: At,
    control: Budget,
    calls: Budget,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy)]
enum At {
    /// In the preface: how many bytes of it have come.
    Preface(usize),
    /// In a frame's head: how many bytes of it have come, the frame's length, and its kind.
    Head(usize, u32, u8),
    /// In a frame's payload: how many bytes of it are to come.
    Payload(u32),
    /// In something that is not HTTP/2, or not counted.
    Uncounted,
}

/// How many frames may come in one burst, and how many in each second after that.
#[derive(Clone, Copy)]
struct Budget {
    most: u32,
    a_second: u32,
    left: u32,
    since: Option<Instant>,
}

impl Budget {
    const fn new(most: u32, a_second: u32) -> Self {
        Self {
            most,
            a_second,
            left: most,
            since: None,
        }
    }

    fn spend(&mut self) -> Result<(), TooManyFrames> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.left == 0 {
            let earned = since.elapsed().as_secs_f64() * f64::from(self.a_second);
            // The conversion saturates.
            self.left = (earned as u32).min(self.most);
            self.since = Some(Instant::now());
        }
        self.left = self.left.checked_sub(1).ok_or(TooManyFrames)?;
        Ok(())
    }
}

impl Count {
    fn new() -> Self {
        Self {
            at: At::Preface(0),
            control: CONTROL,
            calls: CALLS,
        }
    }

    /// Counts what has come; true where at least one frame's head was in it.
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, TooManyFrames> {
        let mut any = false;
        while let [first, rest @ ..] = bytes {
            match self.at {
                At::Uncounted => break,
                At::Payload(left) => {
                    let skipped = bytes.len().min(left as usize);
                    bytes = &bytes[skipped..];
                    self.at = match left - skipped as u32 {
                        0 => At::Head(0, 0, 0),
                        left => At::Payload(left),
                    };
                    continue;
                }
                At::Preface(at) if PREFACE[at] != *first => self.at = At::Uncounted,
                At::Preface(at) if at + 1 == PREFACE.len() => self.at = At::Head(0, 0, 0),
                At::Preface(at) => self.at = At::Preface(at + 1),
                At::Head(at, length, kind) => {
                    let (length, kind) = match at {
                        0..3 => (length << 8 | u32::from(*first), kind),
                        3 => (length, *first),
                        _ => (length, kind),
                    };
                    self.at = match (at + 1, length) {
                        (HEAD, 0) => At::Head(0, 0, 0),
                        (HEAD, length) => At::Payload(length),
                        (at, length) => At::Head(at, length, kind),
                    };
                    if at + 1 == HEAD {
                        any = true;
                        match OF_CALLS.contains(&kind) {
                            true => self.calls.spend()?,
                            false => self.control.spend()?,
                        }
                    }
                }
            }
            bytes = rest;
        }
        Ok(any)
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if !matches!(this.count.at, At::Uncounted) {
            if this.peer.is_caller() {
                this.count.at = At::Uncounted;
            } else {
                match this.count.take(&buffer.filled()[before..]) {
                    Ok(false) => {}
                    Ok(true) => this.peer.spoke(),
                    Err(error) => {
                        this.peer.flood();
                        return Poll::Ready(Err(io::Error::other(error)));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            stream, lingering, ..
        } = self.get_mut();
        let limit = match lingering {
            Some(limit) => limit,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                lingering.insert(Box::pin(sleep(LINGER)))
            }
        };
        let mut sink = [0; 1024];
        loop {
            if limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut sink);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.resize(HEAD + payload, 0xFF);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_are_cut() {
        for (kind, budget) in [(0x0, CALLS), (0x1, CALLS), (0x4, CONTROL), (0x6, CONTROL)] {
            let frames = (0..budget.most as usize).flat_map(|n| frame(kind, n % 40));
            let bytes = [PREFACE, &frames.collect::<Vec<_>>()].concat();
            for size in [1, 2, 7, 9, 10, 1000, bytes.len()] {
                let mut count = Count::new();
                for piece in bytes.chunks(size) {
                    count.take(piece).expect("not too many yet");
                }
                assert_eq!(count.take(&frame(kind, 0)), Err(TooManyFrames), "{size}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_goes_on() {
        let mut count = Count::new();
        count.take(PREFACE).expect("none");
        for _ in 0..CONTROL.most * 10 {
            advance(Duration::from_secs(1) / CONTROL.a_second).await;
            count.take(&frame(0x6, 8)).expect("slow enough");
        }
    }

    /// All calls that a connection may have, with a frame for each of their messages.
    #[tokio::test(start_paused = true)]
    async fn many_calls_may_begin_at_once() {
        let mut count = Count::new();
        count.take(PREFACE).expect("none");
        for _ in 0..1024 {
            let call = [frame(0x1, 100), frame(0x0, 50)].concat();
            count.take(&call).expect("not too many");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_but_http_2_is_counted() {
        let mut count = Count::new();
        for _ in 0..CALLS.most * 2 {
            let head = b"POST /v1/push HTTP/1.1\r\n\r\n";
            assert_eq!(count.take(head), Ok(false));
        }
    }
}
