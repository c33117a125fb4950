//! The sessions of one audience (a user or a topic), and the subscription that exists exactly
//! while there is one: the state machine, apart from the map that holds it.
//!
//! `tests/registry_model.rs` includes this very file and lets a model checker
//! run it, so it uses no map, no clock and no runtime, and takes its `Mutex`
//! from the module above it.
//!
//! Lock order: the directory's lock of an audience, then that entry's state. A join
//! holds both, so it never meets an entry that is being removed. A leave holds only
//! the state; the last one releases it before it asks the directory to remove
//! the entry, and a join may come in between. Hence the recheck: an entry is
//! removed only if, with the directory's lock held, it still has no members.
//! Then nobody can join that entry any more, and its subscription can go.

use super::sync::{Arc, Mutex, MutexGuard, lock};

/// A session, as the state machine sees it.
pub trait Member<U>: Clone {
    /// NATS has confirmed the subscription of this audience.
    fn confirmed(&self, of: &U);
    /// Whether the session was welcomed, and is not over.
    fn is_welcomed(&self) -> bool;
    /// The audience has too many sessions, and this is the oldest.
    fn replaced(&self);
    /// Whether both are the same session.
    fn is(&self, other: &Self) -> bool;
}

/// Where subscriptions are asked for. Neither call waits, and the bus handles
/// them in the order in which they were made.
pub(crate) trait Bus<U, M> {
    /// Subscribes to an audience's messages; returns the subscription's id.
    fn subscribe(&self, held: &Arc<Held<U, M>>) -> u64;
    /// Ends a subscription.
    fn unsubscribe(&self, id: u64);
}

/// Where the entries of audiences are found.
pub(crate) trait Directory<U, M> {
    /// Calls `f` with the audience's entry, which is made if there is no entry, while no
    /// removal of that entry can happen.
    fn enter<R>(&self, key: &U, f: impl FnOnce(&Arc<Held<U, M>>) -> R) -> R;
    /// Removes the entry if `f` says so, while nobody can enter; returns
    /// whether it did.
    fn remove_if(&self, key: &U, f: impl FnOnce(&Arc<Held<U, M>>) -> bool) -> bool;
}

/// The entry of an audience that has sessions here, or is about to have one.
#[derive(Debug)]
pub struct Held<U, M> {
    key: U,
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    members: Vec<M>,
    subscription: Option<u64>,
    /// The number of the connection on which NATS confirmed the subscription.
    confirmed_on: Option<u64>,
    /// That a session was welcomed is told, for presence.
    came: bool,
    /// Services know by this gateway that the user is online.
    announced: bool,
}

/// What a join found.
#[derive(Debug)]
pub(crate) struct Joined<U, M> {
    /// The audience's entry.
    pub(crate) held: Arc<Held<U, M>>,
    /// The number of the connection on which NATS has confirmed the subscription already.
    pub(crate) confirmed_on: Option<u64>,
}

/// Adds a member. The first member of an audience subscribes.
pub(crate) fn join<U: Clone, M: Member<U>>(
    directory: &impl Directory<U, M>,
    bus: &impl Bus<U, M>,
    key: &U,
    member: M,
) -> Joined<U, M> {
    directory.enter(key, |held| {
        let mut state = held.state();
        state.members.push(member);
        if state.subscription.is_none() {
            state.subscription = Some(bus.subscribe(held));
            state.confirmed_on = None;
        }
        Joined {
            held: held.clone(),
            confirmed_on: state.confirmed_on,
        }
    })
}

/// Removes a member. The last member of an audience unsubscribes.
pub(crate) fn leave<U, M: Member<U>>(
    directory: &impl Directory<U, M>,
    bus: &impl Bus<U, M>,
    held: &Arc<Held<U, M>>,
    member: &M,
) {
    held.state().members.retain(|other| !other.is(member));
    let empty = |found: &Arc<Held<U, M>>| Arc::ptr_eq(found, held) && found.is_empty();
    if held.is_empty()
        && directory.remove_if(&held.key, empty)
        && let Some(subscription) = held.state().subscription.take()
    {
        bus.unsubscribe(subscription);
    }
}

impl<U, M: Member<U>> Held<U, M> {
    /// An entry without members.
    pub fn new(key: U) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                members: Vec::new(),
                subscription: None,
                confirmed_on: None,
                came: false,
                announced: false,
            }),
        }
    }

    /// The audience.
    pub fn key(&self) -> &U {
        &self.key
    }

    /// The bus confirms a subscription, on the connection of this number.
    pub fn confirm(&self, subscription: u64, connection: u64) {
        let mut state = self.state();
        if state.subscription == Some(subscription) {
            state.confirmed_on = Some(connection);
            state
                .members
                .iter()
                .for_each(|member| member.confirmed(&self.key));
        }
    }

    /// The bus refuses a subscription. Returns the members, which have to end; the next join asks
    /// again.
    pub fn refuse(&self, subscription: u64) -> Vec<M> {
        let mut state = self.state();
        if state.subscription != Some(subscription) {
            return Vec::new();
        }
        state.subscription = None;
        state.confirmed_on = None;
        std::mem::take(&mut state.members)
    }

    /// A session was welcomed: with more than `limit` of those the oldest go. A session on its way
    /// in counts when it is welcomed itself: it may fail.
    pub fn keep_newest(&self, limit: usize, newcomer: &M) {
        let mut state = self.state();
        let welcomed = state.members.iter().filter(|member| member.is_welcomed());
        let mut excess = welcomed.count().saturating_sub(limit.max(1));
        state.members.retain(|member| {
            let goes = excess > 0 && member.is_welcomed() && !member.is(newcomer);
            if goes {
                excess -= 1;
                member.replaced();
            }
            !goes
        });
    }

    /// The number of the connection on which NATS confirmed the subscription.
    pub fn confirmed_on(&self) -> Option<u64> {
        self.state().confirmed_on
    }

    /// A session was welcomed: `tell` says so where nobody has yet, and returns whether it could.
    pub fn comes(&self, tell: impl FnOnce() -> bool) {
        let mut state = self.state();
        if !state.came && !state.members.is_empty() {
            state.came = tell();
        }
    }

    /// A session has left. Whether it was the last one, and the user had come.
    pub fn goes(&self) -> bool {
        let mut state = self.state();
        let goes = state.came && state.members.is_empty();
        if goes {
            (state.came, state.announced) = (false, false);
        }
        goes
    }

    /// Whether the user has come, and has not gone.
    pub fn is_here(&self) -> bool {
        let state = self.state();
        state.came && !state.members.is_empty()
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
        self.state().members.iter().for_each(f);
    }

    /// Whether a session is a member.
    pub fn has(&self, member: &M) -> bool {
        self.state().members.iter().any(|other| other.is(member))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.state().members.len()
    }

    /// Whether there are no members any more.
    pub fn is_empty(&self) -> bool {
        self.state().members.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        lock(&self.state)
    }
}
