//! `usher ticket`: a ticket for a user.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use super::{connect::Where, failure::Failure, output, values};
use crate::user::UserId;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher ticket 42
  T=$(usher ticket 42)        only the ticket, where the output is no terminal
  usher ticket bob@example.com --ttl 5m
  usher ticket 42 --grpc gateway.internal:9090 --token-file token.txt

A ticket opens one session, once: `usher listen --ticket \"$T\"`, or a browser's
new WebSocket(\"ws://127.0.0.1:8080/ws?ticket=\" + ticket). It is minted by gRPC.
On a terminal the whole URL follows; in durable mode with since=POSITION, so that
the session also gets what comes before it is opened.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// Whose session it opens: 1–128 bytes of UTF-8 without control characters.
    #[arg(value_parser = values::user, allow_negative_numbers = true)]
    user: UserId,
    /// How long it waits to be used, 1s to 300s; otherwise `tickets.ttl`.
    #[arg(long, value_name = "DURATION", value_parser = values::ttl)]
    ttl: Option<Duration>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let gateway = arguments.gateway.load()?;
    let issued = super::block_on(async {
        let issued = gateway.api()?.issue(&arguments.user, arguments.ttl).await;
        issued.map_err(Failure::from)
    })?;
    output::print(issued.ticket.expose())?;
    if io::stdout().is_terminal() {
        // The ticket is good without it, so that this fails nothing.
        match gateway.public() {
            Ok(public) => {
                let since = issued.position.as_deref();
                output::print(public.socket_with(&issued.ticket, since))?;
            }
            Err(failure) => drop(failure.report()),
        }
        if let Some(ttl) = issued.expires_in {
            output::tell(format_args!(
                "It opens one session, within {} s.",
                ttl.as_secs()
            ));
        }
    }
    Ok(())
}
