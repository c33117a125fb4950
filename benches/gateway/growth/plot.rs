//! A line chart as SVG, readable on a light and on a dark page.

use std::fmt::Write as _;

use super::page::thousands;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers at the left, the names at the right, the title and the axis.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// Lines across.
const STEPS: usize = 4;
/// Of lines, in this order: they differ without colour too, by their names at the end.
const COLOURS: [&str; 3] = ["#c2410c", "#2563eb", "#0f8a5f"];
/// Between two names.
const APART: f64 = 14.0;

/// A line, and what it is called.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(usize, f64)>,
}

/// Draws lines over the same points, which stand evenly.
pub(super) fn plot(title: &str, axis: &str, lines: &[Line]) -> String {
    let highest = lines.iter().flat_map(|line| &line.points);
    let top = round_up(highest.map(|(_, value)| *value).fold(0.0, f64::max));
    let count = lines.first().map_or(0, |line| line.points.len());
    let across = WIDTH - LEFT - RIGHT;
    let x = |index: usize| LEFT + across * index as f64 / (count.max(2) - 1) as f64;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-weight=\"600\" fill=\"#111827\">{title}</text>\n"
    );
    for step in 0..=STEPS {
        let value = top * step as f64 / STEPS as f64;
        let at = y(value);
        let (end, text) = (WIDTH - RIGHT, at + 4.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#d1d5db\"/>\
             <text x=\"{}\" y=\"{text:.1}\" text-anchor=\"end\" fill=\"#374151\">{}</text>",
            LEFT - 8.0,
            number(value)
        );
    }
    for (index, (at, _)) in lines
        .iter()
        .take(1)
        .flat_map(|line| line.points.iter().enumerate())
    {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#374151\">{}</text>",
            x(index),
            HEIGHT - BOTTOM + 18.0,
            thousands(*at)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#374151\">{axis}</text>",
        LEFT + across / 2.0,
        HEIGHT - 8.0
    );
    let mut ends: Vec<(usize, f64)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = line.points.iter().enumerate();
        let points: Vec<_> = points
            .map(|(index, (_, value))| format!("{:.1},{:.1}", x(index), y(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for point in &points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            let _ = writeln!(
                svg,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        if let Some((_, value)) = line.points.last() {
            ends.push((index, y(*value)));
        }
    }
    // Names that would lie on each other move down.
    ends.sort_unstable_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut lowest = f64::MIN;
    for (index, end) in ends {
        lowest = end.max(lowest + APART);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" fill=\"{}\">{}</text>",
            WIDTH - RIGHT + 10.0,
            lowest + 4.0,
            COLOURS[index % COLOURS.len()],
            lines[index].name
        );
    }
    svg + "</svg>\n"
}

/// To a number that four steps divide well.
fn round_up(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    let fitting = steps.iter().map(|step| step * magnitude);
    { fitting }
        .find(|top| *top >= value)
        .unwrap_or(10.0 * magnitude)
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10.0 || value == 0.0 => thousands(value.round() as usize),
        value => format!("{value:.1}"),
    }
}
