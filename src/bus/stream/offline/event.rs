//! A message of the consumer, and the event that is made of it.

use bytes::Bytes;

use crate::{
    bus::interest::{Headers, ServerMessage},
    user::{UserId, from_subject_token},
};

/// Stands in an event whose message left no room for the headers that are added.
const TOO_LARGE: &[u8] = b"Usher-Too-Large: 1\r\n";

/// A message as the consumer delivers it. Where it is comes in its reply subject, which the
/// server writes: no publisher can forge that.
#[derive(Debug, Clone)]
pub(in crate::bus) struct Delivery {
    /// The token of its subject that stands for the user.
    pub(super) token: String,
    pub(super) seq: u64,
    /// When the stream stored it, in milliseconds since 1970.
    at: u64,
    /// Where it is acknowledged.
    pub(super) ack: String,
    message: ServerMessage,
}

impl Delivery {
    /// Reads a message; `users` is what all users' subjects begin with. `None` if it is none
    /// of the consumer's.
    pub(super) fn read(message: ServerMessage, users: &str) -> Option<Self> {
        let subject = std::str::from_utf8(&message.subject).ok();
        // Of a subject that is no text, as of one that is no user's, nobody gets a message.
        let token = subject.and_then(|subject| subject.strip_prefix(users));
        let token = token.unwrap_or_default().to_owned();
        let ack = std::str::from_utf8(message.reply.as_ref()?)
            .ok()?
            .to_owned();
        let (seq, at) = place(&ack)?;
        Some(Self {
            token,
            seq,
            at,
            ack,
            message,
        })
    }

    /// Whose message it is; `None` if its subject stands for no user.
    pub(super) fn user(&self) -> Option<UserId> {
        let id = from_subject_token(&self.token)?;
        UserId::parse(&id).ok()
    }

    pub(super) fn headers(&self) -> &Headers {
        &self.message.headers
    }

    /// The event's header block and payload, of at most `limit` bytes together.
    pub(in crate::bus) fn event(&self, limit: usize) -> (Vec<u8>, Bytes) {
        let ours = format!("Usher-Seq: {}\r\nUsher-At: {}\r\n", self.seq, self.at);
        let payload = self.message.payload.clone();
        let theirs = kept(&self.message.headers);
        let headers = block(&[ours.as_bytes(), &theirs]);
        if headers.len() + payload.len() <= limit {
            return (headers, payload);
        }
        let headers = block(&[ours.as_bytes(), TOO_LARGE, &theirs]);
        match headers.len() <= limit {
            true => (headers, Bytes::new()),
            false => (block(&[ours.as_bytes(), TOO_LARGE]), Bytes::new()),
        }
    }
}

/// The sequence and the time in `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQ.CSEQ.TIME.PENDING`, or
/// with `DOMAIN.ACCOUNT` after `ACK` (NATS's ADR-15).
fn place(ack: &str) -> Option<(u64, u64)> {
    let tokens: Vec<_> = ack.split('.').collect();
    let tokens = match tokens.len() {
        9 => &tokens[2..],
        11.. => &tokens[4..],
        _ => return None,
    };
    let number = |index: usize| tokens.get(index)?.parse::<u64>().ok();
    ack.starts_with("$JS.ACK.")
        .then(|| Some((number(3)?, number(5)? / 1_000_000)))?
}

fn block(lines: &[&[u8]]) -> Vec<u8> {
    [b"NATS/1.0\r\n", &lines.concat()[..], b"\r\n"].concat()
}

/// A stored message's headers, as they are, but for those that only the server or a gateway
/// may write. Whoever reads a header block stops at its first empty line, so what stands
/// behind that was no header and becomes none.
fn kept(headers: &Headers) -> Vec<u8> {
    let mut lines = Vec::new();
    // A first line that begins with a blank would go on with a header of ours.
    let mut keeps = false;
    for line in headers.as_bytes().split(|&byte| byte == b'\n').skip(1) {
        let line = without_ends(line);
        if line.is_empty() {
            break;
        }
        // A line that begins with a blank goes on with the one before it.
        if !line[0].is_ascii_whitespace() {
            keeps = !is_ours(line);
        }
        if keeps {
            lines.extend_from_slice(line);
            lines.extend_from_slice(b"\r\n");
        }
    }
    lines
}

fn without_ends(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    line
}

fn is_ours(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or(line);
    let name = name.trim_ascii().to_ascii_lowercase();
    let usher = [&b"usher-seq"[..], b"usher-at", b"usher-too-large"];
    usher.contains(&&name[..]) || (name.starts_with(b"nats-") && name != b"nats-msg-id")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bus::interest::example_message;

    const PARTS: [&[u8]; 9] = [
        b" ",
        b"a",
        b":",
        b"\r",
        b"\n",
        b"\r\n",
        b"\xff",
        b"nats-a:",
        b"Usher-Seq: 9",
    ];
    const ACK: &str = "$JS.ACK.USHER.usher-offline.1.7.5.1796008850041466762.2";

    fn delivery(headers: &[u8], payload: &'static [u8]) -> Delivery {
        let message = example_message("usher.user.bob%40x", ACK, headers, payload);
        Delivery::read(message, "usher.user.").expect("a delivery")
    }

    #[test]
    fn where_a_message_is_comes_from_the_server() {
        assert_eq!(place(ACK), Some((7, 1_796_008_850_041)));
        let long = "$JS.ACK.hub.ABC.USHER.usher-offline.1.7.5.1796008850041466762.2.x9";
        assert_eq!(place(long), place(ACK));
        for odd in ["", "_INBOX.1", "$JS.ACK.a.b.c.d.e.f.g", "X.Y.S.C.1.7.5.9.2"] {
            assert_eq!(place(odd), None, "{odd}");
        }
        let one = delivery(b"", b"");
        assert_eq!(one.user().expect("a user").as_str(), "bob@x");
    }

    #[test]
    fn an_event_repeats_the_headers_but_those_of_nats() {
        let stored =
            b"NATS/1.0 404 No\r\n 9\r\nEvent: a\r\nNats-Msg-Id: 5\r\nNats-TTL: 1h\r\n more\r\n\
            no colon\r\nA: \xff\nusher-seq : 9\r\nnats-Sequence: 3\r\nB: c\r\n\r\nD: e\r\n\r\n";
        let (headers, payload) = delivery(stored, b"hi").event(1000);
        let expected = b"NATS/1.0\r\nUsher-Seq: 7\r\nUsher-At: 1796008850041\r\nEvent: a\r\n\
            Nats-Msg-Id: 5\r\nno colon\r\nA: \xff\r\nB: c\r\n\r\n";
        assert_eq!(headers, expected, "{}", String::from_utf8_lossy(&headers));
        assert_eq!(&payload[..], b"hi");
    }

    #[test]
    fn an_event_that_is_too_large_has_no_payload() {
        let one = delivery(b"NATS/1.0\r\nEvent: a\r\n\r\n", &[b'x'; 50]);
        let whole = one.event(1000).0.len() + 50;
        assert_eq!(one.event(whole).1.len(), 50);
        let (headers, payload) = one.event(whole - 1);
        let headers = String::from_utf8(headers).expect("text");
        assert!(
            headers.contains("Usher-Too-Large: 1\r\nEvent: a\r\n"),
            "{headers}"
        );
        assert!(payload.is_empty());
        let (headers, _) = one.event(70);
        assert!(!String::from_utf8_lossy(&headers).contains("Event"));
    }

    proptest! {
        /// Whatever was stored, a reader finds one sequence, which is the stream's, and
        /// nothing that only a server may write.
        #[test]
        fn no_header_forges_an_event(
            parts in proptest::collection::vec(0..PARTS.len(), 0..40),
        ) {
            let parts: Vec<_> = parts.into_iter().map(|part| PARTS[part]).collect();
            let stored = [b"NATS/1.0\r\n", &parts.concat()[..], b"\r\n\r\n"].concat();
            let (block, _) = delivery(&stored, b"").event(100_000);
            prop_assert!(block.starts_with(b"NATS/1.0\r\n") && block.ends_with(b"\r\n\r\n"));
            let text = String::from_utf8_lossy(&block).to_lowercase();
            let ends = text.find("\r\n\r\n").expect("an end");
            prop_assert_eq!(ends + 4, text.len());
            let lines: Vec<_> = text.split('\n').collect();
            let of = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
            prop_assert_eq!((of("usher-seq"), of("nats-")), (1, 0));
        }
    }
}
