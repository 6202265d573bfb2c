// SPDX-License-Identifier: MPL-2.0

//! Bad things that happen to the program: it goes on, says so on the page, and is well again by itself.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use vlmcaption_watch::heard::{Answer, Begin, End};
use vlmcaption_watch::store::db;
use vlmcaption_watch::store::files::{self, Layout};
use vlmcaption_watch::store::keeper::Item;
use vlmcaption_watch::store::state::Mark;
use vlmcaption_watch::time::Millis;

use crate::client::{Client, rewrite, server};
use crate::out::until;
use crate::site::{Running, Site, free_port};
use crate::store::common::keeper;

#[test]
fn a_full_disk_is_said_on_the_page_and_is_over_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let mut mounting = Command::new("mount");
    mounting
        .args(["-t", "tmpfs", "-o", "size=8m", "none"])
        .arg(&mount)
        .stderr(Stdio::null());
    if !mounting.status().is_ok_and(|status| status.success()) {
        println!("NOT RUN: mounting a small disk needs root");
        return;
    }
    let outcome = std::panic::catch_unwind(|| full_disk(&mount));
    assert!(
        Command::new("umount")
            .arg(&mount)
            .status()
            .unwrap()
            .success()
    );
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn full_disk(mount: &Path) {
    let port = free_port();
    let site = Site::new(&(server(port) + "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n"));
    let store = mount.join("store");
    rewrite(&site, |text| {
        text.replace(
            &site.store().display().to_string(),
            &store.display().to_string(),
        )
    });
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("captions are kept", || {
        client.json("/api/v1/health")["captions"].as_u64() > Some(0)
    });
    let ballast = mount.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    drop(file);
    assert!(files::free(mount).unwrap() < 65_536);
    let full = || {
        let health = client.json("/api/v1/health");
        health["words"].to_string().contains("disk is full")
    };
    until("the page says so", full);
    assert_eq!(client.ask("GET", "/health/ready", "").0, 503);
    assert_eq!(client.camera("ball")["state"], "live");
    std::fs::remove_file(&ballast).unwrap();
    until("it is over", || {
        client.ask("GET", "/health/ready", "").0 == 200
    });
    assert_eq!(client.json("/api/v1/health")["lost"], 0);
    running.terminate();
}

/// 3 times by default; `WATCH_KILLS=50` for more.
#[test]
fn the_program_killed_while_alarms_come_leaves_a_sound_store_and_no_open_alarm() {
    let rounds = std::env::var("WATCH_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    let cameras: String = (0..4)
        .map(|n| {
            format!(
                "[[camera]]\nid = \"ball{n}\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"ball\"\nquestion = \"Is there a white circle?\"\n"
            )
        })
        .collect();
    let site = Site::new(&cameras);
    let layout = Layout::new(&site.store());
    let open = |layout: &Layout| -> i64 {
        let state = db::open_to_read(&layout.state()).unwrap();
        state
            .query_row("SELECT count(*) FROM event WHERE end IS NULL", [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    let mut were_open = 0;
    for round in 0..rounds {
        let mut running = Running::start(site.command(&["run"]));
        running.wait_for("alarm ball begins");
        std::thread::sleep(Duration::from_millis(37 * (round % 11)));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        for path in std::iter::once(layout.state())
            .chain(layout.weeks().iter().map(|week| layout.week(*week)))
        {
            assert_eq!(db::damage(&path), None, "round {round}: {}", path.display());
        }
        were_open += open(&layout);
    }
    assert!(were_open > 0, "it was never killed during an alarm");
    let begin = Instant::now();
    let mut running = Running::start(site.command(&["run", "--seconds", "1"]));
    running.wait_for("they end now, reason=crash");
    running.wait_for("ending");
    running.child.wait().unwrap();
    assert_eq!(open(&layout), 0);
    println!(
        "{rounds} kills, {were_open} alarms were open, the last start took {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_database_that_a_kill_and_a_bad_disk_leave_damaged_is_said_on_the_page_and_a_new_one_begun() {
    let port = free_port();
    let site = Site::new(&(server(port) + "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n"));
    let layout = Layout::new(&site.store());
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("captions are kept", || {
        client.json("/api/v1/health")["captions"].as_u64() > Some(0)
    });
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let week = layout.week(layout.weeks()[0]);
    // The log would be read in place of the pages that are spoilt.
    let _ = std::fs::remove_file(week.with_extension("db-wal"));
    let length = std::fs::metadata(&week).unwrap().len().max(16_384);
    std::fs::write(&week, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
    let mut running = Running::start(site.command(&["run"]));
    running.wait_for("The page is at");
    let words = || client.json("/api/v1/health")["words"].to_string();
    until("the page says so", || words().contains("set aside"));
    until("captions are kept again", || {
        let kept = client.json("/api/v1/captions?camera=ball");
        kept["captions"]
            .as_array()
            .is_some_and(|kept| !kept.is_empty())
    });
    running.terminate();
    assert_eq!(db::damage(&layout.week(layout.weeks()[0])), None);
}

#[test]
fn a_picture_in_which_nothing_moves_is_said_to_be_so_now_and_on_the_timeline() {
    let port = free_port();
    let camera = "[[camera]]\nid = \"wall\"\nurl = \"test:white\"\nwindow = 2\nstride = 2\nmotion-threshold = 0.01\nheartbeat = \"10m\"\n";
    let site = Site::new(&(server(port) + camera));
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("the gate is shut", || {
        client.camera("wall")["quiet"]["why"] == "gated"
    });
    assert!(client.camera("wall")["caption"]["text"].is_string());
    let mut span = Value::Null;
    until("it is kept", || {
        let timeline = client.json("/api/v1/timeline");
        let spans = timeline["cameras"][0]["spans"].as_array().cloned();
        let gated = |span: &&Value| span["state"] == "gated";
        span = spans
            .unwrap_or_default()
            .iter()
            .find(gated)
            .cloned()
            .unwrap_or_default();
        span.is_object()
    });
    assert_eq!(span["end"], Value::Null);
    running.terminate();
}

#[test]
fn false_alarms_are_exported_with_what_was_asked_and_answered() {
    let site = Site::new(
        "[[camera]]\nid = \"front\"\nurl = \"test:ball\"\n\
         [[camera.alarm]]\nid = \"dog\"\nquestion = \"Is there a dog?\"\non = 0.7\noff = 0.2\n",
    );
    let now = Millis::now();
    let ago = |seconds| now.minus(Duration::from_secs(seconds));
    let mut store = keeper(&site.store(), ago(600));
    for (number, at) in [(1, ago(500)), (2, ago(300))] {
        let answer = Answer {
            alarm: "dog".into(),
            at,
            probability: 0.75,
        };
        store.take(Item::Answer("front".into(), answer), at);
        let begin = Begin {
            number,
            alarm: "dog".into(),
            at,
            probability: Some(0.75),
        };
        store.take(Item::Begin("front".into(), begin), at);
        let end = End {
            number,
            alarm: "dog".into(),
            at: at.plus(Duration::from_secs(9)),
            peak: Some(0.8),
            reason: "answer".into(),
        };
        store.take(Item::End("front".into(), end), at);
    }
    let mark = Mark {
        false_alarm: Some(true),
        note: Some("It was a \"fox\".".into()),
        ..Mark::default()
    };
    assert!(store.mark(2, &mark).unwrap());
    store.close(now);
    let lines = site.says(&["export", "--false-alarms", "--from", "1h"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for (key, value) in [
        ("id", json!("2")),
        ("camera", json!("front")),
        ("question", json!("Is there a dog?")),
        ("on", json!(0.7)),
        ("off", json!(0.2)),
        ("peak", json!(0.8)),
        ("note", json!("It was a \"fox\".")),
    ] {
        assert_eq!(lines[0][key], value, "{key}");
    }
    assert_eq!(lines[0]["trace"], json!([[ago(300).to_string(), 0.75]]));
}
