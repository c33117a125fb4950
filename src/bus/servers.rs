//! What is known of the NATS servers, shared by all connections: what one of them learns
//! from an INFO, every other one knows when its own server dies.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::seq::SliceRandom as _;
use tokio::sync::watch;
use url::Url;

use super::interest::Info;

/// Discovered servers that are remembered.
const MAX_DISCOVERED: usize = 64;
/// The largest message in bytes, as nats-server has it if nobody says otherwise.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// The servers. Clones share what is learnt.
#[derive(Debug, Clone)]
pub(super) struct Servers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// From `nats.url`, without credentials.
    configured: Vec<Url>,
    /// `host:port` of servers that the cluster named.
    discovered: watch::Sender<BTreeSet<String>>,
    /// The largest message that the account may publish, by the newest INFO.
    max_payload: AtomicUsize,
}

impl Servers {
    pub(super) fn new(configured: &[Url]) -> Self {
        Self(Arc::new(Inner {
            configured: configured.to_vec(),
            discovered: watch::Sender::default(),
            max_payload: AtomicUsize::new(MAX_PAYLOAD),
        }))
    }

    /// Takes up what an INFO says. Its list of servers is complete each time, so servers
    /// that have left it are forgotten.
    pub(super) fn learn(&self, info: &Info) {
        if info.max_payload > 0 {
            self.0
                .max_payload
                .store(info.max_payload, Ordering::Relaxed);
        }
        if info.connect_urls.is_empty() {
            return;
        }
        let found = info.connect_urls.iter().take(MAX_DISCOVERED).cloned();
        let found: BTreeSet<_> = found.collect();
        self.0.discovered.send_if_modified(|known| {
            let changed = *known != found;
            *known = found;
            changed
        });
    }

    /// The largest message that the account may publish, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.0.max_payload.load(Ordering::Relaxed)
    }

    /// Told when the cluster names other servers.
    pub(super) fn changes(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.discovered.subscribe()
    }

    /// All servers: the configured ones in a random order, then the discovered ones.
    pub(super) fn all(&self) -> Vec<Url> {
        let mut servers = self.0.configured.clone();
        servers.shuffle(&mut rand::rng());
        let scheme = servers.first().map_or("nats", Url::scheme).to_owned();
        let discovered = self.0.discovered.borrow();
        let discovered = discovered
            .iter()
            .filter_map(|address| Url::parse(&format!("{scheme}://{address}")).ok());
        let discovered: Vec<_> = discovered.filter(|url| !servers.contains(url)).collect();
        servers.extend(discovered);
        servers
    }

    /// The name that the certificate of a server at `host` must bear. A cluster names its
    /// servers by address; such a server is known by the name of the configured one.
    pub(super) fn tls_name(&self, host: &str) -> String {
        let is_address = |host: &str| bare(host).parse::<IpAddr>().is_ok();
        let configured = || self.0.configured.iter().filter_map(Url::host_str);
        let listed = configured().any(|listed| bare(listed) == bare(host));
        match configured().next() {
            Some(first) if is_address(host) && !listed && !is_address(first) => first.to_owned(),
            _ => bare(host).to_owned(),
        }
    }
}

/// An IPv6 address stands in brackets in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// `host:port`, without anything secret.
pub(super) fn address(server: &Url) -> String {
    let host = server.host_str().unwrap_or_default();
    format!("{host}:{}", server.port().unwrap_or(4222))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        let urls: Vec<_> = urls
            .iter()
            .map(|url| Url::parse(url).expect("a URL"))
            .collect();
        Servers::new(&urls)
    }

    #[test]
    fn a_server_known_by_address_bears_the_configured_name() {
        let servers = servers(&["tls://nats.example:4222", "tls://10.0.0.9:4222"]);
        for (host, name) in [
            ("10.0.0.2", "nats.example"),
            ("[2001:db8::2]", "nats.example"),
            ("other.example", "other.example"),
            ("10.0.0.9", "10.0.0.9"),
        ] {
            assert_eq!(servers.tls_name(host), name);
        }
    }

    #[test]
    fn a_server_that_left_the_cluster_is_forgotten() {
        let servers = servers(&["nats://seed:4222"]);
        let learn = |urls: &[&str]| {
            servers.learn(&Info {
                connect_urls: urls.iter().map(ToString::to_string).collect(),
                ..Info::default()
            });
        };
        let clone = servers.clone();
        learn(&["a:1", "b:1"]);
        learn(&["b:1", "c:1", "seed:4222"]);
        learn(&[]);
        let all: Vec<_> = clone.all().iter().map(address).collect();
        assert_eq!(all, ["seed:4222", "b:1", "c:1"]);
        assert_eq!(clone.max_payload(), MAX_PAYLOAD);
    }
}
