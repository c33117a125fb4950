//! The alerts and the dashboard, by a real Prometheus that scrapes real gateways: every panel
//! has data under load, no alert fires while all is well, and each fires when it is provoked.
//!
//! Only times are other than the chart's: minutes are seconds here.

mod promtool;
mod provoke;
mod server;
mod services;

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

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use usher::proto::IssueTicketRequest;

use self::{
    provoke::{provoke_backlogs, provoke_files, provoke_forgeries, provoke_newcomers},
    server::Prometheus,
    services::{provoke_a_vanished_gateway, provoke_refused_callers, provoke_stream_faults},
};
use crate::{
    helm::{NAME, NAMESPACE, Objects, Render, read},
    support::{
        Client, Gateway, Nats, Redis,
        grpc::{issue, push, push_with_receipt, pushed},
        process::server,
        servers,
    },
};

/// The rules, for gateways that are soon full.
fn rules() -> Value {
    let objects: Objects = Render::minimal()
        .set("prometheusRule.enabled=true")
        .set("prometheusRule.runbookUrl=https://wiki.example.com/operations")
        .set("public.maxSessions=20")
        .set("session.totalQueueBytes=2MiB")
        .set("prometheusRule.refusedAtLeast=2")
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
    assert!(names().len() >= 25, "{:?}", names());
    // The page that lists them counts them.
    let counted = format!("has these {} alerts", names().len());
    assert!(read("docs/operations.md").contains(&counted), "{counted}");
}

/// A relative path is no URL.
#[test]
fn without_a_url_there_is_no_runbook() {
    let objects = Render::minimal().set("prometheusRule.enabled=true");
    let rules = objects.objects().one("PrometheusRule", "").to_string();
    assert!(!rules.contains("runbook_url"), "{rules}");
    Render::minimal()
        .set("prometheusRule.runbookUrl=docs/operations.md")
        .refused("does not match pattern");
}

/// Grafana replaces a dashboard by another of the same uid.
#[test]
fn two_releases_have_two_dashboards() {
    let uid = |render: Render| {
        let objects = render.set("grafanaDashboard.enabled=true").objects();
        let maps = objects.all("ConfigMap");
        let mut texts = maps
            .iter()
            .filter_map(|map| map["data"].as_object()?.iter().next());
        let (_, text) = texts
            .find(|(name, _)| name.ends_with(".json"))
            .expect("a dashboard");
        let text = text.as_str().expect("a text");
        let dashboard: Value = serde_json::from_str(text).expect("JSON");
        let uid = dashboard["uid"].as_str().expect("a uid").to_owned();
        assert!(uid.len() <= 40, "{uid}");
        (uid, dashboard["title"].clone())
    };
    let (one, other) = (
        uid(Render::minimal().named("one")),
        uid(Render::minimal().named("two")),
    );
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);
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
        assert_eq!(page, "https://wiki.example.com/operations");
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

/// A service that answers the calls of clients.
async fn answer_calls(nats: &Nats) {
    let client = nats.responder().await;
    let calls = client.subscribe("usher.call.echo").await;
    let mut calls = calls.expect("subscribed");
    while let Some(call) = calls.next().await {
        if let Some(reply) = call.reply {
            let answered = client.publish(reply, call.payload).await;
            answered.expect("published");
        }
    }
}

/// Pushes, receipts, tickets, calls and sessions, until it is told to stop; and a session of
/// `durable` that comes back.
async fn load(gateway: &Gateway, durable: &Gateway, nats: &Nats, redis: &Redis, stop: &AtomicBool) {
    let mut grpc = gateway.grpc().await;
    let operator = nats.client().await;
    let mut staying = Vec::new();
    for index in 0..8 {
        let ticket = redis.ticket(&format!("user-{index}")).await;
        staying.push(Client::open(gateway, &ticket).await);
    }
    let caller = json!({ "user_id": "caller", "calls": ["echo"], "may_follow": ["news"] });
    let mut caller = Client::open(gateway, &redis.ticket_json(caller).await).await;
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
            for said in [r#"{"id":"1","call":"echo"}"#, r#"{"follow":["news"]}"#] {
                caller.send_text(said).await;
                caller.next_json().await;
            }
            let _ = operator
                .request(format!("usher.user.{user}"), "\"?\"".into())
                .await;
            let ticket = redis.ticket("guest").await;
            let mut guest = Client::open(gateway, &ticket).await;
            guest.close(1000).await;
            let ticket = redis.ticket("guest").await;
            let back = Client::builder(durable, &ticket).since("0").open();
            back.await.close(1000).await;
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

/// Each metric of a gateway is in a panel or in an alert.
async fn everything_is_shown(gateway: &Gateway) {
    let mut shown: Vec<_> = panels().into_iter().map(|(_, shown)| shown).collect();
    shown.push(rules().to_string());
    let shown = shown.concat();
    let words: BTreeSet<_> = shown
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    let metrics = gateway.metrics().await;
    let ours = metrics.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        name.starts_with("usher_").then_some(name)
    });
    let hidden: Vec<_> = ours.filter(|name| !words.contains(name)).collect();
    assert!(
        hidden.is_empty(),
        "neither a panel nor an alert: {hidden:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_every_alert_fires() {
    let (mut nats, mut redis) = servers().await;
    let prometheus = Prometheus::start().await;
    let mut main = gateway(&nats, &redis).start().await;
    let keeping = Nats::keeping().await;
    let durable = Gateway::durable(&keeping, &redis).start().await;
    prometheus.scrapes(&[("usher-0", &main), ("usher-1", &durable)]);

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
    tokio::select! {
        _ = async { tokio::join!(load(&main, &durable, &nats, &redis, &stop), watch) } => {}
        () = answer_calls(&nats) => panic!("the service has lost NATS"),
    }
    everything_is_shown(&durable).await;
    drop(durable);
    prometheus.scrapes(&[("usher-0", &main)]);

    let mut seen = BTreeSet::new();
    provoke_backlogs(&prometheus, &main, &nats, &redis, &mut seen).await;
    provoke_newcomers(&prometheus, &main, &redis, &mut seen).await;
    provoke_files(&prometheus, &main, &nats, &redis, &mut seen).await;

    provoke_forgeries(&prometheus, &main, &redis, &mut seen).await;
    provoke_stream_faults(&prometheus, &main, &redis, &mut seen).await;
    provoke_a_vanished_gateway(&prometheus, &main, &nats, &redis, &mut seen).await;
    provoke_refused_callers(&prometheus, &main, &nats, &redis, &mut seen).await;

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
