-- Requests to web servers and clusters behind targets. Rows are added and never changed.
CREATE TABLE web_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX web_event_connection ON web_event (connection, seq);

CREATE TABLE kube_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX kube_event_connection ON kube_event (connection, seq);
