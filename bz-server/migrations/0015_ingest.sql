-- More and smaller parts of the indexes of texts before they are merged: each merge writes its rows again.
INSERT INTO command_text (command_text, rank) VALUES ('automerge', 12);
INSERT INTO query_text (query_text, rank) VALUES ('automerge', 12);
