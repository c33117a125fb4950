//! Any header block that a publisher had stored → in a reply to a direct get it is the message
//! of the sequence that the server appends, whatever status or sequence the block claims.
//!
//! The server takes the last two bytes of the block for its end, and appends its own lines.

#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::bus::fuzzing::stored;

/// Under the fuzzer.
const LARGEST_MESSAGE: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let [seq, block @ ..] = input else { return };
    let seq = u64::from(*seq) + 1;
    let block = &block[..block.len().min(LARGEST_MESSAGE - 256)];
    let kept = &block[..block.len().saturating_sub(2)];
    let appended = format!(
        "Nats-Stream: USHER\r\nNats-Subject: usher.user.42\r\nNats-Sequence: {seq}\r\n\
         Nats-Time-Stamp: 2026-11-24T18:19:55Z\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 0\r\n\r\n"
    );
    let length = kept.len() + appended.len();
    let line = format!("HMSG _INBOX.x.1 1 {length} {length}\r\n");
    let reply = [line.as_bytes(), kept, appended.as_bytes(), b"\r\n"].concat();
    assert_eq!(stored(&reply), Some(Some(seq)));
});
