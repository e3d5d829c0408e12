/*
 * /api/embed and the older /api/embeddings.
 * Owner: the service. Lifetime: as in embeddings.h.
 */
#include "server/embeddings.h"
#include "server/ollama_parts.h"

/* Of the options only the context's size matters; the others are read, so that nothing wrong goes unsaid. */
static bool read_options(request_fields *f, const ollama_options *o, embeddings_ask *ask)
{
    chat_request r;
    ollama_options unused;
    if (!o->options) {
        return true;
    }
    json_t *body = json_pack("{s:s, s:O, s:[{s:s, s:s}]}", "model", "", "options", o->options, "messages", "role",
                             "user", "content", "");
    bool ok = body && chat_request_open(&r, body, NULL);
    if (!ok) {
        json_decref(body);
        return request_fields_no_memory(f);
    }
    ok = ollama_chat_parse(&r, &unused) ||
         request_fields_fail(f, r.f.error.status, "options", "options: %s", r.f.error.text);
    ask->n_ctx = r.n_ctx;
    chat_request_close(&r);
    return ok;
}

static bool take(request_fields *f, const char *pattern, const json_t *body, ollama_options *o, embeddings_ask *ask)
{
    if (!ollama_parse(f, pattern, body, o)) {
        return false;
    }
    if (!*o->model) {
        return request_fields_bad(f, "model", "model is required");
    }
    ask->model = o->model;
    ask->keep_alive_ms = o->keep_alive_ms;
    return read_options(f, o, ask);
}

static bool parse_embed(request_fields *f, const json_t *body, embeddings_ask *ask)
{
    ollama_options o;
    if (!take(f, "/api/embed", body, &o, ask)) {
        return false;
    }
    ask->input = o.input;
    ask->dimensions = o.dimensions;
    ask->may_shorten = true;
    ask->truncate = !o.has_truncate || o.truncate; /* as Ollama has it, but told */
    if (o.dimensions) {
        request_fields_warn(f, "dimensions: this model was not trained for fewer of them");
    }
    return true;
}

static bool parse_embeddings(request_fields *f, const json_t *body, embeddings_ask *ask)
{
    ollama_options o;
    ask->field = "prompt";
    if (!take(f, "/api/embeddings", body, &o, ask)) {
        return false;
    }
    ask->input = json_object_get(body, "prompt");
    ask->truncate = true;
    return true;
}

static json_t *vector_json(const float *values, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t k = 0; k < n; k++) {
        json_array_append_new(list, json_real((double)values[k]));
    }
    return list;
}

static json_t *answer_embed(const embeddings_found *found)
{
    json_t *list = json_array();
    for (size_t i = 0; i < found->n; i++) {
        json_array_append_new(list, vector_json(found->vectors[i], found->n_dims));
    }
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:O*}", "model", found->model, "embeddings", list, "total_duration",
                     (json_int_t)(found->total_us * 1000), "load_duration", (json_int_t)(found->load_us * 1000),
                     "prompt_eval_count", (json_int_t)found->n_tokens, "warnings", found->warnings);
}

static json_t *answer_embeddings(const embeddings_found *found)
{
    return json_pack("{s:o, s:O*}", "embedding", vector_json(found->vectors[0], found->n_dims), "warnings",
                     found->warnings);
}

void ollama_embed(void *service, http_exchange *x)
{
    static const embeddings_dialect dialect = {.parse = parse_embed, .answer = answer_embed};
    embeddings_start(service, x, &dialect);
}

void ollama_embeddings(void *service, http_exchange *x)
{
    static const embeddings_dialect dialect = {.parse = parse_embeddings, .answer = answer_embeddings};
    embeddings_start(service, x, &dialect);
}
