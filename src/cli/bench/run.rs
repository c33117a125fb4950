//! A run from its first session to its report.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep},
};

use super::{
    ops::{Ops, Reading},
    pace::Targets,
    plan::Plan,
    progress::Progress,
    publish::Publisher,
    report::{Latency, OfGateway, Report},
    sessions::{NotOpened, Opened, Opener, Sessions},
    tally::Tally,
};
use crate::cli::{
    api::Api,
    connect::{Dialer, PublicUrl},
    failure::Failure,
    output,
    signals::Signals,
};

/// Sessions that are opened at the same time; a gateway admits `public.max_pending` of all callers.
const OPENING: usize = 64;
/// How long after the delivery before it a delivery may come. After that it is lost.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
const REDRAW: Duration = Duration::from_millis(200);

/// What a run needs.
pub(super) struct Run {
    pub(super) api: Api,
    pub(super) public: PublicUrl,
    pub(super) dialer: Dialer,
    pub(super) plan: Plan,
    pub(super) must_be_durable: bool,
    pub(super) in_json: bool,
}

/// The sessions of a run.
struct Crowd {
    opener: Opener,
    sessions: Sessions,
    open: Vec<u32>,
    is_durable: bool,
    first_refusal: Option<String>,
}

/// How often Ctrl-C was pressed, or another signal came.
struct Stops {
    signals: Signals,
    count: u32,
}

/// What happened while messages flowed.
struct Flow {
    outcome: Result<(), String>,
    took: Duration,
}

impl Run {
    /// Opens, publishes, waits for what is on its way, and prints. `ops` says where the
    /// metrics are, and whether they must be there.
    pub(super) async fn execute(self, ops: Option<(Ops, bool)>) -> Result<(), Failure> {
        let in_json = self.in_json || !io::stdout().is_terminal();
        let signals = Signals::listen();
        let signals = signals.map_err(|error| Failure::new(format_args!("no signals: {error}")))?;
        let mut stops = Stops { signals, count: 0 };
        let (ops, idle) = first_reading(ops).await?;
        let began = Instant::now();
        let mut crowd = self.opens(&mut stops).await?;
        let opening = began.elapsed();
        let with_sessions = read(ops.as_ref()).await;
        let peak = ops.as_ref().map(Ops::watch);

        let opener = crowd.opener.clone();
        let (plan, tally) = (&*opener.plan, &*opener.tally);
        let flow = crowd.publishes(&mut stops).await;
        settled(tally, flow.outcome.is_err(), &mut stops).await;

        let peak = peak.map_or(0, super::ops::Peak::end);
        let after = read(ops.as_ref()).await;
        let (refused, closed) = (tally.refusals(), tally.closes());
        if stops.count < 2 {
            crowd.sessions.leave(|seen| tally.forget(seen)).await;
        }
        let percentiles = tally.latency.percentiles([0.5, 0.9, 0.99, 0.999]);
        let seconds = flow.took.as_secs_f64();
        let sent = tally.sent.get();
        let report = Report {
            mode: plan.mode,
            durable: crowd.is_durable,
            interrupted: stops.count > 0,
            sessions_asked: plan.sessions,
            sessions_opened: crowd.open.len() as u64,
            sessions_refused: refused,
            sessions_closed: closed,
            opening_seconds: opening.as_secs_f64(),
            topics: plan.topics,
            payload_bytes: plan.payload,
            rate_asked: plan.rate,
            rate: if seconds > 0.0 {
                sent as f64 / seconds
            } else {
                0.0
            },
            publishing_seconds: seconds,
            sent,
            confirmed: tally.confirmed.get(),
            failed: tally.failed.get(),
            unknown: tally.unknown.get(),
            expected: tally.expected.get(),
            received: tally.received.get(),
            lost: tally.lost(),
            duplicates: tally.duplicates.get(),
            gaps: tally.gaps.get(),
            misdelivered: tally.misdelivered.get(),
            seq_first: tally.seqs().map(|(first, _)| first),
            seq_last: tally.seqs().map(|(_, last)| last),
            latency: percentiles.map_or_else(Latency::default, |shares| {
                Latency::of_micros(shares, tally.latency.max())
            }),
            gateway: OfGateway::between(idle, with_sessions, peak, after, tally),
        };
        match in_json {
            true => output::print(output::json(&report))?,
            false => report.lines().into_iter().try_for_each(output::print)?,
        }
        if let Some(why) = crowd.first_refusal {
            output::tell(format_args!("usher: not every session was opened: {why}"));
        }
        judged(&report, flow.outcome, tally.first_failure())
    }

    /// Opens one session, and if that goes well the rest.
    async fn opens(self, stops: &mut Stops) -> Result<Crowd, Failure> {
        let must_be_durable = self.must_be_durable;
        let opener = Opener {
            api: self.api,
            public: self.public,
            dialer: self.dialer,
            plan: Arc::new(self.plan),
            tally: Arc::new(Tally::new()),
        };
        let first = tokio::select! {
            first = opener.clone().open(0) => first,
            () = stops.next() => return Err(Failure::new("interrupted; no session is opened")),
        };
        let first = first.map_err(|NotOpened { trouble, .. }| {
            Failure::new(format_args!("no session is opened: {trouble}"))
        })?;
        if must_be_durable && !first.is_durable {
            return Err(Failure::new(
                "the gateway is not in durable mode, and --durable wants it; set durable.enabled \
                 there, or leave --durable out",
            ));
        }
        let mut crowd = Crowd {
            opener,
            sessions: Sessions::new(),
            open: Vec::new(),
            is_durable: first.is_durable,
            first_refusal: None,
        };
        crowd.welcome(first);
        let asked = crowd.opener.plan.sessions;
        let progress = Progress::start("opening", asked.into());
        let numbers = stream::iter(1..asked);
        let template = crowd.opener.clone();
        let mut opening = numbers
            .map(|number| template.clone().open(number))
            .buffer_unordered(OPENING);
        loop {
            tokio::select! {
                opened = opening.next() => match opened {
                    None => break,
                    Some(Ok(opened)) => crowd.welcome(opened),
                    Some(Err(NotOpened { code, trouble })) => {
                        crowd.opener.tally.refused(code);
                        crowd.first_refusal.get_or_insert(trouble.to_string());
                    }
                },
                () = stops.next() => break,
            }
            progress.set(crowd.open.len() as u64, "");
        }
        Ok(crowd)
    }
}

impl Crowd {
    fn welcome(&mut self, opened: Opened) {
        self.open.push(opened.number);
        self.sessions.read(opened, &self.opener);
    }

    /// Publishes the plan's messages, until that is done or somebody stops it.
    async fn publishes(&mut self, stops: &mut Stops) -> Flow {
        let began = Instant::now();
        let Opener {
            api, plan, tally, ..
        } = &self.opener;
        let targets = Targets::of(plan, self.open.clone());
        let publisher = Publisher {
            plan,
            api,
            tally,
            targets: &targets,
        };
        let (stop, stopped) = watch::channel(stops.count > 0);
        let progress = Progress::start("publishing", plan.messages());
        let mut redraw = interval(REDRAW);
        let publishing = publisher.run(stopped);
        tokio::pin!(publishing);
        let outcome = loop {
            tokio::select! {
                outcome = &mut publishing => break outcome,
                _ = redraw.tick() => {
                    let percentiles = tally.latency.percentiles([0.99]);
                    let words = percentiles.map_or_else(String::new, |[p99]| {
                        format!(", p99 {:.1} ms", p99 as f64 / 1000.0)
                    });
                    progress.set(tally.sent.get(), words);
                }
                () = stops.next() => match stops.count {
                    1 => drop(stop.send(true)),
                    _ => break Ok(()),
                },
            }
        };
        Flow {
            outcome,
            took: began.elapsed(),
        }
    }
}

impl Stops {
    async fn next(&mut self) {
        self.signals.next().await;
        self.count += 1;
    }
}

impl OfGateway {
    fn between(
        idle: Option<Reading>,
        with: Option<Reading>,
        peak: u64,
        after: Option<Reading>,
        tally: &Tally,
    ) -> Self {
        let (Some(idle), Some(with), Some(after)) = (idle, with, after) else {
            return Self::default();
        };
        let more = with.sessions.saturating_sub(idle.sessions);
        if more == 0 {
            // Another gateway's metrics: it has none of our sessions.
            return Self::default();
        }
        let grown = |(with, idle): (u64, u64)| {
            let each = with.saturating_sub(idle) / more;
            (each > 0).then_some(each)
        };
        let most = [with.memory, after.memory].into_iter().flatten();
        let cpu = after.cpu_seconds.zip(with.cpu_seconds);
        let cpu = cpu.map(|(after, before)| after - before);
        let each = |count: u64| {
            let seconds = cpu.filter(|&seconds| count > 0 && seconds > 0.0)?;
            Some(seconds / count as f64)
        };
        Self {
            gateway_sessions: Some(with.sessions),
            memory_idle_bytes: idle.memory,
            memory_with_sessions_bytes: with.memory,
            memory_peak_bytes: most.max().map(|most| most.max(peak)),
            memory_after_bytes: after.memory,
            memory_per_session_bytes: with.memory.zip(idle.memory).and_then(grown),
            cpu_seconds: cpu,
            cpu_seconds_per_message: each(tally.sent.get()),
            cpu_seconds_per_delivery: each(tally.received.get()),
        }
    }
}

/// Reads the metrics before anything else. Those that nobody asked for may be away.
async fn first_reading(
    ops: Option<(Ops, bool)>,
) -> Result<(Option<Ops>, Option<Reading>), Failure> {
    let Some((ops, must)) = ops else {
        return Ok((None, None));
    };
    match ops.read().await {
        Ok(reading) => Ok((Some(ops), Some(reading))),
        Err(why) if must => Err(Failure::new(format_args!(
            "{why}; is that the gateway's ops.listen?"
        ))),
        Err(_) => Ok((None, None)),
    }
}

async fn read(ops: Option<&Ops>) -> Option<Reading> {
    ops?.read().await.ok()
}

/// Waits for deliveries that are on their way, and after a failure for closes too: where the
/// gateway has gone, all sessions end.
async fn settled(tally: &Tally, failed: bool, stops: &mut Stops) {
    let (mut received, mut last) = (tally.received.get(), Instant::now());
    while (failed || tally.unknown.get() > 0 || tally.lost() > 0)
        && tally.open.get() > 0
        && last.elapsed() < SETTLE
        && stops.count < 2
    {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = stops.next() => {}
        }
        let now = tally.received.get();
        if now > received {
            (received, last) = (now, Instant::now());
        }
    }
}

/// Whether all went well.
fn judged(
    report: &Report,
    outcome: Result<(), String>,
    first_failure: Option<String>,
) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if let Err(why) = outcome {
        wrong.push(format!("publishing ended early: {why}"));
    } else if let Some(why) = first_failure {
        let (failed, unknown) = (report.failed, report.unknown);
        wrong.push(match unknown {
            0 => format!("{failed} messages were not published: {why}"),
            _ => format!(
                "{failed} messages were not published, and of {unknown} nobody can say: {why}"
            ),
        });
    }
    if report.lost > 0 {
        let (lost, expected) = (report.lost, report.expected);
        wrong.push(format!("{lost} of {expected} deliveries were lost"));
    }
    if report.misdelivered > 0 {
        let count = report.misdelivered;
        wrong.push(format!("{count} messages came to the wrong session"));
    }
    if report.durable && report.gaps > 0 {
        wrong.push(format!("{} gaps in the chains of prev", report.gaps));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("; "))),
    }
}
