-- Reads logs and recordings, and changes nothing.
ALTER TABLE user ADD COLUMN is_auditor INTEGER NOT NULL DEFAULT 0;

-- A service account publishes a key set, or is a job that its issuer's claims tell.
CREATE TABLE account (
    user             TEXT    NOT NULL PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
    jwks_url         TEXT    UNIQUE,
    jwks_url_pattern TEXT,
    claims           TEXT,
    external_id      TEXT    NOT NULL,
    created_by       TEXT    NOT NULL,
    enabled          INTEGER NOT NULL
) STRICT;

INSERT INTO account (user, jwks_url, jwks_url_pattern, external_id, created_by, enabled)
    SELECT user, jwks_url, jwks_url_pattern, external_id, created_by, enabled FROM service_account;
DROP TABLE service_account;
ALTER TABLE account RENAME TO service_account;
