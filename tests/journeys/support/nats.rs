//! A real nats-server, or a cluster of them.

mod cluster;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

#[allow(unused_imports, reason = "the recovery run alone asks for it")]
pub(crate) use self::cluster::OWNER;
pub(crate) use self::cluster::Routes;
use super::{
    http,
    process::{self, Process},
    wait::eventually,
};

/// A running nats-server.
pub(crate) struct Nats {
    process: Process,
    /// Which of `.servers/bin` it is.
    program: &'static str,
    folder: TempDir,
    options: Vec<String>,
    port: u16,
    monitor: String,
    /// What clients log in with.
    login: Option<(String, String)>,
    /// It knows the users of `examples/nats-permissions.conf`.
    knows_roles: bool,
}

/// The server that gateways are made for.
const CURRENT: &str = "nats-server";
/// One that is too old for them: `tests/servers.sh` fetches it.
const OLD: &str = "nats-server-2.10";

/// What operators are told to use, and all that the suite may do.
const PERMISSIONS: &str = include_str!("../../../examples/nats-permissions.conf");

/// A user of that file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Gateway,
    Publisher,
    Caller,
    Responder,
    Worker,
    Operator,
}

impl Role {
    pub(crate) fn login(self) -> (String, String) {
        let name = match self {
            Self::Gateway => "gateway",
            Self::Publisher => "publisher",
            Self::Caller => "caller",
            Self::Responder => "responder",
            Self::Worker => "worker",
            Self::Operator => "operator",
        };
        (format!("usher-{name}"), format!("password-of-the-{name}"))
    }
}

impl Nats {
    /// Starts one that lets each do what it must, and no more.
    pub(crate) async fn start() -> Self {
        Self::start_with(PERMISSIONS).await.with_roles()
    }

    /// The same with JetStream, which keeps on disk what it stores.
    pub(crate) async fn keeping() -> Self {
        Self::start_with(&format!("jetstream: enabled\n{PERMISSIONS}"))
            .await
            .with_roles()
    }

    /// One with JetStream where anyone may do anything, as a test that spoils something
    /// has to.
    pub(crate) async fn keeping_for_all() -> Self {
        Self::start_with("jetstream: enabled\n").await
    }

    fn with_roles(mut self) -> Self {
        self.login = Some(Role::Publisher.login());
        self.knows_roles = true;
        self
    }

    /// Starts one with this configuration file besides the ports, which are
    /// the harness's business.
    pub(crate) async fn start_with(config: &str) -> Self {
        Self::start_program(CURRENT, config).await
    }

    /// Starts a version that is too old for a gateway.
    pub(crate) async fn old(config: &str) -> Self {
        Self::start_program(OLD, config).await
    }

    async fn start_program(program: &'static str, config: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = vec![written(&folder, config)];
        Self::launch(program, folder, options).await
    }

    /// These are what [`Nats::client`] logs in with.
    pub(crate) fn log_in_as(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    async fn launch(program: &'static str, folder: TempDir, options: Vec<String>) -> Self {
        let process = run(program, &folder, &options, -1);
        let mut nats = Self {
            process,
            program,
            folder,
            options,
            port: 0,
            monitor: String::new(),
            login: None,
            knows_roles: false,
        };
        nats.find_ports().await;
        nats
    }

    /// nats-server writes what it has bound to a file in its folder.
    async fn find_ports(&mut self) {
        let Self {
            process, folder, ..
        } = self;
        let mut ports = Value::Null;
        eventually("nats-server writes its ports", || {
            if let Some(status) = process.try_wait() {
                panic!("nats-server ended with {status}:\n{}", process.output());
            }
            let found = fs::read_dir(folder.path())
                .expect("the folder is there")
                .filter_map(Result::ok)
                .filter(|entry| entry.path().extension().is_some_and(|e| e == "ports"))
                .find_map(|entry| fs::read(entry.path()).ok())
                .and_then(|text| serde_json::from_slice(&text).ok());
            ports = found.unwrap_or_default();
            std::future::ready(!ports.is_null())
        })
        .await;
        let address = |key: &str| {
            let url = ports[key][0].as_str()?;
            Some(
                url.split_once("//")
                    .map_or(url, |(_, address)| address)
                    .to_owned(),
            )
        };
        let client = address("nats").expect("a port for clients");
        self.port = client
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok())
            .expect("a port");
        self.monitor = address("monitoring").expect("a port for monitoring");
    }

    /// What a gateway's `nats.url` is.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The same for a service that publishes, its password included.
    pub(crate) fn publishers_url(&self) -> String {
        let (user, password) = self.login.as_ref().expect("a login");
        self.url().replace("://", &format!("://{user}:{password}@"))
    }

    /// What a gateway logs in with, where it has to.
    pub(crate) fn gateways_login(&self) -> Option<(String, String)> {
        self.knows_roles.then(|| Role::Gateway.login())
    }

    /// A connection of its own, as a publisher has one.
    pub(crate) async fn client(&self) -> async_nats::Client {
        self.connect(self.login.clone()).await
    }

    /// A connection of a service that answers calls.
    pub(crate) async fn responder(&self) -> async_nats::Client {
        self.connect(Some(Role::Responder.login())).await
    }

    /// A connection of a service that calls the service API.
    pub(crate) async fn caller(&self) -> async_nats::Client {
        self.connect(Some(Role::Caller.login())).await
    }

    /// A connection of somebody who looks.
    pub(crate) async fn operator(&self) -> async_nats::Client {
        self.connect(Some(Role::Operator.login())).await
    }

    async fn connect(&self, login: Option<(String, String)>) -> async_nats::Client {
        let mut options = async_nats::ConnectOptions::new();
        if let Some((user, password)) = login {
            options = options.user_and_password(user, password);
        }
        options
            .connect(self.url())
            .await
            .expect("nats-server takes connections")
    }

    /// Publishes one message; it is with the server when this returns.
    pub(crate) async fn publish(&self, subject: &str, payload: &str) {
        let client = self.client().await;
        client
            .publish(subject.to_owned(), payload.to_owned().into())
            .await
            .expect("published");
        client.flush().await.expect("flushed");
    }

    pub(crate) async fn monitoring(&self, path: &str) -> Value {
        http::get(&self.monitor, path, &[]).await.json()
    }

    /// The subject of every subscription that clients of this server hold, its
    /// own left out, once for each subscription.
    pub(crate) async fn all_subjects(&self) -> Vec<String> {
        let found = self.monitoring("/subsz?subs=1&limit=10000000&acc=$G").await;
        let list = found["subscriptions_list"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .filter_map(|subscription| subscription["subject"].as_str())
            .filter(|subject| !subject.starts_with('$'))
            .map(str::to_owned)
            .collect()
    }

    /// How many subscriptions there are to exactly this subject.
    pub(crate) async fn subscriptions(&self, subject: &str) -> usize {
        self.all_subjects()
            .await
            .iter()
            .filter(|found| *found == subject)
            .count()
    }

    /// Ends it as an operator would: it says goodbye to its clients.
    pub(crate) async fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait().await;
    }

    /// Ends it as for an update: it takes nobody new, sends its clients away one
    /// after the other, and ends.
    #[allow(dead_code, reason = "the chaos run alone asks for it")]
    pub(crate) async fn lame_duck(&mut self) {
        self.process.signal(Signal::USR2);
        self.process.wait().await;
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// A copy of what JetStream has on disk. The server must not run.
    pub(crate) fn copy_of_store(&self) -> TempDir {
        let copy = TempDir::new().expect("a folder");
        copy_folder(&self.store(), copy.path());
        copy
    }

    /// Puts such a copy back. The server must not run.
    pub(crate) fn put_back(&self, copy: &TempDir) {
        fs::remove_dir_all(self.store()).expect("it was there");
        copy_folder(copy.path(), &self.store());
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("jetstream")
    }

    /// Freezes it: connections stay open, and nothing is answered.
    pub(crate) fn pause(&mut self) {
        self.process.pause();
    }

    /// Ends a [`Nats::pause`].
    pub(crate) fn resume(&mut self) {
        self.process.resume();
    }

    /// Has it retire: it takes no more connections, and closes those it has one
    /// after the other.
    pub(crate) fn retire(&mut self) {
        self.process.signal(Signal::USR2);
    }

    /// Starts it anew on the same port, whether or not it still runs.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        for entry in fs::read_dir(self.folder.path())
            .expect("the folder is there")
            .flatten()
        {
            if entry.path().extension().is_some_and(|e| e == "ports") {
                let _ = fs::remove_file(entry.path());
            }
        }
        self.process = run(self.program, &self.folder, &self.options, self.port.into());
        self.find_ports().await;
    }

    /// Writes another configuration file, for the next [`Nats::restart`] or
    /// [`Nats::reload`].
    pub(crate) fn write_config(&self, config: &str) {
        written(&self.folder, config);
    }

    /// Has it read its configuration file anew.
    pub(crate) async fn reload(&mut self) {
        let reloads = |output: &str| output.matches("Reloaded server configuration").count();
        let before = reloads(&self.process.output());
        self.process.signal(Signal::HUP);
        eventually("nats-server has read its configuration anew", || {
            std::future::ready(reloads(&self.process.output()) > before)
        })
        .await;
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_some()
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Writes the configuration file into a folder; returns the option that names it.
fn written(folder: &TempDir, config: &str) -> String {
    let file = folder.path().join("nats.conf");
    fs::write(&file, config).expect("a configuration file");
    format!("--config={}", file.display())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

/// Port -1 is any free one.
fn run(program: &str, folder: &TempDir, options: &[String], port: i32) -> Process {
    let mut command = Command::new(process::server(program));
    command
        .args(options)
        .arg("--addr=127.0.0.1")
        .arg(format!("--port={port}"))
        .arg("--http_port=-1")
        .arg(format!(
            "--store_dir={}",
            folder.path().join("jetstream").display()
        ))
        .arg(format!("--ports_file_dir={}", folder.path().display()));
    for role in [
        Role::Gateway,
        Role::Publisher,
        Role::Caller,
        Role::Responder,
        Role::Worker,
        Role::Operator,
    ] {
        let variable = format!("USHER_{role:?}_PASSWORD").to_uppercase();
        command.env(variable, role.login().1);
    }
    Process::spawn(command)
}
