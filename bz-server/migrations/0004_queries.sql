-- Statements that databases were asked to run. Rows are added and never changed.
CREATE TABLE query_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX query_event_connection ON query_event (connection, seq);
