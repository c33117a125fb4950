//! Reaching a NATS server, however long it takes.

use std::{io, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};
use url::Url;

use super::{
    link::{Link, Received, Window},
    wire::{Decoder, Info, ServerOp, WireError},
};
use crate::{
    bus::{
        Config,
        auth::AuthError,
        servers::{Servers, address},
    },
    jitter,
    tls::{FileError, Stream},
};

/// One attempt at one address, from the first packet to the first PONG.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The pause after the first round of attempts, doubled after each further one. Of each pause a
/// random half to whole is waited, so that gateways do not return in step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between rounds of attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a server could not be reached. Never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The network said no, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The attempt was not over within two seconds (`ATTEMPT`).
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    TimedOut,
    /// The server did not let us in, in its own words.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// It wants what this version cannot give, or cannot give what we want.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A TLS file is not what it should be.
    #[error("nats.tls: {0}")]
    Tls(#[from] FileError),
    /// The credentials are not what they should be.
    #[error("nats.{0}")]
    Auth(#[from] AuthError),
    /// It does not speak NATS.
    #[error("{0}")]
    Protocol(#[from] WireError),
}

/// Finds a server that answers.
#[derive(Debug, Clone)]
pub(in crate::bus) struct Dialer {
    config: Config,
    pub(in crate::bus) servers: Servers,
}

impl Dialer {
    pub(in crate::bus) fn new(config: Config, servers: Servers) -> Self {
        Self { config, servers }
    }

    /// Tries until a server answers.
    pub(in crate::bus) async fn dial(self) -> Link {
        let mut pause = FIRST_PAUSE;
        let mut warned = false;
        loop {
            for server in self.servers.all() {
                let mut failed = Vec::new();
                if let Some(link) = self.reach(&server, &mut failed).await {
                    return link;
                }
                for (address, error) in failed {
                    if warned {
                        tracing::debug!(%address, %error, "NATS cannot be reached");
                    } else {
                        tracing::warn!(%address, %error, "NATS cannot be reached; trying on");
                    }
                }
            }
            warned = true;
            sleep(jitter::fraction_of(pause, 0.5, 1.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tries each address of a server once; `failed` gets those that did not answer, and
    /// why.
    pub(in crate::bus) async fn reach(
        &self,
        server: &Url,
        failed: &mut Vec<(String, DialError)>,
    ) -> Option<Link> {
        // The brackets of an IPv6 address are the resolver's to read.
        let name = address(server);
        let addresses = match attempt(lookup_host(name.clone())).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failed.push((name, error));
                return None;
            }
        };
        for socket in addresses {
            match attempt(self.connect(server, socket)).await {
                Ok(link) => return Some(link),
                Err(error) => {
                    let resolved = socket.to_string();
                    let shown = match resolved == name {
                        true => resolved,
                        false => format!("{name} ({resolved})"),
                    };
                    failed.push((shown, error));
                }
            }
        }
        None
    }

    async fn connect(&self, server: &Url, socket: SocketAddr) -> Result<Link, DialError> {
        let mut socket = TcpStream::connect(socket).await?;
        socket.set_nodelay(true)?;
        let mut decoder = Decoder::default();
        let mut info = match first(&mut socket, &mut decoder).await? {
            ServerOp::Info(info) => *info,
            ServerOp::Error(error) => return Err(DialError::Refused(error)),
            _ => return Err(DialError::Unsupported("no INFO came first")),
        };
        let wanted = self.config.wants_tls();
        let socket = match (info.tls_required || info.tls_available, wanted) {
            (false, true) => {
                return Err(DialError::Unsupported(
                    "the server speaks no TLS, and nats.url or nats.tls asks for it",
                ));
            }
            (true, _) if wanted || info.tls_required => {
                // Bytes that came before the encryption may be anybody's.
                if !decoder.buffer.is_empty() {
                    return Err(DialError::Unsupported("it spoke on before the TLS"));
                }
                // The same holds for the servers that were named in plain text; an INFO
                // that comes by TLS names them again.
                info.connect_urls.clear();
                let connector = self.config.tls.load()?;
                let name = self.servers.tls_name(server.host_str().unwrap_or_default());
                let socket = connector.connect(&name, socket).await;
                socket.map_err(|error| {
                    io::Error::new(error.kind(), format!("TLS with {name}: {error}"))
                })?
            }
            _ => Stream::Plain(socket),
        };
        if !info.headers {
            return Err(DialError::Unsupported(
                "the server does not support headers; Usher needs 2.14.2 or later",
            ));
        }
        let login = self.login(&info, matches!(socket, Stream::Tls(_)))?;
        let mut link = Link::new(socket, decoder, info);
        link.connect(&login);
        link.ping(Window::default());
        loop {
            match link.next().await? {
                Received::Pong(_) => break,
                Received::Error(error) => return Err(DialError::Refused(error)),
                Received::Message(_) | Received::Nonsense | Received::Info(_) => {}
            }
        }
        self.servers.learn(link.info());
        Ok(link)
    }

    /// CONNECT's JSON; what it names and has not is null, which NATS takes for absent.
    fn login(&self, info: &Info, tls: bool) -> Result<Value, DialError> {
        let nonce = info.nonce.as_deref().unwrap_or_default();
        let login = self.config.auth.login(nonce.as_bytes())?;
        Ok(json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": tls,
            "name": self.config.name,
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "echo": true,
            "headers": true,
            "no_responders": true,
            "auth_token": login.token,
            "user": login.username,
            "pass": login.password,
            "jwt": login.jwt,
            "nkey": login.nkey,
            "sig": login.signature.map(|signature| URL_SAFE_NO_PAD.encode(signature)),
        }))
    }
}

/// Bounds the time of one attempt.
async fn attempt<T, E: Into<DialError>>(
    trying: impl Future<Output = Result<T, E>>,
) -> Result<T, DialError> {
    match timeout(ATTEMPT, trying).await {
        Ok(tried) => tried.map_err(Into::into),
        Err(_) => Err(DialError::TimedOut),
    }
}

async fn first(socket: &mut TcpStream, decoder: &mut Decoder) -> Result<ServerOp, DialError> {
    loop {
        if let Some(op) = decoder.next()? {
            return Ok(op);
        }
        if socket.read_buf(&mut decoder.buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
