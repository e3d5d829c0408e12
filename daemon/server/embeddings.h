/*
 * Embeddings and reranking: the service behind the routes of all dialects: texts or tokens in, a vector each out; a
 * query and documents in, a score each out.
 * Owner: a job belongs to its exchange and its call of a model together. Lifetime: until both have ended.
 */
#ifndef MLXR_SERVER_EMBEDDINGS_H
#define MLXR_SERVER_EMBEDDINGS_H

#include "server/daemon_parts.h"
#include "server/request_fields.h"

typedef struct embeddings_ask { /* borrowed from the body */
    const char *model;          /* NULL: the daemon's only one */
    const json_t *input;        /* a text, tokens, or a list of these */
    const char *field;          /* what the dialect calls it; static */
    uint32_t dimensions;        /* the first of them, normalised again; 0: all */
    bool base64;                /* for the answer */
    bool truncate;              /* an input that does not fit is cut at its end, and that is told */
    bool may_shorten;           /* `dimensions` may be less than the model's */
    int64_t keep_alive_ms;      /* MODEL_KEEP_DEFAULT unless given */
    uint32_t n_ctx;             /* use no more of the context; 0: all */
    const json_t *lora;         /* adapters.h; NULL: the daemon's own */
    /* Of a dialect that ranks `input`, texts or objects with a "text". */
    const char *query, *instruction;
    uint32_t top_n, document_tokens_most; /* 0: all */
    bool return_documents, raw_scores;
} embeddings_ask;

typedef struct embeddings_found {
    const char *model; /* its name in the registry */
    float **vectors;   /* [n][n_dims]; of a dialect that ranks [n][1]: log-odds */
    size_t n, n_tokens;
    uint32_t n_dims;
    uint64_t total_us, load_us;
    const json_t *warnings; /* texts */
    const embeddings_ask *ask;
} embeddings_found;

typedef struct embeddings_dialect {
    /* Both on the pool. False after request_fields_bad. */
    bool (*parse)(request_fields *f, const json_t *body, embeddings_ask *ask);
    json_t *(*answer)(const embeddings_found *found);
    bool ranks;
} embeddings_dialect;

/* The text of a document; NULL: it is none. */
const char *embeddings_document(const json_t *document, size_t *n_bytes);

void embeddings_start(struct daemon *d, http_exchange *x, const embeddings_dialect *dialect);

#endif
