//! `usher completions`: what a shell needs to complete our commands.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Usher, failure::Failure, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(usher completions bash)
  usher completions bash > /etc/bash_completion.d/usher
  usher completions zsh > \"${fpath[1]}/_usher\"
  usher completions fish > ~/.config/fish/completions/usher.fish")]
pub(super) struct Arguments {
    /// Whose completions.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Into memory first: the generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Usher::command(), "usher", &mut script);
    output::written(io::stdout().write_all(&script))
}
