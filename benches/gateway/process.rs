//! Processes that are started here, and what the kernel knows about them.

use std::{
    env, fs, io,
    io::BufRead as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::process::{
    Pid, Signal, getppid, kill_process, set_parent_process_death_signal as die_with_parent,
};

use crate::Outcome;

/// As the first argument it makes this program become the program that follows, which the
/// kernel kills as soon as its parent ends.
pub(crate) const ARGUMENT: &str = "--until-the-parent-ends";

/// A child that ends when it is dropped, and when this process ends, however that ends.
pub(crate) struct Process {
    child: Child,
    /// What it has said on standard error so far.
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a program; its standard error is kept, the rest is silent. Call it on the main
    /// thread: the kernel kills the child when the thread ends that started it.
    pub(crate) fn start(command: &Command) -> io::Result<Self> {
        Self::spawn(command, Stdio::null, Stdio::null)
    }

    /// The same, with pipes to its standard input and from its standard output.
    pub(crate) fn start_with_pipes(command: &Command) -> io::Result<Self> {
        Self::spawn(command, Stdio::piped, Stdio::piped)
    }

    fn spawn(command: &Command, stdin: fn() -> Stdio, stdout: fn() -> Stdio) -> io::Result<Self> {
        let mut bound = Command::new(env::current_exe()?);
        bound.arg(ARGUMENT).arg(std::process::id().to_string());
        bound.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(name, value),
                None => bound.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            bound.current_dir(folder);
        }
        bound.stdin(stdin()).stdout(stdout()).stderr(Stdio::piped());
        let mut child = bound.spawn()?;
        let said = Arc::new(Mutex::new(String::new()));
        if let Some(stderr) = child.stderr.take() {
            let said = said.clone();
            thread::spawn(move || {
                for line in io::BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.push_str(&line);
                    said.push('\n');
                }
            });
        }
        Ok(Self { child, said })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn said(&self) -> String {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// With which code it ended; none while it runs.
    pub(crate) fn exit_code(&mut self) -> io::Result<Option<i32>> {
        let status = self.child.try_wait()?;
        // A signal has no code.
        Ok(status.map(|status| status.code().unwrap_or(-1)))
    }

    /// CPU seconds since its start, of the program and of the kernel for it.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // Fields are counted from the end of the name, which may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = |field: usize| -> f64 {
            fields
                .split_whitespace()
                .nth(field)
                .and_then(|t| t.parse().ok())
                .unwrap_or(0.0)
        };
        // Linux reports these in hundredths everywhere.
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The same to the microsecond, of the threads that there are: for a process that keeps
    /// its threads.
    pub(crate) fn cpu_of_threads(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid()));
        let threads = threads.into_iter().flatten().flatten();
        let nanos = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.trim().parse::<f64>().ok()
        });
        nanos.sum::<f64>() / 1e9
    }

    pub(crate) fn memory(&self) -> Memory {
        let text =
            fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap_or_default();
        Memory {
            resident: bytes(&text, "Rss:"),
            anonymous: bytes(&text, "Anonymous:"),
        }
    }

    /// Has [`Process::peak`] begin anew.
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        // proc_pid_clear_refs(5): 5 sets the peak to what is resident now.
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
    }

    /// The most memory that was ever resident, in bytes.
    pub(crate) fn peak(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        bytes(&text.unwrap_or_default(), "VmHWM:")
    }
}

/// What the child does first: the arguments are its parent's id, the program and that one's
/// arguments.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let parent: i32 = arguments
        .next()
        .ok_or("PARENT PROGRAM [ARGUMENT…]")?
        .parse()?;
    let program = arguments.next().ok_or("PARENT PROGRAM [ARGUMENT…]")?;
    die_with_parent(Some(Signal::KILL))?;
    // The parent may have ended before.
    if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
        return Err("the parent has ended".into());
    }
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("{program} does not start: {error}").into())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel says in KiB behind a word.
fn bytes(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib = number.and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// What the kernel says of the machine's memory, in bytes: `MemTotal:`, `MemAvailable:`…
pub(crate) fn machine_bytes(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/meminfo");
    bytes(&text.unwrap_or_default(), key)
}

/// Bytes of memory in use.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
}

/// The machine, in a few lines.
pub(crate) fn machine(nats: &Path, redis: &Path) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default();
        line.rsplit(':')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    format!(
        "{cores} cores ({}), {}, Linux {}\n{}\n{}\n{}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        first("/proc/sys/kernel/osrelease", ""),
        version(Path::new("rustc")),
        version(nats),
        version(redis),
    )
}

/// What a program says of its version; empty where it can't be asked.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}

/// The load of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
