//! A test that never ends is told on, and ends the run: nobody learns anything from a
//! run that somebody else cuts off.
//!
//! This bounds no time that the gateway takes. It is for a wait that was forgotten to be
//! bounded, and for what can't be given up, such as a thread that reads.

use std::{
    cell::RefCell,
    io::{Write as _, stderr},
    process::exit,
    sync::{
        Arc, Mutex, Once, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

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
    outputs: Mutex<Vec<Weak<Mutex<Vec<u8>>>>>,
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

/// Has an eye on the test that runs on this thread, and shows this if it has to be ended.
pub(crate) fn watch(output: &Output) {
    static WATCHDOG: Once = Once::new();
    WATCHDOG.call_once(|| drop(thread::spawn(look_on)));
    OWN.with_borrow_mut(|own| {
        let entry = own.get_or_insert_with(|| {
            let test = Arc::new(Test {
                name: thread::current().name().unwrap_or("a thread").to_owned(),
                since: Instant::now(),
                outputs: Mutex::default(),
            });
            let mut all = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(test.clone());
            Entry(test)
        });
        let mut outputs = entry
            .0
            .outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        outputs.push(Arc::downgrade(output));
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
            exit(101);
        }
    }
}

/// Past libtest, which would keep it until the test ends.
fn tell(test: &Test, limit: Duration) {
    let mut out = stderr().lock();
    let outputs = test.outputs.lock().unwrap_or_else(PoisonError::into_inner);
    for output in outputs.iter().filter_map(Weak::upgrade) {
        let output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "--- a process of it said:");
        let _ = out.write_all(&output);
    }
    let _ = writeln!(out, "--- {} still runs after {limit:?}", test.name);
}
