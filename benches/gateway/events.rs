//! What server-sent events cost, beside a WebSocket.

use crate::{
    Outcome,
    parts::{Bench, Cost, subjects, users},
    reader::Transport,
    report::{Target, median},
};

impl Bench {
    /// Memory of an idle session and the CPU of its messages, over both transports.
    pub(crate) fn events(&mut self) -> Outcome<()> {
        let nats = self.servers.nats;
        let mut idle = Vec::new();
        for transport in [Transport::WebSocket, Transport::Events] {
            let gateway = self.servers.gateway()?;
            idle.push(self.idle_session(transport, nats, &gateway)?);
        }

        let count = self.scale.unicast;
        let mut kinds = Vec::new();
        for (name, transport) in [("ws", Transport::WebSocket), ("sse", Transport::Events)] {
            let users = users(name, self.scale.loaded);
            let gateway = self.servers.gateway()?;
            let tickets = self.servers.tickets(&users)?;
            let sessions = self.reader.open_by(transport, gateway.public, tickets)?;
            kinds.push((gateway, sessions, subjects(&users), Vec::new()));
        }
        for _ in 0..self.scale.rounds {
            for (gateway, _, subjects, costs) in &mut kinds {
                costs.push(self.flat_out(gateway, subjects, count)?);
            }
        }

        self.report
            .part("Server-sent events; floor: the same over WebSockets");
        let sessions = self.scale.idle;
        self.report
            .say(&format!("{sessions} idle sessions, two messages read:"));
        self.report
            .figure("bytes a session", idle[1], Some(idle[0]), &Target::None);
        self.report.say(&format!(
            "{count} messages of 128 bytes to {} users flat out: none lost",
            self.scale.loaded
        ));
        let compare = |what: &str, of: fn(&Cost) -> f64| {
            let middle = |costs: &[Cost]| median(&costs.iter().map(of).collect::<Vec<_>>());
            let (value, floor) = (middle(&kinds[1].3), middle(&kinds[0].3));
            self.report.figure(what, value, Some(floor), &Target::None);
        };
        compare("gateway CPU, s a million deliveries", |cost| cost.cpu);
        compare("deliveries a second", |cost| cost.rate);
        Ok(())
    }
}
