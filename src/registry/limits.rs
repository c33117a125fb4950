//! The bounds of backlogs, and the memory that all of them use together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The bounds of a backlog.
#[derive(Debug)]
pub struct Limits {
    /// Messages of one session.
    pub messages: usize,
    /// Bytes of one session. A larger message still goes to an empty backlog.
    pub bytes: usize,
    /// Memory of all sessions.
    pub total_bytes: usize,
    /// Memory of all sessions now.
    pub total: Arc<AtomicUsize>,
    /// Notified when frames that are no messages of the bus, such as answers to clients, bring all
    /// backlogs together over their bound.
    pub over: Notify,
}

impl Limits {
    /// The bounds of a session's backlog, and of the memory of all.
    pub fn new(messages: usize, bytes: usize, total_bytes: usize) -> Self {
        Self {
            messages,
            bytes,
            total_bytes,
            total: Arc::default(),
            over: Notify::new(),
        }
    }

    /// Has the registry free memory where all backlogs together use more than they may. After
    /// a message of the bus it does so anyway.
    pub fn check(&self) {
        if self.exceeded() {
            self.over.notify_one();
        }
    }

    /// Whether all backlogs together use half of their memory.
    pub fn half_full(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.total_bytes / 2
    }

    /// Whether all backlogs together use more memory than they may.
    pub fn exceeded(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.total_bytes
    }
}

/// The memory of one frame, counted among all sessions' until this is dropped:
/// wherever the frame is by then, and whether or not its session is over.
#[derive(Debug)]
pub struct Charge {
    total: Arc<AtomicUsize>,
    memory: usize,
}

impl Charge {
    pub(super) fn new(bytes: usize, limits: &Limits) -> Self {
        let memory = allocated(bytes);
        limits.total.fetch_add(memory, Ordering::Relaxed);
        Self {
            total: limits.total.clone(),
            memory,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

/// What an allocator takes for `bytes` bytes: jemalloc has four sizes to each doubling, so the
/// 16 KiB and a few bytes of a frame are 20 KiB.
fn allocated(bytes: usize) -> usize {
    let steps = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(steps.max(16))
}
