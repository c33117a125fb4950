//! A place in a user's stream of messages, as a client names it.

/// What a client sends as `since`: `EPOCH.SEQ`, or `0` for the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// All that is kept.
    Beginning,
    /// After this sequence of this stream.
    After {
        /// Which stream: 1–32 of `A-Z a-z 0-9`.
        epoch: Box<str>,
        /// The last sequence that the client has.
        seq: u64,
    },
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is EPOCH.SEQ, such as k3f9.121, or 0")]
pub struct PositionError;

impl Position {
    /// Reads a position.
    ///
    /// # Errors
    ///
    /// [`PositionError`] where the text is of neither form.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        if text == "0" {
            return Ok(Self::Beginning);
        }
        let (epoch, seq) = text.split_once('.').ok_or(PositionError)?;
        let good_epoch =
            (1..=32).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        let good_seq = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
        match seq.parse() {
            Ok(seq) if good_epoch && good_seq => Ok(Self::After {
                epoch: epoch.into(),
                seq,
            }),
            _ => Err(PositionError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_others_refused() {
        assert_eq!(Position::parse("0"), Ok(Position::Beginning));
        let expected = Position::After {
            epoch: "k3f9".into(),
            seq: 121,
        };
        assert_eq!(Position::parse("k3f9.121"), Ok(expected));
        for bad in [
            "", "1", "k3f9", "k3f9.", ".1", "k.-1", "k.+1", "k.1x", "k.1.2", "k-3.1",
        ] {
            assert_eq!(Position::parse(bad), Err(PositionError), "{bad:?}");
        }
        assert_eq!(
            Position::parse("k.18446744073709551616"),
            Err(PositionError)
        );
    }
}
