//! A real redis-server or valkey-server, where an auth service leaves tickets.

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub(crate) use deadpool_redis::redis as driver;
use deadpool_redis::redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::{
    process::{self, Process},
    secrets::secret,
    wait::{PATIENCE, eventually},
};

/// A running redis-server.
pub(crate) struct Redis {
    process: Process,
    folder: TempDir,
    port: u16,
    program: &'static str,
    more: Vec<String>,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::start_with("redis-server", &[]).await
    }

    /// The same with more arguments, which `program` of `.servers/bin` must know.
    pub(crate) async fn start_with(program: &'static str, more: &[&str]) -> Self {
        let more: Vec<_> = more.iter().map(|&argument| argument.to_owned()).collect();
        // Redis can't choose a port by itself, and somebody else may take a
        // free one before it does.
        for _ in 0..10 {
            let folder = TempDir::new().expect("a folder");
            let port = process::free_port();
            let mut redis = Self {
                process: run(program, &folder, port, &more),
                folder,
                port,
                program,
                more: more.clone(),
            };
            if redis.answers().await {
                return redis;
            }
        }
        panic!("redis-server found no port in ten tries");
    }

    /// Waits until it answers, and says whether it does: if its port was taken
    /// it ends instead.
    async fn answers(&mut self) -> bool {
        let url = self.url();
        let process = &mut self.process;
        let mut ended = false;
        eventually("redis-server answers", || {
            ended = process.try_wait().is_some();
            let (url, ended, id) = (url.clone(), ended, process.id());
            async move { ended || is_there(&url, id).await.unwrap_or(false) }
        })
        .await;
        !ended
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What a gateway's `redis.url` is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of its own, as an auth service has one.
    pub(crate) async fn client(&self) -> MultiplexedConnection {
        connect(&self.url())
            .await
            .expect("redis-server takes connections")
    }

    /// Mints a plain ticket: its value is the user id itself.
    pub(crate) async fn ticket(&self, user: &str) -> String {
        self.ticket_value(user).await
    }

    /// Mints a ticket whose value is this JSON.
    pub(crate) async fn ticket_json(&self, value: serde_json::Value) -> String {
        self.ticket_value(value.to_string()).await
    }

    /// Mints a ticket with any bytes as its value, good for 60 seconds.
    pub(crate) async fn ticket_value(&self, value: impl AsRef<[u8]>) -> String {
        let ticket = new_ticket();
        let () = driver::cmd("SET")
            .arg(key(&ticket))
            .arg(value.as_ref())
            .arg("EX")
            .arg(60)
            .query_async(&mut self.client().await)
            .await
            .expect("redis-server stores a ticket");
        ticket
    }

    /// The value of a ticket that waits.
    pub(crate) async fn value(&self, ticket: &str) -> String {
        self.command(&["GET", &key(ticket)]).await
    }

    /// Whether a ticket is still there to be used.
    pub(crate) async fn exists(&self, ticket: &str) -> bool {
        driver::cmd("EXISTS")
            .arg(key(ticket))
            .query_async(&mut self.client().await)
            .await
            .expect("redis-server answers")
    }

    /// Runs a command, which it must carry out.
    pub(crate) async fn command<T: driver::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = driver::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut self.client().await).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Gives it a user `usher` with the password `sesame` and these rights.
    pub(crate) async fn user(&self, rights: &[&str]) {
        let rules = ["ACL", "SETUSER", "usher", "reset", "on", ">sesame"];
        let () = self.command(&[&rules, rights].concat()).await;
    }

    /// Commands that it refused to a user since the last time, `COMMAND OBJECT` each.
    pub(crate) async fn refusals(&self) -> Vec<String> {
        let rows: Vec<std::collections::HashMap<String, driver::Value>> =
            self.command(&["ACL", "LOG"]).await;
        let () = self.command(&["ACL", "LOG", "RESET"]).await;
        let object = |row: &std::collections::HashMap<String, driver::Value>| {
            driver::from_redis_value_ref(&row["object"]).expect("a text")
        };
        rows.iter().map(object).collect()
    }

    /// Ends it as a power cut would. Tickets are lost.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it: connections stay open, and nothing is answered.
    pub(crate) fn pause(&mut self) {
        self.process.pause();
    }

    /// Ends a [`Redis::pause`].
    pub(crate) fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts it anew on the same port, empty.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        self.process = run(self.program, &self.folder, self.port, &self.more);
        let answers = self.answers().await;
        assert!(
            answers,
            "redis-server ended at its restart:\n{}",
            self.process.output()
        );
    }
}

impl Redis {
    /// Starts it anew with all that it had, which takes it a while to load; when
    /// this returns it answers, and says that it loads.
    pub(crate) async fn restart_loading(&mut self) {
        let mut client = self.client().await;
        for filler in 0..2000 {
            let set = driver::cmd("SET")
                .arg(format!("filler-{filler}"))
                .arg("x")
                .to_owned();
            let () = set.query_async(&mut client).await.expect("stored");
        }
        let () = driver::cmd("SAVE")
            .query_async(&mut client)
            .await
            .expect("saved");
        self.process.kill();
        // Some 4 ms a key, as it does in its own tests.
        let slowly = [
            "--key-load-delay",
            "4000",
            "--loading-process-events-interval-bytes",
            "1024",
        ];
        let slowly = slowly.map(str::to_owned);
        self.process = run(self.program, &self.folder, self.port, &slowly);
        let url = self.url();
        eventually("redis-server says that it loads", || async {
            let pong = async {
                let mut client = connect(&url).await?;
                driver::cmd("PING").query_async::<()>(&mut client).await
            };
            pong.await
                .is_err_and(|error| error.code() == Some("LOADING"))
        })
        .await;
    }

    /// Waits until that is over.
    pub(crate) async fn loaded(&self) {
        eventually("redis-server has loaded", || async {
            let Ok(mut client) = connect(&self.url()).await else {
                return false;
            };
            let pong = driver::cmd("PING").query_async::<()>(&mut client).await;
            pong.is_ok()
        })
        .await;
    }
}

/// The key of a ticket, with the default `tickets.key_prefix`.
pub(crate) fn key(ticket: &str) -> String {
    format!("ticket:{ticket}")
}

/// A good ticket that is in no store yet: 256 random bits.
pub(crate) fn new_ticket() -> String {
    secret(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

async fn connect(url: &str) -> driver::RedisResult<MultiplexedConnection> {
    // The driver's own limits are for production, not for a busy machine.
    let config = driver::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    driver::Client::open(url)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Whether it is this very process that answers there.
async fn is_there(url: &str, id: u32) -> driver::RedisResult<bool> {
    let mut connection = connect(url).await?;
    let info: String = driver::cmd("INFO")
        .arg("server")
        .query_async(&mut connection)
        .await?;
    Ok(info.lines().any(|line| line == format!("process_id:{id}")))
}

fn run(program: &str, folder: &TempDir, port: u16, more: &[String]) -> Process {
    let mut command = Command::new(process::server(program));
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
        ])
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder.path())
        .args(more);
    Process::spawn(command)
}
