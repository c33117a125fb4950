//! One connection to a NATS server: operations out, operations in, and a watch
//! that the server is still there.

use std::{
    collections::VecDeque,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    time::{Instant, Sleep, sleep},
};
use ulid::Ulid;

use super::wire::{Decoder, Encoder, Info, ServerMessage, ServerOp};
use crate::tls::Stream;

/// A PING of our own this often; silence for twice as long ends the link. So a
/// server that hangs without closing its socket is noticed within 10 s.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Read from the socket at a time.
const READ_SIZE: usize = 64 * 1024;

/// What comes from the server.
#[derive(Debug)]
pub(in crate::bus) enum Received {
    Message(ServerMessage),
    /// The answer to the oldest [`Link::ping`] that was not answered yet:
    /// everything before that PING has been processed by the server.
    Pong,
    /// A message that makes no sense, and was skipped.
    Nonsense,
    /// The text of an `-ERR`.
    Error(String),
    /// News about the server or its cluster.
    Info(Box<Info>),
}

/// Who waits for a PONG.
#[derive(Debug, PartialEq)]
enum Pinger {
    Keepalive,
    Caller,
}

/// A connection that has been admitted by its server.
#[derive(Debug)]
pub(in crate::bus) struct Link {
    /// Tells it from every other connection, and names its inbox.
    id: Ulid,
    socket: Stream,
    /// What was written may wait in the socket still, encrypted.
    unflushed: bool,
    decoder: Decoder,
    encoder: Encoder,
    info: Info,
    /// The PINGs under way, in order.
    pings: VecDeque<Pinger>,
    keepalive: Pin<Box<Sleep>>,
    last_heard: Instant,
}

impl Link {
    pub(in crate::bus) fn new(socket: Stream, decoder: Decoder, info: Info) -> Self {
        Self {
            id: Ulid::new(),
            socket,
            unflushed: false,
            decoder,
            encoder: Encoder::default(),
            info,
            pings: VecDeque::new(),
            keepalive: Box::pin(sleep(KEEPALIVE)),
            last_heard: Instant::now(),
        }
    }

    pub(in crate::bus) fn id(&self) -> Ulid {
        self.id
    }

    pub(in crate::bus) fn info(&self) -> &Info {
        &self.info
    }

    pub(in crate::bus) fn subscribe(&mut self, sid: u64, subject: &str) {
        self.encoder.subscribe(sid, subject);
    }

    pub(in crate::bus) fn unsubscribe(&mut self, sid: u64) {
        self.encoder.unsubscribe(sid);
    }

    pub(in crate::bus) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) {
        self.encoder.publish(subject, reply, headers, payload);
    }

    /// Asks for a [`Received::Pong`] once all of the above is processed.
    pub(in crate::bus) fn ping(&mut self) {
        self.pings.push_back(Pinger::Caller);
        self.encoder.ping();
    }

    /// Bytes that the server has not taken yet.
    pub(in crate::bus) fn unsent(&self) -> usize {
        self.encoder.buffer.len()
    }

    /// Sends what waits to be sent, and brings what has come. Pending only
    /// when neither can go on.
    ///
    /// # Errors
    ///
    /// The connection is lost, the server is silent, or it talks nonsense.
    pub(in crate::bus) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            self.poll_write(cx)?;
            let op = match self.poll_op(cx) {
                Poll::Ready(op) => op?,
                Poll::Pending => match self.poll_keepalive(cx)? {
                    // The PING must be on its way before we sleep.
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                },
            };
            match op {
                ServerOp::Message(message) => return Poll::Ready(Ok(Received::Message(message))),
                ServerOp::Nonsense => return Poll::Ready(Ok(Received::Nonsense)),
                ServerOp::Pong => match self.pings.pop_front() {
                    Some(Pinger::Caller) => return Poll::Ready(Ok(Received::Pong)),
                    Some(Pinger::Keepalive) | None => {}
                },
                ServerOp::Ping => self.encoder.pong(),
                ServerOp::Ok => {}
                ServerOp::Error(text) => return Poll::Ready(Ok(Received::Error(text))),
                ServerOp::Info(info) => {
                    self.info = (*info).clone();
                    return Poll::Ready(Ok(Received::Info(info)));
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.encoder.buffer.is_empty() {
            let socket = Pin::new(&mut self.socket);
            match socket.poll_write(cx, &self.encoder.buffer)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.encoder.buffer.advance(written);
                    self.unflushed = true;
                }
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed && Pin::new(&mut self.socket).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }

    fn poll_op(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ServerOp>> {
        loop {
            match self.decoder.next() {
                Ok(Some(op)) => return Poll::Ready(Ok(op)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
            if self.decoder.buffer.capacity() - self.decoder.buffer.len() < READ_SIZE / 4 {
                self.decoder.buffer.reserve(READ_SIZE);
            }
            let read = pin!(self.socket.read_buf(&mut self.decoder.buffer));
            match ready!(read.poll(cx))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                _ => self.last_heard = Instant::now(),
            }
        }
    }

    /// Ready when a PING was just written to the buffer.
    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.keepalive.as_mut().poll(cx).is_pending() {
            return Ok(Poll::Pending);
        }
        // Where this machine itself stood still, nobody has been asked yet.
        let asked = self.pings.contains(&Pinger::Keepalive);
        if asked && self.last_heard.elapsed() >= 2 * KEEPALIVE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the NATS server has been silent for 10 s",
            ));
        }
        self.keepalive.as_mut().reset(Instant::now() + KEEPALIVE);
        self.pings.push_back(Pinger::Keepalive);
        self.encoder.ping();
        Ok(Poll::Ready(()))
    }
}
