-- Times are milliseconds since 1970 UTC; ids are UUIDs as text; keys and digests are hexadecimal text.

CREATE TABLE organization (
    id             TEXT    NOT NULL PRIMARY KEY,
    name           TEXT    NOT NULL,
    created        INTEGER NOT NULL,
    -- Counts every change of policies; a grant names it.
    policy_version INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE user (
    id         TEXT    NOT NULL PRIMARY KEY,
    issuer     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    email      TEXT    NOT NULL,
    full_name  TEXT    NOT NULL,
    is_admin   INTEGER NOT NULL DEFAULT 0,
    created    INTEGER NOT NULL,
    last_login INTEGER,
    UNIQUE (issuer, subject)
) STRICT;

CREATE TABLE login (
    id           TEXT    NOT NULL PRIMARY KEY,
    user         TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    client_key   TEXT    NOT NULL,
    certificate  TEXT    NOT NULL,
    expires      INTEGER NOT NULL,
    -- iat of the last token accepted: an older one is refused.
    token_issued INTEGER NOT NULL,
    -- What {username} means for this login; null where the identity gives none.
    username     TEXT,
    -- JSON: the groups claim.
    groups       TEXT    NOT NULL,
    -- Logged out. The id is never taken again.
    ended        INTEGER
) STRICT;
CREATE INDEX login_user ON login (user);

CREATE TABLE claim (
    hash    TEXT    NOT NULL PRIMARY KEY,
    expires INTEGER NOT NULL,
    used    INTEGER,
    user    TEXT
) STRICT;

CREATE TABLE environment (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    description   TEXT    NOT NULL,
    is_default    INTEGER NOT NULL DEFAULT 0,
    created       INTEGER NOT NULL,
    offline_hours INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX environment_default ON environment (is_default) WHERE is_default = 1;

CREATE TABLE target (
    id             TEXT    NOT NULL PRIMARY KEY,
    name           TEXT    NOT NULL,
    environment    TEXT    NOT NULL REFERENCES environment (id),
    identity_key   TEXT    NOT NULL UNIQUE,
    control_key    TEXT    NOT NULL UNIQUE,
    host_name      TEXT    NOT NULL,
    version        TEXT    NOT NULL,
    local_policy   INTEGER NOT NULL,
    status         TEXT    NOT NULL,
    status_changed INTEGER NOT NULL,
    boot           TEXT,
    last_seen      INTEGER,
    -- JSON: the routes its agent announced.
    routes         TEXT    NOT NULL DEFAULT '[]',
    created        INTEGER NOT NULL,
    UNIQUE (environment, name)
) STRICT;

CREATE TABLE api_key (
    id              TEXT    NOT NULL PRIMARY KEY,
    name            TEXT    NOT NULL,
    created         INTEGER NOT NULL,
    is_registration INTEGER NOT NULL,
    -- SHA-256 of the secret, which is 32 random bytes.
    hash            TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE policy (
    id      TEXT    NOT NULL PRIMARY KEY,
    kind    TEXT    NOT NULL,
    name    TEXT    NOT NULL UNIQUE,
    -- JSON, as the API takes and gives it.
    content TEXT    NOT NULL,
    expires INTEGER,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

-- Names are copied: a log outlives what it names.
CREATE TABLE connection (
    id               TEXT    NOT NULL PRIMARY KEY,
    user             TEXT    NOT NULL,
    login            TEXT    NOT NULL,
    target           TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    mode             TEXT    NOT NULL,
    verb             TEXT    NOT NULL,
    -- opening, open, detached or closed.
    state            TEXT    NOT NULL,
    shell            TEXT,
    created          INTEGER NOT NULL,
    changed          INTEGER NOT NULL,
    actor            TEXT    NOT NULL,
    place            TEXT    NOT NULL,
    recorded_output  INTEGER NOT NULL,
    recorded_input   INTEGER NOT NULL
) STRICT;
CREATE INDEX connection_user ON connection (user, created);
CREATE INDEX connection_open ON connection (target) WHERE state <> 'closed';

CREATE TABLE connection_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    -- JSON, as the API gives it.
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX connection_event_connection ON connection_event (connection, seq);

CREATE TABLE command_event (
    seq        INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    subject    TEXT,
    connection TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX command_event_connection ON command_event (connection, seq);

-- Hash-chained: hash = SHA-256(hash before || body), the first over 32 zero bytes.
CREATE TABLE user_event (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    subject TEXT,
    action  TEXT    NOT NULL,
    allowed INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    hash    TEXT    NOT NULL
) STRICT;
