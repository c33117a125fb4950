//! The NATS client protocol, without I/O: bytes ↔ operations.
//!
//! Written here because this is the gateway's hot path, and because anyone may publish
//! anything: one message costs one reference count and no allocation, and a publisher's
//! odd header or odd reply subject never breaks the connection.
//!
//! Source of the rules: the NATS client protocol reference, and ADR-4 for headers. A
//! line is divided as nats-server divides it: by space and tab alone.

use std::{
    fmt::{self, Write as _},
    iter::once,
};

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

/// The longest control line that we take from a server, in bytes. A fuzzer gets to a short one.
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
pub struct WireError(&'static str);

/// The header block of a message, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::bus) struct Headers(Bytes);

impl Headers {
    /// A block, as it came.
    pub(in crate::bus) fn of(block: Bytes) -> Self {
        Self(block)
    }

    /// The first value under `name`, where it is UTF-8.
    pub(in crate::bus) fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines().skip(1);
        let value = lines.find_map(|line| value(line, name))?;
        std::str::from_utf8(value).ok()
    }

    /// The last value under `name`, where it is UTF-8: what a server appended, also
    /// where a publisher has written the same name before it.
    pub(in crate::bus) fn last(&self, name: &str) -> Option<&str> {
        let (_, value) = self.last_line(name)?;
        std::str::from_utf8(value).ok()
    }

    /// What comes before the last line under `name`: what a publisher wrote, where that is the
    /// first line that a server appends. All of it if there is none.
    pub(in crate::bus) fn before(&self, name: &str) -> &[u8] {
        let begin = self.last_line(name).map(|(begin, _)| begin);
        &self.0[..begin.unwrap_or(self.0.len())]
    }

    /// Where the last line under `name` begins, and its value.
    fn last_line(&self, name: &str) -> Option<(usize, &[u8])> {
        // From the end: each line but the first comes after a line feed.
        let mut end = self.0.len();
        let mut feeds = memchr::memrchr_iter(b'\n', &self.0);
        feeds.find_map(|feed| {
            let line = &self.0[feed + 1..end];
            end = feed;
            value(line, name).map(|value| (feed + 1, value))
        })
    }

    /// The one value under `name`, in upper or lower case: some libraries write names as
    /// HTTP's customs want them. `None` if there are several.
    pub(in crate::bus) fn only(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.in_any_case(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The first value under `name`, in upper or lower case.
    pub(in crate::bus) fn any(&self, name: &str) -> Option<&[u8]> {
        self.in_any_case(name).next()
    }

    /// All of it, for telling two apart.
    pub(in crate::bus) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the first line has this word in it.
    pub(in crate::bus) fn mentions(&self, word: &str) -> bool {
        let line = self.lines().next().unwrap_or_default();
        line.windows(word.len())
            .any(|found| found == word.as_bytes())
    }

    /// The status in the first line (`NATS/1.0 503`); a header that a
    /// publisher named `Status` is not one.
    pub(in crate::bus) fn status(&self) -> Option<u16> {
        let line = self.lines().next()?;
        let status = line.strip_prefix(b"NATS/1.0 ")?.get(..3)?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }

    fn in_any_case(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.lines().skip(1).filter_map(|line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            let is_it = found.eq_ignore_ascii_case(name.as_bytes());
            is_it.then(|| value.trim_ascii())
        })
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let feeds = memchr::memchr_iter(b'\n', &self.0);
        let mut begin = 0;
        feeds.chain(once(self.0.len())).map(move |end| {
            let line = &self.0[begin..end];
            begin = end + 1;
            line.strip_suffix(b"\r").unwrap_or(line)
        })
    }
}

/// The value in a line, if it has this name.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Most lines differ here.
    if line.get(name.len()) != Some(&b':') {
        return None;
    }
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
    /// The next operation; `None` until more bytes are there.
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
        let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
        let op = match verb {
            _ if is("MSG") || is("HMSG") => {
                return self.message(line.len(), newline + 1, is("HMSG"));
            }
            _ if is("PING") => ServerOp::Ping,
            _ if is("PONG") => ServerOp::Pong,
            _ if is("+OK") => ServerOp::Ok,
            _ if is("-ERR") => {
                let text = String::from_utf8_lossy(rest);
                ServerOp::Error(text.trim_matches('\'').to_owned())
            }
            _ if is("INFO") => {
                let info = serde_json::from_slice(rest);
                ServerOp::Info(info.map_err(|_| WireError("an INFO that is not understood"))?)
            }
            _ => return Err(WireError("an unknown operation; is this a NATS server?")),
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
        // Without its length nobody knows where the message ends.
        let size = fields(&self.buffer[..line_end]).next_back();
        let size = size.and_then(number);
        let size = size.ok_or(WireError("a message without a length"))?;
        if size > MAX_MESSAGE {
            return Err(WireError("a message larger than NATS allows"));
        }
        let whole = start + size + 2;
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let bytes = self.buffer.split_to(whole).freeze();
        let content = bytes.slice(start..start + size);
        let message = message(&bytes.slice(..line_end), content, with_headers);
        Ok(Some(message.map_or(ServerOp::Nonsense, ServerOp::Message)))
    }
}

/// The message of this line; `None` if the line makes no sense.
fn message(line: &Bytes, mut content: Bytes, with_headers: bool) -> Option<ServerMessage> {
    let mut fields = fields(line).skip(1);
    let (subject, sid) = (fields.next()?, number(fields.next()?)?);
    let rest = [(); 4].map(|()| fields.next());
    let (reply, header_bytes) = match (with_headers, rest) {
        (false, [Some(_), None, ..]) => (None, 0),
        (false, [Some(reply), Some(_), None, _]) => (Some(reply), 0),
        (true, [Some(length), Some(_), None, _]) => (None, number(length)?),
        (true, [Some(reply), Some(length), Some(_), None]) => (Some(reply), number(length)?),
        _ => return None,
    };
    (header_bytes <= content.len()).then(|| ServerMessage {
        sid: sid as u64,
        subject: line.slice_ref(subject),
        reply: reply.map(|reply| line.slice_ref(reply)),
        headers: Headers(content.split_to(header_bytes)),
        payload: content,
    })
}

/// What nats-server divides a line by. Any other byte may be part of a subject.
fn divides(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn fields(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let fields = line.split(|&byte| divides(byte));
    fields.filter(|field| !field.is_empty())
}

fn number(field: &[u8]) -> Option<usize> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Writes one line for the server.
///
/// Subjects are written as they are given: callers pass only subjects that
/// are built from checked parts, or that NATS itself delivered.
pub(super) fn line(buffer: &mut BytesMut, line: fmt::Arguments<'_>) {
    buffer
        .write_fmt(line)
        .expect("a buffer takes all that is written");
    buffer.extend_from_slice(b"\r\n");
}

/// Writes a message for the server; `headers` are names and values free of line breaks.
pub(super) fn publish(
    buffer: &mut BytesMut,
    subject: &str,
    reply: Option<&str>,
    headers: &[(&str, &str)],
    payload: &[u8],
) {
    let reply = reply.unwrap_or_default();
    let length = header_length(headers.iter().copied());
    let total = length + payload.len();
    if headers.is_empty() {
        line(buffer, format_args!("PUB {subject} {reply} {total}"));
    } else {
        line(
            buffer,
            format_args!("HPUB {subject} {reply} {length} {total}"),
        );
        line(buffer, format_args!("NATS/1.0"));
        for (name, value) in headers {
            line(buffer, format_args!("{name}: {value}"));
        }
        line(buffer, format_args!(""));
    }
    buffer.extend_from_slice(payload);
    line(buffer, format_args!(""));
}

/// Writes a message with a header block of any bytes, whose last line is empty.
pub(super) fn publish_block(buffer: &mut BytesMut, subject: &str, block: &[u8], payload: &[u8]) {
    let (length, total) = (block.len(), block.len() + payload.len());
    line(buffer, format_args!("HPUB {subject} {length} {total}"));
    buffer.extend_from_slice(block);
    buffer.extend_from_slice(payload);
    line(buffer, format_args!(""));
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

/// A message as a server delivers it, for tests.
#[cfg(test)]
pub(in crate::bus) fn example_message(
    subject: &'static str,
    reply: &'static str,
    headers: &[u8],
    payload: &'static [u8],
) -> ServerMessage {
    ServerMessage {
        sid: 2,
        subject: Bytes::from_static(subject.as_bytes()),
        reply: Some(Bytes::from_static(reply.as_bytes())),
        headers: Headers(Bytes::copy_from_slice(headers)),
        payload: Bytes::from_static(payload),
    }
}

#[cfg(test)]
mod tests;
