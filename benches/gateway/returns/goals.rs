//! What a return is to cost, beside what it did.

use super::table::Measured;
use crate::report::Report;

/// CPU of gateway and NATS together, in microseconds a client: nothing missed, 20 missed, and
/// two missed by 1,000 of 50,000 users.
const NOTHING: f64 = 150.0;
const TWENTY: f64 = 2.0 * NOTHING;
const FEW_OF_MANY: f64 = 500.0;
/// Clients a second, with 20 missed each.
const RATE: f64 = 4000.0;
/// A lone return over a plain connect and what its reads cost a bare client and NATS. Before
/// rounds kept what they have scanned, two runs had 1.3 to 1.6, 1.4 and 2.4.
const ALONE: [(&str, f64); 3] = [
    ("alone-500", 1.7),
    ("alone-5000", 1.6),
    ("alone-50000", 2.6),
];
/// The 99th percentile of sessions that stay, over what it was before.
const STAYED: f64 = 3.0;
/// A replayed message over a live one, for the gateway.
const REPLAYED: f64 = 1.5;

/// Prints each goal of which the rows were measured.
pub(super) fn tell(all: &[Measured], report: &Report) {
    report.title("Goals");
    let row = |name: &str| all.iter().find(|one| one.row.name == name);
    let most = |name: &str, what: &str, bound: f64, of: fn(&Measured) -> f64| {
        if let Some(one) = row(name) {
            goal(report, &format!("{name}: {what}"), of(one), bound, true);
        }
    };
    let both: fn(&Measured) -> f64 = |one| one.back.both();
    let what = "gateway and NATS, us a client";
    most("missed-0", what, NOTHING, both);
    most("missed-20", what, TWENTY, both);
    most("1000-of-50000", what, FEW_OF_MANY, both);
    if let Some(one) = row("missed-20") {
        let what = "missed-20: clients a second";
        goal(report, what, one.back.rate, RATE, false);
    }
    if let (Some(none), Some(some)) = (row("missed-0"), row("missed-20")) {
        let replayed = (some.back.gateway - none.back.gateway) / some.row.missed as f64;
        let what = format!(
            "a replayed message over a live one, gateway ({replayed:.1} over {:.1} us)",
            some.live
        );
        goal(report, &what, replayed / some.live, REPLAYED, true);
    }
    for (name, bound) in ALONE {
        let Some(one) = row(name) else { continue };
        if let Some(floor) = &one.floor {
            let what = format!("{name}: over a plain connect and its bare reads");
            goal(
                report,
                &what,
                one.back.both() / one.least_alone(floor),
                bound,
                true,
            );
        }
    }
    for one in all {
        let name = one.row.name;
        if let (Some(back), Some(plain)) = (one.back.stayed, one.plain.stayed) {
            let [ratio, connect] = [back, plain].map(|[before, during]| during / before);
            let what = format!(
                "{name}: p99 of sessions that stay, over before (plain connects: {connect:.1} x)"
            );
            goal(report, &what, ratio, STAYED, true);
        }
    }
    let sum = |of: fn(&Measured) -> u64| all.iter().map(of).sum::<u64>();
    let refused = sum(|one| one.back.refused + one.plain.refused);
    let lost = sum(|one| one.back.lost + one.plain.lost);
    let twice = sum(|one| one.back.twice + one.plain.twice);
    for (what, count) in [("refused", refused), ("lost", lost), ("twice", twice)] {
        goal(
            report,
            &format!("all rows: {what}"),
            count as f64,
            0.0,
            true,
        );
    }
}

fn goal(report: &Report, what: &str, value: f64, bound: f64, at_most: bool) {
    let (sign, met) = match at_most {
        true => ("<=", value <= bound),
        false => (">=", value >= bound),
    };
    let verdict = if met { "met" } else { "MISSED" };
    let value = if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    };
    report.say(&format!(
        "  {what:<80}{value:>8}  {sign} {bound:<6}{verdict}"
    ));
}
