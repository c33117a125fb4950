//! What makes each alert fire.

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use super::{gateway, server::Prometheus};
use crate::support::{Client, Gateway, Nats, Redis, eventually, process::free_port, tls::Ca};

/// Somebody publishes where only the stream republishes.
pub(super) async fn provoke_forgeries(
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
pub(super) async fn provoke_backlogs(
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
pub(super) async fn provoke_newcomers(
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
pub(super) async fn provoke_files(
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
