//! Servers that form one cluster.

use tempfile::TempDir;

use super::{CURRENT, Nats, PERMISSIONS, written};
use crate::support::wait::eventually;

/// Connections from one server of a cluster to another: each account has its place on
/// one of the pool of three, and until that is there nothing passes; and there is one
/// for the servers' own account.
const ROUTES_TO_EACH: u64 = 4;

/// How its servers find each other.
pub(crate) struct Routes(Vec<String>);

impl Routes {
    /// Free ports for so many servers. JetStream wants to know all routes from the start.
    pub(crate) fn of(count: usize) -> Self {
        let url = |port| format!("nats://127.0.0.1:{port}");
        Self(free_ports(count).into_iter().map(url).collect())
    }

    /// Starts one of the servers with this configuration; the others may come later.
    pub(crate) async fn start(&self, index: usize, config: &str) -> Nats {
        self.launch(index, config, &self.0, Vec::new()).await
    }

    /// Starts one with JetStream that reaches the others at these addresses alone
    /// (`host:port`), and tells the others none of its own. It also knows [`OWNER`].
    #[allow(dead_code, reason = "the recovery run alone asks for it")]
    pub(crate) async fn start_behind(&self, index: usize, ways: &[String]) -> Nats {
        let (user, password) = OWNER;
        let owner = format!("users: [ {{ user: {user}, password: {password} }}");
        let config = PERMISSIONS.replacen("users: [", &owner, 1);
        let config = format!("jetstream: enabled\n{config}");
        let routes: Vec<_> = ways.iter().map(|way| format!("nats://{way}")).collect();
        // Nobody listens there, so no server finds another way to it.
        let hidden = vec!["--cluster_advertise=127.0.0.1:1".to_owned()];
        let node = self.launch(index, &config, &routes, hidden).await;
        node.with_roles()
    }

    /// Where one of the servers listens for the others: `host:port`.
    #[allow(dead_code, reason = "the recovery run alone asks for it")]
    pub(crate) fn address(&self, index: usize) -> &str {
        self.0[index].trim_start_matches("nats://")
    }

    async fn launch(
        &self,
        index: usize,
        config: &str,
        routes: &[String],
        more: Vec<String>,
    ) -> Nats {
        let retiring = "lame_duck_grace_period: \"2s\"\nlame_duck_duration: \"30s\"\n";
        let folder = TempDir::new().expect("a folder");
        let mut options = vec![
            written(&folder, &format!("{retiring}{config}")),
            "--cluster_name=journeys".to_owned(),
            format!("--server_name=node-{index}"),
            format!("--cluster={}", self.0[index]),
            format!("--routes={}", routes.join(",")),
        ];
        options.extend(more);
        Nats::launch(CURRENT, folder, options).await
    }
}

/// User and password of somebody who may do anything.
#[allow(dead_code, reason = "the recovery run alone asks for it")]
pub(crate) const OWNER: (&str, &str) = ("owner", "password-of-the-owner");

impl Nats {
    /// Starts `count` that form one cluster, and waits until each reaches all.
    pub(crate) async fn cluster(count: usize) -> Vec<Self> {
        let nodes = Self::cluster_with(count, PERMISSIONS).await;
        nodes.into_iter().map(Self::with_roles).collect()
    }

    /// The same with JetStream.
    pub(crate) async fn keeping_cluster(count: usize) -> Vec<Self> {
        let config = format!("jetstream: enabled\n{PERMISSIONS}");
        let nodes = Self::cluster_with(count, &config).await;
        nodes.into_iter().map(Self::with_roles).collect()
    }

    /// The same with this configuration, where anyone may do what it lets them.
    pub(crate) async fn cluster_with(count: usize, config: &str) -> Vec<Self> {
        let routes = Routes::of(count);
        let nodes = (0..count).map(|index| routes.start(index, config));
        let nodes = futures_util::future::join_all(nodes).await;
        Self::reach_each_other(&nodes).await;
        nodes
    }

    /// Waits until each of these servers has routes to all others.
    pub(crate) async fn reach_each_other(nodes: &[Self]) {
        for node in nodes {
            eventually("every node has all routes to every other", || async {
                node.routes().await == ROUTES_TO_EACH * (nodes.len() as u64 - 1)
            })
            .await;
        }
    }

    async fn routes(&self) -> u64 {
        let found = self.monitoring("/routez").await;
        found["num_routes"].as_u64().unwrap_or_default()
    }
}

/// Ports that nobody had a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let bound = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listeners: Vec<_> = std::iter::repeat_with(bound).take(count).collect();
    let port = |listener: &std::net::TcpListener| listener.local_addr().expect("bound").port();
    listeners.iter().map(port).collect()
}
