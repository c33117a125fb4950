//! Panics that a test asks for from outside, to see what they end. A release build has none
//! of it: there the functions do nothing.
//!
//! `USHER_PROVOKE` names what panics, such as `task the registry`, `message EVENT` or
//! `session USER`. It does so once the file that `USHER_PROVOKE_WHEN` names is there.

#[cfg(debug_assertions)]
mod wanted {
    use std::{env, path::Path, sync::LazyLock};

    static WHAT: LazyLock<Option<String>> = LazyLock::new(|| env::var("USHER_PROVOKE").ok());
    static WHEN: LazyLock<Option<String>> = LazyLock::new(|| env::var("USHER_PROVOKE_WHEN").ok());

    /// Whether that panic is asked for at all.
    pub(super) fn is(kind: &str, name: &str) -> bool {
        let wanted = WHAT.as_deref().and_then(|what| what.split_once(' '));
        wanted == Some((kind, name))
    }

    /// Whether it is time for it.
    pub(super) fn is_due() -> bool {
        WHEN.as_deref().is_some_and(|file| Path::new(file).exists())
    }
}

/// Panics here, if a test asks for it.
#[cfg_attr(not(debug_assertions), allow(unused_variables))]
pub(crate) fn here(kind: &str, name: &str) {
    #[cfg(debug_assertions)]
    assert!(
        !(wanted::is(kind, name) && wanted::is_due()),
        "provoked: {kind} {name}"
    );
}

/// Runs a task, which panics if a test asks for it.
pub(crate) async fn task(name: &'static str, task: impl Future<Output = ()>) {
    #[cfg(debug_assertions)]
    if wanted::is("task", name) {
        let panics = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                here("task", name);
            }
        };
        tokio::select! {
            () = panics => {}
            () = task => {}
        }
        return;
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
    task.await;
}
