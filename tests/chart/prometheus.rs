//! The alerts and the dashboard, by a real Prometheus that scrapes real gateways: every panel
//! has data under load, no alert fires while all is well, and each fires when it is provoked.
//!
//! Only times are other than the chart's: minutes are seconds here.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep},
};
use usher::proto::IssueTicketRequest;

use crate::{
    helm::{NAME, NAMESPACE, Objects, Render, read},
    support::{
        Client, Gateway, Nats, Redis, eventually,
        grpc::{issue, push, push_with_receipt, pushed},
        http,
        process::{Process, free_port, server},
        servers,
        tls::Ca,
    },
};

/// The rules, for gateways that are soon full.
fn rules() -> Value {
    let objects: Objects = Render::minimal()
        .set("prometheusRule.enabled=true")
        .set("public.maxSessions=20")
        .set("session.totalQueueBytes=2MiB")
        .objects();
    objects.one("PrometheusRule", "")["spec"].clone()
}

/// The names of all alerts.
fn names() -> BTreeSet<String> {
    let rules = rules();
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    let name = |rule: &Value| rule["alert"].as_str().expect("a name").to_owned();
    rules.iter().map(name).collect()
}

/// A running Prometheus.
struct Prometheus {
    address: String,
    folder: TempDir,
    process: Process,
}

impl Prometheus {
    async fn start() -> Self {
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
    fn scrapes(&self, gateways: &[(&str, &Gateway)]) {
        let targets: Vec<_> = gateways
            .iter()
            .map(|(pod, gateway)| json!({"targets": [gateway.ops], "labels": {"namespace": NAMESPACE, "pod": pod}}))
            .collect();
        // At once, or it would read half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, json!(targets).to_string()).expect("written");
        fs::rename(new, self.folder.path().join("targets.json")).expect("renamed");
    }

    async fn get(&self, path: &str) -> Value {
        let response = http::get(&self.address, path, &[]).await;
        let body = response.json();
        assert_eq!(body["status"], "success", "{path}: {body}");
        body["data"].clone()
    }

    /// The values that a query has now.
    async fn query(&self, query: &str) -> Vec<f64> {
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

    async fn firing(&self) -> BTreeSet<String> {
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
    async fn fires(&self, seen: &mut BTreeSet<String>, name: &str, mut provoke: impl AsyncFnMut()) {
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

#[test]
fn the_rules_are_good_as_they_are_rendered() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rules.yaml");
    fs::write(&file, rules().to_string()).expect("written");
    let output = Command::new(server("promtool"))
        .args(["check", "rules"])
        .arg(&file)
        .output();
    let output = output.expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!("{} rules found", names().len())),
        "{said}"
    );
    assert!(names().len() >= 16, "{:?}", names());
}

#[test]
fn every_alert_says_what_to_do() {
    let rules = rules();
    let operations = read("docs/operations.md");
    let anchors: BTreeSet<String> = operations
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-")
                .replace(['`', '(', ')', ','], "")
        })
        .collect();
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 10, "{name} has no {annotation}");
        }
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning"].contains(&severity), "{name}");
        let url = rule["annotations"]["runbook_url"]
            .as_str()
            .expect("a runbook");
        let (page, anchor) = url.split_once('#').expect("an anchor");
        assert_eq!(page, "docs/operations.md");
        assert!(
            anchors.contains(anchor),
            "docs/operations.md has no #{anchor}, for {name}"
        );
        assert!(
            operations.contains(&format!("`{name}`")),
            "docs/operations.md does not name {name}"
        );
    }
    let without = Render::minimal()
        .set("prometheusRule.enabled=true")
        .set("public.maxSessions=0")
        .objects();
    assert!(
        !without
            .one("PrometheusRule", "")
            .to_string()
            .contains("UsherNearlyFull")
    );
}

/// All expressions of the dashboard, by panel, with its variables filled in.
fn panels() -> Vec<(String, String)> {
    let objects = Render::minimal()
        .set("grafanaDashboard.enabled=true")
        .objects();
    let map = objects.one("ConfigMap", "-dashboard");
    let text = map["data"][format!("{NAME}.json")]
        .as_str()
        .expect("a text");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{title}"
        );
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("a text");
            let filled = expression
                .replace("$namespace", NAMESPACE)
                .replace("$job", &format!("{NAME}-ops"))
                .replace("$pod", ".*")
                .replace("$__rate_interval", "5s");
            assert!(!filled.contains('$'), "{title}: {filled}");
            found.push((title.to_owned(), filled));
        }
    }
    found
}

fn gateway(nats: &Nats, redis: &Redis) -> crate::support::Builder {
    Gateway::builder(nats, redis)
        .set("public.max_sessions", "20")
        .set("session.total_queue_bytes", "2MiB")
        .set("session.queue_bytes", "640KiB")
        .set("session.queue_messages", "100000")
        .set("session.write_timeout", "20s")
        .set("redis.timeout", "300ms")
}

/// Pushes, receipts, tickets and sessions, until it is told to stop.
async fn load(gateway: &Gateway, nats: &Nats, redis: &Redis, stop: &AtomicBool) {
    let mut grpc = gateway.grpc().await;
    let operator = nats.client().await;
    let mut staying = Vec::new();
    for index in 0..8 {
        let ticket = redis.ticket(&format!("user-{index}")).await;
        staying.push(Client::open(gateway, &ticket).await);
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let user = format!("user-{}", round % 8);
        pushed(&mut grpc, push(&user, "{\"order\":123}")).await;
        if round % 8 == 0 {
            pushed(&mut grpc, push_with_receipt(&user, "\"?\"")).await;
            let request = IssueTicketRequest {
                user_id: user.clone(),
                ..IssueTicketRequest::default()
            };
            issue(&mut grpc, request).await;
            let _ = operator
                .request(format!("usher.user.{user}"), "\"?\"".into())
                .await;
            let ticket = redis.ticket("guest").await;
            let mut guest = Client::open(gateway, &ticket).await;
            guest.close(1000).await;
        }
        for client in &mut staying {
            while client
                .next_frame_within(Duration::from_millis(1))
                .await
                .is_some()
            {}
        }
        round += 1;
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_every_alert_fires() {
    let (mut nats, mut redis) = servers().await;
    let prometheus = Prometheus::start().await;
    let mut main = gateway(&nats, &redis).start().await;
    prometheus.scrapes(&[("usher-0", &main)]);

    // All is well.
    let stop = Arc::new(AtomicBool::new(false));
    let watch = async {
        let deadline = Instant::now() + Duration::from_secs(40);
        let mut missing: Vec<_> = panels();
        assert!(missing.len() > 20, "{missing:?}");
        while !missing.is_empty() {
            let mut still = Vec::new();
            for (title, expression) in missing {
                let values = prometheus.query(&expression).await;
                if !values.iter().any(|value| !value.is_nan()) {
                    still.push((title, expression));
                }
            }
            missing = still;
            assert!(Instant::now() < deadline, "without data: {missing:#?}");
            sleep(Duration::from_millis(500)).await;
        }
        // Long enough for what would fire.
        sleep(Duration::from_secs(4)).await;
        let mut firing = prometheus.firing().await;
        // A busy machine may be slow by itself, and miss a scrape of half a second.
        for late in [
            "UsherDeliverySlow",
            "UsherRedisSlow",
            "UsherDown",
            "UsherAbsent",
        ] {
            firing.remove(late);
        }
        assert!(firing.is_empty(), "all is well, and yet {firing:?}");
        let sessions = prometheus.query("sum(usher_sessions)").await;
        assert!(sessions[0] >= 8.0, "{sessions:?}");
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&main, &nats, &redis, &stop), watch);

    let mut seen = BTreeSet::new();
    provoke_backlogs(&prometheus, &main, &nats, &redis, &mut seen).await;
    provoke_newcomers(&prometheus, &main, &redis, &mut seen).await;
    provoke_files(&prometheus, &main, &nats, &redis, &mut seen).await;

    provoke_forgeries(&prometheus, &main, &redis, &mut seen).await;

    redis.pause();
    let newcomer = async || drop(Client::try_open(&main, &"t".repeat(43)).await);
    prometheus
        .fires(&mut seen, "UsherRedisSlow", newcomer)
        .await;
    redis.resume();
    nats.kill();
    prometheus.fires(&mut seen, "UsherNatsDown", newcomer).await;
    prometheus
        .fires(&mut seen, "UsherUnavailable", newcomer)
        .await;
    main.kill();
    prometheus.fires(&mut seen, "UsherDown", async || {}).await;
    prometheus
        .fires(&mut seen, "UsherAbsent", async || {})
        .await;

    let never: Vec<_> = names().difference(&seen).cloned().collect();
    assert!(never.is_empty(), "nothing here provokes {never:?}");
}

/// Somebody publishes where only the stream republishes.
async fn provoke_forgeries(
    prometheus: &Prometheus,
    main: &Gateway,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let nats = Nats::keeping_for_all().await;
    let durable = Gateway::durable(&nats, redis).start().await;
    let _session = Client::open(&durable, &redis.ticket("42").await).await;
    prometheus.scrapes(&[("usher-0", main), ("usher-1", &durable)]);
    let forge = async || nats.publish("usher.live.user.42", "\"false\"").await;
    prometheus.fires(seen, "UsherNotFromTheStream", forge).await;
    prometheus.scrapes(&[("usher-0", main)]);
}

/// Clients that do not read: backlogs, closes, losses, and late deliveries.
async fn provoke_backlogs(
    prometheus: &Prometheus,
    main: &Gateway,
    nats: &Nats,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let mut clients = Vec::new();
    for index in 0..4 {
        let ticket = redis.ticket(&format!("slow-{index}")).await;
        clients.push(Client::builder(main, &ticket).small_buffers().open().await);
    }
    let payload = format!("\"{}\"", "x".repeat(8000));
    let publish = async |index: usize| {
        nats.publish(&format!("usher.user.slow-{index}"), &payload)
            .await;
    };
    let fill = async || {
        if main.metric("usher_queued_bytes").await < 1_750_000.0 {
            for _ in 0..4 {
                for index in 0..4 {
                    publish(index).await;
                }
            }
        }
    };
    // Quicker than a look at the alerts allows.
    let deadline = Instant::now() + Duration::from_secs(30);
    while main.metric("usher_queued_bytes").await < 1_700_000.0 {
        fill().await;
        assert!(Instant::now() < deadline, "the backlogs do not fill");
    }
    prometheus.fires(seen, "UsherQueuesNearlyFull", fill).await;
    // Two of them read at last what has long been here.
    for client in &mut clients[2..] {
        while client
            .next_frame_within(Duration::from_millis(300))
            .await
            .is_some()
        {}
    }
    prometheus
        .fires(seen, "UsherDeliverySlow", async || {})
        .await;
    // The others go on without reading, and are closed.
    let more = async || {
        for _ in 0..10 {
            publish(0).await;
            publish(1).await;
        }
    };
    prometheus.fires(seen, "UsherSlowConsumers", more).await;
    prometheus.fires(seen, "UsherMessagesDropped", more).await;
}

/// Too many of them, with the wrong tickets, or without any request.
async fn provoke_newcomers(
    prometheus: &Prometheus,
    main: &Gateway,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let guess = async || {
        let response = Client::try_open(main, &"x".repeat(43)).await;
        response
            .err()
            .expect("nobody's ticket")
            .assert_refused(401, "ticket_unknown");
    };
    prometheus.fires(seen, "UsherRefusals", guess).await;
    let garbage = async || {
        for _ in 0..20 {
            if let Ok(mut stream) = TcpStream::connect(&main.public).await {
                let _ = stream.write_all(b"\x16\x03\x01 no request\r\n\r\n").await;
            }
        }
    };
    prometheus.fires(seen, "UsherConnectionsCut", garbage).await;
    let mut inside = Vec::new();
    while let Ok(client) =
        Client::try_open(main, &redis.ticket(&format!("many-{}", inside.len())).await).await
    {
        inside.push(client);
        assert!(inside.len() <= 20, "more than public.max_sessions");
    }
    prometheus.fires(seen, "UsherNearlyFull", async || {}).await;
    let ticket = redis.ticket("one too many").await;
    let knock = async || {
        let response = Client::try_open(main, &ticket).await;
        response
            .err()
            .expect("there is no room")
            .assert_refused(503, "full");
    };
    prometheus.fires(seen, "UsherFull", knock).await;
}

/// Files that are not good, keys that are not there, and too few descriptors.
async fn provoke_files(
    prometheus: &Prometheus,
    main: &Gateway,
    nats: &Nats,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let certificates = TempDir::new().expect("a folder");
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| certificates.path().join(name));
    let ca = Ca::new();
    let good = ca.issue();
    fs::copy(&good.certificate_file, &certificate).expect("copied");
    fs::copy(&good.key_file, &key).expect("copied");
    let odd = gateway(nats, redis)
        .set(
            "public.tls.certificate_file",
            certificate.display().to_string(),
        )
        .set("public.tls.key_file", key.display().to_string())
        .set(
            "tickets.jwt.jwks_url",
            format!("https://127.0.0.1:{}/keys", free_port()),
        )
        .set("tickets.jwt.issuer", "login")
        .set("tickets.jwt.audience", "push")
        .start()
        .await;
    prometheus.scrapes(&[("usher-0", main), ("usher-1", &odd)]);
    eventually("both are scraped", || async {
        prometheus.query("sum(up)").await == [2.0]
    })
    .await;
    fs::write(&certificate, "no certificate").expect("written");
    prometheus
        .fires(seen, "UsherCertificateNotTakenUp", async || {})
        .await;
    prometheus
        .fires(seen, "UsherKeysNotFetched", async || {})
        .await;
    let pid = Pid::from_raw(odd.id().try_into().expect("a process id"));
    // As many as it has, and two for who asks for metrics.
    let few = Some(odd.metric("process_open_fds").await as u64 + 2);
    let few = Rlimit {
        current: few,
        maximum: few,
    };
    prlimit(pid, Resource::Nofile, few).expect("it is ours");
    prometheus
        .fires(seen, "UsherFileDescriptors", async || {})
        .await;
    prometheus.scrapes(&[("usher-0", main)]);
}
