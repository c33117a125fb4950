//! The floor: the same reads by a client of NATS that does nothing with what it gets.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Outcome, process::Process};

/// As the gateway asks.
const SUBJECTS: usize = 128;
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// A few users are enough, and few where each takes long.
const LONG_ENOUGH: Duration = Duration::from_millis(1000);

pub(super) struct Bare<'a> {
    stream: BufReader<TcpStream>,
    nats: &'a Process,
    line: Vec<u8>,
    body: Vec<u8>,
}

/// What some reads cost.
pub(super) struct Reads {
    /// Questions, or messages.
    pub(super) count: usize,
    /// CPU of nats-server, and of this client, in microseconds each.
    pub(super) nats: f64,
    pub(super) client: f64,
}

impl<'a> Bare<'a> {
    pub(super) fn connect(address: SocketAddr, nats: &'a Process) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut bare = Self {
            stream: BufReader::with_capacity(1 << 16, stream),
            nats,
            line: Vec::new(),
            body: Vec::new(),
        };
        let hello: &[u8] =
            b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB _INBOX.bare 1\r\nPING\r\n";
        bare.stream.get_mut().write_all(hello)?;
        Ok(bare)
    }

    /// The last message of each subject.
    pub(super) fn lasts(&mut self, subjects: &[&String]) -> Outcome<Reads> {
        self.measure(|bare| {
            for part in subjects.chunks(SUBJECTS) {
                bare.ask(&json!({ "multi_last": part }))?;
            }
            Ok(subjects.len())
        })
    }

    /// All messages after a sequence, once.
    pub(super) fn scan(&mut self, after: u64) -> Outcome<Reads> {
        self.measure(|bare| {
            let (mut count, mut from) = (0, after + 1);
            loop {
                let question = json!({
                    "seq": from, "next_by_subj": ">", "batch": BATCH, "max_bytes": BATCH_BYTES,
                });
                let (messages, last) = bare.ask(&question)?;
                if messages == 0 {
                    return Ok(count);
                }
                count += messages;
                from = last + 1;
            }
        })
    }

    /// The messages of each subject after a sequence, for as many as there is time for.
    pub(super) fn by_subject(&mut self, each: &[(&String, u64)], missed: u64) -> Outcome<Reads> {
        let start = Instant::now();
        self.measure(|bare| {
            let mut count = 0;
            for (subject, after) in each {
                let question =
                    json!({ "seq": after + 1, "next_by_subj": subject, "batch": missed.max(1) });
                let (messages, _) = bare.ask(&question)?;
                if messages as u64 != missed {
                    return Err(format!("{subject} has {messages} messages, not {missed}").into());
                }
                count += 1;
                if start.elapsed() > LONG_ENOUGH {
                    break;
                }
            }
            Ok(count)
        })
    }

    fn measure(&mut self, read: impl FnOnce(&mut Self) -> Outcome<usize>) -> Outcome<Reads> {
        let before = (self.nats.cpu_of_threads(), own_cpu()?);
        let count = read(self)?;
        let each = |seconds: f64| seconds / count as f64 * 1e6;
        Ok(Reads {
            count,
            nats: each(self.nats.cpu_of_threads() - before.0),
            client: each(own_cpu()? - before.1),
        })
    }

    /// Asks the stream; returns how many messages came, and the last one's sequence.
    fn ask(&mut self, question: &Value) -> Outcome<(usize, u64)> {
        let question = question.to_string();
        let (subject, length) = ("$JS.API.DIRECT.GET.USHER", question.len());
        let request = format!("PUB {subject} _INBOX.bare {length}\r\n{question}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut count, mut last) = (0, 0);
        loop {
            self.line.clear();
            self.stream.read_until(b'\n', &mut self.line)?;
            if self.line == b"PING\r\n" {
                self.stream.get_mut().write_all(b"PONG\r\n")?;
            }
            if !self.line.starts_with(b"HMSG ") {
                if self.line.is_empty() {
                    return Err("nats-server has closed the connection".into());
                }
                continue;
            }
            let line = str::from_utf8(&self.line)?.trim_end();
            let mut sizes = line.rsplit(' ').map(str::parse::<usize>);
            let whole = sizes.next().ok_or("no size")??;
            let head = sizes.next().ok_or("no size of headers")??;
            self.body.resize(whole + 2, 0);
            self.stream.read_exact(&mut self.body)?;
            let head = &self.body[..head];
            match head.strip_prefix(b"NATS/1.0 ") {
                None => {
                    count += 1;
                    last = sequence(head).ok_or("a message without a sequence")?;
                }
                Some(status) if status.starts_with(b"204") || status.starts_with(b"404") => {
                    return Ok((count, last));
                }
                Some(status) => {
                    return Err(format!("the stream said {:?}", str::from_utf8(status)).into());
                }
            }
        }
    }
}

/// By the server's own header, which is the last.
fn sequence(head: &[u8]) -> Option<u64> {
    let name = b"Nats-Sequence: ";
    let at = head.windows(name.len()).rposition(|bytes| bytes == name)?;
    let value = head[at + name.len()..]
        .split(|byte| *byte == b'\r')
        .next()?;
    str::from_utf8(value).ok()?.parse().ok()
}

/// CPU seconds of this thread.
fn own_cpu() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().trim();
    Ok(nanos.parse::<f64>()? / 1e9)
}
