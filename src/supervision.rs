//! What a panic ends: a message, a session, or the process, and nothing in between.
//!
//! A task that all depend on runs in `app`'s set, whose first end is the process's. What is
//! done over one message or for one session is [`contained`]. A short task in between, whose
//! failure would leave others waiting or untold for good, is begun by [`spawn`]: where it
//! panics, the process ends as well.

use std::{
    fmt,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::LazyLock,
};

use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::provoke;

/// The first task of [`spawn`] that has panicked. One for the process, since a panic is no
/// room's to hand on.
static FAILED: LazyLock<watch::Sender<Option<&'static str>>> =
    LazyLock::new(|| watch::Sender::new(None));

/// Something has panicked; the log has said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has panicked")]
pub struct Panicked;

/// Something that has to be polled for as long as the process lives. Where it ends, the
/// process cannot go on.
pub struct Task {
    /// For the log.
    pub name: &'static str,
    /// What it does.
    pub future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Task {
    /// `future`, by this name.
    pub fn new(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Self {
        let future = Box::pin(future);
        Self { name, future }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.name).finish()
    }
}

/// Runs to the end, or to a panic.
///
/// What `work` changes must be whole after each of its steps: the locks of this program do
/// not stay poisoned.
///
/// # Errors
///
/// [`Panicked`]
pub async fn contained<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let work = AssertUnwindSafe(work).catch_unwind();
    work.await.map_err(|_| Panicked)
}

/// Calls `work`, which does not wait; a panic in it is an error.
///
/// # Errors
///
/// [`Panicked`]
pub fn contained_now<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

/// Begins a task that ends by itself. A panic in it is a failure of the process.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let task = async move {
        provoke::here("task", name);
        task.await;
    };
    tokio::spawn(async move {
        if contained(task).await.is_err() {
            FAILED.send_if_modified(|failed| failed.is_none() && failed.replace(name).is_none());
        }
    });
}

/// Waits until a task of [`spawn`] has panicked.
pub async fn failed() -> &'static str {
    let mut failed = FAILED.subscribe();
    let name = failed.wait_for(Option::is_some).await;
    match name.ok().and_then(|name| *name) {
        Some(name) => name,
        // The sender lives as long as the process.
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_contained_or_told() {
        assert_eq!(contained(async { 1 }).await, Ok(1));
        assert_eq!(contained_now(|| 1), Ok(1));
        let no = |no: bool| assert!(!no);
        assert_eq!(contained(async { no(true) }).await, Err(Panicked));
        assert_eq!(contained_now(|| no(true)), Err(Panicked));
        spawn("one that is good", async {});
        spawn("one that panics", async move { no(true) });
        assert_eq!(failed().await, "one that panics");
    }
}
