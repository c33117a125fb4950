//! Durations, such as `25s`, and sizes, such as `1MiB`.

use std::time::Duration;

use super::value::{Complaint, Shown, Value, not, quoted};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size(pub usize);

/// A unit and how many of the smallest unit it is.
type Unit = (&'static str, u64);

/// Largest first, the way they are tried when printing.
const DURATIONS: [Unit; 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [Unit; 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Beyond this an addition to a clock's reading could overflow.
const LONGEST: Duration = Duration::from_secs(87_600 * 3_600);

impl Value for Duration {
    const KIND: &'static str = "a duration";
    const EXAMPLE: &'static str = r#""25s""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        if let Ok(number) = text.parse::<u64>() {
            return Err(without_unit(Self::KIND, number, "s"));
        }
        let Some(milliseconds) = measure(text, &DURATIONS) else {
            return Err(not::<Self>() + ": a whole number, and ms, s, m or h");
        };
        match Self::from_millis(milliseconds) {
            duration if duration <= LONGEST => Ok(duration),
            _ => Err(format!("too long; write at most {}", LONGEST.show().toml)),
        }
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        read(value)
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(&duration_text(*self)))
    }
}

/// A duration as it is written in the configuration: `25s`.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // `0s` and `60s`, as people write them, rather than `0h` and `1m`.
    let units = match milliseconds {
        0 | 60_000 => &DURATIONS[2..],
        _ => &DURATIONS[..],
    };
    measured(milliseconds, units)
}

impl Value for Size {
    const KIND: &'static str = "a size";
    const EXAMPLE: &'static str = r#""4KiB""#;

    fn parse(text: &str) -> Result<Self, Complaint> {
        if let Ok(number) = text.parse::<u64>() {
            return Err(without_unit(Self::KIND, number, "B"));
        }
        let bytes = measure(text, &SIZES).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| not::<Self>() + ": a whole number, and B, KiB, MiB or GiB")
    }

    fn from_toml(value: &toml::Value) -> Result<Self, Complaint> {
        read(value)
    }

    fn show(&self) -> Shown {
        Shown::plain(quoted(&measured(self.0 as u64, &SIZES)))
    }
}

/// Reads TOML: a bare number is told what a bare number in quotes is told.
fn read<T: Value>(value: &toml::Value) -> Result<T, Complaint> {
    match value {
        toml::Value::String(text) => T::parse(text),
        other => T::parse(&other.to_string()),
    }
}

fn without_unit(kind: &str, number: u64, unit: &str) -> Complaint {
    format!(r#"{kind} needs its unit; write "{number}{unit}""#)
}

/// Reads a whole number and its unit.
fn measure(text: &str, units: &[Unit]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Prints an amount in the largest unit that divides it.
fn measured(amount: u64, units: &[Unit]) -> String {
    let divides = |unit: &&Unit| amount.is_multiple_of(unit.1);
    let (unit, factor) = units.iter().find(divides).expect("the last unit is 1");
    format!("{}{unit}", amount / factor)
}
