//! The tasks on which delivery or admission depends: where one of them ends, the process
//! ends.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

use crate::{provoke, supervision};

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Runs a task that must not end.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.set.spawn(provoke::task(name, task)).id();
        self.names.insert(id, name);
    }

    /// The next one that has ended, or panicked; never, where all go on. One that a module
    /// began by [`supervision::spawn`] counts where it has panicked.
    ///
    /// Dropping the future is safe.
    pub(super) async fn ended(&mut self) -> &'static str {
        let (name, panicked) = tokio::select! {
            Some(ended) = self.set.join_next_with_id() => {
                let (id, panicked) = match ended {
                    Ok((id, ())) => (id, false),
                    Err(error) => (error.id(), error.is_panic()),
                };
                (self.names.remove(&id).unwrap_or("a task"), panicked)
            }
            name = supervision::failed() => (name, true),
        };
        tracing::error!(
            panicked,
            "{name} has ended, and the gateway can't go on without it: the process ends"
        );
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_that_ends_is_named() {
        for panics in [false, true] {
            let mut tasks = Tasks::default();
            tasks.spawn("one that goes on", std::future::pending());
            tasks.spawn("one that ends", async move { assert!(!panics) });
            assert_eq!(tasks.ended().await, "one that ends");
        }
    }
}
