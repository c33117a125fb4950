//! `usher disconnect`: the end of a user's sessions.

use std::io::{self, IsTerminal as _};

use serde::Serialize;

use super::{connect::Where, failure::Failure, output, values};
use crate::{close::CloseMessage, proto::DisconnectRequest, user::UserId};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher disconnect 42
  usher disconnect bob@example.com --reason 'your account was closed'
  usher disconnect 42 --reconnect     come again, with fresh rights

Sessions on every gateway are closed 4100, and their clients stay away. With
--reconnect they are closed 4004, spread over 2 s, and come again with fresh
tickets. Sessions on their way in are included; later ones are not, so stop issuing
tickets first.

It prints how many end, as JSON where the output is no terminal:
  2 sessions end          {\"sessions\":2,\"complete\":true}
`complete` is false where not every gateway has answered: then sessions may be
left; run it again. An error exits 1 and says what to do; 64 is wrong usage, 78
bad configuration.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// Whose sessions end: 1–128 bytes without control characters.
    #[arg(value_parser = values::user, allow_negative_numbers = true)]
    user: UserId,
    /// Have the clients come again.
    #[arg(long)]
    reconnect: bool,
    /// What the clients are told, at most 64 bytes.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = reason)]
    reason: String,
}

/// How many sessions end.
#[derive(Debug, Serialize)]
struct Ended {
    sessions: u32,
    complete: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let gateway = arguments.gateway.load()?;
    let order = DisconnectRequest {
        user_id: arguments.user.as_str().to_owned(),
        reconnect: arguments.reconnect,
        reason: arguments.reason.clone(),
    };
    let answer = super::block_on(async { Ok(gateway.api()?.disconnect(order).await?) })?;
    let ended = Ended {
        sessions: answer.sessions,
        complete: answer.complete,
    };
    if !io::stdout().is_terminal() {
        return output::print(output::json(&ended));
    }
    output::print(match ended.sessions {
        1 => "1 session ends".to_owned(),
        sessions => format!("{sessions} sessions end"),
    })?;
    if !ended.complete {
        output::tell("Not every gateway has answered: sessions may be left. Run it again.");
    }
    Ok(())
}

fn reason(text: &str) -> Result<String, String> {
    match CloseMessage::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("it {error}")),
    }
}
