//! What sessions find in the registry: its own sources, but for what follows need of NATS.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the model needs less of it than the library"
)]

mod arrival;
mod backlog;
mod limits;
mod membership;
mod session;

/// What the sources find here instead of the standard locks.
pub(crate) mod sync {
    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("a panic ends the schedule")
    }
}

/// The part of `follows.rs` that sessions call, without the entries of topics.
mod follows {
    use usher::channel::Topic;
    pub use usher::registry::{FollowError, Recovery};

    use super::sync::{Mutex, lock};

    #[derive(Debug, Default)]
    pub struct Follows(Mutex<State>);

    #[derive(Debug, Default)]
    struct State {
        topics: Vec<Topic>,
        over: bool,
    }

    #[derive(Debug, Default)]
    pub struct Followed {
        pub new: Vec<Topic>,
        pub gone: Vec<Topic>,
        pub all: Vec<Topic>,
        pub id: Option<String>,
        pub recovers: bool,
        pub follows: bool,
    }

    impl Follows {
        pub fn with<R>(&self, wanted: &Topic, f: impl FnOnce() -> R) -> Option<R> {
            let state = lock(&self.0);
            state.topics.contains(wanted).then(f)
        }

        pub fn change(&self, followed: &mut Followed, then: impl FnOnce()) -> bool {
            let mut state = lock(&self.0);
            if state.over {
                return false;
            }
            state.topics.clone_from(&followed.all);
            then();
            true
        }

        pub fn close(&self) {
            lock(&self.0).over = true;
        }

        pub fn nats_answered(&self) {}
    }
}

pub use self::{
    arrival::Arrival,
    backlog::{Backlog, JoinState, Next, Outgoing, Source},
    follows::{FollowError, Followed, Follows, Recovery},
    limits::Limits,
    session::{Commit, Pushed, Session},
};
