-- How a provider's directory knows a person, and whether it says that the account is deactivated.
CREATE TABLE directory_account (
    user        TEXT    NOT NULL PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
    issuer      TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    -- When the directory last answered about it.
    asked       INTEGER,
    deactivated INTEGER,
    UNIQUE (issuer, id)
) STRICT;

-- Who is in which of the groups that policies name, as the directory last said it. Nothing else of a directory is kept.
CREATE TABLE membership (
    user      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    group_id  TEXT    NOT NULL,
    confirmed INTEGER NOT NULL,
    PRIMARY KEY (user, group_id)
) STRICT, WITHOUT ROWID;

-- How asking a provider's directory goes.
CREATE TABLE directory (
    issuer     TEXT    NOT NULL PRIMARY KEY,
    synced     INTEGER,
    tried      INTEGER,
    error      TEXT,
    -- Not before: the directory asked for patience.
    retry      INTEGER,
    last_event INTEGER,
    -- The integration was removed.
    removed    INTEGER NOT NULL DEFAULT 0
) STRICT;
