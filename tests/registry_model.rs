//! The registry's state machine under a model checker: the very source file,
//! with the checker's locks, run through thousands of thread schedules.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the model needs less of it than the library"
)]
#[path = "../src/registry/membership.rs"]
mod membership;

/// What the state machine finds above it here, instead of the standard locks.
mod sync {
    pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("a panic ends the schedule")
    }
}

use std::collections::{HashMap, VecDeque};

use membership::{Bus, Directory, Held, Joined, Member, join, leave};
use shuttle::{
    sync::{Arc, Condvar, Mutex},
    thread,
};
use sync::lock;

type User = &'static str;
type Entry = Held<User, Arc<Session>>;

const USER: User = "42";
const SCHEDULES: usize = 5_000;

#[test]
fn a_session_gets_every_message_from_its_welcome_to_its_leave() {
    shuttle::check_random(|| model(Recheck::Kept, 3, 2), SCHEDULES);
    shuttle::check_pct(|| model(Recheck::Kept, 3, 2), SCHEDULES, 3);
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    shuttle::check_random(|| model(Recheck::Kept, 3, 1), SCHEDULES);
}

#[test]
fn who_is_on_the_way_in_replaces_nobody() {
    let check = || {
        let users = Users {
            entries: Mutex::default(),
            recheck: Recheck::Kept,
        };
        let server = Server::default();
        let [first, waits, last] = [(); 3].map(|()| Arc::new(Session::default()));
        let mut held = None;
        for session in [&first, &waits, &last] {
            held = Some(join(&users, &server, &USER, session.clone()).held);
        }
        let held = held.expect("an entry");
        let welcome = |session: &Arc<Session>| {
            session.change(|state| state.welcomed = true);
            held.keep_newest(2, session);
        };
        let is_replaced = || lock(&first.state).replaced;
        welcome(&first);
        welcome(&last);
        assert!(!is_replaced(), "there are two");
        welcome(&waits);
        assert!(is_replaced(), "there are three");
    };
    shuttle::check_random(check, 1);
}

/// The proof that the check can fail.
#[test]
fn without_the_recheck_at_the_last_leave_it_breaks() {
    let check = || shuttle::check_random(|| model(Recheck::Removed, 3, 3), SCHEDULES);
    let failure = std::panic::catch_unwind(check).expect_err("some schedule must fail");
    let words = failure
        .downcast_ref::<String>()
        .map(String::as_str)
        .unwrap_or_default();
    let broke = [DEAF, LEFT_BEHIND]
        .iter()
        .any(|broke| words.contains(broke));
    assert!(broke, "failed for another reason: {words}");
}

const DEAF: &str = "a welcomed session is deaf";
const LEFT_BEHIND: &str = "a user or a subscription stayed behind";

/// Whether a user is removed only when nobody sits there.
#[derive(Clone, Copy, PartialEq)]
enum Recheck {
    Kept,
    Removed,
}

/// `sessions` threads join and leave, twice each, while a server handles what
/// they ask for in its own time.
fn model(recheck: Recheck, sessions: usize, limit: usize) {
    let users = Arc::new(Users {
        entries: Mutex::default(),
        recheck,
    });
    let server = Arc::new(Server::default());
    let serving = thread::spawn({
        let server = server.clone();
        move || while server.handle_next() {}
    });
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let (users, server) = (users.clone(), server.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    session(&users, &server, limit);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a session thread");
    }
    server.push(Command::Stop);
    serving.join().expect("the server thread");
    let empty = lock(&users.entries).is_empty() && lock(&server.subscribed).is_empty();
    assert!(empty, "{LEFT_BEHIND}");
}

fn session(users: &Users, server: &Server, limit: usize) {
    let me = Arc::new(Session::default());
    let Joined { held, confirmed_on } = join(users, server, &USER, me.clone());
    if confirmed_on.is_none() {
        me.wait_for_confirmation();
    }
    me.change(|state| state.welcomed = true);
    held.keep_newest(limit, &me);
    server.publish();
    let State {
        received, replaced, ..
    } = *lock(&me.state);
    assert!(received || replaced, "{DEAF}");
    leave(users, server, &held, &me);
}

#[derive(Default)]
struct Session {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    confirmed: bool,
    welcomed: bool,
    received: bool,
    /// It has to go, welcomed or not.
    replaced: bool,
}

impl Session {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn wait_for_confirmation(&self) {
        let mut state = lock(&self.state);
        while !state.confirmed && !state.replaced {
            state = self.changed.wait(state).expect("a panic ends the schedule");
        }
    }
}

impl Member<User> for Arc<Session> {
    fn confirmed(&self, _: &User) {
        self.change(|state| state.confirmed = true);
    }

    fn is_welcomed(&self) -> bool {
        lock(&self.state).welcomed
    }

    fn replaced(&self) {
        self.change(|state| state.replaced = true);
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

struct Users {
    entries: Mutex<HashMap<User, Arc<Entry>>>,
    recheck: Recheck,
}

impl Directory<User, Arc<Session>> for Users {
    fn enter<R>(&self, user: &User, f: impl FnOnce(&Arc<Entry>) -> R) -> R {
        let mut entries = lock(&self.entries);
        f(entries
            .entry(user)
            .or_insert_with(|| Arc::new(Held::new(user))))
    }

    fn remove_if(&self, user: &User, f: impl FnOnce(&Arc<Entry>) -> bool) -> bool {
        let mut entries = lock(&self.entries);
        let vacant = entries.get(user).is_some_and(f);
        let remove = vacant || self.recheck == Recheck::Removed;
        remove && entries.remove(user).is_some()
    }
}

/// A NATS server and the reader of its connection: handles commands in order.
#[derive(Default)]
struct Server {
    commands: Mutex<VecDeque<Command>>,
    arrived: Condvar,
    next_id: Mutex<u64>,
    subscribed: Mutex<HashMap<u64, Arc<Entry>>>,
}

enum Command {
    Subscribe(u64, Arc<Entry>),
    Unsubscribe(u64),
    Stop,
}

impl Server {
    fn push(&self, command: Command) {
        lock(&self.commands).push_back(command);
        self.arrived.notify_all();
    }

    fn handle_next(&self) -> bool {
        let command = {
            let mut commands = lock(&self.commands);
            loop {
                match commands.pop_front() {
                    Some(command) => break command,
                    None => {
                        commands = self
                            .arrived
                            .wait(commands)
                            .expect("a panic ends the schedule");
                    }
                }
            }
        };
        match command {
            Command::Subscribe(id, held) => {
                lock(&self.subscribed).insert(id, held.clone());
                held.confirm(id, 0);
            }
            Command::Unsubscribe(id) => drop(lock(&self.subscribed).remove(&id)),
            Command::Stop => return false,
        }
        true
    }

    /// One message to the user, to whatever is subscribed now.
    fn publish(&self) {
        for held in lock(&self.subscribed).values() {
            held.each(|session| session.change(|state| state.received = true));
        }
    }
}

impl Bus<User, Arc<Session>> for Server {
    fn subscribe(&self, held: &Arc<Entry>) -> u64 {
        let id = {
            let mut next_id = lock(&self.next_id);
            *next_id += 1;
            *next_id
        };
        self.push(Command::Subscribe(id, held.clone()));
        id
    }

    fn unsubscribe(&self, id: u64) {
        self.push(Command::Unsubscribe(id));
    }
}
