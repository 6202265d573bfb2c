// SPDX-License-Identifier: MPL-2.0

//! Threads of engines, and programs that act on them.

use std::process::Command;

/// The threads of engines: number and the lines of their `stat`.
fn engines() -> Vec<(String, String)> {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    tasks
        .map(|task| (task.file_name().to_string_lossy().into_owned(), task.path()))
        .map(|(id, path)| (id, read(path.join("comm")), read(path.join("stat"))))
        .filter(|(_, name, _)| {
            ["vlmcaption-engi", "vlmcaption-slot", "vlm-cpu"]
                .iter()
                .any(|of| name.starts_with(of))
        })
        .map(|(id, _, stat)| (id, stat))
        .collect()
}

/// Processor time of the threads of engines, at the usual hundred ticks a second.
pub fn engine_seconds() -> f64 {
    let ticks = |stat: &str| {
        let after = stat.rsplit(") ").next()?;
        let mut fields = after.split(' ').skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some(user + system)
    };
    engines()
        .iter()
        .filter_map(|(_, stat)| ticks(stat))
        .sum::<f64>()
        / 100.0
}

/// Has them run on one core alone.
///
/// # Errors
/// What taskset says.
pub fn pin_engines(core: &str) -> Result<(), String> {
    for (id, _) in engines() {
        command("taskset", &["-pc", core, &id])?;
    }
    Ok(())
}

/// Runs a program of the system.
///
/// # Errors
/// What it says if it does not end well.
pub fn command(name: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(name).args(arguments).output();
    let done = done.map_err(|error| format!("{name} does not start: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}
