//! `make up` and `compose.yaml`: the real thing on one machine, as a newcomer starts it.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::{
    demo::post_at,
    support::{
        Client, eventually, http,
        process::{Process, bounded, free_port, server},
        secret,
        wait::PATIENCE,
    },
};

const VARIABLES: [&str; 8] = [
    "UP_NATS_PORT",
    "UP_REDIS_PORT",
    "UP_PUBLIC_PORT_1",
    "UP_PUBLIC_PORT_2",
    "UP_GRPC_PORT_1",
    "UP_GRPC_PORT_2",
    "UP_OPS_PORT_1",
    "UP_OPS_PORT_2",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(argument: &str, ports: &[u16; 8]) -> Command {
    // Where these tests run in the background, SIGINT is ignored, and that is inherited.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(root().join("examples/up.sh"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("USHER_") {
            command.env_remove(name);
        }
    }
    // As a terminal starts it: Ctrl-C goes to this group.
    command.arg(argument).process_group(0);
    for (variable, port) in VARIABLES.iter().zip(ports) {
        command.env(variable, port.to_string());
    }
    command
}

/// `make up` with these ports.
struct Up(Process);

impl Up {
    fn start(ports: &[u16; 8]) -> Self {
        Self(Process::spawn(script(env!("CARGO_BIN_EXE_usher"), ports)))
    }

    async fn says(&mut self, text: &str) {
        self.says_times(text, 1).await;
    }

    async fn says_times(&mut self, text: &str, times: usize) {
        eventually(&format!("up says {text:?} {times} times"), || {
            let output = self.0.output();
            let says = output.matches(text).count() >= times;
            assert!(says || self.0.try_wait().is_none(), "it ended:\n{output}");
            std::future::ready(says)
        })
        .await;
    }

    /// The last line that it has printed with this in it, as somebody copies it.
    fn printed(&self, part: &str) -> String {
        let output = self.0.output();
        let line = output.lines().rfind(|line| line.contains(part));
        let line = line.unwrap_or_else(|| panic!("no {part:?} in:\n{output}"));
        line.trim().to_owned()
    }

    /// Ctrl-C in its terminal.
    fn ctrl_c(&self) {
        let group = Pid::from_raw(self.0.id().cast_signed()).expect("a group");
        kill_process_group(group, Signal::INT).expect("it runs");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.0.try_wait().is_none() {
            // It ends its servers, which a SIGKILL would leave behind.
            self.ctrl_c();
            for _ in 0..200 {
                if self.0.try_wait().is_some() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        if std::thread::panicking() {
            eprintln!("--- make up:\n{}---", self.0.output());
        }
    }
}

/// Runs a line that was printed, where `make up` was typed.
async fn shell(line: &str) -> Output {
    let mut command = Command::new("bash");
    let child = command
        .args(["-c", line])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let pid = Pid::from_child(&child);
    let output = bounded(line, pid, PATIENCE, move || child.wait_with_output()).await;
    output.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Where the gateway of this number listens for browsers.
async fn session(ports: &[u16; 8], number: usize, user: &str) -> Client {
    let public = format!("127.0.0.1:{}", ports[1 + number]);
    let answer = post_at(&public, "/demo/tickets", json!({ "user_id": user })).await;
    let ticket = secret(answer.json()["ticket"].as_str().expect("a ticket"));
    Client::builder_at(&public, &ticket).open().await
}

/// All that it prints is true when it is printed, and can be typed as it stands.
#[tokio::test]
async fn two_gateways_one_is_killed_and_comes_back_and_ctrl_c_drains_them() {
    let ports: [u16; 8] = std::array::from_fn(|_| free_port());
    let mut up = Up::start(&ports);
    up.says("up      | usher-1: a page to try").await;
    for ops in &ports[6..] {
        let answer = http::get(&format!("127.0.0.1:{ops}"), "/readyz", &[]).await;
        assert_eq!(answer.status, 200, "it was said before it was true");
    }
    up.says("Ctrl-C stops all").await;
    let mut second = session(&ports, 2, "42").await;
    let push = up.printed("usher push 42");
    let pushed = shell(&push).await;
    assert!(pushed.status.success(), "{push}: {pushed:?}");
    assert_eq!(second.next_data().await, json!({ "order": 123 }));

    let killed = shell(&up.printed("kill -KILL")).await;
    assert!(killed.status.success(), "{killed:?}");
    up.says("usher-1 has ended").await;
    let again = up.printed("To start it again: ");
    let again = again.split_once("again: ").expect("a command").1;
    let again = shell(again).await;
    assert!(again.status.success(), "{again:?}");
    up.says("usher-1 is back").await;
    let mut first = session(&ports, 1, "42").await;
    up.says_times("kill -KILL", 2).await;
    assert!(shell(&push).await.status.success());
    for client in [&mut first, &mut second] {
        assert_eq!(client.next_data().await, json!({ "order": 123 }));
    }

    up.ctrl_c();
    for client in [&mut first, &mut second] {
        assert_eq!(client.expect_goodbye().await["reason"], "drain");
        assert_eq!(client.expect_close().await, (1012, "drain".to_owned()));
    }
    assert!(up.0.wait().await.success(), "{}", up.0.output());
    let output = up.0.output();
    for name in ["usher-1", "usher-2"] {
        let drained = |line: &str| line.starts_with(name) && line.contains("drained");
        assert!(output.lines().any(drained), "{name}:\n{output}");
    }
    for port in ports {
        TcpListener::bind(("127.0.0.1", port)).expect("nothing is left of it");
    }
}

/// One that ends without a gateway's fault, too.
#[tokio::test]
async fn without_nats_it_stops_and_says_so() {
    let ports: [u16; 8] = std::array::from_fn(|_| free_port());
    let mut up = Up::start(&ports);
    up.says("Ctrl-C stops all").await;
    let found = shell(&format!("ss -Hltnp 'sport = :{}'", ports[0])).await;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let pid = found
        .split_once("pid=")
        .and_then(|(_, rest)| rest.split(',').next());
    let pid = pid.unwrap_or_else(|| panic!("who listens? {found}"));
    shell(&format!("kill -KILL {pid}")).await;
    up.says("nats has ended").await;
    assert_eq!(up.0.wait().await.code(), Some(1));
}

/// Before anything is built or begun: all that is wrong, and what to type.
#[tokio::test]
async fn a_port_in_use_is_told_first() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [redis, public] = taken
        .each_ref()
        .map(|taken| taken.local_addr().expect("an address").port());
    let mut ports: [u16; 8] = std::array::from_fn(|_| free_port());
    (ports[1], ports[2]) = (redis, public);
    for argument in ["check", env!("CARGO_BIN_EXE_usher")] {
        let mut up = Process::spawn(script(argument, &ports));
        assert_eq!(up.wait().await.code(), Some(1), "{}", up.output());
        let said = up.output();
        let own = format!("(pid {})", std::process::id());
        for (port, variable) in [(redis, "UP_REDIS_PORT"), (public, "UP_PUBLIC_PORT_1")] {
            let names = |line: &str| {
                line.contains(&format!("port {port} is in use by "))
                    && line.contains(&own)
                    && line.contains(&format!("{variable}=PORT make up"))
            };
            assert!(said.lines().any(names), "{said}");
        }
        assert_eq!(said.lines().count(), 2, "nothing else: {said}");
    }
    drop(taken);
    let mut up = Process::spawn(script("check", &ports));
    assert!(up.wait().await.success(), "{}", up.output());

    ports[0] = ports[7];
    let mut command = script("check", &ports);
    let mut up = Process::spawn(std::mem::replace(&mut command, script("check", &ports)));
    assert_eq!(up.wait().await.code(), Some(1));
    assert!(
        up.output()
            .contains("UP_OPS_PORT_2 and UP_NATS_PORT are both")
    );
    command.env("UP_NATS_PORT", "70000");
    let mut up = Process::spawn(command);
    assert_eq!(up.wait().await.code(), Some(1));
    assert!(up.output().contains("UP_NATS_PORT=70000 is not a port"));
}

/// What `docker-compose config` makes of the file. It starts nothing.
async fn compose(variables: &[(&str, &str)]) -> Value {
    let mut command = Command::new(server("docker-compose"));
    command
        .arg("config")
        .current_dir(root())
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("docker-compose runs");
    let pid = Pid::from_child(&child);
    let output = bounded("docker-compose", pid, PATIENCE, move || {
        child.wait_with_output()
    });
    let output = output.await.expect("it ends");
    assert!(output.status.success(), "{output:?}");
    serde_yaml_ng::from_slice(&output.stdout).expect("YAML")
}

#[tokio::test]
async fn compose_has_the_same_and_its_settings_are_known() {
    let file = compose(&[]).await;
    let services = file["services"].as_object().expect("services");
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["nats", "redis", "usher-1", "usher-2"]);
    for (name, ports) in [
        ("nats", &[4222][..]),
        ("redis", &[6379]),
        ("usher-1", &[8080, 9090, 9100]),
        ("usher-2", &[8081, 9091, 9101]),
    ] {
        let found = services[name]["ports"].as_array().expect("ports");
        let found: Vec<_> = found.iter().filter_map(Value::as_str).collect();
        assert_eq!(found.len(), ports.len(), "{name}: {found:?}");
        for (found, port) in found.iter().zip(ports) {
            let on_loopback = format!("127.0.0.1:{port}:");
            assert!(found.starts_with(&on_loopback), "{name}: {found}");
        }
    }
    let gateway = &services["usher-1"];
    assert_eq!(gateway["environment"], services["usher-2"]["environment"]);
    assert_eq!(gateway["build"]["context"], root().display().to_string());
    let settings = gateway["environment"].as_object().expect("settings");
    let mut check = Command::new(env!("CARGO_BIN_EXE_usher"));
    check.arg("config");
    for (key, value) in settings {
        check.env(key, value.as_str().expect("text"));
    }
    let output = check.output().expect("usher runs");
    assert!(output.status.success(), "{output:?}");
    // The same servers as the chart's demo.
    let values = std::fs::read_to_string(root().join("helm/values.yaml")).expect("the chart");
    let values: Value = serde_yaml_ng::from_str(&values).expect("YAML");
    for name in ["nats", "redis"] {
        let image = &values["demo"][name]["image"];
        let part = |part: &str| image[part].as_str().expect("text").to_owned();
        let image = format!(
            "{}/{}:{}",
            part("registry"),
            part("repository"),
            part("tag")
        );
        assert_eq!(services[name]["image"], image);
    }

    let others = compose(&[("UP_PUBLIC_PORT_2", "18081"), ("REVISION", "abc")]).await;
    let gateway = &others["services"]["usher-2"];
    let public = gateway["ports"][0].as_str().expect("a port");
    assert!(public.starts_with("127.0.0.1:18081:8080"), "{public}");
    assert_eq!(gateway["build"]["args"]["REVISION"], "abc");
}

/// A newcomer waits for no browser, no helm and no package of Node.
#[test]
fn make_up_fetches_two_servers_and_nothing_else() {
    let planned = Command::new("make")
        .args(["--dry-run", "up"])
        .current_dir(root())
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make runs");
    assert!(planned.status.success(), "{planned:?}");
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    let fetches: Vec<_> = planned
        .lines()
        .filter(|line| line.contains("tests/servers.sh"))
        .collect();
    assert_eq!(fetches, ["tests/servers.sh up"], "{planned}");
    // In a folder of its own, with nothing there.
    let folder = tempfile::TempDir::new().expect("a folder");
    let copy = |path: &str| {
        let to: PathBuf = folder.path().join(path);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(root().join(path), to).expect("a copy");
    };
    copy("tests/servers.sh");
    let servers = root().join(".servers/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let fetched = Command::new(folder.path().join("tests/servers.sh"))
        .arg("up")
        // So that nothing is downloaded here.
        .env("PATH", format!("{}:{path}", servers.display()))
        .output()
        .expect("it runs");
    assert!(fetched.status.success(), "{fetched:?}");
    let mut found: Vec<_> = std::fs::read_dir(folder.path().join(".servers/bin"))
        .expect("servers")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    found.sort();
    assert_eq!(found, ["nats-server", "redis-server"]);
}
