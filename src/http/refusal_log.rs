//! Refused clients in the log: with the reason and the page's origin, a few lines a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use warp::http::HeaderMap;

use super::{
    refusal::Refusal,
    request::{host, origin},
};
use crate::origin::Origin;

/// Lines in one second.
const LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Bytes of an origin or a host that are shown. No name in the DNS is longer.
const SHOWN: usize = 270;

/// Writes refusals to the log. A flood of refusals costs ten lines a second; the next line
/// after it says how many refusals have no line of their own.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// When the present second began.
    began: Option<Instant>,
    /// Lines in it.
    written: u32,
    /// Refusals since the last line.
    left_out: u64,
}

impl RefusalLog {
    /// Writes a refusal. `headers` are the request's, where it was read. All else that a
    /// client sends may hold a ticket, so nothing else is shown.
    pub(super) fn tell(&self, refusal: Refusal, headers: Option<&HeaderMap>) {
        let Some(left_out) = self.lines().next(Instant::now()) else {
            return;
        };
        let origin = headers.and_then(origin).map(shown_origin);
        // Where no origins are listed, the origin must be this one.
        let host = headers.filter(|_| refusal == Refusal::OriginDenied);
        let host = host.and_then(host_of);
        tracing::info!(
            reason = refusal.code(),
            origin,
            host,
            left_out = (left_out > 0).then_some(left_out),
            "a client is refused: {}",
            refusal.message()
        );
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// How many refusals had no line before this one; `None` if this one has none either.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now - began >= SECOND) {
            (self.began, self.written) = (Some(now), 0);
        }
        if self.written == LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What is no origin is not shown.
fn shown_origin(text: &str) -> String {
    match Origin::parse(text) {
        Ok(_) if text.len() > SHOWN => "too long".to_owned(),
        Ok(origin) => origin.to_string(),
        Err(_) if text == "null" => "null".to_owned(),
        Err(_) => "not an origin".to_owned(),
    }
}

fn host_of(headers: &HeaderMap) -> Option<String> {
    let host = host(headers).filter(|host| host.len() <= SHOWN)?;
    let origin = Origin::parse(&format!("http://{host}")).ok()?.to_string();
    Some(origin["http://".len()..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_and_a_count_of_the_rest() {
        let mut lines = Lines::default();
        let begin = Instant::now();
        let written = |lines: &mut Lines, after: u64| {
            let now = begin + Duration::from_millis(after);
            (0..100).filter_map(|_| lines.next(now)).collect::<Vec<_>>()
        };
        assert_eq!(written(&mut lines, 0), [0; 10]);
        assert_eq!(written(&mut lines, 999), [0; 0]);
        let mut with_the_count = [0; 10];
        with_the_count[0] = 190;
        assert_eq!(written(&mut lines, 1000), with_the_count);
    }

    #[test]
    fn only_what_is_an_origin_is_shown() {
        for (text, shown) in [
            ("https://app.example.com", "https://app.example.com"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("null", "null"),
            ("https://a.example/?ticket=abc", "not an origin"),
            ("a\nline", "not an origin"),
            ("", "not an origin"),
        ] {
            assert_eq!(shown_origin(text), shown, "{text}");
        }
        let long = format!("https://{}.example", "a.".repeat(SHOWN));
        assert_ne!(shown_origin(&long), long);
    }
}
