/*
 * Whether models can be downloaded from here: asks the servers for little, and keeps nothing.
 * Owner: the caller. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/manifest.h"
#include "registry/pull.h"

#define TIMEOUT_S 10u

static void add(json_t *list, const char *what, mlxr_status status, const char *found)
{
    json_array_append_new(list, json_pack("{s:s, s:b, s:s}", "what", what, "ok", status == MLXR_OK, "found", found));
}

/* A document, and what came of asking for it. NULL: nothing came. The caller frees it. */
static char *ask(transfer *t, json_t *list, const char *what, const char *url, const char *accept, size_t *n)
{
    transfer_answer answer;
    mlxr_error error;
    char text[160];
    mlxr_status status = transfer_get(t, url, accept, NULL, MANIFEST_BYTES_MAX, &answer, &error);
    if (status != MLXR_OK) {
        add(list, what, status, error.text);
        return NULL;
    }
    if (answer.code != 200) {
        free(answer.body);
        add(list, what, MLXR_ARG, "it wants a login");
        return NULL;
    }
    snprintf(text, sizeof text, "answers with %zu bytes", answer.n);
    add(list, what, MLXR_OK, text);
    *n = answer.n;
    return answer.body;
}

typedef struct beginning {
    char bytes[16];
    size_t n;
} beginning;

static bool collect(fetch *f, const char *data, size_t n)
{
    beginning *b = f->user;
    size_t room = sizeof b->bytes - b->n;
    memcpy(b->bytes + b->n, data, n < room ? n : room);
    b->n += n < room ? n : room;
    return true;
}

/* The first bytes of a file, by a ranged request through all redirects. */
static void ask_range(transfer *t, json_t *list, const char *what, const char *url)
{
    beginning b = {.n = 0};
    char text[200];
    mlxr_error error;
    fetch *f = calloc(1, sizeof *f);
    if (!f) {
        add(list, what, MLXR_NOMEM, "out of memory");
        return;
    }
    *f = (fetch){.owner = t, .begin_url = url, .from = 0, .to = sizeof b.bytes, .sink = collect, .user = &b};
    fetch_start(f);
    mlxr_status status = MLXR_OK;
    while (f->result == FETCH_RUNNING && status == MLXR_OK && b.n < sizeof b.bytes) {
        status = transfer_turn(t, 100, &error);
    }
    bool ranged = f->code == 206 && f->has_range, model = b.n >= 4 && memcmp(b.bytes, "GGUF", 4) == 0;
    if (f->status != MLXR_OK) {
        add(list, what, f->status, f->error.text);
    } else {
        snprintf(text, sizeof text, "%s%s, after %u redirects, from %.100s",
                 ranged ? "gives ranges" : "gives no ranges (downloads cannot be gone on with)",
                 model ? "" : ", but no model file", f->n_redirects, f->host);
        add(list, what, model ? MLXR_OK : MLXR_FORMAT, text);
    }
    fetch_stop(f);
    free(f);
}

static void check_hub(transfer *t, json_t *list)
{
    static const char repository[] = "ggml-org/gemma-3-270m-it-GGUF", file[] = "gemma-3-270m-it-Q8_0.gguf";
    char base[512], url[1024];
    size_t n;
    if (!pull_endpoint("HF_ENDPOINT", "https://huggingface.co", base, sizeof base)) {
        add(list, "Hugging Face", MLXR_ARG, "HF_ENDPOINT is no URL with http or https");
        return;
    }
    snprintf(url, sizeof url, "%s/api/models/%s/tree/main?recursive=true", base, repository);
    char *body = ask(t, list, "Hugging Face", url, "application/json", &n);
    if (body) {
        snprintf(url, sizeof url, "%s/%s/resolve/main/%s", base, repository, file);
        ask_range(t, list, "its files", url);
    }
    free(body);
}

static void check_ollama(transfer *t, json_t *list)
{
    char base[512], url[1024];
    size_t n;
    mlxr_error error;
    manifest *m = calloc(1, sizeof *m);
    if (!m || !pull_endpoint("MLXR_OLLAMA_REGISTRY", "https://registry.ollama.ai", base, sizeof base)) {
        add(list, "Ollama's registry", MLXR_ARG, "MLXR_OLLAMA_REGISTRY is no URL with http or https");
        free(m);
        return;
    }
    snprintf(url, sizeof url, "%s/v2/library/smollm2/manifests/135m", base);
    char *body = ask(t, list, "Ollama's registry", url, "application/vnd.docker.distribution.manifest.v2+json", &n);
    mlxr_status status = body ? manifest_parse(m, body, n, &error) : MLXR_OK;
    if (status != MLXR_OK) {
        add(list, "its manifests", status, error.text);
    }
    for (size_t i = 0; body && status == MLXR_OK && i < m->n_layers; i++) {
        if (m->layers[i].kind == MANIFEST_MODEL) {
            snprintf(url, sizeof url, "%s/v2/library/smollm2/blobs/%s", base, m->layers[i].digest);
            ask_range(t, list, "its blobs", url);
        }
    }
    free(body);
    free(m);
}

mlxr_status registry_pull_check(json_t **out, mlxr_error *error)
{
    transfer *t;
    transfer_options options = {
        .allow_private = getenv("MLXR_ALLOW_PRIVATE"), .stall_s = TIMEOUT_S, .retry_ms = 100, .n_retries = 1};
    mlxr_status status = transfer_open(&t, &options, error);
    if (status != MLXR_OK) {
        return status;
    }
    *out = json_array();
    check_hub(t, *out);
    check_ollama(t, *out);
    transfer_close(&t);
    return MLXR_OK;
}
