//! Numbered messages: JSON whose numbers stand at fixed places, so that a reader checks
//! them without parsing. They have 128 bytes where nothing else is said.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Bytes of a message.
pub(crate) const SIZE: usize = 128;
const START: &[u8] = b"{\"run\":";
/// A payload begins within so many bytes of a frame.
const HEAD: usize = 256;
/// Where the numbers stand, and how long they are. Each has 1 as its first
/// digit, since JSON allows no leading zero.
const RUN: (usize, usize) = (7, 6);
const SEQ: (usize, usize) = (20, 10);
const AT: (usize, usize) = (36, 14);

/// What the gateway puts before a payload in a frame of `usher.v1`.
const ENVELOPE: &[u8] = b"{\"event\":\"message\",\"data\":";
const BROADCAST_ENVELOPE: &[u8] = b"{\"event\":\"message\",\"broadcast\":true,\"data\":";

/// A message's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Numbers {
    /// Which measurement it belongs to.
    pub(crate) run: u64,
    /// Counts from 0 for each receiver.
    pub(crate) seq: u64,
    /// When it was sent.
    pub(crate) at: Duration,
}

/// Time since the first call, on one clock for all threads.
pub(crate) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// A message to be numbered again and again.
#[derive(Clone)]
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    pub(crate) fn new() -> Self {
        Self::of_size(SIZE)
    }

    /// One of so many bytes, which have to hold the numbers: at least 64.
    pub(crate) fn of_size(size: usize) -> Self {
        let text = format!(
            "{{\"run\":{:06},\"seq\":{:010},\"at\":{:014},\"pad\":\"",
            0, 0, 0
        );
        let text = format!("{text:x<width$}\"}}", width = size - 2);
        Self(text.into_bytes())
    }

    pub(crate) fn number(&mut self, numbers: Numbers) -> &[u8] {
        put(&mut self.0, RUN, numbers.run);
        put(&mut self.0, SEQ, numbers.seq);
        put(
            &mut self.0,
            AT,
            u64::try_from(numbers.at.as_nanos()).unwrap_or(u64::MAX),
        );
        &self.0
    }
}

/// The numbers of a payload that stands at the end of `bytes`, before `after`
/// more bytes; none where it is no such message.
pub(crate) fn read(bytes: &[u8], after: usize) -> Option<Numbers> {
    let start = bytes.len().checked_sub(SIZE + after)?;
    read_first(&bytes[start..start + SIZE])
}

/// The numbers of a payload of any size that `bytes` begin with; none where it is no such
/// message.
pub(crate) fn read_first(payload: &[u8]) -> Option<Numbers> {
    let whole = payload.starts_with(START) && payload.len() >= AT.0 + AT.1;
    whole.then(|| Numbers {
        run: get(payload, RUN),
        seq: get(payload, SEQ),
        at: Duration::from_nanos(get(payload, AT)),
    })
}

/// The same of the text of a frame of `usher.v1` with a payload of any size.
pub(crate) fn read_frame(text: &[u8]) -> Option<Numbers> {
    let envelopes = [ENVELOPE, BROADCAST_ENVELOPE];
    if let Some(payload) = envelopes.iter().find_map(|one| text.strip_prefix(*one)) {
        return read_first(payload);
    }
    // Another server's envelope.
    let head = &text[..text.len().min(HEAD)];
    let at = head.windows(START.len()).position(|bytes| bytes == START)?;
    read_first(&text[at..])
}

/// A WebSocket frame as the gateway sends it, but for the numbers, and where
/// the payload stands in it.
pub(crate) fn frame(broadcast: bool) -> (Vec<u8>, usize) {
    let envelope = if broadcast {
        BROADCAST_ENVELOPE
    } else {
        ENVELOPE
    };
    let length = envelope.len() + SIZE + 1;
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    frame.extend_from_slice(envelope);
    let at = frame.len();
    frame.extend_from_slice(&Payload::new().0);
    frame.push(b'}');
    (frame, at)
}

fn put(bytes: &mut [u8], (start, length): (usize, usize), mut number: u64) {
    for digit in bytes[start + 1..start + length].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    bytes[start] = b'1';
}

fn get(bytes: &[u8], (start, length): (usize, usize)) -> u64 {
    let digits = &bytes[start + 1..start + length];
    digits.iter().fold(0, |number, digit| {
        number * 10 + u64::from(digit.wrapping_sub(b'0'))
    })
}

/// Users in a random order that is the same for the same seed.
pub(crate) fn random_users(seed: u64, users: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % users
    })
}
