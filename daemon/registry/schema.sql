-- The registry's tables. Each part brings a database from the version before it; the first makes an empty one. A part
-- that was released is never changed: what comes later is a part of its own.

-- version 1
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,          -- without ":latest"
    path TEXT NOT NULL DEFAULT '',      -- of one registered in place; '' where its files are blobs
    manifest TEXT NOT NULL DEFAULT '',  -- digest of what it was pulled or made from
    origin TEXT NOT NULL DEFAULT '',
    family TEXT NOT NULL DEFAULT '',
    quant TEXT NOT NULL DEFAULT '',
    n_params INTEGER NOT NULL DEFAULT 0,
    n_bytes INTEGER NOT NULL DEFAULT 0,
    created_us INTEGER NOT NULL,
    modified_us INTEGER NOT NULL,
    removed_us INTEGER NOT NULL DEFAULT 0,      -- hidden since
    purge_us INTEGER NOT NULL DEFAULT 0         -- not to be restored from then on
) STRICT;
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,            -- "sha256:" and 64 hexadecimal digits
    n_bytes INTEGER NOT NULL,
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE files (
    model INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('weights', 'part', 'adapter', 'projector', 'other')),
    name TEXT NOT NULL,                 -- what the loader of several files looks for
    digest TEXT NOT NULL REFERENCES blobs(digest),
    PRIMARY KEY (model, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_digest ON files(digest);
CREATE TABLE parameters (               -- and whatever else overrides a file's own, in the order given
    model INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('parameter', 'template', 'system', 'license', 'message', 'warning')),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE adapters (                 -- for models and requests that name one; LoRA adapters are registered by path
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL REFERENCES blobs(digest),
    family TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE aliases (
    name TEXT PRIMARY KEY,
    target TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,                 -- SHA-256 of the whole text
    label TEXT NOT NULL,
    scopes INTEGER NOT NULL,
    models TEXT NOT NULL,
    requests_per_minute INTEGER NOT NULL,
    tokens_per_day INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    revoked_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    day INTEGER NOT NULL,               -- since 1970, UTC
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    n_requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    answer_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, key, model)
) STRICT, WITHOUT ROWID;

-- version 2
ALTER TABLE keys ADD COLUMN tokens_per_minute INTEGER NOT NULL DEFAULT 0;
