// SPDX-License-Identifier: MPL-2.0

//! Unique captions for minutes or days, and whether the process grows meanwhile.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::slope::{Line, NOISE_KIB, resident_kib};

/// Time from one look at the memory to the next.
const INTERVAL: Duration = Duration::from_secs(10);
/// Not looked at: until then pools, caches and arenas fill.
const WARM_UP: Duration = Duration::from_secs(60);

/// Captions a live stream for `minutes` with `rate` unique captions a second and prints the slope
/// of the resident memory, KiB an hour, with its standard error.
///
/// # Errors
/// The stream broke, captions are missing, or the memory grows by more than 1 MiB and three
/// standard errors.
pub fn run(minutes: f64, rate: u32) -> Result<(), String> {
    let script = script()?;
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc is-live=true pattern=black ! \
         video/x-raw,format=I420,width=64,height=48,framerate={fps}/1 ! \
         vlmcaption name=c backend=mock model={script} window=2 sample-rate={sampled}/1 \
             emit-partial=true ! \
         fakesink sync=true c.text_src ! fakesink sync=true async=false",
        fps = (rate * 4).max(10),
        sampled = rate * 2,
    ))
    .map_err(|error| error.to_string())?;
    let set_state = |state| {
        let set = pipeline.set_state(state);
        set.map_err(|error| error.to_string())
    };
    set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
    let begin = Instant::now();
    let end = Duration::from_secs_f64(minutes * 60.0);
    let mut captions = Captions::default();
    let mut look = INTERVAL;
    let mut looks: Vec<(f64, f64)> = Vec::new();
    while begin.elapsed() < end {
        if begin.elapsed() >= look {
            let (kib, n) = (resident_kib()?, captions.n);
            println!("{:8.0} s  {kib:9.0} KiB  {n} captions", look.as_secs_f64());
            if look >= WARM_UP {
                looks.push((look.as_secs_f64() / 3600.0, kib));
            }
            look += INTERVAL;
        }
        if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(200)) {
            captions.hear(&message)?;
        }
    }
    set_state(gst::State::Null)?;
    let expected = begin.elapsed().as_secs_f64() * f64::from(rate);
    println!("{} captions, {expected:.0} expected", captions.n);
    let line = Line::fit(&looks).ok_or("too short for a slope: give it three minutes")?;
    let per_caption = line.slope * 1024.0 / 3600.0 / f64::from(rate);
    println!(
        "slope {:.0} +- {:.0} KiB an hour over {:.2} hours ({per_caption:.1} bytes a caption), {} looks",
        line.slope,
        line.error,
        line.span,
        looks.len()
    );
    if (captions.n as f64) < 0.9 * expected {
        return Err("captions are missing: the machine is too slow for this rate".into());
    }
    if line.grows() {
        return Err("the memory grows".into());
    }
    println!("no growth beyond {NOISE_KIB:.0} KiB and three standard errors");
    Ok(())
}

/// The captions so far.
#[derive(Default)]
struct Captions {
    n: u64,
    last: String,
}

impl Captions {
    /// Counts a caption; an error that the bus tells, and a caption that comes twice, is one.
    fn hear(&mut self, message: &gst::Message) -> Result<(), String> {
        if let gst::MessageView::Error(error) = message.view() {
            return Err(error.error().to_string());
        }
        let fields = message.structure();
        if let Some(fields) = fields.filter(|f| f.name() == "vlmcaption/caption") {
            let text: String = fields.get("text").map_err(|error| error.to_string())?;
            if text == self.last {
                return Err(format!("the same caption twice: {text}"));
            }
            (self.n, self.last) = (self.n + 1, text);
        }
        Ok(())
    }
}

/// A mock's script whose every caption is new.
fn script() -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("vlmcaption-soak-{}.json", std::process::id()));
    let text = r#"[{"text": "Caption {n}: a person walks to the door and opens it.", "token-ms": 1},
                   {"text": "Caption {n}: a van stops at the gate; nobody gets out of it."}]"#;
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.display().to_string())
}
