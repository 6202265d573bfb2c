// SPDX-License-Identifier: MPL-2.0

//! Copies of a store, made while it is written, and brought back.

use std::path::{Path, PathBuf};

use crate::time::Millis;

use super::db;
use super::error::Error;
use super::files::{Layout, Lock};
use super::pack;

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub databases: usize,
    pub packs: usize,
    pub clips: usize,
}

/// Copies a store into a new or empty folder. Packs and clips on the same disk are linked, not copied.
pub fn backup(from: &Layout, to: &Path) -> Result<Copied, Error> {
    if !from.state().exists() {
        return Err(Error::Refused(format!(
            "there is no store in {}",
            from.root.display()
        )));
    }
    empty(to)?;
    copy(from, &Layout::new(to))
}

fn copy(from: &Layout, to: &Layout) -> Result<Copied, Error> {
    to.make()?;
    let mut copied = Copied::default();
    let weeks = from
        .weeks()
        .into_iter()
        .map(|week| (from.week(week), to.week(week)));
    let users = (from.users(), to.users());
    let users = Some(users).filter(|(source, _)| source.exists());
    let state = std::iter::once((from.state(), to.state()));
    for (source, target) in state.chain(users).chain(weeks) {
        let connection = db::open_to_read(&source)?;
        db::vacuum_into(&connection, &target).map_err(Error::sqlite(&source))?;
        copied.databases += 1;
    }
    for (camera, pack) in files_of_cameras(&from.thumbs()) {
        let folder = to.thumbs().join(camera);
        std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        let Some(name) = pack.file_name() else {
            continue;
        };
        let target = folder.join(name);
        // The pack of this hour still grows: a link would grow with it.
        let grows = name
            .to_str()
            .and_then(pack::hour_of)
            .is_none_or(|hour| hour >= Millis::now().hour());
        if grows || std::fs::hard_link(&pack, &target).is_err() {
            std::fs::copy(&pack, &target).map_err(Error::file(&pack))?;
        }
        copied.packs += 1;
    }
    for (camera, clip) in files_of_cameras(&from.clips()) {
        let whole = clip.extension().is_some_and(|end| end == "mp4");
        let Some(name) = clip.file_name().filter(|_| whole) else {
            continue;
        };
        let folder = to.clips().join(camera);
        std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        let target = folder.join(name);
        if std::fs::hard_link(&clip, &target).is_err() {
            std::fs::copy(&clip, &target).map_err(Error::file(&clip))?;
        }
        copied.clips += 1;
    }
    Ok(copied)
}

/// Puts a backup in a store's place; what was there is moved aside, and where to is said.
pub fn restore(from: &Path, to: &Layout) -> Result<(Copied, Option<PathBuf>), Error> {
    let from = Layout::new(from);
    let databases =
        std::iter::once(from.state()).chain(from.weeks().into_iter().map(|week| from.week(week)));
    for path in databases {
        if let Some(damage) = db::damage(&path) {
            return Err(Error::Refused(format!(
                "the backup is not sound, nothing was changed: {}: {damage}",
                path.display()
            )));
        }
    }
    let mut aside = None;
    if to.root.exists() && !is_empty(&to.root) {
        // Within the folder: it may be a mount, or all that this user may write to.
        let lock = Lock::take(to)?;
        let folder = to.root.join(format!("before-{}", Millis::now().0));
        std::fs::create_dir(&folder).map_err(Error::file(&folder))?;
        for name in OWN.iter().filter(|name| to.root.join(name).exists()) {
            std::fs::rename(to.root.join(name), folder.join(name)).map_err(Error::file(&folder))?;
        }
        lock.clean();
        aside = Some(folder);
    }
    let copied = copy(&from, to)?;
    Ok((copied, aside))
}

/// What a store has in its folder besides the lock.
const OWN: &[&str] = &[
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "captions",
    "thumbs",
    "clips",
    "users.db",
    "users.db-wal",
    "users.db-shm",
];

/// Every file in the folders of cameras, with its camera.
fn files_of_cameras(root: &Path) -> Vec<(std::ffi::OsString, PathBuf)> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let cameras = entries(root).map(|entry| (entry.file_name(), entry.path()));
    cameras
        .flat_map(|(camera, folder)| {
            entries(&folder)
                .map(move |entry| (camera.clone(), entry.path()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn empty(path: &Path) -> Result<(), Error> {
    if path.exists() && !is_empty(path) {
        return Err(Error::Refused(format!(
            "{} is not empty; name a new folder",
            path.display()
        )));
    }
    Ok(())
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
