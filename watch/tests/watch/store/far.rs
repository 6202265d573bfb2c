// SPDX-License-Identifier: MPL-2.0

//! Searches that are answered before they are at their end, and go on where they were.

use std::time::Duration;

use vlmcaption_watch::heard::{Begin, End};
use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::finding::Reach;
use vlmcaption_watch::store::keeper::Item;
use vlmcaption_watch::store::reader::{Reader, Scope};
use vlmcaption_watch::time::Millis;

use super::common::{keeper, say};

/// Five hours over the end of a week: the front each four seconds, the back with another word each half
/// hour, an alarm of the back for a minute, and a minute that the index does not know yet.
fn some_hours(folder: &std::path::Path) -> Millis {
    let begin = Millis::parse("2026-11-29T22:00:00Z").unwrap();
    let mut keeper = keeper(folder, begin);
    for n in 0..4_490_u64 {
        let at = begin.plus(Duration::from_secs(4 * n));
        let what = ["dog", "door", "cat", "dove"][(n % 4) as usize];
        say(&mut keeper, "front", at, &format!("A {what} at place {n}."));
        if n % 450 == 0 {
            say(&mut keeper, "back", at, &format!("A dormouse {n}."));
        }
        if n == 2_250 {
            let alarm = Begin {
                number: 1,
                alarm: "mouse".into(),
                at,
                probability: None,
            };
            keeper.take(Item::Begin("back".into(), alarm), at);
            let end = End {
                number: 1,
                alarm: "mouse".into(),
                at: at.plus(Duration::from_secs(60)),
                peak: None,
                reason: "answer".into(),
            };
            keeper.take(Item::End("back".into(), end), at);
        }
        keeper.tick(at);
    }
    // Written, but not closed: the last half minute is not in the index.
    let end = begin.plus(Duration::from_secs(17_968));
    keeper.tick(end);
    end
}

#[test]
fn whoever_does_not_wait_finds_the_same_one_answer_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let now = some_hours(folder.path());
    let mut reader = Reader::new(Layout::new(folder.path()));
    let back = Scope::Cameras(["back".to_owned()].into());
    for (typed, scope, n) in [
        ("", &Scope::All, 4_500),
        ("dog", &Scope::All, 1_123),
        ("dog -\"place 0\"", &Scope::All, 1_122),
        ("do*", &Scope::All, 3_378),
        ("dorm*", &Scope::All, 10),
        ("camera:back", &Scope::All, 10),
        ("do*", &back, 10),
        ("dog", &back, 0),
        ("alarm:mouse", &Scope::All, 1),
        ("alarm:mouse d*", &Scope::All, 1),
        ("alarm:fire", &Scope::All, 0),
        ("elephant", &Scope::All, 0),
        (
            "after:2026-11-29T23:00:00Z before:2026-11-30T01:00:00Z do*",
            &Scope::All,
            1_356,
        ),
    ] {
        let query = Query::parse(typed, now).unwrap();
        let mut all = Vec::new();
        let mut before = None;
        for answers in 0.. {
            assert!(answers < 100, "`{typed}` comes to no end");
            let reach = Reach {
                before,
                limit: 200,
                patience: Duration::ZERO,
            };
            let found = reader.search(scope, &query, &reach).unwrap();
            all.extend(
                found
                    .visits
                    .into_iter()
                    .map(|visit| (visit.to, visit.count)),
            );
            assert_eq!(found.next.is_some(), found.looked_to.is_some());
            before = found.next;
            if before.is_none() {
                break;
            }
        }
        assert!(
            all.is_sorted_by(|(one, _), (other, _)| one >= other),
            "`{typed}`"
        );
        let count: u32 = all.iter().map(|(_, count)| count).sum();
        assert_eq!(count, n, "`{typed}`");
    }
}

#[test]
fn the_last_captions_of_a_camera_that_says_little_are_found_among_those_of_one_that_says_much() {
    let folder = tempfile::tempdir().unwrap();
    some_hours(folder.path());
    let mut reader = Reader::new(Layout::new(folder.path()));
    let found = reader.latest(&Scope::All, Some("back"), None, 3).unwrap();
    let texts: Vec<&str> = found.iter().map(|kept| kept.text.as_str()).collect();
    assert_eq!(
        texts,
        ["A dormouse 4050.", "A dormouse 3600.", "A dormouse 3150."]
    );
    let before = Some(found[2].id);
    let older = reader
        .latest(&Scope::All, Some("back"), before, 100)
        .unwrap();
    assert_eq!(older.len(), 7);
}
