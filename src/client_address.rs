//! Which address a request comes from, where proxies stand in between.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr as _,
};

use ipnet::IpNet;

/// `public.trusted_proxies`: whose word is taken for whom they speak for.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither an address nor a network such as 10.0.0.0/8")]
pub struct NetworkError;

impl TrustedProxies {
    /// Reads networks, such as `10.0.0.0/8`, and single addresses.
    ///
    /// # Errors
    ///
    /// [`NetworkError`] where an entry is neither.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, NetworkError> {
        let parse = |entry: &S| {
            let entry = entry.as_ref();
            match entry.split_once('/') {
                // `IpNet` itself would take 010.0.0.0, which is 8.0.0.0 to others.
                Some((address, length)) => {
                    let address: IpAddr = address.parse().ok()?;
                    // Of IPv4 in IPv6's clothes only the IPv4 is looked for.
                    let plain = address.to_canonical() == address;
                    let network = IpNet::new(address, length.parse().ok()?).ok();
                    network.filter(|_| plain)
                }
                None => {
                    let address = IpAddr::from_str(entry).ok()?;
                    Some(address.to_canonical().into())
                }
            }
        };
        let networks: Option<_> = entries.iter().map(parse).collect();
        networks.map(Self).ok_or(NetworkError)
    }

    /// Whether this address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who is behind `peer`: the rightmost address of `forwarded` that is no
    /// proxy of ours. `forwarded` is each `X-Forwarded-For` header, in order.
    ///
    /// Every proxy appends whom it heard, so what stands further left is
    /// hearsay. Where an entry is no address, the proxy that wrote it is as
    /// near as anybody can tell.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut nearest = peer.to_canonical();
        let mut entries = forwarded.rev().flat_map(|header| header.rsplit(','));
        while self.contains(nearest) {
            match entries.next().and_then(|entry| address(entry.trim())) {
                Some(address) => nearest = address,
                None => break,
            }
        }
        nearest
    }
}

/// An address as proxies write it: some add a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    IpAddr::from_str(bare.unwrap_or(entry))
        .or_else(|_| SocketAddr::from_str(entry).map(|address| address.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let peer = peer.parse().expect("an address");
        TrustedProxies::parse(trusted)
            .expect("networks")
            .client(peer, forwarded.iter().copied())
            .to_string()
    }

    #[test]
    fn the_header_counts_only_from_a_proxy() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        let trusted = ["10.0.0.0/8"];
        assert_eq!(
            client(&trusted, "192.0.2.1", &["198.51.100.1"]),
            "192.0.2.1"
        );
        assert_eq!(
            client(&trusted, "10.1.1.1", &["198.51.100.1"]),
            "198.51.100.1"
        );
        assert_eq!(client(&trusted, "10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn the_rightmost_that_is_no_proxy_counts() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"];
        let forwarded = ["203.0.113.9, 198.51.100.1", " 10.2.2.2 ,2001:db8::7"];
        assert_eq!(client(&trusted, "10.1.1.1", &forwarded), "198.51.100.1");
        assert_eq!(client(&trusted, "192.0.2.7", &forwarded), "198.51.100.1");
        assert_eq!(client(&trusted, "192.0.2.8", &forwarded), "192.0.2.8");
        assert_eq!(
            client(&trusted, "10.1.1.1", &["10.3.3.3,10.2.2.2"]),
            "10.3.3.3"
        );
        let six = ["2001:db8:1::1, 2001:dead::5"];
        assert_eq!(client(&trusted, "2001:db8::1", &six), "2001:dead::5");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        let trusted = ["10.0.0.0/8"];
        for rubbish in ["unknown", "", "1.2.3", "198.51.100.1, _hidden", "a, ,"] {
            assert_eq!(
                client(&trusted, "10.1.1.1", &[rubbish]),
                "10.1.1.1",
                "{rubbish}"
            );
        }
        let beyond = ["198.51.100.1, unknown, 10.2.2.2"];
        assert_eq!(client(&trusted, "10.1.1.1", &beyond), "10.2.2.2");
    }

    #[test]
    fn an_address_is_one_however_it_is_written() {
        assert!(TrustedProxies::parse(&["::ffff:10.0.0.0/104"]).is_err());
        assert_eq!(
            client(&["::ffff:10.1.1.1"], "10.1.1.1", &["192.0.2.1"]),
            "192.0.2.1"
        );
        let trusted = ["10.0.0.0/8"];
        for (written, meant) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:dead::5]:4711", "2001:dead::5"),
            ("[2001:dead::5]", "2001:dead::5"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(client(&trusted, "10.1.1.1", &[written]), meant);
            assert_eq!(client(&trusted, "::ffff:10.1.1.1", &[written]), meant);
        }
        for bad in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "010.0.0.0/8",
            "10.0.0/8",
            "proxy.example",
        ] {
            assert!(TrustedProxies::parse(&[bad]).is_err(), "{bad}");
        }
    }
}
