-- What the newest grant says is recorded, whether the connection shows and takes what recordings are about, whether
-- nothing of it goes on unrecorded, whether somebody stopped its recording, and when its content was last deleted.
-- What is kept from now on follows from these and from policy; recorded_* say what ever was.
ALTER TABLE connection ADD COLUMN granted_output  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN granted_input   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN keeps_output    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN keeps_input     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN watched         INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN record_required INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN record_stopped  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connection ADD COLUMN record_deleted  INTEGER;
UPDATE connection SET granted_output = recorded_output, granted_input = recorded_input,
    keeps_output = recorded_output, keeps_input = recorded_input,
    watched = recorded_output OR recorded_input OR kind IN ('shell', 'exec');
CREATE INDEX connection_recorded ON connection (changed) WHERE recorded_output OR recorded_input;
