/*
 * /api/generate and /api/chat: answers whole and as lines; without a prompt they load or unload.
 * Owner: an answer belongs to its exchange and to what works for it together, and is freed when both have ended.
 * Lifetime: from the handler to the last of `gone`, `looked`, `released` and `loaded`.
 *
 *   handler ─▶ pool: look ─┬─ nothing asked: model_jobs_load, _unload ─▶ loaded ─▶ one answer
 *                          └─ generation ─▶ deltas ─┬─ stream: a line each, then the last with figures
 *                                                   └─ whole: collected, answered when it is done
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/errors.h"
#include "server/model_jobs.h"
#include "server/ollama_parts.h"

typedef struct answer {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    uint32_t n_live;  /* jobs and generations that will still call */
    bool chat, begun, failed;
    char *body; /* [n_body] until it was looked at */
    size_t n_body;
    json_t *json;      /* what it says; NULL: bad, or handed on */
    char message[256]; /* "": nothing is wrong */
    int status;        /* with that */
    bool loads, unloads;
    int64_t keep_alive_ms;
    char model[REGISTRY_NAME_MAX + 1];
    generation *g; /* NULL: not started, or ended */
    ollama_options o;
    bool stream, raw, wants_context;     /* of o, whose texts end with the generation */
    json_t *warnings, *calls, *logprobs; /* calls, logprobs: collected, or of the line to come */
    text_buffer text, thinking;          /* collected */
    char *call_name;
    size_t n_calls;
    const char *finish;
} answer;

static void free_answer(answer *a)
{
    if (a->x || a->n_live > 0) {
        return;
    }
    json_decref(a->json);
    json_decref(a->warnings);
    json_decref(a->calls);
    json_decref(a->logprobs);
    free(a->body);
    text_buffer_close(&a->text);
    text_buffer_close(&a->thinking);
    free(a->call_name);
    free(a);
}

static void on_gone(void *user)
{
    answer *a = user;
    a->x = NULL;
    generation_drop(&a->g);
    free_answer(a);
}

static void on_drain(void *user)
{
    answer *a = user;
    if (a->g) {
        generation_resume(a->g);
    }
}

static void on_released(void *user)
{
    answer *a = user;
    a->n_live--;
    free_answer(a);
}

static void fail_answer(answer *a, int status, const char *code, const char *message, const char *param,
                        unsigned retry_s)
{
    if (!a->x || a->failed) {
        return;
    }
    http_exchange *x = a->x;
    a->failed = true;
    generation_drop(&a->g);
    if (a->begun) {
        ollama_line(x, error_json(ROUTE_OLLAMA, status, code, message, param, http_request_of(x)->request_id));
        http_stream_end(x);
    } else if (retry_s) {
        error_respond_retry(x, status, code, message, retry_s);
    } else {
        error_respond(x, status, code, message, param);
    }
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

/* An answer, or a piece of one. Takes what it is given; thinking and calls may be NULL. */
static json_t *piece(const answer *a, json_t *text, json_t *thinking, json_t *calls, bool done)
{
    json_t *line = json_pack("{s:s, s:o}", "model", a->model, "created_at", ollama_now());
    json_t *into = a->chat ? json_pack("{s:s, s:o}", "role", "assistant", "content", text) : json_incref(line);
    if (!a->chat) {
        json_object_set_new(line, "response", text);
    }
    if (thinking) {
        json_object_set_new(into, "thinking", thinking);
    }
    if (calls) {
        json_object_set_new(into, "tool_calls", calls);
    }
    if (a->chat) {
        json_object_set_new(line, "message", into);
    } else {
        json_decref(into);
    }
    json_object_set_new(line, "done", json_boolean(done));
    return line;
}

/* Log-probabilities that came since the last line. */
static json_t *with_logprobs(answer *a, json_t *line)
{
    if (a->logprobs) {
        json_object_set_new(line, "logprobs", a->logprobs);
        a->logprobs = NULL;
    }
    return line;
}

static void begin_stream(answer *a)
{
    if (!a->begun && a->x) {
        a->begun = true;
        http_on_drain(a->x, on_drain, a);
        ollama_stream_begin(a->x);
    }
}

static void send_piece(answer *a, json_t *text, json_t *thinking, json_t *calls)
{
    begin_stream(a);
    ollama_line(a->x, with_logprobs(a, piece(a, text, thinking, calls, false)));
    if (a->x && a->g && http_stream_buffered(a->x) > HTTP_BUFFER_MAX) {
        generation_pause(a->g);
    }
}

/* A call with its arguments, which come as one. */
static json_t *call_of(answer *a, const char *bytes, size_t n)
{
    char id[GENERATION_CALL_ID_MAX];
    json_t *arguments = json_loadb(bytes, n, 0, NULL);
    if (!json_is_object(arguments)) {
        json_array_append_new(a->warnings, json_sprintf("the arguments of the call of %s are no object: %.*s",
                                                        a->call_name, (int)(n < 200 ? n : 200), bytes));
        json_decref(arguments);
        arguments = json_object();
    }
    generation_call_id(a->g, 0, a->n_calls, id);
    return json_pack("{s:s, s:{s:I, s:s, s:o}}", "id", id, "function", "index", (json_int_t)a->n_calls++, "name",
                     a->call_name ? a->call_name : "", "arguments", arguments);
}

static void take_call(answer *a, const char *bytes, size_t n)
{
    json_t *call = call_of(a, bytes, n);
    if (a->stream) {
        send_piece(a, json_string(""), NULL, json_pack("[o]", call));
        return;
    }
    a->calls = a->calls ? a->calls : json_array();
    json_array_append_new(a->calls, call);
}

static void take_text(answer *a, const generation_delta *d, bool thinking)
{
    if (a->stream && (d->n || a->logprobs)) {
        json_t *text = json_stringn(d->bytes, d->n);
        send_piece(a, thinking ? json_string("") : text, thinking ? text : NULL, NULL);
    } else if (!a->stream) {
        text_buffer *into = thinking ? &a->thinking : &a->text;
        text_add(into, d->bytes, d->n);
        if (into->failed) {
            fail_answer(a, 503, NULL, "out of memory", NULL, 5);
        }
    }
}

static json_t *context_of(const generation *g)
{
    generation_lists ids = generation_tokens(g);
    json_t *list = json_array();
    for (size_t i = 0; i < ids.n_prompt; i++) {
        json_array_append_new(list, json_integer(ids.prompt[i]));
    }
    for (size_t i = 0; i < ids.n_answer; i++) {
        json_array_append_new(list, json_integer(ids.answer[i]));
    }
    return list;
}

static void add_figures(const answer *a, json_t *line, const generation_usage *u)
{
    json_t *figures = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "done_reason", a->finish ? a->finish : "stop", "total_duration",
        (json_int_t)(u->total_us * 1000), "load_duration", (json_int_t)(u->load_us * 1000), "prompt_eval_count",
        (json_int_t)u->n_prompt, "prompt_cached_count", (json_int_t)u->n_cached, "prompt_eval_duration",
        (json_int_t)(u->prompt_us * 1000), "eval_count", (json_int_t)u->n_answer, "eval_duration",
        (json_int_t)((u->answer_us ? u->answer_us : 1) * 1000)); /* clients divide by it */
    json_object_update(line, figures);
    json_decref(figures);
    if (json_array_size(a->warnings) > 0) {
        json_object_set(line, "warnings", a->warnings);
    }
}

/* ---- callbacks of the generation --------------------------------------------------------------------------------- */

static bool parse(void *user, chat_request *r)
{
    answer *a = user;
    bool ok = a->chat ? ollama_chat_parse(r, &a->o) : ollama_generate_parse(r, &a->o);
    a->stream = a->o.stream;
    a->raw = a->o.raw;
    a->wants_context = !a->chat && !a->raw && !r->suffix;
    return ok;
}

static void on_start(void *user, const generation_info *info)
{
    answer *a = user;
    const chat_request *asked = generation_request(a->g);
    a->warnings = info->warnings ? json_copy((json_t *)info->warnings) : json_array();
    /* A grammar is compiled when its request starts: until it has, the answer may still become a 400. */
    if (a->stream && !asked->f.grammar) {
        begin_stream(a);
    }
}

static void on_delta(void *user, const generation_delta *d)
{
    answer *a = user;
    if (!a->x || a->failed) {
        return;
    }
    if (d->n_tokens) {
        json_t *more = ollama_logprobs(generation_model(a->g), d->tokens, d->n_tokens);
        a->logprobs = a->logprobs ? a->logprobs : json_array();
        json_array_extend(a->logprobs, more);
        json_decref(more);
    }
    switch (d->kind) {
    case OUTPUT_TEXT:
    case OUTPUT_REASONING:
        take_text(a, d, d->kind == OUTPUT_REASONING);
        break;
    case OUTPUT_TOOL_BEGIN:
        free(a->call_name);
        a->call_name = strndup(d->bytes, d->n);
        break;
    case OUTPUT_TOOL_ARGS:
        take_call(a, d->bytes, d->n);
        break;
    case OUTPUT_WARNING:
        json_array_append_new(a->warnings, json_stringn(d->bytes, d->n));
        break;
    default:
        break;
    }
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    answer *a = user;
    (void)choice;
    (void)stop;
    a->finish = reason == GENERATION_LENGTH ? "length" : "stop";
}

static void on_done(void *user, const generation_usage *usage)
{
    answer *a = user;
    generation *g = a->g;
    a->g = NULL;
    if (!a->x || a->failed) {
        return;
    }
    generation_note_usage(a->x, usage);
    json_t *line = a->stream ? piece(a, json_string(""), NULL, NULL, true)
                             : piece(a, generation_text_json(&a->text),
                                     a->thinking.n ? generation_text_json(&a->thinking) : NULL,
                                     a->calls ? json_incref(a->calls) : NULL, true);
    with_logprobs(a, line);
    add_figures(a, line, usage);
    if (a->wants_context) {
        json_object_set_new(line, "context", context_of(g));
    }
    if (!a->stream) {
        http_respond_json(a->x, 200, line);
        return;
    }
    begin_stream(a);
    ollama_line(a->x, line);
    http_stream_end(a->x);
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    answer *a = user;
    a->g = NULL;
    fail_answer(a, status, code, message, param, retry_s);
}

static const generation_callbacks callbacks = {on_start, on_delta, on_finish, on_done, on_error};

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static void on_loaded(void *user, const model_answer *found)
{
    answer *a = user;
    a->n_live--;
    if (a->x && found->status != 200) {
        fail_answer(a, found->status, found->code, found->message, NULL, 0);
    } else if (a->x) {
        json_t *line = piece(a, json_string(""), NULL, NULL, true);
        json_object_set_new(line, "done_reason", json_string(a->unloads ? "unload" : "load"));
        if (found->load_us) {
            json_object_set_new(line, "load_duration", json_integer((json_int_t)(found->load_us * 1000)));
        }
        http_respond_json(a->x, 200, line);
    }
    free_answer(a);
}

static void start_load(answer *a)
{
    model_asker asker = {.done = on_loaded, .user = a, .identity = *route_identity(a->x)};
    bool ok = a->unloads ? model_jobs_unload(a->d->jobs, a->model, &asker)
                         : model_jobs_load(a->d->jobs, a->model, a->keep_alive_ms, &asker);
    if (ok) {
        a->n_live++;
    } else {
        fail_answer(a, 503, NULL, "out of memory", NULL, 5);
    }
}

/* Everything of such a request is read, too, so that nothing wrong in it goes unsaid. */
static void look_at_load(answer *a)
{
    chat_request r;
    json_t *messages = json_object_get(a->json, "messages");
    bool empty = a->chat && json_array_size(messages) == 0;
    json_t *trial = empty ? json_copy(a->json) : json_incref(a->json);
    if (empty) { /* a question in their place */
        json_object_set_new(trial, "messages", json_pack("[{s:s, s:s}]", "role", "user", "content", ""));
    }
    bool ok = (!messages || json_is_array(messages) || json_is_null(messages)) && chat_request_open(&r, trial, NULL);
    if (!ok) {
        snprintf(a->message, sizeof a->message, "messages must be a list");
        json_decref(trial);
        return;
    }
    ok = a->chat ? ollama_chat_parse(&r, &a->o) : ollama_generate_parse(&r, &a->o);
    if (ok) {
        a->loads = true;
        a->keep_alive_ms = a->o.keep_alive_ms;
        a->unloads = a->o.has_keep_alive && a->o.keep_alive_ms == 0;
    } else {
        a->status = error_status_of(r.f.error.status);
        snprintf(a->message, sizeof a->message, "%.250s", r.f.error.text);
    }
    chat_request_close(&r);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

static void look(void *user)
{
    answer *a = user;
    mlxr_error error;
    a->json = request_body_read(a->body, a->n_body, &error);
    a->status = 400;
    const char *name = json_string_value(json_object_get(a->json, "model"));
    if (!a->json) {
        a->status = error_status_of(error.status);
        snprintf(a->message, sizeof a->message, "%.250s", error.text);
    } else if (!name || !*name) {
        snprintf(a->message, sizeof a->message, "model is required");
    } else if (strlen(name) > REGISTRY_NAME_MAX) {
        snprintf(a->message, sizeof a->message, "the name of the model is too long");
    } else {
        snprintf(a->model, sizeof a->model, "%s", name);
        if (ollama_only_loads(a->json, a->chat)) {
            look_at_load(a);
        }
    }
}

static void looked(void *user)
{
    answer *a = user;
    a->n_live--;
    if (!a->x) {
        free_answer(a);
    } else if (a->message[0]) {
        fail_answer(a, a->status, a->status == 400 ? "invalid_value" : NULL, a->message, NULL, 0);
    } else if (a->loads) {
        start_load(a);
    } else {
        generation_job job = {.json = a->json,
                              .parse = parse,
                              .callbacks = &callbacks,
                              .user = a,
                              .on_released = on_released,
                              .identity = *route_identity(a->x)};
        a->g = generation_start(a->d, &job);
        if (a->g) {
            a->json = NULL;
            a->n_live++;
        } else {
            fail_answer(a, 503, NULL, "out of memory", NULL, 5);
        }
    }
}

static void start(struct daemon *d, http_exchange *x, bool chat)
{
    if (!generation_admit(d, x)) {
        return;
    }
    answer *a = calloc(1, sizeof *a);
    size_t n_body;
    char *body = http_body_copy(x, &n_body);
    if (a && body) {
        *a = (answer){.d = d, .x = x, .chat = chat, .body = body, .n_body = n_body, .n_live = 1};
        if (http_work(d->http, look, looked, a) == 0) {
            http_on_gone(x, on_gone, a);
            return;
        }
    }
    free(a);
    free(body);
    error_respond(x, 503, NULL, "out of memory", NULL);
}

void ollama_chat(void *service, http_exchange *x)
{
    start(service, x, true);
}

void ollama_generate(void *service, http_exchange *x)
{
    start(service, x, false);
}
