// SPDX-License-Identifier: MPL-2.0

//! A day of sixteen cameras: how long it takes to find something in it, and to draw it.

use std::time::Duration;

use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};
use vlmcaption_watch::time::{Millis, Week};

use super::common::{keeper, say};

/// A day of 16 cameras with a caption each 4 s, and how long a search in it takes. Ignored, since it
/// writes 345,600 captions; run it with `cargo test -p vlmcaption-watch --test watch -- --ignored day --nocapture`.
#[test]
#[ignore = "writes a day of captions, some minutes"]
fn a_day_of_captions_is_searched_and_drawn_within_100_ms() {
    let folder = tempfile::tempdir().unwrap();
    let midnight = Millis::parse("2026-11-25T00:00:00Z").unwrap();
    let mut keeper = keeper(folder.path(), midnight);
    let words: Vec<String> = (0..2_000).map(|n| format!("w{n:04}")).collect();
    let mut random = 88_172_645_463_325_252_u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Squared: a few words are in most captions, as in a language.
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        (part * part * below as f64) as usize
    };
    let begin = std::time::Instant::now();
    for step in 0..21_600 {
        let at = midnight.plus(Duration::from_secs(4 * step));
        for camera in 0..16 {
            let text: Vec<&str> = (0..12).map(|_| words[draw(words.len())].as_str()).collect();
            say(&mut keeper, &format!("camera{camera}"), at, &text.join(" "));
        }
        keeper.tick(at);
    }
    keeper.close(midnight.plus(Duration::from_secs(86_400)));
    let size: u64 = std::fs::metadata(Layout::new(folder.path()).week(Week::of(midnight)))
        .unwrap()
        .len();
    println!(
        "345600 captions written in {:.1} s, {size} bytes",
        begin.elapsed().as_secs_f64()
    );
    let mut times = Vec::new();
    let mut reader = Reader::new(Layout::new(folder.path()));
    for n in 0..400 {
        let (a, b) = (&words[draw(words.len())], &words[draw(words.len())]);
        let query = match n % 5 {
            0 => a.clone(),
            1 => format!("{a} {b}"),
            2 => format!("camera:camera{} {a}", n % 16),
            3 => format!("{}* -{b}", &a[..3]),
            _ => format!("after:2026-11-25T10:00:00Z before:2026-11-25T12:00:00Z {a}"),
        };
        let begin = std::time::Instant::now();
        let query = Query::parse(&query, midnight).unwrap();
        reader.search(&Scope::All, &query, 200).unwrap();
        times.push(begin.elapsed());
    }
    let mut late = vec![percentile_95("400 searches", times)];
    late.extend(timelines(&mut reader, midnight, &mut draw));
    let most = Duration::from_millis(100);
    assert!(late.iter().all(|time| *time < most), "{late:?}");
}

/// The timeline of 16 cameras from five minutes to thirty days, and what was said at a moment.
fn timelines(
    reader: &mut Reader,
    midnight: Millis,
    draw: &mut dyn FnMut(usize) -> usize,
) -> [Duration; 2] {
    let cameras = (0..16).map(|camera| format!("camera{camera}")).collect();
    let (mut drawn, mut moments) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let seconds = [300, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400][n % 6];
        let to = midnight.plus(Duration::from_secs(3_600 + draw(82_800) as u64));
        let from = to.minus(Duration::from_secs(seconds));
        let begin = std::time::Instant::now();
        let ticks = reader.ticks(&Scope::All, (from, to), 600).unwrap();
        let wanted = Wanted {
            from: Some(from),
            to: Some(to),
            ..Wanted::default()
        };
        reader.events(&Scope::All, &wanted, 2_000).unwrap();
        reader.phases(&Scope::All, from).unwrap();
        drawn.push(begin.elapsed());
        assert_eq!(ticks.cameras.len(), 16);
        let begin = std::time::Instant::now();
        let found = reader.moment(&Scope::All, &cameras, to).unwrap();
        moments.push(begin.elapsed());
        assert_eq!(found.len(), 16);
    }
    [
        percentile_95("200 timelines", drawn),
        percentile_95("200 moments", moments),
    ]
}

/// Prints how long it took, and gives the 95th percentile.
fn percentile_95(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let n = times.len();
    let late = times[n * 95 / 100];
    println!(
        "{what}: median {:?}, 95th percentile {late:?}, longest {:?}",
        times[n / 2],
        times[n - 1]
    );
    late
}
