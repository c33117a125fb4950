//! A session over the Centrifuge protocol, as an SDK has one: it keeps an offset for each
//! channel, and subscribes to its topic by itself where its ticket does not name it.

mod socket;

use std::{fmt, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use self::socket::{Connected, Failure, Publication, Push, Reply, Socket, Subscribed};
use super::{Client, Ended, Order, Swallow, Turn, closes};
use crate::{
    auditor::{BROADCAST, CHANNELS, TOPIC, What},
    shared::Phase,
    support::wait::PATIENCE,
    who::topic_name,
};

/// The command that opens a session, and the one that changes what it follows.
const CONNECT: u32 = 1;
const CHANGE: u32 = 2;
/// Errors that another time mends: `unavailable`, and too many changes.
const TEMPORARY: [u32; 2] = [100, 111];

/// Of each channel, the epoch and the offset of what the client has.
pub(crate) type Offsets = [Option<(String, u64)>; CHANNELS];

/// A session, and when it was asked for. The answer comes by [`Client::centrifuge`].
pub(super) struct Asked {
    socket: Socket,
    at: Duration,
}

/// Connects, and asks for a session.
pub(super) async fn open(client: &Client, address: &str, ticket: &str) -> Result<Asked, String> {
    let mut socket = Socket::open(address, client.who.protobuf).await?;
    let subs = (0..CHANNELS).filter_map(|channel| {
        // It subscribes to such a topic by itself.
        let by_itself = channel == TOPIC && client.who.changes;
        let recovers = client.recovers(channel).filter(|_| !by_itself)?;
        Some((client.name(channel), recovers))
    });
    let subs: serde_json::Map<_, _> = subs.collect();
    let connect = json!({ "data": { "ticket": ticket }, "subs": subs });
    let at = client.shared.now();
    socket
        .say(&json!({ "id": CONNECT, "connect": connect }))
        .await;
    Ok(Asked { socket, at })
}

impl Client {
    /// How a channel is called.
    fn name(&self, channel: usize) -> String {
        match channel {
            TOPIC => topic_name(self.who.channels.topic),
            BROADCAST => "broadcast".to_owned(),
            _ => format!("#{}", self.who.channels.user),
        }
    }

    /// What it sends with its wish to follow a channel; none where it begins anew.
    fn recovers(&self, channel: usize) -> Option<Value> {
        let (epoch, offset) = self.offsets[channel].as_ref()?;
        Some(json!({ "recover": true, "epoch": epoch, "offset": offset }))
    }

    /// Reads until the end.
    pub(super) async fn centrifuge(
        &mut self,
        asked: Asked,
        phase: &mut watch::Receiver<Phase>,
        closing: bool,
    ) -> Ended {
        let Asked { mut socket, at } = asked;
        let mut asked = at;
        let mut connected = false;
        // It follows its topic in this session.
        let mut subscribed = !self.who.changes;
        let mut turn = Turn::of(self.who);
        let patience = Instant::now() + PATIENCE / 2;
        loop {
            self.shows(subscribed);
            let all = || self.shared.has_all(self.index, self.who.channels);
            if closing && connected && subscribed == self.follows && all() {
                return Ended::Done;
            }
            let item = tokio::select! {
                item = socket.next() => item,
                Some(order) = self.orders.recv() => match order {
                    Order::Pause(length) => {
                        sleep(length).await;
                        continue;
                    }
                    Order::Away(_) | Order::AwayUntil(_) => return Ended::Ordered(order),
                },
                () = turn.comes() => {
                    let runs = *self.shared.phase.borrow() == Phase::Running;
                    let wanted = if runs { !subscribed } else { self.follows };
                    if !connected {
                        turn.next();
                    } else if wanted != subscribed {
                        asked = self.changes(&mut socket, wanted).await;
                    }
                    continue;
                }
                // The auditor says what is missing.
                () = sleep_until(patience), if closing => return Ended::Done,
                () = closes(phase), if !closing => return Ended::Closing,
            };
            let reply = match item {
                Ok(reply) => reply,
                Err(code) => return Ended::Closed(code, None),
            };
            match reply {
                Reply {
                    error: Some(error),
                    id,
                    ..
                } => {
                    self.shared.count(format!("refused: {}", error.code));
                    if !TEMPORARY.contains(&error.code) {
                        let Failure { code, message } = error;
                        self.complains(format!("is refused: {code}, {message}"));
                    }
                    if id == CONNECT {
                        return Ended::Refused;
                    }
                    turn.next();
                }
                Reply {
                    connect: Some(answer),
                    ..
                } => {
                    connected = true;
                    self.shared.hears(self.index, What::Connected { asked });
                    self.is_connected(answer, asked);
                    // As an SDK does with the subscriptions that it had.
                    if self.who.changes && self.follows {
                        turn.waits();
                        asked = self.changes(&mut socket, true).await;
                    }
                }
                Reply {
                    subscribe: Some(answer),
                    ..
                } => {
                    subscribed = true;
                    self.is_subscribed(TOPIC, answer, asked);
                    self.follows = true;
                    turn.next();
                }
                Reply {
                    unsubscribe: Some(_),
                    ..
                } => {
                    (subscribed, self.follows) = (false, false);
                    self.offsets[TOPIC] = None;
                    let what = What::Unsubscribed { channel: TOPIC };
                    self.shared.hears(self.index, what);
                    turn.next();
                }
                Reply {
                    push: Some(push), ..
                } => self.reads_push(push),
                // A ping.
                Reply { id: 0, .. } => socket.say(&json!({})).await,
                other => self.complains(format!("was answered {other:?}")),
            }
        }
    }

    /// Asks to follow its topic, or to leave it. Returns when.
    async fn changes(&self, socket: &mut Socket, follows: bool) -> Duration {
        let asked = self.shared.now();
        let mut sub = match follows {
            true => self.recovers(TOPIC).unwrap_or_else(|| json!({})),
            false => json!({}),
        };
        sub["channel"] = self.name(TOPIC).into();
        let what = if follows { "subscribe" } else { "unsubscribe" };
        socket.say(&json!({ "id": CHANGE, what: sub })).await;
        asked
    }

    fn is_connected(&mut self, mut answer: Connected, asked: Duration) {
        let channels = 0..if self.who.changes { TOPIC } else { CHANNELS };
        for channel in channels {
            let name = self.name(channel);
            match answer.subs.remove(&name) {
                Some(sub) => self.is_subscribed(channel, sub, asked),
                None => self.complains(format!("is not subscribed to {name}")),
            }
        }
        if !answer.subs.is_empty() {
            self.complains(format!("is subscribed to {:?}", answer.subs));
        }
    }

    fn is_subscribed(&mut self, channel: usize, sub: Subscribed, asked: Duration) {
        let Subscribed {
            epoch,
            offset,
            recovered,
            was_recovering,
        } = sub;
        self.shared.is_of(&epoch);
        let since = self.offsets[channel].as_ref().map(|(_, offset)| *offset);
        if was_recovering != since.is_some() {
            self.complains(format!("came with {since:?}: {was_recovering}"));
        }
        self.offsets[channel] = Some((epoch, offset));
        let what = What::Subscribed {
            channel,
            since,
            offset,
            recovered,
            asked,
        };
        self.shared.hears(self.index, what);
    }

    fn reads_push(&mut self, push: Push) {
        let Push {
            channel: name,
            r#pub,
        } = push;
        let channel = (0..CHANNELS).find(|channel| self.name(*channel) == name);
        let (Some(channel), Some(publication)) = (channel, r#pub) else {
            return self.complains(format!("got a push of {name} that it does not know"));
        };
        let Publication { data, offset, tags } = publication;
        let of_user = channel == 0;
        match (&mut self.swallows, of_user) {
            (Some(Swallow::Event(0)), true) => return self.swallows = None,
            (Some(Swallow::Event(more @ 1..)), _) => *more -= 1,
            _ => {}
        }
        let gap = tags.get("gap").map(String::as_str);
        if let Some(gap) = gap {
            self.shared.count(format!("gap publications: {gap}"));
        }
        if (gap == Some("too_large")) != data.is_none() {
            return self.complains(format!("got {data:?} with {tags:?}"));
        }
        let id = data.map(|data| data.id());
        if let Some((_, last)) = &mut self.offsets[channel] {
            *last = offset;
        }
        let what = What::Publication {
            channel,
            seq: offset,
            id,
        };
        self.shared.hears(self.index, what);
    }

    /// What it has of the channels that it follows now, for those who wait for it.
    fn shows(&self, subscribed: bool) {
        let followed = 0..if subscribed { CHANNELS } else { TOPIC };
        let offsets = self.offsets[followed].iter().flatten();
        let offsets: Vec<_> = offsets.map(|(_, offset)| *offset).collect();
        self.shared.follows_up_to(self.index, offsets);
    }

    fn complains(&self, complaint: impl fmt::Display) {
        let client = self.index;
        self.shared
            .complain(format!("client {client}: {complaint}"));
    }
}
