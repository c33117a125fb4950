//! What a connection reads and writes, with two bounds that HTTP/2's library lacks.
//!
//! A connection that has made no call yet may send few frames: PING and SETTINGS are
//! answered by the library, and so cost whoever receives them more than the sender.
//! The frames' heads are counted as they pass (RFC 9113 §4.1).
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

/// Frames at once of a connection that has made no call yet.
const BURST: u32 = 1000;
/// And in each second after that.
const A_SECOND: u32 = 100;
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
    left: u32,
    since: Instant,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy)]
enum At {
    /// In the preface, of which so much has come.
    Preface(usize),
    /// In a frame's head, of which so much has come; its first bytes are the length.
    Head(usize, u32),
    /// In a frame's payload, of which so much is to come.
    Payload(u32),
    /// In something that is not HTTP/2, or not counted.
    Uncounted,
}

impl Count {
    fn new() -> Self {
        Self {
            at: At::Preface(0),
            left: BURST,
            since: Instant::now(),
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
                        0 => At::Head(0, 0),
                        left => At::Payload(left),
                    };
                    continue;
                }
                At::Preface(at) if PREFACE[at] != *first => self.at = At::Uncounted,
                At::Preface(at) if at + 1 == PREFACE.len() => self.at = At::Head(0, 0),
                At::Preface(at) => self.at = At::Preface(at + 1),
                At::Head(at, length) => {
                    let length = match at {
                        0..3 => length << 8 | u32::from(*first),
                        _ => length,
                    };
                    self.at = match (at + 1, length) {
                        (HEAD, 0) => At::Head(0, 0),
                        (HEAD, length) => At::Payload(length),
                        (at, length) => At::Head(at, length),
                    };
                    if at + 1 == HEAD {
                        any = true;
                        self.one_more()?;
                    }
                }
            }
            bytes = rest;
        }
        Ok(any)
    }

    fn one_more(&mut self) -> Result<(), TooManyFrames> {
        if self.left == 0 {
            let seconds = self.since.elapsed().as_secs_f64();
            // Saturates, and a burst is the most.
            self.left = ((seconds * f64::from(A_SECOND)) as u32).min(BURST);
            self.since = Instant::now();
        }
        self.left = self.left.checked_sub(1).ok_or(TooManyFrames)?;
        Ok(())
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

    fn frame(payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([6, 0, 0, 0, 0, 0]);
        frame.resize(HEAD + payload, 0xFF);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_counted_however_they_are_cut() {
        let frames: Vec<u8> = (0..BURST as usize).flat_map(|n| frame(n % 40)).collect();
        let bytes = [PREFACE, &frames].concat();
        for size in [1, 2, 7, 9, 10, 1000, bytes.len()] {
            let mut count = Count::new();
            for piece in bytes.chunks(size) {
                count.take(piece).expect("not too many yet");
            }
            assert_eq!(count.take(&frame(0)), Err(TooManyFrames), "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_goes_on() {
        let mut count = Count::new();
        count.take(PREFACE).expect("none");
        for _ in 0..BURST * 10 {
            advance(Duration::from_secs(1) / A_SECOND).await;
            count.take(&frame(8)).expect("slow enough");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_but_http_2_is_counted() {
        let mut count = Count::new();
        for _ in 0..BURST * 2 {
            let head = b"POST /v1/push HTTP/1.1\r\n\r\n";
            assert_eq!(count.take(head), Ok(false));
        }
    }
}
