//! Where a gateway serves gRPC, as people write it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::through_loopback;

/// A host and a port.
#[derive(Debug, Clone)]
pub(in crate::cli) struct GrpcAddress {
    authority: String,
    /// Whether by TLS; `None` if the address does not say.
    pub(super) encrypted: Option<bool>,
}

impl GrpcAddress {
    /// The address of a listener.
    pub(super) fn of(listen: SocketAddr) -> Self {
        Self {
            authority: listen.to_string(),
            encrypted: None,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (encrypted, address) = match text.split_once("://") {
            Some(("https", address)) => (Some(true), address),
            Some(("http", address)) => (Some(false), address),
            _ => (None, text),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if let Ok(address) = address.parse::<SocketAddr>() {
            return Ok(Self {
                authority: through_loopback(address).to_string(),
                encrypted,
            });
        }
        let authority: Option<http::uri::Authority> = address.parse().ok();
        authority
            .filter(|it| !it.host().is_empty() && it.port_u16().is_some_and(|port| port > 0))
            .filter(|it| !it.as_str().contains('@'))
            .map(|it| Self {
                authority: it.to_string(),
                encrypted,
            })
            .ok_or_else(|| "not a host and a port; write for example 127.0.0.1:9090".to_owned())
    }
}

impl GrpcAddress {
    /// Whether what is sent there stays on this machine. A name other than `localhost`
    /// may be resolved to any address.
    pub(super) fn is_on_loopback(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(is_loopback)
    }
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
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
            ("https://gateway.internal:9090", "gateway.internal:9090"),
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
        ] {
            let parsed = GrpcAddress::parse(text).expect(text);
            assert_eq!(parsed.to_string(), address, "{text}");
            let said = text.split_once("://").map(|(scheme, _)| scheme == "https");
            assert_eq!(parsed.encrypted, said, "{text}");
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
        ] {
            assert!(GrpcAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_on_loopback() {
        for (text, on_loopback) in [
            ("127.0.0.1:9090", true),
            ("http://127.8.9.10:9090", true),
            ("[::1]:9090", true),
            ("[::ffff:127.0.0.1]:9090", true),
            ("LocalHost:9090", true),
            ("0.0.0.0:9090", true),
            ("10.0.0.1:9090", false),
            ("[2001:db8::1]:9090", false),
            ("gateway.internal:9090", false),
            ("localhost.evil.example:9090", false),
            ("127.0.0.1.evil.example:9090", false),
        ] {
            let address = GrpcAddress::parse(text).expect(text);
            assert_eq!(address.is_on_loopback(), on_loopback, "{text}");
        }
    }
}
