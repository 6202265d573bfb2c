// SPDX-License-Identifier: MPL-2.0

//! Damage, death, a full disk, and backups.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use vlmcaption_watch::heard::{Begin, Caption, End};
use vlmcaption_watch::store::files::{self, Layout};
use vlmcaption_watch::store::keeper::{Item, Keeper};
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};
use vlmcaption_watch::store::{Error, backup, db};
use vlmcaption_watch::time::{Millis, Week};

use super::common::{NO_LIMITS, all, caption, keeper, noon, say};

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
                "store::faults::child_that_writes_until_it_is_killed",
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
            .events(&Scope::All, &Wanted::default(), 10)
            .unwrap()
            .len(),
        1
    );
}
