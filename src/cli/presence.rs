//! `usher presence`: who is online, and where.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
};

use serde::Serialize;

use super::{connect::Where, failure::Failure, output, values};
use crate::{
    proto::{self, GetPresenceRequest},
    user::UserId,
};

/// User ids of one call.
const MAX_USERS: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher presence 42
  usher presence 42 bob@example.com 7
  usher presence $(cat users.txt)     as many as you like, 1,000 a call
  usher presence 42 --grpc gateway.internal:9090 --token-file token.txt

It prints a line for each user, in your order, as JSON where the output is no
terminal:
  42: 2 sessions on gw-1, gw-2
  7: offline
  {\"user_id\":\"7\",\"sessions\":0,\"gateways\":[],\"complete\":true}
`complete` is false where not every gateway has answered: then there may be more
sessions. Offline exits 0 too. An error exits 1 and says what to do; 64 is wrong
usage, 78 bad configuration.")]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Where,
    /// Whom to look for: 1–128 bytes without control characters each.
    #[arg(value_name = "USER", required = true, value_parser = values::user, allow_negative_numbers = true)]
    users: Vec<UserId>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let gateway = arguments.gateway.load()?;
    super::block_on(async {
        let api = gateway.api()?;
        let mut all_answered = true;
        for users in arguments.users.chunks(MAX_USERS) {
            let ids = users.iter().map(|user| user.as_str().to_owned());
            let request = GetPresenceRequest {
                user_ids: ids.collect(),
            };
            let answer = api.presence(request).await?;
            all_answered &= answer.complete;
            print(users, answer.users, answer.complete)?;
        }
        if !all_answered && io::stdout().is_terminal() {
            output::tell("Not every gateway has answered: there may be more sessions.");
        }
        Ok(())
    })
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    user_id: &'a str,
    sessions: u32,
    gateways: Vec<String>,
    complete: bool,
}

fn print(
    users: &[UserId],
    online: HashMap<String, proto::Presence>,
    complete: bool,
) -> Result<(), Failure> {
    for user in users {
        // An id that was given twice is looked for once.
        let found = online.get(user.as_str()).cloned().unwrap_or_default();
        let mut gateways = found.gateways;
        gateways.sort_unstable();
        let line = Line {
            user_id: user.as_str(),
            sessions: found.sessions,
            gateways,
            complete,
        };
        match io::stdout().is_terminal() {
            true => output::print(in_words(&line))?,
            false => output::print(output::json(&line))?,
        }
    }
    Ok(())
}

fn in_words(line: &Line<'_>) -> String {
    let (user, gateways) = (line.user_id, line.gateways.join(", "));
    match line.sessions {
        0 if line.complete => format!("{user}: offline"),
        0 => format!("{user}: offline, as far as is known"),
        1 => format!("{user}: 1 session on {gateways}"),
        sessions => format!("{user}: {sessions} sessions on {gateways}"),
    }
}
