//! One connection to a NATS server: operations out, operations in, and a watch
//! that the server is still there.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    time::{Instant, Sleep, sleep},
};
use ulid::Ulid;

use super::wire::{self, Decoder, Info, ServerMessage, ServerOp, line};
use crate::tls::Stream;

/// A PING of our own this often; silence for twice as long ends the link. So a
/// server that hangs without closing its socket is noticed within 10 s.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Bytes that are read from the socket at a time.
const READ_SIZE: usize = 64 * 1024;
/// Bytes written before the socket takes them, beyond which the owner waits.
const MAX_UNSENT: usize = 1024 * 1024;

/// What comes from the server.
#[derive(Debug)]
pub(in crate::bus) enum Received {
    Message(ServerMessage),
    /// The answer to a [`Link::ping`]: everything before that PING has been processed by
    /// the server.
    Pong(Window),
    /// A message that makes no sense, and was skipped.
    Nonsense,
    /// The text of an `-ERR`.
    Error(String),
    /// News about the server or its cluster.
    Info(Box<Info>),
}

/// What a PONG stands for.
#[derive(Debug, Default)]
pub(in crate::bus) struct Window {
    /// These subscriptions are confirmed by it.
    pub(in crate::bus) ids: Vec<u64>,
    pub(in crate::bus) then: Then,
}

impl Window {
    pub(in crate::bus) fn of(ids: Vec<u64>) -> Self {
        let then = Then::Nothing;
        Self { ids, then }
    }

    pub(in crate::bus) fn then(then: Then) -> Self {
        let ids = Vec::new();
        Self { ids, then }
    }
}

/// What a PONG means besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::bus) enum Then {
    #[default]
    Nothing,
    /// The end of the resubscribing after a connect.
    Up,
    /// Everything is subscribed on the successor.
    Subscribed,
    /// Every message that the successor may have missed has arrived.
    TakeOver,
    /// NATS has answered whether it permits broadcasts.
    Broadcasts,
}

/// A connection that has been admitted by its server.
#[derive(Debug)]
pub(in crate::bus) struct Link {
    /// Tells it from every other connection, and names its inbox.
    id: Ulid,
    socket: Stream,
    /// What was written may wait in the socket still, encrypted.
    unflushed: bool,
    /// Nothing can be written any more. What has come is still handed out.
    broken: Option<io::Error>,
    decoder: Decoder,
    unsent: BytesMut,
    info: Info,
    /// The PINGs under way, in order; `None`: the watch's own.
    pings: VecDeque<Option<Window>>,
    keepalive: Pin<Box<Sleep>>,
    last_heard: Instant,
}

impl Link {
    pub(in crate::bus) fn new(socket: Stream, decoder: Decoder, info: Info) -> Self {
        Self {
            id: Ulid::new(),
            socket,
            unflushed: false,
            broken: None,
            decoder,
            unsent: BytesMut::new(),
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

    /// Logs in; `login` is CONNECT's JSON.
    pub(in crate::bus) fn connect(&mut self, login: &serde_json::Value) {
        line(&mut self.unsent, format_args!("CONNECT {login}"));
    }

    pub(in crate::bus) fn subscribe(&mut self, sid: u64, subject: &str) {
        line(&mut self.unsent, format_args!("SUB {subject} {sid}"));
    }

    /// Subscribes, where one is given as a member of this queue group.
    pub(in crate::bus) fn subscribe_in(&mut self, sid: u64, subject: &str, group: Option<&str>) {
        let group = group.unwrap_or_default();
        line(
            &mut self.unsent,
            format_args!("SUB {subject} {group} {sid}"),
        );
    }

    pub(in crate::bus) fn unsubscribe(&mut self, sid: u64) {
        line(&mut self.unsent, format_args!("UNSUB {sid}"));
    }

    /// Publishes; `headers` are names and values free of line breaks.
    pub(in crate::bus) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) {
        wire::publish(&mut self.unsent, subject, reply, headers, payload);
    }

    /// Publishes with a header block of any bytes, whose last line is empty.
    pub(in crate::bus) fn publish_block(&mut self, subject: &str, block: &[u8], payload: &[u8]) {
        wire::publish_block(&mut self.unsent, subject, block, payload);
    }

    /// Asks for a [`Received::Pong`] once all of the above is processed.
    pub(in crate::bus) fn ping(&mut self, window: Window) {
        self.pings.push_back(Some(window));
        line(&mut self.unsent, format_args!("PING"));
    }

    /// What the PONGs under way will confirm, in order.
    pub(in crate::bus) fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.pings.iter_mut().flatten()
    }

    /// Whether the owner may write more before the socket takes what it wrote.
    pub(in crate::bus) fn has_room(&self) -> bool {
        self.unsent.len() < MAX_UNSENT
    }

    /// Waits for what [`Link::poll_next`] returns. Dropping the future loses nothing.
    pub(in crate::bus) async fn next(&mut self) -> io::Result<Received> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Sends what waits to be sent, and brings what has come. Pending only
    /// when neither can go on.
    ///
    /// # Errors
    ///
    /// The connection is lost, the server is silent, or it talks nonsense.
    pub(in crate::bus) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            if self.broken.is_none() {
                self.broken = self.poll_write(cx).err();
            }
            let op = match (self.poll_op(cx), self.broken.take()) {
                (Poll::Ready(op), broken) => {
                    self.broken = broken;
                    op?
                }
                (Poll::Pending, Some(error)) => return Poll::Ready(Err(error)),
                (Poll::Pending, None) => match self.poll_keepalive(cx)? {
                    // The PING must be on its way before we sleep.
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                },
            };
            return Poll::Ready(Ok(match op {
                ServerOp::Ping => {
                    line(&mut self.unsent, format_args!("PONG"));
                    continue;
                }
                ServerOp::Pong => match self.pings.pop_front().flatten() {
                    Some(window) => Received::Pong(window),
                    None => continue,
                },
                ServerOp::Ok => continue,
                ServerOp::Message(message) => Received::Message(message),
                ServerOp::Nonsense => Received::Nonsense,
                ServerOp::Error(text) => Received::Error(text),
                ServerOp::Info(info) => {
                    self.info = (*info).clone();
                    Received::Info(info)
                }
            }));
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let socket = Pin::new(&mut self.socket);
            match socket.poll_write(cx, &self.unsent)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.unsent.advance(written);
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
        // Where this machine itself stood still, nobody has been asked yet.
        while self.keepalive.as_mut().poll(cx).is_ready() && self.pings.iter().any(Option::is_none)
        {
            if self.last_heard.elapsed() >= 2 * KEEPALIVE {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the NATS server has been silent for 10 s",
                ));
            }
            let silent = self.last_heard + 2 * KEEPALIVE;
            self.keepalive.as_mut().reset(silent);
        }
        if self.keepalive.as_mut().poll(cx).is_pending() {
            return Ok(Poll::Pending);
        }
        self.keepalive.as_mut().reset(Instant::now() + KEEPALIVE);
        self.pings.push_back(None);
        line(&mut self.unsent, format_args!("PING"));
        Ok(Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Such as by a server that closes the connection behind its last messages.
    #[tokio::test]
    async fn what_was_received_comes_before_an_error_of_writing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("connected");
        let messages = b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n";
        server.write_all(messages).await.expect("written");
        socket.readable().await.expect("it has come");
        // From here on it takes no byte.
        socket.shutdown().await.expect("shut down");
        let stream = Stream::Plain(socket);
        let mut link = Link::new(stream, Decoder::default(), Info::default());
        link.ping(Window::default());
        for payload in ["x", "y"] {
            let received = link.next().await;
            let Ok(Received::Message(message)) = received else {
                panic!("{received:?}");
            };
            assert_eq!(&*message.payload, payload.as_bytes());
        }
        let error = link.next().await.expect_err("it can't be written");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
