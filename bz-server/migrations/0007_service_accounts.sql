-- User or ServiceAccount: both log in, are subjects of policies and stand in logs.
ALTER TABLE user ADD COLUMN kind TEXT NOT NULL DEFAULT 'User';

CREATE TABLE service_account (
    user             TEXT    NOT NULL PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
    jwks_url         TEXT    NOT NULL UNIQUE,
    jwks_url_pattern TEXT    NOT NULL,
    external_id      TEXT    NOT NULL,
    created_by       TEXT    NOT NULL,
    enabled          INTEGER NOT NULL
) STRICT;
