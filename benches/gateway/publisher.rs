//! Publishes to NATS over a connection of its own, as fast or as evenly as
//! wanted.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::payload::{self, Numbers, Payload};

/// Written to the socket at a time when speed is all.
const CHUNK: usize = 64 * 1024;

pub(crate) struct Publisher {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
    payload: Payload,
}

impl Publisher {
    pub(crate) fn connect(nats: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(nats)?;
        stream.set_nodelay(true)?;
        let mut publisher = Self {
            stream: BufReader::new(stream),
            buffer: Vec::with_capacity(2 * CHUNK),
            payload: Payload::new(),
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
        let payload = self.payload.number(numbers);
        write!(self.buffer, "PUB {subject} {}\r\n", payload.len())?;
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

    /// Returns when the server has taken all that was published.
    pub(crate) fn confirm(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"PING\r\n");
        self.send()?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "PONG" => return Ok(()),
                "PING" => self.stream.get_mut().write_all(b"PONG\r\n")?,
                _ => {}
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
        let start = Instant::now();
        for (index, (subject, mut numbers)) in (0..).zip(each) {
            let due = start + Duration::from_secs(1) * index / per_second;
            while let Some(early) = due
                .checked_duration_since(Instant::now())
                .filter(|d| !d.is_zero())
            {
                sleep(early);
            }
            numbers.at = payload::now();
            self.publish(subject, numbers)?;
            self.send()?;
        }
        self.confirm()
    }
}
