//! The commands of `helm test`, as they are rendered, against a real gateway: what the judge
//! runs is the very script, under busybox's shell, as in its container.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitStatus},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    helm::{NAME, NAMESPACE, Objects, Render},
    presets,
    support::{
        Gateway, eventually, http,
        process::{Process, free_port, server},
        servers,
    },
};

/// A container of the test's pod, and what it runs.
fn container<'a>(objects: &'a Objects, name: &str) -> &'a Value {
    let pod = objects.one("Pod", "-test");
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    let found = containers
        .iter()
        .find(|container| container["name"] == name);
    found.unwrap_or_else(|| panic!("there is no container {name}"))
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    let text = |item: &Value| item.as_str().expect("a text").to_owned();
    items.map(text).collect()
}

/// The pod's two containers side by side, where their addresses and files are those of this
/// machine: how the judge ends, how the listener does, and what they said.
async fn run(gateway: &Gateway, token: &str, tries: &str) -> (ExitStatus, ExitStatus, String) {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().display().to_string();
    let objects = Render::minimal().objects();
    let local = |text: &String| {
        text.replace("/etc/usher", &root)
            .replace(&format!("{NAME}-grpc.{NAMESPACE}.svc:9090"), &gateway.grpc)
            .replace(&format!("{NAME}.{NAMESPACE}.svc:80"), &gateway.public)
    };
    fs::create_dir_all(folder.path().join("config")).expect("a folder");
    fs::create_dir_all(folder.path().join("secrets/grpc")).expect("a folder");
    let config = objects.toml().replace("/etc/usher", &root);
    fs::write(folder.path().join("config/usher.toml"), config).expect("written");
    let file = folder.path().join("secrets/grpc/tokens");
    fs::write(file, format!("{token}\n")).expect("written");

    let program = Path::new(env!("CARGO_BIN_EXE_usher"));
    let mut listener = Command::new(program);
    // In its container it is /usher.
    listener.arg0("/usher").env_clear();
    listener.args(
        texts(&container(&objects, "listener")["args"])
            .iter()
            .map(local),
    );
    let mut listener = Process::spawn(listener);

    let judge = texts(&container(&objects, "judge")["command"]);
    assert_eq!(judge[..2], ["/bin/sh", "-c"]);
    let mut command = Command::new(server("busybox"));
    command.arg("sh").args(judge[1..].iter().map(local));
    command
        .env("USHER_TEST_WORK", folder.path())
        .env("USHER_TEST_PROGRAM", program)
        // In a pod there is no other; here tests run side by side.
        .env("USHER_TEST_PID", listener.id().to_string())
        .env("USHER_TEST_TRIES", tries);
    let mut judge = Process::spawn(command);
    let judged = judge.wait().await;
    // The judge tells it to end, so that the pod does.
    let ended = listener.wait().await;
    (judged, ended, judge.output() + &listener.output())
}

#[tokio::test]
async fn the_test_mints_connects_and_receives() {
    let (nats, redis) = servers().await;
    let token = "0123456789abcdef0123456789abcdef";
    let builder = Gateway::builder(&nats, &redis).set("grpc.tokens", token);
    let gateway = builder.start().await;
    let (judged, ended, said) = run(&gateway, token, "60").await;
    assert!(judged.success(), "{said}");
    assert!(ended.success(), "the listener ended with {ended}: {said}");
    for step in [
        "ok: the program is there",
        "ok: a gateway mints a ticket",
        "ok: the ticket opens a session",
        "ok: a push is queued to it",
        "ok: the message arrives",
        "ok: minted, connected, received",
    ] {
        assert!(said.lines().any(|line| line == step), "no {step:?}: {said}");
    }
}

#[tokio::test]
async fn the_test_fails_where_the_token_is_another() {
    let (nats, redis) = servers().await;
    let builder =
        Gateway::builder(&nats, &redis).set("grpc.tokens", "0123456789abcdef0123456789abcdef");
    let gateway = builder.start().await;
    let (judged, ended, said) = run(&gateway, "another-token-that-is-as-long", "4").await;
    assert!(!judged.success() && !ended.success(), "{said}");
    assert!(said.contains("does not know the token"), "{said}");
}

#[test]
fn the_test_has_what_it_needs_to_speak_tls() {
    let objects = presets::objects("encrypted");
    let listener = texts(&container(&objects, "listener")["args"]);
    let has = |pair: &[&str]| listener.windows(2).any(|two| two == pair);
    assert!(
        has(&["--ca-file", "/etc/usher/test/ca.crt"]),
        "{listener:?}"
    );
    assert!(has(&["--certificate-file", "/etc/usher/test/tls.crt"]));
    assert!(has(&[
        "--public",
        &format!("https://{NAME}.{NAMESPACE}.svc:443")
    ]));
    assert!(has(&[
        "--grpc",
        &format!("https://{NAME}-grpc.{NAMESPACE}.svc:9090")
    ]));
    // Without it there is no pod that could only fail, and the notes say so.
    let without = Render::minimal().set("public.tls.existingSecret=usher-tls");
    assert!(without.objects().all("Pod").is_empty());
    assert!(without.notes().contains("set test.existingSecret"));
    assert!(!without.notes().contains("helm test live"));
    assert!(Render::minimal().notes().contains("helm test live"));
}

/// The test mints a ticket.
#[test]
fn without_redis_there_is_no_test() {
    let without = Render::minimal()
        .set("redis.url=")
        .set("tickets.jwt.connect=true")
        .set("tickets.jwt.existingSecret=login")
        .set("tickets.jwt.publicKeyKey=key");
    assert!(without.objects().all("Pod").is_empty());
    let notes = without.notes();
    assert!(notes.contains("without Redis there are none"), "{notes}");
    assert!(!notes.contains("helm test live"), "{notes}");
}

/// The demo's servers, as their containers start them, and a gateway with the configuration
/// that it gets: only addresses and folders are this machine's.
#[tokio::test]
async fn the_demo_works_as_it_is_rendered() {
    let objects = presets::objects("demo");
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().display().to_string();
    let [nats, redis, monitor, public, grpc, ops] = [(); 6].map(|()| free_port().to_string());
    let started = |name: &str, program: &str, command: &str, ports: &[(&str, &String)]| {
        let deployment = objects.one("Deployment", &format!("-demo-{name}"));
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(texts(&container["command"]), [command]);
        let local = |text: &String| match ports.iter().find(|(port, _)| port == text) {
            Some((_, port)) => (*port).clone(),
            None => text.replace("/data", &root).replace("0.0.0.0", "127.0.0.1"),
        };
        let mut command = Command::new(server(program));
        command.args(texts(&container["args"]).iter().map(local));
        Process::spawn(command)
    };
    let _nats = started(
        "nats",
        "nats-server",
        "nats-server",
        &[("4222", &nats), ("8222", &monitor)],
    );
    let _redis = started(
        "redis",
        "redis-server",
        "valkey-server",
        &[("6379", &redis)],
    );

    let config = objects
        .toml()
        .replace(
            &format!("{NAME}-demo-nats:4222"),
            &format!("127.0.0.1:{nats}"),
        )
        .replace(
            &format!("{NAME}-demo-redis:6379"),
            &format!("127.0.0.1:{redis}"),
        )
        .replace("0.0.0.0:8080", &format!("127.0.0.1:{public}"))
        .replace("0.0.0.0:9090", &format!("127.0.0.1:{grpc}"))
        .replace("0.0.0.0:9100", &format!("127.0.0.1:{ops}"));
    let file = folder.path().join("usher.toml");
    fs::write(&file, config).expect("written");
    let program = Path::new(env!("CARGO_BIN_EXE_usher"));
    let mut gateway = Command::new(program);
    gateway.env_clear().args(["serve", "--config"]).arg(&file);
    let mut gateway = Process::spawn(gateway);
    eventually("the gateway is ready", || {
        assert!(gateway.try_wait().is_none(), "{}", gateway.output());
        let ops = format!("127.0.0.1:{ops}");
        async move {
            let listens = tokio::net::TcpStream::connect(&ops).await.is_ok();
            listens && http::get(&ops, "/readyz", &[]).await.status == 200
        }
    })
    .await;
    // What the probe of the demo's NATS asks.
    let monitor = format!("127.0.0.1:{monitor}");
    assert_eq!(http::get(&monitor, "/healthz", &[]).await.status, 200);
    let jetstream = http::get(&monitor, "/jsz", &[]).await.json();
    assert!(jetstream["config"]["store_dir"].is_string(), "{jetstream}");
    // Without a token, since a demo asks for none.
    let mut ticket = Command::new(program);
    ticket
        .env_clear()
        .args(["ticket", "42", "--grpc", &format!("127.0.0.1:{grpc}")]);
    let ticket = ticket.output().expect("it runs");
    assert!(
        ticket.status.success(),
        "{}",
        String::from_utf8_lossy(&ticket.stderr)
    );
}

/// A quota asks for limits of CPU, and tainted nodes for tolerations: of every pod.
#[test]
fn every_pod_can_be_told_what_it_takes_and_where_it_runs() {
    let limits = r#"{"limits":{"cpu":"100m","memory":"64Mi"},"requests":{"cpu":"10m"}}"#;
    let mut render = Render::bare()
        .set("demo.enabled=true")
        .set("nodeSelector.pool=push")
        .json(r#"tolerations=[{"key":"push","operator":"Exists"}]"#)
        .set("demo.nodeSelector.pool=demo")
        .json(r#"test.tolerations=[{"key":"test","operator":"Exists"}]"#);
    for pod in ["test", "demo.nats", "demo.redis"] {
        render = render.json(&format!("{pod}.resources={limits}"));
    }
    let objects = render.objects();
    let template = |suffix: &str| &objects.one("Deployment", suffix)["spec"]["template"]["spec"];
    let test = &objects.one("Pod", "-test")["spec"];
    for (pod, pool, taint) in [
        (template("-demo-nats"), "demo", "push"),
        (template("-demo-redis"), "demo", "push"),
        (test, "push", "test"),
    ] {
        assert_eq!(pod["nodeSelector"]["pool"], pool, "{pod}");
        assert_eq!(pod["tolerations"][0]["key"], taint, "{pod}");
        for container in pod["containers"].as_array().expect("containers") {
            assert_eq!(container["resources"]["limits"]["cpu"], "100m", "{pod}");
        }
    }
}

/// `helm uninstall` knows nothing of what `helm test` made.
#[test]
fn nothing_is_left_of_the_test() {
    let objects = Render::minimal().objects();
    let annotations = &objects.one("Pod", "-test")["metadata"]["annotations"];
    let deleted = annotations["helm.sh/hook-delete-policy"].as_str();
    assert_eq!(
        deleted,
        Some("before-hook-creation,hook-succeeded,hook-failed")
    );
    let logged = annotations["helm.sh/hook-output-log-policy"].as_str();
    assert_eq!(logged, Some("hook-succeeded,hook-failed"));
}
