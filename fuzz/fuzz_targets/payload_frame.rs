//! Any payload → a frame that is one event with exactly that payload, or a `gap` in its place.
//!
//! The input's first line is an event name and, after a space each, the sequence, `prev` and
//! time of a stored message, and the largest frame. A `!` before the name makes it a
//! broadcast. The rest of the input is the payload.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use usher::{
    channel::Channel,
    message::{EventName, Message, Stored},
};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (line, payload) = input.split_at(end.unwrap_or(input.len()));
    let (broadcast, line) = match line {
        [b'!', line @ ..] => (true, line),
        line => (false, line),
    };
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let name = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse().ok());
    let stored = match (number(), number(), number()) {
        (Some(seq), Some(prev), Some(at)) => Some(Stored { seq, prev, at }),
        _ => None,
    };
    let limit = number().and_then(|limit| usize::try_from(limit).ok());
    let message = Message {
        event: EventName::parse(name).unwrap_or_default(),
        payload: Bytes::copy_from_slice(payload.strip_prefix(b"\n").unwrap_or_default()),
        channel: match broadcast {
            true => Channel::Broadcast,
            false => Channel::User,
        },
        stored,
        probe: false,
        trace: None,
    };
    usher_fuzz::event::check(&message, limit.unwrap_or(usize::MAX));
});
