//! Where a gateway's log lines go: standard error, by a thread of its own.
//!
//! Whoever reads them may be gone (`2>&1 | head -1`), or may not read (a collector that
//! hangs: the pipe is full). Neither may end or delay anything, so a line waits in a bounded
//! queue; one that finds no room, or can't be written, is lost and counted.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::VecDeque,
    fmt,
    io::{self, IsTerminal as _, Write},
    panic,
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tracing::{Dispatch, dispatcher, level_filters::LevelFilter};
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::EnvFilter;

use super::output::harmless;
use crate::{
    config::{Config, LogFormat},
    metrics::LOG_LINES_LOST,
};

/// Bytes that wait to be written, each line's own cost included.
const MOST: usize = 1024 * 1024;
/// What a line costs besides its bytes.
const OVERHEAD: usize = 64;
/// The library of WebSockets logs what clients send, and tickets and tokens are among it. So
/// it says nothing here, whatever `log.filter` is.
const SHOWS_MESSAGES: &str = "tungstenite";
/// Before another try where standard error is not blocking and takes nothing.
const RETRY: Duration = Duration::from_millis(20);
/// How long the thread may take for one line at the end.
const PATIENCE_A_LINE: Duration = Duration::from_millis(250);
/// How long the thread may take for all lines at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log of this process. Dropping it waits until all is written, as long as somebody
/// reads.
pub(super) struct Log(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken a line, and has not written it yet.
    writing: bool,
    /// Lines that the thread is done with.
    done: u64,
    /// Lines that were lost since it was last said.
    lost: u64,
}

impl Log {
    /// Begins to log as the configuration says. Panics are logged too.
    ///
    /// # Errors
    ///
    /// There can be no thread, or a log was begun already: what to tell the operator.
    pub(super) fn begin(config: &Config) -> Result<Self, String> {
        let filter = EnvFilter::try_new(&config.log.filter);
        let filter = filter.map_err(|error| format!("log.filter: {error}"))?;
        let queue = Arc::<Queue>::default();
        let written = queue.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || written.write_on(io::stderr()))
            .map_err(|error| format!("there is no thread for the log: {error}"))?;
        let json = match config.log.format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !io::stderr().is_terminal(),
        };
        let lines = queue.clone();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || Line(lines.clone()));
        let lines = if json {
            let builder = builder.json().flatten_event(true);
            let builder = builder.with_current_span(false).with_span_list(false);
            Dispatch::new(builder.finish())
        } else {
            let builder = builder.with_ansi(io::stderr().is_terminal());
            Dispatch::new(builder.finish())
        };
        let twice = |error: &dyn fmt::Display| format!("a log was begun already: {error}");
        dispatcher::set_global_default(lines).map_err(|error| twice(&error))?;
        LogTracer::builder()
            .with_max_level(LevelFilter::current().as_log())
            .ignore_crate(SHOWS_MESSAGES)
            .init()
            .map_err(|error| twice(&error))?;
        panic::set_hook(Box::new(told));
        Ok(Self(queue))
    }

    /// Writes lines for a person, as they stand.
    pub(super) fn say(&self, text: &str) {
        self.0.push(text.as_bytes());
    }

    /// Says why the process ends, and gives its exit code.
    pub(super) fn fail(&self, code: u8, error: &dyn fmt::Display) -> ExitCode {
        let error = error.to_string();
        self.0
            .push(format!("usher: {}\n", harmless(&error)).as_bytes());
        ExitCode::from(code)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// The default hook would write to standard error by itself, and wait there.
fn told(panic: &panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        location,
        backtrace = backtrace.map(tracing::field::display),
        "a panic, which is a fault of Usher's: {}",
        text.unwrap_or("it says nothing")
    );
}

/// One line on its way into the queue.
struct Line(Arc<Queue>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    /// Adds a line, or loses it. Never waits for anything.
    fn push(&self, line: &[u8]) {
        let cost = line.len() + OVERHEAD;
        let mut state = self.state();
        if state.bytes + cost > MOST {
            state.lose();
            return;
        }
        state.bytes += cost;
        state.lines.push_back(line.to_vec());
        drop(state);
        self.changed.notify_all();
    }

    /// Writes lines for as long as the process lives.
    fn write_on(&self, mut to: impl Write) {
        loop {
            let line = self.take();
            let written = write(&mut to, &line).is_ok();
            let lost = self.done(line.len() + OVERHEAD, written);
            if lost > 0 {
                tracing::warn!(
                    lines = lost,
                    "log lines were lost: standard error was not read, or not fast enough"
                );
            }
        }
    }

    /// The next line, when there is one.
    fn take(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.writing = true;
                return line;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread is done with a line. Returns how many were lost, when that can be said.
    fn done(&self, cost: usize, written: bool) -> u64 {
        let mut state = self.state();
        state.writing = false;
        state.bytes -= cost;
        state.done += 1;
        if !written {
            state.lose();
        }
        // The line that says so must find room itself.
        let lost = match written && state.bytes <= MOST / 2 {
            true => std::mem::take(&mut state.lost),
            false => 0,
        };
        drop(state);
        self.changed.notify_all();
        lost
    }

    /// Waits until all is written, for as long as lines go out.
    fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        while state.writing || !state.lines.is_empty() {
            let (done, stuck) = (state.done, Instant::now() + PATIENCE_A_LINE);
            let waited = self
                .changed
                .wait_timeout_while(state, PATIENCE_A_LINE, |state| state.done == done);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let now = Instant::now();
            if now >= deadline || (state.done == done && now >= stuck) {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self) {
        self.lost += 1;
        LOG_LINES_LOST.inc();
    }
}

fn write(to: &mut impl Write, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares it with us has made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_empties_is_bounded() {
        let queue = Queue::default();
        let line = [b'x'; 1000];
        for _ in 0..10_000 {
            queue.push(&line);
        }
        let state = queue.state();
        assert!(state.bytes <= MOST && state.bytes > MOST - 2000);
        assert_eq!(state.lines.len() as u64 + state.lost, 10_000);
    }

    #[test]
    fn what_was_lost_is_said_when_there_is_room() {
        let queue = Queue::default();
        let line = vec![b'x'; MOST / 2 - OVERHEAD];
        for _ in 0..3 {
            queue.push(&line);
        }
        assert_eq!(queue.take().len(), line.len());
        assert_eq!(queue.done(line.len() + OVERHEAD, true), 1);
        assert_eq!(queue.take().len(), line.len());
        assert_eq!(queue.done(line.len() + OVERHEAD, false), 0, "nobody reads");
        assert_eq!(queue.state().lost, 1);
        queue.flush();
    }
}
