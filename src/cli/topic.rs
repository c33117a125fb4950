//! `usher topic`: messages to those who follow a topic.

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
use crate::{channel::Topic, proto::PublishTopicRequest};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher topic room-7 '{\"from\":\"42\"}' --event typing
  usher topic news - < messages.txt
  usher topic news '{}' --grpc gateway.internal:9090 --token-file token.txt

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
    /// The topic, 1–128 bytes.
    #[arg(value_parser = values::topic)]
    topic: Topic,
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
        let publish = async |message| {
            let request = PublishTopicRequest {
                topic: arguments.topic.as_str().to_owned(),
                message,
                event: arguments.event.clone().unwrap_or_default(),
                message_id: arguments.message_id.clone().unwrap_or_default(),
            };
            let seq = api.publish_topic(request).await?.seq;
            Ok(Outcome::Dispatched { seq })
        };
        if of_lines {
            let manner = Manner {
                unordered: false,
                receipt: false,
            };
            return lines::send(manner, publish).await;
        }
        publish(arguments.data.clone().into_vec()).await?.print()
    })
}
