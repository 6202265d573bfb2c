// SPDX-License-Identifier: MPL-2.0

//! The cache of the Hugging Face hub: `models--owner--name` is not a checkpoint, it has checkpoints
//! in it, each in `snapshots/` under the hash of its commit.

use std::path::{Path, PathBuf};

/// The checkpoint that a path means: a snapshot, if it is a folder of the hub's cache, or else the
/// path itself. Of several snapshots `refs/main` names the one.
///
/// # Errors
/// A sentence that names the folders to choose from.
pub fn resolve(path: &Path) -> Result<PathBuf, String> {
    let repository = match path.ends_with("snapshots") {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    let snapshots = repository.join("snapshots");
    if !snapshots.is_dir() || path.join("config.json").exists() {
        return Ok(path.to_owned());
    }
    let main = std::fs::read_to_string(repository.join("refs/main")).unwrap_or_default();
    let main = snapshots.join(main.trim());
    if main != snapshots.join("") && main.is_dir() {
        return Ok(main);
    }
    let entries = std::fs::read_dir(&snapshots)
        .into_iter()
        .flatten()
        .flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    all.retain(|path| path.is_dir());
    all.sort();
    let place = repository.display();
    match all.as_slice() {
        [] => Err(format!(
            "{place} is a folder of the hub's cache without a snapshot; download the model again \
             (hf download)"
        )),
        [one] => Ok(one.clone()),
        several => {
            let names = several.iter().map(|path| path.display().to_string());
            Err(format!(
                "{place} is a folder of the hub's cache with several snapshots, and its refs/main \
                 names none; give one of {}",
                names.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A cache of one model with these snapshots.
    fn cache(snapshots: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("models--Qwen--Qwen3-VL-2B-Instruct");
        fs::create_dir_all(model.join("snapshots")).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        for snapshot in snapshots {
            let snapshot = model.join("snapshots").join(snapshot);
            fs::create_dir(&snapshot).unwrap();
            fs::write(snapshot.join("config.json"), "{}").unwrap();
        }
        (folder, model)
    }

    #[test]
    fn the_only_snapshot_is_the_model() {
        let (_folder, model) = cache(&["0a1b"]);
        let snapshot = model.join("snapshots/0a1b");
        for path in [&model, &model.join("snapshots"), &snapshot] {
            assert_eq!(resolve(path).unwrap(), snapshot, "{}", path.display());
        }
    }

    #[test]
    fn of_several_snapshots_main_is_the_model_and_without_it_they_are_named() {
        let (_folder, model) = cache(&["0a1b", "2c3d"]);
        let complaint = resolve(&model).unwrap_err();
        let names = complaint.contains("snapshots/0a1b") && complaint.contains("snapshots/2c3d");
        assert!(names, "{complaint}");
        fs::write(model.join("refs/main"), "2c3d\n").unwrap();
        assert_eq!(resolve(&model).unwrap(), model.join("snapshots/2c3d"));
        fs::write(model.join("refs/main"), "gone").unwrap();
        assert!(resolve(&model).is_err());
    }

    #[test]
    fn a_cache_without_a_snapshot_is_told_and_other_folders_are_taken_as_they_are() {
        let (folder, model) = cache(&[]);
        assert!(resolve(&model).unwrap_err().contains("without a snapshot"));
        for path in [
            folder.path(),
            Path::new("/no/such/folder"),
            Path::new("a.bmodel"),
        ] {
            assert_eq!(resolve(path).unwrap(), path);
        }
    }
}
