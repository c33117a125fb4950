//! Any payload → a frame that is one event with exactly that payload.
//!
//! The input's first line names the event, a `!` before it makes it a
//! broadcast; the rest is the payload.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use usher::message::{EventName, Message};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (name, payload) = input.split_at(end.unwrap_or(input.len()));
    let (broadcast, name) = match name {
        [b'!', name @ ..] => (true, name),
        name => (false, name),
    };
    let name = std::str::from_utf8(name).unwrap_or_default();
    usher_fuzz::event::check(&Message {
        event: EventName::parse(name).unwrap_or_default(),
        payload: Bytes::copy_from_slice(payload.strip_prefix(b"\n").unwrap_or_default()),
        broadcast,
        stored: None,
    });
});
