//! Whatever a client sends after its upgrade, in whatever pieces.
//!
//! The input begins with a byte of settings and with the sizes of the pieces; see
//! `cuts`.

#![no_main]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::Message;
use usher::{
    close::CloseReason,
    http::fuzzing::{Client, understands},
};
use usher_fuzz::{cuts, json, websocket};

/// Small, so that the fuzzer gets beyond it, and to lengths of two bytes.
const MAX_FRAME: usize = 200;

fuzz_target!(|input: &[u8]| {
    let (settings, rest) = input.split_first().unwrap_or((&0, &[]));
    let limit = u32::from(settings % 8);
    let early = settings & 8 != 0;
    let leaves = settings & 16 != 0;
    let (sizes, bytes) = cuts::sizes(rest);
    let pieces = cuts::pieces(sizes, bytes);

    let (whole, end) = receive(&[bytes], !early, leaves, u32::MAX);
    let cut = receive(&pieces, early, leaves, u32::MAX);
    assert_eq!(cut, (whole.clone(), end), "cuts matter");
    check(&whole);

    let started = Instant::now();
    let (limited, limited_end) = receive(&pieces, early, leaves, limit);
    assert!(whole.starts_with(&limited));
    if limited_end == Some(CloseReason::TooManyFrames) {
        assert!(heads(bytes) > limit);
    } else {
        assert_eq!((limited.len(), limited_end), (whole.len(), end));
        // After a second, which a busy machine may lose, the count begins anew.
        let quick = started.elapsed() < Duration::from_secs(1);
        let all_read = matches!(end, None | Some(CloseReason::ConnectionLost));
        assert!(!quick || !all_read || heads(bytes) <= limit);
    }
});

/// All that a session hears, and how that ends, if it does. The first piece may
/// come early, with the request; after the last the client may leave.
fn receive(
    pieces: &[&[u8]],
    early: bool,
    leaves: bool,
    limit: u32,
) -> (Vec<Message>, Option<CloseReason>) {
    let (early, pieces) = pieces.split_at(usize::from(early).min(pieces.len()));
    let mut written = Vec::new();
    let stream = Stream {
        // An empty one would say that the client left.
        pieces: pieces.iter().copied().filter(|p| !p.is_empty()).collect(),
        leaves,
        written: &mut written,
    };
    let mut client = Client::new(stream, &early.concat(), MAX_FRAME, limit);
    let mut messages = Vec::new();
    let end = loop {
        match client.receive() {
            Poll::Ready(Ok(message)) => messages.push(message),
            Poll::Ready(Err(reason)) => break Some(reason),
            Poll::Pending => break None,
        }
        // A session ends at a close.
        if messages.last().is_some_and(Message::is_close) {
            break Some(CloseReason::ClientLeft);
        }
        assert!(matches!(client.write(), Poll::Ready(Ok(()))));
    };
    let _ = client.write();
    drop(client);
    answers(&written, &messages);
    (messages, end)
}

/// Each ping is answered by a pong with the same words; nothing else is said
/// but an answer to a close.
fn answers(written: &[u8], messages: &[Message]) {
    let mut frames = websocket::frames(written);
    if messages.last().is_some_and(Message::is_close) {
        let close = frames.pop().expect("an answer");
        assert_eq!(close.0, websocket::CLOSE);
    }
    let pings = messages.iter().filter_map(|message| match message {
        Message::Ping(words) => Some((websocket::PONG, &words[..])),
        _ => None,
    });
    assert_eq!(frames, pings.collect::<Vec<_>>());
}

/// What a session is given stays within its bounds.
fn check(messages: &[Message]) {
    for message in messages {
        assert!(message.len() <= MAX_FRAME);
        if let Message::Text(text) = message {
            let object = json::object(text.as_bytes()).is_some();
            assert_eq!(understands(text), object, "{text:?}");
        }
    }
}

/// How many frames begin in these bytes.
fn heads(mut bytes: &[u8]) -> u32 {
    let mut count = 0;
    while let Some(head) = websocket::head(bytes) {
        count += 1;
        let payload = usize::try_from(head.payload).unwrap_or(usize::MAX);
        let end = head.length.saturating_add(payload).min(bytes.len());
        bytes = &bytes[end..];
    }
    count
}

/// A connection on which each piece comes by itself.
struct Stream<'a> {
    pieces: VecDeque<&'a [u8]>,
    leaves: bool,
    written: &'a mut Vec<u8>,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(piece) = self.pieces.front_mut() else {
            return match self.leaves {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        };
        let (now, later) = piece.split_at(buffer.remaining().min(piece.len()));
        buffer.put_slice(now);
        *piece = later;
        if later.is_empty() {
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
