-- When and how a login passed the second factor.
ALTER TABLE login ADD COLUMN mfa_method TEXT;
ALTER TABLE login ADD COLUMN mfa_at INTEGER;

-- The second factor of those who were ever asked for one, or asked for it themselves.
CREATE TABLE mfa (
    user         TEXT    NOT NULL PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
    -- Null: as the organization controls say.
    enabled      INTEGER,
    -- The secret, encrypted; null until a code of a proposed one confirmed it.
    secret       TEXT,
    proposed     TEXT,
    -- The login that the proposed secret was shown to.
    proposed_to  TEXT,
    -- The step of the last code taken: none of it or before is taken again.
    last_step    INTEGER NOT NULL,
    failures     INTEGER NOT NULL,
    locked_until INTEGER,
    grace_ends   INTEGER,
    -- JSON: SHA-256 of each recovery code that is left.
    recovery     TEXT    NOT NULL
) STRICT;
