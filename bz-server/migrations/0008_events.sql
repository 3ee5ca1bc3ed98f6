-- All logs are one table and one chain: rows are added, cut off at the beginning by retention, and never changed.
--
-- hash = SHA-256 over the label "bz/1 log row;" and these parts, each after its length: the hash of the row before (32
-- zero bytes before the first), seq, log and at (8 bytes each, big-endian), and body, byte for byte as it stands here.
-- What is filtered by is generated from the body, so nothing that a row says lies outside of its hash.
CREATE TABLE event (
    -- From 1, without a gap.
    seq        INTEGER NOT NULL PRIMARY KEY,
    -- Which log: see `Log` in the code.
    log        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    -- JSON, as the API gives it.
    body       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    subject    TEXT    GENERATED ALWAYS AS (body ->> '$.subjectId') VIRTUAL,
    connection TEXT    GENERATED ALWAYS AS (body ->> '$.connectionId') VIRTUAL,
    target     TEXT    GENERATED ALWAYS AS (body ->> '$.targetId') VIRTUAL,
    -- What kind of event it is, in the logs that know kinds.
    kind       TEXT    GENERATED ALWAYS AS (CASE log WHEN 1 THEN body ->> '$.serviceAction'
                                                     WHEN 2 THEN body ->> '$.connectionEventType' END) VIRTUAL,
    denied     INTEGER GENERATED ALWAYS AS (CASE log WHEN 1 THEN body ->> '$.evaluation' = 0 END) VIRTUAL
) STRICT;

INSERT INTO event (seq, log, at, body, hash)
SELECT row_number() OVER (ORDER BY at, log, seq), log, at, body, x'' FROM (
              SELECT 1 AS log, seq, at, body FROM user_event
    UNION ALL SELECT 2, seq, at, body FROM connection_event
    UNION ALL SELECT 3, seq, at, body FROM command_event
    UNION ALL SELECT 4, seq, at, body FROM file_event
    UNION ALL SELECT 5, seq, at, body FROM query_event
    UNION ALL SELECT 6, seq, at, body FROM web_event
    UNION ALL SELECT 7, seq, at, body FROM kube_event
);

CREATE INDEX event_log ON event (log, at);
CREATE INDEX event_subject ON event (subject, log, at) WHERE subject IS NOT NULL;
CREATE INDEX event_connection ON event (connection, log, at) WHERE connection IS NOT NULL;
CREATE INDEX event_target ON event (target, log, at) WHERE target IS NOT NULL;
CREATE INDEX event_kind ON event (kind, log, at) WHERE kind IS NOT NULL;
CREATE INDEX event_denied ON event (at) WHERE denied;

-- The last row: how many there ever were, and its hash; and up to which one texts can be found.
CREATE TABLE event_head (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    count   INTEGER NOT NULL,
    hash    BLOB    NOT NULL,
    indexed INTEGER NOT NULL
) STRICT;
INSERT INTO event_head (one, count, hash, indexed) VALUES (1, 0, zeroblob(32), 0);

-- What retention left of the rows that it cut: signed by a key of the server that its root certifies.
CREATE TABLE event_anchor (
    count       INTEGER NOT NULL PRIMARY KEY,
    hash        BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    certificate BLOB    NOT NULL,
    signed      BLOB    NOT NULL
) STRICT;

-- Which ids had a name in events: 1 for people and keys, 2 for targets.
CREATE TABLE event_name (
    kind INTEGER NOT NULL,
    name TEXT    NOT NULL,
    id   TEXT    NOT NULL,
    PRIMARY KEY (kind, name, id)
) STRICT, WITHOUT ROWID;

-- Texts by all their runs of three characters. A rowid is the time of the event, and below it the end of its seq: see
-- `place` in the code.
CREATE VIRTUAL TABLE command_text USING fts5 (
    text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram'
);
CREATE VIRTUAL TABLE query_text USING fts5 (
    text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram'
);
