// SPDX-License-Identifier: MPL-2.0

//! How likely each question's yes is over time, as an SVG picture.

use std::fmt::Write;

use crate::rows::{Point, Row};

const WIDTH: f64 = 800.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 30.0;
const GAP: f64 = 46.0;

/// Told apart also by those who do not see red and green alike (Okabe and Ito).
const LINE: &str = "#0072b2";
const TRUE: &str = "#f0e442";
const BEST: &str = "#d55e00";
const SET: &str = "#009e73";

/// Where a threshold's name stands beside its line, so that two that are alike can be read.
const ABOVE: f64 = -3.0;
const BELOW: f64 = 12.0;

/// One panel a question.
pub fn svg(rows: &[Row]) -> String {
    let height = TOP + rows.len() as f64 * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (n, row) in rows.iter().enumerate() {
        panel(&mut out, row, TOP + n as f64 * (PANEL + GAP));
    }
    out.push_str("</svg>\n");
    out
}

/// Where a panel's points lie.
struct Scale {
    top: f64,
    first: f64,
    span: f64,
}

impl Scale {
    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at - self.first) / self.span
    }

    fn y(&self, p: f64) -> f64 {
        self.top + PANEL * (1.0 - p)
    }
}

fn panel(out: &mut String, row: &Row, top: f64) {
    let points = &row.points;
    let first = points.first().map_or(0.0, |point| point.at);
    let last = points.last().map_or(0.0, |point| point.at);
    let scale = Scale {
        top,
        first,
        span: (last - first).max(1e-9),
    };
    let end = WIDTH - RIGHT;
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"14\">{}: p of yes</text>",
        top - 8.0,
        escaped(&row.question.id)
    );
    shade(out, points, &scale);
    for step in [0.0, 0.5, 1.0] {
        let y = scale.y(step);
        let _ = writeln!(
            out,
            "<path stroke=\"#ccc\" d=\"M{LEFT} {y:.1}H{end}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{step}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    if let Some(threshold) = row.question.threshold {
        let name = format!("as set {threshold:.2}");
        rule(out, &scale, threshold, SET, (&name, ABOVE));
    }
    if let Some(best) = row.best() {
        let name = format!("best {:.2}", best.threshold);
        rule(out, &scale, best.threshold, BEST, (&name, BELOW));
    }
    let line = points
        .iter()
        .map(|p| format!("{:.1},{:.1}", scale.x(p.at), scale.y(p.p)));
    let line: Vec<String> = line.collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"{LINE}\" stroke-width=\"1.5\" points=\"{}\"/>",
        line.join(" ")
    );
    for point in points {
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{LINE}\"><title>{} p {:.3}</title></circle>",
            scale.x(point.at),
            scale.y(point.p),
            escaped(&point.id),
            point.p
        );
    }
    let below = top + PANEL + 16.0;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{below:.1}\">0 s</text>\
         <text x=\"{end}\" y=\"{below:.1}\" text-anchor=\"end\">{:.0} s</text>",
        last - first
    );
}

/// Shades the times at which the question is true, as it is marked.
fn shade(out: &mut String, points: &[Point], scale: &Scale) {
    let runs = points.chunk_by(|a, b| a.truth == b.truth);
    let mut after = 0;
    for run in runs {
        let before = after;
        after += run.len();
        if run[0].truth != Some(true) {
            continue;
        }
        // Half way to what is marked otherwise.
        let middle = |a: usize, b: usize| f64::midpoint(points[a].at, points[b].at);
        let from = if before == 0 {
            points[0].at
        } else {
            middle(before - 1, before)
        };
        let to = match after == points.len() {
            true => points[after - 1].at,
            false => middle(after - 1, after),
        };
        let (x, top) = (scale.x(from), scale.top);
        let width = (scale.x(to) - x).max(2.0);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{PANEL}\" \
             fill=\"{TRUE}\" opacity=\"0.4\"><title>marked yes</title></rect>"
        );
    }
}

/// A threshold.
fn rule(out: &mut String, scale: &Scale, at: f64, colour: &str, (name, beside): (&str, f64)) {
    let (y, end) = (scale.y(at), WIDTH - RIGHT);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<path stroke=\"{colour}\" stroke-dasharray=\"5 4\" d=\"M{LEFT} {y:.1}H{end}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
        end + 8.0,
        y + beside
    );
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::tests::row;

    #[test]
    fn every_point_and_both_thresholds_are_drawn_and_truth_is_shaded() {
        let (yes, no) = (Some(true), Some(false));
        let mut row = row(&[(0.1, no), (0.9, yes), (0.8, yes), (0.2, no)]);
        row.question.id = "a<b".into();
        let svg = svg(&[row]);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("marked yes").count(), 1);
        assert!(
            svg.contains("as set 0.50") && svg.contains("best 0.50"),
            "{svg}"
        );
        assert!(svg.contains("a&lt;b: p of yes"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
