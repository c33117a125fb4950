//! Counts, as they are recorded and compared.

use std::fmt;

use crate::{Outcome, process::version, report::Report};

/// How many more instructions there may be than are recorded.
const BOUND: f64 = 1.10;
/// So much fewer is worth a new record.
const BETTER: f64 = 0.95;
const HEAD: &str = "\
# Instructions of one operation, counted by callgrind. `make instructions` compares with these
# counts if the compiler and the target are the same. `make instructions-record` writes them.
";

/// Instructions of one operation.
pub(super) struct Count {
    pub(super) name: String,
    pub(super) each: u64,
}

pub(super) struct Record {
    /// The compiler, the target and the profile: only with the same do counts compare.
    made_by: String,
    counts: Vec<Count>,
}

impl Record {
    /// Counts of now.
    pub(super) fn new(counts: Vec<Count>) -> Outcome<Self> {
        let profile = match cfg!(debug_assertions) {
            true => "debug",
            false => "release",
        };
        let rustc = version("rustc".as_ref());
        if rustc.is_empty() {
            return Err("rustc says no version: put it on PATH".into());
        }
        Ok(Self {
            made_by: format!("{rustc}, {}, {profile}", std::env::consts::ARCH),
            counts,
        })
    }

    /// # Errors
    ///
    /// Which line is none.
    pub(super) fn read(text: &str) -> Outcome<Self> {
        let mut lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let made_by = lines.next().ok_or("the record of instructions is empty")?;
        let count = |line: &str| {
            let (name, each) = line.rsplit_once(' ')?;
            let each = each.parse().ok()?;
            let name = name.trim().to_owned();
            Some(Count { name, each })
        };
        let counts = lines.map(|line| {
            count(line).ok_or_else(|| format!("no count in the record of instructions: {line:?}"))
        });
        Ok(Self {
            made_by: made_by.to_owned(),
            counts: counts.collect::<Result<_, _>>()?,
        })
    }

    /// Compares these counts with recorded ones.
    ///
    /// # Errors
    ///
    /// Where one is beyond its bound, or is not recorded.
    pub(super) fn compare(&self, recorded: &Self, report: &Report) -> Outcome<()> {
        if self.made_by != recorded.made_by {
            report.say(&self.to_string());
            report.say(&format!(
                "nothing is compared: the record is of {}, and this is {}. Run make \
                 instructions-record where CI has this compiler",
                recorded.made_by, self.made_by
            ));
            return Ok(());
        }
        let mut wrong = Vec::new();
        report.say(&format!(
            "{:<28} {:>10} {:>10} {:>8}",
            "", "now", "recorded", "ratio"
        ));
        for Count { name, each } in &self.counts {
            let before = recorded.counts.iter().find(|count| count.name == *name);
            let Some(before) = before else {
                wrong.push(format!("{name} is not recorded"));
                continue;
            };
            let ratio = *each as f64 / before.each as f64;
            let remark = match ratio {
                ratio if ratio > BOUND => {
                    wrong.push(format!("{name} takes {ratio:.2} x as many instructions"));
                    "  TOO MANY"
                }
                ratio if ratio < BETTER => "  fewer: run make instructions-record",
                _ => "",
            };
            report.say(&format!(
                "{name:<28} {each:>10} {:>10} {ratio:>8.3}{remark}",
                before.each
            ));
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{}; the bound is {BOUND}. If it has to be so, run make instructions-record",
                wrong.join("; ")
            )
            .into()),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}{}", self.made_by)?;
        for Count { name, each } in &self.counts {
            writeln!(f, "{name:<28} {each:>10}")?;
        }
        Ok(())
    }
}
