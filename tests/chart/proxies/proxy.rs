//! A real proxy in front of two gateways.

use std::{fs, process::Command};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::example;
use crate::support::{
    Client, Gateway, Redis, eventually,
    process::{Process, free_port, server},
};

/// A proxy before gateways.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) address: String,
    pub(super) process: Process,
    pub(super) folder: TempDir,
}

impl Proxy {
    pub(super) async fn start(name: &'static str, config: impl Fn(&str, &str) -> String) -> Self {
        let folder = TempDir::new().expect("a folder");
        let address = format!("127.0.0.1:{}", free_port());
        let root = folder.path().display().to_string();
        // Envoy knows the form by the name.
        let file = folder.path().join(match name {
            "envoy" => "proxy.yaml",
            _ => "proxy.conf",
        });
        fs::write(&file, config(&address, &root)).expect("written");
        let mut command = Command::new(server(name));
        match name {
            "nginx" => command.args(["-p", &root, "-e", &format!("{root}/start.log"), "-c"]),
            "envoy" => command.args(["--disable-hot-restart", "--log-level", "warn", "-c"]),
            _ => command.args(["-db", "-f"]),
        };
        let mut process = Process::spawn({
            command.arg(&file);
            command
        });
        eventually(&format!("{name} listens"), || {
            assert!(process.try_wait().is_none(), "{}", process.output());
            let there = TcpStream::connect(address.clone());
            async { there.await.is_ok() }
        })
        .await;
        Self {
            name,
            address,
            process,
            folder,
        }
    }

    /// nginx with this for its http section.
    pub(super) async fn nginx(http: impl Fn(&str, &str) -> String) -> Self {
        Self::start("nginx", |address, root| {
            let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path {root}/{name};\n"))
                .collect();
            format!(
                "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\n\
                 events {{ worker_connections 1024; }}\nhttp {{\n{folders}{}\n}}\n",
                http(address, root)
            )
        })
        .await
    }

    /// nginx as the example has it.
    pub(super) async fn example_nginx(gateways: [&Gateway; 2]) -> Self {
        Self::nginx(|address, root| {
            example("examples/nginx.conf", gateways)
                .replace("listen 8000", &format!("listen {address}"))
                .replace("/var/log/nginx", root)
        })
        .await
    }

    /// HAProxy as the example has it.
    pub(super) async fn example_haproxy(gateways: [&Gateway; 2]) -> Self {
        Self::start("haproxy", |address, _| {
            example("examples/haproxy.cfg", gateways)
                .replace("bind :8000", &format!("bind {address}"))
                // A process here has fewer descriptors.
                .replace("maxconn 40000", "maxconn 1000")
        })
        .await
    }

    /// All that it has logged.
    pub(super) fn log(&self) -> String {
        let file = self.folder.path().join("usher.log");
        fs::read_to_string(file).unwrap_or_default() + &self.process.output()
    }

    pub(super) async fn open(
        &self,
        gateway: &Gateway,
        redis: &Redis,
        user: &str,
        cookie: &str,
    ) -> Client {
        let ticket = redis.ticket(user).await;
        let mut builder = Client::builder(gateway, &ticket).at(&self.address);
        if !cookie.is_empty() {
            builder = builder.header("Cookie", cookie);
        }
        match builder.try_open().await {
            Ok(client) => client,
            Err(response) => panic!("{}: {response:?}", self.name),
        }
    }
}
