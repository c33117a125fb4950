//! What a return is to cost, beside what it did.

use super::table::{Cost, Measured};
use crate::report::Report;

/// CPU of gateway and NATS together, in microseconds a client: nothing missed, 20 missed, and
/// two missed by 1,000 of 50,000 users.
const NOTHING: f64 = 150.0;
const TWENTY: f64 = 2.0 * NOTHING;
const FEW_OF_MANY: f64 = 500.0;
/// Clients a second, with 20 missed each.
const RATE: f64 = 4000.0;
/// A lone return over a plain connect and what its reads cost a bare client and NATS: what
/// runs had before rounds kept what they have scanned (1.3 to 2.2, 1.4 to 1.5, and 2.4), and a
/// tenth more.
const ALONE: [(&str, f64); 3] = [
    ("alone-500", 2.4),
    ("alone-5000", 1.7),
    ("alone-50000", 2.7),
];
/// The 99th percentile of sessions that stay, over what it was before.
const STAYED: f64 = 3.0;
/// A replayed message over a live one, for the gateway.
const REPLAYED: f64 = 1.5;

/// What a figure is to be.
enum Bound {
    Most(f64),
    Least(f64),
}

/// Prints each goal of which the rows were measured.
pub(super) fn tell(all: &[Measured], report: &Report) {
    report.title("Goals");
    let row = |name: &str| all.iter().find(|one| one.row.name == name);
    let costs = [
        ("missed-0", NOTHING),
        ("missed-20", TWENTY),
        ("1000-of-50000", FEW_OF_MANY),
    ];
    for (name, bound) in costs {
        if let Some(one) = row(name) {
            let what = format!("{name}: gateway and NATS, us a client");
            goal(report, &what, one.back.both(), Bound::Most(bound));
        }
    }
    if let Some(one) = row("missed-20") {
        let what = "missed-20: clients a second";
        goal(report, what, one.back.rate, Bound::Least(RATE));
    }
    if let (Some(none), Some(some)) = (row("missed-0"), row("missed-20")) {
        let replayed = (some.back.gateway - none.back.gateway) / some.row.missed as f64;
        let what = format!(
            "a replayed message over a live one, gateway ({replayed:.1} over {:.1} us)",
            some.live
        );
        goal(report, &what, replayed / some.live, Bound::Most(REPLAYED));
    }
    for (name, bound) in ALONE {
        let Some(one) = row(name) else { continue };
        if let Some(floor) = &one.floor {
            let what = format!("{name}: over a plain connect and its bare reads");
            let ratio = one.back.both() / one.least_alone(floor);
            goal(report, &what, ratio, Bound::Most(bound));
        }
    }
    for one in all {
        let name = one.row.name;
        if let (Some(back), Some(plain)) = (one.back.stayed, one.plain.stayed) {
            let [ratio, connect] = [back, plain].map(|[before, during]| during / before);
            let what = format!(
                "{name}: p99 of sessions that stay, over before (plain connects: {connect:.1} x)"
            );
            goal(report, &what, ratio, Bound::Most(STAYED));
        }
    }
    let sum = |of: fn(&Cost) -> u64| {
        let each = all.iter().map(|one| of(&one.plain) + of(&one.back));
        each.sum::<u64>() as f64
    };
    for (what, count) in [
        ("refused", sum(Cost::refused)),
        ("lost", sum(|cost| cost.lost)),
        ("twice", sum(|cost| cost.twice)),
    ] {
        goal(
            report,
            &format!("all rows: {what}"),
            count,
            Bound::Most(0.0),
        );
    }
}

fn goal(report: &Report, what: &str, value: f64, bound: Bound) {
    let (wanted, met) = match bound {
        Bound::Most(most) => (format!("<= {most}"), value <= most),
        Bound::Least(least) => (format!(">= {least}"), value >= least),
    };
    let verdict = if met { "met" } else { "MISSED" };
    let value = match value {
        small if small < 10.0 && small > 0.0 => format!("{small:.2}"),
        value => format!("{value:.0}"),
    };
    report.say(&format!("{what:<80}{value:>8}  {wanted:<8} {verdict}"));
}
