//! Whatever a NATS server sends, in whatever pieces.
//!
//! The input begins with the sizes of the pieces; see `cuts`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::bus::fuzzing::read;
use usher_fuzz::cuts;

/// The longest line and the largest message under the fuzzer, with room to
/// spare for the line of a message.
const LARGEST: usize = 2 * 1024;

fuzz_target!(|input: &[u8]| {
    let (sizes, bytes) = cuts::sizes(input);
    let whole = read(&[bytes]);
    let pieces = cuts::pieces(sizes, bytes);
    let longest = pieces.iter().map(|piece| piece.len()).max();
    let cut = read(&pieces);
    assert_eq!(cut.ops, whole.ops);
    assert_eq!(cut.broken, whole.broken);
    assert!(cut.waiting <= LARGEST + longest.unwrap_or_default());
});
