//! A message for many sessions, as commands take it.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::{
    api::{Api, CallError},
    connect::Where,
    failure::Failure,
    push::{
        Outcome,
        lines::{self, Manner},
    },
    values,
};

/// What `usher broadcast` and `usher topic` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Message {
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

impl Message {
    /// The event's name, as a request has it.
    pub(super) fn event(&self) -> String {
        self.event.clone().unwrap_or_default()
    }

    /// The message's id, as a request has it.
    pub(super) fn id(&self) -> String {
        self.message_id.clone().unwrap_or_default()
    }

    /// Publishes the message, or each line of standard input, and prints what became of it.
    /// `publish` returns the sequence of a message in the stream.
    pub(super) fn publish(
        &self,
        publish: impl AsyncFn(&Api, Vec<u8>) -> Result<u64, CallError>,
    ) -> Result<(), Failure> {
        let of_lines = self.data == "-";
        if of_lines && self.message_id.is_some() {
            return Err(Failure::usage(lines::ONE_ID));
        }
        let gateway = self.gateway.load()?;
        super::block_on(async {
            let api = &gateway.api()?;
            let publish = async |message| {
                let seq = publish(api, message).await?;
                Ok(Outcome::Dispatched { seq })
            };
            if of_lines {
                let manner = Manner {
                    unordered: false,
                    receipt: false,
                };
                return lines::send(manner, publish).await;
            }
            publish(self.data.clone().into_vec()).await?.print()
        })
    }
}
