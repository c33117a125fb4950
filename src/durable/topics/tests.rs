use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use super::*;
use crate::{
    channel::Channel,
    durable::{lock, tests::away, track::Beginning},
    registry::JoinState,
};

/// A change after which the session follows one topic more.
fn follows(name: &str) -> Followed {
    let mut followed = Followed::default();
    followed.new.push(away::topic(name));
    followed.all.push(away::topic(name));
    followed
}

/// A leader query that finds another stream locks tracks while it holds the stream's state.
#[tokio::test]
async fn a_change_waits_for_the_streams_state_without_its_track() {
    let durable = away::durable(8).await;
    let leader = away::leader(7);
    let session = away::open(&durable, &[], &leader);
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let state = lock(&durable.state);
        let changing = thread::spawn({
            let (session, leader) = (Arc::clone(&session), leader.clone());
            move || session.change_topics_at(Some(&leader), None, follows("news"))
        });
        // Meanwhile the change gets as far as it can.
        for _ in 0..100 {
            drop(session.track());
            thread::sleep(Duration::from_millis(1));
        }
        drop(state);
        let changed = changing.join().expect("no panic");
        let _ = done.send(changed);
    });
    let changed = is_done.recv_timeout(Duration::from_secs(60));
    assert_eq!(changed, Ok(Ok(())), "not both wait for each other");
}

/// The client must not get a message of a new topic before `following`, or a proof after it that
/// does not count the topic: both are queued under the lock of the track.
#[tokio::test]
async fn following_is_queued_before_anybody_sees_the_topic() {
    let durable = away::durable(1).await;
    let leader = away::leader(7);
    for _ in 0..300 {
        let session = away::open(&durable, &[], &leader);
        // A message that has to make room.
        let source = session.track().note_sent(0, 8);
        let message = Outgoing::new("m".into(), None, source, &durable.limits);
        session.backlog().extend(vec![message]);
        let watching = thread::spawn({
            let session = Arc::clone(&session);
            move || {
                loop {
                    let track = session.track();
                    if track.chains().len() > 2 {
                        return session.backlog().is_taken();
                    }
                }
            }
        });
        let changed = session.change_topics_at(Some(&leader), None, follows("news"));
        assert_eq!(changed, Ok(()));
        let is_empty = watching.join().expect("no panic");
        assert!(!is_empty, "the topic is there, and nothing is queued");
    }
}

/// A service changes the topics at the very moment at which the session begins.
#[tokio::test]
async fn topics_do_not_change_until_the_session_has_begun() {
    let durable = away::durable(8).await;
    let leader = away::leader(7);
    durable.learn(&leader);
    let session = away::joining(&durable, &["a", "b"]);
    session.backlog().set_join_state(JoinState::Welcomed);
    let mut unfollow = Followed::default();
    unfollow.gone.push(away::topic("a"));
    let changed = session.change_topics_at(None, None, unfollow);
    assert_eq!(changed, Err(FollowError::Unavailable));
    session.set_beginning(Beginning {
        at: vec![1, 2, 3, 4],
        proven: Proof::default(),
        known: Proof::default(),
        resumed: None,
    });
    assert_eq!(session.track().covered(), [1, 2, 3, 4]);
    assert_eq!(session.channels()[3], Channel::Topic(away::topic("b")));
}

/// A service has the session follow a topic before the session's `welcome` is written.
#[tokio::test]
async fn a_welcome_names_the_topics_that_begin_with_it() {
    let durable = away::durable(8).await;
    let leader = away::leader(7);
    durable.learn(&leader);
    let session = away::joining(&durable, &["a"]);
    let opening = session.open(&leader, None).expect("it begins");
    let changed = session.change_topics_at(Some(&leader), None, follows("news"));
    assert_eq!(changed, Ok(()));
    assert_eq!(opening.topics, [away::topic("a")]);
    assert!(
        !session.backlog().is_taken(),
        "a `following` names the other"
    );
}
