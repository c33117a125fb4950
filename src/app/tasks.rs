//! The tasks on which delivery depends: where one of them ends, the process ends.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

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
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The first one that has ended, or panicked; never, where all go on.
    pub(super) async fn ended(&mut self) -> &'static str {
        let Some(ended) = self.set.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let name = self.names.get(&id).copied().unwrap_or("a task");
        tracing::error!(
            panicked,
            "{name} has ended; without it nothing is delivered"
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
