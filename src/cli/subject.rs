//! `usher subject`: where to publish for a user.

use super::{ConfigFile, failure::Failure, output, values};
use crate::{bus, user::UserId};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  usher subject bob@example.com
  nats pub \"$(usher subject 42)\" '{\"order\":123}'

A user id neither begins nor ends with white space or U+FEFF, nor begins with {.

The rule, for your own code: A-Z a-z 0-9 - _ stand as they are, every other byte
is % and two hex digits in upper case. docs/subjects.json has vectors to test it
with.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// A user id: 1–128 bytes of UTF-8 without control characters.
    #[arg(value_parser = values::user, allow_negative_numbers = true)]
    user: UserId,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    let subjects = bus::Subjects::new(&config.nats.prefix);
    output::print(subjects.user(&arguments.user))
}
