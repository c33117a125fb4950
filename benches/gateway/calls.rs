//! What a call costs beside a request that goes to the service without a gateway.

use std::{future::Future, time::Duration};

use async_nats::Client;
use futures_util::{SinkExt as _, StreamExt as _, future::try_join_all};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    Outcome,
    parts::{Bench, users},
    report::{Target, median, percentile},
    servers::Gateway,
};

/// Sessions, each of which makes a call so often: 5,000 a second in all.
const SESSIONS: usize = 1000;
const EVERY: Duration = Duration::from_millis(200);
/// Calls of one session in one slice.
const CALLS: u32 = 10;
/// What the service answers, and is asked.
const DATA: &str = r#"{"order":123,"reason":"changed my mind"}"#;
const SUBJECT: &str = "usher.call.bench";
/// What a call may take at the median, in requests without a gateway.
const MOST: f64 = 6.0;

impl Bench {
    /// Calls and plain requests, in turns, at the same pace.
    ///
    /// # Errors
    ///
    /// Where a call has no answer.
    pub(crate) fn calls(&mut self) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let gateway = self.servers.gateway()?;
        let users = users("calls", SESSIONS);
        let tickets = self
            .servers
            .granting(&users, |_| serde_json::json!({"calls": ["bench"]}))?;
        let slices = self.scale.slices;
        let (mut calls, mut requests, mut cpu) = (Vec::new(), Vec::new(), 0.0);
        runtime.block_on(async {
            let nats = async_nats::connect(format!("nats://{}", self.servers.nats)).await?;
            tokio::spawn(answer(nats.clone()));
            let mut sessions = Vec::new();
            for ticket in tickets {
                sessions.push(open(&gateway, &ticket).await?);
            }
            for _ in 0..slices {
                requests.push(slice(vec![nats.clone(); SESSIONS], plain).await?.0);
                let before = gateway.process.cpu();
                let (times, back) = slice(sessions, called).await?;
                cpu += gateway.process.cpu() - before;
                calls.push(times);
                sessions = back;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        self.report
            .part("Calls; floor: a NATS request without a gateway");
        let count = slices * SESSIONS * CALLS as usize;
        self.report.say(&format!(
            "{count} calls, {:.0} a second over {SESSIONS} sessions: each was answered",
            SESSIONS as f64 / EVERY.as_secs_f64()
        ));
        for (what, percent, target) in [
            ("p50, ms", 50.0, Target::Ratio(MOST)),
            ("p99, ms", 99.0, Target::None),
        ] {
            let of = |slices: &[Vec<f64>]| {
                let each: Vec<_> = slices.iter().map(|one| percentile(one, percent)).collect();
                median(&each)
            };
            self.report
                .figure(what, of(&calls), Some(of(&requests)), &target);
        }
        let cpu = cpu * 1e6 / count as f64;
        self.report
            .figure("CPU of the gateway, µs a call", cpu, None, &Target::None);
        Ok(())
    }
}

/// A service that answers each call with its own data.
async fn answer(nats: Client) -> Outcome<()> {
    let mut calls = nats.queue_subscribe(SUBJECT, "bench".to_owned()).await?;
    while let Some(call) = calls.next().await {
        if let Some(reply) = call.reply {
            nats.publish(reply, call.payload).await?;
        }
    }
    Ok(())
}

pub(crate) type Session = WebSocketStream<TcpStream>;

/// A session of this ticket, after its welcome.
pub(crate) async fn open(gateway: &Gateway, ticket: &str) -> Outcome<Session> {
    let stream = TcpStream::connect(gateway.public).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{}/ws?ticket={ticket}", gateway.public);
    let (mut session, _) = client_async(url, stream).await?;
    session.next().await.ok_or("no welcome")??;
    Ok(session)
}

/// A call, and its answer.
async fn called(mut session: Session) -> Outcome<Session> {
    let call = format!(r#"{{"id":"1","call":"bench","data":{DATA}}}"#);
    session.send(Message::text(call)).await?;
    loop {
        let frame = session.next().await.ok_or("the session has ended")??;
        match frame.to_text()? {
            text if text.starts_with("{\"reply\"") => return Ok(session),
            text if text.starts_with("{\"error\"") => return Err(text.into()),
            _ => {}
        }
    }
}

/// The same without a gateway.
async fn plain(nats: Client) -> Outcome<Client> {
    nats.request(SUBJECT, DATA.into()).await?;
    Ok(nats)
}

/// Each caller asks at its own moments, spread evenly; milliseconds of each question, from the
/// moment at which it was due, the shortest first.
async fn slice<C, F>(callers: Vec<C>, ask: fn(C) -> F) -> Outcome<(Vec<f64>, Vec<C>)>
where
    C: Send + 'static,
    F: Future<Output = Outcome<C>> + Send + 'static,
{
    let (begins, count) = (Instant::now() + EVERY, callers.len() as u32);
    let asking = (0..count)
        .zip(callers)
        .map(|(index, mut caller)| async move {
            let mut times = Vec::new();
            for call in 0..CALLS {
                let due = begins + EVERY * call + EVERY * index / count;
                sleep_until(due).await;
                caller = ask(caller).await?;
                times.push(due.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((times, caller))
        });
    let asking = asking.map(tokio::spawn);
    let mut all = Vec::new();
    let mut back = Vec::new();
    for asked in try_join_all(asking).await? {
        let (times, caller) = asked?;
        all.extend(times);
        back.push(caller);
    }
    all.sort_unstable_by(f64::total_cmp);
    Ok((all, back))
}
