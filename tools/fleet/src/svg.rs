// SPDX-License-Identifier: MPL-2.0

//! Line charts as small SVG files.

use std::fmt::Write;

/// One line.
pub struct Line {
    /// In the legend.
    pub name: String,
    /// By x.
    pub points: Vec<(f64, f64)>,
}

/// A chart; x is drawn in equal ratios, y from 0 in equal steps.
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// At most six.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 48.0;

/// Told apart also by those who do not see red and green alike (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

impl Chart {
    /// The file.
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        self.axes(&mut out);
        for (number, (line, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let points = line.points.iter();
            let points = points.map(|(x, y)| format!("{:.1},{:.1}", self.across(*x), self.up(*y)));
            let points: Vec<_> = points.collect();
            let y = TOP + 16.0 * (number as f64 + 0.5);
            let x = WIDTH - RIGHT + 10.0;
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n\
                 <path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{x} {y}h16\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                points.join(" "),
                x + 22.0,
                y + 4.0,
                line.name
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for n in 0..=4 {
            let value = self.top() * f64::from(n) / 4.0;
            let y = self.up(value);
            let _ = writeln!(
                out,
                "<path stroke=\"#ddd\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(value)
            );
        }
        let (low, high) = self.range();
        let mut x = low;
        while x <= high * 1.001 {
            let at = self.across(x);
            let _ = writeln!(
                out,
                "<path stroke=\"#ddd\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                short(x)
            );
            x *= if high / low > 100.0 { 10.0 } else { 2.0 };
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            self.x,
            (TOP + bottom) / 2.0,
            self.y
        );
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    fn range(&self) -> (f64, f64) {
        let low = self.points().map(|point| point.0).min_by(f64::total_cmp);
        let high = self.points().map(|point| point.0).max_by(f64::total_cmp);
        (low.unwrap_or(1.0), high.unwrap_or(1.0))
    }

    /// The number that the y axis ends with: 1, 2 or 5 times a power of ten, or four times that.
    fn top(&self) -> f64 {
        let highest = self.points().map(|point| point.1).fold(1e-3, f64::max);
        let power = 10f64.powf(highest.log10().floor());
        let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
        let step = steps.iter().find(|step| **step * power >= highest * 0.999);
        step.unwrap_or(&10.0) * power
    }

    fn across(&self, x: f64) -> f64 {
        let (low, high) = self.range();
        let width = WIDTH - LEFT - RIGHT;
        LEFT + width * (x / low).ln() / (high / low).ln().max(1e-9)
    }

    fn up(&self, y: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        HEIGHT - BOTTOM - height * y / self.top()
    }
}

/// A number without zeros at its end.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_point_is_below_the_top_and_every_line_is_in_the_legend() {
        let line = |name: &str, y| Line {
            name: name.to_owned(),
            points: vec![(1.0, 0.0), (16.0, y)],
        };
        let chart = Chart {
            title: String::new(),
            x: String::new(),
            y: String::new(),
            lines: vec![line("few", 3.0), line("many", 15.0)],
        };
        assert!((chart.top() - 20.0).abs() < 1e-9);
        assert!(chart.up(15.0) > TOP);
        let svg = chart.svg();
        assert!(svg.contains(">few<") && svg.contains(">many<"));
    }
}
