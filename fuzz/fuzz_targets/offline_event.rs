//! Any header block that a publisher had stored → an event on `usher.offline.USER` with one
//! sequence, which is the stream's, with nothing that only a server may write, and within
//! NATS's limit.
//!
//! The input begins with a limit and the lengths of the block and of the payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::bus::fuzzing::{OfflineEvent, offline_event};

const SEQ: u64 = 1234;
/// The version, `Usher-Seq`, `Usher-At`, `Usher-Too-Large` and the empty line: no event has
/// less.
const LEAST: usize = 10 + 17 + 25 + 20 + 2;

fuzz_target!(|input: &[u8]| {
    let [limit, length, rest @ ..] = input else {
        return;
    };
    let limit = LEAST + 4 * usize::from(*limit);
    let (headers, payload) = rest.split_at(usize::from(*length).min(rest.len()));
    let ack = format!("$JS.ACK.USHER.usher-offline.1.{SEQ}.9.1796008850041466762.3");
    let (length, total) = (headers.len(), headers.len() + payload.len());
    let line = format!("HMSG usher.user.bob%40x 1 {ack} {length} {total}\r\n");
    let message = [line.as_bytes(), headers, payload, b"\r\n"].concat();
    let event = offline_event(&message, limit).expect("the consumer's message");
    let OfflineEvent {
        user,
        seq,
        headers: block,
        payload: sent,
    } = event;
    assert_eq!((user.as_deref(), seq), (Some("bob@x"), SEQ));
    assert!(block.len() + sent.len() <= limit);

    // Read as anyone reads it who is lenient about the ends of lines.
    let lines: Vec<_> = block.split(|byte| *byte == b'\n').collect();
    let [version, lines @ .., end, nothing] = &lines[..] else {
        panic!("no block: {block:?}");
    };
    assert_eq!(
        (*version, *end, *nothing),
        (&b"NATS/1.0\r"[..], &b"\r"[..], &b""[..])
    );
    let stripped = |line: &&[u8]| line.strip_suffix(b"\r").expect("an end").to_vec();
    let lines: Vec<_> = lines.iter().map(stripped).collect();
    assert!(
        lines
            .iter()
            .all(|line| !line.is_empty() && line[0] != b'\r')
    );
    let named = |name: &'static str| lines.iter().filter(move |line| is(line, name));
    let expected = format!("Usher-Seq: {SEQ}");
    assert_eq!(
        named("usher-seq").collect::<Vec<_>>(),
        [expected.as_bytes()]
    );
    assert_eq!(named("usher-at").count(), 1);
    let nats = |line: &&Vec<u8>| line.to_ascii_lowercase().starts_with(b"nats-");
    assert!(
        lines
            .iter()
            .filter(nats)
            .all(|line| is(line, "nats-msg-id"))
    );
    match named("usher-too-large").count() {
        0 => assert_eq!(sent, payload),
        1 => assert!(sent.is_empty()),
        more => panic!("{more} times too large"),
    }

    // Nothing is added, and nothing changes its place.
    let ours = 2 + named("usher-too-large").count();
    let mut stored = headers.split(|byte| *byte == b'\n');
    let first = lines.get(ours).map_or(b'A', |line| line[0]);
    assert!(
        !first.is_ascii_whitespace(),
        "it goes on with ours: {block:?}"
    );
    for line in &lines[ours..] {
        let same = |stored: &[u8]| stored.starts_with(line);
        assert!(stored.any(same), "{:?}", String::from_utf8_lossy(line));
    }
});

/// Whether a line has this header's name. One that begins with a blank goes on with the header
/// before it.
fn is(line: &[u8], name: &str) -> bool {
    if line[0].is_ascii_whitespace() {
        return false;
    }
    let found = line.split(|byte| *byte == b':').next().unwrap_or(line);
    found.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}
