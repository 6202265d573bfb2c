// SPDX-License-Identifier: MPL-2.0

//! The charts of `docs/scaling.md`. Every time in here was measured; where, the document says.

use std::path::Path;

use crate::report::Report;
use crate::scenario::{Pick, Scenario, Times};
use crate::simulation::simulate;
use crate::svg::{Chart, Line};

/// What is drawn of a simulation.
type Figure = fn(&Report) -> f64;

/// The demo model on vLLM's build for processors, one core a replica: 0.12 s alone, 24 a second
/// with four in flight.
fn server(cameras: usize, replicas: usize) -> Scenario {
    Scenario {
        cameras,
        replicas,
        pick: Pick::FirstCome,
        window: Times::Fixed(0.12),
        curve: vec![1.0, 1.8, 2.4, 2.88, 2.88, 2.88, 2.88, 2.88],
        seconds: 120.0,
        warm_up: 30.0,
        ..Scenario::default()
    }
}

/// The shapes of Qwen3-VL-2B in int8 on one thread: 1.5 s for a pair of 512x288 pixels, 1.34 s to
/// prefill it, 0.078 s a token, of which a caption has 24.
fn engine(cameras: usize, stride: f64) -> Scenario {
    Scenario {
        cameras,
        stride: Times::Fixed(stride),
        pair: 1.5,
        window: Times::Fixed(2.0 * 1.34 + 24.0 * 0.078),
        seconds: 3_600.0 * 4.0,
        warm_up: 600.0,
        ..Scenario::default()
    }
}

/// Writes all charts into `folder`.
///
/// # Errors
/// What the file system says.
pub fn write(folder: &Path) -> Result<(), String> {
    let figures: [(&str, &str, Figure); 3] = [
        (
            "captions",
            "captions a minute of a camera",
            Report::per_camera,
        ),
        ("age", "age of a caption (p95), s", |report| {
            report.age_at(0.95)
        }),
        ("dropped", "windows dropped, %", |report| {
            100.0 * report.share_dropped()
        }),
    ];
    let by_replicas = [1, 2, 4, 8, 16, 32].map(|replicas| {
        let counts = (0..).map(|n| (10.0 * 10f64.powf(f64::from(n) / 6.0)).round() as usize);
        let counts = counts.take_while(|count| *count <= 10_000);
        let runs = counts.map(|count| (count as f64, simulate(&server(count, replicas))));
        let name = match replicas {
            1 => "1 replica".to_owned(),
            n => format!("{n} replicas"),
        };
        (name, runs.collect::<Vec<_>>())
    });
    let by_stride = [4.0, 10.0, 30.0, 60.0].map(|stride| {
        let runs = (1..=16).map(|count| (count as f64, simulate(&engine(count, stride))));
        (format!("every {stride} s"), runs.collect::<Vec<_>>())
    });
    for (file, y, figure) in figures {
        let title = "A server that makes 24 captions a second, a window every 4 s";
        save(
            folder,
            &format!("server-{file}"),
            title,
            y,
            &by_replicas,
            figure,
        )?;
        let title = "The local engine, one thread, shapes of Qwen3-VL-2B, by stride";
        save(
            folder,
            &format!("engine-{file}"),
            title,
            y,
            &by_stride,
            figure,
        )?;
    }
    Ok(())
}

fn save(
    folder: &Path,
    file: &str,
    title: &str,
    y: &str,
    lines: &[(String, Vec<(f64, Report)>)],
    figure: Figure,
) -> Result<(), String> {
    let lines = lines.iter().map(|(name, runs)| Line {
        name: name.clone(),
        points: runs
            .iter()
            .map(|(x, report)| (*x, figure(report)))
            .collect(),
    });
    let chart = Chart {
        title: title.to_owned(),
        x: "cameras".to_owned(),
        y: y.to_owned(),
        lines: lines.collect(),
    };
    let path = folder.join(format!("{file}.svg"));
    std::fs::write(&path, chart.svg()).map_err(|error| format!("{}: {error}", path.display()))
}
