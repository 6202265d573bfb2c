// SPDX-License-Identifier: MPL-2.0

//! A day of sixteen cameras, or some: how long it takes to find something in it, and to draw it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::finding::Reach;
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};
use vlmcaption_watch::time::{Millis, Week};

use super::common::{keeper, say};

const CAMERAS: u64 = 16;
/// What the page waits for a search.
const PATIENCE: Duration = Duration::from_millis(50);
/// What people look at cameras for; a caption has one of them now and then.
const CHINESE: [&str; 4] = [
    "门口有一个快递。",
    "一个人站在门口。",
    "没有人。",
    "一辆红色的车停在路边。",
];

/// Numbers below others, the small ones far more often: a few words are in most captions, as in a language.
struct Draw(u64);

impl Draw {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let part = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        (part * part * below as f64) as usize
    }
}

/// A day of 16 cameras with a caption each 4 s, or as many as `WATCH_DAYS` says, and how long searches in it
/// take. Ignored, since it writes 345,600 captions a day; run it with
/// `cargo test -p vlmcaption-watch --test watch -- --ignored day --nocapture`.
#[test]
#[ignore = "writes a day of captions, some seconds"]
fn a_day_of_captions_is_searched_and_drawn_within_100_ms() {
    let days = std::env::var("WATCH_DAYS").map_or(1, |days| days.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let monday = Millis::parse("2026-11-23T00:00:00Z").unwrap();
    let end = monday.plus(Duration::from_secs(86_400 * days));
    let mut draw = Draw(88_172_645_463_325_252);
    let words: Vec<String> = (0..2_000).map(|n| format!("w{n:04}")).collect();
    write(folder.path(), monday, days, &words, &mut draw);

    let mut reader = Reader::new(Layout::new(folder.path()));
    let one: Scope = Scope::Cameras(BTreeSet::from(["camera3".into()]));
    let quiet = Scope::Cameras(BTreeSet::from(["quiet".into()]));
    let mut late = Vec::new();
    for (kind, scope) in [
        ("a word", &Scope::All),
        ("a common word", &Scope::All),
        ("two words", &Scope::All),
        ("a phrase", &Scope::All),
        ("a beginning", &Scope::All),
        ("a beginning without a word", &Scope::All),
        ("a word of a camera", &Scope::All),
        ("two hours", &Scope::All),
        ("Chinese", &Scope::All),
        ("no such word", &Scope::All),
        ("a word", &one),
        ("two words", &one),
        ("a beginning", &one),
        ("a common word", &quiet),
        ("a beginning", &quiet),
        ("a camera that says little", &Scope::All),
    ] {
        let times = (0..100).map(|_| {
            let (a, b) = (
                &words[draw.below(words.len())],
                &words[draw.below(words.len())],
            );
            let common = &words[draw.below(20)];
            let typed = match kind {
                "a common word" => common.clone(),
                "two words" => format!("{a} {b}"),
                "a phrase" => format!("\"{common} {}\"", words[draw.below(20)]),
                "a beginning" => format!("{}*", &a[..2 + draw.below(3)]),
                "a beginning without a word" => format!("{}* -{b}", &a[..3]),
                "a word of a camera" => format!("camera:camera{} {a}", draw.below(16)),
                "two hours" => {
                    format!("after:2026-11-23T10:00:00Z before:2026-11-23T12:00:00Z {a}")
                }
                "Chinese" => ["快递", "红色的车", "门口", "人"][draw.below(4)].to_owned(),
                "no such word" => "elephant".to_owned(),
                "a camera that says little" => format!("camera:quiet {common}"),
                _ => a.clone(),
            };
            let query = Query::parse(&typed, end).unwrap();
            let reach = Reach {
                patience: PATIENCE,
                ..Reach::of(200)
            };
            let begin = Instant::now();
            reader.search(scope, &query, &reach).unwrap();
            begin.elapsed()
        });
        let whose = match scope {
            Scope::All => "all",
            scope if *scope == one => "one camera's",
            Scope::Cameras(_) => "a quiet camera's",
        };
        late.push(told(&format!("{kind}, {whose}"), times.collect()));
    }
    late.extend(timelines(&mut reader, (monday, end), &mut draw));
    let most = Duration::from_millis(100);
    assert!(late.iter().all(|time| *time < most), "{late:?}");
}

/// Captions of twelve words, one in a hundred Chinese, and those of a camera that speaks four times an hour.
fn write(folder: &std::path::Path, monday: Millis, days: u64, words: &[String], draw: &mut Draw) {
    let mut keeper = keeper(folder, monday);
    let begin = Instant::now();
    for step in 0..21_600 * days {
        let at = monday.plus(Duration::from_secs(4 * step));
        for camera in 0..CAMERAS {
            let text: Vec<&str> = (0..12)
                .map(|_| words[draw.below(words.len())].as_str())
                .collect();
            let text = match (step + camera) % 100 {
                0 => CHINESE[draw.below(CHINESE.len())].to_owned(),
                _ => text.join(" "),
            };
            say(&mut keeper, &format!("camera{camera}"), at, &text);
        }
        if step % 225 == 0 {
            say(
                &mut keeper,
                "quiet",
                at,
                &format!("nothing {} {step}", words[30]),
            );
        }
        keeper.tick(at);
    }
    keeper.close(monday.plus(Duration::from_secs(86_400 * days)));
    let size = std::fs::metadata(Layout::new(folder).week(Week::of(monday))).unwrap();
    println!(
        "{} captions written in {:.1} s, {} bytes",
        21_600 * days * CAMERAS + 96 * days,
        begin.elapsed().as_secs_f64(),
        size.len()
    );
}

/// The timeline of all cameras from five minutes to thirty days, and what was said at a moment.
fn timelines(
    reader: &mut Reader,
    (monday, end): (Millis, Millis),
    draw: &mut Draw,
) -> [Duration; 2] {
    let cameras: BTreeSet<String> = (0..CAMERAS)
        .map(|camera| format!("camera{camera}"))
        .collect();
    let (mut drawn, mut moments) = (Vec::new(), Vec::new());
    let hour = Duration::from_secs(3_600);
    let span = usize::try_from(end.0 - monday.0).unwrap() / 1_000 - 3_700;
    for n in 0..200 {
        let seconds = [300, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400][n % 6];
        let to = monday.plus(hour + Duration::from_secs(draw.below(span) as u64));
        let from = to.minus(Duration::from_secs(seconds));
        let begin = Instant::now();
        let ticks = reader.ticks(&Scope::All, (from, to), 600).unwrap();
        let wanted = Wanted {
            from: Some(from),
            to: Some(to),
            ..Wanted::default()
        };
        reader.events(&Scope::All, &wanted, 2_000).unwrap();
        reader.phases(&Scope::All, from).unwrap();
        drawn.push(begin.elapsed());
        assert!(ticks.cameras.len() >= 16);
        let begin = Instant::now();
        let found = reader.moment(&Scope::All, &cameras, to).unwrap();
        moments.push(begin.elapsed());
        assert_eq!(found.len(), 16);
    }
    [told("timelines", drawn), told("moments", moments)]
}

/// Prints how long it took, in milliseconds, and gives the 95th percentile.
fn told(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let n = times.len();
    let late = times[n * 95 / 100];
    let ms = |time: Duration| 1e3 * time.as_secs_f64();
    println!(
        "{what:<45} p50 {:7.2}  p95 {:7.2}  p99 {:7.2}  most {:7.2} ms",
        ms(times[n / 2]),
        ms(late),
        ms(times[n * 99 / 100]),
        ms(times[n - 1])
    );
    late
}
