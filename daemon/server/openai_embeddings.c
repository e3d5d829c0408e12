/*
 * /v1/embeddings: the normalised mean of a decoder's last hidden states.
 * Owner: a job belongs to its exchange and its call of a model together. Lifetime: until both have ended.
 *
 * The engine's thread computes a chunk of tokens of several inputs between two steps of the scheduler, so that streams
 * go on; between chunks the pool does what else waits.
 */
#include <math.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/errors.h"
#include "server/model_call.h"
#include "server/openai_parts.h"

#define INPUTS_MAX 2048u
#define CHUNK_ROWS 128u /* tokens between two steps of the scheduler */
#define CHUNK_INPUTS 32u

typedef struct embedding_input {
    int32_t *ids; /* [n] */
    size_t n, n_done;
    mlxr_sequence *sequence; /* the engine's thread; NULL: not begun, or done */
    double *sum;             /* [n_embd]; NULL: not begun */
} embedding_input;

typedef struct embedding_job {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    auth_identity identity;
    atomic_bool gone;
    bool done;
    char *text; /* [n_text] the body */
    size_t n_text;
    request_fields f;
    json_t *body;
    openai_text_options o;
    char model_name[256];
    mlxr_model *model;
    embedding_input *inputs; /* [n_inputs] */
    size_t n_inputs, n_tokens;
    bool tokenized, finished, full;
    int status; /* of the answer, where it is no 200 and no field is wrong */
    mlxr_error error;
    json_t *answer;
} embedding_job;

static void free_job(embedding_job *j)
{
    if (j->x || !j->done) {
        return;
    }
    for (size_t i = 0; i < j->n_inputs; i++) {
        free(j->inputs[i].ids);
        free(j->inputs[i].sum);
    }
    free(j->inputs);
    request_fields_close(&j->f);
    json_decref(j->body);
    json_decref(j->answer);
    free(j->text);
    free(j);
}

static void on_gone(void *user)
{
    embedding_job *j = user;
    j->x = NULL;
    atomic_store(&j->gone, true);
    free_job(j);
}

static const char *prepare(void *user)
{
    embedding_job *j = user;
    json_error_t where;
    request_fields_open(&j->f, NULL);
    j->body = json_loadb(j->text, j->n_text, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(j->body)) {
        request_fields_bad(&j->f, NULL, "the body must be a JSON object%s%s", j->body ? "" : ": ",
                           j->body ? "" : where.text);
        return NULL;
    }
    if (!openai_text_parse(&j->f, "/v1/embeddings", j->body, &j->o)) {
        return NULL;
    }
    if (!j->o.input) {
        request_fields_bad(&j->f, "input", "input is missing: a text, tokens, or a list of these");
        return NULL;
    }
    return j->o.model ? j->o.model : "";
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

static bool read_ids(embedding_job *j, embedding_input *in, const json_t *list)
{
    uint32_t n_vocab = mlxr_model_info_get(j->model)->n_vocab;
    in->n = json_array_size(list);
    in->ids = malloc((in->n + 1) * sizeof *in->ids);
    for (size_t i = 0; in->ids && i < in->n; i++) {
        json_int_t id;
        if (!request_field_whole(json_array_get(list, i), 0, n_vocab - 1.0, &id)) {
            return request_fields_bad(&j->f, "input", "input: %zu is no token of this model", i);
        }
        in->ids[i] = (int32_t)id;
    }
    return in->ids || request_fields_bad(&j->f, NULL, "out of memory");
}

static bool read_input(embedding_job *j, embedding_input *in, const json_t *value)
{
    mlxr_error error;
    size_t n_ctx = mlxr_model_info_get(j->model)->n_ctx;
    if (json_is_string(value)) {
        size_t n = json_string_length(value), cap = n + 8;
        in->ids = malloc(cap * sizeof *in->ids);
        if (!in->ids) {
            return request_fields_bad(&j->f, NULL, "out of memory");
        }
        if (mlxr_tokenize(j->model, json_string_value(value), n, MLXR_TOKENIZE_ADD_SPECIAL, in->ids, cap, &in->n,
                          &error) != MLXR_OK ||
            in->n > cap) {
            return request_fields_bad(&j->f, "input", "%s", in->n > cap ? "too many tokens" : error.text);
        }
    } else if (!json_is_array(value)) {
        return request_fields_bad(&j->f, "input", "input must be a text, tokens, or a list of these");
    } else if (!read_ids(j, in, value)) {
        return false;
    }
    if (in->n == 0 || in->n > n_ctx) {
        return request_fields_bad(&j->f, "input", "an input has %zu tokens; 1 to %zu can be read", in->n, n_ctx);
    }
    j->n_tokens += in->n;
    return true;
}

static bool read_inputs(embedding_job *j)
{
    const json_t *input = j->o.input, *first = json_array_get(input, 0);
    bool many = json_is_string(first) || json_is_array(first);
    uint32_t n_embd = mlxr_model_info_get(j->model)->n_embd;
    if (j->o.dimensions && j->o.dimensions != n_embd) {
        return request_fields_bad(&j->f, "dimensions", "this model gives %u dimensions", n_embd);
    }
    size_t n = many ? json_array_size(input) : 1;
    if (n > INPUTS_MAX) {
        return request_fields_bad(&j->f, "input", "%zu inputs; at most %u are taken at once", n, INPUTS_MAX);
    }
    j->inputs = calloc(n, sizeof *j->inputs);
    if (!j->inputs) {
        return request_fields_bad(&j->f, NULL, "out of memory");
    }
    j->n_inputs = n;
    for (size_t i = 0; i < n; i++) {
        if (!read_input(j, &j->inputs[i], many ? json_array_get(input, i) : input)) {
            return false;
        }
    }
    return true;
}

/* ---- on the engine's thread -------------------------------------------------------------------------------------- */

static bool begin_input(embedding_job *j, embedding_input *in)
{
    uint32_t n_embd = mlxr_model_info_get(j->model)->n_embd;
    if (!in->sum && !(in->sum = calloc(n_embd, sizeof *in->sum))) {
        j->error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return false;
    }
    if (mlxr_sequence_open(&in->sequence, j->model, NULL, &j->error) != MLXR_OK ||
        mlxr_sequence_append(in->sequence, in->ids, in->n, &j->error) != MLXR_OK) {
        return false;
    }
    mlxr_sequence_release(in->sequence); /* what the cache has of it has no hidden states */
    memset(in->sum, 0, n_embd * sizeof *in->sum);
    in->n_done = 0;
    return true;
}

/* The next tokens of the first inputs that are not done. */
static size_t lay_out(embedding_job *j, mlxr_slice *slices, size_t *index)
{
    size_t n = 0;
    uint32_t rows = 0;
    for (size_t i = 0; i < j->n_inputs && n < (j->full ? 1 : CHUNK_INPUTS) && rows < CHUNK_ROWS; i++) {
        embedding_input *in = &j->inputs[i];
        if (in->n_done == in->n || (!in->sequence && !begin_input(j, in))) {
            if (j->error.status != MLXR_OK) {
                return 0;
            }
            continue;
        }
        size_t left = in->n - in->n_done;
        uint32_t take = left < CHUNK_ROWS - rows ? (uint32_t)left : CHUNK_ROWS - rows;
        slices[n] = (mlxr_slice){.sequence = in->sequence, .n_compute = take, .flags = MLXR_SLICE_HIDDEN};
        index[n++] = i;
        rows += take;
    }
    return n;
}

static void close_sequences(embedding_job *j)
{
    for (size_t i = 0; i < j->n_inputs; i++) {
        if (j->inputs[i].sequence) {
            mlxr_sequence_close(&j->inputs[i].sequence);
            j->inputs[i].n_done = 0; /* it begins anew if there is a next time */
        }
    }
}

static void take_rows(embedding_job *j, const mlxr_slice *slice, embedding_input *in)
{
    uint32_t n_embd = mlxr_model_info_get(j->model)->n_embd;
    for (uint32_t r = 0; r < slice->n_hidden; r++) {
        for (uint32_t k = 0; k < n_embd; k++) {
            in->sum[k] += (double)slice->hidden[(size_t)r * n_embd + k];
        }
    }
    in->n_done += slice->n_hidden;
    if (in->n_done == in->n) {
        mlxr_sequence_close(&in->sequence);
    }
}

static void compute_chunk(mlxr_engine *engine, void *user)
{
    embedding_job *j = user;
    mlxr_slice slices[CHUNK_INPUTS];
    size_t index[CHUNK_INPUTS];
    if (atomic_load(&j->gone)) {
        j->finished = true;
        close_sequences(j);
        return;
    }
    size_t n = lay_out(j, slices, index);
    if (n > 0 && mlxr_step(engine, slices, n, &j->error) != MLXR_OK) {
        bool again = j->error.status == MLXR_KV_FULL && !j->full;
        if (again) { /* once more, one at a time */
            close_sequences(j);
            j->full = true;
            j->error = (mlxr_error){0};
            return;
        }
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        take_rows(j, &slices[i], &j->inputs[index[i]]);
    }
    if (n == 0) { /* done, or failed */
        j->finished = true;
        close_sequences(j);
    }
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static json_t *as_base64(const float *values, uint32_t n)
{
    size_t n_bytes = n * sizeof *values;
    char *text = malloc(4 * ((n_bytes + 2) / 3) + 1);
    int length = text ? EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)values, (int)n_bytes) : -1;
    json_t *made = length >= 0 ? json_stringn_nocheck(text, (size_t)length) : NULL;
    free(text);
    return made;
}

static json_t *as_list(const float *values, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t k = 0; k < n; k++) {
        json_array_append_new(list, json_real((double)values[k]));
    }
    return list;
}

static json_t *embedding_json(const embedding_job *j, size_t i)
{
    uint32_t n_embd = mlxr_model_info_get(j->model)->n_embd;
    const double *sum = j->inputs[i].sum;
    float *values = malloc(n_embd * sizeof *values);
    double norm = 0;
    for (uint32_t k = 0; k < n_embd; k++) {
        norm += sum[k] * sum[k];
    }
    norm = norm > 0 ? 1 / sqrt(norm) : 0;
    for (uint32_t k = 0; values && k < n_embd; k++) {
        values[k] = (float)(sum[k] * norm);
    }
    bool base64 = j->o.encoding_format && strcmp(j->o.encoding_format, "base64") == 0;
    json_t *made = !values ? NULL : base64 ? as_base64(values, n_embd) : as_list(values, n_embd);
    free(values);
    return json_pack("{s:s, s:I, s:o}", "object", "embedding", "index", (json_int_t)i, "embedding", made);
}

static void make_answer(embedding_job *j)
{
    json_t *list = json_array();
    for (size_t i = 0; i < j->n_inputs; i++) {
        json_array_append_new(list, embedding_json(j, i));
    }
    j->answer = json_pack(
        "{s:s, s:o, s:s, s:{s:I, s:I}, s:[s]}", "object", "list", "data", list, "model", j->model_name, "usage",
        "prompt_tokens", (json_int_t)j->n_tokens, "total_tokens", (json_int_t)j->n_tokens, "warnings",
        "this model is a decoder that was not made for embeddings: they are the normalised mean of its "
        "last hidden states");
}

/* What was computed, whether somebody still wants it or not. */
static void note_usage(const embedding_job *j)
{
    registry_usage used = {.n_requests = 1};
    for (size_t i = 0; i < j->n_inputs; i++) {
        used.prompt_tokens += j->inputs[i].n_done;
    }
    if (j->identity.key_id) {
        auth_spend(j->d->auth, j->identity.key_id, used.prompt_tokens);
    }
    registry_usage_add(j->d->registry, j->identity.id, j->model_name, &used, NULL);
}

static bool work(void *user, mlxr_model *model, const char *name)
{
    embedding_job *j = user;
    j->model = model;
    if (!j->tokenized) {
        strncpy(j->model_name, name, sizeof j->model_name - 1);
        j->tokenized = true;
        return read_inputs(j);
    }
    worker_call(j->d->worker, compute_chunk, j);
    if (!j->finished) {
        return true;
    }
    note_usage(j);
    if (j->error.status == MLXR_OK && !atomic_load(&j->gone)) {
        make_answer(j);
    }
    return false;
}

static void done(void *user, int status, const char *code, const char *message)
{
    embedding_job *j = user;
    bool busy = j->error.status == MLXR_KV_FULL || j->error.status == MLXR_NOMEM;
    j->done = true;
    if (!j->x) {
        free_job(j);
    } else if (status) {
        error_respond(j->x, status, code, message, status == 404 ? "model" : NULL);
    } else if (j->answer) {
        http_respond_json(j->x, 200, json_incref(j->answer));
    } else if (j->f.bad) {
        error_respond(j->x, 400, "invalid_value", j->f.error.text, j->f.field);
    } else {
        error_respond(j->x, busy ? 503 : 500, NULL, j->error.text, NULL);
    }
}

void openai_embeddings(void *service, http_exchange *x)
{
    const http_request *q = http_request_of(x);
    embedding_job *j = calloc(1, sizeof *j);
    char *text = malloc(q->n_body + 1);
    if (j && text) {
        memcpy(text, q->body, q->n_body + 1);
        j->d = service;
        j->x = x;
        j->identity = *route_identity(x);
        j->text = text;
        j->n_text = q->n_body;
        model_call call = {.prepare = prepare, .work = work, .done = done, .user = j, .identity = j->identity};
        if (model_call_start(service, &call)) {
            http_on_gone(x, on_gone, j);
            return;
        }
    }
    free(text);
    free(j);
    error_respond(x, 503, NULL, "out of memory", NULL);
}
