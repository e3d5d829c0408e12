/*
 * The registry: which models there are, where their files lie, what overrides their defaults; keys and usage.
 * Owner: the caller. Lifetime: registry_open to registry_close. Any thread; what changes the store takes turns.
 *
 * The model directory holds what its user put there (*.gguf and folders with a config.json, found by name) and, in
 * .mlxr, the store: registry.db          models, files, aliases, parameters, keys, usage (schema.sql)
 *     blobs/sha256-<hex>   files under the digest of their bytes; never changed once they are there
 *     sets/<id>-<when>/    links to the blobs of a model of several files, under the names its loader looks for
 *     partial/             downloads that are not complete
 *     lock                 held by whoever changes any of this, in whichever process
 *
 * Models are found in this order: given by path to this registry, stored, aliases, the model directory, and what
 * Hugging Face's cache, Ollama and LM Studio have on this machine. A name is [owner/…]name[:tag]; ":latest" may be left
 * out; where nothing matches exactly, case is ignored. A name never becomes part of a path.
 */
#ifndef MLXR_REGISTRY_H
#define MLXR_REGISTRY_H

#include <jansson.h>

#include "mlxr.h"

typedef struct registry registry;

typedef struct registry_options { /* {0} is a valid default */
    bool read_only;               /* change nothing; a store that is not there is empty */
    bool or_read_only;            /* a store that cannot be written is opened so: registry_closed says it */
    bool no_foreign;              /* do not look into other programs' folders */
    uint32_t lock_timeout_ms;     /* how long to wait for another writer; 0: 10,000 */
} registry_options;

#define REGISTRY_NAME_MAX 255u
#define REGISTRY_PATH_MAX 4096u
#define REGISTRY_DIGEST_MAX 72u /* "sha256:" and 64 hexadecimal digits */

/* $MLXR_MODELS, else $XDG_DATA_HOME/mlxr/models, else ~/.local/share/mlxr/models. False if that is too long, or there
 * is no home. */
bool registry_directory(char *out, size_t cap);

/* Opens the system's libraries that downloads and digests need, which otherwise the first of them does: for a process
 * that enters a sandbox. What is missing, who needs it says. */
void registry_prepare(void);

/* Tells the model directory (NULL: registry_directory's) from others of this machine, whatever path leads there; ""
 * where there is none. */
#define REGISTRY_MARK_MAX 17u
void registry_mark(const char *directory, char *out);

/* NULL for `directory`: registry_directory's. Makes the store if it is missing. */
mlxr_status registry_open(registry **out, const char *directory, const registry_options *options, mlxr_error *error);
void registry_close(registry **r);
/* Why nothing can be changed, of one that was to be; "" where it can. Lives as long as the registry. */
const char *registry_closed(const registry *r);

/* ---- models ------------------------------------------------------------------------------------------------------ */

typedef enum registry_source {
    REGISTRY_STORED,       /* its files are blobs */
    REGISTRY_IN_PLACE,     /* registered by path */
    REGISTRY_DIRECTORY,    /* found in the model directory */
    REGISTRY_HUGGING_FACE, /* found in its cache */
    REGISTRY_OLLAMA,
    REGISTRY_LM_STUDIO,
} registry_source;
const char *registry_source_name(registry_source source);

typedef struct registry_pair {
    char *name, *value;
} registry_pair;

typedef struct registry_pairs {
    registry_pair *items;
    size_t n, cap;
} registry_pairs;

/* Copies both texts. False: no memory. */
bool registry_pairs_add(registry_pairs *pairs, const char *name, const char *value);
void registry_pairs_close(registry_pairs *pairs);

typedef struct registry_model {
    char *name;     /* as registered, without ":latest" */
    char *path;     /* what mlxr_model_load takes */
    char *digest;   /* "sha256:…" of the weights' file; "" where nobody has computed it */
    char *id;       /* 64 hexadecimal digits that change when anything of the model does */
    char *origin;   /* where it was pulled from, or "" */
    char *alias_of; /* the name behind an alias in a list, or NULL */
    registry_source source;
    uint64_t n_bytes;
    int64_t modified_us; /* since 1970 */
    /* From the file; "" and 0 where it cannot be read, and `unusable` says why. */
    char *family, *quant, *unusable;
    uint64_t n_params;
    uint32_t n_ctx_train;
    bool has_template; /* in the file */
    /* What overrides the file's own; NULL: nothing. */
    char *template_text; /* Jinja */
    char *system, *license;
    registry_pairs parameters; /* in the order given; "stop" may come several times */
    registry_pairs messages;   /* role, content */
    registry_pairs warnings;   /* what of the original could not be taken over: what, why */
    registry_pairs adapters;   /* LoRA, in the order in which they are added: path, digest ("" where nobody knows it) */
} registry_model;

/* MLXR_ARG: there is no such model; the text names similar ones. */
mlxr_status registry_resolve(registry *r, const char *name, registry_model *out, mlxr_error *error);
void registry_model_close(registry_model *m);
mlxr_status registry_model_copy(registry_model *out, const registry_model *m, mlxr_error *error);
/* The model as JSON: what `mlxr list --json` prints of each. NULL: no memory. */
json_t *registry_model_json(const registry_model *m);

typedef mlxr_status registry_seen(void *user, const registry_model *m, mlxr_error *error);
/* All models, sorted by name; stops at the first call that does not return MLXR_OK. A name that hides another is told
 * once. */
mlxr_status registry_each(registry *r, registry_seen *seen, void *user, mlxr_error *error);
/* The paths of models registered in place in the store; reads no files. */
mlxr_status registry_places(registry *r, void (*seen)(void *user, const char *path), void *user, mlxr_error *error);

/* Whether a file of this name is one that models come in: GGUF or safetensors, in small letters or capitals. */
bool registry_is_model_file(const char *name);
/* Makes a file or folder known under `name` (NULL: the file's stem): to this registry only, or, with `keep`, in the
 * store. Nothing is copied. */
mlxr_status registry_register_path(registry *r, const char *path, const char *name, bool keep, mlxr_error *error);
/* Removes a stored model, or one registered in place (whose file stays), and the blobs nothing else needs. With
 * grace_s > 0 it is hidden at once, and can be restored until then. An alias: only that. */
mlxr_status registry_remove(registry *r, const char *name, uint32_t grace_s, mlxr_error *error);
mlxr_status registry_restore(registry *r, const char *name, mlxr_error *error);
/* `to` becomes a model with the same files; one that is not stored is registered in place, and adapters that another
 * program has for it are copied into the store. */
mlxr_status registry_copy(registry *r, const char *from, const char *to, mlxr_error *error);
mlxr_status registry_alias(registry *r, const char *alias, const char *target, mlxr_error *error);

/* What a Modelfile says, or a request to create a model. Texts are malloc'ed. */
typedef struct registry_recipe {
    char *from;                             /* a model's name, a path, or the digest of a blob */
    char *template_text, *system, *license; /* NULL: the base's. A Go template is translated, or refused by name */
    registry_pairs files;                   /* without from: names of files, and the digests of their blobs */
    registry_pairs parameters, messages;    /* parameters replace the base's of the same name; messages all of them */
    registry_pairs adapters; /* behind the base's: the names that files had (""), and paths or digests of blobs. PEFT's
                                adapter_config.json and adapter_model.safetensors are one */
} registry_recipe;

mlxr_status registry_modelfile_parse(registry_recipe *out, const char *text, size_t n, mlxr_error *error);
void registry_recipe_close(registry_recipe *recipe);
/* MLXR_UNSUPPORTED: no such parameter; MLXR_ARG: it cannot have this value. */
mlxr_status registry_parameter_check(const char *name, const char *value, mlxr_error *error);
/* The model as a Modelfile, malloc'ed; NULL: no memory. */
char *registry_modelfile_text(const registry_model *m);
/* Makes a model; one of this name is replaced. directory: what a path in FROM is relative to; NULL: paths are refused,
 * as they must be where strangers ask. A file that FROM names stays where it is; adapters are copied into the store,
 * and refused where they do not fit the model. */
mlxr_status registry_create(registry *r, const char *name, const registry_recipe *recipe, const char *directory,
                            mlxr_error *error);

/* What the store would call the adapter at a path (a GGUF file, PEFT's folder, or the weights in it): of PEFT's the
 * digest of the one file that the store makes. Reads all of it. digest: REGISTRY_DIGEST_MAX bytes. */
mlxr_status registry_adapter_digest(const char *path, char *digest, mlxr_error *error);

/* Whether a text may name a model of the store. */
bool registry_name_valid(const char *name);
/* "sha256:" and 64 lower-case hexadecimal digits, "sha256-" for the colon taken too; out: REGISTRY_DIGEST_MAX bytes. */
bool registry_digest_parse(const char *text, char *out);

/* ---- blobs ------------------------------------------------------------------------------------------------------- */

typedef struct registry_blob registry_blob;

/* False also for what is no digest. */
bool registry_blob_exists(registry *r, const char *digest, uint64_t *n_bytes);
/* The same for somebody who will not bring what is there: it stays for a day from now on, also where who has brought it
 * takes it back. Where that cannot be written (a full disk) the call fails, and says so: *there is false then, and the
 * blob may be there. A store that is only read takes nothing back. */
mlxr_status registry_blob_renew(registry *r, const char *digest, bool *there, uint64_t *n_bytes, mlxr_error *error);
/* Writes a blob piece by piece; it is there once commit has returned MLXR_OK. digest: what it must have, or NULL;
 * n_bytes_max: more is refused. */
mlxr_status registry_blob_begin(registry_blob **out, registry *r, const char *digest, uint64_t n_bytes_max,
                                mlxr_error *error);
mlxr_status registry_blob_write(registry_blob *b, const void *data, size_t n, mlxr_error *error);
/* Ends the blob either way. digest: REGISTRY_DIGEST_MAX bytes, or NULL. */
mlxr_status registry_blob_commit(registry_blob **b, char *digest, mlxr_error *error);
/* *made_us: for registry_blob_forget; 0: the store had these bytes before. */
mlxr_status registry_blob_commit_marked(registry_blob **b, char *digest, int64_t *made_us, mlxr_error *error);
void registry_blob_abort(registry_blob **b);
/* Takes a blob back that was made at made_us, unless a model has it or somebody has brought or renewed the same bytes
 * since, who may make one of them; else it would stay for a day. */
mlxr_status registry_blob_forget(registry *r, const char *digest, int64_t made_us, mlxr_error *error);

/* ---- pulling ----------------------------------------------------------------------------------------------------- */

typedef struct registry_pull_progress {
    const char *what;               /* "manifest", or the file under way */
    const char *digest;             /* what that file's is to be; NULL: not known, or no file is under way */
    uint64_t done, total;           /* bytes of the files before this one; of all files, 0: not known */
    uint64_t file_done, file_total; /* of this one */
    uint32_t file, n_files;         /* counted from 1 */
} registry_pull_progress;

typedef struct registry_pull_options { /* {0} is a valid default */
    const char *name;                  /* to store it under; NULL: what its source calls it */
    const char *digest;                /* what a URL's or a local file's bytes must have; NULL: any */
    bool allow_files;                  /* files of this machine, too: never where strangers ask */
    const char *allow_private;         /* hosts with private addresses that may be asked; NULL: $MLXR_ALLOW_PRIVATE */
    /* Called at least ten times a second, on the caller's thread. False cancels; what was downloaded is gone on with
     * the next time. May be NULL. */
    bool (*progress)(void *user, const registry_pull_progress *p);
    void *user;
} registry_pull_options;

/* Gets a model: a name of the catalogue; hf:owner/repo[:quant]; a name of Ollama's registry; a URL (with #sha256=HEX to
 * be sure of it); a file of this machine, which is copied. The model is there once this returns MLXR_OK; nothing of it
 * before. name: REGISTRY_NAME_MAX + 1 bytes for what it is called, or NULL. Blocks; several at a time are fine.
 *
 * From the environment: HF_ENDPOINT, HF_TOKEN, MLXR_OLLAMA_REGISTRY, MLXR_ALLOW_PRIVATE, https_proxy and its kin;
 * MLXR_PULL_STALL_S (30), MLXR_PULL_RETRY_MS (500), MLXR_PULL_PARALLEL (4), MLXR_PULL_PIECE_BYTES (32 MiB). */
mlxr_status registry_pull(registry *r, const char *source, const registry_pull_options *options, char *name,
                          mlxr_error *error);

/* Sends a model of one GGUF file to a registry of Ollama's kind: [host/]owner/model[:tag]; NULL: the model's own name.
 * Its template goes as Jinja, in a layer that only we read. Of the options only progress, user and allow_private are
 * taken. Nothing of it can be pulled before all of it is there. Blocks. */
mlxr_status registry_push(registry *r, const char *name, const char *destination, const registry_pull_options *options,
                          mlxr_error *error);

/* Asks the servers, as configured, for a list, a manifest and the first bytes of a file each, and keeps nothing:
 * [{what, ok, found}]. Takes some seconds where nobody answers. */
mlxr_status registry_pull_check(json_t **out, mlxr_error *error);

/* The models we recommend: [{name, source, about, n_params, bytes, memory_bytes, digest}]. NULL: no memory. */
json_t *registry_catalogue_json(void);

/* ---- keys and usage ---------------------------------------------------------------------------------------------- */

enum {
    REGISTRY_SCOPE_INFERENCE = 1u << 0,
    REGISTRY_SCOPE_READ = 1u << 1, /* lists, metrics, logs */
    REGISTRY_SCOPE_ADMIN = 1u << 2,
};

#define REGISTRY_KEY_TEXT_MAX 96u

typedef struct registry_key {
    char id[17];      /* hexadecimal; its beginning in lists and logs, no secret */
    char label[65];   /* what its owner calls it */
    char models[513]; /* names it may use, with commas between; "": all. One * at an end stands for anything */
    uint32_t scopes;
    uint32_t requests_per_minute;               /* 0: no bound; the server counts */
    uint64_t tokens_per_minute;                 /* 0: no bound; the server counts */
    uint64_t tokens_per_day;                    /* 0: no bound; prompt and answer, by UTC day */
    int64_t created_us, expires_us, revoked_us; /* 0: never */
} registry_key;

/* "inference,read"; "" is 0. False: a scope is unknown. */
bool registry_scopes_parse(const char *text, uint32_t *out);
void registry_scopes_text(uint32_t scopes, char *out, size_t cap);
/* The key as JSON, times as UTC texts: what `mlxr key list --json` prints of each. NULL: no memory. */
json_t *registry_key_json(const registry_key *key);

/* `key`: label, models, scopes (0: inference and read), quotas and expires_us are taken; the rest is filled. text:
 * REGISTRY_KEY_TEXT_MAX bytes, the only time it can be seen: what is stored is its SHA-256. */
mlxr_status registry_key_create(registry *r, registry_key *key, char *text, mlxr_error *error);
/* By id. */
mlxr_status registry_key_revoke(registry *r, const char *id, mlxr_error *error);
typedef mlxr_status registry_key_seen(void *user, const registry_key *key, mlxr_error *error);
mlxr_status registry_key_each(registry *r, registry_key_seen *seen, void *user, mlxr_error *error);
/* Whether a thread of this process has the database just now: who reads would wait for that, a write of the disk at
 * most. Who changes something waits for all other changes, too, of threads and processes. */
bool registry_is_busy(registry *r);
/* Whether there is a key that may be used. */
mlxr_status registry_key_any(registry *r, bool *any, mlxr_error *error);
/* MLXR_ARG: not a key, expired or revoked (the text does not tell which). Takes the same time whatever is wrong. */
mlxr_status registry_key_verify(registry *r, const char *text, size_t n, registry_key *out, mlxr_error *error);
/* Whether the key may use a model, by the name it was resolved to. */
bool registry_key_allows(const registry_key *key, const char *model);

typedef struct registry_usage {
    uint64_t n_requests, prompt_tokens, cached_tokens, answer_tokens;
} registry_usage;

/* Counts; kept in memory and written with registry_usage_flush, which the server calls now and then, and by
 * registry_close. key_id "": without a key. */
mlxr_status registry_usage_add(registry *r, const char *key_id, const char *model, const registry_usage *more,
                               mlxr_error *error);
/* wait: for another thread or process that is changing the registry, as every change does; else MLXR_IO while one is.
 */
mlxr_status registry_usage_flush(registry *r, bool wait, mlxr_error *error);
/* Of this UTC day, what is not written yet included. */
mlxr_status registry_usage_today(registry *r, const char *key_id, registry_usage *out, mlxr_error *error);

#endif
