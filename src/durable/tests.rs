//! Random histories of a stream and one client: no history ends with a message missing at a
//! client that was told `complete`, and then `live`.

pub(super) mod away;
mod replaced;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::world::World;
use super::track::Track;

#[derive(Debug, Clone)]
enum Step {
    /// A message of a channel is stored, and republished or not.
    Store(usize, bool),
    /// The client leaves.
    Leave,
    /// The client comes, with its position or, without one, anew.
    Come,
    /// The same; meanwhile these messages are stored, and the first of them are taken back.
    ComeWhile(Vec<(usize, bool)>, usize),
    /// A session that is behind catches up by one read.
    Round,
    /// What the client was not written is taken back: the next ones are left to the stream.
    Slow,
    /// The connection to NATS is lost, and is back.
    Lost,
    Audit,
    Ping,
    /// The oldest messages are removed for their age, after an audit.
    Expire(u64),
    /// Somebody copies the stream, and puts the copy back later.
    Copy,
    SetBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stored = proptest::collection::vec((0..5usize, any::<bool>()), 0..6);
    let step = prop_oneof![
        12 => (0..5usize, any::<bool>()).prop_map(|(channel, sent)| Step::Store(channel, sent)),
        8 => (0..5usize).prop_map(|channel| Step::Store(channel, true)),
        2 => Just(Step::Leave),
        3 => Just(Step::Come),
        2 => (stored, 0..4usize).prop_map(|(stored, back)| Step::ComeWhile(stored, back)),
        6 => Just(Step::Round),
        1 => Just(Step::Slow),
        1 => Just(Step::Lost),
        2 => Just(Step::Audit),
        2 => Just(Step::Ping),
        1 => (1..4u64).prop_map(Step::Expire),
        1 => Just(Step::Copy),
        1 => Just(Step::SetBack),
    ];
    proptest::collection::vec(step, 1..120)
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Store(channel, republished) => self.store(channel, republished),
            Step::Leave => self.leave(),
            Step::Come => self.come(),
            Step::ComeWhile(stored, taken_back) => self.come_while(|world| {
                for (number, (channel, republished)) in stored.into_iter().enumerate() {
                    if number == taken_back
                        && let Some(track) = &mut world.session
                    {
                        track.take_back();
                    }
                    world.store(channel, republished);
                }
            }),
            Step::Round => self.round(),
            Step::Slow => {
                if let Some(track) = &mut self.session {
                    track.take_back();
                    for (_, _, source) in self.queued.drain(..).rev() {
                        track.rewind(source);
                    }
                }
            }
            Step::Lost => {
                if let Some(track) = &mut self.session {
                    track.lose();
                }
            }
            Step::Audit => self.audit(),
            Step::Ping => self.ping(),
            // Where a stream was set back, and what it stored since is gone before the client
            // comes, nothing tells so.
            Step::Expire(_) if self.is_set_back => {}
            Step::Expire(count) => {
                // Messages are kept for longer than from one audit to the next.
                self.audit();
                for _ in 0..count {
                    if let Some(oldest) = self.stream.kept.keys().next().copied() {
                        self.stream.remove(oldest);
                    }
                }
            }
            Step::Copy => self.copy = Some(self.stream.clone()),
            Step::SetBack => {
                if let Some(copy) = self.copy.clone() {
                    // Nobody can know of what was never seen.
                    let kept: BTreeSet<_> = copy.kept.values().map(|(_, at)| *at).collect();
                    self.client.owed.retain(|at| kept.contains(at));
                    self.stream = copy;
                    self.is_set_back = true;
                    self.leave();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_missing_after_complete_and_live(steps in steps(), channels in 2..=5usize) {
        let mut world = World::new(channels);
        world.come();
        for step in steps {
            world.step(step);
        }
        // It comes back a last time, and catches up.
        world.come();
        for _ in 0..100 {
            world.round();
        }
        world.write();
        world.audit();
        for _ in 0..100 {
            world.round();
        }
        world.write();
        prop_assert!(world.session.as_ref().is_some_and(Track::is_live));
        prop_assert!(world.client.owed.is_empty(), "missing: {:?}", world.client.owed);
    }
}
