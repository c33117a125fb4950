//! How far a long push is, for whoever watches it on a terminal.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal as _, Seek as _},
    os::fd::AsFd as _,
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar on standard error. It is hidden if that is no terminal, or if somebody types the
/// messages.
pub(super) struct Progress {
    bar: ProgressBar,
    /// The bar counts bytes, since the whole is known in bytes alone.
    in_bytes: bool,
}

impl Progress {
    pub(super) fn start() -> Self {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
                in_bytes: false,
            };
        }
        let size = file_size(&stdin);
        let (bar, template) = match size {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{wide_bar} {percent}% of {total_bytes}, {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} messages, {rate} a second, {elapsed}",
            ),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("rate", rate));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            in_bytes: size.is_some(),
        }
    }

    /// One more message, of that length.
    pub(super) fn pushed(&self, length: usize) {
        self.bar
            .inc(if self.in_bytes { length as u64 + 1 } else { 1 });
    }

    /// Makes room for what is printed next.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn rate(state: &ProgressState, to: &mut dyn fmt::Write) {
    // Nothing is left to be done about a number that can't be written.
    let _ = write!(to, "{}", HumanCount(state.per_sec().round() as u64));
}

/// What is still to be read, where standard input is a file.
fn file_size(stdin: &io::Stdin) -> Option<u64> {
    let mut file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    let size = metadata.is_file().then_some(metadata.len())?;
    size.checked_sub(file.stream_position().ok()?)
}
