//! The end of a run: everything is mended, and the auditor judges.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    auditor::Verdict,
    manager::Manager,
    shared::{Phase, Shared},
    support::wait::{PATIENCE, patiently},
    who::Transport,
    world::World,
};

const PAUSE: Duration = Duration::from_millis(20);
const CATCH_UPS: [&str; 4] = ["resumed", "lost", "hole", "slow"];
/// So many missing messages are looked for in the stream.
const EXPLAINED: usize = 20;

impl World {
    /// With nothing wrong any more: what is under way is stored, every client comes back
    /// once more, and has everything. Returns what the auditor has to say.
    pub(crate) async fn audit(&self) -> Audit {
        self.shared.phase.send_replace(Phase::Settling);
        let mut publishers = self.publishers.lock().await;
        while let Some(ended) = patiently("all is stored", publishers.join_next()).await {
            ended.expect("a publisher's task");
        }
        for gateway in &self.gateways {
            let gateway = gateway.lock().await;
            gateway.becomes_ready().await;
            gateway
                .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
                .await;
        }
        self.all_is_proven().await;
        self.shared.phase.send_replace(Phase::Closing);
        let mut clients = self.clients.lock().await;
        let mut left: BTreeSet<_> = (0..self.scale.clients).collect();
        let all_end = async {
            while let Some(ended) = clients.join_next().await {
                left.remove(&ended.expect("a client's task"));
            }
        };
        if timeout(PATIENCE, all_end).await.is_err() {
            let last = left.iter().map(|client| {
                let last = self.shared.heard(*client).last().copied();
                format!("client {client}, {:?}: {last:?}", self.scale.who(*client))
            });
            let last: Vec<_> = last.collect();
            panic!("not within {PATIENCE:?}: all have everything; these wait: {last:#?}");
        }
        let mut caught_up = [0.0; 4];
        for gateway in &self.gateways {
            let gateway = gateway.lock().await;
            self.look_at(&gateway);
            for (count, reason) in caught_up.iter_mut().zip(CATCH_UPS) {
                let metric = format!("usher_catch_ups_total{{reason=\"{reason}\"}}");
                *count += gateway.metric(&metric).await;
            }
        }
        for (count, reason) in caught_up.iter().zip(CATCH_UPS) {
            let what = format!("caught up by the last gateways: {reason}");
            self.shared.count_more(what, *count as usize);
        }
        let mut audit = self.judged();
        self.explain(&mut audit).await;
        audit
    }

    /// Every session is told that it has everything, or the gateway closes it and the client
    /// comes back for that: an audit sees to it.
    async fn all_is_proven(&self) {
        let (since, last) = {
            let auditor = self.shared.auditor();
            let set_back = auditor.set_back();
            (
                set_back.map_or(Duration::ZERO, |set_back| set_back.at),
                auditor.last(),
            )
        };
        let proven = |client: &usize| {
            let who = self.scale.who(*client);
            match who.transport {
                Transport::Centrifuge => self.shared.has_all_or_is_away(*client, who.channels),
                _ => self.shared.has_proof_or_is_away(*client, since, last),
            }
        };
        let all = async {
            while !(0..self.scale.clients).all(|client| proven(&client)) {
                sleep(PAUSE).await;
            }
        };
        if timeout(PATIENCE, all).await.is_ok() {
            return;
        }
        for client in (0..self.scale.clients).filter(|client| !proven(client)) {
            let heard = self.shared.heard(client).last().copied();
            self.shared.complain(format!(
                "client {client} has a session, and was not told that it has all up to {last}; it \
                 heard at last {heard:?}"
            ));
        }
    }

    fn judged(&self) -> Audit {
        let auditor = self.shared.auditor();
        let mut audit = Audit {
            stored: auditor.acknowledged_in_all(),
            lost_by_the_stream: auditor.lost_by_the_stream(),
            unknown: auditor.unknown(),
            complaints: self.shared.complaints(),
            stream_has: Vec::new(),
            total: Verdict::default(),
        };
        for index in 0..self.scale.clients {
            let heard = self.shared.heard(index);
            let who = self.scale.who(index);
            let verdict = match who.transport {
                Transport::Centrifuge => auditor.judge_each(who.channels, &heard),
                _ => auditor.judge(who.channels, &heard),
            };
            let complaints = verdict.complaints.iter();
            let complaints = complaints.map(|complaint| format!("client {index}: {complaint}"));
            audit.complaints.extend(complaints);
            audit.total.add(&verdict);
        }
        audit
    }

    /// Says what the stream has in the place of what is missing.
    async fn explain(&self, audit: &mut Audit) {
        if audit.total.missing.is_empty() {
            return;
        }
        let manager = Manager::new(self.nodes.urls()).await;
        for seq in audit.total.missing.iter().take(EXPLAINED) {
            let has = manager.at(*seq).await;
            let has = format!("the stream has at {seq}: {has}");
            audit.stream_has.push(has);
        }
    }
}

/// What has come of a run.
pub(crate) struct Audit {
    pub(crate) stored: usize,
    /// Of these, before somebody set the stream back.
    pub(crate) lost_by_the_stream: usize,
    pub(crate) unknown: usize,
    pub(crate) complaints: Vec<String>,
    /// In the place of messages that are missing.
    pub(crate) stream_has: Vec<String>,
    pub(crate) total: Verdict,
}

impl Audit {
    /// For people.
    pub(crate) fn summary(&self, shared: &Shared) -> String {
        let Verdict {
            accepted,
            duplicates,
            lost,
            false_completes,
            forgiven,
            false_gaps,
            begun,
            complete,
            gap,
            recovered,
            unrecovered,
            followed,
            gap_frames,
            too_large,
            told_of_set_back,
            crossed,
            ..
        } = self.total;
        format!(
            "stored {} (unknown {}, lost by the stream {}), deliveries {accepted}, faults {}; \
             resumes: {begun} none, {complete} complete, {gap} gap (of these for a set-back \
             {told_of_set_back}); channels of Centrifuge clients: {recovered} recovered, \
             {unrecovered} not; topics followed {followed}; gap frames {gap_frames}; too large \
             {too_large}; messages that a gap told of {forgiven}; late beside another channel \
             {crossed}; duplicates {duplicates}; false gaps {false_gaps}; false completes \
             {false_completes}; lost {lost}\n{}",
            self.stored,
            self.unknown,
            self.lost_by_the_stream,
            shared.counted("fault: "),
            shared.counts(),
        )
    }
}
