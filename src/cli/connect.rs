//! Where the gateway is: the same configuration, then flags; the later wins.

mod grpc_address;

use std::{fmt, fs, io, net::SocketAddr, path::PathBuf};

use clap::Args;
use tokio::net::TcpStream;
use url::Url;

pub(super) use self::grpc_address::GrpcAddress;
use super::{ConfigFile, api::Api, failure::Failure};
use crate::{
    config::Config,
    secret::Secret,
    tickets::Ticket,
    tls::{ClientFiles, Connector, Identity, Stream, Which},
};

/// How commands are told of the gateway that they speak to.
#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    file: ConfigFile,
    /// Where it serves gRPC; otherwise `grpc.listen`. With TLS as `grpc.tls` says, or
    /// https:// or http://.
    #[arg(long, value_name = "HOST:PORT", value_parser = GrpcAddress::parse, help_heading = HEADING)]
    grpc: Option<GrpcAddress>,
    /// Where browsers reach it, such as http://127.0.0.1:8080; otherwise
    /// `public.listen`.
    // Its path, if it has one, stands for `public.path_prefix`.
    #[arg(long, value_name = "URL", value_parser = PublicUrl::parse, help_heading = HEADING)]
    public: Option<PublicUrl>,
    /// Its first line is what to say as a token; otherwise the first of
    /// `grpc.tokens`.
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    token_file: Option<PathBuf>,
    /// Send the token in clear to another machine, where something else guards
    /// the way.
    #[arg(long, help_heading = HEADING)]
    clear_token: bool,
    /// The authorities to trust for https, in PEM; otherwise the system's.
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    ca_file: Option<PathBuf>,
    /// The certificate to show it, in PEM, where it wants to see one.
    #[arg(long, value_name = "FILE", requires = "key_file", help_heading = HEADING)]
    certificate_file: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "certificate_file", help_heading = HEADING)]
    key_file: Option<PathBuf>,
}

const HEADING: &str = "Where the gateway is";

/// Where the gateway is, as far as it has been said.
pub(super) struct Gateway<'a> {
    config: Config,
    flags: &'a Where,
}

/// What a call says who it is, and where that was found.
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) from: &'static str,
}

impl Where {
    /// Reads the configuration.
    pub(super) fn load(&self) -> Result<Gateway<'_>, Failure> {
        Ok(Gateway {
            config: self.file.load()?,
            flags: self,
        })
    }
}

impl Gateway<'_> {
    /// Its push API. The token file is read anew each time.
    pub(super) fn api(&self) -> Result<Api, Failure> {
        let address = match &self.flags.grpc {
            Some(address) => address.clone(),
            None => {
                let listen = self.config.grpc.listen;
                GrpcAddress::of(reachable("grpc.listen", "--grpc HOST:PORT", listen)?)
            }
        };
        let configured = self.config.grpc_tls.certificate_file.is_some();
        let encrypted = address.encrypted.unwrap_or(configured);
        let token = self.token()?;
        if let Some(Token { from, .. }) = &token
            && !encrypted
            && !address.is_on_loopback()
            && !self.flags.clear_token
        {
            return Err(Failure::config(format_args!(
                "the token of {from} is not sent to {address} in clear, where others can read \
                 it on the way; give --grpc https://{address}, reach the gateway through a \
                 tunnel on this machine, or give --clear-token if something else guards the way"
            )));
        }
        Api::new(&address, encrypted, self.dialer(encrypted)?, token)
    }

    /// Where browsers reach it.
    pub(super) fn public(&self) -> Result<PublicUrl, Failure> {
        let mut public = match &self.flags.public {
            Some(url) => url.clone(),
            None => {
                let listen = self.config.public.listen;
                let address = reachable("public.listen", "--public URL", listen)?;
                let scheme = match self.config.public_tls.certificate_file {
                    Some(_) => "wss",
                    None => "ws",
                };
                PublicUrl::parse(&format!("{scheme}://{address}")).map_err(Failure::config)?
            }
        };
        if public.0.path() == "/" {
            public.0.set_path(&self.config.public.path_prefix);
        }
        Ok(public)
    }

    /// Where operators look, if the configuration says it.
    pub(super) fn ops(&self) -> Option<SocketAddr> {
        let listen = self.config.ops.listen;
        (listen.port() != 0).then(|| through_loopback(listen))
    }

    /// Makes connections, encrypted ones where they are to be.
    pub(super) fn dialer(&self, encrypted: bool) -> Result<Dialer, Failure> {
        let flags = self.flags;
        let identity = match (&flags.certificate_file, &flags.key_file) {
            (Some(certificate_file), Some(key_file)) => Some(Identity {
                certificate_file: certificate_file.clone(),
                key_file: key_file.clone(),
            }),
            _ => None,
        };
        let files = ClientFiles::new(flags.ca_file.clone(), identity);
        if !encrypted {
            return Ok(Dialer(None));
        }
        let connector = files.load().map_err(|error| {
            let flag = match error.which {
                Which::Ca => "--ca-file",
                Which::Certificate => "--certificate-file",
                Which::Key => "--key-file",
            };
            Failure::config(format_args!("{flag} {error}"))
        })?;
        Ok(Dialer(Some(connector)))
    }

    fn token(&self) -> Result<Option<Token>, Failure> {
        let Some(file) = &self.flags.token_file else {
            let first = self.config.grpc.tokens.first();
            return Ok(first.map(|secret| Token {
                secret: secret.clone(),
                from: "grpc.tokens",
            }));
        };
        let bad = |what: fmt::Arguments<'_>| {
            Failure::config(format_args!("--token-file {file:?} {what}"))
        };
        let text = fs::read_to_string(file).map_err(|cause| {
            bad(format_args!(
                "can't be read: {cause}; name a file that exists and may be read"
            ))
        })?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad(format_args!(
                "holds no token; its first line is one of the gateway's grpc.tokens, and nothing else"
            )));
        }
        Ok(Some(Token {
            secret: Secret::new(token),
            from: "--token-file",
        }))
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialer(Option<Connector>);

impl Dialer {
    /// Connects to a host and a port. The caller bounds the time.
    pub(super) async fn dial(&self, address: &str) -> io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        // Without it everything is late, no more.
        let _ = stream.set_nodelay(true);
        match &self.0 {
            None => Ok(Stream::Plain(stream)),
            Some(connector) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                connector.connect(host, stream).await
            }
        }
    }
}

/// The address under which a listener of this machine is reached.
fn reachable(key: &str, flag: &str, listen: SocketAddr) -> Result<SocketAddr, Failure> {
    if listen.port() == 0 {
        return Err(Failure::config(format_args!(
            "{key} = \"{listen}\" is whatever port was free; the gateway's start-up log says \
             which: give it as {flag}"
        )));
    }
    Ok(through_loopback(listen))
}

/// Who listens on every address is reached on loopback too.
fn through_loopback(mut address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    address
}

/// A `ws://` or `wss://` URL, as far as `/ws`.
#[derive(Debug, Clone)]
pub(super) struct PublicUrl(Url);

impl PublicUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "not a URL; write for example http://127.0.0.1:8080".to_owned();
        let (scheme, rest) = match text.split_once("://") {
            Some(("http" | "ws", rest)) => ("ws", rest),
            Some(("https" | "wss", rest)) => ("wss", rest),
            Some(_) => return Err(bad()),
            None => ("ws", text),
        };
        let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| bad())?;
        let bare = url.username().is_empty() && url.password().is_none();
        if !bare || url.query().is_some() || url.fragment().is_some() || url.port() == Some(0) {
            return Err(
                "write a host, a port and at most the path that comes before /ws, such as \
                        http://127.0.0.1:8080/usher"
                    .to_owned(),
            );
        }
        if let Ok(listen) = url.authority().parse() {
            let host = through_loopback(listen).ip();
            url.set_ip_host(host).map_err(|()| bad())?;
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// Whether the connection is to be encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "wss"
    }

    /// The host and the port to connect to.
    pub(super) fn address(&self) -> String {
        let port = self.0.port_or_known_default().unwrap_or(80);
        format!("{}:{port}", self.0.host_str().unwrap_or_default())
    }

    /// The WebSocket's URL, without a ticket.
    pub(super) fn socket(&self) -> Url {
        let mut url = self.0.clone();
        let path = format!("{}/ws", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    /// The WebSocket's URL with a ticket: it opens one session.
    pub(super) fn socket_with(&self, ticket: &Ticket, since: Option<&str>) -> Url {
        let mut url = self.socket();
        url.query_pairs_mut().append_pair("ticket", ticket.expose());
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", since);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_ends_before_ws() {
        for (text, socket) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("localhost:8080", "ws://localhost:8080/ws"),
            ("ws://h/", "ws://h/ws"),
            ("https://h", "wss://h/ws"),
            ("wss://h:8443/a", "wss://h:8443/a/ws"),
            ("http://h:8080/a/b/", "ws://h:8080/a/b/ws"),
            ("http://0.0.0.0:8080", "ws://127.0.0.1:8080/ws"),
            ("http://[::]:8080", "ws://[::1]:8080/ws"),
        ] {
            let parsed = PublicUrl::parse(text).expect(text);
            assert_eq!(parsed.socket().as_str(), socket, "{text}");
        }
        for bad in [
            "",
            "http://",
            "nats://h:1",
            "http://h/?a",
            "http://u@h",
            "http://h:0",
        ] {
            assert!(PublicUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("[::ffff:0.0.0.0]:1", "127.0.0.1:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let listen: SocketAddr = listen.parse().expect(listen);
            let found = reachable("k", "--f", listen).expect("a port");
            assert_eq!(found.to_string(), reached);
        }
        assert!(reachable("k", "--f", ([127, 0, 0, 1], 0).into()).is_err());
    }
}
