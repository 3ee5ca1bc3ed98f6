-- What each policy said after each of its changes, and who made them. Rows are added and never changed.
CREATE TABLE policy_version (
    policy  TEXT    NOT NULL,
    -- From 1 for each policy, without a gap.
    number  INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    -- JSON, as in policy; of one that is gone what it said last.
    content TEXT    NOT NULL,
    -- Created, Edited, Deleted, Expired or SubjectDeleted; Kept for what was there before there were versions.
    change  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    -- JSON: who, as logs name one; null for the server itself.
    actor   TEXT,
    PRIMARY KEY (policy, number)
) STRICT;
CREATE INDEX policy_version_name ON policy_version (name, at);
INSERT INTO policy_version (policy, number, kind, name, content, change, at)
SELECT id, 1, kind, name, content, 'Kept', created FROM policy;

-- JSON objects: the labels that administrators gave, and those that the agent gave its own host.
ALTER TABLE target ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE target ADD COLUMN agent_labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE virtual_target ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
CREATE INDEX target_name ON target (name, id);
