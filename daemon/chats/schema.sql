-- Chats, and what belongs to them. Each part brings a database from the version before it; the first makes an empty one.
-- A part that was released is never changed: what comes later is a part of its own. Times are microseconds since 1970;
-- "owner" is the id of a key, '' where none were in use.

-- version 1
CREATE TABLE folders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,       -- never given twice, also after what had it is gone
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 1,
    created_us INTEGER NOT NULL,
    modified_us INTEGER NOT NULL
) STRICT;
CREATE TABLE chats (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    folder INTEGER REFERENCES folders(id) ON DELETE SET NULL,
    title TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    system TEXT NOT NULL DEFAULT '',
    parameters TEXT NOT NULL DEFAULT '{}',      -- JSON; fields of /v1/chat/completions
    pinned INTEGER NOT NULL DEFAULT 0,
    leaf INTEGER,                               -- the message that the shown branch ends with
    revision INTEGER NOT NULL DEFAULT 1,        -- of what people edit: not of messages and the leaf
    created_us INTEGER NOT NULL,
    modified_us INTEGER NOT NULL,               -- messages count
    removed_us INTEGER NOT NULL DEFAULT 0,      -- hidden since
    purge_us INTEGER NOT NULL DEFAULT 0         -- not to be restored from then on
) STRICT;
CREATE INDEX chats_by_time ON chats(removed_us, pinned, modified_us, id);
CREATE INDEX chats_by_folder ON chats(folder);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat INTEGER NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    parent INTEGER,                             -- no reference: cascades along a long branch would be too deep
    role TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
    state TEXT NOT NULL CHECK (state IN ('complete', 'running', 'stopped', 'interrupted', 'failed')),
    content TEXT NOT NULL,
    reasoning TEXT NOT NULL DEFAULT '',
    tool_calls TEXT NOT NULL DEFAULT '',        -- JSON, OpenAI's form, or ''
    tool_call_id TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    parameters TEXT NOT NULL DEFAULT '',        -- JSON: what the answer was made with
    stats TEXT NOT NULL DEFAULT '',             -- JSON: tokens, times, why it ended
    revision INTEGER NOT NULL DEFAULT 1,
    created_us INTEGER NOT NULL,
    modified_us INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_chat ON messages(chat, id);
CREATE INDEX messages_by_parent ON messages(parent);
CREATE TABLE attachments (
    message INTEGER NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (message, position)
) STRICT;
CREATE TABLE answers (                          -- what answers are made of, so that they can be gone on with exactly
    message INTEGER PRIMARY KEY REFERENCES messages(id) ON DELETE CASCADE,
    source TEXT NOT NULL,                       -- names the model's file: ids of another one mean nothing
    prompt BLOB NOT NULL,                       -- token ids, int32 little-endian; empty: to be made anew
    tokens BLOB NOT NULL                        -- of the answer, without the token that ended it
) STRICT;
CREATE TABLE generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat INTEGER NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    message INTEGER NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('running', 'complete', 'stopped', 'interrupted', 'failed')),
    last INTEGER NOT NULL DEFAULT 0,            -- number of the newest event
    created_us INTEGER NOT NULL,
    ended_us INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX generations_by_chat ON generations(chat, state);
CREATE INDEX generations_by_message ON generations(message);
CREATE INDEX generations_running ON generations(state) WHERE state = 'running';
CREATE TABLE chunks (                           -- what was generated between two writes
    generation INTEGER NOT NULL REFERENCES generations(id) ON DELETE CASCADE,
    last INTEGER NOT NULL,                      -- number of its last event
    events TEXT NOT NULL,                       -- JSON list
    tokens BLOB NOT NULL,                       -- of the answer, with these events
    PRIMARY KEY (generation, last)
) STRICT;
CREATE TABLE presets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    system TEXT NOT NULL DEFAULT '',
    parameters TEXT NOT NULL DEFAULT '{}',
    revision INTEGER NOT NULL DEFAULT 1,
    created_us INTEGER NOT NULL,
    modified_us INTEGER NOT NULL
) STRICT;
CREATE TABLE settings (                         -- no secrets: keys are the registry's
    owner TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    content TEXT NOT NULL                       -- JSON: only what differs from the defaults
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE messages_text USING fts5(content, content='messages', content_rowid='id',
                                              tokenize="unicode61 remove_diacritics 2", prefix='2 3');
CREATE TRIGGER messages_text_made AFTER INSERT ON messages BEGIN
    INSERT INTO messages_text(rowid, content) VALUES (new.id, new.content);
END;
CREATE TRIGGER messages_text_gone AFTER DELETE ON messages BEGIN
    INSERT INTO messages_text(messages_text, rowid, content) VALUES ('delete', old.id, old.content);
END;
CREATE TRIGGER messages_text_changed AFTER UPDATE OF content ON messages WHEN old.content IS NOT new.content BEGIN
    INSERT INTO messages_text(messages_text, rowid, content) VALUES ('delete', old.id, old.content);
    INSERT INTO messages_text(rowid, content) VALUES (new.id, new.content);
END;
CREATE VIRTUAL TABLE chats_text USING fts5(title, content='chats', content_rowid='id',
                                           tokenize="unicode61 remove_diacritics 2", prefix='2 3');
CREATE TRIGGER chats_text_made AFTER INSERT ON chats BEGIN
    INSERT INTO chats_text(rowid, title) VALUES (new.id, new.title);
END;
CREATE TRIGGER chats_text_gone AFTER DELETE ON chats BEGIN
    INSERT INTO chats_text(chats_text, rowid, title) VALUES ('delete', old.id, old.title);
END;
CREATE TRIGGER chats_text_changed AFTER UPDATE OF title ON chats WHEN old.title IS NOT new.title BEGIN
    INSERT INTO chats_text(chats_text, rowid, title) VALUES ('delete', old.id, old.title);
    INSERT INTO chats_text(rowid, title) VALUES (new.id, new.title);
END;
