-- A week's captions as the first layout made them, with three captions that were not all indexed.
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE caption (
    id INTEGER PRIMARY KEY,
    camera INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    until INTEGER NOT NULL,
    count INTEGER NOT NULL,
    text TEXT NOT NULL,
    model INTEGER NOT NULL,
    hour INTEGER, offset INTEGER, length INTEGER
);
CREATE TABLE minute (t INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE indexed (one INTEGER PRIMARY KEY CHECK (one = 1), to_id INTEGER NOT NULL);
INSERT INTO indexed VALUES (1, 0);
CREATE VIRTUAL TABLE f USING fts5(text, content = '', contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 0');
INSERT INTO name VALUES (1, 'front'), (2, 'a model');
INSERT INTO caption VALUES (1, 1, 1000000000, 1000004000, 1000004000, 1, 'A red car.', 2, NULL, NULL, NULL);
INSERT INTO caption VALUES (2, 1, 1000010000, 1000014000, 1000030000, 3, 'A man walks.', 2, NULL, NULL, NULL);
INSERT INTO caption VALUES (3, 1, 1003660000, 1003664000, 1003664000, 1, 'A blue car.', 2, NULL, NULL, NULL);
INSERT INTO minute VALUES (16666, 1, 2), (16727, 3, 3);
INSERT INTO f (rowid, text) VALUES (1, 'A red car.'), (2, 'A man walks.');
UPDATE indexed SET to_id = 2;
