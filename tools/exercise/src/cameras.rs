// SPDX-License-Identifier: MPL-2.0

//! Live cameras that share an engine or a server: how many captions each gets, how old they are, what
//! is dropped, and what becomes of all that when something is killed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

pub const HELP: &str = "\
vlmcaption-exercise cameras COUNT SECONDS [options] [PROPERTY=VALUE...]

Plays COUNT live cameras for SECONDS, each through a vlmcaption with the properties, and prints what
each got. Counting begins when all have had a caption.

  --rtsp SCRIPT       the cameras are clients of this RTSP server; else videotestsrc
  --fps N             frames a second of each camera (10)
  --pattern NAME      of videotestsrc (ball)
  --models DIR,...    the cameras take these models in turns: a folder or link each makes an engine each
  --engine-core N     engines run on this core alone (needs taskset)
  --kill PID          kills this process after a third of the time (several with commas), and says
                      what was lost and how soon captions came again
  --text TEXT         what every caption has to say; another one is a failure
  --json FILE         writes the figures";

/// What to play.
#[derive(Default)]
struct Options {
    count: usize,
    seconds: f64,
    rtsp: Option<String>,
    fps: u32,
    pattern: String,
    models: Vec<String>,
    core: Option<String>,
    kill: Vec<String>,
    text: Option<String>,
    json: Option<String>,
    properties: String,
}

/// A caption or a failure of one camera.
struct Event {
    camera: usize,
    at: Instant,
    what: What,
}

enum What {
    Caption {
        text: String,
        age: f64,
        wait: f64,
        total: f64,
        truncated: bool,
    },
    Failed(String),
}

/// One camera.
struct Camera {
    pipeline: gst::Pipeline,
    /// Seconds between two buffers behind the captioner: the longest, and since when.
    gap: Arc<Mutex<Gap>>,
    before: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Gap {
    last: Option<Instant>,
    longest: Duration,
}

/// Numbers of `stats` that are counted from the beginning of the measurement.
const COUNTED: [&str; 5] = [
    "windows",
    "captions",
    "dropped-windows",
    "failed",
    "dropped-frames",
];

/// Plays cameras as the words say.
///
/// # Errors
/// A word that is no option, a pipeline that breaks, or a caption that says something else.
pub fn run(words: &[&str]) -> Result<(), String> {
    let options = parse(words)?;
    let server = match &options.rtsp {
        Some(script) => Some(crate::camera::Server::start_at(
            script,
            options.fps,
            &options.pattern,
        )?),
        None => None,
    };
    let uri = server.as_ref().map(|server| server.uri().to_owned());
    let (send, events) = channel();
    let mut cameras = Vec::new();
    for number in 0..options.count {
        cameras.push(Camera::start(number, &options, uri.as_deref(), &send)?);
    }
    wait_for_all(&events, options.count)?;
    if let Some(core) = &options.core {
        pin_engines(core)?;
    }
    let began = Instant::now();
    let cpu = engine_seconds();
    cameras.iter_mut().for_each(Camera::begin);
    let mut heard = Vec::new();
    let killed = match options.kill.is_empty() {
        true => None,
        false => {
            listen(
                &events,
                began + Duration::from_secs_f64(options.seconds / 3.0),
                &mut heard,
            );
            cameras
                .iter()
                .for_each(|camera| camera.gap.lock().unwrap().longest = Duration::ZERO);
            for pid in &options.kill {
                command("kill", &["-9", pid])?;
            }
            Some(Instant::now())
        }
    };
    listen(
        &events,
        began + Duration::from_secs_f64(options.seconds),
        &mut heard,
    );
    let figures = Figures::of(&cameras, &heard, began, engine_seconds() - cpu);
    let lost = killed.map(|killed| outage(&heard, began, killed, options.count));
    drop(cameras);
    print!("{}{}", figures.text(), lost.unwrap_or_default());
    if let Some(file) = &options.json {
        std::fs::write(file, figures.json()).map_err(|error| format!("{file}: {error}"))?;
    }
    judge(&heard, options.text.as_deref())
}

fn parse(words: &[&str]) -> Result<Options, String> {
    let [count, seconds, rest @ ..] = words else {
        return Err(HELP.to_owned());
    };
    let no = |word: &str| format!("`{word}` is not a number that fits\n{HELP}");
    let mut options = Options {
        count: count.parse().map_err(|_| no(count))?,
        seconds: seconds.parse().map_err(|_| no(seconds))?,
        fps: 10,
        pattern: "ball".to_owned(),
        ..Options::default()
    };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if !word.starts_with("--") {
            let _ = write!(options.properties, " {word}");
            continue;
        }
        let value = *rest
            .next()
            .ok_or_else(|| format!("{word} needs a value\n{HELP}"))?;
        let list = || value.split(',').map(str::to_owned).collect();
        match *word {
            "--rtsp" => options.rtsp = Some(value.to_owned()),
            "--fps" => options.fps = value.parse().map_err(|_| no(value))?,
            "--pattern" => value.clone_into(&mut options.pattern),
            "--models" => options.models = list(),
            "--engine-core" => options.core = Some(value.to_owned()),
            "--kill" => options.kill = list(),
            "--text" => options.text = Some(value.to_owned()),
            "--json" => options.json = Some(value.to_owned()),
            _ => return Err(format!("there is no option {word}\n{HELP}")),
        }
    }
    Ok(options)
}

impl Camera {
    fn start(
        number: usize,
        options: &Options,
        uri: Option<&str>,
        events: &Sender<Event>,
    ) -> Result<Self, String> {
        let source = match uri {
            Some(uri) => format!(
                "rtspsrc location={uri} latency=100 protocols=tcp ! rtph264depay ! h264parse \
                 ! avdec_h264 max-threads=1"
            ),
            None => format!(
                "videotestsrc is-live=true pattern={} ! \
                 video/x-raw,format=I420,width=640,height=360,framerate={}/1",
                options.pattern, options.fps
            ),
        };
        let model = match options.models.get(number % options.models.len().max(1)) {
            Some(model) => format!("model={model}"),
            None => String::new(),
        };
        let line = format!(
            "{source} ! vlmcaption name=c {model} {} ! fakesink sync=false",
            options.properties
        );
        let pipeline = gst::parse::launch(&line).map_err(|error| format!("{error}: {line}"))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| "no pipeline")?;
        let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
        let events = events.clone();
        bus.set_sync_handler(move |_, message| {
            if let Some(what) = heard(message) {
                let at = Instant::now();
                let camera = number;
                let _ = events.send(Event { camera, at, what });
            }
            gst::BusSyncReply::Drop
        });
        let gap = Arc::new(Mutex::new(Gap::default()));
        let shared = gap.clone();
        let pad = pipeline
            .by_name("c")
            .and_then(|element| element.static_pad("src"));
        pad.ok_or("no source pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let mut gap = shared.lock().unwrap();
                let now = Instant::now();
                if let Some(last) = gap.last.replace(now) {
                    gap.longest = gap.longest.max(now - last);
                }
                gst::PadProbeReturn::Ok
            });
        let started = pipeline.set_state(gst::State::Playing);
        started.map_err(|error| format!("camera {number}: {error}"))?;
        Ok(Self {
            pipeline,
            gap,
            before: BTreeMap::new(),
        })
    }

    fn stats(&self) -> Option<gst::Structure> {
        Some(self.pipeline.by_name("c")?.property("stats"))
    }

    fn numbers(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.stats();
        let number = |name| stats.as_ref().and_then(|stats| stats.get::<u64>(name).ok());
        COUNTED.map(|name| (name, number(name).unwrap_or(0))).into()
    }

    /// Counts from now on.
    fn begin(&mut self) {
        self.before = self.numbers();
        self.gap.lock().unwrap().longest = Duration::ZERO;
    }

    /// What was counted.
    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let mut now = self.numbers();
        for (name, number) in &mut now {
            *number -= self.before.get(name).copied().unwrap_or(0).min(*number);
        }
        now
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // The measurement is over, or could not begin; either way this is the end.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What a message says that counts here.
fn heard(message: &gst::Message) -> Option<What> {
    match message.view() {
        gst::MessageView::Error(error) => Some(What::Failed(error.error().to_string())),
        gst::MessageView::Warning(warning) => Some(What::Failed(warning.error().to_string())),
        gst::MessageView::Element(element) => {
            let caption = element.structure()?;
            if caption.name() != "vlmcaption/caption" {
                return None;
            }
            let seconds = |name| caption.get::<u64>(name).unwrap_or(0) as f64 / 1e9;
            Some(What::Caption {
                text: caption.get("text").ok()?,
                age: seconds("age"),
                wait: seconds("queue-wait"),
                total: seconds("total"),
                truncated: caption.get("truncated").unwrap_or(false),
            })
        }
        _ => None,
    }
}

fn wait_for_all(events: &Receiver<Event>, count: usize) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = vec![false; count];
    let mut last = String::new();
    while seen.contains(&false) {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(event) = events.recv_timeout(left) else {
            let missing = seen.iter().filter(|seen| !**seen).count();
            return Err(format!(
                "{missing} of {count} cameras have no caption. {last}"
            ));
        };
        match event.what {
            What::Caption { .. } => seen[event.camera] = true,
            What::Failed(reason) => last = reason,
        }
    }
    Ok(())
}

/// Keeps what is heard until `deadline`.
fn listen(events: &Receiver<Event>, deadline: Instant, heard: &mut Vec<Event>) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(event) => heard.push(event),
            Err(_) => return,
        }
    }
}

/// The measurement.
struct Figures {
    seconds: f64,
    engine_cpu: f64,
    captions: Vec<u64>,
    windows: u64,
    dropped: u64,
    failed: u64,
    dropped_frames: u64,
    ages: Vec<f64>,
    waits: Vec<f64>,
    turns: Vec<f64>,
    push_p99: f64,
    push_max: f64,
    gap: f64,
    /// When the last frame of a window of each camera came, s; comparable among cameras.
    phases: Vec<f64>,
}

impl Figures {
    fn of(cameras: &[Camera], heard: &[Event], began: Instant, engine_cpu: f64) -> Self {
        let counted: Vec<_> = cameras.iter().map(Camera::counted).collect();
        let sum = |name: &str| counted.iter().map(|of| of[name]).sum();
        let stats: Vec<_> = cameras.iter().filter_map(Camera::stats).collect();
        let most = |name: &str| {
            let values = stats.iter().filter_map(|stats| stats.get::<u64>(name).ok());
            values.max().unwrap_or(0) as f64 / 1e9
        };
        let (mut ages, mut waits, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        let mut phases = BTreeMap::new();
        for event in heard {
            if let What::Caption {
                age, wait, total, ..
            } = &event.what
            {
                let came = (event.at - began).as_secs_f64() - age;
                phases.entry(event.camera).or_insert(came);
                ages.push(*age);
                waits.push(*wait);
                turns.push(*total);
            }
        }
        for values in [&mut ages, &mut waits, &mut turns] {
            values.sort_by(f64::total_cmp);
        }
        let gaps = cameras
            .iter()
            .map(|camera| camera.gap.lock().unwrap().longest);
        Self {
            seconds: began.elapsed().as_secs_f64(),
            engine_cpu,
            captions: counted.iter().map(|of| of["captions"]).collect(),
            windows: sum("windows"),
            dropped: sum("dropped-windows"),
            failed: sum("failed"),
            dropped_frames: sum("dropped-frames"),
            ages,
            waits,
            turns,
            push_p99: most("push-p99"),
            push_max: most("push-max"),
            gap: gaps.max().unwrap_or_default().as_secs_f64(),
            phases: phases.into_values().collect(),
        }
    }

    fn total(&self) -> u64 {
        self.captions.iter().sum()
    }

    /// The most captions of a camera by the fewest.
    fn spread(&self) -> f64 {
        let most = self.captions.iter().max().copied().unwrap_or(0);
        let fewest = self.captions.iter().min().copied().unwrap_or(0);
        most as f64 / fewest.max(1) as f64
    }

    fn share_dropped(&self) -> f64 {
        self.dropped as f64 / self.windows.max(1) as f64
    }

    fn text(&self) -> String {
        let rate = self.total() as f64 / self.seconds;
        format!(
            "{} cameras, {:.1} s: {} captions, {rate:.2} a second; each {:?}, most by fewest {:.2}\n\
             windows {}, dropped {} ({:.1} %), failed {}; frames dropped {}\n\
             age at the caption, s: mean {:.3}, p50 {:.3}, p95 {:.3}; waited mean {:.3}; turn mean {:.4}\n\
             engine threads {:.2} s CPU, {:.4} a caption\n\
             push p99 {:.0} us, longest {:.0} us; longest gap between buffers {:.3} s; load {}\n",
            self.captions.len(),
            self.seconds,
            self.total(),
            self.captions,
            self.spread(),
            self.windows,
            self.dropped,
            100.0 * self.share_dropped(),
            self.failed,
            self.dropped_frames,
            mean(&self.ages),
            percentile(&self.ages, 0.5),
            percentile(&self.ages, 0.95),
            mean(&self.waits),
            mean(&self.turns),
            self.engine_cpu,
            self.engine_cpu / self.total().max(1) as f64,
            self.push_p99 * 1e6,
            self.push_max * 1e6,
            self.gap,
            std::fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .trim(),
        )
    }

    fn json(&self) -> String {
        let made = serde_json::json!({
            "cameras": self.captions.len(),
            "seconds": self.seconds,
            "captions": self.captions,
            "windows": self.windows,
            "dropped": self.dropped,
            "age_mean": mean(&self.ages),
            "age_p50": percentile(&self.ages, 0.5),
            "age_p95": percentile(&self.ages, 0.95),
            "wait_mean": mean(&self.waits),
            "turn_mean": mean(&self.turns),
            "engine_cpu": self.engine_cpu,
            "push_p99": self.push_p99,
            "phases": self.phases,
        });
        format!("{made:#}\n")
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of sorted values.
fn percentile(values: &[f64], part: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * part).round() as usize)
        .copied()
        .unwrap_or(0.0)
}

/// What a death at `killed` cost.
fn outage(heard: &[Event], began: Instant, killed: Instant, count: usize) -> String {
    let captions = |from: Instant, to: Instant| {
        let of = heard
            .iter()
            .filter(|e| matches!(e.what, What::Caption { .. }));
        of.filter(|event| event.at >= from && event.at < to).count() as f64
    };
    let end = heard.last().map_or(killed, |event| event.at);
    let before = captions(began, killed) / (killed - began).as_secs_f64();
    let second = Duration::from_secs(1);
    let mut text = format!("{before:.2} captions a second before; after, second by second:");
    let mut at = killed;
    while at + second <= end {
        let n = captions(at, at + second);
        let _ = write!(text, " {n}");
        at += second;
    }
    let expected = before * (end - killed).as_secs_f64();
    let lost = (expected - captions(killed, end + second)).max(0.0);
    let mut seen = vec![false; count];
    let mut recovered = None;
    for event in heard.iter().filter(|event| event.at > killed) {
        if matches!(event.what, What::Caption { .. }) {
            seen[event.camera] = true;
            if !seen.contains(&false) {
                recovered = Some((event.at - killed).as_secs_f64());
                break;
            }
        }
    }
    let failures = |event: &&Event| matches!(event.what, What::Failed(_)) && event.at > killed;
    let failed: Vec<_> = heard.iter().filter(failures).collect();
    let last = failed
        .last()
        .map_or(0.0, |event| (event.at - killed).as_secs_f64());
    let _ = write!(
        text,
        "\n{:.1} % of the captions of the rest of the run are missing; {} warnings, the last {last:.1} s \
         after the death; ",
        100.0 * lost / expected.max(1.0),
        failed.len()
    );
    let _ = match recovered {
        Some(seconds) => writeln!(
            text,
            "all cameras had a new caption {seconds:.1} s after it"
        ),
        None => writeln!(text, "NOT all cameras had a new caption"),
    };
    for event in failed.iter().take(3) {
        if let What::Failed(reason) = &event.what {
            let _ = writeln!(text, "camera {}: {reason}", event.camera);
        }
    }
    text
}

/// Whether every caption says what it has to, whole.
fn judge(heard: &[Event], want: Option<&str>) -> Result<(), String> {
    let Some(want) = want else { return Ok(()) };
    let mut said = 0;
    for event in heard {
        if let What::Caption {
            text, truncated, ..
        } = &event.what
        {
            said += 1;
            if text != want || *truncated {
                return Err(format!(
                    "camera {} says `{text}`, not `{want}`",
                    event.camera
                ));
            }
        }
    }
    println!("all {said} captions say `{want}`");
    match said {
        0 => Err("there was no caption".to_owned()),
        _ => Ok(()),
    }
}

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
fn engine_seconds() -> f64 {
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

fn pin_engines(core: &str) -> Result<(), String> {
    for (id, _) in engines() {
        command("taskset", &["-pc", core, &id])?;
    }
    Ok(())
}

fn command(name: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(name).args(arguments).output();
    let done = done.map_err(|error| format!("{name} does not start: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}
