//! Where the gateway is: the same configuration, then flags; the later wins.

use std::{fmt, fs, net::SocketAddr, path::PathBuf};

use clap::Args;
use url::Url;

use super::{ConfigFile, api::Api, failure::Failure};
use crate::{config::Config, secret::Secret, tickets::Ticket};

/// How commands are told of the gateway that they speak to.
#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    file: ConfigFile,
    /// Where it serves gRPC; otherwise `grpc.listen`.
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
            None => GrpcAddress(
                reachable("grpc.listen", "--grpc HOST:PORT", self.config.grpc.listen)?.to_string(),
            ),
        };
        Api::new(&address, self.token()?)
    }

    /// Where browsers reach it.
    pub(super) fn public(&self) -> Result<PublicUrl, Failure> {
        let mut public = match &self.flags.public {
            Some(url) => url.clone(),
            None => {
                let listen = self.config.public.listen;
                let address = reachable("public.listen", "--public URL", listen)?;
                PublicUrl::parse(&address.to_string()).map_err(Failure::config)?
            }
        };
        if public.0.path() == "/" {
            public.0.set_path(&self.config.public.path_prefix);
        }
        Ok(public)
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

/// A host and a port.
#[derive(Debug, Clone)]
pub(super) struct GrpcAddress(String);

impl GrpcAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err(NO_TLS.to_owned());
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        let address = address.strip_suffix('/').unwrap_or(address);
        if let Ok(address) = address.parse::<SocketAddr>() {
            return Ok(Self(through_loopback(address).to_string()));
        }
        let authority: Option<http::uri::Authority> = address.parse().ok();
        authority
            .filter(|it| !it.host().is_empty() && it.port_u16().is_some_and(|port| port > 0))
            .filter(|it| !it.as_str().contains('@'))
            .map(|it| Self(it.to_string()))
            .ok_or_else(|| "not a host and a port; write for example 127.0.0.1:9090".to_owned())
    }
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const NO_TLS: &str =
    "TLS is not spoken here yet; name the gateway's own listener, or a tunnel to it";

/// A `ws://` URL, as far as `/ws`.
#[derive(Debug, Clone)]
pub(super) struct PublicUrl(Url);

impl PublicUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "not a URL; write for example http://127.0.0.1:8080".to_owned();
        let rest = match text.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => return Err(NO_TLS.to_owned()),
            Some(_) => return Err(bad()),
            None => text,
        };
        let mut url = Url::parse(&format!("ws://{rest}")).map_err(|_| bad())?;
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

    /// The same for whoever is to open one session with it.
    pub(super) fn socket_with(&self, ticket: &Ticket) -> Url {
        let mut url = self.socket();
        url.query_pairs_mut().append_pair("ticket", ticket.expose());
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_address_is_a_host_and_a_port() {
        for (text, address) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://gateway.internal:9090/", "gateway.internal:9090"),
            ("[::1]:9090", "[::1]:9090"),
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
        ] {
            let parsed = GrpcAddress::parse(text).expect(text);
            assert_eq!(parsed.to_string(), address, "{text}");
        }
        for bad in [
            "",
            ":9090",
            "localhost",
            "a b:1",
            "h:0",
            "h:70000",
            "u@h:1",
            "http://h:1/x",
            "https://h:1",
        ] {
            assert!(GrpcAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_public_url_ends_before_ws() {
        for (text, socket) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("localhost:8080", "ws://localhost:8080/ws"),
            ("ws://h/", "ws://h/ws"),
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
            "https://h",
            "wss://h",
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
