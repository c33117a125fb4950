//! How many frames a client sends, counted on the wire: tungstenite tells only
//! of whole messages, and a message may be fragments without end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::running_clock::AwakeClock;

/// The longest header of a client's frame (RFC 6455, 5.2).
const MAX_HEADER: usize = 14;

/// Counts frames against a bound per second.
#[derive(Debug)]
pub(super) struct FrameRate {
    per_second: u32,
    /// How many frames more than `per_second` may come in one burst.
    burst: u32,
    /// How many frames of the burst are not used up.
    spare: u32,
    clock: Arc<AwakeClock>,
    second: Instant,
    /// How long the gateway had stood still when the second began.
    stood_still: Duration,
    /// In this second.
    allowed: u32,
    count: u32,
    header: [u8; MAX_HEADER],
    header_length: usize,
    /// Of the payload that follows the last header.
    payload_left: u64,
}

impl FrameRate {
    pub(super) fn new(per_second: u32, clock: Arc<AwakeClock>) -> Self {
        Self {
            per_second,
            burst: 0,
            spare: 0,
            second: Instant::now(),
            stood_still: clock.stood_still(),
            clock,
            allowed: per_second,
            count: 0,
            header: [0; MAX_HEADER],
            header_length: 0,
            payload_left: 0,
        }
    }

    /// Allows `burst` more frames in one burst. What is used of it comes back at the same rate.
    pub(super) fn with_burst(self, burst: u32) -> Self {
        Self {
            burst,
            spare: burst,
            ..self
        }
    }

    /// Looks at what was read; false where it holds one frame too many.
    pub(super) fn allow(&mut self, bytes: &[u8]) -> bool {
        let frames = self.headers_in(bytes);
        self.take(frames)
    }

    /// Counts `frames` frames. False if that is too many.
    pub(super) fn take(&mut self, frames: u32) -> bool {
        if frames == 0 {
            return true;
        }
        let elapsed = self.second.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let used = self.count.saturating_sub(self.allowed);
            let unused = self.allowed.saturating_sub(self.count);
            let more = self.per_second.saturating_mul(elapsed.as_secs() as u32 - 1);
            let spare = self.spare.saturating_sub(used);
            let spare = spare.saturating_add(unused).saturating_add(more);
            self.spare = spare.min(self.burst);
            self.second = Instant::now();
            self.count = 0;
            // What the client sent while the gateway stood still comes together.
            let stood_still = self.clock.stood_still();
            let waited = stood_still.saturating_sub(self.stood_still);
            let more = (f64::from(self.per_second) * waited.as_secs_f64()) as u32;
            self.allowed = self.per_second.saturating_add(more);
            self.stood_still = stood_still;
        }
        self.count = self.count.saturating_add(frames);
        self.count <= self.allowed.saturating_add(self.spare)
    }

    fn headers_in(&mut self, mut bytes: &[u8]) -> u32 {
        let mut headers = 0;
        while let [first, rest @ ..] = bytes {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len() as u64);
                self.payload_left -= skipped;
                bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
                continue;
            }
            self.header[self.header_length] = *first;
            self.header_length += 1;
            bytes = rest;
            if let Some(payload) = payload_length(&self.header[..self.header_length]) {
                headers += 1;
                self.header_length = 0;
                self.payload_left = payload;
            }
        }
        headers
    }
}

/// The payload's length, once the header is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let extended = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    Some(match extended {
        0 => u64::from(second & 0x7F),
        _ => header[2..2 + extended]
            .iter()
            .fold(0, |length, byte| length << 8 | u64::from(*byte)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked text, a long unmasked one, an empty ping, a very long one.
    fn frames() -> Vec<u8> {
        let mut bytes = vec![0x81, 0x82, 1, 2, 3, 4, b'h', b'i'];
        bytes.extend([0x81, 126, 1, 0]);
        bytes.extend([0x88; 256]);
        bytes.extend([0x89, 0x80, 0, 0, 0, 0]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend([0; 65_536]);
        bytes
    }

    #[test]
    fn headers_are_counted_however_the_bytes_are_cut() {
        for size in [1, 2, 3, 7, 64, 1 << 20] {
            let mut rate = FrameRate::new(4, AwakeClock::never_still());
            let counted: u32 = frames()
                .chunks(size)
                .map(|chunk| rate.headers_in(chunk))
                .sum();
            assert_eq!(counted, 4, "in chunks of {size}");
        }
    }

    #[test]
    fn a_burst_is_allowed_once_and_comes_back() {
        let mut rate = FrameRate::new(3, AwakeClock::never_still()).with_burst(4);
        assert!(rate.take(7));
        assert!(!rate.take(1));
        let mut rate = FrameRate::new(3, AwakeClock::never_still()).with_burst(4);
        assert!(rate.take(7));
        rate.second -= Duration::from_secs(1);
        assert!(rate.take(3), "the rate, but no burst yet");
        assert!(!rate.take(1));
        let mut rate = FrameRate::new(3, AwakeClock::never_still()).with_burst(4);
        assert!(rate.take(7));
        rate.second -= Duration::from_secs(3);
        assert!(rate.take(7));
    }

    #[test]
    fn one_too_many_is_too_many() {
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        let mut rate = FrameRate::new(3, AwakeClock::never_still());
        assert!(rate.allow(&ping.repeat(3)));
        assert!(
            rate.allow(&ping[..5]),
            "a frame that has not begun in earnest"
        );
        assert!(!rate.allow(&ping[5..]));
    }
}
