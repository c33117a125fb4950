//! What a client has of the messages of its channels, as it says it in `since`.
//!
//! Every client keeps its position by these five rules: see [`Tracker`]. For server-sent events
//! a gateway keeps it too, and writes it as `id` before each frame: see `http::events`.
//!
//! 1. `welcome` with `complete`: keep everything. Otherwise forget everything; PROVEN is the
//!    frame's `seq` with `none`, and 0 with `gap`.
//! 2. `event`, and a `gap` with `seq`: its `seq` is the new mark of its channel.
//! 3. `following`: the mark of a new topic is the frame's `seq`. A topic that is gone loses its
//!    mark.
//! 4. `live`, and `ping` with `seq`: PROVEN is the frame's `seq`. Marks that are not above it
//!    go.
//! 5. TOP is the largest `seq` of any frame since rule 1 last forgot everything, the `since`
//!    that was sent included. AT is the `at` of that frame; with `seq` 0 it is 0.

mod tracker;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use self::tracker::{Begun, Seen, Step, Tracker};
use crate::{
    channel::{Channel, Topic},
    user::from_subject_token,
};

/// The longest position, in characters.
pub const MAX_LENGTH: usize = 4096;

/// What a client sends as `since`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// All that is kept.
    Beginning,
    /// The form of an earlier version, which tells too little: nothing can be shown for it.
    Former,
    /// From here on.
    Position(Position),
    /// Each channel from here on, by the name that the Centrifuge protocol gives it; the
    /// others from now on.
    Each(BTreeMap<String, Mark>),
}

/// How far a client came in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which stream.
    pub epoch: Arc<str>,
    /// The last message that it has; 0 for none.
    pub offset: u64,
}

/// `EPOCH.PROVEN.TOP.AT`, then a mark for each channel that lies above PROVEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which stream: 1–32 of `A-Z a-z 0-9`.
    pub epoch: Arc<str>,
    /// The client has everything up to here.
    pub proven: u64,
    /// The largest sequence that it has seen; 0 for none.
    pub top: u64,
    /// When the stream stored that message, in milliseconds since 1970; 0 for none.
    pub at: u64,
    /// Above PROVEN: the last event of each channel.
    pub marks: BTreeMap<Channel, u64>,
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position is EPOCH.PROVEN.TOP.AT and marks, such as k3f9.140.152.1798000000123.u152, or 0"
)]
pub struct PositionError;

impl Since {
    /// Reads a position.
    ///
    /// # Errors
    ///
    /// [`PositionError`] where the text is of no form.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        if text == "0" {
            return Ok(Self::Beginning);
        }
        if text.len() > MAX_LENGTH {
            return Err(PositionError);
        }
        let mut parts = text.split('.');
        let epoch = parts.next().ok_or(PositionError)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric();
        if !(1..=32).contains(&epoch.len()) || !epoch.bytes().all(good) {
            return Err(PositionError);
        }
        let proven = number(parts.next().ok_or(PositionError)?)?;
        let Some(top) = parts.next() else {
            return Ok(Self::Former);
        };
        let at = number(parts.next().ok_or(PositionError)?)?;
        let mut position = Position {
            epoch: epoch.into(),
            proven,
            top: number(top)?,
            at,
            marks: BTreeMap::new(),
        };
        for mark in parts {
            position.read_mark(mark)?;
        }
        Ok(Self::Position(position))
    }
}

impl Position {
    /// Everything of a channel up to here is with the client.
    pub fn of(&self, channel: &Channel) -> u64 {
        self.marks
            .get(channel)
            .copied()
            .unwrap_or(0)
            .max(self.proven)
    }

    /// A letter that is not known is one of a later version.
    fn read_mark(&mut self, mark: &str) -> Result<(), PositionError> {
        let letter = mark.chars().next().ok_or(PositionError)?;
        let rest = &mark[letter.len_utf8()..];
        let (channel, seq) = match letter {
            'u' => (Channel::User, rest),
            'b' => (Channel::Broadcast, rest),
            't' => {
                let (topic, seq) = rest.split_once('=').ok_or(PositionError)?;
                let topic = from_subject_token(topic).ok_or(PositionError)?;
                let topic = Topic::parse(&topic).map_err(|_| PositionError)?;
                (Channel::Topic(topic), seq)
            }
            letter if letter.is_ascii_lowercase() => return Ok(()),
            _ => return Err(PositionError),
        };
        match self.marks.insert(channel, number(seq)?) {
            None => Ok(()),
            Some(_) => Err(PositionError),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            epoch,
            proven,
            top,
            at,
            marks,
        } = self;
        let mut text = format!("{epoch}.{proven}.{top}.{at}");
        for (channel, seq) in marks.iter().filter(|(_, seq)| *seq > proven) {
            let mark = match channel {
                Channel::User => format!(".u{seq}"),
                Channel::Broadcast => format!(".b{seq}"),
                Channel::Topic(topic) => format!(".t{}={seq}", topic.subject_token()),
            };
            // The client gets what is left out once more.
            if text.len() + mark.len() <= MAX_LENGTH {
                text += &mark;
            }
        }
        f.write_str(&text)
    }
}

fn number(digits: &str) -> Result<u64, PositionError> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| good).ok_or(PositionError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        match Since::parse(text) {
            Ok(Since::Position(position)) => position,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn topic(name: &str) -> Channel {
        Channel::Topic(Topic::parse(name).expect("a topic"))
    }

    #[test]
    fn positions_are_read_and_written() {
        let full = "k3f9.140.152.1798000000123.u152.b149.troom%2E7=151";
        let read = position(full);
        assert_eq!(
            (read.proven, read.top, read.at),
            (140, 152, 1_798_000_000_123)
        );
        assert_eq!(read.of(&Channel::User), 152);
        assert_eq!(read.of(&topic("room.7")), 151);
        assert_eq!(read.of(&topic("other")), 140);
        assert_eq!(read.to_string(), full);
        assert_eq!(position("k.1.2.3.x9.zfoo=1.u7").to_string(), "k.1.2.3.u7");
        assert_eq!(
            position("k.9.9.3.u7").to_string(),
            "k.9.9.3",
            "it proves more"
        );
        assert_eq!(Since::parse("0"), Ok(Since::Beginning));
        assert_eq!(Since::parse("k3f9.121"), Ok(Since::Former));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let long = format!("k.1.2.3{}", ".u1".repeat(2000));
        for bad in [
            "",
            "1",
            "k3f9",
            "k3f9.",
            ".1",
            "k.-1",
            "k.+1",
            "k.1x",
            "k.1.2.3.t=5",
            "k.1.2.3.t%20a=5",
            "k.1.2",
            "k-3.1",
            "k.1.2.",
            "k.1.2.x",
            "k.1.2.3.",
            "k.1.2.3.u",
            "k.1.2.3.u1.u2",
            "k.1.2.3.t1",
            "k.1.2.3.t%zz=1",
            "k.1.2.3.U1",
            "k.18446744073709551616",
            &long,
        ] {
            assert_eq!(Since::parse(bad), Err(PositionError), "{bad:?}");
        }
    }
}
