-- What a key was before is what the defaults say: everything, from everywhere, for ever.
ALTER TABLE api_key ADD COLUMN scopes TEXT NOT NULL DEFAULT '["all"]';
ALTER TABLE api_key ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE api_key ADD COLUMN expires INTEGER;
-- JSON: ranges of addresses.
ALTER TABLE api_key ADD COLUMN ranges TEXT NOT NULL DEFAULT '[]';
-- The person or service account that a key ends with, or the program that has it.
ALTER TABLE api_key ADD COLUMN owner TEXT REFERENCES user (id) ON DELETE CASCADE;
ALTER TABLE api_key ADD COLUMN application TEXT;
-- Whether it is its owner's own registration key, of which there is one.
ALTER TABLE api_key ADD COLUMN personal INTEGER NOT NULL DEFAULT 0;
-- The registration key that a token was made of.
ALTER TABLE api_key ADD COLUMN parent TEXT REFERENCES api_key (id) ON DELETE CASCADE;
ALTER TABLE api_key ADD COLUMN environment TEXT REFERENCES environment (id) ON DELETE CASCADE;
ALTER TABLE api_key ADD COLUMN uses_left INTEGER;
ALTER TABLE api_key ADD COLUMN last_used INTEGER;
ALTER TABLE api_key ADD COLUMN last_used_from TEXT;
-- Whether the hash is under the key that is a file of the data folder, as every hash is after the first start.
ALTER TABLE api_key ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0;
-- The hash from before a rotation, and until when it is good.
ALTER TABLE api_key ADD COLUMN old_hash TEXT;
ALTER TABLE api_key ADD COLUMN old_until INTEGER;
CREATE UNIQUE INDEX api_key_personal ON api_key (owner) WHERE personal = 1;
CREATE INDEX api_key_old ON api_key (old_hash) WHERE old_hash IS NOT NULL;
CREATE INDEX api_key_parent ON api_key (parent) WHERE parent IS NOT NULL;

ALTER TABLE organization ADD COLUMN global_registration_key INTEGER NOT NULL DEFAULT 1;
ALTER TABLE organization ADD COLUMN default_registration_key TEXT REFERENCES api_key (id) ON DELETE SET NULL;
