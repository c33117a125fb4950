//! One WebSocket of a client, by hand: what a browser sends, and no more.

use std::{cell::RefCell, io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    browser::connect,
    reader::{Piece, websocket},
};

thread_local! {
    /// All sockets read into this; only what is left of a frame is kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Why there is no session.
pub(super) enum Refusal {
    /// 503, or nothing: the client comes again after this.
    Later(Duration, String),
    Other(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Other(format!("no session: {}", error.kind()))
    }
}

pub(super) struct Socket {
    stream: TcpStream,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl Socket {
    /// Connects from an address of this client's own; returns when the gateway has upgraded.
    pub(super) async fn open(
        to: SocketAddr,
        index: usize,
        ticket: &str,
        since: Option<String>,
    ) -> Result<Self, Refusal> {
        let mut stream = connect(to, index).await?;
        let since = since.map(|since| format!("&since={since}"));
        let request = format!(
            "GET /ws?ticket={ticket}{} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: usher.v1\r\n\r\n",
            since.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut heard = Vec::new();
        let end = loop {
            // Which a page hears as 1006.
            if read(&stream, &mut heard).await? == 0 {
                let wait = Duration::from_secs_f64(1.0 + rand::random::<f64>());
                return Err(Refusal::Later(wait, "cut off without an answer".to_owned()));
            }
            if let Some(at) = heard.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
        };
        if heard.starts_with(b"HTTP/1.1 101") {
            let rest = heard.split_off(end);
            return Ok(Self { stream, rest });
        }
        // Its body is JSON of this shape.
        while !heard.ends_with(b"}}") && read(&stream, &mut heard).await? > 0 {}
        Err(refusal(&heard, end))
    }

    /// Waits until something is there, and hands over the frames that are whole. Errors are how
    /// the connection ended.
    pub(super) async fn hear<T>(
        &mut self,
        mut take: impl FnMut(&mut dyn Iterator<Item = Piece<'_>>) -> Result<T, String>,
    ) -> Result<T, String> {
        let lost = |error: io::Error| format!("cut off: {}", error.kind());
        loop {
            // The first frames may have come with the upgrade.
            if websocket(&self.rest).is_some() {
                let bytes = std::mem::take(&mut self.rest);
                return self.hand(&bytes, &mut take);
            }
            self.stream.readable().await.map_err(lost)?;
            let heard = SCRATCH.with_borrow_mut(|scratch| {
                let kept = self.rest.len();
                scratch[..kept].copy_from_slice(&self.rest);
                match self.stream.try_read(&mut scratch[kept..]) {
                    Ok(0) => Err("cut off".to_owned()),
                    Ok(count) => {
                        self.rest.clear();
                        self.hand(&scratch[..kept + count], &mut take).map(Some)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(lost(error)),
                }
            })?;
            if let Some(heard) = heard {
                return Ok(heard);
            }
        }
    }

    fn hand<T>(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(&mut dyn Iterator<Item = Piece<'_>>) -> Result<T, String>,
    ) -> Result<T, String> {
        let stream = &self.stream;
        let mut pieces = std::iter::from_fn(|| {
            let (piece, used) = websocket(bytes)?;
            bytes = &bytes[used..];
            if matches!(piece, Piece::Ping) {
                // Masked with zeros; there is always room for six bytes.
                let _ = stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0]);
            }
            Some(piece)
        });
        let taken = take(&mut pieces)?;
        self.rest.extend_from_slice(bytes);
        Ok(taken)
    }
}

async fn read(stream: &TcpStream, heard: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut chunk = [0; 1024];
        match stream.try_read(&mut chunk) {
            Ok(count) => {
                heard.extend_from_slice(&chunk[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn refusal(answer: &[u8], head: usize) -> Refusal {
    let (head, body) = answer.split_at(head);
    let head = String::from_utf8_lossy(head);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = body["error"]["code"].as_str().unwrap_or("no code");
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 503") {
        return Refusal::Other(format!("answered {status}: {code}"));
    }
    let after = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let seconds = name.eq_ignore_ascii_case("retry-after").then_some(value)?;
        seconds.trim().parse().ok()
    });
    Refusal::Later(
        Duration::from_secs(after.unwrap_or(5)),
        format!("503 {code}"),
    )
}
