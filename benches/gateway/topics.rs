//! What topics cost: the memory of a follow, and the CPU of a message beside a broadcast to as
//! many sessions.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Outcome,
    parts::{BROADCAST, Bench, DECAY, users},
    payload::Numbers,
    publisher::Publisher,
    report::{Target, median},
};

/// Topics that one session follows, and how many there are in all.
const EACH: usize = 8;
const TOPICS: usize = 1000;
/// Bytes of a follow beyond the first of its topic.
const MEMORY: f64 = 120.0;
/// Messages to the topic, and broadcasts, of one turn.
const MESSAGES: u64 = 20;
const TURNS: usize = 3;
/// CPU of a message to a topic, in broadcasts to as many sessions.
const CPU: f64 = 1.15;
const SUBJECT: &str = "usher.topic.bench";

impl Bench {
    /// # Errors
    ///
    /// Where a message is lost, or where NATS has other subscriptions than the sessions need.
    pub(crate) fn topics(&mut self) -> Outcome<()> {
        self.memory_of_follows()?;
        self.followers_beside_broadcast()
    }

    fn memory_of_follows(&mut self) -> Outcome<()> {
        let sessions = self.scale.storm;
        let mut each = Vec::new();
        for topics in [0, EACH] {
            let users = users(&format!("follows{topics}"), sessions);
            let follow = |session: usize| -> Vec<String> {
                let topic = |k: usize| format!("topic-{}", (session * 7 + k * 131) % TOPICS);
                (0..topics).map(topic).collect()
            };
            let gateway = self.servers.gateway()?;
            let tickets = self.servers.following(&users, follow)?;
            let before = gateway.process.memory();
            let _sessions = self.reader.open(gateway.public, tickets)?;
            sleep(DECAY);
            let after = gateway.process.memory();
            each.push((after.resident - before.resident) / sessions as f64);

            let subjects = subjects_held(self.servers.monitor)?;
            let held = |begin: &str| subjects.iter().filter(|s| s.starts_with(begin)).count();
            let (users, named) = (held("usher.user.follows"), held("usher.topic."));
            let wanted = if topics == 0 { 0 } else { TOPICS };
            if (users, named) != (sessions, wanted) {
                return Err(format!(
                    "NATS has subscriptions to {users} users and {named} topics, and the sessions \
                     need {sessions} and {wanted}"
                )
                .into());
            }
        }
        self.report
            .part("Memory of follows; floor: the same sessions without topics");
        self.report.say(&format!(
            "{sessions} sessions follow {EACH} of {TOPICS} topics each; NATS's /subsz has a \
             subscription for each user and each topic, and no more"
        ));
        self.report
            .figure("bytes a session", each[1], Some(each[0]), &Target::None);
        let follow = (each[1] - each[0]) / EACH as f64;
        self.report
            .figure("bytes a follow", follow, None, &Target::Most(MEMORY));
        Ok(())
    }

    fn followers_beside_broadcast(&mut self) -> Outcome<()> {
        let sessions = self.scale.idle;
        let users = users("follower", sessions);
        let gateway = self.servers.gateway()?;
        let tickets = self
            .servers
            .following(&users, |_| vec!["bench".to_owned()])?;
        let _sessions = self.reader.open(gateway.public, tickets)?;
        let mut publisher = Publisher::connect(self.servers.nats)?;
        let all = MESSAGES * sessions as u64;
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..self.scale.rounds * TURNS {
            for (subject, costs) in [BROADCAST, SUBJECT].into_iter().zip(&mut costs) {
                let run = self.next_run();
                let (cpu, start) = (gateway.process.cpu(), Instant::now());
                for seq in 0..MESSAGES {
                    let at = Duration::ZERO;
                    publisher.publish(subject, Numbers { run, seq, at })?;
                    publisher.send()?;
                    self.reader.tally.wait((seq + 1) * sessions as u64)?;
                }
                self.reader.tally.finish(all)?;
                let cpu = (gateway.process.cpu() - cpu) / all as f64 * 1e6;
                costs.push((cpu, all as f64 / start.elapsed().as_secs_f64()));
            }
        }
        self.report
            .part("Messages to a topic; floor: broadcasts to the same sessions");
        self.report.say(&format!(
            "{MESSAGES} of each in turns, {} times, to {sessions} sessions: none lost",
            self.scale.rounds * TURNS
        ));
        let middle = |costs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
            median(&costs.iter().map(of).collect::<Vec<_>>())
        };
        let [broadcasts, topics] = &costs;
        self.report.figure(
            "gateway CPU, s a million deliveries",
            middle(topics, |cost| cost.0),
            Some(middle(broadcasts, |cost| cost.0)),
            &Target::Ratio(CPU),
        );
        self.report.figure(
            "deliveries a second",
            middle(topics, |cost| cost.1),
            Some(middle(broadcasts, |cost| cost.1)),
            &Target::None,
        );
        Ok(())
    }
}

/// The subject of every subscription that NATS's clients hold.
fn subjects_held(monitor: std::net::SocketAddr) -> Outcome<Vec<String>> {
    let mut stream = TcpStream::connect(monitor)?;
    let ask =
        format!("GET /subsz?subs=1&limit=10000000&acc=$G HTTP/1.0\r\nhost: {monitor}\r\n\r\n");
    stream.write_all(ask.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = head.ok_or("no end of the headers")? + 4;
    let found: Value = serde_json::from_slice(&answer[body..])?;
    let list = found["subscriptions_list"].as_array().ok_or("no list")?;
    let subject = |one: &Value| one["subject"].as_str().map(str::to_owned);
    Ok(list.iter().filter_map(subject).collect())
}
