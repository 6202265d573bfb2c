// SPDX-License-Identifier: MPL-2.0

//! The store as a whole: what is written is found again, whatever happened in between.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use vlmcaption_watch::heard::{Answer, Begin, Caption, End, Phase};
use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::files::{self, Layout};
use vlmcaption_watch::store::keeper::{Item, Keeper};
use vlmcaption_watch::store::reader::{CaptionId, Kept, Reader, Scope};
use vlmcaption_watch::store::retention::Limits;
use vlmcaption_watch::store::{Error, backup, db};
use vlmcaption_watch::time::{Millis, Week};

const NO_LIMITS: Limits = Limits {
    max_size: u64::MAX,
    keep_free: 0,
    captions: Duration::from_secs(90 * 86_400),
    thumbnails: Duration::from_secs(14 * 86_400),
};

/// A Wednesday.
fn noon() -> Millis {
    Millis::parse("2026-11-25T12:00:00Z").unwrap()
}

fn keeper(folder: &Path, now: Millis) -> Keeper {
    Keeper::open(Layout::new(folder), NO_LIMITS, now).unwrap()
}

fn caption(at: Millis, text: &str) -> Caption {
    Caption {
        start: at,
        end: at.plus(Duration::from_secs(3)),
        text: text.into(),
        model: "m".into(),
        thumb: None,
    }
}

fn say(keeper: &mut Keeper, camera: &str, at: Millis, text: &str) {
    keeper.take(Item::Caption(camera.into(), caption(at, text)), at);
}

fn all(folder: &Path) -> Vec<Kept> {
    let mut found = Vec::new();
    let mut reader = Reader::new(Layout::new(folder));
    let mut each = |kept| {
        found.push(kept);
        Ok(())
    };
    reader
        .each_caption(&Scope::All, Millis(0), Millis(i64::MAX), &mut each)
        .unwrap();
    found
}

fn find(folder: &Path, query: &str) -> Vec<String> {
    let query = Query::parse(query, noon()).unwrap();
    let mut reader = Reader::new(Layout::new(folder));
    let visits = reader.search(&Scope::All, &query, 50).unwrap();
    visits.into_iter().map(|visit| visit.caption.text).collect()
}

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
        assert_eq!(reader.search(&scope, &query, 10).unwrap().len(), n);
        assert_eq!(reader.latest(&scope, None, None, 10).unwrap().len(), n);
        assert_eq!(reader.events(&scope, None, 10).unwrap().len(), n);
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
        .events(&Scope::All, None, 10)
        .unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn events_are_on_the_disk_at_once_and_every_begin_gets_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    let events = || {
        Reader::new(Layout::new(folder.path()))
            .events(&Scope::All, None, 10)
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
fn a_damaged_week_is_set_aside_and_told_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(folder.path(), noon());
    say(&mut keeper, "front", noon(), "Lost.");
    keeper.tick(noon().plus(Duration::from_secs(10)));
    drop(keeper);
    let layout = Layout::new(folder.path());
    let path = layout.week(Week::of(noon()));
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(path.with_extension(format!("db{end}")));
    }
    std::fs::write(&path, b"this was a database once upon a time").unwrap();
    let mut keeper = self::keeper(folder.path(), noon());
    assert!(
        keeper
            .status()
            .notes
            .iter()
            .any(|note| note.contains("damaged")),
        "{:?}",
        keeper.status()
    );
    say(&mut keeper, "front", noon(), "Kept.");
    keeper.close(noon());
    let texts: Vec<String> = all(folder.path())
        .into_iter()
        .map(|kept| kept.text)
        .collect();
    assert_eq!(texts, ["Kept."]);
    let names: Vec<_> = std::fs::read_dir(layout.captions())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.to_string_lossy().contains(".damaged-")),
        "{names:?}"
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

#[test]
fn a_backup_made_while_captions_come_is_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = (folder.path().join("store"), folder.path().join("copy"));
    let mut keeper = keeper(&store, noon());
    say(&mut keeper, "front", noon(), "In the backup.");
    keeper.tick(noon().plus(Duration::from_secs(10)));
    let layout = Layout::new(&store);
    assert_eq!(backup::backup(&layout, &copy).unwrap().databases, 2);
    assert!(
        backup::backup(&layout, &copy)
            .unwrap_err()
            .to_string()
            .contains("not empty")
    );
    assert!(matches!(
        backup::restore(&copy, &layout),
        Err(Error::InUse { .. })
    ));
    say(
        &mut keeper,
        "front",
        noon().plus(Duration::from_secs(20)),
        "After the backup.",
    );
    keeper.close(noon().plus(Duration::from_secs(30)));
    assert_eq!(all(&store).len(), 2);
    let (_, aside) = backup::restore(&copy, &layout).unwrap();
    let texts: Vec<String> = all(&store).into_iter().map(|kept| kept.text).collect();
    assert_eq!(texts, ["In the backup."]);
    assert_eq!(all(&aside.unwrap()).len(), 2);
    self::keeper(&store, noon()).close(noon());
}

#[test]
fn a_backup_that_is_not_sound_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = (folder.path().join("store"), folder.path().join("copy"));
    let mut keeper = keeper(&store, noon());
    say(&mut keeper, "front", noon(), "Here.");
    keeper.close(noon());
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("state.db"), b"nonsense that is no database").unwrap();
    let error = backup::restore(&copy, &Layout::new(&store)).unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(all(&store).len(), 1);
}

/// What the killed process does: writes all kinds of things as fast as it can.
#[test]
#[ignore = "the child of a_killed_process_leaves_a_sound_store"]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("WATCH_TEST_FOLDER") else {
        return;
    };
    let mut keeper = keeper(Path::new(&folder), Millis::now());
    let jpeg: std::sync::Arc<[u8]> = vec![0xff, 0xd8, 7].into();
    for n in 0.. {
        let now = Millis::now();
        let thumb = Some(jpeg.clone());
        keeper.take(
            Item::Caption(
                "front".into(),
                Caption {
                    thumb,
                    ..caption(now, &format!("Caption {n}."))
                },
            ),
            now,
        );
        if n % 20 == 0 {
            let begin = Begin {
                number: n,
                alarm: "a".into(),
                at: now,
                probability: Some(0.9),
            };
            keeper.take(Item::Begin("front".into(), begin), now);
            // Time runs fast, so that batches and the index are written all the time.
            keeper.tick(now.plus(Duration::from_secs(61 * n)));
            println!("event");
        }
        if n % 40 == 0 {
            let end = End {
                number: n,
                alarm: "a".into(),
                at: now,
                peak: None,
                reason: "answer".into(),
            };
            keeper.take(Item::End("front".into(), end), now);
        }
    }
}

/// 12 times by default; `WATCH_KILLS=50` for more.
#[test]
fn a_killed_process_leaves_a_sound_store() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let rounds = std::env::var("WATCH_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(12);
    let mut promised = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::child_that_writes_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("WATCH_TEST_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        // Each time somewhere else in its work.
        promised += lines
            .map_while(Result::ok)
            .filter(|line| line == "event")
            .take(1 + 3 * round % 7)
            .count();
        child.kill().unwrap();
        child.wait().unwrap();
        for path in std::iter::once(layout.state())
            .chain(layout.weeks().iter().map(|week| layout.week(*week)))
        {
            assert_eq!(db::damage(&path), None, "round {round}: {}", path.display());
        }
    }
    let keeper = Keeper::open(layout.clone(), NO_LIMITS, Millis::now()).unwrap();
    assert!(
        keeper
            .status()
            .notes
            .iter()
            .all(|note| !note.contains("damaged"))
    );
    keeper.close(Millis::now());
    let state = db::open_to_read(&layout.state()).unwrap();
    let count = |sql: &str| {
        state
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM event WHERE end IS NULL"), 0);
    let kept = count("SELECT count(*) FROM event");
    assert!(
        kept >= promised as i64,
        "{promised} events were said to be kept, {kept} are"
    );
}

#[test]
fn a_full_disk_is_told_and_what_waited_is_written_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&mount)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("NOT RUN: mounting a small disk needs root");
        return;
    }
    let outcome = std::panic::catch_unwind(|| full_disk(&mount));
    let unmounted = Command::new("umount").arg(&mount).status().unwrap();
    assert!(unmounted.success());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn full_disk(mount: &Path) {
    let store = mount.join("store");
    let mut keeper = keeper(&store, noon());
    let ballast = mount.join("ballast");
    let room = files::free(mount).unwrap();
    std::fs::write(&ballast, vec![1; usize::try_from(room).unwrap()]).unwrap();
    for n in 0..1_000 {
        say(
            &mut keeper,
            "front",
            noon().plus(Duration::from_secs(n)),
            &format!("Caption {n}."),
        );
    }
    let begin = Begin {
        number: 1,
        alarm: "a".into(),
        at: noon(),
        probability: None,
    };
    keeper.take(Item::Begin("front".into(), begin), noon());
    keeper.tick(noon().plus(Duration::from_secs(10)));
    let trouble = keeper.status().trouble.clone().unwrap();
    assert!(trouble.contains("disk is full"), "{trouble}");
    std::fs::remove_file(&ballast).unwrap();
    keeper.tick(noon().plus(Duration::from_secs(20)));
    assert_eq!(keeper.status().trouble, None);
    keeper.close(noon().plus(Duration::from_secs(30)));
    assert_eq!(all(&store).len(), 1_000);
    assert_eq!(
        Reader::new(Layout::new(&store))
            .events(&Scope::All, None, 10)
            .unwrap()
            .len(),
        1
    );
}

/// A day of 16 cameras with a caption each 4 s, and how long a search in it takes. Ignored, since it
/// writes 345,600 captions; run it with `cargo test -p vlmcaption-watch --test watch -- --ignored day --nocapture`.
#[test]
#[ignore = "writes a day of captions, some minutes"]
fn a_day_of_captions_is_searched_within_100_ms() {
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
    times.sort();
    println!(
        "400 searches: median {:?}, 95th percentile {:?}, longest {:?}",
        times[200], times[380], times[399]
    );
    assert!(times[380] < Duration::from_millis(100), "{:?}", times[380]);
}
