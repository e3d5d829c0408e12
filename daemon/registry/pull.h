/*
 * What the kinds of pulls share.
 * Owner: registry_pull. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_PULL_H
#define MLXR_REGISTRY_PULL_H

#include "registry/download.h"

typedef struct pull {
    registry *r;
    transfer *t;
    const registry_pull_options *options;
    registry_pull_progress now;
    char name[REGISTRY_NAME_MAX + 1]; /* to be stored under */
    char origin[TRANSFER_URL_MAX];
    char manifest[REGISTRY_DIGEST_MAX]; /* of what told which files there are; "" : nothing did */
    const char *expected;               /* what the catalogue says the weights' digest is; NULL: nothing */
    uint64_t piece_bytes;
    uint32_t n_parallel;
    char what[300]; /* now.what */
} pull;

/* Does a pull of this name, which registry_name_valid takes, ask Ollama's registry, and no other host? */
bool pull_asks_ollama(const char *source);
/* Hugging Face: "owner/repo" or "owner/repo:quant". */
mlxr_status pull_hub(pull *p, const char *what, mlxr_error *error);
/* Ollama's registry: "model", "owner/model", "host/owner/model", each with or without a tag. */
mlxr_status pull_ollama(pull *p, const char *what, mlxr_error *error);
/* Where a name of Ollama's registry leads: host/owner/model:tag, read from the right. */
typedef struct ollama_place {
    char base[512];       /* https://host */
    char repository[280]; /* owner/model */
    char tag[130];
} ollama_place;
bool ollama_place_read(ollama_place *out, const char *what, mlxr_error *error);
/* The registry wants a token, and says where from: only from itself. *out is replaced. */
mlxr_status ollama_token(transfer *t, const char *base, const char *challenge, char **out, mlxr_error *error);
/* A URL, or a file of this machine. */
mlxr_status pull_url(pull *p, const char *url, mlxr_error *error);
mlxr_status pull_file(pull *p, const char *path, mlxr_error *error);

/* Downloads one file; adds n_bytes to what has been done. */
mlxr_status pull_blob(pull *p, const download_request *request, const char *what, char *digest, uint64_t *n_bytes,
                      mlxr_error *error);
/* Sets what is told of the progress. False: cancelled. */
bool pull_tell(pull *p, const char *what);
/* Takes over the name, unless the options give one. False: it cannot be one. */
bool pull_set_name(pull *p, const char *name);
/* An address from the environment, without a slash at its end, or the usual one. False: not usable. */
bool pull_endpoint(const char *variable, const char *usual, char *out, size_t cap);
/* A number from the environment, or the usual one. */
uint64_t pull_number(const char *variable, uint64_t usual);
/* Makes the model of these files. */
mlxr_status pull_store(pull *p, const stored_model *m, mlxr_error *error);

#endif
