//! What a client has, and says when it comes back: a position of version 2, kept by the five
//! rules of docs/clients.md. These clients follow no topic, and nobody broadcasts here, so
//! that there is one channel: the user's own.

use serde_json::Value;

use crate::payload::{self, Numbers};

/// `EPOCH.PROVEN.TOP.AT` and the user's mark.
#[derive(Clone, Default)]
pub(super) struct Position {
    epoch: String,
    proven: u64,
    mark: u64,
    /// The largest sequence that was seen, and when that was stored.
    top: (u64, u64),
}

/// What an event is to a client, by its position.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Next,
    Again,
    AfterHole,
}

impl Position {
    /// As `since` wants it.
    pub(super) fn since(&self) -> String {
        let (top, at) = self.top;
        let mut since = format!("{}.{}.{top}.{at}", self.epoch, self.proven);
        if self.mark > self.proven {
            since.push_str(&format!(".u{}", self.mark));
        }
        since
    }

    /// What is after this is owed.
    pub(super) fn after(&self) -> u64 {
        self.proven.max(self.mark)
    }

    /// Rule 1.
    pub(super) fn welcome(&mut self, welcome: &Value) {
        let seq = number(welcome, "seq");
        let resume = welcome["resume"].as_str();
        if resume != Some("complete") {
            let epoch = welcome["epoch"].as_str();
            *self = Self {
                epoch: epoch.unwrap_or_default().to_owned(),
                proven: if resume == Some("gap") { 0 } else { seq },
                ..Self::default()
            };
        }
        self.see(seq, number(welcome, "at"));
    }

    /// Rule 2.
    pub(super) fn event(&mut self, event: &Stored) -> Event {
        let had = self.after();
        self.see(event.seq, event.at);
        if event.seq <= had {
            return Event::Again;
        }
        self.mark = event.seq;
        match event.prev > had {
            true => Event::AfterHole,
            false => Event::Next,
        }
    }

    /// Rule 4: `live`, or `ping`.
    pub(super) fn proof(&mut self, proof: &Value) {
        let seq = number(proof, "seq");
        if seq > 0 {
            self.proven = seq;
            self.see(seq, number(proof, "at"));
        }
    }

    /// Rule 5.
    fn see(&mut self, seq: u64, at: u64) {
        if seq > self.top.0 {
            self.top = (seq, at);
        }
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

/// An event's place in the stream, and its numbers.
pub(super) struct Stored {
    seq: u64,
    prev: u64,
    at: u64,
    pub(super) numbers: Numbers,
}

impl Stored {
    /// Reads a frame of ours without parsing the whole; none where it is another.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let (seq, rest) = digits(frame.strip_prefix(b"{\"event\":\"message\",\"seq\":")?);
        let (prev, rest) = digits(rest.strip_prefix(b",\"prev\":")?);
        let (at, rest) = digits(rest.strip_prefix(b",\"at\":")?);
        let numbers = payload::read_first(rest.strip_prefix(b",\"data\":")?)?;
        Some(Self {
            seq,
            prev,
            at,
            numbers,
        })
    }
}

fn digits(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let number = digits.iter().fold(0, |number, digit| {
        number * 10 + u64::from(digit.wrapping_sub(b'0'))
    });
    (number, rest)
}
