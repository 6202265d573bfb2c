// SPDX-License-Identifier: MPL-2.0

//! What is written is found again, for as long as it is to be kept.

use std::time::Duration;

use vlmcaption_watch::heard::{Answer, Begin, Caption, End, Phase};
use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::db;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::finding::Reach;
use vlmcaption_watch::store::keeper::{Item, Keeper};
use vlmcaption_watch::store::reader::{CaptionId, Reader, Scope, Wanted};
use vlmcaption_watch::store::retention::Limits;
use vlmcaption_watch::time::Millis;

use super::common::{NO_LIMITS, all, caption, find, keeper, noon, say};

#[test]
fn captions_reach_the_disk_in_batches_of_ten_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    say(&mut keeper, "front", noon(), "A dog runs.");
    keeper.tick(noon().plus(Duration::from_secs(9)));
    assert!(all(folder.path()).is_empty());
    keeper.tick(noon().plus(Duration::from_secs(10)));
    let kept = all(folder.path());
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (
            kept[0].camera.as_str(),
            kept[0].text.as_str(),
            kept[0].start
        ),
        ("front", "A dog runs.", noon())
    );
}

#[test]
fn a_caption_that_is_said_again_makes_its_row_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    for n in 0..10 {
        let at = noon().plus(Duration::from_secs(4 * n));
        say(&mut keeper, "front", at, "Nothing moves.");
        say(
            &mut keeper,
            "back",
            at,
            if n == 5 { "A cat." } else { "Grass." },
        );
        keeper.tick(at);
    }
    keeper.close(noon().plus(Duration::from_secs(60)));
    let kept = all(folder.path());
    let of = |camera: &str| -> Vec<u32> {
        kept.iter()
            .filter(|k| k.camera == camera)
            .map(|k| k.count)
            .collect()
    };
    assert_eq!(of("front"), [10]);
    assert_eq!(of("back"), [5, 1, 4]);
    assert_eq!(kept[0].until, noon().plus(Duration::from_secs(39)));
}

#[test]
fn words_are_found_before_and_after_they_are_indexed() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    say(&mut keeper, "front", noon(), "A dog runs.");
    keeper.tick(noon().plus(Duration::from_secs(61)));
    let later = noon().plus(Duration::from_secs(300));
    say(&mut keeper, "back", later, "A dog sleeps; 一只猫。");
    keeper.tick(later.plus(Duration::from_secs(10)));
    assert_eq!(
        find(folder.path(), "dog"),
        ["A dog sleeps; 一只猫。", "A dog runs."]
    );
    assert_eq!(find(folder.path(), "dog -sleeps"), ["A dog runs."]);
    assert_eq!(find(folder.path(), "camera:front dog"), ["A dog runs."]);
    assert_eq!(find(folder.path(), "猫").len(), 1);
    keeper.close(later.plus(Duration::from_secs(20)));
    assert_eq!(find(folder.path(), "dog").len(), 2);
    assert_eq!(find(folder.path(), "只猫").len(), 1);
    assert_eq!(
        find(folder.path(), "before:2026-11-25T12:04:00Z dog"),
        ["A dog runs."]
    );
}

#[test]
fn captions_of_one_camera_that_are_close_are_one_visit() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    for (n, text) in [
        (0, "A dog runs."),
        (20, "The dog sits."),
        (400, "A dog barks."),
    ] {
        say(
            &mut keeper,
            "front",
            noon().plus(Duration::from_secs(n)),
            text,
        );
    }
    keeper.close(noon().plus(Duration::from_secs(500)));
    assert_eq!(find(folder.path(), "dog"), ["A dog barks.", "A dog runs."]);
}

#[test]
fn nobody_reads_of_a_camera_outside_his_scope() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    let jpeg: std::sync::Arc<[u8]> = vec![0xff, 0xd8, 7].into();
    let secret = Caption {
        thumb: Some(jpeg),
        ..caption(noon(), "A dog.")
    };
    keeper.take(Item::Caption("back".into(), secret), noon());
    let begin = Begin {
        number: 1,
        alarm: "dog".into(),
        at: noon(),
        probability: None,
    };
    keeper.take(Item::Begin("back".into(), begin), noon());
    keeper.take(
        Item::Phase("back".into(), Phase::Live, String::new(), noon()),
        noon(),
    );
    keeper.close(noon());
    let id = all(folder.path())[0].id;
    let query = Query::parse("dog", noon()).unwrap();
    let mut reader = Reader::new(Layout::new(folder.path()));
    for (scope, n) in [
        (Scope::All, 1),
        (Scope::Cameras(["front".to_owned()].into()), 0),
    ] {
        assert_eq!(
            reader
                .search(&scope, &query, &Reach::of(10))
                .unwrap()
                .visits
                .len(),
            n
        );
        assert_eq!(reader.latest(&scope, None, None, 10).unwrap().len(), n);
        assert_eq!(
            reader.events(&scope, &Wanted::default(), 10).unwrap().len(),
            n
        );
        assert_eq!(reader.phases(&scope, Millis(0)).unwrap().len(), n);
        assert_eq!(reader.thumb(&scope, id).unwrap().iter().len(), n);
    }
    assert_eq!(CaptionId::of(id.number()), Some(id));
}

#[test]
fn a_week_has_a_file_and_the_week_s_turn_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sunday = Millis::parse("2026-11-29T23:59:30Z").unwrap();
    let mut keeper = keeper(folder.path(), sunday);
    for n in 0..20 {
        let at = sunday.plus(Duration::from_secs(4 * n));
        say(&mut keeper, "front", at, "Rain.");
        say(&mut keeper, "back", at, &format!("Car {n}."));
        keeper.tick(at);
    }
    keeper.close(sunday.plus(Duration::from_secs(100)));
    let layout = Layout::new(folder.path());
    let names: Vec<String> = layout.weeks().iter().map(|week| week.name()).collect();
    assert_eq!(names, ["2026-W48", "2026-W49"]);
    let kept = all(folder.path());
    let said = |camera: &str| -> u32 {
        kept.iter()
            .filter(|k| k.camera == camera)
            .map(|k| k.count)
            .sum()
    };
    assert_eq!((said("front"), said("back")), (20, 20));
}

#[test]
fn old_weeks_and_old_pictures_are_deleted_each_by_its_own_age() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg: std::sync::Arc<[u8]> = vec![0xff, 0xd8, 7].into();
    for days in [100, 20, 1] {
        let at = noon().minus(Duration::from_secs(days * 86_400));
        let mut keeper = keeper(folder.path(), at);
        let with_picture = Caption {
            thumb: Some(jpeg.clone()),
            ..caption(at, &format!("{days} days ago."))
        };
        keeper.take(Item::Caption("front".into(), with_picture), at);
        keeper.close(at);
    }
    keeper(folder.path(), noon()).close(noon());
    let kept = all(folder.path());
    let texts: Vec<&str> = kept.iter().map(|kept| kept.text.as_str()).collect();
    assert_eq!(texts, ["20 days ago.", "1 days ago."]);
    let mut reader = Reader::new(Layout::new(folder.path()));
    assert_eq!(reader.thumb(&Scope::All, kept[0].id).unwrap(), None);
    assert_eq!(
        reader.thumb(&Scope::All, kept[1].id).unwrap().as_deref(),
        Some(&*jpeg)
    );
}

#[test]
fn too_much_is_deleted_by_size_and_events_stay() {
    let folder = tempfile::tempdir().unwrap();
    let at = noon().minus(Duration::from_secs(20 * 86_400));
    let mut first = keeper(folder.path(), at);
    for n in 0..2_000 {
        say(
            &mut first,
            "front",
            at.plus(Duration::from_secs(4 * n)),
            &format!("Caption {n} of many."),
        );
    }
    first.take(
        Item::Begin(
            "front".into(),
            Begin {
                number: 1,
                alarm: "a".into(),
                at,
                probability: None,
            },
        ),
        at,
    );
    first.close(at);
    let tight = Limits {
        max_size: 150_000,
        ..NO_LIMITS
    };
    let keeper = Keeper::open(Layout::new(folder.path()), tight, noon()).unwrap();
    keeper.close(noon());
    assert!(all(folder.path()).is_empty());
    let events = Reader::new(Layout::new(folder.path()))
        .events(&Scope::All, &Wanted::default(), 10)
        .unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn events_are_on_the_disk_at_once_and_every_begin_gets_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    let events = || {
        Reader::new(Layout::new(folder.path()))
            .events(&Scope::All, &Wanted::default(), 10)
            .unwrap()
    };
    let begin = |number| Begin {
        number,
        alarm: "lying".into(),
        at: noon(),
        probability: Some(0.9),
    };
    keeper.take(Item::Begin("front".into(), begin(1)), noon());
    keeper.take(Item::Begin("front".into(), begin(2)), noon());
    keeper.take(Item::Begin("back".into(), begin(1)), noon());
    assert_eq!(events().len(), 3);
    let end = End {
        number: 1,
        alarm: "lying".into(),
        at: noon().plus(Duration::from_secs(5)),
        peak: Some(0.97),
        reason: "answer".into(),
    };
    keeper.take(Item::End("front".into(), end), noon());
    keeper.take(
        Item::Over("front".into(), noon().plus(Duration::from_secs(9))),
        noon(),
    );
    let reasons: Vec<Option<String>> = events().into_iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [None, Some("stop".into()), Some("answer".into())]);
    drop(keeper);
    self::keeper(folder.path(), noon().plus(Duration::from_secs(60)));
    assert_eq!(events()[0].reason.as_deref(), Some("crash"));
    assert_eq!(events()[2].peak, Some(0.97));
}

#[test]
fn a_clock_that_is_set_back_delays_nothing_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    say(&mut keeper, "front", noon(), "Before the step.");
    keeper.tick(noon().plus(Duration::from_secs(10)));
    let back = noon().minus(Duration::from_secs(3 * 3600));
    say(&mut keeper, "front", back, "After the step.");
    keeper.tick(back);
    assert_eq!(all(folder.path()).len(), 2);
    assert_eq!(
        find(folder.path(), "before:2026-11-25T10:00:00Z step"),
        ["After the step."]
    );
}

#[test]
fn answers_are_kept_by_the_minute() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    for (n, probability) in [(0, 0.25), (5, 0.75), (61, 0.5)] {
        let at = noon().plus(Duration::from_secs(n));
        keeper.take(
            Item::Answer(
                "front".into(),
                Answer {
                    alarm: "lying".into(),
                    at,
                    probability,
                },
            ),
            at,
        );
    }
    keeper.close(noon().plus(Duration::from_secs(70)));
    let state = db::open_to_read(&Layout::new(folder.path()).state()).unwrap();
    let sql = "SELECT n, sum, least, most FROM answer ORDER BY minute";
    let first: (u32, f64, f64, f64) = state
        .query_row(sql, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(first, (2, 1.0, 0.25, 0.75));
}
