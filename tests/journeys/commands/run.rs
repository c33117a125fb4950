//! `usher` run as people and scripts run it: with pipes, or on a terminal.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, timeout_at},
};

use crate::support::{Gateway, process::bounded};

/// A client waits for seconds by its own rules, several times over.
const LONG: Duration = Duration::from_secs(60);

/// How a command ended, and what it printed.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that runs; it never outlives the test.
pub(crate) struct Running {
    child: Child,
    lines: UnboundedReceiver<String>,
    err: Arc<Mutex<Vec<u8>>>,
}

/// `usher` with these arguments, pointed at that gateway.
pub(crate) fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command
        .args(["--grpc", &gateway.grpc])
        .args(["--public", &format!("http://{}", gateway.public)]);
    command
}

/// `usher` with these arguments, and no variables of ours.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("USHER_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) async fn run(gateway: &Gateway, arguments: &[&str]) -> Ran {
    to_end(command(gateway, arguments), Vec::new()).await
}

/// Runs it with this as its standard input.
pub(crate) async fn to_end(mut command: Command, input: Vec<u8>) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher runs");
    let process = Pid::from_child(&child);
    bounded("usher", process, Duration::from_secs(300), move || {
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that has seen enough closes it.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("usher ends");
        writer.join().expect("written");
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    })
    .await
}

impl Ran {
    /// All went well; the only line that it printed.
    #[track_caller]
    pub(crate) fn line(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        let line = self.out.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n'), "{line}");
        line
    }

    /// The same as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.line()).expect("JSON")
    }

    /// It failed, and said all of these.
    #[track_caller]
    pub(crate) fn failed(&self, said: &[&str]) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        for part in said {
            assert!(self.err.contains(part), "{part:?} is not in {:?}", self.err);
        }
    }
}

impl Running {
    /// Starts a command whose output is read a line at a time.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("usher runs");
        let (sender, lines) = unbounded_channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let err = Arc::<Mutex<Vec<u8>>>::default();
        let mut from = child.stderr.take().expect("a pipe");
        let into = err.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&chunk[..length]);
            }
        });
        Self { child, lines, err }
    }

    /// `usher listen`, when it has been welcomed.
    pub(crate) async fn listen(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut listener = Self::start(command(gateway, &[&["listen"][..], arguments].concat()));
        let welcome = listener.frame().await;
        assert!(welcome["welcome"].is_object(), "{welcome}");
        listener
    }

    /// The next line.
    pub(crate) async fn line(&mut self) -> String {
        self.line_before(Instant::now() + LONG).await
    }

    async fn line_before(&mut self, deadline: Instant) -> String {
        match timeout_at(deadline, self.lines.recv()).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("it printed no more: {}", self.err()),
            Err(_) => panic!("nothing was printed within {LONG:?}: {}", self.err()),
        }
    }

    /// The next line as JSON, pings left out.
    pub(crate) async fn frame(&mut self) -> Value {
        let deadline = Instant::now() + LONG;
        loop {
            let line = self.line_before(deadline).await;
            let frame: Value =
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            if frame["ping"].is_null() {
                return frame;
            }
        }
    }

    /// Reads on until a frame with this key.
    pub(crate) async fn until(&mut self, key: &str) -> Value {
        loop {
            let mut frame = self.frame().await;
            if !frame[key].is_null() {
                return frame[key].take();
            }
        }
    }

    /// What it has said on standard error so far.
    pub(crate) fn err(&self) -> String {
        let err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&err).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Nobody reads its output any more.
    pub(crate) fn stop_reading(&mut self) {
        self.lines.close();
    }

    /// Waits for its end: the exit code, and what it said on standard error.
    pub(crate) async fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + LONG;
        loop {
            let status: Option<ExitStatus> = self.child.try_wait().expect("a child");
            if let Some(status) = status {
                // What its threads still read is there as soon as the pipe is.
                sleep(Duration::from_millis(50)).await;
                return (status.code(), self.err());
            }
            assert!(Instant::now() < deadline, "it still runs: {}", self.err());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what a command said:\n{}---", self.err());
        }
    }
}

/// Runs a command on a terminal of its own: what that shows in the end.
pub(crate) async fn on_a_terminal(mut command: Command, input: Stdio) -> (Option<i32>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal)
        .and_then(|()| unlockpt(&terminal))
        .expect("a terminal");
    let name = ptsname(&terminal, Vec::new()).expect("its name");
    let name = name.into_string().expect("its name");
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .open(&name)
            .expect("its other end")
    };
    let mut child = command
        .env("TERM", "xterm")
        .stdin(input)
        .stdout(open())
        .stderr(open())
        .spawn()
        .expect("usher runs");
    // Else our own copies of the terminal keep it open.
    drop(command);
    let process = Pid::from_child(&child);
    bounded("usher", process, LONG, move || {
        let mut shown = Vec::new();
        // Linux ends a terminal that nobody has open any more with an error.
        let _ = File::from(terminal).read_to_end(&mut shown);
        let code = child.wait().expect("usher ends").code();
        (code, String::from_utf8_lossy(&shown).into_owned())
    })
    .await
}
