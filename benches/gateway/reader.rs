//! The other end: thousands of sessions read by one thread, which does no more
//! than cut frames and check their numbers. It shares the machine with what is
//! measured, so it has to be cheap; and it is the same for all.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

use crate::{Outcome, centrifuge::Encoding, payload};

/// Sessions being opened at once.
const OPENING: usize = 64;
/// Nothing new for this long: the rest is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the numbered messages are wrapped.
#[derive(Clone, Copy, PartialEq)]
enum Wrapping {
    WebSocket,
    Events,
    Nats,
    Centrifuge(Encoding),
}

impl Wrapping {
    /// How many bytes follow a message of live mode in its frame.
    fn after(self) -> usize {
        match self {
            Self::WebSocket | Self::Events => 1,
            Self::Nats => 0,
            Self::Centrifuge(encoding) => encoding.after(),
        }
    }
}

/// What carries a session.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    WebSocket,
    /// Server-sent events.
    Events,
    /// The Centrifuge protocol.
    Centrifuge(Encoding),
}

/// Somebody who comes: a ticket, and the position from which it goes on.
pub(crate) struct Visitor {
    pub(crate) ticket: String,
    pub(crate) since: Option<String>,
}

/// What a gateway has said besides messages.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// How many were told each `resume`.
    pub(crate) resume: BTreeMap<String, usize>,
    /// Of the last welcome; empty in live mode.
    pub(crate) epoch: String,
    /// Of the last welcome: the last sequence of the stream, and when that was stored.
    pub(crate) end: [u64; 2],
    /// How many were told `live`, by how many messages they had by then.
    pub(crate) live: BTreeMap<u64, usize>,
    pub(crate) last_live: Option<Instant>,
    /// How often somebody was told `gap`.
    pub(crate) gaps: usize,
}

/// What has been read, of all sessions together.
#[derive(Default)]
pub(crate) struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Whom to wake at how many messages.
    wanted: AtomicU64,
    waiter: Mutex<Option<Thread>>,
    details: Mutex<Details>,
}

#[derive(Default)]
struct Details {
    run: u64,
    out_of_order: u64,
    latencies: Vec<u32>,
    ended: Vec<String>,
    told: Told,
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) bytes: u64,
    /// Microseconds, sorted.
    pub(crate) latencies: Vec<f64>,
}

impl Tally {
    /// Expects the messages of this run from now on.
    pub(crate) fn begin(&self, run: u64) {
        *self.details() = Details {
            run,
            ..Details::default()
        };
        self.bytes.store(0, Ordering::Relaxed);
        self.messages.store(0, Ordering::Relaxed);
    }

    /// Waits until as many messages have come.
    pub(crate) fn wait(&self, wanted: u64) -> Outcome<()> {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.wanted.store(wanted, Ordering::SeqCst);
        let mut progress = (self.messages.load(Ordering::SeqCst), Instant::now());
        while progress.0 < wanted {
            // May return early: an `unpark` of the wait before is remembered.
            thread::park_timeout(PATIENCE);
            let now = self.messages.load(Ordering::SeqCst);
            if now > progress.0 {
                progress = (now, Instant::now());
            } else if progress.1.elapsed() >= PATIENCE {
                let details = self.details();
                return Err(format!(
                    "{now} of {wanted} messages came, {} out of order; sessions ended: {:?}",
                    details.out_of_order,
                    &details.ended[..details.ended.len().min(5)],
                )
                .into());
            }
        }
        Ok(())
    }

    /// Waits for all messages of the run, and for none too many or out of place.
    pub(crate) fn finish(&self, wanted: u64) -> Outcome<Run> {
        self.wait(wanted)?;
        let messages = self.messages.load(Ordering::SeqCst);
        let mut details = self.details();
        if details.out_of_order > 0 || messages > wanted || !details.ended.is_empty() {
            return Err(format!(
                "{messages} messages came instead of {wanted}, {} out of order; sessions ended: {:?}",
                details.out_of_order, details.ended,
            )
            .into());
        }
        let mut latencies = std::mem::take(&mut details.latencies);
        latencies.sort_unstable();
        Ok(Run {
            bytes: self.bytes.load(Ordering::Relaxed),
            latencies: latencies
                .into_iter()
                .map(|nanos| f64::from(nanos) / 1e3)
                .collect(),
        })
    }

    /// Waits until so many were told `live`; returns what was told.
    pub(crate) fn told(&self, live: usize) -> Outcome<Told> {
        let mut progress = (0, Instant::now());
        loop {
            let told = self.details().told.clone();
            let now = told.live.values().sum();
            if now >= live {
                return Ok(told);
            }
            if now > progress.0 {
                progress = (now, Instant::now());
            } else if progress.1.elapsed() >= PATIENCE {
                let ended = &self.details().ended;
                let ended = &ended[..ended.len().min(5)];
                return Err(
                    format!("{now} of {live} were told `live`; sessions ended: {ended:?}").into(),
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, messages: u64, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.messages.fetch_add(messages, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if before < wanted
            && before + messages >= wanted
            && let Some(waiter) = &*self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waiter.unpark();
        }
    }
}

/// A thread that reads.
pub(crate) struct Reader {
    runtime: Handle,
    pub(crate) tally: Arc<Tally>,
}

/// Sessions; dropping them ends all.
pub(crate) struct Sessions(Vec<tokio::task::AbortHandle>);

impl Drop for Sessions {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
        // The thread needs a moment for thousands of sockets.
        thread::sleep(Duration::from_millis(200));
    }
}

impl Reader {
    pub(crate) fn start() -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(pending::<()>()));
        Ok(Self {
            runtime: handle,
            tally: Arc::default(),
        })
    }

    /// Opens a session for each ticket, and returns when all are welcome.
    pub(crate) fn open(&self, gateway: SocketAddr, tickets: Vec<String>) -> Outcome<Sessions> {
        self.open_by(Transport::WebSocket, gateway, tickets)
    }

    /// The same over any transport.
    pub(crate) fn open_by(
        &self,
        transport: Transport,
        gateway: SocketAddr,
        tickets: Vec<String>,
    ) -> Outcome<Sessions> {
        let visitors = tickets.into_iter().map(|ticket| Visitor {
            ticket,
            since: None,
        });
        self.visit(transport, gateway, visitors.collect())
    }

    /// Opens a session for each visitor, and returns when all are welcome.
    pub(crate) fn visit(
        &self,
        transport: Transport,
        gateway: SocketAddr,
        visitors: Vec<Visitor>,
    ) -> Outcome<Sessions> {
        let permits = Arc::new(Semaphore::new(OPENING));
        self.spawn(visitors, move |visitor| {
            let (permits, tally) = (permits.clone(), self.tally.clone());
            async move {
                let _permit = permits.acquire().await;
                let (session, welcome) = enter(transport, gateway, &visitor).await?;
                let told = &mut tally.details().told;
                let word = |name: &str| welcome[name].as_str().unwrap_or_default().to_owned();
                *told.resume.entry(word("resume")).or_default() += 1;
                told.epoch = word("epoch");
                told.end = ["seq", "at"].map(|name| welcome[name].as_u64().unwrap_or(0));
                Ok(session)
            }
        })
    }

    /// Opens as many plain connections, in this order, over which frames come
    /// at once.
    pub(crate) fn connect(&self, address: SocketAddr, count: usize) -> Outcome<Sessions> {
        // One at a time, so that the other side knows which is which.
        let turn = Arc::new(Semaphore::new(1));
        self.spawn((0..count).collect(), move |_| {
            let turn = turn.clone();
            async move {
                let _turn = turn.acquire().await;
                let stream = TcpStream::connect(address).await?;
                Ok(Session::new(stream, Wrapping::WebSocket))
            }
        })
    }

    /// Subscribes to a subject, without a gateway in between.
    pub(crate) fn subscribe(&self, nats: SocketAddr, subject: &'static str) -> Outcome<Sessions> {
        self.spawn(vec![()], move |()| async move {
            let mut stream = TcpStream::connect(nats).await?;
            stream.set_nodelay(true)?;
            let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB {subject} 1\r\nPING\r\n");
            stream.write_all(hello.as_bytes()).await?;
            let mut session = Session::new(stream, Wrapping::Nats);
            session.read_until(b"PONG\r\n").await?;
            Ok(session)
        })
    }

    fn spawn<T, F>(&self, each: Vec<T>, open: impl Fn(T) -> F) -> Outcome<Sessions>
    where
        F: Future<Output = io::Result<Session>> + Send + 'static,
    {
        let (tell, mut told) = mpsc::unbounded_channel();
        let count = each.len();
        let mut sessions = Sessions(Vec::with_capacity(count));
        for one in each {
            let (opening, tell, tally) = (open(one), tell.clone(), self.tally.clone());
            let task = self.runtime.spawn(async move {
                let opened = opening.await;
                let (session, outcome) = match opened {
                    Ok(session) => (Some(session), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = tell.send(outcome);
                drop(tell);
                if let Some(mut session) = session {
                    // What came with the welcome.
                    let rest = std::mem::take(&mut session.rest);
                    let end = match session.take(&rest, &tally) {
                        Ok(()) => poll_fn(|cx| session.poll_run(cx, &tally)).await,
                        Err(end) => end,
                    };
                    tally.details().ended.push(end);
                }
            });
            sessions.0.push(task.abort_handle());
        }
        for _ in 0..count {
            told.blocking_recv().ok_or("the reader is gone")??;
        }
        Ok(sessions)
    }
}

/// Opens a session by hand, with what a browser sends and no more; returns its welcome,
/// too.
async fn enter(
    transport: Transport,
    gateway: SocketAddr,
    visitor: &Visitor,
) -> io::Result<(Session, Value)> {
    let mut stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let (path, wrapping, status, headers) = match transport {
        Transport::WebSocket => (
            "/ws",
            Wrapping::WebSocket,
            "101",
            UPGRADE.to_owned() + "Sec-WebSocket-Protocol: usher.v1\r\n",
        ),
        Transport::Centrifuge(encoding) => (
            "/connection/websocket",
            Wrapping::Centrifuge(encoding),
            "101",
            UPGRADE.to_owned() + encoding.protocol(),
        ),
        Transport::Events => (
            "/events",
            Wrapping::Events,
            "200",
            "Accept: text/event-stream\r\n".to_owned(),
        ),
    };
    let Visitor { ticket, since } = visitor;
    let since = since.as_ref().map(|since| format!("&since={since}"));
    let since = since.unwrap_or_default();
    let query = match transport {
        Transport::Centrifuge(_) => String::new(),
        Transport::WebSocket | Transport::Events => format!("?ticket={ticket}{since}"),
    };
    let request = format!("GET {path}{query} HTTP/1.1\r\nHost: {gateway}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut session = Session::new(stream, wrapping);
    let head = session.read_until(b"\r\n\r\n").await?;
    if !head.starts_with(format!("HTTP/1.1 {status}").as_bytes()) {
        return Err(io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        ));
    }
    if let Transport::Centrifuge(encoding) = transport {
        session.stream.write_all(&encoding.connect(ticket)).await?;
    }
    let welcome = poll_fn(|cx| session.poll_welcome(cx)).await?;
    Ok((session, welcome))
}

/// The headers of a request for a WebSocket.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

thread_local! {
    /// All sessions read into this; only what is left of a frame is kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

struct Session {
    stream: TcpStream,
    wrapping: Wrapping,
    /// The beginning of a frame.
    rest: Vec<u8>,
    run: u64,
    next: u64,
}

/// One frame, or message of NATS.
pub(crate) enum Piece<'a> {
    /// A text, or bytes.
    Text(&'a [u8]),
    Ping,
    Close(u16),
    Other,
}

impl Session {
    fn new(stream: TcpStream, wrapping: Wrapping) -> Self {
        Self {
            stream,
            wrapping,
            rest: Vec::new(),
            run: 0,
            next: 0,
        }
    }

    /// Reads up to and with `end`; what follows is kept.
    async fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.rest.windows(end.len()).position(|bytes| bytes == end) {
                let tail = self.rest.split_off(at + end.len());
                return Ok(std::mem::replace(&mut self.rest, tail));
            }
            let mut chunk = [0; 1024];
            let count = poll_fn(|cx| {
                let mut buffer = ReadBuf::new(&mut chunk);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(io::Result::Ok(buffer.filled().len()))
            })
            .await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.rest.extend_from_slice(&chunk[..count]);
        }
    }

    fn poll_welcome(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Value>> {
        loop {
            while let Some((piece, used)) = self.cut(&self.rest) {
                let welcome = match (piece, self.wrapping) {
                    (Piece::Text(text), Wrapping::Centrifuge(encoding)) => {
                        Some(encoding.welcome(text))
                    }
                    (Piece::Text(text), _) => serde_json::from_slice(text).unwrap_or_default(),
                    // A blank line, or a comment.
                    (Piece::Other, Wrapping::Events) => None,
                    _ => Some(Value::Null),
                };
                self.rest.drain(..used);
                if let Some(mut frame) = welcome {
                    let welcome = frame["welcome"].take();
                    let unexpected = || io::Error::other("the first frame is no welcome");
                    let welcome = welcome.is_object().then_some(welcome);
                    return Poll::Ready(welcome.ok_or_else(unexpected));
                }
            }
            let mut chunk = [0; 1024];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.rest.extend_from_slice(buffer.filled());
        }
    }

    fn cut<'a>(&self, bytes: &'a [u8]) -> Option<(Piece<'a>, usize)> {
        match self.wrapping {
            Wrapping::WebSocket | Wrapping::Centrifuge(_) => websocket(bytes),
            Wrapping::Events => event(bytes),
            Wrapping::Nats => nats(bytes),
        }
    }

    /// Reads until the end, and says what it was.
    fn poll_run(&mut self, cx: &mut Context<'_>, tally: &Tally) -> Poll<String> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let kept = self.rest.len();
                scratch[..kept].copy_from_slice(&self.rest);
                let mut buffer = ReadBuf::new(scratch);
                buffer.set_filled(kept);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                    Err(error) => return Poll::Ready(error.to_string()),
                    Ok(()) if buffer.filled().len() == kept => {
                        return Poll::Ready("end".to_owned());
                    }
                    Ok(()) => {}
                }
                self.rest.clear();
                if let Err(end) = self.take(buffer.filled(), tally) {
                    return Poll::Ready(end);
                }
            }
        })
    }

    fn take(&mut self, mut bytes: &[u8], tally: &Tally) -> Result<(), String> {
        let now = payload::now();
        let (mut messages, mut size) = (0, 0);
        let mut details = tally.details();
        while let Some((piece, used)) = self.cut(bytes) {
            bytes = &bytes[used..];
            match piece {
                Piece::Text(text) => {
                    let Some(numbers) = payload::read(text, self.wrapping.after()) else {
                        if let Wrapping::Centrifuge(encoding) = self.wrapping {
                            // There is always room for its few bytes.
                            encoding.pong(text).map(|pong| self.stream.try_write(pong));
                        }
                        if text.starts_with(b"{\"live\"") {
                            let ours = self.run == details.run;
                            let had = if ours { self.next } else { 0 };
                            *details.told.live.entry(had).or_default() += 1;
                            details.told.last_live = Some(Instant::now());
                        }
                        details.told.gaps += usize::from(text.starts_with(b"{\"gap\""));
                        continue;
                    };
                    if numbers.run != details.run {
                        continue;
                    }
                    if numbers.run != self.run {
                        (self.run, self.next) = (numbers.run, 0);
                    }
                    details.out_of_order += u64::from(numbers.seq != self.next);
                    self.next = numbers.seq + 1;
                    messages += 1;
                    size += used as u64;
                    if !numbers.at.is_zero() {
                        let nanos = now.saturating_sub(numbers.at).as_nanos();
                        details
                            .latencies
                            .push(u32::try_from(nanos).unwrap_or(u32::MAX));
                    }
                }
                // A pong, masked with zeros; there is always room for six bytes.
                Piece::Ping => drop(self.stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0])),
                Piece::Close(code) => {
                    return Err(format!("closed {code} after {} messages", self.next));
                }
                Piece::Other => {}
            }
        }
        drop(details);
        self.rest.extend_from_slice(bytes);
        if messages > 0 {
            tally.count(messages, size);
        }
        Ok(())
    }
}

/// The first frame of `bytes`, with its length; none if it is not whole.
pub(crate) fn websocket(bytes: &[u8]) -> Option<(Piece<'_>, usize)> {
    let (&opcode, &length) = (bytes.first()?, bytes.get(1)?);
    let (start, length) = match length {
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        126 => (
            4,
            u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]) as usize,
        ),
        length => (2, length as usize),
    };
    let body = bytes.get(start..start + length)?;
    let piece = match opcode & 0x0f {
        0x1 | 0x2 => Piece::Text(body),
        0x8 => Piece::Close(
            body.first_chunk()
                .map_or(1005, |&code| u16::from_be_bytes(code)),
        ),
        0x9 => Piece::Ping,
        _ => Piece::Other,
    };
    Some((piece, start + length))
}

/// The same for a stream of events, whose data has no line breaks here: its lines.
fn event(bytes: &[u8]) -> Option<(Piece<'_>, usize)> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let piece = match bytes[..line].strip_prefix(b"data: ") {
        Some(data) => Piece::Text(data),
        None => Piece::Other,
    };
    Some((piece, line + 1))
}

/// The same for what a NATS server sends.
fn nats(bytes: &[u8]) -> Option<(Piece<'_>, usize)> {
    let line = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    if !bytes.starts_with(b"MSG ") {
        return Some((Piece::Other, line));
    }
    let last = bytes[..line]
        .trim_ascii_end()
        .rsplit(|&byte| byte == b' ')
        .next()?;
    let length: usize = std::str::from_utf8(last).ok()?.parse().ok()?;
    let body = bytes.get(line..line + length)?;
    let whole = line + length + 2;
    (bytes.len() >= whole).then_some((Piece::Text(body), whole))
}
