//! Reaching a NATS server, however long it takes.

use std::{borrow::Cow, collections::BTreeSet, io, net::IpAddr, time::Duration};

use rand::seq::SliceRandom as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use url::{Host, Url};

use super::{
    Auth, Config, Credentials,
    link::Link,
    wire::{Connect, Decoder, Encoder, Info, ServerOp, WireError},
};
use crate::{
    jitter,
    tls::{FileError, Stream},
};

/// One attempt, from the first packet to the first PONG.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between rounds of attempts, doubled from the one to the other; of each a
/// random half to whole is waited, so that gateways do not return in step.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How many servers that a cluster tells us of are remembered.
const MAX_DISCOVERED: usize = 64;

/// Why a server could not be reached. Never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The network said no, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came for two seconds.
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    TimedOut,
    /// The server did not let us in, in its own words.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// It wants what this version cannot give, or cannot give what we want.
    #[error("{0}")]
    Unsupported(&'static str),
    /// What is to be shown to it is not in order.
    #[error("nats.tls: {0}")]
    Tls(#[from] FileError),
    /// The credentials are not in order.
    #[error("nats.credentials_file {0}")]
    Credentials(String),
    /// It does not speak NATS.
    #[error("{0}")]
    Protocol(String),
}

impl From<WireError> for DialError {
    fn from(error: WireError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Reaches one of the servers and says what it is, for `usher check`.
///
/// # Errors
///
/// [`DialError`] of the last server, where none can be reached.
pub async fn probe(config: &Config) -> Result<String, DialError> {
    let mut last = DialError::TimedOut;
    for server in &config.servers {
        match attempt(config, server).await {
            Ok(link) => {
                let info = link.info();
                let cluster = match &info.cluster {
                    Some(name) => format!(", cluster {name}"),
                    None => String::new(),
                };
                return Ok(format!(
                    "nats-server {} ({}{cluster})",
                    info.version, info.server_name
                ));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Knows the servers, and finds one that answers.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    config: Config,
    /// `host:port` of the servers that the cluster told us of.
    discovered: BTreeSet<String>,
}

impl Dialer {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            discovered: BTreeSet::new(),
        }
    }

    /// Remembers the servers of the cluster, for when the configured ones are
    /// away.
    pub(super) fn learn(&mut self, info: &Info) {
        // The list is whole each time; who is no longer on it is gone.
        let addresses = info.connect_urls.iter().take(MAX_DISCOVERED).cloned();
        if !info.connect_urls.is_empty() {
            self.discovered = addresses.collect();
        }
    }

    /// Tries until a server answers: the configured ones in a random order,
    /// then the discovered ones.
    pub(super) async fn dial(self) -> (Self, Link) {
        let mut pause = BACKOFF.0;
        let mut told = false;
        loop {
            for server in self.candidates() {
                match attempt(&self.config, &server).await {
                    Ok(link) => return (self, link),
                    Err(error) => {
                        let address = without_credentials(&server);
                        if told {
                            tracing::debug!(%address, %error, "NATS cannot be reached");
                        } else {
                            tracing::warn!(%address, %error, "NATS cannot be reached; trying on");
                        }
                    }
                }
            }
            told = true;
            sleep(jitter::fraction_of(pause, 0.5, 1.0)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    fn candidates(&self) -> Vec<Url> {
        let mut servers = self.config.servers.clone();
        servers.shuffle(&mut rand::rng());
        let discovered = self.discovered.iter().filter_map(|address| {
            // A discovered server takes the scheme and the credentials of the first
            // configured one.
            let first = self.config.servers.first();
            let scheme = first.map_or("nats", Url::scheme);
            let mut url = Url::parse(&format!("{scheme}://{address}")).ok()?;
            if let Some(first) = first {
                let _ = url.set_username(first.username());
                let _ = url.set_password(first.password());
            }
            Some(url)
        });
        servers.extend(discovered);
        servers
    }
}

async fn attempt(config: &Config, server: &Url) -> Result<Link, DialError> {
    timeout(ATTEMPT, connect(config, server))
        .await
        .unwrap_or(Err(DialError::TimedOut))
}

async fn connect(config: &Config, server: &Url) -> Result<Link, DialError> {
    let port = server.port().unwrap_or(4222);
    let mut socket = match server.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await?,
        Some(Host::Ipv4(ip)) => TcpStream::connect((ip, port)).await?,
        Some(Host::Ipv6(ip)) => TcpStream::connect((ip, port)).await?,
        None => return Err(DialError::Unsupported("a server's URL has no host")),
    };
    socket.set_nodelay(true)?;

    let mut decoder = Decoder::default();
    let mut info = match read(&mut socket, &mut decoder).await? {
        ServerOp::Info(info) => *info,
        ServerOp::Error(error) => return Err(DialError::Refused(error)),
        _ => return Err(DialError::Protocol("no INFO came first".into())),
    };
    let wanted = server.scheme() == "tls" || config.tls.are_given();
    let mut socket = match (info.tls_required || info.tls_available, wanted) {
        (false, true) => {
            return Err(DialError::Unsupported(
                "the server speaks no TLS, and nats.url or nats.tls asks for it",
            ));
        }
        (true, _) if wanted || info.tls_required => {
            // What came before the encryption may be anybody's.
            if !decoder.buffer.is_empty() {
                return Err(DialError::Protocol("it spoke on before the TLS".into()));
            }
            // Nor are the servers of a cluster to be believed that were named in plain
            // text: whoever is between could name his own.
            info.connect_urls.clear();
            let connector = config.tls.load()?;
            let name = tls_name(config, server);
            let socket = connector.connect(name, socket).await;
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

    let mut encoder = Encoder::default();
    let mut connect = credentials(config, server);
    connect.tls_required = matches!(socket, Stream::Tls(_));
    if let Auth::Credentials(path) = &config.auth {
        let credentials = Credentials::read(path)
            .map_err(|error| DialError::Credentials(format!("= {path:?} {error}")))?;
        connect.sig = info
            .nonce
            .as_deref()
            .and_then(|nonce| credentials.sign(nonce));
        connect.jwt = Some(credentials.jwt);
    }
    encoder.connect(&connect);
    encoder.ping();
    socket.write_all(&encoder.buffer).await?;
    socket.flush().await?;
    loop {
        match read(&mut socket, &mut decoder).await? {
            ServerOp::Pong => return Ok(Link::new(socket, decoder, info)),
            ServerOp::Ping => {
                socket.write_all(b"PONG\r\n").await?;
                socket.flush().await?;
            }
            ServerOp::Error(error) => return Err(DialError::Refused(error)),
            ServerOp::Ok | ServerOp::Info(_) | ServerOp::Message(_) => {}
        }
    }
}

/// The name that the server's certificate must bear. A cluster tells of its
/// servers by address; those are known by the name of the configured one.
fn tls_name<'a>(config: &'a Config, server: &'a Url) -> &'a str {
    // The parser knows addresses only of schemes that it knows.
    let is_address = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().is_ok()
    };
    let first = config.servers.first().filter(|first| {
        is_address(server) && !config.servers.contains(server) && !is_address(first)
    });
    first.unwrap_or(server).host_str().unwrap_or_default()
}

async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
    decoder: &mut Decoder,
) -> Result<ServerOp, DialError> {
    loop {
        if let Some(op) = decoder.next()? {
            return Ok(op);
        }
        if socket.read_buf(&mut decoder.buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn credentials<'a>(config: &'a Config, server: &'a Url) -> Connect<'a> {
    let mut connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: false,
        name: &config.name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        auth_token: None,
        user: None,
        pass: None,
        jwt: None,
        sig: None,
    };
    // As other NATS clients read a URL: a user alone is a token.
    match (server.username(), server.password(), &config.auth) {
        ("", _, Auth::Anonymous | Auth::Credentials(_)) => {}
        ("", _, Auth::Token(token)) => connect.auth_token = Some(token.expose().into()),
        ("", _, Auth::Password(user, password)) => {
            connect.user = Some(user.into());
            connect.pass = Some(password.expose().into());
        }
        (token, None, _) => connect.auth_token = Some(decoded(token)),
        (user, Some(password), _) => {
            connect.user = Some(decoded(user));
            connect.pass = Some(decoded(password));
        }
    }
    connect
}

/// A URL holds its credentials percent-encoded.
fn decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

fn without_credentials(server: &Url) -> String {
    let host = server.host_str().unwrap_or_default();
    format!("{host}:{}", server.port().unwrap_or(4222))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secret::Secret, tls::ClientFiles};

    fn config(auth: Auth) -> Config {
        Config {
            servers: Vec::new(),
            auth,
            tls: ClientFiles::default(),
            name: "test".into(),
            prefix: "usher".into(),
            settle: None,
            reply_prefix: "_INBOX.".into(),
            stream: None,
        }
    }

    #[test]
    fn credentials_of_a_url_are_decoded_and_go_first() {
        let config = config(Auth::Token(Secret::new("configured")));
        let url = Url::parse("nats://u%40x:p%40ss^@h").expect("a URL");
        let connect = credentials(&config, &url);
        assert_eq!(connect.user.as_deref(), Some("u@x"));
        assert_eq!(connect.pass.as_deref(), Some("p@ss^"));
        assert_eq!(connect.auth_token, None);
        let url = Url::parse("nats://t%2Fk@h").expect("a URL");
        assert_eq!(
            credentials(&config, &url).auth_token.as_deref(),
            Some("t/k")
        );
        let url = Url::parse("nats://h").expect("a URL");
        assert_eq!(
            credentials(&config, &url).auth_token.as_deref(),
            Some("configured")
        );
    }

    #[test]
    fn a_server_known_by_address_bears_the_configured_name() {
        let url = |text| Url::parse(text).expect("a URL");
        let mut config = config(Auth::Anonymous);
        config.servers = vec![url("tls://nats.example:4222"), url("tls://10.0.0.9:4222")];
        for (server, name) in [
            ("tls://10.0.0.2:4222", "nats.example"),
            ("tls://[2001:db8::2]:4222", "nats.example"),
            ("tls://other.example:4222", "other.example"),
            ("tls://10.0.0.9:4222", "10.0.0.9"),
        ] {
            assert_eq!(tls_name(&config, &url(server)), name);
        }
    }

    #[test]
    fn who_left_the_cluster_is_forgotten() {
        let mut dialer = Dialer::new(config(Auth::Anonymous));
        let info = |urls: &[&str]| Info {
            connect_urls: urls.iter().map(ToString::to_string).collect(),
            ..Info::default()
        };
        dialer.learn(&info(&["a:1", "b:1"]));
        dialer.learn(&info(&["b:1", "c:1"]));
        dialer.learn(&info(&[]));
        assert_eq!(dialer.discovered, ["b:1", "c:1"].map(str::to_owned).into());
    }
}
