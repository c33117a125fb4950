//! What traces cost the delivery of messages that are not recorded.

use crate::{
    Outcome,
    parts::{Bench, subjects, users},
    report::{Target, median},
};

/// Where nothing listens (RFC 863): no span is made, so none is sent.
const NOWHERE: &str = "http://127.0.0.1:9";
/// How often each gateway has its turn, for one turn of the other parts: the differences are
/// small.
const TURNS: usize = 8;
/// CPU of a message with traces on, beside the same with traces off.
const MOST: f64 = 1.1;

impl Bench {
    /// Unicast to gateways without traces and with them, in turns. The first two gateways are
    /// alike: how far they differ is the noise of this run.
    ///
    /// # Errors
    ///
    /// Where a message is lost.
    pub(crate) fn traces(&mut self) -> Outcome<()> {
        let on = |ratio: &str| {
            vec![
                ("USHER_TELEMETRY__OTLP_ENDPOINT", NOWHERE.to_owned()),
                ("USHER_TELEMETRY__SAMPLE_RATIO", ratio.to_owned()),
            ]
        };
        let kinds = [
            ("off", vec![]),
            ("off, once more", vec![]),
            ("on, one in a hundred recorded", on("0.01")),
            ("on, none recorded", on("0")),
        ];
        let mut gateways = Vec::new();
        for (index, (_, variables)) in kinds.iter().enumerate() {
            let users = users(&format!("kind{index}"), self.scale.loaded / 4);
            let gateway = self.servers.gateway_with(variables)?;
            let tickets = self.servers.tickets(&users)?;
            let sessions = self.reader.open(gateway.public, tickets)?;
            gateways.push((gateway, sessions, subjects(&users), Vec::new()));
        }
        let count = self.scale.unicast;
        for turn in 0..self.scale.rounds * TURNS {
            for place in 0..gateways.len() {
                // Each is the first as often as the others.
                let index = (turn + place) % gateways.len();
                let (gateway, _, subjects, costs) = &mut gateways[index];
                let before = gateway.process.cpu_of_threads();
                self.flat_out(gateway, subjects, count)?;
                let cpu = gateway.process.cpu_of_threads() - before;
                costs.push(cpu / count as f64 * 1e6);
            }
        }
        self.report
            .part("Traces: messages without `traceparent`; floor: traces off");
        self.report.say(&format!(
            "{} x {count} messages of 128 bytes to {} users flat out: none lost",
            self.scale.rounds * TURNS,
            self.scale.loaded / 4,
        ));
        self.report.say("gateway CPU, s a million deliveries:");
        let floor = median(&gateways[0].3);
        for ((name, _), (_, _, _, costs)) in kinds.iter().zip(&gateways).skip(1) {
            self.report
                .figure(name, median(costs), Some(floor), &Target::Ratio(MOST));
        }
        Ok(())
    }
}
