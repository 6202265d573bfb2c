// SPDX-License-Identifier: MPL-2.0

//! `export`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::store::Error;
use crate::store::files::Layout;
use crate::store::reader::{Kept, Reader, Scope, Wanted};
use crate::time::{self, Millis};

use super::common::Common;

/// Write captions as JSON lines, CSV or WebVTT
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    common: Common,
    /// Since when: 2026-11-29, "2026-11-29 14:00", 14:00, or 2h for two hours ago
    #[arg(long, value_name = "TIME", default_value = "1d")]
    from: String,
    /// Until when; now if it is not there
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Of this camera alone; may be there several times
    #[arg(long, value_name = "ID")]
    camera: Vec<String>,
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Alarms that were marked as false in place of captions, as JSON lines
    #[arg(long, conflicts_with = "format")]
    false_alarms: bool,
    /// The file to write; the output if it is not there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
    /// For a spreadsheet; a cell that it would take for a formula begins with an apostrophe
    Csv,
    /// Subtitles; times count from --from
    Vtt,
}

impl Export {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        let now = Millis::now();
        let from = time::typed(&self.from, now)?;
        let to = self
            .to
            .as_deref()
            .map_or(Ok(now), |text| time::typed(text, now))?;
        let known: BTreeSet<&str> = config
            .cameras
            .iter()
            .map(|camera| camera.id.as_str())
            .collect();
        let scope = if self.camera.is_empty() {
            Scope::All
        } else {
            Scope::Cameras(self.camera.iter().cloned().collect())
        };
        let mut out: Box<dyn std::io::Write> = match &self.output {
            Some(path) => Box::new(
                std::fs::File::create(path)
                    .map_err(|error| format!("{}: {error}", path.display()))?,
            ),
            None => Box::new(std::io::stdout().lock()),
        };
        let mut out = std::io::BufWriter::new(&mut out);
        let mut reader = Reader::new(Layout::new(&config.storage.path));
        let name = self.output.clone().unwrap_or_else(|| "the output".into());
        let mut write = |text: String| {
            use std::io::Write;
            match out.write_all(text.as_bytes()) {
                Ok(()) => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    std::process::exit(0)
                }
                Err(error) => Err(Error::file(&name)(error)),
            }
        };
        let mut n = 0;
        if self.false_alarms {
            let lines = false_alarms(&mut reader, &config, &scope, (from, to))
                .map_err(|error| error.to_string())?;
            for line in &lines {
                write(line.clone()).map_err(|error| error.to_string())?;
            }
            eprintln!(
                "{} false alarms from {} to {}",
                lines.len(),
                from.local(),
                to.local()
            );
            use std::io::Write;
            return out.flush().map_err(|error| error.to_string());
        }
        let mut all = || {
            write(head(self.format).to_owned())?;
            reader.each_caption(&scope, from, to, &mut |kept| {
                n += 1;
                write(entry(self.format, &kept, from))
            })
        };
        all().map_err(|error| error.to_string())?;
        use std::io::Write;
        out.flush().map_err(|error| error.to_string())?;
        for id in self.camera.iter().filter(|id| !known.contains(id.as_str())) {
            eprintln!(
                "no camera is called {id} in the file; what is kept of it was written all the same"
            );
        }
        eprintln!("{n} captions from {} to {}", from.local(), to.local());
        Ok(())
    }
}

/// Alarms that people called false, each with what was asked and answered: what one tunes with.
fn false_alarms(
    reader: &mut Reader,
    config: &Config,
    scope: &Scope,
    (from, to): (Millis, Millis),
) -> Result<Vec<String>, Error> {
    let wanted = Wanted {
        false_alarms: true,
        from: Some(from),
        to: Some(to),
        ..Wanted::default()
    };
    let mut events = reader.events(scope, &wanted, usize::MAX)?;
    events.reverse();
    let mut lines = Vec::new();
    for event in events {
        let camera = config
            .cameras
            .iter()
            .find(|camera| camera.id == event.camera);
        let asked = camera.and_then(|camera| {
            let mut alarms = camera.alarms.iter();
            alarms.find(|alarm| alarm.id == event.alarm)
        });
        let points = reader.trace(event.id)?;
        let trace = points
            .iter()
            .map(|(at, probability)| serde_json::json!([at.to_string(), probability]));
        let line = serde_json::json!({
            "id": event.id.to_string(),
            "camera": event.camera,
            "alarm": event.alarm,
            "question": asked.map(|alarm| &alarm.question),
            "on": asked.map(|alarm| alarm.on),
            "off": asked.map(|alarm| alarm.off),
            "start": event.start.to_string(),
            "end": event.end.map(|end| end.to_string()),
            "peak": event.peak,
            "caption": event.caption,
            "note": event.note,
            "trace": trace.collect::<Vec<_>>(),
        });
        lines.push(format!("{line}\n"));
    }
    Ok(lines)
}

fn head(format: Format) -> &'static str {
    match format {
        Format::Jsonl => "",
        Format::Csv => "start,end,camera,count,caption,model\r\n",
        Format::Vtt => "WEBVTT\n\n",
    }
}

fn entry(format: Format, kept: &Kept, from: Millis) -> String {
    match format {
        Format::Jsonl => {
            let line = serde_json::json!({
                "id": kept.id.number().to_string(),
                "camera": kept.camera,
                "start": kept.start.to_string(),
                "end": kept.end.to_string(),
                "until": kept.until.to_string(),
                "count": kept.count,
                "text": kept.text,
                "model": kept.model,
            });
            format!("{line}\n")
        }
        Format::Csv => {
            let (start, until) = (kept.start.to_string(), kept.until.to_string());
            let count = kept.count.to_string();
            let cells = [
                &start,
                &until,
                &kept.camera,
                &count,
                &kept.text,
                &kept.model,
            ];
            let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
            format!("{}\r\n", cells.join(","))
        }
        Format::Vtt => {
            let since =
                |time: Millis| cue_time(time.0.saturating_sub(from.0).max(0).cast_unsigned());
            // A cue of no length is not shown.
            let end = kept.until.max(kept.start.plus(Duration::from_millis(1)));
            format!(
                "{} --> {}\n<v {}>{}\n\n",
                since(kept.start),
                since(end),
                cue(&kept.camera),
                cue(&kept.text)
            )
        }
    }
}

/// A cell of a table. What a spreadsheet would run as a formula is made a text.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = text.replace('"', "\"\"");
    if formula {
        format!("\"'{text}\"")
    } else {
        format!("\"{text}\"")
    }
}

/// The text of a cue, which cannot end it nor be a tag.
fn cue(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    text.split(['\r', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn cue_time(millis: u64) -> String {
    let seconds = millis / 1_000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reader::CaptionId;
    use crate::time::Week;

    fn kept(text: &str) -> Kept {
        Kept {
            id: CaptionId {
                week: Week(1),
                row: 1,
            },
            camera: "front".into(),
            start: Millis(61_000),
            end: Millis(64_000),
            until: Millis(64_000),
            count: 1,
            text: text.into(),
            model: "m".into(),
            spot: None,
        }
    }

    #[test]
    fn a_caption_is_no_formula_of_a_spreadsheet() {
        let line = entry(Format::Csv, &kept("=HYPERLINK(\"http://x\")"), Millis(0));
        assert!(line.contains("\"'=HYPERLINK(\"\"http://x\"\")\""), "{line}");
    }

    #[test]
    fn a_caption_is_no_tag_and_no_arrow_of_a_subtitle() {
        let text = entry(
            Format::Vtt,
            &kept("<script>\n\n00:00 --> 00:01"),
            Millis(60_000),
        );
        assert_eq!(
            text,
            "00:00:01.000 --> 00:00:04.000\n<v front>&lt;script&gt;\n00:00 --&gt; 00:01\n\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_line() {
        let line = entry(Format::Jsonl, &kept("a\nb"), Millis(0));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
