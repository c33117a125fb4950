//! `usher listen`: a user's stream, in the terminal.

mod backoff;
mod follow;
pub(super) mod frame;
mod progress;
mod refused;
mod screen;
pub(super) mod session;

use self::{
    follow::{End, Follower},
    session::Session,
};
use super::{connect::Where, failure::Failure, output, values};
use crate::{secret::Secret, tickets::Ticket, user::UserId};

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("who").required(true),
    after_help = "\
Examples:
  usher listen --user 42
  usher listen --user 42 | jq -r 'select(.event) | .data'
  usher listen --user 42 --since k3f9.121.121.1798000000123
  usher listen --ticket \"$(usher ticket 42)\"
  usher listen --user 42 --public http://gateway.internal:8080 \\
    --grpc gateway.internal:9090 --token-file token.txt

On a terminal each event is a line: when it came (UTC), its name, its data. Where
the output is no terminal each frame is a line of JSON, just as it came. What
happens to the connection is told on standard error.

--user mints tickets by gRPC and reconnects as a browser's client does, until you
press Ctrl-C, or the gateway says not to come back. --ticket lasts one connection:
it exits 0 where that ends with 1000 or 1001, else 1, and says the close code.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// Whose stream: 1–128 bytes of UTF-8 without control characters.
    #[arg(long, group = "who", value_parser = values::user, allow_negative_numbers = true)]
    user: Option<UserId>,
    /// A ticket from `usher ticket` or your own auth service.
    #[arg(long, group = "who", value_parser = values::secret, allow_hyphen_values = true)]
    ticket: Option<Secret>,
    /// What you have already: a position such as k3f9.140.140.1798000000123, or 0 for
    /// the beginning.
    #[arg(long, value_name = "POSITION", value_parser = values::since)]
    since: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        gateway,
        user,
        ticket,
        since,
    } = arguments;
    let ticket = ticket.map(|ticket| Ticket::parse(&ticket.expose()));
    let ticket = ticket
        .transpose()
        .map_err(|error| Failure::usage(format_args!("--ticket is no ticket: {error}")))?;
    let gateway = gateway.load()?;
    super::block_on(async {
        let public = gateway.public()?;
        let mut follower = Follower::new(since)?;
        match (ticket, user) {
            (Some(ticket), _) => {
                let dialer = gateway.dialer(public.is_encrypted())?;
                let since = follower.since();
                let session = Session::open(&public, &dialer, &ticket, since.as_deref()).await;
                let session =
                    session.map_err(|refused| Failure::new(refused.for_a_ticket_holder()))?;
                let end = follower.follow(session).await?.end;
                ended_well(end)
            }
            (None, Some(user)) => follower.follow_user(&gateway, &public, &user).await,
            (None, None) => unreachable!("clap requires one of the two"),
        }
    })
}

/// A session that is not to be opened again.
fn ended_well(end: End) -> Result<(), Failure> {
    match end {
        End::Left => Ok(()),
        End::Closed(close) if [1000, 1001, 1005].contains(&close.code) => {
            output::tell(&close);
            Ok(())
        }
        End::Closed(close) => Err(Failure::new(close)),
    }
}
