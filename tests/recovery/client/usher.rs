//! A session of `usher.v1`, over a WebSocket or as server-sent events.

use std::time::Duration;

use ::usher::{
    channel::{Channel, Topic},
    position::Begun,
};
use tokio::{sync::watch, time::sleep};

use super::{Client, Ended, Order, Swallow, Turn, closes};
use crate::{
    auditor::{BROADCAST, Position, Resume, Stored, TOPIC, What},
    session::{Failure, Following, Frame, Item, Session, Welcome},
    shared::Phase,
    who::{Transport, topic_name},
};

impl Client {
    /// Reads until the end.
    pub(super) async fn session(
        &mut self,
        session: Session,
        phase: &mut watch::Receiver<Phase>,
        closing: bool,
    ) -> Ended {
        let mut welcomed = false;
        let ended = self.reads(session, phase, closing, &mut welcomed).await;
        // It has no command for it, so it asks for its topic or not when it comes back.
        if welcomed && self.who.changes && self.who.transport == Transport::Events {
            self.follows = rand::random();
            if !self.follows {
                // Rule 3, where no frame says so.
                self.tracker.following([], 0, 0);
            }
        }
        ended
    }

    async fn reads(
        &mut self,
        mut session: Session,
        phase: &mut watch::Receiver<Phase>,
        closing: bool,
        welcomed: &mut bool,
    ) -> Ended {
        let mut hint = None;
        let mut replays = false;
        let has_position = self.tracker.position().is_some();
        let mut turn = Turn::of(self.who);
        loop {
            let item = tokio::select! {
                item = session.next() => item,
                Some(order) = self.orders.recv() => match order {
                    Order::Pause(length) => {
                        sleep(length).await;
                        // Part of an event may be lost with the read that was given up;
                        // of a WebSocket nothing is.
                        match self.who.transport == Transport::Events {
                            true => return Ended::Closed(1006, None),
                            false => continue,
                        }
                    }
                    Order::Away(_) | Order::AwayUntil(_) => return Ended::Ordered(order),
                },
                () = turn.comes() => {
                    if *self.shared.phase.borrow() == Phase::Running {
                        let what = if self.follows { "unfollow" } else { "follow" };
                        session.change(what, &topic_name(self.who.channels.topic)).await;
                    }
                    continue;
                }
                () = closes(phase), if !closing => return Ended::Closing,
            };
            let (frame, id) = match item {
                Item::Frame(frame, id) => (*frame, id),
                Item::End(code) => return Ended::Closed(code, hint),
            };
            match frame {
                Frame {
                    welcome: Some(welcome),
                    ..
                } => {
                    assert!(!*welcomed, "a second welcome");
                    *welcomed = true;
                    replays = welcome.resume == "complete";
                    self.is_welcomed(welcome, id);
                    // Without a position it misses nothing.
                    if closing && !has_position {
                        return Ended::Done;
                    }
                }
                Frame {
                    goodbye: Some(goodbye),
                    ..
                } => {
                    hint = goodbye.reconnect_after_ms.map(Duration::from_millis);
                }
                Frame {
                    error: Some(error), ..
                } => {
                    self.is_refused(error);
                    turn.next();
                }
                frame => {
                    let live = frame.live.is_some();
                    if frame.following.is_some() {
                        turn.next();
                    }
                    self.hears(frame, id, replays);
                    replays &= !live;
                    if closing && live {
                        return Ended::Done;
                    }
                }
            }
        }
    }

    fn is_welcomed(&mut self, welcome: Welcome, id: Option<String>) {
        let (resume, begun) = match &*welcome.resume {
            "none" => (Resume::None, Begun::Anew),
            "complete" => (Resume::Complete, Begun::Complete),
            "gap" => (Resume::Gap, Begun::Gap),
            other => panic!("no such resume: {other}"),
        };
        let Welcome {
            epoch,
            seq,
            at,
            topics,
            ..
        } = welcome;
        self.shared.is_of(&epoch);
        self.is_to_follow(&topics, self.follows);
        let since = self.position();
        let epoch = Some(epoch.into());
        self.tracker.welcome(epoch, seq, at, begun, parsed(&topics));
        let end = Stored { seq, at };
        let follows = self.follows;
        self.has_heard(
            What::Welcome {
                since,
                end,
                resume,
                follows,
            },
            id,
        );
    }

    /// What the gateway says that it follows.
    fn is_to_follow(&self, topics: &[String], expected: bool) {
        let topic = topic_name(self.who.channels.topic);
        let right: &[String] = if expected { &[topic] } else { &[] };
        if topics != right {
            let client = self.index;
            self.shared
                .complain(format!("client {client} follows {topics:?}, not {right:?}"));
        }
    }

    /// A change of its topic that is not made; NATS or the stream may be away.
    fn is_refused(&self, Failure { code, message }: Failure) {
        self.shared.count(format!("not followed: {code}"));
        if code != "unavailable" {
            let client = self.index;
            self.shared
                .complain(format!("client {client} is refused: {code}, {message}"));
        }
    }

    /// What it has, for the auditor.
    fn position(&self) -> Option<Position> {
        let position = self.tracker.position()?;
        let mark = |channel| position.marks.get(&self.channel(channel)).copied();
        Some(Position {
            proven: position.proven,
            top: Stored {
                seq: position.top,
                at: position.at,
            },
            marks: std::array::from_fn(|channel| mark(channel).unwrap_or(0)),
        })
    }

    fn channel(&self, number: usize) -> Channel {
        match number {
            TOPIC => {
                let topic = Topic::parse(&topic_name(self.who.channels.topic));
                Channel::Topic(topic.expect("a topic"))
            }
            BROADCAST => Channel::Broadcast,
            _ => Channel::User,
        }
    }

    /// The number of the channel that a frame names.
    fn number(&self, broadcast: bool, topic: Option<&str>) -> usize {
        match (broadcast, topic) {
            (false, None) => 0,
            (true, None) => BROADCAST,
            (false, Some(topic)) if topic == topic_name(self.who.channels.topic) => TOPIC,
            other => panic!("no channel of client {}: {other:?}", self.index),
        }
    }

    fn hears(&mut self, frame: Frame, id: Option<String>, replays: bool) {
        let what = match frame {
            Frame {
                event: Some(_),
                seq,
                prev,
                at,
                broadcast,
                topic,
                data,
                ..
            } => {
                let channel = self.number(broadcast, topic.as_deref());
                if self.swallows(replays, channel) {
                    return;
                }
                let message = data.expect("a message of ours").id();
                let number = self.who.channels.number(message.to);
                assert_eq!(number, Some(channel), "{message:?}");
                self.tracker.event(self.channel(channel), seq, prev, at);
                What::Event {
                    stored: Stored { seq, at },
                    prev,
                    id: message,
                }
            }
            Frame {
                live: Some(live), ..
            } => {
                self.tracker.proof(live.seq, live.at);
                What::Live(Stored {
                    seq: live.seq,
                    at: live.at,
                })
            }
            Frame {
                ping: Some(ping), ..
            } => match (ping.seq, ping.at) {
                (Some(seq), Some(at)) => {
                    self.tracker.proof(seq, at);
                    What::Ping(Stored { seq, at })
                }
                (None, None) => return,
                other => panic!("no ping of ours: {other:?}"),
            },
            Frame {
                following: Some(Following { topics, seq, at }),
                ..
            } => {
                self.is_following(&topics, seq, at);
                What::Following {
                    stored: Stored { seq, at },
                    follows: self.follows,
                }
            }
            Frame { gap: Some(gap), .. } => {
                let reason = &gap.reason;
                self.shared.count(format!("gap frames: {reason}"));
                assert_eq!(gap.seq.is_some(), reason == "too_large", "{gap:?}");
                match gap.seq {
                    Some(_) if self.swallows == Some(Swallow::TooLarge) => {
                        self.swallows = None;
                        return;
                    }
                    Some(seq) => {
                        let (prev, at) = (gap.prev, gap.at);
                        let channel = self.number(gap.broadcast, gap.topic.as_deref());
                        self.tracker.event(self.channel(channel), seq, prev, at);
                        What::TooLarge {
                            stored: Stored { seq, at },
                            prev,
                            channel,
                        }
                    }
                    None => What::Gap,
                }
            }
            other => panic!("no frame of ours: {other:?}"),
        };
        self.has_heard(what, id);
    }

    /// Its topic comes or goes: rules 3 and 5.
    fn is_following(&mut self, topics: &[String], seq: u64, at: u64) {
        self.is_to_follow(topics, !self.follows);
        self.follows = !topics.is_empty();
        self.tracker.following(parsed(topics), seq, at);
    }

    /// Whether it loses this event. One to all may be the last of its channel for long, and
    /// nothing would show that it is missing before the client comes back for it.
    fn swallows(&mut self, replays: bool, channel: usize) -> bool {
        let of_user = channel == 0;
        let swallows = match &mut self.swallows {
            Some(Swallow::Event(0)) => of_user,
            Some(Swallow::Event(more)) => {
                *more -= 1;
                false
            }
            Some(Swallow::OfAReplay) => replays && of_user,
            Some(Swallow::OfItsTopic) => channel == TOPIC,
            Some(Swallow::TooLarge) | None => false,
        };
        if swallows {
            self.swallows = None;
        }
        swallows
    }

    /// A browser keeps the `id` as `Last-Event-ID`: it must be what the rules make.
    fn has_heard(&self, what: What, id: Option<String>) {
        let position = self.tracker.position().map(ToString::to_string);
        if id.is_some() && id != position {
            let client = self.index;
            self.shared.complain(format!(
                "client {client}: the id of {what:?} is {id:?}, and the position {position:?}"
            ));
        }
        self.shared.hears(self.index, what);
    }
}

fn parsed(topics: &[String]) -> impl Iterator<Item = Topic> {
    let topic = |name: &String| Topic::parse(name).expect("a topic");
    topics.iter().map(topic)
}
