//! A Cluster of three nodes, without replicas.

use super::{
    Redis,
    network::Network,
    process,
    redis::{driver, key, new_ticket},
    redis_sentinel::{as_arguments, tls_files},
    tls::Ca,
    wait::eventually,
};

const SLOTS: usize = 16_384;

/// All nodes, and the way on which gateways reach each of them.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<Redis>,
    /// None where the way is TLS.
    pub(crate) networks: Vec<Network>,
    tls_ports: Vec<u16>,
}

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        let mut networks = Vec::new();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let (node, network) = behind_a_network().await;
            networks.push(network);
            nodes.push(node);
        }
        let ports = networks.iter().map(|network| {
            let (_, port) = network.address().rsplit_once(':').expect("a port");
            port.to_owned()
        });
        let ports: Vec<_> = ports.collect();
        let cluster = Self {
            nodes,
            networks,
            tls_ports: Vec::new(),
        };
        cluster.meet(&ports).await;
        cluster
    }

    /// One that gateways reach by TLS alone, with a certificate of this authority.
    pub(crate) async fn start_with_tls(ca: &Ca) -> Self {
        let files = as_arguments(&tls_files(ca));
        let mut nodes = Vec::new();
        let mut tls_ports = Vec::new();
        for _ in 0..3 {
            let port = process::free_port();
            let tls_port = port.to_string();
            let mut arguments = vec!["--tls-port", &tls_port, "--tls-cluster", "yes"];
            arguments.extend(files.iter().map(String::as_str));
            nodes.push(node("redis-server-tls", &arguments).await);
            tls_ports.push(port);
        }
        let ports: Vec<_> = tls_ports.iter().map(u16::to_string).collect();
        let cluster = Self {
            nodes,
            networks: Vec::new(),
            tls_ports,
        };
        cluster.meet(&ports).await;
        cluster
    }

    /// What a gateway's `redis.url` is: two of the nodes.
    pub(crate) fn url(&self) -> String {
        if let [one, other, ..] = self.tls_ports[..] {
            return format!("rediss-cluster://127.0.0.1:{one},127.0.0.1:{other}");
        }
        let (one, other) = (self.networks[0].address(), self.networks[1].address());
        format!("redis-cluster://{one},{other}")
    }

    /// Mints a ticket of which this node has the key.
    pub(crate) async fn ticket_on(&self, node: usize, user: &str) -> String {
        let ticket = loop {
            let ticket = new_ticket();
            let slot: usize = self.nodes[node]
                .command(&["CLUSTER", "KEYSLOT", &key(&ticket)])
                .await;
            if slot / (SLOTS / 3 + 1) == node {
                break ticket;
            }
        };
        self.set(node, &ticket, user).await;
        ticket
    }

    /// Stores a ticket on the node that has its key.
    pub(crate) async fn set(&self, node: usize, ticket: &str, user: &str) {
        let () = self.nodes[node]
            .command(&["SET", &key(ticket), user, "EX", "60"])
            .await;
    }

    /// Whether a node has a ticket, whoever's the slot is.
    pub(crate) async fn has(&self, node: usize, ticket: &str) -> bool {
        let slot = self.slot(ticket).await;
        let keys: Vec<String> = self.nodes[node]
            .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])
            .await;
        keys.contains(&key(ticket))
    }

    pub(crate) async fn slot(&self, ticket: &str) -> String {
        let slot: usize = self.nodes[0]
            .command(&["CLUSTER", "KEYSLOT", &key(ticket)])
            .await;
        slot.to_string()
    }

    /// Begins to move a slot, and moves this ticket: from now on its old node says ASK.
    pub(crate) async fn begin_to_move(&self, ticket: &str, from: usize, to: usize) {
        let slot = self.slot(ticket).await;
        let (old, new) = (self.id(from).await, self.id(to).await);
        let () = self.nodes[to]
            .command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old])
            .await;
        let () = self.nodes[from]
            .command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new])
            .await;
        let port = self.nodes[to].port().to_string();
        let words = ["MIGRATE", "127.0.0.1", &port, &key(ticket), "0", "30000"];
        let () = self.nodes[from].command(&words).await;
    }

    /// Ends it: from now on the old node says MOVED.
    pub(crate) async fn end_of_move(&self, slot: &str, to: usize) {
        let new = self.id(to).await;
        let mut nodes: Vec<_> = (0..3).filter(|node| *node != to).collect();
        nodes.insert(0, to);
        for node in nodes {
            let () = self.nodes[node]
                .command(&["CLUSTER", "SETSLOT", slot, "NODE", &new])
                .await;
        }
    }

    /// A new node takes over from this one, which lives on as its replica. No connection is
    /// closed.
    pub(crate) async fn take_over_from(&mut self, node: usize) {
        let (new, network) = behind_a_network().await;
        let (_, port) = self.networks[node]
            .address()
            .rsplit_once(':')
            .expect("a port");
        let (bus, id) = (self.bus_port(node).await, self.id(node).await);
        let () = new
            .command(&["CLUSTER", "MEET", "127.0.0.1", port, &bus])
            .await;
        eventually("the new node knows the others", || async {
            let nodes: String = new.command(&["CLUSTER", "NODES"]).await;
            nodes
                .lines()
                .filter(|line| line.contains(" connected"))
                .count()
                == 4
        })
        .await;
        let () = new.command(&["CLUSTER", "REPLICATE", &id]).await;
        eventually("it has all", || async {
            let info: String = new.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        let () = new.command(&["CLUSTER", "FAILOVER"]).await;
        eventually("it is the primary, and the old one knows", || async {
            let new: String = new.command(&["INFO", "replication"]).await;
            let old: String = self.nodes[node].command(&["INFO", "replication"]).await;
            new.contains("role:master") && old.contains("role:slave")
        })
        .await;
        self.nodes.push(new);
        self.networks.push(network);
    }

    async fn id(&self, node: usize) -> String {
        self.nodes[node].command(&["CLUSTER", "MYID"]).await
    }

    /// Gives each node a third of the slots, and waits until all know all.
    async fn meet(&self, ports: &[String]) {
        for (number, node) in self.nodes.iter().enumerate() {
            let slots = (0..SLOTS).filter(|slot| slot / (SLOTS / 3 + 1) == number);
            let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
            let mut words = vec!["CLUSTER", "ADDSLOTS"];
            words.extend(slots.iter().map(String::as_str));
            let () = node.command(&words).await;
            let epoch = (number + 1).to_string();
            let () = node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        let bus: String = self.bus_port(0).await;
        for node in &self.nodes[1..] {
            let () = node
                .command(&["CLUSTER", "MEET", "127.0.0.1", &ports[0], &bus])
                .await;
        }
        eventually("the Cluster is one", || async {
            for node in &self.nodes {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                let rows: Vec<driver::Value> = node.command(&["CLUSTER", "SLOTS"]).await;
                if !info.contains("cluster_state:ok") || rows.len() != 3 {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn bus_port(&self, node: usize) -> String {
        let (_, port): (String, String) = self.nodes[node]
            .command(&["CONFIG", "GET", "cluster-port"])
            .await;
        port
    }
}

/// A node, and the way to it that it tells everybody.
async fn behind_a_network() -> (Redis, Network) {
    // It leads nowhere before the node's port is known.
    let network = Network::to("redis://127.0.0.1:1").await;
    let (_, port) = network.address().rsplit_once(':').expect("a port");
    let node = node("redis-server", &["--cluster-announce-port", port]).await;
    network.lead_to(&node.url());
    (node, network)
}

async fn node(program: &'static str, more: &[&str]) -> Redis {
    let bus = process::free_port().to_string();
    let mut arguments = vec![
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        // A busy machine is no reason to call a node away.
        "--cluster-node-timeout",
        "15000",
    ];
    arguments.extend(more);
    Redis::start_with(program, &arguments).await
}
