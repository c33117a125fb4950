//! `usher broadcast`: messages to every screen.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::{
    connect::Where,
    failure::Failure,
    push::{
        Outcome,
        lines::{self, Manner},
    },
    values,
};
use crate::proto::BroadcastRequest;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher broadcast '{\"maintenance\":\"22:00\"}' --event maintenance
  usher broadcast - < messages.txt
  usher broadcast '{}' --grpc gateway.internal:9090 --token-file token.txt

It prints what became of the message, as JSON where the output is no terminal:
  dispatched   {\"status\":\"dispatched\"}           NATS has it
               {\"status\":\"dispatched\",\"seq\":7}   durable: it is stored
It exits 0. An error exits 1 and says what to do; 64 is wrong usage, 78 bad
configuration.

With - each line of standard input is a message, without its line break; an empty
line is an empty message. Lines arrive in their order. It stops at the first line
that fails, names it, and sums up.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// The message, any bytes; - reads standard input, a line a message.
    #[arg(allow_negative_numbers = true)]
    data: OsString,
    /// Its name, 1–64 of A-Z a-z 0-9 . _ : -; otherwise `message`.
    #[arg(long, value_name = "NAME", value_parser = values::event)]
    event: Option<String>,
    /// Durable mode: what comes twice with one id is stored once. 1–128 printable ASCII
    /// characters without spaces.
    #[arg(long, value_name = "ID", value_parser = values::message_id)]
    message_id: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let of_lines = arguments.data == "-";
    if of_lines && arguments.message_id.is_some() {
        return Err(Failure::usage(lines::ONE_ID));
    }
    let gateway = arguments.gateway.load()?;
    super::block_on(async {
        let api = &gateway.api()?;
        let broadcast = async |message| {
            let request = BroadcastRequest {
                message,
                event: arguments.event.clone().unwrap_or_default(),
                message_id: arguments.message_id.clone().unwrap_or_default(),
            };
            let seq = api.broadcast(request).await?.seq;
            Ok(Outcome::Dispatched { seq })
        };
        if of_lines {
            let manner = Manner {
                unordered: false,
                receipt: false,
            };
            return lines::send(manner, broadcast).await;
        }
        broadcast(arguments.data.clone().into_vec()).await?.print()
    })
}
