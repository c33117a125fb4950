//! What a listener sees: events on standard output, and on standard error what
//! becomes of the connection.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::io::{AsyncWriteExt as _, Stdout};

use super::frame::{Frame, Welcome};
use crate::cli::output::{harmless, on_one_line, tell};

/// Lines are collected, and written when there is nothing more to collect.
pub(super) struct Screen {
    stdout: Stdout,
    for_people: bool,
    lines: Vec<u8>,
}

/// Bytes: if more than this waits, it is written before more is read.
const ENOUGH: usize = 64 * 1024;

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            stdout: tokio::io::stdout(),
            for_people: io::stdout().is_terminal(),
            lines: Vec::new(),
        }
    }

    /// One frame: on a terminal what is meant for people, else the frame itself.
    pub(super) fn show(&mut self, text: &str, frame: &Frame<'_>) {
        if !self.for_people {
            self.line(&harmless(&on_one_line(text)));
        } else if let Some(name) = &frame.event {
            let data = match (frame.data, &frame.base64) {
                (Some(data), _) => on_one_line(data.get()),
                (None, Some(base64)) => format!("base64 {base64}").into(),
                (None, None) => "".into(),
            };
            let to = if frame.broadcast {
                " (to everybody)"
            } else {
                ""
            };
            let line = format!("{}  {name}{to}  {data}", Now);
            self.line(&harmless(&line));
        }
        if let Some(welcome) = &frame.welcome {
            state(format_args!("{}", Welcomed(welcome)));
        } else if let Some(gap) = &frame.gap {
            let reason = gap.reason.as_deref().unwrap_or("unknown");
            state(format_args!("messages may have been missed: {reason}"));
        } else if let Some(goodbye) = &frame.goodbye {
            let reason = goodbye.reason.as_deref().unwrap_or("unknown");
            let message = goodbye.message.as_deref();
            let message = message.map(|text| format!(" ({text})")).unwrap_or_default();
            state(format_args!("the gateway says goodbye: {reason}{message}"));
        }
    }

    fn line(&mut self, line: &str) {
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
    }

    /// Whether it is time to write, however much there is to read.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() > ENOUGH
    }

    /// Writes what was collected.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.stdout.write_all(&self.lines).await?;
            self.lines.clear();
            self.stdout.flush().await?;
        }
        Ok(())
    }
}

/// Says what has become of the connection.
pub(super) fn state(what: fmt::Arguments<'_>) {
    tell(format_args!("{}  {what}", Now));
}

struct Welcomed<'a>(&'a Welcome<'a>);

impl fmt::Display for Welcomed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Welcome {
            session,
            user,
            gateway,
            ..
        } = self.0;
        write!(f, "connected as {user} to {gateway}, session {session}")?;
        match self.0.resume.as_deref() {
            Some("complete") => f.write_str("; nothing is lost: what was missed follows"),
            Some("gap") => f.write_str("; messages may be lost"),
            _ => Ok(()),
        }
    }
}

/// The time of day, UTC as in the gateway's log.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (seconds, millis) = (now.as_secs() % 86_400, now.subsec_millis());
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(
            f,
            "{hours:02}:{minutes:02}:{:02}.{millis:03}Z",
            seconds % 60
        )
    }
}
