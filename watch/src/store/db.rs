// SPDX-License-Identifier: MPL-2.0

//! Opening databases: how durable, which layout, whether they are sound.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::Error;

/// What a loss of power may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// The last commits; the file stays sound.
    Normal,
}

/// Opens a database to write, and brings it to the newest layout: `layouts[n]` makes layout n + 1 of
/// layout n. A copy of the file is kept before it is changed. One that is new is there whole or not at all:
/// somebody may read it as soon as it has its name.
pub fn open(path: &Path, durability: Durability, layouts: &[&str]) -> Result<Connection, Error> {
    if !path.exists() {
        let fresh = path.with_extension("new");
        for left in ["new", "new-wal", "new-shm"] {
            let _ = std::fs::remove_file(path.with_extension(left));
        }
        // Closing it folds its log into it.
        drop(laid_out(&fresh, durability, layouts)?);
        std::fs::rename(&fresh, path).map_err(Error::file(path))?;
    }
    laid_out(path, durability, layouts)
}

fn laid_out(path: &Path, durability: Durability, layouts: &[&str]) -> Result<Connection, Error> {
    let fault = || Error::sqlite(path);
    let mut connection = Connection::open(path).map_err(fault())?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(fault())?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; \
         PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 4194304;"
    );
    connection.execute_batch(&pragmas).map_err(fault())?;
    let known = layouts.len() as i64;
    let found = version(&connection).map_err(fault())?;
    if found > known {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    if found > 0 && found < known {
        let copy = path.with_extension(format!("layout-{found}.db"));
        if !copy.exists() {
            vacuum_into(&connection, &copy).map_err(fault())?;
        }
    }
    for at in found..known {
        let transaction = connection.transaction().map_err(fault())?;
        let step = layouts[usize::try_from(at).unwrap_or_default()];
        transaction.execute_batch(step).map_err(fault())?;
        transaction
            .pragma_update(None, "user_version", at + 1)
            .map_err(fault())?;
        transaction.commit().map_err(fault())?;
    }
    Ok(connection)
}

/// What a reader remembers of a file, in kibibytes as SQLite counts them; the system remembers the rest.
const READ_CACHE: i64 = -1_000;

/// Opens a database to read beside its writer.
pub fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(Error::sqlite(path))?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .and_then(|()| connection.pragma_update(None, "cache_size", READ_CACHE))
        .map_err(Error::sqlite(path))?;
    Ok(connection)
}

/// What SQLite finds wrong with a file; nothing if it is sound.
pub fn damage(path: &Path) -> Option<String> {
    let look = || -> Result<String, Error> {
        let connection = open_to_read(path)?;
        let first = |row: &rusqlite::Row| row.get::<_, String>(0);
        connection
            .query_row("PRAGMA quick_check(1)", [], first)
            .map_err(Error::sqlite(path))
    };
    match look() {
        Ok(answer) if answer == "ok" => None,
        Ok(answer) => Some(answer),
        Err(error) => Some(error.to_string()),
    }
}

/// A sound, compact copy, while others write.
pub fn vacuum_into(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
    Ok(())
}

/// The release of SQLite in this program.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_has_the_repair_of_the_wal_reset_fault() {
        // Releases through 3.51.2 can corrupt a WAL database that two connections use.
        assert!(
            rusqlite::version_number() >= 3_051_003,
            "{}",
            sqlite_version()
        );
    }

    #[test]
    fn a_layout_is_brought_up_to_date_and_the_old_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let first = "CREATE TABLE t (a)";
        open(&path, Durability::Full, &[first])
            .unwrap()
            .execute("INSERT INTO t VALUES (7)", [])
            .unwrap();
        let connection = open(
            &path,
            Durability::Full,
            &[first, "ALTER TABLE t ADD COLUMN b"],
        )
        .unwrap();
        let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?));
        let found: (i64, Option<i64>) =
            connection.query_row("SELECT a, b FROM t", [], row).unwrap();
        assert_eq!(found, (7, None));
        assert!(folder.path().join("a.layout-1.db").exists());
    }

    #[test]
    fn whoever_reads_a_file_that_is_being_made_finds_all_of_it_or_none() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..50 {
            let path = folder.path().join(format!("{n}.db"));
            let layouts = ["CREATE TABLE t (a)", "CREATE TABLE u (a)"];
            let reader = std::thread::spawn({
                let path = path.clone();
                move || {
                    while !path.exists() {
                        std::hint::spin_loop();
                    }
                    let connection = open_to_read(&path).unwrap();
                    connection
                        .query_row("SELECT count(*) FROM t, u", [], |row| row.get::<_, i64>(0))
                        .unwrap()
                }
            });
            let made = open(&path, Durability::Normal, &layouts).unwrap();
            assert_eq!(reader.join().unwrap(), 0);
            drop(made);
        }
    }

    #[test]
    fn a_newer_layout_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(
            open(
                &path,
                Durability::Full,
                &["CREATE TABLE t (a)", "CREATE TABLE u (a)"],
            )
            .unwrap(),
        );
        let error = open(&path, Durability::Full, &["CREATE TABLE t (a)"]).unwrap_err();
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(open(&path, Durability::Full, &["CREATE TABLE t (a)"]).unwrap());
        assert_eq!(damage(&path), None);
        std::fs::write(
            &path,
            b"no database at all, but long enough to be looked at",
        )
        .unwrap();
        assert!(damage(&path).is_some());
    }
}
