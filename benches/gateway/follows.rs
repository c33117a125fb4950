//! Sessions that follow and unfollow all the time while numbered messages flow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _, future::try_join_all};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Outcome,
    calls::{Session, open},
    parts::{Bench, users},
    report::Target,
};

const TOPICS: usize = 8;
/// How often a session changes what it follows: two changes a second are allowed.
const EVERY: Duration = Duration::from_millis(550);
/// Messages a second to each topic.
const RATE: u64 = 20;
/// How long all of this goes on.
const SECONDS: u64 = 20;
/// Messages of a topic that its follower reads at least before it unfollows it.
const AT_LEAST: u64 = 3;

/// The last message to a topic that may have been published.
type Last = Arc<[AtomicU64; TOPICS]>;

/// What one session has seen.
#[derive(Default)]
struct Seen {
    changes: u64,
    messages: u64,
}

impl Bench {
    /// # Errors
    ///
    /// Where a session misses a message between `following` and its `unfollow`, gets one
    /// twice, or gets one of a topic that it does not follow.
    pub(crate) fn follows(&mut self) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let gateway = self.servers.gateway()?;
        let users = users("restless", self.scale.storm / 8);
        let tickets = self.servers.granting(
            &users,
            |_| serde_json::json!({"may_follow_prefix": ["restless-"]}),
        )?;
        let start = Instant::now();
        let all = runtime.block_on(async {
            let nats = async_nats::connect(format!("nats://{}", self.servers.nats)).await?;
            let mut sessions = Vec::new();
            for ticket in tickets {
                sessions.push(open(&gateway, &ticket).await?);
            }
            let (last, over) = (Last::default(), Arc::new(AtomicBool::new(false)));
            let publishing = tokio::spawn(publish(nats, last.clone(), over.clone()));
            let begins = Instant::now();
            let count = sessions.len() as u32;
            let moving = sessions.into_iter().zip(0..).map(|(session, index)| {
                let first = begins + EVERY * index / count;
                let (last, over) = (last.clone(), over.clone());
                tokio::spawn(move_about(session, index as usize, first, last, over))
            });
            let mut all = Seen::default();
            for seen in try_join_all(moving).await? {
                let seen = seen?;
                all.changes += seen.changes;
                all.messages += seen.messages;
            }
            publishing.await??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(all)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        self.report.part("Follows and unfollows at any moment");
        self.report.say(&format!(
            "{} sessions, {TOPICS} topics with {RATE} messages a second each: nothing missing \
             between `following` and `unfollow`, nothing twice",
            users.len()
        ));
        self.report.figure(
            "changes a second",
            all.changes as f64 / seconds,
            None,
            &Target::None,
        );
        self.report
            .figure("messages read", all.messages as f64, None, &Target::None);
        Ok(())
    }
}

async fn publish(nats: async_nats::Client, last: Last, over: Arc<AtomicBool>) -> Outcome<()> {
    let begins = Instant::now();
    // At the end sessions still wait for the last messages that they want.
    let end = RATE * SECONDS;
    for number in 1..=end + RATE * 3 {
        sleep_until(begins + Duration::from_secs(1) * number as u32 / RATE as u32).await;
        over.store(number > end, Ordering::SeqCst);
        for (topic, last) in last.iter().enumerate() {
            // Counted before: whoever reads the count later knows the least that may come.
            last.store(number, Ordering::SeqCst);
            let subject = format!("usher.topic.restless-{topic}");
            nats.publish(subject, number.to_string().into()).await?;
        }
        nats.flush().await?;
    }
    Ok(())
}

/// Follows one topic after another, each for some messages.
async fn move_about(
    mut session: Session,
    index: usize,
    first: Instant,
    last: Last,
    over: Arc<AtomicBool>,
) -> Outcome<Seen> {
    let (mut seen, mut due) = (Seen::default(), first);
    for turn in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let topic = (index + turn) % TOPICS;
        sleep_until(due).await;
        send(&mut session, "follow", topic).await?;
        due = Instant::now() + EVERY;
        let mut had = None;
        if !following(&mut session, topic).await? {
            return Err(format!("topic {topic} is not followed after `follow`").into());
        }
        let owed = last[topic].load(Ordering::SeqCst) + 1;
        let mut count = 0;
        while count < AT_LEAST || Instant::now() < due {
            let number = next(&mut session, topic).await?;
            in_order(had, owed, number)?;
            had = Some(number);
            count += 1;
        }
        send(&mut session, "unfollow", topic).await?;
        due = Instant::now() + EVERY;
        loop {
            match frame(&mut session).await? {
                Frame::Following(topics) if topics.is_empty() => break,
                Frame::Message(of, number) if of == topic => {
                    in_order(had, owed, number)?;
                    had = Some(number);
                    count += 1;
                }
                other => return Err(format!("after `unfollow`: {other:?}").into()),
            }
        }
        seen.changes += 2;
        seen.messages += count;
    }
    Ok(seen)
}

/// The first message is not later than the first that is owed; each follows on the one before.
fn in_order(had: Option<u64>, owed: u64, number: u64) -> Outcome<()> {
    let good = had.map_or(number <= owed, |had| number == had + 1);
    let wrong = || format!("{number} came after {had:?}; owed is all from {owed} on").into();
    good.then_some(()).ok_or_else(wrong)
}

#[derive(Debug)]
enum Frame {
    Following(Vec<String>),
    Message(usize, u64),
}

async fn send(session: &mut Session, verb: &str, topic: usize) -> Outcome<()> {
    let text = serde_json::json!({verb: [format!("restless-{topic}")]}).to_string();
    Ok(session.send(Message::text(text)).await?)
}

/// Waits for `following`; whether it names the topic.
async fn following(session: &mut Session, topic: usize) -> Outcome<bool> {
    match frame(session).await? {
        Frame::Following(topics) => Ok(topics == [format!("restless-{topic}")]),
        other => Err(format!("before `following`: {other:?}").into()),
    }
}

async fn next(session: &mut Session, topic: usize) -> Outcome<u64> {
    match frame(session).await? {
        Frame::Message(of, number) if of == topic => Ok(number),
        other => Err(format!("while topic {topic} is followed: {other:?}").into()),
    }
}

/// The next message of a topic, or `following`.
async fn frame(session: &mut Session) -> Outcome<Frame> {
    loop {
        let frame = session.next().await.ok_or("the session has ended")??;
        let Message::Text(text) = &frame else {
            continue;
        };
        let value: Value = serde_json::from_str(text)?;
        if let Some(topics) = value["following"]["topics"].as_array() {
            let names = topics.iter().filter_map(Value::as_str);
            return Ok(Frame::Following(names.map(str::to_owned).collect()));
        }
        if let Some(topic) = value["topic"].as_str() {
            let index = topic.trim_start_matches("restless-").parse()?;
            let number = value["data"].as_u64().ok_or("no number")?;
            return Ok(Frame::Message(index, number));
        }
        if value.get("error").is_some() {
            return Err(text.as_str().into());
        }
    }
}
