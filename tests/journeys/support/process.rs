//! A program that a test runs: its output is kept, and it never outlives the
//! test. Signals go to its own process id alone.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::{Instant, sleep, timeout};

use super::{
    overdue::{self, Output},
    wait::PATIENCE,
};

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Output,
    readers: Vec<JoinHandle<()>>,
    reading: Arc<AtomicU8>,
}

/// What becomes of a program's output; a change holds from its next piece on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It is read and kept.
    GoesOn,
    /// Nobody reads it: the pipe fills.
    Rests,
    /// The pipe is closed.
    Ends,
}

impl Process {
    /// Runs `command`; all that it prints, to either stream, is kept.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::start(command)
    }

    /// The same of one that is told something by its standard input.
    pub(crate) fn told(mut command: Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Self::start(command);
        let stdin = process.child.stdin.take().expect("stdin is a pipe");
        (process, stdin)
    }

    fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Output::default();
        overdue::watch(Pid::from_child(&child), &output);
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let reading = Arc::new(AtomicU8::new(Reading::GoesOn as u8));
        let readers = vec![
            keep(stdout, &output, &reading),
            keep(stderr, &output, &reading),
        ];
        Self {
            name,
            child,
            output,
            readers,
            reading,
        }
    }

    /// Reads its output in another way from now on.
    pub(crate) fn read(&self, reading: Reading) {
        self.reading.store(reading as u8, Ordering::Relaxed);
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    pub(crate) fn output(&self) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Sends it a signal; one that has ended gets none.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// Freezes it, and returns when it is frozen.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        waitpid(Some(pid), WaitOptions::UNTRACED)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Ends a [`Process::pause`].
    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Its exit status, if it has ended.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until it has ended and all its output is here.
    ///
    /// # Panics
    ///
    /// When it goes on for longer than [`PATIENCE`].
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        self.wait_for(PATIENCE).await
    }

    /// The same with another bound.
    pub(crate) async fn wait_for(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait() {
                self.collect();
                return status;
            }
            if Instant::now() > deadline {
                panic!(
                    "{} still runs after {limit:?}:\n{}",
                    self.name,
                    self.output()
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it at once, and collects the rest of its output.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.collect();
    }

    /// What a process has started in its turn may go on, and keep its streams open.
    fn collect(&mut self) {
        if self.reading.load(Ordering::Relaxed) == Reading::Rests as u8 {
            self.read(Reading::GoesOn);
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        for reader in self.readers.drain(..) {
            while !reader.is_finished() && std::time::Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(
    mut from: impl Read + Send + 'static,
    into: &Output,
    reading: &Arc<AtomicU8>,
) -> JoinHandle<()> {
    let (into, reading) = (Arc::clone(into), Arc::clone(reading));
    thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&chunk[..length]);
            while reading.load(Ordering::Relaxed) == Reading::Rests as u8 {
                thread::sleep(Duration::from_millis(1));
            }
            if reading.load(Ordering::Relaxed) == Reading::Ends as u8 {
                return;
            }
        }
    })
}

/// Does what can only be waited for on a thread of its own: until that process has
/// ended, which is killed at the limit.
///
/// # Panics
///
/// Where it was.
pub(crate) async fn bounded<T: Send + 'static>(
    what: &str,
    process: Pid,
    limit: Duration,
    ends: impl FnOnce() -> T + Send + 'static,
) -> T {
    let mut ends = tokio::task::spawn_blocking(ends);
    match timeout(limit, &mut ends).await {
        Ok(ended) => ended.expect("no panic"),
        Err(_) => {
            let _ = kill_process(process, Signal::KILL);
            panic!("{what} still runs after {limit:?}");
        }
    }
}

/// A server that `tests/servers.sh` has found.
///
/// # Panics
///
/// Where it has not: a journey is never skipped.
pub(crate) fn server(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(".servers/bin")
        .join(name);
    assert!(
        path.exists(),
        "there is no {name} yet: run \"make test\" once"
    );
    path
}

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("127.0.0.1 has a free port")
        .port()
}
