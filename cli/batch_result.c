/*
 * Results as JSON: our own lines, and those of OpenAI's batch files.
 * Owner: the caller. Lifetime: the call.
 */
#include "batch_result.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "batch_output.h"
#include "output.h"

static const batch_choice *failed_choice(const batch_job *job)
{
    for (uint32_t i = 0; i < job->request.f.n_choices; i++) {
        if (job->choices[i].failed) {
            return &job->choices[i];
        }
    }
    return NULL;
}

bool batch_result_failed(const batch_job *job)
{
    return failed_choice(job) != NULL;
}

uint64_t batch_result_tokens(const batch_job *job)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < job->request.f.n_choices; i++) {
        n += job->choices[i].n_tokens;
    }
    return n;
}

static const char *reason_of(const batch_choice *c)
{
    return c->finish == SCHEDULER_LENGTH || c->finish == SCHEDULER_CONTEXT ? "length" : "stop";
}

/* The line's beginning: our mark, then its id under the name it had. */
static json_t *begin(const batch_request *r, uint64_t hash)
{
    json_t *root = json_object();
    json_object_set_new(root, "mlxr", batch_output_mark(r->key, hash, r->line));
    if (r->form == BATCH_OWN) {
        json_object_set(root, "id", r->id ? r->id : json_null());
    }
    if (r->f.warnings) {
        json_object_set(root, "warnings", r->f.warnings);
    }
    return root;
}

/* ---- our own form ------------------------------------------------------------------------------------------------ */

static json_t *usage_json(const batch_job *job, bool openai)
{
    json_int_t n_prompt = (json_int_t)job->n_prompt, n_cached = (json_int_t)job->n_cached;
    json_int_t n_answer = (json_int_t)batch_result_tokens(job);
    json_t *usage = json_pack("{s:I, s:I, s:I}", "prompt_tokens", n_prompt, "completion_tokens", n_answer,
                              "total_tokens", n_prompt + n_answer);
    if (openai) {
        json_object_set_new(usage, "prompt_tokens_details", json_pack("{s:I}", "cached_tokens", n_cached));
    } else {
        json_object_set_new(usage, "cached_tokens", json_integer(n_cached));
        json_object_set_new(usage, "cache_miss", json_string(job->miss));
    }
    return usage;
}

static json_t *own_choices(const batch_job *job)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < job->request.f.n_choices; i++) {
        const batch_choice *c = &job->choices[i];
        json_t *one = json_pack("{s:o, s:s, s:I}", "text", json_text(c->text ? c->text : "", c->n_text),
                                "finish_reason", reason_of(c), "n_tokens", (json_int_t)c->n_tokens);
        if (c->logprobs) {
            json_object_set(one, "logprobs", c->logprobs);
        }
        json_array_append_new(list, one);
    }
    return list;
}

/* ---- OpenAI's form ----------------------------------------------------------------------------------------------- */

/* {"token", "logprob", "bytes"} of {"id", "text", "logprob"}. */
static json_t *openai_logprob(const mlxr_model *model, const json_t *own)
{
    size_t n = 0;
    const char *bytes = mlxr_token_text(model, (int32_t)json_integer_value(json_object_get(own, "id")), &n);
    json_t *list = json_array();
    for (size_t i = 0; bytes && i < n; i++) {
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    }
    return json_pack("{s:O, s:O, s:o}", "token", json_object_get(own, "text"), "logprob",
                     json_object_get(own, "logprob"), "bytes", list);
}

static json_t *openai_logprobs(const mlxr_model *model, const json_t *own)
{
    json_t *content = json_array();
    for (size_t i = 0; i < json_array_size(own); i++) {
        const json_t *token = json_array_get(own, i), *top = json_object_get(token, "top");
        json_t *one = openai_logprob(model, token), *others = json_array();
        for (size_t j = 0; j < json_array_size(top); j++) {
            json_array_append_new(others, openai_logprob(model, json_array_get(top, j)));
        }
        json_object_set_new(one, "top_logprobs", others);
        json_array_append_new(content, one);
    }
    return json_pack("{s:o}", "content", content);
}

static json_t *openai_choices(const batch_job *job, const mlxr_model *model)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < job->request.f.n_choices; i++) {
        const batch_choice *c = &job->choices[i];
        json_t *text = json_text(c->text ? c->text : "", c->n_text);
        json_t *one = json_pack("{s:I}", "index", (json_int_t)i);
        if (job->request.form == BATCH_CHAT) {
            json_object_set_new(one, "message", json_pack("{s:s, s:o}", "role", "assistant", "content", text));
        } else {
            json_object_set_new(one, "text", text);
        }
        json_object_set_new(one, "finish_reason", json_string(reason_of(c)));
        json_object_set_new(one, "logprobs", c->logprobs ? openai_logprobs(model, c->logprobs) : json_null());
        json_array_append_new(list, one);
    }
    return list;
}

/* {"custom_id", "response", "error": null} around the body. */
static json_t *openai_line(const batch_request *r, uint64_t hash, int status, json_t *body)
{
    char id[48];
    json_t *root = begin(r, hash);
    snprintf(id, sizeof id, "batch_req_%016" PRIx64, hash ^ r->line);
    json_object_set_new(root, "id", json_string(id));
    json_object_set(root, "custom_id", r->id ? r->id : json_null());
    json_object_set_new(root, "response",
                        json_pack("{s:i, s:s, s:o}", "status_code", status, "request_id", id, "body", body));
    json_object_set_new(root, "error", json_null());
    return root;
}

static json_t *openai_body(const batch_job *job, const mlxr_model *model, const char *model_name, uint64_t hash)
{
    bool chat = job->request.form == BATCH_CHAT;
    char id[48];
    snprintf(id, sizeof id, "%s-%016" PRIx64, chat ? "chatcmpl" : "cmpl", hash ^ job->request.line);
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "id", id, "object", chat ? "chat.completion" : "text_completion",
                     "created", (json_int_t)time(NULL), "model", model_name, "choices", openai_choices(job, model),
                     "usage", usage_json(job, true));
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

static json_t *error_line(const batch_request *r, uint64_t hash, bool asked_wrongly, const char *message)
{
    json_t *field = r->f.field ? json_string(r->f.field) : json_null();
    if (r->form != BATCH_OWN) {
        json_t *error = json_pack("{s:s, s:s, s:o, s:n}", "message", message, "type",
                                  asked_wrongly ? "invalid_request_error" : "server_error", "param", field, "code");
        return openai_line(r, hash, asked_wrongly ? 400 : 500, json_pack("{s:o}", "error", error));
    }
    json_t *root = begin(r, hash);
    json_object_set_new(root, "error",
                        json_pack("{s:s, s:s, s:o}", "code", asked_wrongly ? "bad-request" : "failed", "message",
                                  message, "field", field));
    return root;
}

json_t *batch_result_bad_json(const batch_request *r, uint64_t hash)
{
    return error_line(r, hash, true, r->f.error.text);
}

json_t *batch_result_json(const batch_job *job, const mlxr_model *model, const char *model_name, uint64_t hash)
{
    const batch_choice *failed = failed_choice(job);
    if (failed) {
        /* A grammar is compiled when its request starts: failing before any token, it is the line that is wrong. */
        bool grammar = job->request.f.grammar && failed->n_tokens == 0;
        return error_line(&job->request, hash, grammar, failed->error.text);
    }
    if (job->request.form != BATCH_OWN) {
        return openai_line(&job->request, hash, 200, openai_body(job, model, model_name, hash));
    }
    json_t *root = begin(&job->request, hash);
    json_object_set_new(root, "choices", own_choices(job));
    json_object_set_new(root, "usage", usage_json(job, false));
    return root;
}
