-- Responses of /v1/responses that are kept. Each part brings a database from the version before it; a part that was
-- released is never changed.

-- version 1
CREATE TABLE responses (
    position INTEGER PRIMARY KEY AUTOINCREMENT, -- the oldest go first
    n_bytes INTEGER NOT NULL,
    version INTEGER NOT NULL,                   -- of this response: a later one replaces it, an earlier one does not
    running INTEGER NOT NULL,                   -- it is being made in the background
    owner INTEGER NOT NULL,                     -- the key that may see it; 0: there are no keys
    id TEXT NOT NULL UNIQUE,
    response TEXT NOT NULL,                     -- JSON, as are the other two
    messages TEXT NOT NULL,                     -- the conversation up to and with the answer
    input TEXT NOT NULL
) STRICT;
CREATE INDEX responses_by_size ON responses(n_bytes);
