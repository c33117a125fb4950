//! Where in a body something is wrong, and the bound on how deep it nests.

use std::fmt;

/// Arrays and objects within each other: deep enough for any message, and shallow enough
/// for every reader of JSON.
pub(super) const DEEPEST: usize = 128;

/// A place in a text: its line, and the byte in it, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    line: usize,
    column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place behind this text, which begins here.
    pub(super) fn after(self, text: &[u8]) -> Self {
        match text.iter().rposition(|byte| *byte == b'\n') {
            None => Self {
                line: self.line,
                column: self.column + text.len(),
            },
            Some(last) => Self {
                line: self.line + text.iter().filter(|byte| **byte == b'\n').count(),
                column: text.len() - last,
            },
        }
    }

    /// A place that serde_json names in a text that begins here. It counts bytes that it has
    /// read, so its column may be 0.
    pub(super) fn plus(self, line: usize, column: usize) -> Self {
        match line {
            0 | 1 => Self {
                line: self.line,
                column: self.column + column.saturating_sub(1),
            },
            _ => Self {
                line: self.line + line - 1,
                column: column.max(1),
            },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Where arrays and objects nest deeper than [`DEEPEST`]. What is not JSON is not judged.
pub(super) fn too_deep(text: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(nested(DEEPEST).as_bytes()), None);
        assert_eq!(too_deep(nested(DEEPEST + 1).as_bytes()), Some(DEEPEST));
        let brackets = "[".repeat(1000);
        assert_eq!(too_deep(format!("\"{brackets}\"").as_bytes()), None);
        assert_eq!(too_deep(format!("\"\\\"{brackets}\"").as_bytes()), None);
        assert!(too_deep(format!("\"\\\\\"{brackets}").as_bytes()).is_some());
        // Side by side is not deep.
        assert_eq!(too_deep("[]".repeat(1000).as_bytes()), None);
    }

    #[test]
    fn a_position_is_found_again() {
        let start = Position::START;
        assert_eq!(start.to_string(), "line 1, column 1");
        assert_eq!(start.after(b"abc").to_string(), "line 1, column 4");
        assert_eq!(start.after(b"abc\n\nde").to_string(), "line 3, column 3");
        assert_eq!(start.after(b"ab\n").to_string(), "line 2, column 1");
        let inner = start.after(b"{\n  ");
        assert_eq!(inner.plus(1, 5).to_string(), "line 2, column 7");
        assert_eq!(inner.plus(2, 5).to_string(), "line 3, column 5");
        assert_eq!(inner.plus(1, 0).to_string(), "line 2, column 3");
    }
}
