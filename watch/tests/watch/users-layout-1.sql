-- users.db as its first layout made it, with a user and a session.
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
INSERT INTO user VALUES ('ann', '', 1, NULL);
INSERT INTO session VALUES (x'00', 'ann', 5);
