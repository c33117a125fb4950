//! `usher broadcast`: messages to every screen.

use super::{failure::Failure, message::Message};
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
    message: Message,
}

pub(super) fn run(Arguments { message }: &Arguments) -> Result<(), Failure> {
    message.publish(async |api, data| {
        let request = BroadcastRequest {
            message: data,
            event: message.event(),
            message_id: message.id(),
        };
        Ok(api.broadcast(request).await?.seq)
    })
}
