// SPDX-License-Identifier: MPL-2.0

//! The spans that `VLMCAPTION_TRACE` has written, as an SVG picture: what Perfetto shows, for a page of text.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::picture::escaped;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 24.0;
const ROW: f64 = 22.0;

/// Stages with their colours, told apart also by those who do not see red and green alike (Okabe and Ito).
const STAGES: [(&str, &str, &str); 5] = [
    ("window", "#bbbbbb", "black"),
    ("queue", "#e69f00", "black"),
    ("encode", "#56b4e9", "white"),
    ("prefill", "#0072b2", "white"),
    ("decode", "#009e73", "white"),
];
/// Rows of an element: its windows and their waits overlap its work.
const ROWS: [&str; 3] = ["window", "queue", "work"];

/// A span, ms.
struct Span {
    element: usize,
    stage: usize,
    window: u64,
    from: f64,
    to: f64,
}

/// Draws a file of spans into another.
///
/// # Errors
/// A sentence that says what is wrong with either.
pub fn draw(trace: &Path, svg: &Path) -> Result<(), String> {
    let say = |path: &Path, reason: String| format!("{}: {reason}", path.display());
    let text = std::fs::read_to_string(trace).map_err(|error| say(trace, error.to_string()))?;
    let (elements, spans) = read(&text).map_err(|reason| say(trace, reason))?;
    let picture = picture(&elements, &spans);
    std::fs::write(svg, picture).map_err(|error| say(svg, error.to_string()))
}

/// Elements and spans of a file.
fn read(text: &str) -> Result<(Vec<String>, Vec<Span>), String> {
    let events: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| format!("no file that VLMCAPTION_TRACE has written: {error}"))?;
    let (mut elements, mut places) = (Vec::new(), HashMap::new());
    let mut open: HashMap<String, f64> = HashMap::new();
    let mut spans = Vec::new();
    for event in &events {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let (track, at) = (event["tid"].as_u64(), event["ts"].as_f64());
        if text("ph") == "M" {
            places.insert(track, elements.len());
            elements.push(
                event["args"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
            continue;
        }
        let stage = STAGES.iter().position(|(name, ..)| *name == text("name"));
        let (Some(stage), Some(&element), Some(at)) = (stage, places.get(&track), at) else {
            return Err(format!("{event} is no span of vlmcaption"));
        };
        let span = |from: f64, to: f64| Span {
            element,
            stage,
            window: event["args"]["window"].as_u64().unwrap_or(0),
            from: from / 1e3,
            to: to / 1e3,
        };
        match text("ph") {
            "X" => spans.push(span(at, at + event["dur"].as_f64().unwrap_or(0.0))),
            "b" => drop(open.insert(text("id").to_owned(), at)),
            // One whose begin is missing is none.
            _ => spans.extend(open.remove(text("id")).map(|from| span(from, at))),
        }
    }
    match spans.is_empty() {
        true => Err("there is no span in it".into()),
        false => Ok((elements, spans)),
    }
}

fn picture(elements: &[String], spans: &[Span]) -> String {
    let first = spans.iter().map(|span| span.from).fold(f64::MAX, f64::min);
    let last = spans.iter().map(|span| span.to).fold(f64::MIN, f64::max);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at - first) / (last - first).max(1e-9);
    let rows = elements.len() * ROWS.len();
    let bottom = TOP + rows as f64 * ROW;
    let height = bottom + 42.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    // Writing to a string does not fail.
    for (n, element) in elements.iter().enumerate() {
        for (k, row) in ROWS.iter().enumerate() {
            let y = TOP + (n * ROWS.len() + k) as f64 * ROW;
            let whose = if k == 0 {
                escaped(element)
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{whose} {row}</text>\
                 <path stroke=\"#eee\" d=\"M{LEFT} {:.0}H{:.0}\"/>",
                LEFT - 6.0,
                y + 13.0,
                y + 20.0,
                WIDTH - RIGHT
            );
        }
    }
    for span in spans {
        bar(&mut out, span, x(span.from), x(span.to));
    }
    for step in 0..=8 {
        let at = first + (last - first) * f64::from(step) / 8.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{:.0} ms</text>",
            x(at),
            bottom + 14.0,
            at - first
        );
    }
    for (n, (stage, fill, _)) in STAGES.iter().enumerate() {
        let at = LEFT + 80.0 * n as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{at:.0}\" y=\"{:.0}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{stage}</text>",
            bottom + 20.0,
            at + 16.0,
            bottom + 30.0
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A span from one place to another, with its name where there is room for it.
fn bar(out: &mut String, span: &Span, left: f64, right: f64) {
    let (stage, fill, ink) = STAGES[span.stage];
    let row = span.element * ROWS.len() + span.stage.min(ROWS.len() - 1);
    let (y, width) = (TOP + row as f64 * ROW, (right - left).max(0.5));
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"18\" fill=\"{fill}\" \
         stroke=\"white\" stroke-width=\"0.5\"><title>{stage} of window {}: {:.1} ms</title></rect>",
        span.window,
        span.to - span.from
    );
    if width > 6.4 * (stage.len() + 2) as f64 {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" fill=\"{ink}\">{stage} {}</text>",
            left + 3.0,
            y + 13.0,
            span.window
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"[
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "a<b"}},
        {"ph": "b", "name": "queue", "tid": 1, "ts": 1000.0, "id": "1.1.queue", "args": {"window": 1}},
        {"ph": "e", "name": "queue", "tid": 1, "ts": 3000.0, "id": "1.1.queue", "args": {"window": 1}},
        {"ph": "X", "name": "decode", "tid": 1, "ts": 3000.0, "dur": 7000.0, "args": {"window": 1}}
    ]"#;

    #[test]
    fn each_span_is_a_bar_as_long_as_it_took() {
        let (elements, spans) = read(TRACE).unwrap();
        let svg = picture(&elements, &spans);
        assert!(svg.contains("a&lt;b window"), "{svg}");
        assert!(svg.contains("<title>queue of window 1: 2.0 ms</title>"));
        assert!(svg.contains("<title>decode of window 1: 7.0 ms</title>"));
        // From 90 to 760 are nine milliseconds.
        let decode = svg.lines().find(|line| line.contains("decode of")).unwrap();
        assert!(
            decode.contains("x=\"238.9\"") && decode.contains("width=\"521.1\""),
            "{decode}"
        );
    }

    #[test]
    fn what_is_no_trace_is_told() {
        for (text, want) in [
            ("{", "no file that VLMCAPTION_TRACE has written"),
            ("[]", "no span in it"),
            (
                r#"[{"ph": "X", "name": "other", "tid": 1, "ts": 1}]"#,
                "is no span of vlmcaption",
            ),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.contains(want), "{error}");
        }
    }
}
