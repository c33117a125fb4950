//! `usher push`: messages to a user's screens.

pub(super) mod lines;
mod progress;
mod summary;

use std::{
    ffi::OsString,
    fmt,
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStringExt as _,
};

use serde::Serialize;

use self::lines::Manner;
use super::{connect::Where, failure::Failure, output, values};
use crate::{
    proto::{PushRequest, PushResponse, PushStatus},
    user::UserId,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher push 42 '{\"order\":123}' --event order.completed
  usher push bob@example.com 'not JSON? fine too' --receipt
  usher push 42 - < messages.txt
  tail -f orders.log | usher push 42 - --event log
  usher push 42 '{}' --grpc gateway.internal:9090 --token-file token.txt
  usher push 42 '{\"order\":123}' --message-id order-123   durable mode: stored once

It prints what became of the message, as JSON where the output is no terminal:
  dispatched             {\"status\":\"dispatched\"}            NATS has it
  queued to 2 sessions   {\"status\":\"queued\",\"sessions\":2}   with --receipt
  offline                {\"status\":\"offline\",\"sessions\":0}  with --receipt
Each of them exits 0. An error exits 1 and says what to do; 64 is wrong usage, 78
bad configuration.

With - each line of standard input is a message, without its line break; an empty
line is an empty message. It stops at the first line that fails, names it, and
sums up. Lines arrive in their order: the next leaves when NATS has confirmed the
one before. --unordered keeps 256 under way instead, over one connection: many
times as fast, above all with --receipt, which takes 50 ms a line; lines may then
overtake each other.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// To whom: 1–128 bytes without control characters.
    #[arg(value_parser = values::user, allow_negative_numbers = true)]
    user: UserId,
    /// The message, any bytes; - reads standard input, a line a message.
    #[arg(allow_negative_numbers = true)]
    data: OsString,
    /// Its name, 1–64 of A-Z a-z 0-9 . _ : -; otherwise `message`.
    #[arg(long, value_name = "NAME", value_parser = values::event)]
    event: Option<String>,
    /// Ask whether a session has it queued.
    #[arg(long)]
    receipt: bool,
    /// Durable mode: what comes twice with one id is stored once. 1–128 printable ASCII
    /// characters without spaces.
    #[arg(long, value_name = "ID", value_parser = values::message_id)]
    message_id: Option<String>,
    /// With -: faster, and not in order.
    #[arg(long)]
    unordered: bool,
}

impl Arguments {
    fn request(&self, message: Vec<u8>) -> PushRequest {
        PushRequest {
            user_id: self.user.as_str().to_owned(),
            message,
            event: self.event.clone().unwrap_or_default(),
            message_id: self.message_id.clone().unwrap_or_default(),
            receipt: self.receipt,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let of_lines = arguments.data == "-";
    if of_lines && arguments.message_id.is_some() {
        return Err(Failure::usage(lines::ONE_ID));
    }
    let gateway = arguments.gateway.load()?;
    super::block_on(async {
        let api = &gateway.api()?;
        let push = async |message| {
            let answer = api.push(arguments.request(message)).await?;
            Ok(Outcome::from(&answer))
        };
        if of_lines {
            let manner = Manner {
                unordered: arguments.unordered,
                receipt: arguments.receipt,
            };
            return lines::send(manner, push).await;
        }
        push(arguments.data.clone().into_vec()).await?.print()
    })
}

/// What became of a message.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum Outcome {
    Dispatched {
        #[serde(skip_serializing_if = "is_zero")]
        seq: u64,
    },
    Queued {
        sessions: u32,
        #[serde(skip_serializing_if = "is_zero")]
        seq: u64,
    },
    Offline {
        sessions: u32,
        #[serde(skip_serializing_if = "is_zero")]
        seq: u64,
    },
}

/// Only durable mode numbers messages.
fn is_zero(seq: &u64) -> bool {
    *seq == 0
}

impl Outcome {
    /// For people on a terminal, for programs otherwise.
    pub(super) fn print(&self) -> Result<(), Failure> {
        match io::stdout().is_terminal() {
            true => output::print(self),
            false => output::print(output::json(self)),
        }
    }
}

impl From<&PushResponse> for Outcome {
    fn from(answer: &PushResponse) -> Self {
        let &PushResponse { sessions, seq, .. } = answer;
        match answer.status() {
            PushStatus::Queued => Self::Queued { sessions, seq },
            PushStatus::Offline => Self::Offline { sessions, seq },
            // What a later gateway may say besides was still an OK.
            PushStatus::Dispatched | PushStatus::Unspecified => Self::Dispatched { seq },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dispatched { .. } => f.write_str("dispatched"),
            Self::Queued { sessions: 1, .. } => f.write_str("queued to 1 session"),
            Self::Queued { sessions, .. } => write!(f, "queued to {sessions} sessions"),
            Self::Offline { .. } => f.write_str("offline"),
        }
    }
}
