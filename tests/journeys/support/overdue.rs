//! A test that never ends is told on, and ends the run, with all that the run has started:
//! nobody learns anything from a run that somebody else cuts off.
//!
//! This bounds no time that the gateway takes. It is for a wait that was forgotten to be
//! bounded, and for what can't be given up, such as a thread that reads.

use std::{
    cell::RefCell,
    fs,
    io::{Write as _, stderr},
    process::{exit, id},
    sync::{
        Arc, Mutex, Once, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than the longest journey takes where the machine stalls.
static LIMIT_SECONDS: AtomicU64 = AtomicU64::new(600);

/// What a process has printed.
pub(crate) type Output = Arc<Mutex<Vec<u8>>>;

static UNDER_WAY: Mutex<Vec<Arc<Test>>> = Mutex::new(Vec::new());

thread_local! {
    /// Ends with the thread, which libtest gives each test for itself.
    static OWN: RefCell<Option<Entry>> = const { RefCell::new(None) };
}

struct Test {
    name: String,
    since: Instant,
    processes: Mutex<Vec<Watched>>,
}

struct Watched {
    process: Pid,
    output: Weak<Mutex<Vec<u8>>>,
}

struct Entry(Arc<Test>);

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|test| !Arc::ptr_eq(test, &self.0));
    }
}

/// Lets the tests of this program take longer than they may otherwise.
#[allow(dead_code, reason = "journeys are short")]
pub(crate) fn allow(limit: Duration) {
    LIMIT_SECONDS.fetch_max(limit.as_secs(), Ordering::Relaxed);
}

/// Has an eye on the test that runs on this thread. If it has to be ended, it shows what this
/// process has printed, and ends it.
pub(crate) fn watch(process: Pid, output: &Output) {
    static WATCHDOG: Once = Once::new();
    WATCHDOG.call_once(|| drop(thread::spawn(look_on)));
    OWN.with_borrow_mut(|own| {
        let entry = own.get_or_insert_with(|| {
            let test = Arc::new(Test {
                name: thread::current().name().unwrap_or("a thread").to_owned(),
                since: Instant::now(),
                processes: Mutex::default(),
            });
            let mut all = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(test.clone());
            Entry(test)
        });
        let processes = &entry.0.processes;
        let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
        let output = Arc::downgrade(output);
        processes.push(Watched { process, output });
    });
}

fn look_on() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let limit = Duration::from_secs(LIMIT_SECONDS.load(Ordering::Relaxed));
        let all = UNDER_WAY
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(test) = all.iter().find(|test| test.since.elapsed() > limit) {
            tell(test, limit);
            all.iter().for_each(|test| end_processes(test));
            exit(101);
        }
    }
}

/// Past libtest, which would keep it until the test ends.
fn tell(test: &Test, limit: Duration) {
    let mut out = stderr().lock();
    let processes = &test.processes;
    let processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    for output in processes.iter().filter_map(|it| it.output.upgrade()) {
        let output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "--- a process of it said:");
        let _ = out.write_all(&output);
    }
    let _ = writeln!(out, "--- {} still runs after {limit:?}", test.name);
}

/// Nobody else ends them once this process is gone.
fn end_processes(test: &Test) {
    let processes = &test.processes;
    let processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    for Watched { process, .. } in processes.iter().filter(|it| is_child(it.process)) {
        let _ = kill_process(*process, Signal::KILL);
    }
}

/// Another program may have the id of one that has ended.
fn is_child(process: Pid) -> bool {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = fs::read_to_string(path).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let parent = after_name.split_whitespace().nth(1);
    parent == Some(id().to_string().as_str())
}
