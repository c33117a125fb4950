//! One client that keeps the contract's rule as a browser does: what it hears of a
//! connection, and when it comes back.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::reader::{Piece, websocket};

/// A session this long shows that all is well again.
const SETTLED: Duration = Duration::from_secs(30);
/// Before `welcome` says how long is too long.
const SILENCE: Duration = Duration::from_secs(30);
/// Waits are between these; the longest of them doubles each time.
const LEAST: f64 = 1.0;
const MOST: f64 = 30.0;

/// How one connection ended.
pub(crate) struct End {
    /// In a word or two, to be counted.
    pub(crate) how: String,
    code: u16,
    pub(crate) hint: Option<Duration>,
    /// How long there was a session, if there was one.
    lasted: Option<Duration>,
}

impl End {
    /// Without a close frame, which a page hears as 1006.
    fn abnormal(how: String) -> Self {
        Self {
            how,
            code: 1006,
            hint: None,
            lasted: None,
        }
    }
}

/// The rule.
#[derive(Default)]
pub(crate) struct Rule {
    attempts: i32,
}

impl Rule {
    /// How long to wait after this end; none to stay away.
    pub(crate) fn wait(&mut self, end: &End) -> Option<Duration> {
        if matches!(
            end.code,
            4100..=4199 | 1000 | 1002 | 1005 | 1007 | 1008 | 1009
        ) {
            return None;
        }
        if end.lasted.is_some_and(|lasted| lasted >= SETTLED) {
            self.attempts = 0;
        }
        self.attempts = (self.attempts + 1).min(5);
        let longest = f64::from(1 << self.attempts).min(MOST);
        let wait = LEAST + (longest - LEAST) * rand::random::<f64>();
        Some(end.hint.unwrap_or(Duration::from_secs_f64(wait)))
    }
}

/// A connection of a browser.
pub(crate) struct Connection {
    stream: TcpStream,
    heard: Vec<u8>,
    /// Which gateway it was that said `welcome`.
    pub(crate) gateway: String,
    silence: Duration,
    since: Instant,
}

impl Connection {
    /// Opens a session; each browser comes from an address of its own.
    pub(crate) async fn open(to: SocketAddr, index: usize, ticket: &str) -> Result<Self, End> {
        Self::open_at(to, index, &format!("/ws?ticket={ticket}"), true).await
    }

    /// The same with this path, at a server that may say something else than `welcome` first.
    pub(crate) async fn open_at(
        to: SocketAddr,
        index: usize,
        path: &str,
        is_usher: bool,
    ) -> Result<Self, End> {
        timeout(SILENCE, Self::try_open(to, index, path, is_usher))
            .await
            .unwrap_or_else(|_| Err(End::abnormal("no answer".to_owned())))
    }

    async fn try_open(
        to: SocketAddr,
        index: usize,
        path: &str,
        is_usher: bool,
    ) -> Result<Self, End> {
        let lost = |error: io::Error| End::abnormal(format!("no session: {}", error.kind()));
        let stream = connect(to, index).await;
        let stream = stream.map_err(|error| End::abnormal(format!("no connection: {error}")))?;
        let mut connection = Self {
            stream,
            heard: Vec::new(),
            gateway: String::new(),
            silence: SILENCE,
            since: Instant::now(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: usher.v1\r\n\r\n"
        );
        let Self { stream, heard, .. } = &mut connection;
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        let head = loop {
            if let Some(end) = heard.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            read(stream, heard).await.map_err(lost)?;
        };
        if !heard.starts_with(b"HTTP/1.1 101") {
            // The answer may say why; whoever is in between may not.
            while read(stream, heard).await.is_ok() {}
            return Err(End::abnormal(refusal(heard, head)));
        }
        heard.drain(..head);
        match is_usher {
            true => connection.welcome().await?,
            false => drop(connection.text().await?),
        }
        Ok(connection)
    }

    async fn welcome(&mut self) -> Result<(), End> {
        match self.text().await? {
            frame if frame["welcome"].is_object() => {
                let welcome = &frame["welcome"];
                self.gateway = welcome["gateway"].as_str().unwrap_or_default().to_owned();
                let ping = welcome["ping"].as_u64().unwrap_or_default();
                self.silence = Duration::from_secs(2 * ping);
                self.since = Instant::now();
                Ok(())
            }
            _ => Err(End::abnormal("no welcome".to_owned())),
        }
    }

    /// The connection alone, and what was heard on it after the welcome.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.heard)
    }

    /// Listens until the end.
    pub(crate) async fn listen(&mut self) -> End {
        let mut hint = None;
        let mut end = loop {
            match timeout(self.silence, self.text()).await {
                Err(_) => break End::abnormal("silent".to_owned()),
                Ok(Err(end)) => break end,
                Ok(Ok(frame)) => {
                    let after = frame["goodbye"]["reconnect_after_ms"].as_u64();
                    hint = after.map(Duration::from_millis).or(hint);
                }
            }
        };
        end.hint = hint;
        end.lasted = Some(self.since.elapsed());
        end
    }

    /// The next text frame. Pings and the close are answered on the way.
    async fn text(&mut self) -> Result<Value, End> {
        let lost = |error: io::Error| End::abnormal(format!("1006: {}", error.kind()));
        loop {
            let Some((piece, used)) = websocket(&self.heard) else {
                read(&mut self.stream, &mut self.heard)
                    .await
                    .map_err(lost)?;
                continue;
            };
            let piece = match piece {
                Piece::Text(text) => Ok(serde_json::from_slice(text).unwrap_or_default()),
                Piece::Close(code) => Err(code),
                Piece::Ping => {
                    // Masked with zeros, and never beyond what a socket takes.
                    let _ = self.stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0]);
                    Ok(Value::Null)
                }
                Piece::Other => Ok(Value::Null),
            };
            self.heard.drain(..used);
            match piece {
                Ok(Value::Null) => {}
                Ok(frame) => return Ok(frame),
                Err(code) => {
                    let [high, low] = code.to_be_bytes();
                    let _ = self.stream.try_write(&[0x88, 0x82, 0, 0, 0, 0, high, low]);
                    return Err(End {
                        code,
                        ..End::abnormal(code.to_string())
                    });
                }
            }
        }
    }
}

/// A connection from an address of this client's own.
pub(crate) async fn connect(to: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [high, low] = (index as u16).to_be_bytes();
    socket.bind((Ipv4Addr::new(127, 77, high, low), 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Nothing more to read is an error, too.
async fn read(stream: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<()> {
    // Nothing is set aside for those who hear nothing, and that is most of the time.
    if heard.is_empty() {
        *heard = Vec::new();
    }
    stream.readable().await?;
    let mut chunk = [0; 512];
    let count = stream.read(&mut chunk).await?;
    heard.extend_from_slice(&chunk[..count]);
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Status and code of an answer that is no upgrade.
fn refusal(answer: &[u8], head: usize) -> String {
    let status = answer.get(9..12).unwrap_or_default();
    let body: Value = serde_json::from_slice(&answer[head..]).unwrap_or_default();
    let code = body["error"]["code"].as_str().unwrap_or("by somebody else");
    format!("{} {code}", String::from_utf8_lossy(status))
}
