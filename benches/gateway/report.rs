//! The table.

use std::time::Instant;

/// Prints one figure a line, as soon as it is there.
pub(crate) struct Report {
    start: Instant,
    part: &'static str,
}

/// What a figure is wanted to be.
pub(crate) enum Target {
    /// The figure itself at most this.
    Most(f64),
    /// The figure over its floor at most this.
    Ratio(f64),
    /// Only to be known.
    None,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            part: "",
        }
    }

    /// The figures that follow belong to this.
    pub(crate) fn part(&mut self, part: &'static str) {
        self.part = part;
        println!("\n{part}");
        println!(
            "  {:<44} {:>10} {:>10} {:>7}   target",
            "", "measured", "floor", "ratio"
        );
    }

    /// A table of its own follows.
    pub(crate) fn title(&self, words: &str) {
        println!("\n{words}");
    }

    /// A figure, beside the floor that was measured with it.
    pub(crate) fn figure(&self, what: &str, value: f64, floor: Option<f64>, target: &Target) {
        let ratio = floor.map(|floor| value / floor);
        let (wanted, met) = match target {
            Target::Most(most) => (format!("<= {}", number(*most)), value <= *most),
            Target::Ratio(most) => (
                format!("<= {most} x"),
                ratio.is_some_and(|ratio| ratio <= *most),
            ),
            Target::None => (String::new(), true),
        };
        println!(
            "  {what:<44} {:>10} {:>10} {:>7}   {wanted}{}",
            number(value),
            floor.map(number).unwrap_or_default(),
            ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            if met { "" } else { "  MISSED" },
        );
    }

    /// A line of words.
    pub(crate) fn say(&self, words: &str) {
        println!("  {words}");
    }

    pub(crate) fn end(&self) {
        println!("\n{:.0} s in all", self.start.elapsed().as_secs_f64());
    }
}

fn number(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => {
            let thousands = v / 1000.0;
            if thousands >= 100.0 {
                format!("{thousands:.0}k")
            } else {
                format!("{thousands:.1}k")
            }
        }
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}

/// Of sorted values.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * percent / 100.0).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
