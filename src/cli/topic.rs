//! `usher topic`: messages to those who follow a topic.

use super::{failure::Failure, message::Message, values};
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
    /// The topic, 1–128 bytes.
    #[arg(value_parser = values::topic, allow_negative_numbers = true)]
    topic: Topic,
    #[command(flatten)]
    message: Message,
}

pub(super) fn run(Arguments { topic, message }: &Arguments) -> Result<(), Failure> {
    message.publish(async |api, data| {
        let request = PublishTopicRequest {
            topic: topic.as_str().to_owned(),
            message: data,
            event: message.event(),
            message_id: message.id(),
        };
        Ok(api.publish_topic(request).await?.seq)
    })
}
