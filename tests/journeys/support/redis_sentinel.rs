//! A primary, a replica, and three Sentinels that watch them.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::{
    Redis,
    process::{self, Process},
    redis::driver,
    tls::Ca,
    wait::eventually,
};

/// The name under which the Sentinels watch the primary.
const MASTER: &str = "tickets";

/// All of them, each a process of its own.
pub(crate) struct Sentinels {
    /// The primary at first, and the replica.
    pub(crate) servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
    scheme: &'static str,
}

struct Sentinel {
    process: Process,
    _folder: TempDir,
    port: u16,
    tls_port: Option<u16>,
}

impl Sentinels {
    pub(crate) async fn start() -> Self {
        Self::start_all("redis-server", None).await
    }

    /// Those that gateways reach by TLS alone, with a certificate of this authority.
    pub(crate) async fn start_with_tls(ca: &Ca) -> Self {
        Self::start_all("redis-server-tls", Some(ca)).await
    }

    async fn start_all(program: &'static str, ca: Option<&Ca>) -> Self {
        let tls_port = || ca.map(|_| process::free_port());
        let (ports, files) = ([tls_port(), tls_port()], ca.map(tls_files));
        let start = async |port: Option<u16>| {
            let mut arguments = Vec::new();
            if let (Some(port), Some(files)) = (port, &files) {
                arguments = ["--tls-port", &port.to_string(), "--tls-replication", "yes"]
                    .map(str::to_owned)
                    .to_vec();
                arguments.extend(as_arguments(files));
            }
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            Redis::start_with(program, &arguments).await
        };
        let servers = [start(ports[0]).await, start(ports[1]).await];
        let primary = ports[0].unwrap_or(servers[0].port()).to_string();
        let () = servers[1]
            .command(&["REPLICAOF", "127.0.0.1", &primary])
            .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(program, &primary, &files).await);
        }
        let scheme = if ca.is_some() {
            "rediss-sentinel"
        } else {
            "redis-sentinel"
        };
        let all = Self {
            servers,
            sentinels,
            scheme,
        };
        all.are_ready().await;
        all
    }

    /// What a gateway's `redis.url` is.
    pub(crate) fn url(&self) -> String {
        let address = |sentinel: &Sentinel| {
            format!("127.0.0.1:{}", sentinel.tls_port.unwrap_or(sentinel.port))
        };
        let addresses: Vec<_> = self.sentinels.iter().map(address).collect();
        format!(
            "{}://{}/0?master={MASTER}",
            self.scheme,
            addresses.join(",")
        )
    }

    /// Ends this Sentinel.
    pub(crate) fn kill(&mut self, number: usize) {
        self.sentinels[number].process.kill();
    }

    /// Gives each Sentinel a user `usher` with the password `abracadabra` and these rights.
    pub(crate) async fn user(&self, rights: &[&str]) {
        let rules = ["ACL", "SETUSER", "usher", "reset", "on", ">abracadabra"];
        for sentinel in &self.sentinels {
            let () = sentinel
                .command(&[&rules, rights].concat())
                .await
                .expect("a user");
        }
    }

    /// Waits until all Sentinels call the second server the primary, and it is one.
    pub(crate) async fn have_failed_over(&self) {
        eventually("the Sentinels have failed over", || async {
            for sentinel in &self.sentinels {
                // One of them may be gone.
                if let Ok(named) = sentinel.primary().await
                    && named != self.servers[1].port()
                {
                    return false;
                }
            }
            let role: Vec<driver::Value> = self.servers[1].command(&["ROLE"]).await;
            role[0] == driver::Value::BulkString(b"master".to_vec())
        })
        .await;
    }

    /// The servers change roles, and the Sentinels are told, without any connection being
    /// closed: as where somebody does it by hand.
    pub(crate) async fn change_roles(&self) {
        let new = self.servers[1].port().to_string();
        let () = self.servers[1].command(&["REPLICAOF", "NO", "ONE"]).await;
        let () = self.servers[0]
            .command(&["REPLICAOF", "127.0.0.1", &new])
            .await;
        for sentinel in &self.sentinels {
            let () = sentinel
                .command(&["SENTINEL", "REMOVE", MASTER])
                .await
                .expect("forgotten");
            let monitor = ["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &new, "2"];
            let () = sentinel.command(&monitor).await.expect("told");
        }
    }

    /// Until all know the replica and each other: none can fail over before.
    async fn are_ready(&self) {
        eventually("the Sentinels know all", || async {
            for sentinel in &self.sentinels {
                let Ok(replicas) = sentinel.count("REPLICAS").await else {
                    return false;
                };
                let Ok(others) = sentinel.count("SENTINELS").await else {
                    return false;
                };
                if (replicas, others) != (1, 2) {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

impl Sentinel {
    async fn start(
        program: &str,
        primary: &str,
        tls: &Option<Vec<(&'static str, String)>>,
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let port = process::free_port();
        let tls_port = tls.as_ref().map(|_| process::free_port());
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {MASTER} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {MASTER} 2000\n\
             sentinel failover-timeout {MASTER} 10000\n",
            folder.path().display()
        );
        if let (Some(port), Some(tls)) = (tls_port, tls) {
            text.push_str(&format!("tls-port {port}\ntls-replication yes\n"));
            for (name, value) in tls {
                text.push_str(&format!("{name} {value}\n"));
            }
        }
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new(process::server(program));
        command.arg(&file).arg("--sentinel");
        let sentinel = Self {
            process: Process::spawn(command),
            _folder: folder,
            port,
            tls_port,
        };
        eventually("a Sentinel answers", || async {
            sentinel.primary().await.is_ok()
        })
        .await;
        sentinel
    }

    async fn command<T: driver::FromRedisValue>(&self, words: &[&str]) -> driver::RedisResult<T> {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let client = driver::Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = driver::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }

    async fn primary(&self) -> driver::RedisResult<u16> {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let (_, port): (String, u16) = self.command(&words).await?;
        Ok(port)
    }

    async fn count(&self, what: &str) -> driver::RedisResult<usize> {
        let rows: Vec<driver::Value> = self.command(&["SENTINEL", what, MASTER]).await?;
        Ok(rows.len())
    }
}

/// Settings with which a server shows a certificate, and wants to see one.
pub(super) fn tls_files(ca: &Ca) -> Vec<(&'static str, String)> {
    let identity = ca.issue();
    vec![
        (
            "tls-cert-file",
            identity.certificate_file.display().to_string(),
        ),
        ("tls-key-file", identity.key_file.display().to_string()),
        ("tls-ca-cert-file", ca.file()),
        ("tls-auth-clients", "yes".to_owned()),
    ]
}

/// The same on a command line.
pub(super) fn as_arguments(files: &[(&'static str, String)]) -> Vec<String> {
    let arguments = files.iter();
    arguments
        .flat_map(|(name, value)| [format!("--{name}"), value.clone()])
        .collect()
}
