use super::*;
use crate::{
    channel::Channel,
    position::Begun,
    registry::{Limits, Source},
};

/// A session takes 64 frames from its backlog at a time, and reads its client's side while 80
/// wait.
#[tokio::test]
async fn the_ids_of_a_batch_do_not_keep_a_session_from_reading() {
    let (stream, _client) = tokio::io::duplex(1);
    let mut events = Events::new(stream, &head());
    events.queue_welcome("data: welcome\n\n".into(), || {
        let mut tracker = Tracker::default();
        tracker.welcome(Some("k".into()), 0, 0, Begun::Anew, []);
        Some(tracker)
    });
    let limits = Limits::new(usize::MAX, usize::MAX, usize::MAX);
    for seq in 1..=64 {
        let step = Step::Event {
            channel: Channel::User,
            seq,
            prev: seq - 1,
            at: seq,
        };
        events.queue_outgoing(Outgoing {
            step: Some(Box::new(step)),
            ..Outgoing::new("data: 1\n\n".into(), None, Source::Own, &limits)
        });
    }
    assert_eq!(events.unsent(), 65);
    assert_eq!(events.chunks.len(), 1 + 2 * 65, "each frame has an id");
}
