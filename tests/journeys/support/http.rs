//! HTTP/1.1 by hand, so that a test can send what no HTTP library would.

use std::fmt;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{secrets, wait::patiently};

/// An answer.
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// In the order of their arrival, names as they were sent.
    pub(crate) headers: Vec<(String, String)>,
    /// The whole body, or nothing after a 101.
    pub(crate) body: Vec<u8>,
}

/// Asks for `path`, and reads the answer.
pub(crate) async fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    request("GET", address, path, headers).await
}

/// Sends a request that has no body.
pub(crate) async fn request(
    method: &str,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    raw(address, head(method, address, path, headers).as_bytes()).await
}

/// Sends these bytes, and reads one answer.
pub(crate) async fn raw(address: &str, bytes: &[u8]) -> Response {
    patiently(&format!("an answer from {address}"), async {
        let mut stream = TcpStream::connect(address)
            .await
            .expect("the listener takes connections");
        stream.write_all(bytes).await.expect("a request is taken");
        read(&mut stream, &mut Vec::new()).await
    })
    .await
}

/// The lines of a request, with a Host unless the headers bring one.
pub(crate) fn head(method: &str, address: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Reads one answer; what comes after it stays in `buffer`.
///
/// # Panics
///
/// Where the connection ends too soon, it is not HTTP, or a ticket is in it.
pub(crate) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Response {
    let mut response = read_head(stream, buffer).await;
    read_body(&mut response, stream, buffer).await;
    response
}

/// Reads an answer as far as its headers go.
pub(crate) async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Response {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        assert!(
            more(stream, buffer).await,
            "the connection ended before an answer: {}",
            text(buffer)
        );
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    secrets::assert_none_in("an answer's head", &head);
    parse_head(&text(&head))
}

/// Reads the rest of an answer.
pub(crate) async fn read_body(
    response: &mut Response,
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) {
    let is_chunked = response
        .header("transfer-encoding")
        .is_some_and(|v| v.contains("chunked"));
    response.body = if matches!(response.status, 101 | 204 | 304) {
        Vec::new()
    } else if is_chunked {
        read_chunks(stream, buffer).await
    } else if let Some(length) = response.header("content-length") {
        read_exactly(stream, buffer, length.parse().expect("a length")).await
    } else {
        while more(stream, buffer).await {}
        std::mem::take(buffer)
    };
    secrets::assert_none_in("an answer's body", &response.body);
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    stream.read_buf(buffer).await.is_ok_and(|length| length > 0)
}

async fn read_exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Vec<u8> {
    while buffer.len() < length {
        assert!(
            more(stream, buffer).await,
            "an answer's body was cut short: {}",
            text(buffer)
        );
    }
    buffer.drain(..length).collect()
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = find(buffer, b"\r\n") {
                break end;
            }
            assert!(
                more(stream, buffer).await,
                "an answer's body was cut short: {}",
                text(buffer)
            );
        };
        let line: Vec<u8> = buffer.drain(..end + 2).collect();
        let size = text(&line);
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        let chunk = read_exactly(stream, buffer, size + 2).await;
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn parse_head(head: &str) -> Response {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("not an HTTP/1.1 answer: {head}"));
    let headers = lines
        .map(|line| {
            line.split_once(':')
                .unwrap_or_else(|| panic!("not a header: {line}"))
        })
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Response {
        status,
        headers,
        body: Vec::new(),
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Response {
    /// The first header of that name, in whatever case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is the refusal with that status and code, in all that
    /// the contract says of it: its form, and its headers.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let error = &self.json()["error"];
        assert_eq!(error["code"], code, "{self:?}");
        let says_something = error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty());
        assert!(says_something, "{self:?}");
        assert_eq!(
            self.json().as_object().map(|o| o.len()),
            Some(1),
            "{self:?}"
        );
        let is_json = self
            .header("content-type")
            .is_some_and(|v| v.starts_with("application/json"));
        assert!(is_json, "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let is = |name, value| assert_eq!(self.header(name), value, "{name} of {self:?}");
        match status {
            401 if code.starts_with("token") => is("www-authenticate", Some("Bearer")),
            401 => is("www-authenticate", Some("Usher-Ticket")),
            405 => assert!(self.header("allow").is_some(), "{self:?}"),
            426 => {
                let upgrades = self.header("connection").map(str::to_ascii_lowercase);
                assert!(
                    upgrades.is_some_and(|value| value.contains("upgrade")),
                    "{self:?}"
                );
                is("upgrade", Some("websocket"));
                is("sec-websocket-version", Some("13"));
            }
            429 | 503 => {
                let seconds = self
                    .header("retry-after")
                    .and_then(|value| value.parse().ok());
                assert!(
                    seconds.is_some_and(|s: u64| (1..=5).contains(&s)),
                    "{self:?}"
                );
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.text())
    }
}
