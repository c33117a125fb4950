//! What it costs to ask who is online.

use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use usher::proto::{GetPresenceRequest, notification_client::NotificationClient};

use crate::{
    Outcome,
    parts::{Bench, users},
    report::{Target, percentile},
};

/// Ids of a call, and how many of them are online, on two gateways.
const IDS: usize = 1000;
const ONLINE: usize = 500;
/// Calls one after the other.
const CALLS: usize = 300;
/// What 1,000 ids may take at an idle gateway, in milliseconds.
const MOST: f64 = 150.0;
/// Gateways know each other within this.
const KNOWN: Duration = Duration::from_secs(15);

/// What a kind of call took.
struct Cost {
    /// Milliseconds of each call, the shortest first.
    times: Vec<f64>,
    /// CPU of one call in milliseconds: of NATS, and of both gateways together.
    nats: f64,
    gateways: f64,
}

impl Bench {
    /// Time and CPU of a call for many ids, beside one for a single id.
    ///
    /// # Errors
    ///
    /// Where an answer is not what it must be, or half of them take too long. A shared machine
    /// stalls now and then, so the slowest are only shown.
    pub(crate) fn presence(&mut self) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let gateways = [self.servers.gateway()?, self.servers.gateway()?];
        let ids = users("presence", IDS);
        let mut sessions = Vec::new();
        for (gateway, users) in gateways.iter().zip(ids[..ONLINE].chunks(ONLINE / 2)) {
            let tickets = self.servers.tickets(users)?;
            sessions.push(self.reader.open(gateway.public, tickets)?);
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", gateways[0].grpc))?;
        let client = runtime.block_on(endpoint.connect())?;
        let client = NotificationClient::new(client);
        runtime.block_on(known(client.clone()))?;

        let mut costs = Vec::new();
        for (asked, online) in [(&ids[..1], 1), (&ids[..], ONLINE)] {
            let cpu = |process: f64| process * 1e3 / CALLS as f64;
            let used = || {
                let both = gateways.iter().map(|gateway| gateway.process.cpu());
                (self.servers.nats_process.cpu(), both.sum::<f64>())
            };
            let before = used();
            let times = runtime.block_on(calls(client.clone(), asked, online))?;
            let after = used();
            costs.push(Cost {
                times,
                nats: cpu(after.0 - before.0),
                gateways: cpu(after.1 - before.1),
            });
        }
        let [one, many] = &costs[..] else {
            return Err("two kinds of calls".into());
        };

        self.report.part("Presence; floor: a call for one id");
        self.report.say(&format!(
            "{CALLS} calls for {IDS} ids, {ONLINE} of them online on two gateways: each complete"
        ));
        for (what, percent, target) in [
            ("p50, ms", 50.0, Target::Most(MOST)),
            ("p99, ms", 99.0, Target::None),
        ] {
            let of = |cost: &Cost| percentile(&cost.times, percent);
            self.report.figure(what, of(many), Some(of(one)), &target);
        }
        let none = Target::None;
        let figures = [
            ("NATS CPU, ms a call", many.nats, one.nats),
            (
                "CPU of both gateways, ms a call",
                many.gateways,
                one.gateways,
            ),
        ];
        for (what, value, floor) in figures {
            self.report.figure(what, value, Some(floor), &none);
        }
        match percentile(&many.times, 50.0) {
            slow if slow > MOST => Err(format!("p50 is {slow:.0} ms").into()),
            _ => Ok(()),
        }
    }
}

/// Waits until answers are complete.
async fn known(mut client: NotificationClient<Channel>) -> Outcome<()> {
    let deadline = Instant::now() + KNOWN;
    loop {
        let request = GetPresenceRequest {
            user_ids: vec!["nobody".to_owned()],
        };
        if client.get_presence(request).await?.into_inner().complete {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the gateways do not know each other".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn calls(
    mut client: NotificationClient<Channel>,
    ids: &[String],
    online: usize,
) -> Outcome<Vec<f64>> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let request = GetPresenceRequest {
            user_ids: ids.to_vec(),
        };
        let asked = Instant::now();
        let found = client.get_presence(request).await?.into_inner();
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if !found.complete || found.users.len() != online {
            let (count, complete) = (found.users.len(), found.complete);
            return Err(format!("{count} online, complete: {complete}").into());
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}
