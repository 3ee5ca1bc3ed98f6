-- How far each place that logs are sent to has got: the number of the last row that it took.
CREATE TABLE sink (
    name TEXT    NOT NULL PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT;

-- When what is done by hand on the server's host was done last: a backup, a rotation of keys.
CREATE TABLE last_done (
    what TEXT    NOT NULL PRIMARY KEY,
    at   INTEGER NOT NULL
) STRICT;
