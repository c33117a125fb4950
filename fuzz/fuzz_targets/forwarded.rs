//! `X-Forwarded-For` → who is behind our proxies.
//!
//! The input's lines are the trusted networks, with commas between, the peer, and
//! the headers.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use usher::client_address::TrustedProxies;

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let trusted: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let peer: Option<IpAddr> = lines.next().and_then(|peer| peer.parse().ok());
    let headers: Vec<_> = lines.collect();
    let (Ok(proxies), Some(peer)) = (TrustedProxies::parse(&trusted), peer) else {
        return;
    };
    let client = |headers: &[&str]| proxies.client(peer, headers.iter().copied());
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| holds(network, address));

    let found = client(&headers);
    assert_eq!(found, expected(peer, &headers, is_trusted));

    // How the entries are spread over headers makes no difference.
    let list = headers.join(",");
    let one_each: Vec<_> = list.split(',').collect();
    if !headers.is_empty() {
        assert_eq!(client(&[&list]), found);
        assert_eq!(client(&one_each), found);
    }
    // What a client makes up stands left of what our proxies say of it.
    if !is_trusted(found) {
        assert_eq!(client(&[&["203.0.113.66"], &headers[..]].concat()), found);
    }
});

/// The first from the right that is no proxy, or the last before what cannot be
/// read.
fn expected(peer: IpAddr, headers: &[&str], is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut chain = vec![peer.to_canonical()];
    for header in headers.iter().rev() {
        chain.extend(header.split(',').rev().map_while(address));
        // Beyond what cannot be read nothing counts, in no header.
        if !header.split(',').all(|entry| address(entry).is_some()) {
            break;
        }
    }
    let end = chain.iter().position(|address| !is_trusted(*address));
    chain[end.unwrap_or(chain.len() - 1)]
}

/// An address, in brackets or not, with a port or not.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let with_port: Option<SocketAddr> = entry.parse().ok();
    let bare = match entry.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').and_then(|bare| bare.parse().ok()),
        None => entry.parse().ok(),
    };
    let address: Option<IpAddr> = bare.or(with_port.map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

/// Whether a network, as it is written, holds an address.
fn holds(network: &str, address: IpAddr) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base.parse::<IpAddr>(), length.parse().ok()),
        // One address is the same in IPv6's clothes; a network in them is refused.
        None => (
            network.parse().map(|base: IpAddr| base.to_canonical()),
            Some(128),
        ),
    };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let Ok(base) = base else {
        return false;
    };
    let ((base, size), (address, other)) = (bits(base), bits(address));
    let length: u32 = length.unwrap_or(size).min(size);
    size == other && (base ^ address).checked_shr(128 - length).unwrap_or(0) == 0
}
