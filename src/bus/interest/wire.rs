//! The NATS client protocol, without I/O: bytes ↔ operations.
//!
//! Written here because this is the gateway's hot path, and because anyone may publish
//! anything: one message costs one reference count and no allocation, and a publisher's
//! odd header or odd reply subject never breaks the connection.
//!
//! Source of the rules: the NATS client protocol reference, and ADR-4 for headers. A
//! line is divided as nats-server divides it: by space and tab alone.

use std::fmt::Write as _;

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use crate::bus::auth::Login;

/// Longest control line that we take from a server. A fuzzer gets to a short one.
const MAX_LINE: usize = if cfg!(fuzzing) { 256 } else { 128 * 1024 };
/// Largest message that we take from a server. Its own `max_payload` is at
/// most 64 MiB; a stream's republish adds headers to a message of full size.
const MAX_MESSAGE: usize = if cfg!(fuzzing) {
    1024
} else {
    65 * 1024 * 1024
};

/// What a server says.
#[derive(Debug, PartialEq)]
pub(in crate::bus) enum ServerOp {
    Info(Box<Info>),
    Message(ServerMessage),
    /// A message whose line makes no sense, and which has a length: it is skipped.
    Nonsense,
    Ping,
    Pong,
    Ok,
    /// The text of an `-ERR`, without its quotes.
    Error(String),
}

/// A delivered message; the parts share one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) struct ServerMessage {
    pub(in crate::bus) sid: u64,
    pub(in crate::bus) subject: Bytes,
    pub(in crate::bus) reply: Option<Bytes>,
    pub(in crate::bus) headers: Headers,
    pub(in crate::bus) payload: Bytes,
}

/// What of a server's INFO matters to us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(in crate::bus) struct Info {
    pub(in crate::bus) server_name: String,
    pub(in crate::bus) version: String,
    pub(in crate::bus) max_payload: usize,
    pub(in crate::bus) headers: bool,
    pub(in crate::bus) tls_required: bool,
    pub(in crate::bus) tls_available: bool,
    /// It retires (lame duck mode): it takes no more connections, and will close
    /// this one.
    pub(in crate::bus) ldm: bool,
    /// To be signed by a client that has a key.
    pub(in crate::bus) nonce: Option<String>,
    /// Named where the server is part of a cluster.
    pub(in crate::bus) cluster: Option<String>,
    /// `host:port` of the cluster's other servers.
    pub(in crate::bus) connect_urls: Vec<String>,
}

/// The server said something that is not the protocol.
#[derive(Debug, thiserror::Error)]
#[error("the NATS server sent {0}")]
pub(in crate::bus) struct WireError(&'static str);

/// The header block of a message, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::bus) struct Headers(Bytes);

impl Headers {
    /// The first value under `name`, where it is UTF-8.
    pub(in crate::bus) fn get(&self, name: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let value = self.lines().skip(1).find_map(|line| value_of(line, name))?;
        std::str::from_utf8(value).ok()
    }

    /// The last value under `name`, where it is UTF-8: what a server appended, also
    /// where a publisher has written the same name before it.
    pub(in crate::bus) fn last(&self, name: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let values = self.lines().skip(1);
        let value = values.filter_map(|line| value_of(line, name)).last()?;
        std::str::from_utf8(value).ok()
    }

    /// All of it, for telling two apart.
    pub(in crate::bus) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The status in the first line (`NATS/1.0 503`); a header that a
    /// publisher named `Status` is not one.
    pub(in crate::bus) fn status(&self) -> Option<u16> {
        let line = self.lines().next()?;
        let status = line.strip_prefix(b"NATS/1.0 ")?.get(..3)?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// The value of a header's line, where it is of this name.
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
    Some(value.trim_ascii())
}

/// Cuts a server's bytes into operations, however they arrive.
#[derive(Debug, Default)]
pub(in crate::bus) struct Decoder {
    /// Fill this from the socket.
    pub(in crate::bus) buffer: BytesMut,
}

impl Decoder {
    /// The next operation, or none until more bytes are there.
    ///
    /// # Errors
    ///
    /// [`WireError`]; the connection is then of no use.
    pub(in crate::bus) fn next(&mut self) -> Result<Option<ServerOp>, WireError> {
        // A line that is too long is so however much of it has come.
        let mut line = self.buffer.iter().take(MAX_LINE);
        let Some(newline) = line.position(|&byte| byte == b'\n') else {
            return match self.buffer.len() {
                0..MAX_LINE => Ok(None),
                _ => Err(WireError("a line that never ends")),
            };
        };
        let line = &self.buffer[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (verb, rest) = match line.iter().position(|&byte| divides(byte)) {
            Some(space) => (&line[..space], line[space..].trim_ascii()),
            None => (line, &[][..]),
        };
        let op = if verb.eq_ignore_ascii_case(b"MSG") {
            return self.message(line.len(), newline + 1, false);
        } else if verb.eq_ignore_ascii_case(b"HMSG") {
            return self.message(line.len(), newline + 1, true);
        } else if verb.eq_ignore_ascii_case(b"PING") {
            ServerOp::Ping
        } else if verb.eq_ignore_ascii_case(b"PONG") {
            ServerOp::Pong
        } else if verb.eq_ignore_ascii_case(b"+OK") {
            ServerOp::Ok
        } else if verb.eq_ignore_ascii_case(b"-ERR") {
            let text = String::from_utf8_lossy(rest);
            ServerOp::Error(text.trim_matches('\'').to_owned())
        } else if verb.eq_ignore_ascii_case(b"INFO") {
            let info = serde_json::from_slice(rest)
                .map_err(|_| WireError("an INFO that is not understood"))?;
            ServerOp::Info(Box::new(info))
        } else {
            return Err(WireError("an unknown operation; is this a NATS server?"));
        };
        self.buffer.advance(newline + 1);
        Ok(Some(op))
    }

    /// `MSG subject sid [reply] total` or
    /// `HMSG subject sid [reply] header-bytes total`, then the bytes, from `start`.
    fn message(
        &mut self,
        line_end: usize,
        start: usize,
        with_headers: bool,
    ) -> Result<Option<ServerOp>, WireError> {
        let line = &self.buffer[..line_end];
        let (fields, count) = split(line);
        let size = count.checked_sub(1).and_then(|last| fields.get(last));
        // Without its length nobody knows where the message ends.
        let total = size.and_then(|&size| number(line, size));
        let total = total.ok_or(WireError("a message without a length"))?;
        if total > MAX_MESSAGE {
            return Err(WireError("a message larger than NATS allows"));
        }
        let head = head(line, &fields[..count], total, with_headers);
        let whole = start + total + 2;
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let bytes = self.buffer.split_to(whole).freeze();
        let Some((sid, reply, header_bytes)) = head else {
            return Ok(Some(ServerOp::Nonsense));
        };
        let part = |(start, end): Range| bytes.slice(start..end);
        Ok(Some(ServerOp::Message(ServerMessage {
            sid,
            subject: part(fields[1]),
            reply: reply.map(part),
            headers: Headers(part((start, start + header_bytes))),
            payload: part((start + header_bytes, start + total)),
        })))
    }
}

/// Where a field of a line begins and ends.
type Range = (usize, usize);

/// The subscription, the reply subject and the length of the headers; none where the
/// line of a message makes no sense.
fn head(
    line: &[u8],
    fields: &[Range],
    total: usize,
    with_headers: bool,
) -> Option<(u64, Option<Range>, usize)> {
    let sizes = if with_headers { 2 } else { 1 };
    let reply = match fields.len().checked_sub(3 + sizes)? {
        0 => None,
        1 => Some(fields[3]),
        _ => return None,
    };
    let header_bytes = match with_headers {
        true => number(line, fields[fields.len() - 2])?,
        false => 0,
    };
    let sid = number(line, fields[2])? as u64;
    (header_bytes <= total).then_some((sid, reply, header_bytes))
}

/// What nats-server divides a line by. Any other byte may be part of a subject.
fn divides(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The fields of a line, and how many there are; the last place holds the last field
/// where there are too many.
fn split(line: &[u8]) -> ([Range; 7], usize) {
    let mut fields = [(0, 0); 7];
    let mut count = 0;
    let mut at = 0;
    while at < line.len() {
        if divides(line[at]) {
            at += 1;
            continue;
        }
        let length = line[at..].iter().position(|&byte| divides(byte));
        let end = length.map_or(line.len(), |length| at + length);
        fields[count.min(6)] = (at, end);
        count = (count + 1).min(7);
        at = end;
    }
    (fields, count)
}

fn number(line: &[u8], (start, end): Range) -> Option<usize> {
    std::str::from_utf8(&line[start..end]).ok()?.parse().ok()
}

/// What a client says first. Its `Debug` is absent: it carries secrets.
#[derive(serde::Serialize)]
pub(in crate::bus) struct Connect<'a> {
    pub(in crate::bus) verbose: bool,
    pub(in crate::bus) pedantic: bool,
    pub(in crate::bus) tls_required: bool,
    pub(in crate::bus) name: &'a str,
    pub(in crate::bus) lang: &'a str,
    pub(in crate::bus) version: &'a str,
    pub(in crate::bus) protocol: u8,
    pub(in crate::bus) echo: bool,
    pub(in crate::bus) headers: bool,
    pub(in crate::bus) no_responders: bool,
    #[serde(flatten)]
    pub(in crate::bus) login: Login,
}

/// Operations on their way to the server.
///
/// Subjects are written as they are given: callers pass only subjects that
/// are built from checked parts, or that NATS itself delivered.
#[derive(Debug, Default)]
pub(in crate::bus) struct Encoder {
    /// Empty this into the socket.
    pub(in crate::bus) buffer: BytesMut,
}

impl Encoder {
    pub(in crate::bus) fn connect(&mut self, connect: &Connect<'_>) {
        let json = serde_json::to_string(connect).expect("such a value is always JSON");
        self.line(format_args!("CONNECT {json}"));
    }

    pub(in crate::bus) fn subscribe(&mut self, sid: u64, subject: &str) {
        self.line(format_args!("SUB {subject} {sid}"));
    }

    pub(in crate::bus) fn unsubscribe(&mut self, sid: u64) {
        self.line(format_args!("UNSUB {sid}"));
    }

    pub(in crate::bus) fn ping(&mut self) {
        self.buffer.extend_from_slice(b"PING\r\n");
    }

    pub(in crate::bus) fn pong(&mut self) {
        self.buffer.extend_from_slice(b"PONG\r\n");
    }

    /// Publishes; `headers` are names and values free of line breaks.
    pub(in crate::bus) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) {
        let reply = reply.unwrap_or_default();
        let length = header_length(headers.iter().copied());
        let total = length + payload.len();
        if headers.is_empty() {
            self.line(format_args!("PUB {subject} {reply} {total}"));
        } else {
            self.line(format_args!("HPUB {subject} {reply} {length} {total}"));
            self.line(format_args!("NATS/1.0"));
            for (name, value) in headers {
                self.line(format_args!("{name}: {value}"));
            }
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.buffer.extend_from_slice(payload);
        self.buffer.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.buffer
            .write_fmt(line)
            .expect("a buffer takes all that is written");
        self.buffer.extend_from_slice(b"\r\n");
    }
}

/// The size of a header block, which counts against `max_payload`.
pub(in crate::bus) fn header_length<'a>(
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> usize {
    let lines = headers.map(|(name, value)| name.len() + 2 + value.len() + 2);
    match lines.sum::<usize>() {
        0 => 0,
        lines => "NATS/1.0\r\n".len() + lines + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<ServerOp> {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(bytes);
        std::iter::from_fn(|| decoder.next().expect("the protocol")).collect()
    }

    fn message(bytes: &[u8]) -> ServerMessage {
        match decode(bytes).pop() {
            Some(ServerOp::Message(message)) => message,
            other => panic!("not a message: {other:?}"),
        }
    }

    #[test]
    fn control_lines() {
        let ops = decode(b"PING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\nping\r\n");
        assert_eq!(
            ops,
            [
                ServerOp::Ping,
                ServerOp::Pong,
                ServerOp::Ok,
                ServerOp::Error("Slow Consumer".into()),
                ServerOp::Ping
            ]
        );
    }

    #[test]
    fn an_info_of_a_cluster_with_host_names() {
        let ops = decode(
            b"INFO {\"server_name\":\"a\",\"version\":\"2.15.1\",\"host\":\"nats.local\",\
              \"max_payload\":1048576,\"headers\":true,\"cluster\":\"c\",\
              \"connect_urls\":[\"127.0.0.1:4223\",\"[::1]:4224\"],\"future\":{}}\r\n",
        );
        let [ServerOp::Info(info)] = &ops[..] else {
            panic!("{ops:?}")
        };
        assert_eq!(info.cluster.as_deref(), Some("c"));
        assert_eq!(info.connect_urls, ["127.0.0.1:4223", "[::1]:4224"]);
    }

    #[test]
    fn messages_with_and_without_reply_and_headers() {
        let plain = message(b"MSG a.b 7 5\r\nhello\r\n");
        assert_eq!(
            (plain.sid, &plain.payload[..], plain.reply),
            (7, &b"hello"[..], None)
        );
        let asked = message(b"MSG a.b 7 _INBOX.x 0\r\n\r\n");
        assert_eq!(asked.reply.as_deref(), Some(&b"_INBOX.x"[..]));
        let full = message(b"HMSG a.b 7 r 24 29\r\nNATS/1.0\r\nEvent: o.c\r\n\r\nhello\r\n");
        assert_eq!(full.headers.get("Event"), Some("o.c"));
        assert_eq!(full.headers.get("event"), None);
        assert_eq!(&full.payload[..], b"hello");
    }

    #[test]
    fn of_a_forged_header_the_servers_own_counts() {
        let twice = message(
            b"HMSG a 1 56 56\r\nNATS/1.0\r\nNats-Sequence: 999\r\nX: 1\r\nNats-Sequence: 7\r\n\r\n\r\n",
        );
        assert_eq!(twice.headers.last("Nats-Sequence"), Some("7"));
        assert_eq!(twice.headers.last("Nats-Last-Sequence"), None);
        assert_eq!(Headers::default().last("X"), None);
    }

    #[test]
    fn a_status_is_read_from_the_first_line_only() {
        let gone = message(b"HMSG i 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        assert_eq!(gone.headers.status(), Some(503));
        let forged = message(b"HMSG i 1 25 25\r\nNATS/1.0\r\nStatus: 503\r\n\r\n\r\n");
        assert_eq!(forged.headers.status(), None);
        assert_eq!(Headers::default().status(), None);
    }

    #[test]
    fn odd_headers_do_no_harm() {
        let odd = message(
            b"HMSG a 1 37 38\r\nNATS/1.0\r\nno colon\r\n\xff: \xfe\r\nEvent:x\r\n\r\n!\r\n",
        );
        assert_eq!(odd.headers.get("Event"), Some("x"));
        assert_eq!(odd.headers.get("\u{fffd}"), None);
        assert_eq!(&odd.payload[..], b"!");
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"MSG a\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 99999999999\r\n",
            b"INFO {\r\n",
        ] {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(bad);
            assert!(decoder.next().is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    /// nats-server passes on such bytes in a reply subject; one publish must not cut the
    /// connection of every gateway that holds the user.
    #[test]
    fn only_space_and_tab_divide_a_line() {
        for byte in [b'\x0b', b'\x0c', b'\r', b'\x1c', 0, 0x85] {
            let reply = [b"_INBOX.a", &[byte][..], b"b"].concat();
            let line = [b"MSG a 1\t", &reply[..], b" 1\r\nx\r\n"].concat();
            let message = message(&line);
            assert_eq!(message.reply.as_deref(), Some(&reply[..]));
            assert_eq!(&message.payload[..], b"x");
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_is_skipped_by_its_length() {
        for bad in [
            &b"MSG a one 2\r\nhi\r\n"[..],
            b"MSG 2\r\nhi\r\n",
            b"MSG a 1 2 3 4 5 6 2\r\nhi\r\n",
            b"HMSG a 1 9 2\r\nhi\r\n",
            b"HMSG a 1 x 2\r\nhi\r\n",
        ] {
            let ops = decode(&[bad, b"PING\r\n"].concat());
            assert_eq!(ops, [ServerOp::Nonsense, ServerOp::Ping], "{bad:?}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_so_in_one_piece_too() {
        let line = |length: usize| format!("PING{}\n", " ".repeat(length - 5));
        for (length, good) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(line(length).as_bytes());
            assert_eq!(decoder.next().is_ok(), good, "{length}");
        }
    }

    #[test]
    fn publishing_counts_its_headers() {
        let mut encoder = Encoder::default();
        encoder.publish("a", None, &[], b"hi");
        encoder.publish("a", Some("r"), &[("Event", "o.c")], b"hi");
        assert_eq!(
            &encoder.buffer[..],
            &b"PUB a  2\r\nhi\r\nHPUB a r 24 26\r\nNATS/1.0\r\nEvent: o.c\r\n\r\nhi\r\n"[..]
        );
    }

    proptest::proptest! {
        /// However the bytes are cut, the same operations come out.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..40)) {
            let bytes = b"PING\r\nMSG a.b 1 6\r\n\r\nPING\r\nHMSG a 2 r 24 26\r\n\
                NATS/1.0\r\nEvent: o.c\r\n\r\nhi\r\n-ERR 'x'\r\nMSG a 1 0\r\n\r\nPONG\r\n";
            let mut decoder = Decoder::default();
            let mut ops = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().chain([bytes.len()]) {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                rest = tail;
                decoder.buffer.extend_from_slice(chunk);
                while let Some(op) = decoder.next().expect("the protocol") {
                    ops.push(op);
                }
            }
            proptest::prop_assert_eq!(ops, decode(bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
