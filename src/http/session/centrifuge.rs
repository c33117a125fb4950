//! A session that speaks the Centrifuge protocol: the answer to its `connect`, and what it
//! does with its client's commands.

use bytes::Bytes;
use tungstenite::Message;

use super::{Config, open::Session};
use crate::{
    channel::Channel,
    close::CloseReason,
    durable::Opening,
    frame::centrifuge::{self, BROADCAST, USER},
    http::{
        centrifuge::{
            Connect,
            command::{self, is_pong},
        },
        transport::Transport,
    },
    proto::centrifuge::{
        Command, ConnectResult, Error, NamedSubscription, Reply, SubscribeResult, UnsubscribeResult,
    },
    registry::Seat,
};

/// So many commands, and frames, more than `session.frames_per_second` may come at once: SDKs
/// send one for each topic when they return.
pub(in crate::http) const BURST: u32 = 52;

/// An error of the protocol's table.
struct Refused {
    code: u32,
    message: &'static str,
    temporary: bool,
}

const fn refused(code: u32, message: &'static str) -> Refused {
    Refused {
        code,
        message,
        temporary: false,
    }
}

const FORBIDDEN: Refused = refused(103, "forbidden: this ticket does not allow the topic");
const FOLLOWED: Refused = refused(105, "the gateway has subscribed the session to it already");
const STAYS: Refused = refused(103, "forbidden: a session always follows this channel");
const UNKNOWN: Refused = refused(104, "this command is not known");
const NOT_HERE: Refused = refused(
    108,
    "not available: services publish through NATS or the API, not browsers",
);
const NO_CALLS: Refused = refused(108, "not available: this gateway takes no calls");
const NO_REFRESH: Refused = Refused {
    code: 100,
    message: "a session by ticket ends with its ticket; come again with a fresh one",
    temporary: true,
};

impl<T: Transport> Session<T> {
    /// A message of the client.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn hear_centrifuge(&mut self, message: &Message) -> Result<(), CloseReason> {
        let commands = command::read(self.protocol(), message)?;
        self.obey(commands)
    }

    /// Answers commands. More than the client may send end the session.
    pub(super) fn obey(&mut self, commands: Vec<Command>) -> Result<(), CloseReason> {
        let count = u32::try_from(commands.len()).unwrap_or(u32::MAX);
        if !self.commands().take(count) {
            return Err(CloseReason::TooManyFrames);
        }
        commands
            .into_iter()
            .try_for_each(|command| self.answer(command))
    }

    fn answer(&mut self, command: Command) -> Result<(), CloseReason> {
        let id = command.id;
        match command {
            // Nothing answers these.
            Command { id: 0, .. } if is_pong(&command) || command.send.is_some() => return Ok(()),
            // What wants an answer names itself, and a session is opened once.
            Command { id: 0, .. }
            | Command {
                connect: Some(_), ..
            } => {
                return Err(CloseReason::BadFrame);
            }
            Command {
                subscribe: Some(sub),
                ..
            } => {
                let error = match self.always_follows(&sub.channel) {
                    true => FOLLOWED,
                    false => FORBIDDEN,
                };
                self.fail(id, &error);
            }
            Command {
                unsubscribe: Some(sub),
                ..
            } => match self.always_follows(&sub.channel) {
                true => self.fail(id, &STAYS),
                false => self.reply(&Reply {
                    id,
                    unsubscribe: Some(UnsubscribeResult {}),
                    ..Reply::default()
                }),
            },
            Command { rpc: Some(_), .. } => self.fail(id, &NO_CALLS),
            Command {
                refresh: Some(_), ..
            } => self.fail(id, &NO_REFRESH),
            Command {
                publish: None,
                presence: None,
                presence_stats: None,
                history: None,
                ping: None,
                send: None,
                sub_refresh: None,
                ..
            } => self.fail(id, &UNKNOWN),
            _ => self.fail(id, &NOT_HERE),
        }
        Ok(())
    }

    /// Whether it is the broadcast, or a user's channel.
    fn always_follows(&self, channel: &str) -> bool {
        let user = channel.strip_prefix(USER);
        channel == BROADCAST || user.is_some_and(|user| user == self.user())
    }

    fn fail(&mut self, id: u32, error: &Refused) {
        self.reply(&Reply {
            id,
            error: Some(Error {
                code: error.code,
                message: error.message.to_owned(),
                temporary: error.temporary,
            }),
            ..Reply::default()
        });
    }
}

/// The answer to the `connect` that opened a session.
pub(super) fn connected(
    config: &Config,
    seat: &Seat,
    opening: &Opening,
    connect: &Connect,
) -> Bytes {
    let user = seat.user().as_str();
    let channels = [Channel::User, Channel::Broadcast].into_iter();
    let subs = channels.map(|channel| {
        let name = centrifuge::name(&channel, user);
        let mut sub = SubscribeResult {
            was_recovering: connect.marks.contains_key(&name),
            ..SubscribeResult::default()
        };
        if let Some((epoch, last)) = &opening.stream {
            let recovered = opening.recovered.get(&name);
            sub.recoverable = true;
            sub.positioned = true;
            sub.epoch = epoch.to_string();
            sub.recovered = recovered.is_some();
            sub.offset = recovered.copied().unwrap_or(last.seq);
        }
        NamedSubscription {
            channel: name,
            result: Some(sub),
        }
    });
    let connected = ConnectResult {
        client: ulid::Ulid::new().to_string(),
        subs: subs.collect(),
        // A client gives up where no ping came for so long, and ten seconds more.
        ping: u32::try_from(config.ping_interval.as_secs().max(1)).unwrap_or(u32::MAX),
        pong: true,
        node: config.gateway.clone(),
        ..ConnectResult::default()
    };
    let reply = Reply {
        id: connect.id,
        connect: Some(connected),
        ..Reply::default()
    };
    centrifuge::reply(seat.backlog().protocol(), &reply)
}
