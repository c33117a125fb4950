//! The API for services: pushes over a stream beside calls one after another, and what
//! others notice of a broadcast.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tonic::transport::{Channel, Endpoint};
use usher::proto::{
    PushRequest, PushStreamRequest, notification_client::NotificationClient,
    push_stream_response::Result as Answer,
};

use crate::{
    Outcome,
    crowd::unix_millis,
    parts::{Bench, subjects, users},
    payload::Numbers,
    publisher::Publisher,
    report::{Target, median, percentile},
    servers::{Gateway, until},
    storm::look,
};

/// Calls one after another, and pushes over a stream, of one round.
const CALLS: u64 = 2_000;
const PUSHES: u64 = 100_000;
/// Calls under way at the same time, and how many there are in all.
const AT_ONCE: usize = 256;
const CALLS_AT_ONCE: u64 = 100_000;
/// A push over a stream takes at most this part of a call's time.
const FASTER: f64 = 1.0 / 20.0;
/// Sessions of single users, and messages a second to all of them together.
const SINGLE: usize = 200;
const PACE: u32 = 1000;
/// Broadcasts, and the messages to single users of which the latency is measured after
/// each: for so long it is under way.
const BROADCASTS: usize = 20;
const AFTER: usize = 200;
/// How much later messages to single users may be meanwhile.
const LATER: f64 = 5.0;
/// Time for all to come in.
const PATIENCE: Duration = Duration::from_secs(120);

impl Bench {
    /// # Errors
    ///
    /// Where a bound is missed, or a message is lost.
    pub(crate) fn api(&mut self) -> Outcome<()> {
        let streams = self.streams()?;
        let broadcasts = self.beside_broadcasts()?;
        for (what, ratio, most) in [
            ("a push over a stream", streams, FASTER),
            ("a message beside a broadcast", broadcasts, LATER),
        ] {
            if ratio > most {
                return Err(format!("{what} takes {ratio:.2} x, and may take {most}").into());
            }
        }
        Ok(())
    }

    /// Returns the time of a push over a stream beside that of a call.
    fn streams(&mut self) -> Outcome<f64> {
        let gateway = self.servers.gateway()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut calls, mut pushes) = (Vec::new(), Vec::new());
        let (mut at_once, mut cpu) = (Vec::new(), [Vec::new(), Vec::new()]);
        runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", gateway.grpc))?;
            let mut client = NotificationClient::new(endpoint.connect().await?);
            calls_one_after_another(&mut client, CALLS / 4).await?;
            for _ in 0..self.scale.rounds {
                calls.push(calls_one_after_another(&mut client, CALLS).await?);
                let before = gateway.process.cpu();
                pushes.push(over_a_stream(&mut client, PUSHES).await?);
                let between = gateway.process.cpu();
                at_once.push(calls_at_once(&client, CALLS_AT_ONCE).await?);
                let after = gateway.process.cpu();
                cpu[0].push((between - before) / PUSHES as f64 * 1e6);
                cpu[1].push((after - between) / CALLS_AT_ONCE as f64 * 1e6);
            }
            Outcome::Ok(())
        })?;
        let (push, call) = (median(&pushes), median(&calls));
        self.report
            .part("Pushes over one stream; floor: calls one after another");
        self.report.say(&format!(
            "{PUSHES} pushes and {CALLS} calls, {} times, by one caller over one connection",
            self.scale.rounds
        ));
        self.report
            .figure("us a push", push, Some(call), &Target::Ratio(FASTER));
        self.report.figure(
            "pushes a second",
            1e6 / push,
            Some(1e6 / call),
            &Target::None,
        );
        let [streamed, called] = cpu.map(|each| median(&each));
        self.report.say(&format!(
            "gateway CPU: {streamed:.1} us a push over a stream; {called:.1} us a call, with \
             {AT_ONCE} under way: {:.0} a second",
            1e6 / median(&at_once)
        ));
        Ok(push / call)
    }

    /// Returns p99 of messages to single users while a broadcast is under way, beside p99
    /// before.
    fn beside_broadcasts(&mut self) -> Outcome<f64> {
        let clients = self.scale.storm;
        let gateway = self.servers.gateway()?;
        let users = users("single", SINGLE);
        let subjects = subjects(&users);
        let tickets = self.servers.tickets(&users)?;
        let _sessions = self.reader.open(gateway.public, tickets)?;
        let begin = unix_millis() + 5_000;
        let mut crowds = self.crowds(&gateway, clients, begin)?;
        let (start, mut seen) = (Instant::now(), Default::default());
        while look(&mut crowds, &mut seen)? < clients {
            if start.elapsed() > PATIENCE {
                return Err(format!("not all of {clients} came in; {:?}", seen.ends).into());
            }
            sleep(Duration::from_millis(200));
        }
        sleep(Duration::from_secs(2));
        self.paced(&subjects, false, PACE as usize, PACE)?;
        let (mut alone, mut beside, mut took) = (Vec::new(), Vec::new(), Vec::new());
        let mut publisher = Publisher::connect(self.servers.nats)?;
        for _ in 0..BROADCASTS {
            alone.extend(self.paced(&subjects, false, AFTER, PACE)?);
            let delivered = delivered(&gateway)?;
            let start = Instant::now();
            // Of no run, so that nobody counts it.
            let numbers = Numbers {
                run: 0,
                seq: 0,
                at: Duration::ZERO,
            };
            publisher.publish("usher.broadcast", numbers)?;
            publisher.send()?;
            beside.extend(self.paced(&subjects, false, AFTER, PACE)?);
            let all = delivered + (clients + SINGLE + AFTER) as f64;
            until("all have the broadcast", || {
                Ok((self::delivered(&gateway)? >= all).then_some(()))
            })?;
            took.push(start.elapsed().as_secs_f64() * 1e3);
            // The crowds read.
            sleep(Duration::from_millis(500));
        }
        let here = look(&mut crowds, &mut seen)?;
        if here != clients {
            return Err(format!("only {here} of {clients} have stayed").into());
        }
        for latencies in [&mut alone, &mut beside] {
            latencies.sort_unstable_by(f64::total_cmp);
        }
        self.report
            .part("Messages to single users beside a broadcast; floor: before it");
        self.report.say(&format!(
            "{BROADCASTS} broadcasts to {} sessions; after each {AFTER} messages, {PACE} a second, to \
             {SINGLE} users: none lost",
            clients + SINGLE
        ));
        self.report.figure(
            "ms until all have a broadcast, 200 at least",
            median(&took),
            None,
            &Target::None,
        );
        let mut ratio = 0.0;
        for (percent, target) in [(50.0, Target::None), (99.0, Target::Ratio(LATER))] {
            let (value, floor) = (percentile(&beside, percent), percentile(&alone, percent));
            let what = format!("p{percent:.0}, us");
            self.report.figure(&what, value, Some(floor), &target);
            ratio = value / floor;
        }
        Ok(ratio)
    }
}

fn push(number: u64) -> PushRequest {
    PushRequest {
        user_id: format!("user-{}", number % 1000),
        message: vec![b'x'; 128],
        ..PushRequest::default()
    }
}

/// Microseconds a call.
async fn calls_one_after_another(
    client: &mut NotificationClient<Channel>,
    count: u64,
) -> Outcome<f64> {
    let start = Instant::now();
    for number in 0..count {
        client.push_notification(push(number)).await?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// Microseconds a call, with many under way over one connection.
async fn calls_at_once(client: &NotificationClient<Channel>, count: u64) -> Outcome<f64> {
    let start = Instant::now();
    let calls = stream::iter(0..count).map(|number| {
        let mut client = client.clone();
        async move { client.push_notification(push(number)).await }
    });
    let mut answers = calls.buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// Microseconds a push.
async fn over_a_stream(client: &mut NotificationClient<Channel>, count: u64) -> Outcome<f64> {
    let start = Instant::now();
    let pushes = (0..count).map(|number| PushStreamRequest {
        push: Some(push(number)),
    });
    let mut answers = client.push_stream(stream::iter(pushes)).await?.into_inner();
    let mut published = 0;
    while let Some(answer) = answers.next().await {
        match answer?.result {
            Some(Answer::Response(_)) => published += 1,
            other => return Err(format!("answer {published} is {other:?}").into()),
        }
    }
    match published == count {
        true => Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64),
        false => Err(format!("{published} of {count} pushes have an answer").into()),
    }
}

/// Messages that the gateway has given to sessions by now.
fn delivered(gateway: &Gateway) -> Outcome<f64> {
    gateway.metric("usher_messages_delivered_total{")
}
