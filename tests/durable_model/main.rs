//! Sessions of durable mode under a model checker: their very source files, with the checker's
//! locks, run through thousands of thread schedules. One client follows its user, the broadcast
//! and, now and then, a topic; it judges what it is sent by the rules of `position.rs`.
//!
//! `durable/` and `registry/` beside this file have links to the sources. Where a source has a file
//! of unit tests, an empty one stands here.

mod client;
mod durable;
mod registry;

use usher::{channel, close, frame, message, metrics, position, readiness, telemetry, trace, user};

/// What sessions find of the stream.
mod bus {
    pub(crate) mod stream {
        use std::sync::Arc;

        use crate::frame::Proof;

        /// How far the stream is, which loses nothing here.
        #[derive(Debug, Clone)]
        pub(crate) struct LeaderState {
            pub(crate) epoch: Arc<str>,
            pub(crate) last: u64,
        }

        impl LeaderState {
            pub(crate) fn new(last: u64) -> Self {
                let epoch = "e".into();
                Self { epoch, last }
            }

            pub(crate) fn proof(&self) -> Proof {
                let (seq, at) = (self.last, self.last);
                Proof { seq, at }
            }

            pub(crate) fn known(&self) -> Proof {
                self.proof()
            }

            pub(crate) fn has_all_after(&self, _: u64, _: Proof) -> bool {
                true
            }
        }
    }
}

use std::{collections::VecDeque, panic::catch_unwind};

use client::Client;
use durable::{Durable, Session, Split};
use message::Stored;
use registry::{
    Followed, JoinState, Limits, Session as _,
    sync::{Arc, Mutex, lock},
};
use shuttle::{
    rand::{Rng as _, thread_rng},
    sync::Condvar,
    thread,
};

const SCHEDULES: usize = 1_500;
/// Messages that are published while all else goes on.
const MESSAGES: usize = 6;

#[test]
fn nothing_is_missing_and_nothing_comes_twice() {
    shuttle::check_random(|| model(Split::Nothing, false), SCHEDULES);
    shuttle::check_pct(|| model(Split::Nothing, false), SCHEDULES, 4);
}

#[test]
fn a_session_can_end_at_any_moment() {
    shuttle::check_random(|| model(Split::Nothing, true), SCHEDULES / 2);
    shuttle::check_pct(|| model(Split::Nothing, true), SCHEDULES / 2, 4);
}

/// The proof that the check can fail.
#[test]
fn a_step_that_is_split_is_noticed() {
    let wrong = &[client::TWICE, client::HOLE, client::MISSING][..];
    for (split, words) in [
        (Split::NoteAndQueue, wrong),
        (Split::TakeBack, wrong),
        (Split::IdleAndQueued, &[FORGOTTEN]),
    ] {
        let failure = catch_unwind(|| {
            shuttle::check_random(move || model(split, false), SCHEDULES);
            shuttle::check_pct(move || model(split, false), SCHEDULES, 4);
        });
        let Err(failure) = failure else {
            panic!("{split:?} is not noticed");
        };
        let said = failure.downcast_ref::<String>().map_or("", String::as_str);
        let expected = words.iter().any(|words| said.contains(words));
        assert!(expected, "{split:?} failed for another reason: {said}");
    }
}

const FORGOTTEN: &str = "a session that is behind waits for no round";

/// What is published on its way to the gateway, and whether it hears of the topic.
#[derive(Default)]
struct Nats {
    state: Mutex<Arriving>,
    arrived: Condvar,
}

#[derive(Default)]
struct Arriving {
    messages: VecDeque<(channel::Channel, Stored)>,
    follows: bool,
    over: bool,
}

impl Nats {
    fn change(&self, change: impl FnOnce(&mut Arriving)) {
        change(&mut lock(&self.state));
        self.arrived.notify_all();
    }

    fn next(&self) -> Option<(channel::Channel, Stored)> {
        let mut state = lock(&self.state);
        loop {
            if let Some(message) = state.messages.pop_front() {
                return Some(message);
            }
            if state.over {
                return None;
            }
            state = self.arrived.wait(state).expect("a panic ends the schedule");
        }
    }
}

thread_local! {
    /// It takes long to make, and has no part in this.
    static METRICS: Arc<metrics::Metrics> = Arc::new(metrics::Metrics::new());
}

fn topic() -> channel::Topic {
    channel::Topic::parse("news").expect("a topic")
}

fn one_in(count: u32) -> bool {
    thread_rng().gen_range(0..count) == 0
}

fn model(split: Split, ends: bool) {
    let limits = Limits::new(4, usize::MAX, usize::MAX);
    let durable = Durable::new(limits, split, METRICS.with(Arc::clone));
    let session = durable.session();
    session.backlog().set_join_state(JoinState::Welcomed);
    let nats = Arc::new(Nats::default());
    let client = Arc::new(Mutex::new(Client::new(durable.clone(), session.clone())));
    let spawn = |run: fn(&World)| {
        let world = World {
            durable: durable.clone(),
            session: session.clone(),
            nats: nats.clone(),
            client: client.clone(),
        };
        thread::spawn(move || run(&world))
    };
    let rounds = [(); 2].map(|()| spawn(|world| world.durable.rounds()));
    let writes = spawn(|world| lock(&world.client).run());
    let mut others = vec![
        spawn(World::publish),
        spawn(World::read),
        spawn(World::audit),
        spawn(World::follow),
    ];
    if ends {
        others.push(spawn(World::end));
    }
    durable.begin(&session);
    for other in others {
        other.join().expect("a thread");
    }
    durable.stop();
    for round in rounds {
        round.join().expect("the rounds");
    }
    client::stop(&session);
    writes.join().expect("the client");
    let mut client = lock(&client);
    let settle = |client: &mut Client| while client.writes() || durable.next_round() {};
    settle(&mut client);
    if !session.backlog().is_open() {
        // Or its own frames, which nobody can send again, had no room.
        return;
    }
    assert!(!ends && session.is_live(), "{FORGOTTEN}");
    // What was lost on its way is seen by an audit at the latest.
    durable.audit(&session, || ());
    settle(&mut client);
    assert!(session.is_live(), "{FORGOTTEN}");
    durable.audit(&session, || ());
    client.ping();
    client.has_all();
}

struct World {
    durable: Arc<Durable>,
    session: Arc<Session>,
    nats: Arc<Nats>,
    client: Arc<Mutex<Client>>,
}

impl World {
    fn publish(&self) {
        for _ in 0..MESSAGES {
            let channel = match thread_rng().gen_range(0..3) {
                0 => channel::Channel::User,
                1 => channel::Channel::Broadcast,
                _ => channel::Channel::Topic(topic()),
            };
            let message = self.durable.stream.store(channel);
            let (lost, twice) = (one_in(6), one_in(6));
            self.nats.change(|state| {
                let is_topic = matches!(message.0, channel::Channel::Topic(_));
                if (!is_topic || state.follows) && !lost {
                    let count = 1 + usize::from(twice);
                    state.messages.extend(vec![message; count]);
                }
            });
        }
        self.nats.change(|state| state.over = true);
    }

    /// The task that reads what NATS says.
    fn read(&self) {
        while let Some(message) = self.nats.next() {
            match thread_rng().gen_range(0..8) {
                0 => self.durable.shed(&self.session),
                1 => {
                    self.session.lost();
                    thread::yield_now();
                    self.session.lost();
                    self.session.clone().catches_up();
                    continue;
                }
                _ => {}
            }
            self.durable.offer(&self.session, message);
        }
    }

    fn audit(&self) {
        for _ in 0..2 {
            self.durable.audit(&self.session, thread::yield_now);
        }
    }

    /// The topic is followed, left, and followed again.
    fn follow(&self) {
        for follows in [true, false, true] {
            let mut followed = Followed::default();
            if follows {
                self.session.expect(&topic());
                followed.new.push(topic());
                followed.all.push(topic());
                self.nats.change(|state| state.follows = true);
            } else {
                followed.gone.push(topic());
            }
            let preparing = self.session.clone().prepare(followed.new.clone(), None);
            let prepared = shuttle::future::block_on(preparing);
            let changed = prepared.and_then(|commit| commit(followed));
            if changed.is_err() && follows {
                self.session.cease_to_expect(&topic());
            }
            if changed.is_ok() && !follows {
                self.nats.change(|state| state.follows = false);
            }
        }
    }

    fn end(&self) {
        if one_in(2) {
            self.session.disown();
            thread::yield_now();
            self.session
                .backlog()
                .end(close::CloseReason::BusLost.into());
        } else {
            self.session.follows().close();
            self.session
                .backlog()
                .cut(close::CloseReason::ConnectionLost);
            self.session.left();
        }
    }
}
