//! A process full of sessions that count what they get and do no more: what it is asked, and
//! what it answers. Many of them hold more sessions than one process has descriptors for.

mod child;
mod latencies;
mod pace;
mod session;
mod town;

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{ChildStdin, ChildStdout, Command},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    child::be,
    latencies::Latencies,
    town::{Delivered, Opened, Size, Town, Use},
};
use crate::{Outcome, parts::BROADCAST, process::Process};

/// As the first argument it makes this program such a process.
pub(crate) const ARGUMENT: &str = "--be-many-sessions";

/// What kind of server sessions are opened at.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Peer {
    Usher,
    /// `benches/peers/node`, which takes the user's id for a ticket.
    Node,
    /// Its unidirectional WebSocket, where a client names its channels.
    Centrifugo,
}

impl Peer {
    /// The path of a session, with a ticket or the id of its user.
    pub(crate) fn path(self, ticket: &str) -> String {
        match self {
            Self::Usher | Self::Node => format!("/ws?ticket={ticket}"),
            Self::Centrifugo => {
                let user = format!("usher.user.{ticket}");
                let connect = serde_json::json!({"subs": {user: {}, BROADCAST: {}}});
                let connect = form_urlencoded::byte_serialize(connect.to_string().as_bytes())
                    .collect::<String>();
                format!("/connection/uni_websocket?cf_connect={connect}")
            }
        }
    }
}

/// Which sessions a process opens, and where.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) peer: Peer,
    /// Each try goes to the next of these.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether a session that ended is opened again.
    pub(crate) returns: bool,
    pub(crate) redis: SocketAddr,
    /// The number of the first session of all processes; each has an address of its own.
    pub(crate) first: usize,
    pub(crate) sessions: usize,
    pub(crate) sessions_per_user: usize,
    /// The most handshakes that are under way at once.
    pub(crate) handshakes: usize,
}

/// What the parent asks for. The answer to each is a [`Count`].
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open all sessions.
    Open,
    /// Count the messages of this run from now on, and forget those of the run before.
    Expect(Run),
    /// Say only what there is.
    Look,
    /// Close all sessions.
    Close,
}

/// The numbers that the messages of a run have.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) number: u64,
    /// Message `n` to user `u` has the number `u * each + n`, so that a session knows the
    /// message of another user. 0: all sessions get the same messages.
    pub(crate) each: u64,
    /// Whether messages may be missing: then each that comes counts.
    pub(crate) holes: bool,
}

/// What a process has seen.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Sessions that are open.
    pub(crate) open: usize,
    /// Handshakes that were begun since the start.
    pub(crate) tries: u64,
    /// How handshakes failed since the start, and how often.
    pub(crate) refused: BTreeMap<String, u64>,
    /// How sessions ended since the start, and how often.
    pub(crate) ended: BTreeMap<String, u64>,
    pub(crate) pings: u64,
    /// Messages of the run that came in their place.
    pub(crate) messages: u64,
    /// Messages of the run that came twice, after a hole, or to another user.
    pub(crate) wrong: u64,
    pub(crate) latencies: Latencies,
}

impl Count {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.tries += other.tries;
        for (sum, more) in [
            (&mut self.refused, &other.refused),
            (&mut self.ended, &other.ended),
        ] {
            for (how, times) in more {
                *sum.entry(how.clone()).or_default() += times;
            }
        }
        self.pings += other.pings;
        self.messages += other.messages;
        self.wrong += other.wrong;
        self.latencies.add(&other.latencies);
    }
}

/// How often each thing happened, in words.
pub(crate) fn words(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<_> = counts
        .iter()
        .map(|(what, times)| format!("{what} x {times}"))
        .collect();
    match each.is_empty() {
        true => "none".to_owned(),
        false => each.join(", "),
    }
}

/// The user of the session with this number.
pub(crate) fn user(session: usize, sessions_per_user: usize) -> usize {
    session / sessions_per_user
}

/// The id of that user.
pub(crate) fn user_id(user: usize) -> String {
    format!("user-{user}")
}

/// The process, seen from outside.
pub(crate) struct Many {
    pub(crate) process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Many {
    pub(crate) fn start(plan: &Plan) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ARGUMENT, &serde_json::to_string(plan)?]);
        let mut process = Process::start_with_pipes(&command)?;
        let orders = process.child().stdin.take().ok_or("no stdin")?;
        let stdout = process.child().stdout.take().ok_or("no stdout")?;
        let mut many = Self {
            process,
            orders,
            answers: BufReader::new(stdout),
        };
        // Now it runs, and its memory can be measured.
        many.ask(&Order::Look)?;
        Ok(many)
    }

    pub(crate) fn ask(&mut self, order: &Order) -> Outcome<Count> {
        let answer = self.try_ask(order);
        answer.map_err(|error| {
            let said = self.process.said();
            format!("a process of sessions has gone: {error}; it said: {said}").into()
        })
    }

    fn try_ask(&mut self, order: &Order) -> Outcome<Count> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}
