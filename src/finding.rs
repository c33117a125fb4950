//! A line of what `usher check` found.

/// What was found at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found, at which address, and what to do.
    pub text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Good,
    /// Sessions work, and something else may not.
    Warning,
    /// No session would be let in, or nothing delivered.
    Bad,
    /// More of the finding before it.
    Detail,
}

impl Finding {
    /// A finding in these words.
    pub fn new(verdict: Verdict, text: impl ToString) -> Self {
        let text = text.to_string();
        Self { verdict, text }
    }
}
