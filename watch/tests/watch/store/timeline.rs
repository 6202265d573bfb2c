// SPDX-License-Identifier: MPL-2.0

//! What the timeline is told, and stores of earlier versions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vlmcaption_watch::heard::{Answer, Begin, Clip, End, Lull, Why};
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::keeper::{Item, Keeper, Told};
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};
use vlmcaption_watch::store::state::Mark;
use vlmcaption_watch::time::{Millis, Week};

use super::common::{NO_LIMITS, caption, keeper, noon, say};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Captions of the front each ten seconds for two hours, and of the back each minute, with a picture each
/// ten minutes.
fn two_hours(folder: &std::path::Path) {
    let mut keeper = keeper(folder, noon());
    for n in 0..720 {
        let at = noon().plus(s(10 * n));
        say(&mut keeper, "front", at, &format!("Caption {n}."));
        if n % 6 == 0 {
            let mut said = caption(at, &format!("Back {n}."));
            said.thumb = (n % 60 == 0).then(|| Arc::from([0xff_u8, 0xd8]));
            keeper.take(Item::Caption("back".into(), said), at);
        }
        keeper.tick(at);
    }
    keeper.close(noon().plus(s(7_200)));
}

#[test]
fn every_caption_is_in_one_stretch_however_long_they_are() {
    let folder = tempfile::tempdir().unwrap();
    two_hours(folder.path());
    let mut reader = Reader::new(Layout::new(folder.path()));
    let sum = |counts: &[u32]| counts.iter().sum::<u32>();
    for (hours, most, front) in [
        (1, 600, 360),
        (2, 120, 720),
        (48, 600, 720),
        (720, 600, 720),
    ] {
        let span = (noon(), noon().plus(s(3_600 * hours)));
        let ticks = reader.ticks(&Scope::All, span, 600).unwrap();
        assert!(ticks.n <= most, "{hours} h: {}", ticks.n);
        assert_eq!(sum(&ticks.cameras["front"]), front, "{hours} h");
        assert_eq!(sum(&ticks.cameras["back"]), front / 6, "{hours} h");
    }
    let span = (noon(), noon().plus(s(3_600)));
    let ticks = reader.ticks(&Scope::All, span, 6).unwrap();
    assert_eq!(ticks.cameras["front"], [60; 6]);
    let bob = Scope::Cameras(["back".to_owned()].into());
    let seen = reader.ticks(&bob, span, 6).unwrap();
    assert_eq!(seen.cameras.keys().collect::<Vec<_>>(), ["back"]);
}

#[test]
fn a_moment_is_the_last_caption_before_it_and_the_last_picture() {
    let folder = tempfile::tempdir().unwrap();
    two_hours(folder.path());
    let mut reader = Reader::new(Layout::new(folder.path()));
    let cameras: BTreeSet<String> = ["front".into(), "back".into()].into();
    let at = noon().plus(s(1_234));
    let found = reader.moment(&Scope::All, &cameras, at).unwrap();
    assert_eq!(found["front"].caption.text, "Caption 123.");
    assert_eq!(found["front"].thumb, None);
    assert_eq!(found["back"].caption.text, "Back 120.");
    let picture = found["back"].thumb.unwrap();
    assert!(reader.thumb(&Scope::All, picture).unwrap().is_some());
    let bob = Scope::Cameras(["back".to_owned()].into());
    assert_eq!(reader.moment(&bob, &cameras, at).unwrap().len(), 1);
}

#[test]
fn a_week_of_an_earlier_version_is_counted_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    two_hours(folder.path());
    let layout = Layout::new(folder.path());
    let span = (noon(), noon().plus(s(7_200)));
    let before = Reader::new(layout.clone())
        .ticks(&Scope::All, span, 600)
        .unwrap();
    let path = layout.week(Week::of(noon()));
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE tick; PRAGMA user_version = 1;")
        .unwrap();
    drop(old);
    // It is brought up to date when the next caption is written to it.
    let mut again = keeper(folder.path(), noon().plus(s(7_200)));
    say(&mut again, "front", noon().plus(s(7_200)), "One more.");
    again.close(noon().plus(s(7_300)));
    let after = Reader::new(layout).ticks(&Scope::All, span, 600).unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_time_without_words_is_kept_while_it_goes_on_and_ends_with_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = keeper(folder.path(), noon());
    let lull = |why, start, end: Option<u64>| Lull {
        why,
        start: noon().plus(s(start)),
        end: end.map(|end| noon().plus(s(end))),
    };
    for (camera, lull) in [
        ("front", lull(Why::Gated, 60, None)),
        ("front", lull(Why::Gated, 60, Some(120))),
        ("back", lull(Why::NoModel, 0, None)),
    ] {
        first.take(Item::Lull(camera.into(), lull), noon());
    }
    let mut reader = Reader::new(Layout::new(folder.path()));
    let mut told = |scope: &Scope, since| {
        let spans = reader.lulls(scope, noon().plus(s(since))).unwrap();
        let told = spans.into_iter().map(|span| {
            let after = |time: Millis| (time.0 - noon().0) / 1_000;
            (
                span.camera,
                span.phase,
                after(span.start),
                span.end.map(after),
            )
        });
        told.collect::<Vec<_>>()
    };
    let back = |end| ("back".to_owned(), "no-model".to_owned(), 0, end);
    let front = ("front".to_owned(), "gated".to_owned(), 60, Some(120));
    assert_eq!(told(&Scope::All, 100), [back(None), front.clone()]);
    let bob = Scope::Cameras(["front".to_owned()].into());
    assert_eq!(told(&bob, 100), [front]);
    assert_eq!(told(&Scope::All, 200), [back(None)]);
    // Killed: the next start ends what was open.
    drop(first);
    drop(keeper(folder.path(), noon().plus(s(300))));
    assert_eq!(told(&Scope::All, 200), [back(Some(300))]);
}

/// Answers each four seconds, and an alarm from the first minute to the second.
fn a_dog_for_a_minute(folder: &std::path::Path) -> Keeper {
    let mut keeper = keeper(folder, noon());
    let (sender, told) = std::sync::mpsc::channel();
    keeper.tell(Box::new(move |event| drop(sender.send(event.clone()))));
    let begin = noon().plus(s(60));
    for n in 0..60 {
        let at = noon().plus(s(4 * n));
        if n == 15 {
            let begin = Begin {
                number: 1,
                alarm: "dog".into(),
                at: begin,
                probability: Some(0.9),
            };
            keeper.take(Item::Begin("front".into(), begin), at);
        }
        let answer = Answer {
            alarm: "dog".into(),
            at,
            probability: if (15..30).contains(&n) { 0.9 } else { 0.1 },
        };
        keeper.take(Item::Answer("front".into(), answer), at);
    }
    let end = End {
        number: 1,
        alarm: "dog".into(),
        at: noon().plus(s(120)),
        peak: Some(0.9),
        reason: "answer".into(),
    };
    keeper.take(Item::End("front".into(), end), noon().plus(s(240)));
    let room = matches!(
        told.try_recv(),
        Ok(Told::Began {
            id: 1,
            room: true,
            ..
        })
    );
    assert!(room && matches!(told.try_recv(), Ok(Told::Ended { id: 1, .. })));
    keeper
}

#[test]
fn an_event_has_its_clip_its_trace_and_what_people_say_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let mut keeper = a_dog_for_a_minute(folder.path());
    let clip = Clip {
        from: noon().plus(s(50)),
        to: noon().plus(s(125)),
        size: 4,
    };
    std::fs::create_dir_all(layout.clips().join("front")).unwrap();
    std::fs::write(layout.clip("front", 1), b"clip").unwrap();
    keeper.take(Item::Clip(1, Ok(clip)), noon().plus(s(240)));
    let mark = Mark {
        false_alarm: Some(true),
        note: Some("the neighbour's".into()),
        ..Mark::default()
    };
    assert!(keeper.mark(1, &mark).unwrap() && !keeper.mark(2, &mark).unwrap());
    keeper.close(noon().plus(s(300)));
    let mut reader = Reader::new(layout.clone());
    let event = reader.event(&Scope::All, 1).unwrap().unwrap();
    assert_eq!((event.clip, event.false_alarm), (Some(clip), true));
    assert_eq!(event.note, "the neighbour's");
    // A minute of answers before it began, and all that came until it was told of.
    assert_eq!(reader.trace(1).unwrap().len(), 60);
    let minutes = reader
        .answered("front", "dog", (noon(), noon().plus(s(600))))
        .unwrap();
    assert_eq!(vlmcaption_watch::fires::fires(&minutes, 0.8, 0.3).len(), 1);
    let wanted = Wanted {
        false_alarms: true,
        ..Wanted::default()
    };
    assert_eq!(reader.events(&Scope::All, &wanted, 10).unwrap().len(), 1);
    let nobody = Scope::Cameras(BTreeSet::new());
    assert_eq!(reader.event(&nobody, 1).unwrap(), None);
    std::fs::remove_file(layout.clip("front", 1)).unwrap();
    let event = reader.event(&Scope::All, 1).unwrap().unwrap();
    assert!(event.clip.is_none() && event.clip_why.unwrap().contains("deleted"));
}

#[test]
fn clips_go_in_their_order_starred_ones_stay_and_without_room_there_are_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let mut first = keeper(folder.path(), noon());
    for (number, mark) in [(1, "star"), (2, "seen"), (3, "")] {
        let begin = Begin {
            number,
            alarm: "dog".into(),
            at: noon(),
            probability: None,
        };
        first.take(Item::Begin("front".into(), begin), noon());
        let id = i64::try_from(number).unwrap();
        std::fs::create_dir_all(layout.clips().join("front")).unwrap();
        std::fs::write(layout.clip("front", id), vec![0; 400_000]).unwrap();
        let mark = Mark {
            starred: Some(mark == "star"),
            acknowledged: Some(mark == "seen"),
            ..Mark::default()
        };
        assert!(first.mark(id, &mark).unwrap());
    }
    first.close(noon());
    let there = || [1, 2, 3].map(|id| layout.clip("front", id).exists());
    let now = Millis::now();
    for (max_size, left, room) in [
        (5_000_000, [true, true, true], true),
        (1_000_000, [true, false, true], true),
        (600_000, [true, false, false], true),
        (100_000, [true, false, false], false),
    ] {
        let limits = vlmcaption_watch::store::retention::Limits {
            max_size,
            ..NO_LIMITS
        };
        let keeper = Keeper::open(layout.clone(), limits, now).unwrap();
        assert_eq!(there(), left, "{max_size}");
        assert_eq!(!keeper.status().at_the_floor, room, "{max_size}");
        keeper.close(now);
    }
}
