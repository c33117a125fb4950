//! `usher push USER -` and the like: standard input, a line a message.

use std::io::{self, IsTerminal as _};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use super::{Outcome, progress::Progress, summary::Summary};
use crate::cli::{api::CallError, failure::Failure, output, signals::Signals};

/// A gateway takes no more calls of one connection at a time than about these.
const UNDER_WAY: usize = 256;
/// Bytes of lines that are under way, so that long lines do not fill the memory.
const BYTES_UNDER_WAY: usize = 16 * 1024 * 1024;
/// The longest line in bytes: no NATS server takes more. What has no line breaks is refused, not
/// kept.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// Why lines have no message id.
pub(in crate::cli) const ONE_ID: &str = "--message-id is for one message, and with - each line is one: all but the first would be \
     duplicates";

/// How lines are sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Manner {
    /// Many at the same time.
    pub(in crate::cli) unordered: bool,
    /// Each with a receipt.
    pub(in crate::cli) receipt: bool,
}

/// A message's line, its length, and what became of it.
type Done = (u64, usize, Result<Outcome, CallError>);

/// Sends each line of standard input, and sums up.
pub(in crate::cli) async fn send(
    manner: Manner,
    send: impl AsyncFn(Vec<u8>) -> Result<Outcome, CallError>,
) -> Result<(), Failure> {
    let send = &send;
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(format_args!("no signals: {error}")))?;
    let mut lines = Lines::new(BufReader::with_capacity(64 * 1024, tokio::io::stdin()));
    let progress = Progress::start();
    let mut summary = Summary::start(manner.receipt);
    // Two calls of one connection are two tasks of the gateway, and either may
    // publish first. Only an answer says that a message is ahead of the next.
    let most = if manner.unordered { UNDER_WAY } else { 1 };
    let mut calls = FuturesUnordered::new();
    let mut bytes = 0;
    let mut reading = true;
    let mut failed: Option<(u64, String)> = None;
    let mut interrupted = false;
    loop {
        let room = calls.len() < most && bytes < BYTES_UNDER_WAY;
        tokio::select! {
            Some(done) = calls.next(), if !calls.is_empty() => {
                let (number, length, outcome): Done = done;
                bytes -= length;
                match outcome {
                    Ok(outcome) => {
                        summary.count(&outcome);
                        progress.pushed(length);
                    }
                    Err(error) => {
                        reading = false;
                        fail(&mut failed, number, error.trouble.to_string());
                    }
                }
            }
            line = lines.next(), if reading && room => match line {
                Ok(Some(line)) => {
                    let (number, length) = (lines.number, line.len());
                    bytes += length;
                    calls.push(async move { (number, length, send(line).await) });
                }
                Ok(None) => reading = false,
                Err(error) => {
                    reading = false;
                    fail(&mut failed, lines.number + 1, error.to_string());
                }
            },
            () = signals.next() => {
                // The second time nobody waits for answers.
                if interrupted {
                    break;
                }
                interrupted = true;
                reading = false;
            }
        }
        if !reading && calls.is_empty() {
            break;
        }
    }
    progress.end();
    let pushed = summary.end();
    match io::stdout().is_terminal() {
        true => output::print(&pushed)?,
        false => output::print(output::json(&pushed))?,
    }
    match failed {
        Some((number, message)) => Err(Failure::new(format_args!("line {number}: {message}"))),
        None if interrupted => Err(Failure::new("interrupted; what follows was not pushed")),
        None => Ok(()),
    }
}

/// Keeps the first line that failed, which need not be the first to be known.
fn fail(failed: &mut Option<(u64, String)>, number: u64, message: String) {
    if failed.as_ref().is_none_or(|(first, _)| number < *first) {
        *failed = Some((number, message));
    }
}

/// Lines of any bytes.
struct Lines<R> {
    input: R,
    begun: Vec<u8>,
    /// Of the last one that was read, from 1.
    number: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            begun: Vec::new(),
            number: 0,
        }
    }

    /// The next line without its end. Nothing is lost where the wait is given up.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let found = self.input.fill_buf().await?;
            let (taken, is_whole) = match found.iter().position(|&byte| byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (found.len(), found.is_empty()),
            };
            self.begun.extend_from_slice(&found[..taken]);
            self.input.consume(taken);
            if self.begun.len() > LONGEST_LINE {
                return Err(io::Error::other(
                    "has more than 8 MiB; no message may be so long",
                ));
            }
            if is_whole {
                // Nothing more, and nothing begun.
                if self.begun.is_empty() {
                    return Ok(None);
                }
                self.number += 1;
                return Ok(Some(without_end(std::mem::take(&mut self.begun))));
            }
        }
    }
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut text: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Lines::new(BufReader::with_capacity(3, &mut text));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push(line);
        }
        assert_eq!(lines.number, found.len() as u64);
        Ok(found)
    }

    #[tokio::test]
    async fn a_line_is_what_stands_between_two_ends() {
        for (text, expected) in [
            (&b""[..], &[][..]),
            (b"a", &[&b"a"[..]]),
            (b"a\n", &[b"a"]),
            (b"\n\na", &[b"", b"", b"a"]),
            (b"long enough\r\n\xff\r\rb", &[b"long enough", b"\xff\r\rb"]),
        ] {
            assert_eq!(read(text).await.expect("read"), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_has_no_end_is_refused() {
        let error = read(&vec![b'x'; LONGEST_LINE + 1]).await;
        assert!(error.is_err());
    }
}
