//! Which trace a request or a message belongs to, in the words of W3C Trace Context.

use std::fmt::{self, Write as _};

use http::HeaderMap;

/// The header that names a trace and the span that called.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what other tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is passed on, in bytes; the standard asks for as much at least.
const MAX_STATE: usize = 512;

/// The number of a trace; never 0.
pub type TraceId = [u8; 16];
/// The number of a span; never 0.
pub type SpanId = [u8; 8];

/// A `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Which trace it is.
    pub trace: TraceId,
    /// The span that called.
    pub span: SpanId,
    flags: u8,
}

/// A trace that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Which one.
    pub id: TraceId,
    /// The span to which what follows belongs; `None` if the trace begins here.
    pub parent: Option<SpanId>,
}

/// What a caller says of its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its `traceparent`; `None` if it has none, or a malformed one.
    pub parent: Option<TraceParent>,
    /// Its `tracestate`, which goes with the former.
    pub state: Option<String>,
}

impl TraceParent {
    /// Of a span that is recorded.
    pub fn recorded(trace: TraceId, span: SpanId) -> Self {
        let flags = 1;
        Self { trace, span, flags }
    }

    /// Reads a header's value; `None` if it is malformed. A later version of the header may
    /// have more at its end.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (value, rest) = value.split_at_checked(55)?;
        let version: [u8; 1] = hex(&value[..2])?;
        let dashes = [2, 35, 52].into_iter().all(|at| value[at] == b'-');
        let ends = match version[0] {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let [flags] = hex(&value[53..])?;
        let parent = Self {
            trace: hex(&value[3..35])?,
            span: hex(&value[36..52])?,
            flags,
        };
        let good = dashes && ends && parent.trace != [0; 16] && parent.span != [0; 8];
        good.then_some(parent)
    }

    /// Whether the caller records its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace of what it called; `None` if the caller does not record it.
    pub fn followed(&self) -> Option<Trace> {
        self.is_sampled().then_some(Trace {
            id: self.trace,
            parent: Some(self.span),
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_char('-')?;
        self.span
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

impl Caller {
    /// What the headers of a request over HTTP, or of a call by gRPC, say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(parent), None) => TraceParent::parse(parent.as_bytes()),
            // Nobody can say which of two it is.
            _ => None,
        };
        let states = headers.get_all(TRACESTATE).iter();
        let states: Option<Vec<&str>> = states.map(|state| state.to_str().ok()).collect();
        // Several headers are one list (RFC 9110, 5.3).
        let state = states.unwrap_or_default().join(",");
        let passes = parent.is_some() && (1..=MAX_STATE).contains(&state.len());
        Self {
            parent,
            state: passes.then_some(state),
        }
    }
}

/// The bytes of a number in hexadecimal; the standard has lower case alone.
fn hex<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_good_header_is_read_and_written() {
        let parent = TraceParent::parse(GOOD.as_bytes()).expect("a good one");
        assert_eq!(parent.trace[..3], [0x0a, 0xf7, 0x65]);
        assert_eq!(parent.span[7], 0x31);
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), GOOD);
        let quiet = GOOD.replace("-01", "-00");
        let quiet = TraceParent::parse(quiet.as_bytes()).expect("a good one");
        assert!(!quiet.is_sampled());
        // Of a later version.
        let later = GOOD.replacen("00", "cc", 1);
        for later in [later.clone(), format!("{later}-more")] {
            assert_eq!(TraceParent::parse(later.as_bytes()), Some(parent));
        }
    }

    #[test]
    fn a_malformed_header_is_none() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD} "),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0x", 1),
            &GOOD.replacen("00-", "00_", 1),
            &GOOD.replacen("00", "cc", 1).replace("-01", "-01x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn two_headers_are_none_and_the_state_goes_with_the_parent() {
        let mut headers = HeaderMap::new();
        headers.append(TRACESTATE, "a=1".parse().expect("a value"));
        assert_eq!(Caller::of(&headers), Caller::default());
        headers.append(TRACESTATE, "b=2".parse().expect("a value"));
        headers.append(TRACEPARENT, GOOD.parse().expect("a value"));
        let caller = Caller::of(&headers);
        assert_eq!(caller.parent, TraceParent::parse(GOOD.as_bytes()));
        assert_eq!(caller.state.as_deref(), Some("a=1,b=2"));
        headers.append(TRACEPARENT, GOOD.parse().expect("a value"));
        assert_eq!(Caller::of(&headers), Caller::default());
        headers.remove(TRACEPARENT);
        headers.insert(TRACEPARENT, GOOD.parse().expect("a value"));
        let long = "a".repeat(MAX_STATE + 1);
        headers.insert(TRACESTATE, long.parse().expect("a value"));
        assert_eq!(Caller::of(&headers).state, None);
    }
}
