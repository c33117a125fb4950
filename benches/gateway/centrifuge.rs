//! What the Centrifuge protocol costs, beside `usher.v1`.

use serde_json::{Value, json};

use crate::{
    Outcome, attacks,
    parts::{Bench, Cost, subjects, users},
    reader::Transport,
    report::{Target, median},
    servers::Gateway,
};

/// What may be more than over `usher.v1`.
const MOST: f64 = 1.1;

/// What a session of the protocol speaks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// What follows the data of a publication of live mode.
const JSON_AFTER: &[u8] = b",\"tags\":{\"event\":\"message\"}}}}";
const PROTOBUF_AFTER: &[u8] = b"\x3a\x10\x0a\x05event\x12\x07message";

impl Encoding {
    /// The header that asks for it, if one does.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Json => "",
            Self::Protobuf => "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
        }
    }

    /// The frame that opens a session.
    pub(crate) fn connect(self, ticket: &str) -> Vec<u8> {
        let data = json!({ "ticket": ticket });
        match self {
            Self::Json => attacks::text(json!({"id": 1, "connect": {"data": data}}).to_string()),
            Self::Protobuf => {
                // Each field behind its key and its length, which is below 128.
                let field = |key: u8, bytes: &[u8]| [&[key, bytes.len() as u8][..], bytes].concat();
                let connect = field(0x12, data.to_string().as_bytes());
                let command = [&[0x08, 1][..], &field(0x22, &connect)].concat();
                attacks::binary(&[&[command.len() as u8][..], &command].concat())
            }
        }
    }

    /// The answer to it, as a welcome; none where it is an error.
    pub(crate) fn welcome(self, frame: &[u8]) -> Value {
        let is_one = match self {
            Self::Json => frame.starts_with(b"{\"connect\":{"),
            // A length of one byte or two, the id, and then the result.
            Self::Protobuf => frame
                .windows(3)
                .take(3)
                .any(|bytes| bytes == [0x08, 1, 0x2a]),
        };
        match is_one {
            true => json!({"welcome": {}}),
            false => Value::Null,
        }
    }

    pub(crate) fn after(self) -> usize {
        match self {
            Self::Json => JSON_AFTER.len(),
            Self::Protobuf => PROTOBUF_AFTER.len(),
        }
    }

    /// What answers this frame, where it is a ping. The mask is zeros.
    pub(crate) fn pong(self, frame: &[u8]) -> Option<&'static [u8]> {
        match (self, frame) {
            (Self::Json, b"{}") => Some(b"\x81\x82\0\0\0\0{}"),
            (Self::Protobuf, [0]) => Some(b"\x82\x81\0\0\0\0\0"),
            _ => None,
        }
    }
}

/// What one way of speaking cost.
struct Row {
    name: &'static str,
    transport: Transport,
    gateway: Gateway,
    idle: f64,
    unicast: Vec<Cost>,
    broadcast: Vec<Cost>,
}

impl Bench {
    /// Memory of an idle session, and the CPU of its messages and of broadcasts, over
    /// `usher.v1` and over the Centrifuge protocol in JSON and in Protobuf.
    ///
    /// # Errors
    ///
    /// Where a message is lost or a session ends.
    pub(crate) fn centrifuge(&mut self) -> Outcome<()> {
        let mut rows = Vec::new();
        for (name, transport) in [
            ("usher.v1", Transport::WebSocket),
            ("JSON", Transport::Centrifuge(Encoding::Json)),
            ("Protobuf", Transport::Centrifuge(Encoding::Protobuf)),
        ] {
            let speaking = || {
                let variables = [("USHER_CENTRIFUGE__ENABLED", "true".to_owned())];
                self.servers.gateway_with(&variables)
            };
            let (idle, gateway) = (speaking()?, speaking()?);
            rows.push(Row {
                name,
                transport,
                idle: self.idle_session(transport, self.servers.nats, &idle)?,
                gateway,
                unicast: Vec::new(),
                broadcast: Vec::new(),
            });
        }
        // In turns, and a gateway without sessions does little for a broadcast.
        for _ in 0..self.scale.rounds {
            for row in &mut rows {
                let users = users("user", self.scale.loaded);
                let tickets = self.servers.tickets(&users)?;
                let address = row.gateway.public;
                let _sessions = self.reader.open_by(row.transport, address, tickets)?;
                let count = self.scale.unicast;
                row.unicast
                    .push(self.one_by_one(&row.gateway, &subjects(&users), count)?);
                row.broadcast.push(self.broadcasts(&row.gateway, true)?);
            }
        }

        self.report
            .part("The Centrifuge protocol; floor: usher.v1, in the same run");
        self.report.say(&format!(
            "{} idle sessions, two messages read; {} messages of 128 bytes to {} users in turn, and \
             {} broadcasts, each when all have read the one before: none lost",
            self.scale.idle, self.scale.unicast, self.scale.loaded, self.scale.broadcasts
        ));
        let middle = |costs: &[Cost]| {
            let each: Vec<_> = costs.iter().map(|cost| cost.cpu).collect();
            median(&each)
        };
        let (floor, others) = rows.split_first().ok_or("no rows")?;
        for row in others {
            let name = row.name;
            let figure = |what: &str, value, floor| {
                let what = format!("{name}: {what}");
                self.report
                    .figure(&what, value, Some(floor), &Target::Ratio(MOST));
            };
            figure("bytes a session", row.idle, floor.idle);
            for (what, costs, floors) in [
                ("unicast CPU, s a million", &row.unicast, &floor.unicast),
                (
                    "broadcast CPU, s a million",
                    &row.broadcast,
                    &floor.broadcast,
                ),
            ] {
                figure(what, middle(costs), middle(floors));
                let rounds = costs.iter().zip(floors);
                let ratios: Vec<_> = rounds
                    .map(|(cost, floor)| format!("{:.2}", cost.cpu / floor.cpu))
                    .collect();
                self.report
                    .say(&format!("ratios of the rounds: {}", ratios.join(", ")));
            }
        }
        Ok(())
    }
}
