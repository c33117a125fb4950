//! Publishes to NATS over a connection of its own, as fast or as evenly as
//! wanted.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Outcome,
    payload::{self, Numbers, Payload},
};

/// Written to the socket at a time when speed is all.
const CHUNK: usize = 64 * 1024;

pub(crate) struct Publisher {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
    payload: Payload,
    /// Where a stream's acknowledgements go; empty until one is asked for.
    inbox: String,
}

impl Publisher {
    pub(crate) fn connect(nats: SocketAddr) -> io::Result<Self> {
        Self::connect_for(nats, Payload::new())
    }

    /// One that publishes this payload, numbered anew each time.
    pub(crate) fn connect_for(nats: SocketAddr, payload: Payload) -> io::Result<Self> {
        let stream = TcpStream::connect(nats)?;
        stream.set_nodelay(true)?;
        let mut publisher = Self {
            stream: BufReader::new(stream),
            buffer: Vec::with_capacity(2 * CHUNK),
            payload,
            inbox: String::new(),
        };
        publisher
            .buffer
            .extend_from_slice(b"CONNECT {\"verbose\":false}\r\n");
        publisher.confirm()?;
        Ok(publisher)
    }

    /// Publishes a message; it leaves with the next [`Publisher::send`], or when
    /// there are many.
    pub(crate) fn publish(&mut self, subject: &str, numbers: Numbers) -> io::Result<()> {
        self.publish_to(subject, "", numbers)
    }

    fn publish_to(&mut self, subject: &str, reply: &str, numbers: Numbers) -> io::Result<()> {
        let payload = self.payload.number(numbers);
        write!(self.buffer, "PUB {subject} {reply} {}\r\n", payload.len())?;
        self.buffer.extend_from_slice(payload);
        self.buffer.extend_from_slice(b"\r\n");
        if self.buffer.len() >= CHUNK {
            self.send()
        } else {
            Ok(())
        }
    }

    pub(crate) fn send(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Publishes a message, and returns its sequence when a stream has stored it, and so
    /// all that were published before it.
    pub(crate) fn store(&mut self, subject: &str, numbers: Numbers) -> Outcome<u64> {
        if self.inbox.is_empty() {
            self.inbox = format!("_INBOX.bench.{:032x}", rand::random::<u128>());
            write!(self.buffer, "SUB {} 1\r\n", self.inbox)?;
        }
        let inbox = self.inbox.clone();
        self.publish_to(subject, &inbox, numbers)?;
        self.send()?;
        let answer = loop {
            if self.line()?.starts_with("MSG ") {
                break self.line()?;
            }
        };
        let answer: Value = serde_json::from_str(&answer)?;
        let seq = answer["seq"].as_u64();
        seq.ok_or_else(|| format!("the stream said {answer}").into())
    }

    /// Returns when the server has taken all that was published.
    pub(crate) fn confirm(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"PING\r\n");
        self.send()?;
        while self.line()? != "PONG" {}
        Ok(())
    }

    /// The next line from the server, whose pings are answered on the way.
    fn line(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "PING" => self.stream.get_mut().write_all(b"PONG\r\n")?,
                line => return Ok(line.to_owned()),
            }
        }
    }

    /// Publishes one message after the other, evenly, each with the time at
    /// which it left.
    pub(crate) fn pace<'a>(
        &mut self,
        each: impl Iterator<Item = (&'a str, Numbers)>,
        per_second: u32,
    ) -> io::Result<()> {
        self.pace_by(each, per_second, payload::now)
    }

    /// The same with the time of this clock.
    pub(crate) fn pace_by<'a>(
        &mut self,
        each: impl Iterator<Item = (&'a str, Numbers)>,
        per_second: u32,
        clock: fn() -> Duration,
    ) -> io::Result<()> {
        let start = Instant::now();
        for (index, (subject, mut numbers)) in (0..).zip(each) {
            let due = start + Duration::from_secs(1) * index / per_second;
            while let Some(early) = due
                .checked_duration_since(Instant::now())
                .filter(|d| !d.is_zero())
            {
                sleep(early);
            }
            numbers.at = clock();
            self.publish(subject, numbers)?;
            self.send()?;
        }
        self.confirm()
    }
}
