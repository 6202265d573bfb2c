// SPDX-License-Identifier: MPL-2.0

//! Who may look: users, their sessions, and the link with which the first one is made.
//!
//! Passwords are kept as argon2id hashes, sessions and links as SHA-256 of what the browser has, so
//! that whoever reads the file can be nobody. They are in a database of their own, `users.db`: a log-in
//! must not wait for captions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::store::db::{self, Durability};
use crate::store::reader::Scope;
use crate::store::{Error, files::Layout};
use crate::time::Millis;

/// How the layout came to be; a released step is never changed.
const LAYOUTS: &[&str] = &[
    "
CREATE TABLE user (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    admin INTEGER NOT NULL,
    cameras TEXT
);
CREATE TABLE session (
    hash BLOB PRIMARY KEY,
    user TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    seen INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE link (hash BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
",
    "
ALTER TABLE session ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN address TEXT NOT NULL DEFAULT '';
CREATE TABLE token (
    name TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    metrics INTEGER NOT NULL,
    cameras TEXT,
    begun INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0
);
",
];

/// A session ends when it was not used for so long.
const IDLE: Duration = Duration::from_secs(30 * 86_400);
/// The first user has to be made within this time of the start.
const LINK: Duration = Duration::from_secs(86_400);
/// A session's last use is written no more often than this.
const SEEN: Duration = Duration::from_secs(3_600);

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub admin: bool,
    /// Of which cameras; nothing is all.
    pub cameras: Option<BTreeSet<String>>,
}

/// A session, or a token of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// What it is ended by; it lets nobody in.
    pub id: String,
    /// Whose session it is, or the token's name.
    pub name: String,
    /// Where it was begun.
    pub address: String,
    pub begun: Millis,
    pub seen: Millis,
    /// For metrics and nothing else.
    pub metrics: bool,
}

/// What a token begins with, so that one that has gone astray is known for one.
pub const TOKEN: &str = "vlw_";

impl User {
    /// The cameras that he may know of.
    pub fn scope(&self) -> Scope {
        match &self.cameras {
            Some(cameras) => Scope::Cameras(cameras.clone()),
            None => Scope::All,
        }
    }
}

/// The open `users.db`.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    connection: Connection,
}

impl Accounts {
    /// Opens or makes it.
    pub fn open(layout: &Layout) -> Result<Self, Error> {
        layout.make()?;
        let path = layout.users();
        let connection = db::open(&path, Durability::Full, LAYOUTS)?;
        Ok(Self { path, connection })
    }

    /// All users, by name.
    pub fn users(&self) -> Result<Vec<User>, Error> {
        let read = || -> rusqlite::Result<Vec<User>> {
            let sql = "SELECT name, admin, cameras FROM user ORDER BY name";
            self.connection
                .prepare_cached(sql)?
                .query_map([], user)?
                .collect()
        };
        read().map_err(Error::sqlite(&self.path))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Also if the name is taken, or name or password are not good enough.
    pub fn add(&self, user: &User, password: &str) -> Result<(), Error> {
        good_name(&user.name)?;
        let hash = hash(password)?;
        let cameras = user
            .cameras
            .as_ref()
            .map(|cameras| cameras.iter().cloned().collect::<Vec<_>>().join(" "));
        let sql = "INSERT OR IGNORE INTO user VALUES (?1, ?2, ?3, ?4)";
        let n = self.execute(sql, params![user.name, hash, user.admin, cameras])?;
        if n == 1 {
            Ok(())
        } else {
            Err(Error::Refused(format!(
                "there is a user {} already",
                user.name
            )))
        }
    }

    /// Gives a user another password, and ends his sessions.
    pub fn change(&self, name: &str, password: &str) -> Result<(), Error> {
        let n = self.execute(
            "UPDATE user SET hash = ?2 WHERE name = ?1",
            params![name, hash(password)?],
        )?;
        self.execute("DELETE FROM session WHERE user = ?1", params![name])?;
        if n == 1 { Ok(()) } else { Err(nobody(name)) }
    }

    /// Takes a user away, and his sessions.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let n = self.execute("DELETE FROM user WHERE name = ?1", params![name])?;
        if n == 1 { Ok(()) } else { Err(nobody(name)) }
    }

    /// The user of this name and password. It takes as long for a name that there is not.
    pub fn verify(&self, name: &str, password: &str) -> Result<Option<User>, Error> {
        let sql = "SELECT name, admin, cameras, hash FROM user WHERE name = ?1";
        let row = |row: &rusqlite::Row| Ok((user(row)?, row.get::<_, String>(3)?));
        let found = self
            .connection
            .query_row(sql, [name], row)
            .optional()
            .map_err(Error::sqlite(&self.path))?;
        let stored = found.as_ref().map_or(NOBODY, |(_, hash)| hash.as_str());
        let stored =
            PasswordHash::new(stored).map_err(|error| Error::Refused(error.to_string()))?;
        let right = Argon2::default()
            .verify_password(password.as_bytes(), &stored)
            .is_ok();
        Ok(found.map(|(user, _)| user).filter(|_| right))
    }

    /// Begins a session; gives what the browser is to keep.
    pub fn begin(&self, user: &User, address: &str, now: Millis) -> Result<String, Error> {
        let token = token()?;
        self.execute(
            "DELETE FROM session WHERE seen < ?1",
            params![now.minus(IDLE).0],
        )?;
        self.execute(
            "INSERT INTO session VALUES (?1, ?2, ?3, ?3, ?4)",
            params![digest(&token), user.name, now.0, address],
        )?;
        Ok(token)
    }

    /// The user of a session.
    pub fn session(&self, token: &str, now: Millis) -> Result<Option<User>, Error> {
        let sql = "SELECT name, admin, cameras, seen FROM session JOIN user ON user.name = session.user WHERE session.hash = ?1";
        let digest = digest(token);
        let row = |row: &rusqlite::Row| Ok((user(row)?, row.get::<_, i64>(3)?));
        let query = || {
            self.connection
                .prepare_cached(sql)?
                .query_row(params![digest], row)
                .optional()
        };
        let found = query().map_err(Error::sqlite(&self.path))?;
        let Some((user, seen)) = found.filter(|(_, seen)| now.minus(IDLE).0 < *seen) else {
            return Ok(None);
        };
        if now.minus(SEEN).0 > seen {
            self.execute(
                "UPDATE session SET seen = ?2 WHERE hash = ?1",
                params![digest, now.0],
            )?;
        }
        Ok(Some(user))
    }

    /// Ends a session.
    pub fn end(&self, token: &str) -> Result<(), Error> {
        self.execute(
            "DELETE FROM session WHERE hash = ?1",
            params![digest(token)],
        )
        .map(|_| ())
    }

    /// The sessions that hold, of everybody or of one, the one that was used last first.
    pub fn sessions(&self, of: Option<&str>, now: Millis) -> Result<Vec<Pass>, Error> {
        let sql = "SELECT hex(hash), user, address, begun, seen, 0 FROM session
                   WHERE seen > ?1 AND (?2 IS NULL OR user = ?2) ORDER BY seen DESC";
        self.passes(sql, params![now.minus(IDLE).0, of])
    }

    /// Ends a session by its id; of this user alone, if one is named. Says whether there was one.
    pub fn end_session(&self, id: &str, of: Option<&str>) -> Result<bool, Error> {
        let sql = "DELETE FROM session WHERE hex(hash) = ?1 AND (?2 IS NULL OR user = ?2)";
        Ok(self.execute(sql, params![id, of])? > 0)
    }

    /// Makes a token for a program; it is shown this once.
    pub fn add_token(
        &self,
        name: &str,
        cameras: Option<&BTreeSet<String>>,
        metrics: bool,
        now: Millis,
    ) -> Result<String, Error> {
        good_name(name)?;
        let secret = format!("{TOKEN}{}", token()?);
        let cameras = cameras.map(|ids| ids.iter().cloned().collect::<Vec<_>>().join(" "));
        let values = params![name, digest(&secret), metrics, cameras, now.0];
        let sql = "INSERT OR IGNORE INTO token VALUES (?1, ?2, ?3, ?4, ?5, 0)";
        if self.execute(sql, values)? == 1 {
            Ok(secret)
        } else {
            Err(Error::Refused(format!("there is a token {name} already")))
        }
    }

    /// All tokens, by name.
    pub fn tokens(&self) -> Result<Vec<Pass>, Error> {
        self.passes(
            "SELECT name, name, '', begun, seen, metrics FROM token ORDER BY name",
            [],
        )
    }

    /// Takes a token away. Says whether there was one.
    pub fn remove_token(&self, name: &str) -> Result<bool, Error> {
        Ok(self.execute("DELETE FROM token WHERE name = ?1", params![name])? > 0)
    }

    /// Whoever a token stands for: a viewer, and whether it is for metrics alone.
    pub fn token(&self, secret: &str, now: Millis) -> Result<Option<(User, bool)>, Error> {
        let sql = "SELECT name, 0, cameras, metrics, seen FROM token WHERE hash = ?1";
        let digest = digest(secret);
        let row = |row: &rusqlite::Row| Ok((user(row)?, row.get(3)?, row.get::<_, i64>(4)?));
        let query = || {
            self.connection
                .prepare_cached(sql)?
                .query_row(params![digest], row)
                .optional()
        };
        let found = query().map_err(Error::sqlite(&self.path))?;
        let Some((user, metrics, seen)) = found else {
            return Ok(None);
        };
        if now.minus(SEEN).0 > seen {
            self.execute(
                "UPDATE token SET seen = ?2 WHERE hash = ?1",
                params![digest, now.0],
            )?;
        }
        Ok(Some((user, metrics)))
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Result<Option<User>, Error> {
        let query = || {
            let sql = "SELECT name, admin, cameras FROM user WHERE name = ?1";
            self.connection
                .prepare_cached(sql)?
                .query_row([name], user)
                .optional()
        };
        query().map_err(Error::sqlite(&self.path))
    }

    fn passes(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Pass>, Error> {
        let pass = |row: &rusqlite::Row| {
            Ok(Pass {
                id: row.get(0)?,
                name: row.get(1)?,
                address: row.get(2)?,
                begun: Millis(row.get(3)?),
                seen: Millis(row.get(4)?),
                metrics: row.get(5)?,
            })
        };
        let read = || -> rusqlite::Result<Vec<Pass>> {
            self.connection
                .prepare_cached(sql)?
                .query_map(values, pass)?
                .collect()
        };
        read().map_err(Error::sqlite(&self.path))
    }

    /// A link with which the first user is made, if there is none; those before it are void.
    pub fn link(&self, now: Millis) -> Result<Option<String>, Error> {
        self.execute("DELETE FROM link", [])?;
        if !self.users()?.is_empty() {
            return Ok(None);
        }
        let token = token()?;
        self.execute(
            "INSERT INTO link VALUES (?1, ?2)",
            params![digest(&token), now.plus(LINK).0],
        )?;
        Ok(Some(token))
    }

    /// Makes the first user, an admin, with a link that was not used yet.
    pub fn first(
        &self,
        link: &str,
        name: &str,
        password: &str,
        now: Millis,
    ) -> Result<User, Error> {
        let void = || {
            Error::Refused(
                "the link is no longer valid; the program's next start prints another one".into(),
            )
        };
        let sql = "SELECT 1 FROM link WHERE hash = ?1 AND until > ?2";
        let known = self
            .connection
            .query_row(sql, params![digest(link), now.0], |_| Ok(()))
            .optional();
        known.map_err(Error::sqlite(&self.path))?.ok_or_else(void)?;
        if !self.users()?.is_empty() {
            return Err(void());
        }
        let user = User {
            name: name.to_owned(),
            admin: true,
            cameras: None,
        };
        self.add(&user, password)?;
        self.execute("DELETE FROM link", [])?;
        Ok(user)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, Error> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map_err(Error::sqlite(&self.path))
    }
}

/// A hash of a password that nobody has.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$N3WqSMqGgVdVGgNXrW2ST0IZ2vHUPvSeJLJ9F9nfbrk";

fn user(row: &rusqlite::Row) -> rusqlite::Result<User> {
    let cameras: Option<String> = row.get(2)?;
    Ok(User {
        name: row.get(0)?,
        admin: row.get(1)?,
        cameras: cameras.map(|text| text.split_whitespace().map(str::to_owned).collect()),
    })
}

fn hash(password: &str) -> Result<String, Error> {
    let n = password.chars().count();
    if !(10..=256).contains(&n) {
        return Err(Error::Refused(format!(
            "a password has 10 to 256 characters, this one has {n}"
        )));
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string())
        .map_err(|error| Error::Refused(error.to_string()))
}

fn good_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
    if (1..=64).contains(&name.chars().count()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::Refused(
        "a name has 1 to 64 letters, digits, and - _ . @".into(),
    ))
}

fn nobody(name: &str) -> Error {
    Error::Refused(format!("there is no user {name}"))
}

/// 256 random bits in hexadecimal.
fn token() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Refused(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Asked for at the end of `add` and `passwd`: the first line of what somebody types or pipes.
pub fn first_line(path: &Path) -> Result<String, String> {
    use std::io::BufRead;
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut line = String::new();
    std::io::BufReader::new(file)
        .read_line(&mut line)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> (tempfile::TempDir, Accounts) {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&Layout::new(folder.path())).unwrap();
        (folder, accounts)
    }

    fn viewer(name: &str) -> User {
        User {
            name: name.into(),
            admin: false,
            cameras: Some(["front".to_owned()].into()),
        }
    }

    #[test]
    fn a_user_is_known_by_his_password_alone_and_sessions_end_with_it() {
        let (_folder, accounts) = accounts();
        accounts.add(&viewer("ann"), "long enough").unwrap();
        assert_eq!(
            accounts.verify("ann", "long enough").unwrap(),
            Some(viewer("ann"))
        );
        assert_eq!(accounts.verify("ann", "long enougH").unwrap(), None);
        assert_eq!(accounts.verify("bob", "long enough").unwrap(), None);
        let token = accounts
            .begin(&viewer("ann"), "127.0.0.1", Millis(0))
            .unwrap();
        assert_eq!(
            accounts.session(&token, Millis(1)).unwrap(),
            Some(viewer("ann"))
        );
        accounts.change("ann", "another one").unwrap();
        assert_eq!(accounts.session(&token, Millis(1)).unwrap(), None);
    }

    #[test]
    fn a_session_ends_after_30_days_without_use_and_not_before() {
        let (_folder, accounts) = accounts();
        accounts.add(&viewer("ann"), "long enough").unwrap();
        let day = |n: i64| Millis(n * 86_400_000);
        let token = accounts.begin(&viewer("ann"), "127.0.0.1", day(0)).unwrap();
        assert!(accounts.session(&token, day(20)).unwrap().is_some());
        assert!(accounts.session(&token, day(40)).unwrap().is_some());
        assert!(accounts.session(&token, day(71)).unwrap().is_none());
        accounts.end(&token).unwrap();
    }

    #[test]
    fn a_token_lets_a_program_in_until_it_is_taken_away() {
        let (folder, accounts) = accounts();
        let cameras = Some(["front".to_owned()].into());
        let token = accounts
            .add_token("grafana", cameras.as_ref(), true, Millis(0))
            .unwrap();
        assert!(token.starts_with(TOKEN) && token.len() > 60);
        assert!(
            accounts
                .add_token("grafana", None, false, Millis(0))
                .is_err()
        );
        let (user, metrics) = accounts.token(&token, Millis(1)).unwrap().unwrap();
        assert!(metrics && !user.admin && user.cameras == cameras);
        assert_eq!(accounts.token("vlw_guessed", Millis(1)).unwrap(), None);
        let bytes = std::fs::read(folder.path().join("users.db")).unwrap();
        assert!(
            !bytes
                .windows(token.len())
                .any(|part| part == token.as_bytes())
        );
        assert!(accounts.remove_token("grafana").unwrap());
        assert_eq!(accounts.token(&token, Millis(1)).unwrap(), None);
    }

    #[test]
    fn a_session_is_listed_and_ended_by_its_own_user_or_an_admin() {
        let (_folder, accounts) = accounts();
        for name in ["ann", "bob"] {
            accounts.add(&viewer(name), "long enough").unwrap();
        }
        let token = accounts
            .begin(&viewer("ann"), "10.0.0.7", Millis(5))
            .unwrap();
        accounts.begin(&viewer("bob"), "::1", Millis(6)).unwrap();
        assert_eq!(accounts.sessions(None, Millis(7)).unwrap().len(), 2);
        let own = accounts.sessions(Some("ann"), Millis(7)).unwrap();
        assert_eq!((own.len(), own[0].address.as_str()), (1, "10.0.0.7"));
        assert!(
            !token.contains(&own[0].id.to_lowercase()),
            "an id lets nobody in"
        );
        assert!(!accounts.end_session(&own[0].id, Some("bob")).unwrap());
        assert!(accounts.end_session(&own[0].id, Some("ann")).unwrap());
        assert_eq!(accounts.session(&token, Millis(8)).unwrap(), None);
    }

    #[test]
    fn nothing_in_the_file_lets_anybody_in() {
        let (folder, accounts) = accounts();
        accounts.add(&viewer("ann"), "canary-password").unwrap();
        let token = accounts
            .begin(&viewer("ann"), "127.0.0.1", Millis(0))
            .unwrap();
        drop(accounts);
        let bytes = std::fs::read(folder.path().join("users.db")).unwrap();
        for secret in ["canary-password", token.as_str()] {
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            );
        }
    }

    #[test]
    fn the_link_makes_one_user_and_only_while_there_is_none() {
        let (_folder, accounts) = accounts();
        let link = accounts.link(Millis(0)).unwrap().unwrap();
        assert!(
            accounts
                .first("guessed", "ann", "long enough", Millis(1))
                .is_err()
        );
        assert!(accounts.first(&link, "ann", "short", Millis(1)).is_err());
        assert!(
            accounts
                .first(&link, "ann", "long enough", Millis(1))
                .unwrap()
                .admin
        );
        assert!(
            accounts
                .first(&link, "eve", "long enough", Millis(2))
                .is_err()
        );
        assert_eq!(accounts.link(Millis(3)).unwrap(), None);
    }

    #[test]
    fn an_unknown_name_takes_as_long_as_a_known_one() {
        // The stand-in's hash must be read, with the same costs as a new one.
        let stand_in = PasswordHash::new(NOBODY).unwrap();
        let fresh = hash("long enough").unwrap();
        let fresh = PasswordHash::new(&fresh).unwrap();
        assert_eq!(stand_in.params, fresh.params);
        assert_eq!(stand_in.algorithm, fresh.algorithm);
    }
}
