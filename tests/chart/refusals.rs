//! What the chart refuses, in words that say which value, why, and the mend.

use std::fs;

use tempfile::TempDir;

use crate::{
    helm::{Render, read},
    values::documented,
};

/// Beside values that are good, each of these is refused in these words.
const IMPOSSIBLE: &[(&[&str], &str)] = &[
    (&["demo.enabled=true"], "demo.enabled brings its own NATS"),
    (&["demo.enabled=true"], "demo.enabled brings its own Redis"),
    (
        &["nats.url="],
        "nats.url is required: where your NATS is, such as --set nats.url=nats://",
    ),
    (
        &["redis.url="],
        "redis.url is required: where tickets are kept, such as --set redis.url=redis://",
    ),
    (
        &["grpc.existingSecret="],
        "grpc.existingSecret is required, since whoever reaches the push API could be any user",
    ),
    (
        &["grpc.allowAnonymous=true"],
        "grpc.allowAnonymous says that callers need nothing",
    ),
    (&["grpc.tls.clientCa=true"], "grpc.tls.clientCa needs TLS"),
    (
        &["nats.tokenKey=token"],
        "nats.tokenKey names a key, but no Secret: set nats.existingSecret",
    ),
    (
        &["nats.existingSecret=s"],
        "nats.existingSecret is given, but none of its keys",
    ),
    (
        &["nats.existingSecret=s", "nats.urlKey=url"],
        "nats.url and nats.urlKey are both given",
    ),
    (
        &["nats.url=nats://me:word@nats:4222"],
        "nats.url holds credentials, and a ConfigMap is no place for them",
    ),
    (
        &["nats.url=nats://a:1\\,nats://me:word@b:1"],
        "nats.url holds credentials",
    ),
    (
        &["redis.url=redis://:word@redis:6379"],
        "redis.url holds credentials",
    ),
    (
        &["redis.url=redis.redis.svc:6379"],
        "redis.url must begin with redis://, redis-sentinel:// or redis-cluster://",
    ),
    (
        &["redis.url=redis-sentinel://a:26379\\,b:26379/0"],
        "redis.url names Sentinels, but not the primary: write ?master=NAME",
    ),
    (
        &["redis.sentinel.passwordKey=sentinel"],
        "redis.sentinel.passwordKey names a key, but no Secret",
    ),
    (
        &["redis.sentinel.user=me"],
        "redis.sentinel.user has no password",
    ),
    (
        &[
            "redis.existingSecret=redis",
            "redis.sentinel.passwordKey=sentinel",
        ],
        "redis.sentinel.passwordKey is for Sentinels, and redis.url names none",
    ),
    (&["nats.user=me"], "nats.user has no password"),
    (&["redis.user=me"], "redis.user has no password"),
    (
        &["nats.existingSecret=s", "nats.passwordKey=p"],
        "nats.passwordKey belongs to no user",
    ),
    (
        &[
            "nats.existingSecret=s",
            "nats.passwordKey=p",
            "nats.user=u",
            "nats.tokenKey=t",
        ],
        "four ways to log in",
    ),
    (
        &["nats.tls.clientCertificate=true"],
        "nats.tls.clientCertificate needs nats.tls.existingSecret",
    ),
    (
        &["redis.tls.existingSecret=s"],
        "redis.url asks for none: write rediss://",
    ),
    (
        &["tickets.jwt.secretKey=k"],
        "names a key, but no Secret: set tickets.jwt.existingSecret",
    ),
    (
        &["tickets.jwt.existingSecret=s"],
        "set tickets.jwt.secretKey or .publicKeyKey",
    ),
    (
        &[
            "tickets.jwt.existingSecret=s",
            "tickets.jwt.secretKey=k",
            "tickets.jwt.publicKeyKey=p",
        ],
        "are ways to check a token: keep one",
    ),
    (
        &["tickets.jwt.connect=true"],
        "tickets.jwt.connect needs a way to check a token",
    ),
    (
        &["tickets.jwt.audience=app"],
        "tickets.jwt.audience needs a way to check a token",
    ),
    (
        &["tickets.jwt.mayFollowPrefixClaim=rooms"],
        "tickets.jwt.mayFollowPrefixClaim needs a way to check a token",
    ),
    (
        &["tickets.jwt.oidcIssuer=https://login.example.com"],
        "tickets.jwt.oidcIssuer needs tickets.jwt.audience",
    ),
    (
        &[
            "tickets.jwt.oidcIssuer=https://login.example.com",
            "tickets.jwt.audience=a",
            "tickets.jwt.issuer=i",
        ],
        "leave tickets.jwt.issuer out",
    ),
    (
        &["tickets.jwt.audienceClaim=client_id"],
        "tickets.jwt.audienceClaim goes with tickets.jwt.audience",
    ),
    (
        &["tickets.jwt.tls.existingSecret=s"],
        "tickets.jwt.tls is for tickets.jwt.jwksUrl and .oidcIssuer",
    ),
    (
        &["tickets.jwt.jwksUrl=https://login.example.com/jwks"],
        "needs tickets.jwt.issuer and .audience",
    ),
    (
        &["nginx.enabled=true", "hosts={a.example.com}"],
        "public.trustedProxies is required behind a proxy",
    ),
    (
        &["traefik.enabled=true", "hosts={a.example.com}"],
        "public.trustedProxies is required behind a proxy",
    ),
    (
        &["httpRoute.enabled=true", "hosts={a.example.com}"],
        "public.trustedProxies is required behind a proxy",
    ),
    (
        &["nginx.enabled=true", "public.trustedProxies={10.0.0.0/8}"],
        "hosts is required with httpRoute, traefik or nginx",
    ),
    (
        &["httpRoute.enabled=true"],
        "httpRoute.parentRefs is required",
    ),
    (
        &[
            "httpRoute.enabled=true",
            "httpRoute.parentRefs[0].name=public",
            "cookieAffinity.enabled=true",
        ],
        "cookieAffinity.enabled needs httpRoute.sessionPersistence=true",
    ),
    (
        &["httpRoute.sessionPersistence=true"],
        "set httpRoute.enabled and cookieAffinity.enabled too",
    ),
    (
        &["cookieAffinity.enabled=true"],
        "cookieAffinity.enabled needs a proxy that sets the cookie",
    ),
    (
        &["networkPolicy.enabled=true", "grpc.service.type=NodePort"],
        "let their addresses in by networkPolicy.extraIngress",
    ),
    (
        &["traefik.enabled=true", "hosts={*.example.com}"],
        "hosts: Traefik takes a host with * as it is written",
    ),
    (
        &[
            "traefik.enabled=true",
            "traefik.tlsSecret=s",
            "traefik.certResolver=r",
        ],
        "two ways to a certificate",
    ),
    (
        &[
            "traefik.enabled=true",
            "traefik.tlsSecret=s",
            "traefik.tls=false",
        ],
        "traefik.tls is false",
    ),
    (
        &["session.idleTimeout=25s"],
        "session.idleTimeout (25s) must be longer than session.pingInterval (25s)",
    ),
    (
        &["session.idleTimeout=20000ms"],
        "must be longer than session.pingInterval",
    ),
    (
        &["tickets.ttl=6m"],
        "tickets.ttl (6m) must be from 1s to 300s",
    ),
    (
        &["durable.enabled=true", "durable.maxAge=1m"],
        "durable.duplicateWindow (2m) must not be above durable.maxAge (1m)",
    ),
    (
        &["offline.events=true"],
        "offline.events needs a stream that keeps messages: set durable.enabled=true",
    ),
    (
        &["public.port=9090"],
        "public.port, grpc.port and ops.port must differ",
    ),
    (
        &["resources.limits.memory=256Mi"],
        "resources.limits.memory (256Mi) is less than 20000 public.maxSessions, session.totalQueueBytes (256MiB) and grpc.maxInFlightBytes (64MiB) may come to need: give it 469Mi",
    ),
    (
        &["public.maxSessions=40000", "public.tls.existingSecret=tls"],
        "resources.limits.memory (768Mi) is less than 40000 public.maxSessions (10.5 KB each with public.tls)",
    ),
    (
        &["public.maxSessions=200000"],
        "resources.limits.memory (768Mi) is less than 200000",
    ),
    (
        &["session.totalQueueBytes=1GiB"],
        "session.totalQueueBytes (1GiB)",
    ),
    (
        &[
            "autoscaling.enabled=true",
            "autoscaling.minReplicas=5",
            "autoscaling.maxReplicas=4",
        ],
        "autoscaling.minReplicas (5) is more than autoscaling.maxReplicas (4)",
    ),
    (
        &["autoscaling.enabled=true", "autoscaling.targetCpu=0"],
        "nothing to scale by",
    ),
    (
        &["autoscaling.enabled=true", "resources.requests.cpu=null"],
        "a share of resources.requests.cpu, which is not given",
    ),
    (
        &[
            "autoscaling.enabled=true",
            "autoscaling.targetSessions=30000",
        ],
        "gateways would be full before another comes",
    ),
    (
        &["podDisruptionBudget.maxUnavailable=0"],
        "no node could ever be drained",
    ),
    (
        &["podDisruptionBudget.maxUnavailable=0%"],
        "no node could ever be drained",
    ),
    (
        &["service.nodePort=30080"],
        "need service.type NodePort or LoadBalancer",
    ),
    (
        &["service.loadBalancerClass=x"],
        "need service.type LoadBalancer",
    ),
    (
        &["serviceMonitor.enabled=true", "podMonitor.enabled=true"],
        "scraped twice",
    ),
    (
        &["networkPolicy.enabled=true", "nats.url=nats://nats:4333"],
        "networkPolicy.natsPorts does not have 4333, the port of nats.url",
    ),
    (
        &[
            "networkPolicy.enabled=true",
            "redis.url=redis://redis:6380/3",
        ],
        "networkPolicy.redisPorts does not have 6380",
    ),
];

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (values, words) in IMPOSSIBLE {
        let mut render = Render::minimal();
        for value in *values {
            render = render.set(value);
        }
        render.refused(words);
    }
}

/// What of TLS is refused above.
#[test]
fn without_tls_a_session_takes_less() {
    let render = Render::minimal().set("public.maxSessions=40000");
    assert!(!render.objects().0.is_empty());
}

/// The smallest limit of memory is that of the formula which the documents have.
#[test]
fn memory_is_refused_by_the_formula_of_the_documents() {
    for (file, formula, in_durable_mode) in [
        (
            "docs/operations.md",
            "20 MB + 4 KB for each session + 1.2 x session.total_queue_bytes + grpc.max_in_flight_bytes",
            "add `durable.replay_bytes`",
        ),
        (
            "docs/kubernetes.md",
            "20 MB + 4 KB × public.maxSessions + 1.2 × session.totalQueueBytes + grpc.maxInFlightBytes",
            "also `durable.replayBytes`",
        ),
        (
            "helm/values.yaml",
            "20 MB, 4 KB a session (10.5 KB with `public.tls`), 1.2 × `session.totalQueueBytes`, `grpc.maxInFlightBytes`",
            "with `durable.enabled`, `durable.replayBytes`",
        ),
    ] {
        let text = read(file);
        assert!(text.contains(formula), "{file}");
        assert!(text.contains(in_durable_mode), "{file}");
    }
    let mib = 1 << 20;
    let live = 20_000_000 + 4096 * 20_000 + 12 * 256 * mib / 10 + 64 * mib;
    for (durable, least) in [(false, live), (true, live + 96 * mib)] {
        let limit = |bytes: u64| {
            Render::minimal()
                .set(&format!("durable.enabled={durable}"))
                .json(&format!("resources.limits.memory=\"{bytes}\""))
        };
        assert!(!limit(least).objects().0.is_empty());
        limit(least - 1).refused("and grpc.maxInFlightBytes (64MiB) may come to need");
        if durable {
            limit(least - 1).refused("durable.replayBytes (96MiB)");
        }
    }
}

/// So that nobody has to mend one after the other.
#[test]
fn all_complaints_come_at_once() {
    let error = Render::bare().try_text().expect_err("nothing is given");
    for words in [
        "nats.url is required",
        "redis.url is required",
        "grpc.existingSecret is required",
        "demo.enabled=true",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

/// By the schema: a key that is not known, in every section, and a type that is not right.
#[test]
fn an_unknown_key_is_refused_wherever_it_is() {
    let mut sections: Vec<String> = documented()
        .into_iter()
        .map(|value| match value.path.rsplit_once('.') {
            Some((section, _)) => format!("{section}."),
            None => String::new(),
        })
        .collect();
    sections.dedup();
    assert!(sections.len() > 30);
    for section in sections {
        let render = Render::minimal().set(&format!("{section}nonsense=1"));
        render.refused("additional properties 'nonsense' not allowed");
    }
}

#[test]
fn a_value_of_another_kind_is_refused() {
    for (value, words) in [
        ("replicaCount=many", "got string, want null or integer"),
        ("session.pingInterval=25", "got number, want string"),
        ("session.pingInterval=soon", "does not match pattern"),
        ("session.queueBytes=1MB", "does not match pattern"),
        ("service.type=Headless", "value must be one of"),
        ("mesh.type=consul", "value must be one of"),
        ("image.pullPolicy=Sometimes", "value must be one of"),
        ("image.digest=latest", "does not match pattern"),
        ("public.pathPrefix=usher/", "does not match pattern"),
        ("public.port=80", "minimum"),
        ("hosts=push.example.com", "got string, want array"),
        ("hosts={https://push.example.com}", "does not match pattern"),
        (
            "tickets.jwt.jwksUrl=http://login.example.com",
            "does not match pattern",
        ),
        ("prometheusRule.nearlyFull=2", "maximum"),
        ("demo.enabled=perhaps", "got string, want boolean"),
    ] {
        Render::minimal().set(value).refused(words);
    }
}

/// A subchart gets `global` from its parent, and `enabled` for the parent's condition.
#[test]
fn it_renders_as_a_subchart() {
    let folder = TempDir::new().expect("a folder");
    let parent = folder.path().join("parent");
    fs::create_dir_all(parent.join("charts")).expect("a folder");
    let chart = "apiVersion: v2\nname: parent\nversion: 1.0.0\n\
                 dependencies:\n  - {name: usher, version: 0.2.0, condition: usher.enabled}\n";
    fs::write(parent.join("Chart.yaml"), chart).expect("written");
    crate::objects::labels::copy(
        &crate::helm::project().join("helm"),
        &parent.join("charts/usher"),
    );
    let render = |enabled: &str| {
        Render::of(parent.clone())
            .set(&format!("usher.enabled={enabled}"))
            .set("global.imageRegistry=registry.example.com")
            .set("global.somebodyElses=thing")
            .set("usher.demo.enabled=true")
    };
    let objects = render("true").objects();
    let image = objects.pod()["containers"][0]["image"].as_str();
    assert_eq!(image, Some("registry.example.com/usher:0.2.0"));
    let nats = objects.one("Deployment", "-demo-nats");
    let image = &nats["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example.com/library/nats:2.15.1-alpine");
    assert!(render("false").objects().0.is_empty());
}
