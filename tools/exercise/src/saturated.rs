// SPDX-License-Identifier: MPL-2.0

//! Many elements that share a model which cannot keep up: the normal state of a small box, for months
//! of the streams' time in minutes of ours.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::slope::{Line, NOISE_KIB, resident_kib};

/// Time between two buffers of an element: enough to prepare each.
const PACE: Duration = Duration::from_millis(3);
/// The run is cut into so many parts of equal numbers of windows.
const PARTS: usize = 10;
/// Looks at the memory in each part.
const LOOKS: usize = 10;
/// The last part's 99th percentile may be so much of the first's: other programs run here, too.
const FLAT: f64 = 2.0;
/// A push below this is not held against the element, whatever it was before, ns.
const UNHEARD: u64 = 500_000;

/// Times of pushes, each bucket an eighth of an octave wide; it has its whole size from the start.
struct Times([AtomicU64; 512]);

impl Times {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(8);
        let octave = nanos.ilog2();
        let eighth = (nanos >> (octave - 3)) & 7;
        self.0[(octave * 8) as usize + eighth as usize].fetch_add(1, Relaxed);
    }

    /// Upper bound of the bucket that holds the 99th percentile, ns.
    fn p99(&self) -> u64 {
        let total: u64 = self.0.iter().map(|bucket| bucket.load(Relaxed)).sum();
        let mut left = total / 100;
        for (i, bucket) in self.0.iter().enumerate().rev() {
            let n = bucket.load(Relaxed);
            if n > left {
                return (9 + (i as u64 & 7)) << ((i >> 3) - 3);
            }
            left -= n;
        }
        0
    }
}

/// What the pads' probes share.
struct Pushes {
    parts: [Times; PARTS],
    part: AtomicU64,
}

/// Has `elements` elements caption `windows` windows between them, most of which are dropped, and
/// prints the slope of the memory and the 99th percentiles of pushes in each tenth.
///
/// # Errors
/// A stream broke, windows do not come, or something grows.
pub fn run(windows: u64, elements: usize) -> Result<(), String> {
    let pushes = Arc::new(Pushes {
        parts: std::array::from_fn(|_| Times::new()),
        part: AtomicU64::new(0),
    });
    let script = script()?;
    let pipelines = (0..elements)
        .map(|_| Pipeline::new(&script, &pushes))
        .collect::<Result<Vec<_>, _>>()?;
    for pipeline in &pipelines {
        pipeline
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| error.to_string())?;
    }
    let looks = watch(&pipelines, windows, &pushes);
    for pipeline in &pipelines {
        let _ = pipeline.pipeline.set_state(gst::State::Null);
    }
    judge(&looks?, windows, &pushes)
}

/// One element and what it is fed with.
struct Pipeline {
    pipeline: gst::Element,
    element: gst::Element,
}

impl Pipeline {
    fn new(script: &str, pushes: &Arc<Pushes>) -> Result<Self, String> {
        let line = format!(
            "videotestsrc pattern=black ! video/x-raw,format=RGB,width=32,height=32,framerate=1/1 \
             ! identity sleep-time={} ! vlmcaption name=c backend=mock model={script} window=2 \
             sample-rate=1/1 drop-policy=latest scene-cuts=false ! fakesink",
            PACE.as_micros()
        );
        let pipeline = gst::parse::launch(&line).map_err(|error| error.to_string())?;
        let bin = pipeline.downcast_ref::<gst::Bin>().ok_or("no bin")?;
        let element = bin.by_name("c").ok_or("no element")?;
        // All of a push: both probes are called on the streaming thread.
        let begin = Instant::now();
        let entered = Arc::new(AtomicU64::new(0));
        let (came, now) = (entered.clone(), move || {
            u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
        });
        let pad = |name| element.static_pad(name).ok_or("no pad");
        pad("sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            came.store(now(), Relaxed);
            gst::PadProbeReturn::Ok
        });
        let pushes = pushes.clone();
        pad("src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let part = &pushes.parts[pushes.part.load(Relaxed) as usize];
            part.record(Duration::from_nanos(now() - entered.load(Relaxed)));
            gst::PadProbeReturn::Ok
        });
        Ok(Self { pipeline, element })
    }

    fn count(&self, field: &str) -> u64 {
        let stats: gst::Structure = self.element.property("stats");
        stats.get(field).unwrap_or(0)
    }

    /// What the bus says against it first; what it has said before is thrown away.
    fn error(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        while let Some(message) = bus.pop() {
            if let gst::MessageView::Error(error) = message.view() {
                return Some(error.error().to_string());
            }
        }
        None
    }
}

/// Looks at the memory until there were enough windows: windows and KiB.
fn watch(pipelines: &[Pipeline], windows: u64, pushes: &Pushes) -> Result<Vec<(f64, f64)>, String> {
    /// No window comes for so long: something hangs.
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut looks = Vec::with_capacity(PARTS * LOOKS);
    let total = |field: &str| pipelines.iter().map(|one| one.count(field)).sum::<u64>();
    let (mut before, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(error) = pipelines.iter().find_map(Pipeline::error) {
            return Err(error);
        }
        let n = total("windows");
        if n > before {
            (before, since) = (n, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(format!("no window for {PATIENCE:?} after {n}"));
        }
        let part = (n * PARTS as u64 / windows.max(1)).min(PARTS as u64 - 1);
        pushes.part.store(part, Relaxed);
        if n * (PARTS * LOOKS) as u64 >= windows * (looks.len() as u64 + 1) {
            let kib = resident_kib()?;
            looks.push((n as f64, kib));
            if looks.len().is_multiple_of(LOOKS) {
                let (captions, dropped) = (total("captions"), total("dropped-windows"));
                println!(
                    "{n:8} windows  {captions:6} captions  {dropped:8} dropped  {kib:8.0} KiB"
                );
            }
        }
        if n >= windows {
            return Ok(looks);
        }
    }
}

/// Says what was measured, and whether it is as it must be.
fn judge(looks: &[(f64, f64)], windows: u64, pushes: &Pushes) -> Result<(), String> {
    // The first tenth fills pools, caches and arenas.
    let line = Line::fit(&looks[looks.len().min(LOOKS)..]).ok_or("too few windows for a slope")?;
    println!(
        "slope {:.1} +- {:.1} bytes a window over {:.0} windows",
        line.slope * 1024.0,
        line.error * 1024.0,
        line.span
    );
    let p99: Vec<u64> = pushes.parts.iter().map(Times::p99).collect();
    let micros: Vec<String> = p99
        .iter()
        .map(|ns| format!("{:.0}", *ns as f64 / 1e3))
        .collect();
    println!(
        "p99 of a push by tenths of {windows} windows, us: {}",
        micros.join(" ")
    );
    if line.grows() {
        return Err("the memory grows".into());
    }
    let (first, last) = (p99[0], p99[PARTS - 1]);
    if last > UNHEARD && last as f64 > FLAT * first as f64 {
        return Err("pushes take longer and longer".into());
    }
    println!("no growth beyond {NOISE_KIB:.0} KiB and three standard errors, pushes are flat");
    Ok(())
}

/// A model that takes longer for a window than all streams need to fill many.
fn script() -> Result<String, String> {
    let name = format!("vlmcaption-saturated-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text = r#"[{"text": "Caption {n}.", "prefill-ms": 100}]"#;
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_is_that_of_the_slowest_in_a_hundred() {
        let times = Times::new();
        for _ in 0..980 {
            times.record(Duration::from_micros(10));
        }
        for _ in 0..20 {
            times.record(Duration::from_micros(1000));
        }
        let p99 = times.p99();
        assert!((1_000_000..1_150_000).contains(&p99), "{p99}");
    }
}
