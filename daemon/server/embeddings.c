/*
 * Embeddings and reranking: last hidden states, pooled as the model says; normalised, or made a score.
 * Owner: a job belongs to its exchange and its call of a model together. Lifetime: until both have ended.
 *
 * The engine's thread computes a chunk of tokens of several inputs between two steps of the scheduler, so that streams
 * go on; between chunks the pool does what else waits.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "mlxr_rerank.h"
#include "registry/registry.h"
#include "server/adapters.h"
#include "server/embeddings.h"
#include "server/errors.h"
#include "server/model_call.h"
#include "server/routes.h"
#include "server/usage_save.h"

#define INPUTS_MAX 2048u
#define TOKENS_MAX ((size_t)4 << 20) /* of all inputs; documents are read with the query before each */
#define CHUNK_ROWS 128u              /* tokens between two steps of the scheduler */
#define CHUNK_INPUTS 32u

typedef struct embedding_input {
    int32_t *ids; /* [n] */
    size_t n, n_done;
    mlxr_sequence *sequence; /* the engine's thread; NULL: not begun, or done */
    double *sum;             /* [n_embd], by mlxr_embed_add; NULL: not begun */
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
    const embeddings_dialect *dialect;
    embeddings_ask ask;
    uint64_t start_us, load_us;
    char model_name[256];
    mlxr_model *model;
    mlxr_pooling pooling;
    mlxr_adapter_path adapters[MLXR_ADAPTERS_MAX];
    size_t n_adapters;
    embedding_input *inputs; /* [n_inputs] */
    size_t n_inputs, n_tokens;
    size_t n_cut, first_cut,
        first_tokens; /* inputs of which only the beginning is read; the first one's number and length */
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
        mlxr_free(j->inputs[i].ids);
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
    mlxr_error error;
    request_fields_open(&j->f, NULL);
    j->body = request_body_read(j->text, j->n_text, &error);
    if (!j->body) {
        request_fields_fail(&j->f, error.status, NULL, "%s", error.text);
        return NULL;
    }
    if (!j->dialect->parse(&j->f, j->body, &j->ask)) {
        return NULL;
    }
    if (!j->ask.input) {
        request_fields_bad(&j->f, j->ask.field, "%s is missing: a text, tokens, or a list of these", j->ask.field);
        return NULL;
    }
    return j->ask.model ? j->ask.model : "";
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
            return request_fields_bad(&j->f, j->ask.field, "%s: %zu is no token of this model", j->ask.field, i);
        }
        in->ids[i] = (int32_t)id;
    }
    return in->ids || request_fields_no_memory(&j->f);
}

/* Tokens of an input that are read at most. */
static size_t readable(const embedding_job *j)
{
    size_t n_ctx = mlxr_model_info_get(j->model)->n_ctx;
    return j->ask.n_ctx && j->ask.n_ctx < n_ctx ? j->ask.n_ctx : n_ctx;
}

static void note_cut(embedding_job *j, const embedding_input *in)
{
    if (j->n_cut++ == 0) {
        j->first_cut = (size_t)(in - j->inputs);
        j->first_tokens = in->n;
    }
}

static bool read_input(embedding_job *j, embedding_input *in, const json_t *value)
{
    mlxr_error error;
    size_t n_ctx = readable(j);
    if (json_is_string(value)) {
        size_t n = json_string_length(value), cap = n + 8;
        in->ids = malloc(cap * sizeof *in->ids);
        if (!in->ids) {
            return request_fields_no_memory(&j->f);
        }
        if (mlxr_tokenize(j->model, json_string_value(value), n, MLXR_TOKENIZE_ADD_SPECIAL, in->ids, cap, &in->n,
                          &error) != MLXR_OK) {
            return request_fields_fail(&j->f, error.status, j->ask.field, "%s", error.text);
        }
        if (in->n > cap) {
            return request_fields_bad(&j->f, j->ask.field, "too many tokens");
        }
    } else if (!json_is_array(value)) {
        return request_fields_bad(&j->f, j->ask.field, "%s must be a text, tokens, or a list of these", j->ask.field);
    } else if (!read_ids(j, in, value)) {
        return false;
    }
    if (in->n > n_ctx && j->ask.truncate) {
        note_cut(j, in);
        in->n = n_ctx;
    }
    if (in->n == 0 || in->n > n_ctx) {
        return request_fields_bad(&j->f, j->ask.field, "an input has %zu tokens; 1 to %zu can be read", in->n, n_ctx);
    }
    j->n_tokens += in->n;
    return true;
}

const char *embeddings_document(const json_t *document, size_t *n_bytes)
{
    const json_t *text = json_is_object(document) ? json_object_get(document, "text") : document;
    *n_bytes = json_string_length(text);
    return json_string_value(text);
}

/* A document with the query before it. */
static bool read_pair(embedding_job *j, embedding_input *in, const json_t *value)
{
    mlxr_error error;
    bool cut = false;
    size_t n_ctx = mlxr_model_info_get(j->model)->n_ctx, i = (size_t)(in - j->inputs);
    mlxr_rerank_pair pair = {.instruction = j->ask.instruction,
                             .query = j->ask.query,
                             .n_query = strlen(j->ask.query),
                             .document_tokens_most = j->ask.document_tokens_most};
    pair.document = embeddings_document(value, &pair.n_document);
    if (!pair.document) {
        return request_fields_bad(&j->f, j->ask.field, "%s[%zu] is neither a text nor an object with a \"text\"",
                                  j->ask.field, i);
    }
    if (mlxr_rerank_tokenize(j->model, &pair, &in->ids, &in->n, &cut, &error) != MLXR_OK) {
        return request_fields_fail(&j->f, error.status, j->ask.field, "%s[%zu]: %s", j->ask.field, i, error.text);
    }
    if (cut) {
        note_cut(j, in);
    }
    if (in->n == 0 || in->n > n_ctx) {
        return request_fields_bad(&j->f, j->ask.field,
                                  "%s[%zu] and the query are %zu tokens; 1 to %zu can be read (max_tokens_per_doc cuts "
                                  "documents)",
                                  j->ask.field, i, in->n, n_ctx);
    }
    j->n_tokens += in->n;
    return true;
}

/* What the model is asked for: can it do that? */
static bool check_ask(embedding_job *j)
{
    if (j->dialect->ranks) {
        mlxr_rerank_info info = mlxr_rerank_info_get(j->model);
        j->pooling = info.pooling;
        return info.possible ||
               request_fields_bad(&j->f, "model",
                                  "this model cannot rank: that takes an encoder with a head for it (bge-reranker), or "
                                  "a decoder with a chat template and tokens \"yes\" and \"no\" (Qwen3-Reranker)");
    }
    mlxr_embed_info info = mlxr_embed_info_get(j->model);
    j->pooling = info.pooling;
    uint32_t asked = j->ask.dimensions;
    if (asked > info.n_dims || (asked && asked < info.n_dims && !j->ask.may_shorten)) {
        return request_fields_bad(&j->f, "dimensions", "this model gives %u dimensions", info.n_dims);
    }
    return true;
}

static bool read_inputs(embedding_job *j, const registry_model *entry)
{
    const json_t *input = j->ask.input, *first = json_array_get(input, 0);
    bool many = j->dialect->ranks || json_is_string(first) || json_is_array(first);
    mlxr_error error;
    if (!check_ask(j) || !adapters_choose(&j->f, j->d->options, entry, j->ask.lora, j->adapters, &j->n_adapters)) {
        return false;
    }
    /* Here, so that the engine's thread waits for no file. */
    if (mlxr_model_read_adapters(j->model, j->adapters, j->n_adapters, &error) != MLXR_OK) {
        return request_fields_fail(&j->f, error.status, "lora", "%s", error.text);
    }
    size_t n = many ? json_array_size(input) : 1;
    if (n > INPUTS_MAX) {
        return request_fields_bad(&j->f, j->ask.field, "%zu inputs; at most %u are taken at once", n, INPUTS_MAX);
    }
    j->inputs = calloc(n + 1, sizeof *j->inputs);
    if (!j->inputs) {
        return request_fields_no_memory(&j->f);
    }
    j->n_inputs = n;
    for (size_t i = 0; i < n && !atomic_load(&j->gone); i++) {
        const json_t *value = many ? json_array_get(input, i) : input;
        if (!(j->dialect->ranks ? read_pair : read_input)(j, &j->inputs[i], value)) {
            return false;
        }
        if (j->n_tokens > TOKENS_MAX) {
            return request_fields_bad(&j->f, j->ask.field,
                                      "%s: the first %zu are %zu tokens%s; at most %zu are taken at once", j->ask.field,
                                      i + 1, j->n_tokens, j->dialect->ranks ? ", the query with each" : "", TOKENS_MAX);
        }
    }
    return true;
}

/* ---- on the engine's thread -------------------------------------------------------------------------------------- */

/* Adapters that change the output matrix leave a decoder nothing to rank by. */
static bool ranks_adapted(embedding_job *j)
{
    mlxr_model *adapted = NULL;
    if (!j->dialect->ranks || !j->n_adapters) {
        return true;
    }
    mlxr_status status = mlxr_model_with(&adapted, j->model, j->adapters, j->n_adapters, &j->error);
    if (status == MLXR_OK && !mlxr_rerank_info_get(adapted).possible) {
        status = MLXR_UNSUPPORTED;
        j->error = (mlxr_error){.status = status,
                                .text = "a model cannot rank with an adapter that changes its output matrix"};
    }
    mlxr_model_unref(&adapted);
    return status == MLXR_OK;
}

static bool begin_input(embedding_job *j, embedding_input *in)
{
    uint32_t n_embd = mlxr_model_info_get(j->model)->n_embd;
    if (!in->sum && !(in->sum = calloc(n_embd, sizeof *in->sum))) {
        j->error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return false;
    }
    if ((in == j->inputs && !ranks_adapted(j)) || /* the same for all of them */
        scheduler_sequence_open(&in->sequence, j->model, j->adapters, j->n_adapters, NULL, &j->error) != MLXR_OK ||
        mlxr_sequence_append(in->sequence, in->ids, in->n, &j->error) != MLXR_OK) {
        return false;
    }
    if (j->dialect->ranks) {
        mlxr_rerank_mark(in->sequence);
    }
    if (j->pooling != MLXR_POOLING_LAST) {
        mlxr_sequence_release(in->sequence); /* what the cache has of it has no hidden states */
    }
    memset(in->sum, 0, n_embd * sizeof *in->sum);
    in->n_done = mlxr_sequence_computed(in->sequence);
    return true;
}

/* The next tokens of the first inputs that are not done. */
static size_t lay_out(embedding_job *j, mlxr_slice *slices, size_t *index)
{
    size_t n = 0;
    bool whole = mlxr_embed_info_get(j->model).encoder; /* inputs are not cut */
    uint32_t rows = 0, rows_max = CHUNK_ROWS;
    for (size_t i = 0; i < j->n_inputs && n < (j->full ? 1 : CHUNK_INPUTS) && rows < rows_max; i++) {
        embedding_input *in = &j->inputs[i];
        if (in->n_done == in->n || (!in->sequence && !begin_input(j, in))) {
            if (j->error.status != MLXR_OK) {
                return 0;
            }
            continue;
        }
        size_t left = in->n - in->n_done;
        if (whole && n > 0 && left > rows_max - rows) {
            break;
        }
        uint32_t take = whole || left < rows_max - rows ? (uint32_t)left : rows_max - rows;
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
    mlxr_embed_add(slice, j->pooling, in->sum);
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

/* What a pooled state comes to: [n_dims], or one score. NULL: no memory. */
static float *vector_of(const embedding_job *j, const embedding_input *in, uint32_t n_dims)
{
    float *values = malloc((n_dims + 1) * sizeof *values);
    mlxr_status status = !values             ? MLXR_NOMEM
                         : j->dialect->ranks ? mlxr_rerank_score(j->model, in->sum, values, NULL)
                                             : mlxr_embed_vector(j->model, in->sum, n_dims, values, NULL);
    if (status != MLXR_OK) {
        free(values);
        return NULL;
    }
    return values;
}

/* One warning, however many they are. */
static void warn_cut(embedding_job *j)
{
    size_t first = j->first_cut, n_ctx = readable(j);
    if (j->n_cut == 1 && j->dialect->ranks) {
        request_fields_warn(&j->f, "document %zu was cut behind %u tokens", first, j->ask.document_tokens_most);
    } else if (j->n_cut == 1) {
        request_fields_warn(&j->f, "input %zu was cut: it has %zu tokens, and %zu can be read", first, j->first_tokens,
                            n_ctx);
    } else if (j->n_cut && j->dialect->ranks) {
        request_fields_warn(&j->f, "%zu of %zu documents were cut behind %u tokens, document %zu the first of them",
                            j->n_cut, j->n_inputs, j->ask.document_tokens_most, first);
    } else if (j->n_cut) {
        request_fields_warn(&j->f, "%zu of %zu inputs were cut, input %zu the first of them: %zu tokens can be read",
                            j->n_cut, j->n_inputs, first, n_ctx);
    }
}

static void warn(embedding_job *j)
{
    warn_cut(j);
    if (j->ask.instruction && mlxr_embed_info_get(j->model).encoder) {
        request_fields_warn(&j->f, "instruction: only decoders are told it, and this model is an encoder");
    }
    if (j->dialect->ranks && !mlxr_rerank_info_get(j->model).intended) {
        request_fields_warn(&j->f, "this model is a decoder that was not made for ranking: what counts is its \"yes\" "
                                   "against its \"no\"");
    } else if (!j->dialect->ranks && !mlxr_embed_info_get(j->model).intended) {
        request_fields_warn(&j->f, mlxr_embed_info_get(j->model).encoder
                                       ? "this model was made for ranking, not for embeddings: they are what its "
                                         "head would read"
                                       : "this model is a decoder that was not made for embeddings: they are the "
                                         "normalised mean of its last hidden states");
    }
}

static void make_answer(embedding_job *j)
{
    uint32_t n_dims = j->dialect->ranks ? 1 : mlxr_embed_info_get(j->model).n_dims;
    embeddings_found found = {.model = j->model_name,
                              .vectors = calloc(j->n_inputs + 1, sizeof *found.vectors),
                              .n = j->n_inputs,
                              .n_tokens = j->n_tokens,
                              .n_dims = j->ask.dimensions ? j->ask.dimensions : n_dims,
                              .load_us = j->load_us,
                              .ask = &j->ask};
    bool ok = found.vectors != NULL;
    for (size_t i = 0; ok && i < j->n_inputs; i++) {
        found.vectors[i] = vector_of(j, &j->inputs[i], found.n_dims);
        ok = found.vectors[i] != NULL;
    }
    warn(j);
    found.warnings = j->f.warnings;
    found.total_us = scheduler_now_us(worker_scheduler(j->d->worker)) - j->start_us;
    j->answer = ok ? j->dialect->answer(&found) : NULL;
    for (size_t i = 0; found.vectors && i < j->n_inputs; i++) {
        free(found.vectors[i]);
    }
    free(found.vectors);
    if (!j->answer) {
        j->error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
    }
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

static bool work(void *user, mlxr_model *model, const registry_model *entry)
{
    embedding_job *j = user;
    j->model = model;
    if (!j->tokenized) {
        strncpy(j->model_name, entry->name, sizeof j->model_name - 1);
        j->load_us = scheduler_now_us(worker_scheduler(j->d->worker)) - j->start_us;
        j->tokenized = true;
        return read_inputs(j, entry);
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
    j->done = true;
    usage_save_soon(j->d);
    if (!j->x) {
        free_job(j);
    } else if (model_call_answer(j->x, status, code, message, j->answer)) {
        return;
    } else if (j->f.bad) {
        error_respond_fields(j->x, &j->f);
    } else {
        error_respond(j->x, error_status_of(j->error.status), NULL, j->error.text, NULL);
    }
}

void embeddings_start(struct daemon *d, http_exchange *x, const embeddings_dialect *dialect)
{
    embedding_job *j = calloc(1, sizeof *j);
    size_t n_text;
    char *text = http_body_copy(x, &n_text);
    if (j && text) {
        j->d = d;
        j->x = x;
        j->identity = *route_identity(x);
        j->dialect = dialect;
        j->ask = (embeddings_ask){.field = "input", .keep_alive_ms = MODEL_KEEP_DEFAULT};
        j->text = text;
        j->n_text = n_text;
        j->start_us = scheduler_now_us(worker_scheduler(d->worker));
        model_call call = {.prepare = prepare,
                           .work = work,
                           .done = done,
                           .user = j,
                           .identity = j->identity,
                           .keep_alive_ms = &j->ask.keep_alive_ms,
                           .computes = true};
        if (model_call_start(d, &call)) {
            http_on_gone(x, on_gone, j);
            return;
        }
    }
    free(text);
    free(j);
    error_respond(x, 503, NULL, "out of memory", NULL);
}
