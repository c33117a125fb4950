//! One audience's seats, and the subscription that stands exactly while there are
//! any: the state machine, apart from the map that holds it.
//!
//! `tests/registry_model.rs` includes this very file and lets a model checker
//! run it, so it uses no map, no clock and no runtime, and takes its `Mutex`
//! from the module above it.
//!
//! Lock order: the directory's lock of a user, then that user's state. A join
//! holds both, so it never meets a user who is being removed. A leave holds only
//! the state; the last one lets go of it before it asks the directory to remove
//! the user, and a join may come in between. Hence the recheck: a user is
//! removed only if, with the directory's lock held, nobody sits there still.
//! Then nobody can join that entry any more, and its subscription can go.

use super::sync::{Arc, Mutex, MutexGuard, lock};

/// A session's place, as the state machine sees it.
pub trait Member<U>: Clone {
    /// The subscription stands.
    fn confirmed(&self, of: &U);
    /// Whether the session was welcomed.
    fn is_welcomed(&self) -> bool;
    /// The user has too many sessions, and this is the oldest.
    fn replaced(&self);
    /// Whether both are the same session.
    fn is(&self, other: &Self) -> bool;
}

/// Where subscriptions are asked for. Neither call waits, and the bus handles
/// them in the order in which they were made.
pub(crate) trait Bus<U, M> {
    /// Subscribes to a user's messages; returns the subscription's id.
    fn subscribe(&self, held: &Arc<Held<U, M>>) -> u64;
    /// Ends a subscription.
    fn unsubscribe(&self, id: u64);
}

/// Where users are found.
pub(crate) trait Directory<U, M> {
    /// Calls `f` with the user's entry, made where there is none, while no
    /// removal of the same user can happen.
    fn enter<R>(&self, user: &U, f: impl FnOnce(&Arc<Held<U, M>>) -> R) -> R;
    /// Removes the user where `f` says so, while nobody can enter; returns
    /// whether it did.
    fn remove_if(&self, user: &U, f: impl FnOnce(&Arc<Held<U, M>>) -> bool) -> bool;
}

/// A user with sessions here, or about to have one.
#[derive(Debug)]
pub struct Held<U, M> {
    key: U,
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    seats: Vec<M>,
    subscription: Option<u64>,
    /// In which life of the bus's connection the subscription was confirmed.
    confirmed_in: Option<u64>,
    /// That a session was welcomed is told, for presence.
    came: bool,
    /// Services know by this gateway that the user is online.
    announced: bool,
}

/// What a join found.
#[derive(Debug)]
pub(crate) struct Joined<U, M> {
    /// The user's entry.
    pub(crate) held: Arc<Held<U, M>>,
    /// The subscription was confirmed in this life of the connection already.
    pub(crate) confirmed_in: Option<u64>,
}

/// Takes a member. The first of a user subscribes.
pub(crate) fn join<U: Clone, M: Member<U>>(
    directory: &impl Directory<U, M>,
    bus: &impl Bus<U, M>,
    user: &U,
    member: M,
) -> Joined<U, M> {
    directory.enter(user, |held| {
        let mut state = held.state();
        state.seats.push(member);
        if state.subscription.is_none() {
            state.subscription = Some(bus.subscribe(held));
            state.confirmed_in = None;
        }
        Joined {
            held: held.clone(),
            confirmed_in: state.confirmed_in,
        }
    })
}

/// Gives a member up. The last of a user unsubscribes.
pub(crate) fn leave<U, M: Member<U>>(
    directory: &impl Directory<U, M>,
    bus: &impl Bus<U, M>,
    held: &Arc<Held<U, M>>,
    member: &M,
) {
    held.state().seats.retain(|other| !other.is(member));
    let vacant = |found: &Arc<Held<U, M>>| Arc::ptr_eq(found, held) && found.is_vacant();
    if held.is_vacant()
        && directory.remove_if(&held.key, vacant)
        && let Some(subscription) = held.state().subscription.take()
    {
        bus.unsubscribe(subscription);
    }
}

impl<U, M: Member<U>> Held<U, M> {
    /// Nobody sits here yet.
    pub fn new(key: U) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                seats: Vec::new(),
                subscription: None,
                confirmed_in: None,
                came: false,
                announced: false,
            }),
        }
    }

    /// Whose seats they are.
    pub fn key(&self) -> &U {
        &self.key
    }

    /// The bus confirms a subscription, in this life of its connection.
    pub fn confirm(&self, subscription: u64, life: u64) {
        let mut state = self.state();
        if state.subscription == Some(subscription) {
            state.confirmed_in = Some(life);
            state
                .seats
                .iter()
                .for_each(|member| member.confirmed(&self.key));
        }
    }

    /// The bus refuses a subscription. Returns the user's sessions, which have to end; the
    /// next join asks again.
    pub fn refuse(&self, subscription: u64) -> Vec<M> {
        let mut state = self.state();
        if state.subscription != Some(subscription) {
            return Vec::new();
        }
        state.subscription = None;
        state.confirmed_in = None;
        std::mem::take(&mut state.seats)
    }

    /// A session was welcomed: with more than `limit` the oldest go that were welcomed before.
    pub fn keep_newest(&self, limit: usize, newcomer: &M) {
        let mut state = self.state();
        let mut excess = state.seats.len().saturating_sub(limit.max(1));
        state.seats.retain(|member| {
            let goes = excess > 0 && member.is_welcomed() && !member.is(newcomer);
            if goes {
                excess -= 1;
                member.replaced();
            }
            !goes
        });
    }

    /// In which life of the connection the subscription was confirmed.
    pub fn confirmed_in(&self) -> Option<u64> {
        self.state().confirmed_in
    }

    /// A session was welcomed: `tell` says so where nobody has yet, and returns whether it could.
    pub fn comes(&self, tell: impl FnOnce() -> bool) {
        let mut state = self.state();
        if !state.came && !state.seats.is_empty() {
            state.came = tell();
        }
    }

    /// A session has left. Whether it was the last one, and the user had come.
    pub fn goes(&self) -> bool {
        let mut state = self.state();
        let goes = state.came && state.seats.is_empty();
        if goes {
            (state.came, state.announced) = (false, false);
        }
        goes
    }

    /// Whether the user has come, and has not gone.
    pub fn is_here(&self) -> bool {
        let state = self.state();
        state.came && !state.seats.is_empty()
    }

    /// Services know by this gateway that the user is online.
    pub fn announce(&self) {
        let mut state = self.state();
        state.announced = state.came;
    }

    /// Whether [`Held::announce`] was called, and the user has not gone since.
    pub fn is_announced(&self) -> bool {
        self.state().announced
    }

    /// Calls `f` for each member.
    pub fn each(&self, f: impl FnMut(&M)) {
        self.state().seats.iter().for_each(f);
    }

    /// Whether a session sits here.
    pub fn has(&self, member: &M) -> bool {
        self.state().seats.iter().any(|other| other.is(member))
    }

    /// How many sit here.
    pub fn len(&self) -> usize {
        self.state().seats.len()
    }

    /// Whether nobody sits here any more.
    pub fn is_empty(&self) -> bool {
        self.is_vacant()
    }

    fn is_vacant(&self) -> bool {
        self.state().seats.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        lock(&self.state)
    }
}
