-- Databases, web servers and clusters that the agent of a target reaches for others.

CREATE TABLE virtual_target (
    id                TEXT    NOT NULL PRIMARY KEY,
    -- Db, Web or Cluster.
    kind              TEXT    NOT NULL,
    name              TEXT    NOT NULL,
    environment       TEXT    NOT NULL REFERENCES environment (id),
    -- One of the two. What is behind a target that was deleted stays, and is offline.
    proxy_target      TEXT,
    proxy_environment TEXT,
    -- Null for clusters: their agents know where they are.
    remote            TEXT,
    -- Whether the agent speaks TLS to it, verified.
    tls               INTEGER NOT NULL,
    -- The database's name in the table of databases; empty for any.
    database          TEXT    NOT NULL,
    label             TEXT    NOT NULL,
    local_host        TEXT,
    local_port        INTEGER,
    created           INTEGER NOT NULL,
    UNIQUE (environment, name),
    CHECK ((proxy_target IS NULL) <> (proxy_environment IS NULL))
) STRICT;

-- The target whose agent acts: the connection's own, or the one that it is behind.
ALTER TABLE connection ADD COLUMN agent TEXT NOT NULL DEFAULT '';
UPDATE connection SET agent = target;
CREATE INDEX connection_agent ON connection (agent) WHERE state <> 'closed';
-- Whether the log of statements leaves out values.
ALTER TABLE connection ADD COLUMN redacted INTEGER NOT NULL DEFAULT 0;

-- Logins of people who were deleted: their ids are never taken again.
CREATE TABLE ended_login (
    id    TEXT    NOT NULL PRIMARY KEY,
    ended INTEGER NOT NULL
) STRICT;
