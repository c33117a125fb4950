//! A real Prometheus.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::rules;
use crate::{
    helm::{NAME, NAMESPACE},
    support::{
        Gateway, eventually, http,
        process::{Process, free_port, server},
    },
};

/// A running Prometheus.
pub(super) struct Prometheus {
    pub(super) address: String,
    pub(super) folder: TempDir,
    pub(super) process: Process,
}

impl Prometheus {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().display().to_string();
        let mut rules = rules();
        for rule in rules["groups"][0]["rules"].as_array_mut().expect("rules") {
            let expression = rule["expr"].as_str().expect("a text");
            let quick = expression.replace("[5m]", "[5s]").replace("[15m]", "[10s]");
            rule["expr"] = quick.into();
            rule["for"] = "1s".into();
        }
        // YAML that is JSON.
        fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("written");
        fs::write(folder.path().join("targets.json"), "[]").expect("written");
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [format!("{root}/rules.yaml")],
            "scrape_configs": [{
                "job_name": format!("{NAME}-ops"),
                "file_sd_configs": [{"files": [format!("{root}/targets.json")], "refresh_interval": "1s"}],
            }],
        });
        fs::write(folder.path().join("prometheus.yaml"), config.to_string()).expect("written");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(server("prometheus"));
        command
            .arg(format!("--config.file={root}/prometheus.yaml"))
            .arg(format!("--storage.tsdb.path={root}/data"))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(&root);
        let process = Process::spawn(command);
        let mut this = Self {
            address,
            folder,
            process,
        };
        eventually("Prometheus is ready", || {
            assert!(
                this.process.try_wait().is_none(),
                "{}",
                this.process.output()
            );
            let address = this.address.clone();
            async move {
                TcpStream::connect(&address).await.is_ok()
                    && http::get(&address, "/-/ready", &[]).await.status == 200
            }
        })
        .await;
        this
    }

    /// Has it scrape these.
    pub(super) fn scrapes(&self, gateways: &[(&str, &Gateway)]) {
        let targets: Vec<_> = gateways
            .iter()
            .map(|(pod, gateway)| json!({"targets": [gateway.ops], "labels": {"namespace": NAMESPACE, "pod": pod}}))
            .collect();
        // At once, or it would read half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, json!(targets).to_string()).expect("written");
        fs::rename(new, self.folder.path().join("targets.json")).expect("renamed");
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let response = http::get(&self.address, path, &[]).await;
        let body = response.json();
        assert_eq!(body["status"], "success", "{path}: {body}");
        body["data"].clone()
    }

    /// The values that a query has now.
    pub(super) async fn query(&self, query: &str) -> Vec<f64> {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}")).await;
        let results = data["result"].as_array().expect("results");
        let value = |result: &Value| {
            result["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
        };
        results.iter().filter_map(value).collect()
    }

    pub(super) async fn firing(&self) -> BTreeSet<String> {
        let data = self.get("/api/v1/alerts").await;
        let alerts = data["alerts"].as_array().expect("alerts");
        alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| {
                // What is said of it has been filled in.
                let text = alert["annotations"].to_string();
                assert!(
                    !text.contains("{{") && !text.contains("<no value>"),
                    "{text}"
                );
                alert["labels"]["alertname"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect()
    }

    /// Provokes an alert until it fires.
    pub(super) async fn fires(
        &self,
        seen: &mut BTreeSet<String>,
        name: &str,
        mut provoke: impl AsyncFnMut(),
    ) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            provoke().await;
            seen.extend(self.firing().await);
            if seen.contains(name) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} does not fire");
            sleep(Duration::from_millis(100)).await;
        }
    }
}
