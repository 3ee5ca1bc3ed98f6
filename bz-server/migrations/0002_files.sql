-- Files that were copied, or were to be. Rows are added and never changed.
CREATE TABLE file_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX file_event_connection ON file_event (connection, seq);
