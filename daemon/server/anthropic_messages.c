/*
 * /v1/messages: answers as blocks, whole and streamed as typed events; /v1/messages/count_tokens.
 * Owner: an answer belongs to its exchange and its generation together. Lifetime: until both have ended.
 *
 *   on_start ─▶ message_start, ping
 *   delta ───▶ the block it belongs to: content_block_start, content_block_delta …, content_block_stop
 *   on_done ─▶ message_delta (why it ended, usage, warnings), message_stop
 *   nothing for ten seconds ─▶ ping
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/anthropic_parts.h"
#include "server/errors.h"
#include "server/sse.h"
#include "telemetry/text_buffer.h"

#define PING_MS 10000u

typedef enum block_kind { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_CALL } block_kind;

typedef struct message_answer {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    generation *g;    /* NULL: ended */
    bool released, begun, new_version;
    anthropic_options o;
    char id[64], model[256], beta[200];
    size_t n_prompt, n_blocks, n_calls;
    uint32_t max_tokens;
    json_t *content; /* blocks that are done, of a whole answer */
    json_t *warnings;
    generation_finish reason;
    char *stop; /* the request's own stop sequence that was met */
    /* the block under way */
    block_kind kind;
    char call_id[GENERATION_CALL_ID_MAX], *call_name;
    text_buffer text;
    uint64_t timer;
    bool spoke; /* an event was sent since the timer was set */
} message_answer;

static void free_answer(message_answer *a)
{
    if (a->x || !a->released) {
        return;
    }
    json_decref(a->content);
    json_decref(a->warnings);
    free(a->stop);
    free(a->call_name);
    text_buffer_close(&a->text);
    free(a);
}

static void on_gone(void *user)
{
    message_answer *a = user;
    a->x = NULL;
    http_timer_cancel(a->d->http, a->timer);
    generation_drop(&a->g);
    free_answer(a);
}

static void on_drain(void *user)
{
    message_answer *a = user;
    if (a->g) {
        generation_resume(a->g);
    }
}

static void on_released(void *user)
{
    message_answer *a = user;
    a->released = true;
    free_answer(a);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* What was found in the cache is told apart from what was computed; writing to it costs nothing and is not counted. */
static json_t *usage_json(size_t n_prompt, size_t n_cached, size_t n_answer, size_t n_reasoning)
{
    return json_pack("{s:I, s:i, s:I, s:n, s:I, s:{s:I}, s:n, s:s, s:n}", "input_tokens",
                     (json_int_t)(n_prompt - n_cached), "cache_creation_input_tokens", 0, "cache_read_input_tokens",
                     (json_int_t)n_cached, "cache_creation", "output_tokens", (json_int_t)n_answer,
                     "output_tokens_details", "thinking_tokens", (json_int_t)n_reasoning, "server_tool_use",
                     "service_tier", "standard", "inference_geo");
}

/* Takes content and usage. */
static json_t *message_json(const message_answer *a, json_t *content, const char *stop_reason, json_t *usage)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:n, s:n, s:o}", "id", a->id, "type", "message", "role",
                     "assistant", "model", a->model, "content", content, "stop_reason", stop_reason, "stop_sequence",
                     a->stop, "stop_details", "container", "usage", usage);
}

static void add_warnings(const message_answer *a, json_t *body)
{
    if (json_array_size(a->warnings) > 0) {
        json_object_set(body, "warnings", a->warnings);
    }
}

/* A block; `whole`: with what came of it, else as it is when it begins. */
static json_t *block_json(const message_answer *a, bool whole)
{
    const char *bytes = whole && a->text.data ? a->text.data : "";
    size_t n = whole ? a->text.n : 0;
    if (a->kind == BLOCK_TEXT) {
        return json_pack("{s:s, s:s%, s:n}", "type", "text", "text", bytes, n, "citations");
    }
    if (a->kind == BLOCK_THINKING) { /* any signature will do: it is not looked at when it comes back */
        return json_pack("{s:s, s:s%, s:s}", "type", "thinking", "thinking", bytes, n, "signature", whole ? a->id : "");
    }
    json_t *input = n ? json_loadb(bytes, n, 0, NULL) : NULL;
    return json_pack("{s:s, s:s, s:s?, s:o, s:{s:s}}", "type", "tool_use", "id", a->call_id, "name", a->call_name,
                     "input", input ? input : json_object(), "caller", "type", "direct");
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* Takes the event. */
static void send(message_answer *a, const char *type, json_t *event)
{
    if (!a->x || !event) {
        json_decref(event);
        return;
    }
    json_object_set_new(event, "type", json_string(type));
    sse_write_json(a->x, type, event);
    a->spoke = true;
    if (a->g && http_stream_buffered(a->x) > HTTP_BUFFER_MAX) {
        generation_pause(a->g);
    }
}

static void on_timer(void *user)
{
    message_answer *a = user;
    if (!a->spoke) {
        send(a, "ping", json_object());
    }
    a->spoke = false;
    a->timer = http_timer(a->d->http, PING_MS, on_timer, a);
}

static void begin(message_answer *a)
{
    if (a->begun || !a->x || !a->o.stream) {
        return;
    }
    a->begun = true;
    http_on_drain(a->x, on_drain, a);
    sse_begin(a->x);
    json_t *message = message_json(a, json_array(), NULL, usage_json(a->n_prompt, 0, 0, 0));
    send(a, "message_start", json_pack("{s:o}", "message", message));
    send(a, "ping", json_object());
    a->timer = http_timer(a->d->http, PING_MS, on_timer, a);
}

static void end_stream(message_answer *a)
{
    http_timer_cancel(a->d->http, a->timer);
    a->timer = 0;
    http_stream_end(a->x);
}

/* Takes the delta. */
static void send_delta(message_answer *a, json_t *delta)
{
    send(a, "content_block_delta", json_pack("{s:I, s:o}", "index", (json_int_t)a->n_blocks, "delta", delta));
}

static void close_block(message_answer *a)
{
    if (a->kind == BLOCK_NONE) {
        return;
    }
    if (a->o.stream) {
        if (a->kind == BLOCK_THINKING) {
            send_delta(a, json_pack("{s:s, s:s}", "type", "signature_delta", "signature", a->id));
        }
        send(a, "content_block_stop", json_pack("{s:I}", "index", (json_int_t)a->n_blocks));
    } else {
        json_array_append_new(a->content, block_json(a, true));
    }
    a->n_blocks++;
    a->kind = BLOCK_NONE;
    a->text.n = 0;
    free(a->call_name);
    a->call_name = NULL;
}

static void open_block(message_answer *a, block_kind kind, const char *name, size_t n_name)
{
    if (a->kind == kind && kind != BLOCK_CALL) {
        return;
    }
    close_block(a);
    a->kind = kind;
    if (kind == BLOCK_CALL) {
        a->call_name = strndup(name, n_name);
        generation_call_id(a->g, 0, a->n_calls++, a->call_id);
    }
    if (a->o.stream) {
        json_t *block = block_json(a, false);
        send(a, "content_block_start",
             json_pack("{s:I, s:o}", "index", (json_int_t)a->n_blocks, "content_block", block));
    }
}

static void add_to_block(message_answer *a, const char *type, const char *key, const char *bytes, size_t n)
{
    if (a->kind == BLOCK_THINKING && a->o.hides_thinking) {
        return;
    }
    if (a->o.stream) {
        send_delta(a, json_pack("{s:s, s:s%}", "type", type, key, bytes, n));
    } else {
        text_add(&a->text, bytes, n);
    }
}

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static void on_start(void *user, const generation_info *info)
{
    message_answer *a = user;
    const chat_request *r = generation_request(a->g);
    strncpy(a->model, info->model, sizeof a->model - 1);
    a->n_prompt = info->n_prompt;
    a->max_tokens = r->f.max_tokens;
    a->warnings = info->warnings ? json_copy((json_t *)info->warnings) : json_array();
    /* A grammar is compiled when its request starts: until it has, the answer may still become a 400. */
    if (!r->f.grammar && r->choice != TOOL_CHOICE_REQUIRED && r->choice != TOOL_CHOICE_NAMED && !a->o.counts) {
        begin(a);
    }
}

static void on_delta(void *user, const generation_delta *d)
{
    message_answer *a = user;
    begin(a);
    switch (d->kind) {
    case OUTPUT_TEXT:
        if (d->n > 0) {
            open_block(a, BLOCK_TEXT, NULL, 0);
            add_to_block(a, "text_delta", "text", d->bytes, d->n);
        }
        break;
    case OUTPUT_REASONING:
        if (d->n > 0) {
            open_block(a, BLOCK_THINKING, NULL, 0);
            add_to_block(a, "thinking_delta", "thinking", d->bytes, d->n);
        }
        break;
    case OUTPUT_TOOL_BEGIN:
        open_block(a, BLOCK_CALL, d->bytes, d->n);
        break;
    case OUTPUT_TOOL_ARGS:
        add_to_block(a, "input_json_delta", "partial_json", d->bytes, d->n);
        break;
    case OUTPUT_TOOL_END:
        close_block(a);
        break;
    case OUTPUT_WARNING:
        json_array_append_new(a->warnings, json_stringn(d->bytes, d->n));
        break;
    }
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    message_answer *a = user;
    (void)choice;
    begin(a);
    close_block(a);
    a->reason = reason;
    if (stop && generation_request(a->g)->f.own_stops) { /* the model's own ones are its way to end */
        a->stop = strdup(stop);
    }
}

static const char *stop_reason(const message_answer *a, const generation_usage *usage)
{
    if (a->reason == GENERATION_CALLS) {
        return "tool_use";
    }
    if (a->reason == GENERATION_LENGTH) {
        return usage->n_answer < a->max_tokens ? "model_context_window_exceeded" : "max_tokens";
    }
    return a->stop ? "stop_sequence" : "end_turn";
}

static void send_count(message_answer *a)
{
    json_t *body = json_pack("{s:I}", "input_tokens", (json_int_t)a->n_prompt);
    add_warnings(a, body);
    http_respond_json(a->x, 200, body);
}

static void on_done(void *user, const generation_usage *u)
{
    message_answer *a = user;
    a->g = NULL;
    if (!a->x) {
        return;
    }
    if (a->o.counts) {
        send_count(a);
        return;
    }
    generation_note_usage(a->x, u);
    const char *reason = stop_reason(a, u);
    json_t *usage = usage_json(u->n_prompt, u->n_cached, u->n_answer, u->n_reasoning);
    if (a->text.failed) {
        json_decref(usage);
        error_respond_retry(a->x, 503, NULL, "out of memory", 5);
    } else if (a->o.stream) {
        json_t *event = json_pack("{s:{s:s, s:s?, s:n, s:n}, s:o}", "delta", "stop_reason", reason, "stop_sequence",
                                  a->stop, "stop_details", "container", "usage", usage);
        add_warnings(a, event);
        send(a, "message_delta", event);
        send(a, "message_stop", json_object());
        end_stream(a);
    } else {
        json_t *body = message_json(a, json_incref(a->content), reason, usage);
        add_warnings(a, body);
        http_respond_json(a->x, 200, body);
    }
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    message_answer *a = user;
    a->g = NULL;
    if (!a->x) {
        return;
    }
    if (a->begun) {
        const char *id = http_request_of(a->x)->request_id;
        sse_write_json(a->x, "error", error_json(ROUTE_ANTHROPIC, status, code, message, param, id));
        end_stream(a);
    } else if (retry_s) {
        error_respond_retry(a->x, status, code, message, retry_s);
    } else {
        error_respond(a->x, status, code, message, param);
    }
}

static const generation_callbacks callbacks = {on_start, on_delta, on_finish, on_done, on_error};

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

/* On the pool. What a beta adds comes as fields, and those speak for themselves. */
static bool parse(void *user, chat_request *r)
{
    message_answer *a = user;
    return anthropic_parse(r, &a->o) &&
           (!a->new_version ||
            request_fields_warn(&r->f, "anthropic-version: this one is not known here; answered as 2026-10-21")) &&
           (!*a->beta || request_fields_warn(&r->f, "anthropic-beta: %s: there are no betas here", a->beta));
}

/* Versions are dates. Answers are the same for all that are known, and fit later ones as far as can be told; one that
 * is older, or no date, is refused. */
static bool version_fits(http_exchange *x, bool *known)
{
    static const char *const versions[] = {"2023-06-01", "2026-10-21"};
    const char *version = http_header_get(x, "anthropic-version");
    *known = !version;
    for (size_t i = 0; version && i < sizeof versions / sizeof *versions; i++) {
        *known = *known || strcmp(version, versions[i]) == 0;
    }
    bool date = version && strlen(version) == strlen(versions[0]);
    for (size_t i = 0; date && version[i]; i++) {
        date = i == 4 || i == 7 ? version[i] == '-' : version[i] >= '0' && version[i] <= '9';
    }
    if (version && (!date || strcmp(version, versions[0]) < 0)) {
        error_respondf(x, 400, NULL, "anthropic-version", "anthropic-version: %.40s: this server speaks %s and later",
                       version, versions[0]);
        return false;
    }
    return true;
}

static void start(struct daemon *d, http_exchange *x, bool counts)
{
    const http_request *q = http_request_of(x);
    const char *beta = http_header_get(x, "anthropic-beta");
    bool known;
    if (!version_fits(x, &known) || !generation_admit(d, x)) {
        return;
    }
    message_answer *a = calloc(1, sizeof *a);
    if (!a || !(a->content = json_array())) {
        free(a);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    a->d = d;
    a->x = x;
    a->o.counts = counts;
    a->new_version = !known;
    snprintf(a->beta, sizeof a->beta, "%s", beta ? beta : "");
    for (char *at = a->beta; *at; at++) { /* it comes back in a warning, and headers need not be UTF-8 */
        *at = *at < ' ' || *at > '~' ? '?' : *at;
    }
    generation_new_id(d, "msg_", a->id, sizeof a->id);
    http_on_gone(x, on_gone, a);
    generation_job job = {.body = q->body,
                          .n_body = q->n_body,
                          .parse = parse,
                          .callbacks = &callbacks,
                          .user = a,
                          .on_released = on_released,
                          .identity = *route_identity(x),
                          .prompt_only = counts};
    a->g = generation_start(d, &job);
    if (!a->g) {
        a->released = true;
        error_respond(x, 503, NULL, "out of memory", NULL);
    }
}

void anthropic_messages(void *service, http_exchange *x)
{
    start(service, x, false);
}

void anthropic_count_tokens(void *service, http_exchange *x)
{
    start(service, x, true);
}
