// SPDX-License-Identifier: MPL-2.0

//! A store as the first version wrote it: it is read, and goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use vlmcaption_watch::heard::{Begin, Phase};
use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::db::{self, Durability};
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::finding::Reach;
use vlmcaption_watch::store::keeper::Item;
use vlmcaption_watch::store::reader::{Reader, Scope, Wanted};
use vlmcaption_watch::store::state::Mark;
use vlmcaption_watch::time::{Millis, Week};

use super::common::{keeper, say};

const BEGIN: Millis = Millis(1_000_000_000);

#[test]
fn a_store_of_the_first_version_keeps_all_it_has_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    layout.make().unwrap();
    let week = layout.week(Week::of(BEGIN));
    for (path, sql) in [
        (&layout.state(), include_str!("state-layout-1.sql")),
        (&week, include_str!("week-layout-1.sql")),
    ] {
        let made = db::open(path, Durability::Full, &[sql]).unwrap();
        let version = made.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        assert_eq!(version.unwrap(), 1);
    }
    let hour = BEGIN.plus(Duration::from_secs(3_700));
    let mut again = keeper(folder.path(), hour);
    say(&mut again, "front", hour, "A green car.");
    let begin = Begin {
        number: 1,
        alarm: "lying".into(),
        at: hour,
        probability: Some(0.8),
    };
    again.take(Item::Begin("front".into(), begin), hour);
    again.take(
        Item::Phase("front".into(), Phase::Live, String::new(), hour),
        hour,
    );
    let mark = Mark {
        note: Some("was well".into()),
        ..Mark::default()
    };
    assert!(again.mark(7, &mark).unwrap());
    again.close(hour.plus(Duration::from_secs(60)));

    let mut reader = Reader::new(layout.clone());
    let events = reader.events(&Scope::All, &Wanted::default(), 10).unwrap();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.id, event.reason.as_deref(), event.note.as_str()))
        .collect();
    // The one that was open ended when the program did.
    assert_eq!(
        (seen[1], seen[2]),
        ((8, Some("crash"), ""), (7, Some("answer"), "was well"))
    );
    assert_eq!((seen.len(), seen[0].0), (3, 9), "numbers go on");
    assert!(events[2].starred && events[2].acknowledged && !events[2].false_alarm);
    let phases = reader.phases(&Scope::All, Millis(0)).unwrap();
    assert!(phases[0].start == BEGIN && phases[0].end.is_some());
    let answered = reader.answered("front", "lying", (BEGIN, hour)).unwrap();
    assert_eq!((answered.len(), answered[0].n), (1, 4));
    // Captions are found by words, those too that the first version had not indexed yet.
    let mut find = |words: &str| {
        let query = Query::parse(words, hour).unwrap();
        let visits = reader
            .search(&Scope::All, &query, &Reach::of(10))
            .unwrap()
            .visits;
        visits
            .into_iter()
            .map(|visit| visit.caption.text)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(find("red car"), ["A red car.".to_owned()].into());
    assert_eq!(find("walks"), ["A man walks.".to_owned()].into());
    assert!(find("car").len() >= 2, "{:?}", find("car"));
    assert_eq!(find("blue"), ["A blue car.".to_owned()].into());
    assert_eq!(find("green"), ["A green car.".to_owned()].into());
    let from = BEGIN.minus(Duration::from_secs(100));
    let span = (from, from.plus(Duration::from_secs(86_400)));
    let ticks = reader.ticks(&Scope::All, span, 24).unwrap();
    assert_eq!(ticks.cameras["front"].iter().sum::<u32>(), 4);
    assert_eq!(ticks.cameras["front"][..2], [2, 2]);
}
