// SPDX-License-Identifier: MPL-2.0

//! What the tests of the store share.

use std::path::Path;
use std::time::Duration;

use vlmcaption_watch::heard::Caption;
use vlmcaption_watch::search::Query;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::finding::Reach;
use vlmcaption_watch::store::keeper::{Item, Keeper};
use vlmcaption_watch::store::reader::{Kept, Reader, Scope};
use vlmcaption_watch::store::retention::Limits;
use vlmcaption_watch::time::Millis;

pub const NO_LIMITS: Limits = Limits {
    max_size: u64::MAX,
    keep_free: 0,
    captions: Duration::from_secs(90 * 86_400),
    thumbnails: Duration::from_secs(14 * 86_400),
    clips: Duration::from_secs(30 * 86_400),
};

/// A Wednesday.
pub fn noon() -> Millis {
    Millis::parse("2026-11-25T12:00:00Z").unwrap()
}

pub fn keeper(folder: &Path, now: Millis) -> Keeper {
    Keeper::open(Layout::new(folder), NO_LIMITS, now).unwrap()
}

pub fn caption(at: Millis, text: &str) -> Caption {
    Caption {
        start: at,
        end: at.plus(Duration::from_secs(3)),
        text: text.into(),
        model: "m".into(),
        thumb: None,
    }
}

pub fn say(keeper: &mut Keeper, camera: &str, at: Millis, text: &str) {
    keeper.take(Item::Caption(camera.into(), caption(at, text)), at);
}

pub fn all(folder: &Path) -> Vec<Kept> {
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

pub fn find(folder: &Path, query: &str) -> Vec<String> {
    let query = Query::parse(query, noon()).unwrap();
    let mut reader = Reader::new(Layout::new(folder));
    let visits = reader
        .search(&Scope::All, &query, &Reach::of(50))
        .unwrap()
        .visits;
    visits.into_iter().map(|visit| visit.caption.text).collect()
}
