-- state.db as its first layout made it, with an event that is over and one that is open.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    alarm TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER,
    probability REAL,
    peak REAL,
    reason TEXT,
    caption TEXT NOT NULL,
    starred INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    false_alarm INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX event_open ON event (id) WHERE end IS NULL;
CREATE TABLE span (
    id INTEGER PRIMARY KEY,
    camera TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER
);
CREATE INDEX span_open ON span (camera) WHERE end IS NULL;
CREATE TABLE answer (
    minute INTEGER NOT NULL,
    camera TEXT NOT NULL,
    alarm TEXT NOT NULL,
    n INTEGER NOT NULL,
    sum REAL NOT NULL,
    least REAL NOT NULL,
    most REAL NOT NULL,
    PRIMARY KEY (minute, camera, alarm)
) WITHOUT ROWID;
INSERT INTO event VALUES (7, 'front', 'lying', 1000000000, 1000060000, 0.9, 0.97, 'answer', 'A man lies.', 1, 1, 0);
INSERT INTO event VALUES (8, 'front', 'lying', 1000120000, NULL, 0.9, 0.9, NULL, 'A man.', 0, 0, 0);
INSERT INTO span VALUES (1, 'front', 'live', '', 1000000000, NULL);
INSERT INTO answer VALUES (16666, 'front', 'lying', 4, 3.0, 0.2, 0.9);
