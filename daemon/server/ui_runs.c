/*
 * Answers in chats: started, followed, stopped, and gone on with. They belong to the server; who asked may leave.
 * Owner: struct ui_runs. Lifetime: see ui_runs.h.
 *
 *   POST …/generations ─▶ pool: checks, rows in the store ─▶ run ─▶ generation ─▶ events ─▶ log (clients), store
 *                                                             │          └ done, error, stop ─▶ end ─▶ written ─▶ told
 *                                                             └▶ 201 at once
 */
#include "server/ui_runs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/openai_parts.h"
#include "server/ui_routes.h"

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void answer_close(ui_answer *answer)
{
    text_buffer_close(&answer->content);
    text_buffer_close(&answer->reasoning);
    json_decref(answer->calls);
    *answer = (ui_answer){0};
}

void ui_run_free_if_over(ui_run *run)
{
    if (!run->written || !run->released || run->waiters) {
        return;
    }
    *(run->previous ? &run->previous->next : &run->runs->all) = run->next;
    if (run->next) {
        run->next->previous = run->previous;
    }
    ui_log_release(run->log);
    chats_run_close(&run->begun);
    answer_close(&run->answer);
    answer_close(&run->again);
    json_decref(run->warnings);
    json_decref(run->events);
    json_decref(run->stats);
    free(run->call_name);
    free(run->stop);
    free(run->tokens);
    free(run->kept_prompt);
    free(run);
}

static ui_run *find_run(const struct ui_runs *runs, int64_t id)
{
    ui_run *run = runs->all;
    while (run && run->id != id) {
        run = run->next;
    }
    return run;
}

static void publish(const ui_run *run, const char *op)
{
    ui_publish(run->runs->ui->d, run->begun.owner,
               json_pack("{s:s, s:s, s:I, s:I, s:I, s:s}", "kind", "generation", "op", op, "id", (json_int_t)run->id,
                         "chat", (json_int_t)run->chat, "message", (json_int_t)run->message, "state",
                         run->state ? run->state : "running"));
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* Takes the event, without its number. */
static void add_event(ui_run *run, json_t *event)
{
    bool ok = event && json_object_set_new(event, "n", json_integer((json_int_t)run->n_events + 1)) == 0;
    run->events = run->events ? run->events : json_array();
    ok = ok && json_array_append(run->events, event) == 0;
    if (ok && ui_log_add(run->log, event)) {
        run->n_events++;
        if (!run->state) { /* the end is shown once it is on the disk: who reads it may look for the answer there */
            ui_log_show(run->log, run->n_events);
        }
        ui_save_soon(run->runs, run->state != NULL);
        return;
    }
    run->failed = true;
    if (!ok) {
        json_decref(event);
    }
}

static void add_start(ui_run *run)
{
    if (run->started) {
        return;
    }
    run->started = true;
    const ui_answer *so_far = &run->answer;
    json_t *event = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "type", "start", "model", run->model,
                              "prompt_tokens", (json_int_t)run->n_prompt, "context_tokens", (json_int_t)run->n_ctx,
                              "content", generation_text_json(&so_far->content), "reasoning",
                              generation_text_json(&so_far->reasoning), "tool_calls",
                              so_far->calls ? json_copy(so_far->calls) : json_array());
    add_event(run, event);
}

static bool keep_tokens(ui_run *run, const generation_delta *delta)
{
    for (uint32_t i = 0; i < delta->n_tokens; i++) {
        if (run->n_new == run->cap_new) {
            size_t cap = run->cap_new ? run->cap_new * 2 : 64;
            int32_t *grown = realloc(run->tokens, cap * sizeof *grown);
            if (!grown) {
                return false;
            }
            run->tokens = grown;
            run->cap_new = cap;
        }
        run->tokens[run->n_new++] = delta->tokens[i].id;
        run->n_tokens++;
    }
    return true;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void set_number(json_t *stats, const char *key, double value)
{
    json_object_set_new(stats, key, json_real(value));
}

static json_t *stats_of(const ui_run *run, const generation_usage *usage)
{
    json_t *stats = json_pack("{s:s, s:I, s:I, s:I}", "finish_reason", run->reason, "prompt_tokens",
                              (json_int_t)run->n_prompt, "context_tokens", (json_int_t)run->n_ctx, "answer_tokens",
                              (json_int_t)run->n_tokens);
    uint64_t now = http_now_ms(run->runs->ui->d->http);
    double first_ms = usage ? (double)(usage->load_us + usage->prompt_us) / 1e3
                            : (double)((run->first_ms ? run->first_ms : now) - run->began_ms);
    double answer_s = usage ? (double)usage->answer_us / 1e6 : run->first_ms ? (double)(now - run->first_ms) / 1e3 : 0;
    size_t n_made = usage ? usage->n_answer : run->n_tokens - run->begun.n_tokens;
    set_number(stats, "first_token_ms", first_ms);
    set_number(stats, "total_ms", usage ? (double)usage->total_us / 1e3 : (double)(now - run->began_ms));
    json_object_set_new(stats, "tokens_per_second",
                        n_made > 1 && answer_s > 0 ? json_real((double)(n_made - 1) / answer_s) : json_null());
    if (usage) {
        size_t n_cached = usage->n_cached < run->n_prompt ? usage->n_cached : run->n_prompt;
        set_number(stats, "load_ms", (double)usage->load_us / 1e3);
        json_object_set_new(stats, "cached_tokens", json_integer((json_int_t)n_cached));
        json_object_set_new(stats, "reasoning_tokens", json_integer((json_int_t)usage->n_reasoning));
        json_object_set_new(stats, "cache_miss", json_string(usage->miss ? usage->miss : ""));
    }
    if (run->n_dropped) {
        json_object_set_new(stats, "dropped_messages", json_integer((json_int_t)run->n_dropped));
    }
    if (json_array_size(run->warnings) > 0) {
        json_object_set(stats, "warnings", run->warnings);
    }
    if (run->stop) {
        json_object_set_new(stats, "stop", json_string(run->stop));
    }
    return stats;
}

/* Takes the stats. Nothing of the run changes behind this. */
static void end_run(ui_run *run, const char *state, json_t *stats)
{
    run->g = NULL;
    run->state = state;
    run->stats = stats;
    ui_save_prompt(run); /* before the generation goes: what was stopped early can be gone on with */
    add_event(run, json_pack("{s:s, s:s, s:O}", "type", "end", "state", state, "stats", stats));
    if (run->failed && json_array_size(run->events) == 0) { /* not even that: there must be something to write */
        json_decref(run->events);
        run->events = json_pack("[{s:s}]", "type", "end");
    }
    ui_save_soon(run->runs, true);
}

static void free_waiters(ui_run *run)
{
    while (run->waiters) {
        ui_waiter *w = run->waiters;
        run->waiters = w->next;
        free(w);
    }
}

void ui_run_written(ui_run *run)
{
    run->written = true;
    ui_log_end(run->log);
    publish(run, "ended");
    for (ui_waiter *w = run->waiters; w; w = w->next) {
        if (w->x) {
            http_on_gone(w->x, NULL, NULL);
            ui_generation_get(run->runs->ui->d, w->x);
        }
    }
    free_waiters(run);
    ui_run_free_if_over(run);
}

void ui_runs_tell_unsaved(struct ui_runs *runs, const mlxr_error *why)
{
    char text[sizeof why->text + 160];
    snprintf(text, sizeof text, "it has ended and cannot be saved now; it is kept in memory until that works: %s",
             why->text);
    for (ui_run *run = runs->all; run; run = run->next) {
        for (ui_waiter *w = run->waiters; w; w = w->next) {
            if (w->x) {
                http_on_gone(w->x, NULL, NULL);
                error_respond_retry(w->x, 503, "not_saved", text, 60);
            }
        }
        free_waiters(run);
    }
}

/* ---- callbacks of the generation --------------------------------------------------------------------------------- */

static void on_start(void *user, const generation_info *info)
{
    ui_run *run = user;
    const chat_request *r = generation_request(run->g);
    snprintf(run->model, sizeof run->model, "%s", info->model);
    snprintf(run->source, sizeof run->source, "%s", r->source);
    run->prompt = generation_prompt_ids(run->g, &run->n_prompt);
    run->n_ctx = info->engine->n_ctx;
    run->n_dropped = info->n_dropped;
    run->exact = !run->begun.continues || r->n_answer > 0;
    run->n_tokens = r->n_answer;
    for (size_t i = 0; i < json_array_size(info->warnings); i++) {
        json_array_append(run->warnings, json_array_get(info->warnings, i));
    }
    run->comes_again = r->n_answer > 0;
    run->comes_cut = generation_answer_was_cut(run->g);
    if (!run->comes_again) {
        add_start(run);
    }
}

/* Does one go on as the other does? What is held back at its end, as the beginning of a stop string or of a call, or
 * half a character, is still to come. */
static bool agrees(const text_buffer *again, const text_buffer *before)
{
    size_t n = again->n < before->n ? again->n : before->n;
    return n == 0 || memcmp(again->data, before->data, n) == 0;
}

/* The answer so far has come once more, made of its tokens: that is what goes on. Not before: whoever stops it
 * meanwhile has what there was. What is read otherwise now, as a stop string that was none before cuts it, be it at its
 * end, is kept as it was: nothing of an answer goes by going on. */
static void take_again(ui_run *run)
{
    if (run->comes_again) {
        const ui_answer *again = &run->again, *before = &run->answer;
        bool same = !run->comes_cut && agrees(&again->content, &before->content) &&
                    agrees(&again->reasoning, &before->reasoning) &&
                    json_array_size(again->calls) >= json_array_size(before->calls);
        run->comes_again = false;
        answer_close(same ? &run->answer : &run->again);
        run->answer = same ? run->again : run->answer;
        run->again = (ui_answer){0};
    }
}

static void tool_call(ui_run *run, ui_answer *answer, const generation_delta *d)
{
    char id[GENERATION_CALL_ID_MAX];
    generation_call_id(run->g, 0, run->n_calls, id);
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:s%}}", "id", id, "type", "function", "function", "name",
                             run->call_name ? run->call_name : "", "arguments", d->bytes, d->n);
    answer->calls = answer->calls ? answer->calls : json_array();
    run->failed = run->failed || !call || json_array_append(answer->calls, call) != 0;
    if (!d->again) {
        add_event(run, json_pack("{s:s, s:O}", "type", "tool_call", "tool_call", call));
    }
    json_decref(call);
}

static void take_delta(ui_run *run, const generation_delta *d)
{
    if (!d->again) {
        take_again(run);
        add_start(run);
        run->by_text = run->by_text || (!run->exact && d->n > 0 && d->kind != OUTPUT_WARNING);
        run->first_ms = run->first_ms ? run->first_ms : http_now_ms(run->runs->ui->d->http);
    }
    run->failed = run->failed || !keep_tokens(run, d);
    ui_answer *answer = d->again ? &run->again : &run->answer;
    switch (d->kind) {
    case OUTPUT_TEXT:
    case OUTPUT_REASONING:
        text_add(d->kind == OUTPUT_TEXT ? &answer->content : &answer->reasoning, d->bytes, d->n);
        if (d->n && !d->again) {
            add_event(run, json_pack("{s:s, s:s%}", "type", d->kind == OUTPUT_TEXT ? "text" : "reasoning", "text",
                                     d->bytes, d->n));
        }
        break;
    case OUTPUT_TOOL_BEGIN:
        free(run->call_name);
        run->call_name = strndup(d->bytes, d->n);
        break;
    case OUTPUT_TOOL_ARGS:
        tool_call(run, answer, d);
        break;
    case OUTPUT_TOOL_END:
        run->n_calls++;
        break;
    case OUTPUT_WARNING:
        json_array_append_new(run->warnings, json_stringn(d->bytes, d->n));
        if (!d->again) {
            add_event(run, json_pack("{s:s, s:s%}", "type", "warning", "text", d->bytes, d->n));
        }
        break;
    }
}

/* A model may write U+0000, which no column of text holds. */
static void on_delta(void *user, const generation_delta *d)
{
    ui_run *run = user;
    generation_delta whole = *d;
    text_buffer text = {0};
    if (d->n && memchr(d->bytes, 0, d->n)) {
        text_add_without_nul(&text, d->bytes, d->n);
        whole.bytes = text.failed ? "" : text.data;
        whole.n = text.failed ? 0 : text.n;
        run->failed = run->failed || text.failed;
    }
    take_delta(run, &whole);
    text_buffer_close(&text);
}

static void on_finish(void *user, uint32_t choice, generation_finish reason, const char *stop)
{
    static const char *const reasons[] = {[GENERATION_STOP] = "stop",
                                          [GENERATION_STOP_STRING] = "stop_string",
                                          [GENERATION_LENGTH] = "length",
                                          [GENERATION_CALLS] = "tool_calls"};
    ui_run *run = user;
    (void)choice;
    run->reason = reasons[reason];
    run->stop = stop ? strdup(stop) : NULL;
}

static void fail_run(ui_run *run, const char *code, const char *message, const char *param)
{
    bool ended = strcmp(code, "shutting_down") == 0 || strcmp(code, "cancelled") == 0;
    add_start(run);
    run->reason = ended ? "interrupted" : "error";
    json_t *stats = stats_of(run, NULL);
    if (!ended) {
        json_object_set_new(stats, "error",
                            json_pack("{s:s, s:s, s:s?}", "code", code, "message", message, "param", param));
    }
    end_run(run, ended ? "interrupted" : "failed", stats);
}

static void on_done(void *user, const generation_usage *usage)
{
    ui_run *run = user;
    take_again(run);
    add_start(run);
    if (run->failed || run->answer.content.failed || run->answer.reasoning.failed) {
        fail_run(run, "out_of_memory", "the daemon is out of memory", NULL);
        return;
    }
    end_run(run, "complete", stats_of(run, usage));
}

static void on_error(void *user, int status, const char *code, const char *message, const char *param, unsigned retry_s)
{
    (void)status;
    (void)retry_s;
    fail_run(user, code, message, param);
}

static void on_released(void *user)
{
    ui_run *run = user;
    run->released = true;
    run->prompt = NULL;
    ui_run_free_if_over(run);
}

static const generation_callbacks callbacks = {on_start, on_delta, on_finish, on_done, on_error};

/* ---- the request ------------------------------------------------------------------------------------------------- */

/* Of an answer that goes on with its text only. What it is bound to is known to hold for its tokens only: the text's
 * could be others. */
static bool go_on_with_text(const ui_run *run, chat_request *r)
{
    if (*run->begun.content && chat_request_is_bound(r)) {
        return request_fields_bad(&r->f, "continue",
                                  "an answer that is bound to a schema, a grammar or a tool call goes on from its own "
                                  "tokens only: its text was edited, or another model made it; have the question "
                                  "answered once more");
    }
    if (*run->begun.content) {
        r->continues = true;
        return chat_message_add(r, "assistant", run->begun.content);
    }
    return true;
}

static int32_t *copy_ids(const int32_t *ids, size_t n)
{
    int32_t *copy = malloc(n * sizeof *copy + 1);
    if (copy && n) {
        memcpy(copy, ids, n * sizeof *copy);
    }
    return copy;
}

/* Pool. Of an answer that goes on: its tokens, if the model is the one that made them. */
static bool go_on(const ui_run *run, chat_request *r)
{
    const chats_run *b = &run->begun;
    if (!b->n_tokens) {
        return go_on_with_text(run, r);
    }
    if (strcmp(b->source, r->source) != 0) {
        return request_fields_warn(&r->f,
                                   "another model or file made the answer so far: it goes on with its text, not its "
                                   "tokens") &&
               go_on_with_text(run, r);
    }
    r->answer = copy_ids(b->tokens, b->n_tokens);
    r->n_answer = b->n_tokens;
    if (b->n_prompt) {
        r->tokens = copy_ids(b->prompt, b->n_prompt);
        r->n_tokens = b->n_prompt;
    }
    if (b->unfinished && r->f.max_tokens > b->n_tokens) { /* of the whole answer */
        r->f.max_tokens -= (uint32_t)b->n_tokens;
    }
    return (r->answer && (!b->n_prompt || r->tokens)) || request_fields_no_memory(&r->f);
}

static bool parse(void *user, chat_request *r)
{
    const ui_run *run = user;
    openai_options o = {0};
    r->tell_tokens = true;
    return openai_chat_parse(r, &o) && (!run->begun.continues || go_on(run, r));
}

static void start_generation(ui_run *run, const auth_identity *identity)
{
    json_t *body = json_copy(run->begun.parameters);
    generation_job job = {.json = body,
                          .parse = parse,
                          .callbacks = &callbacks,
                          .user = run,
                          .on_released = on_released,
                          .identity = *identity};
    if (body) {
        json_object_set_new(body, "model", json_string(run->begun.model));
        json_object_set(body, "messages", run->begun.messages);
    }
    run->g = body ? generation_start(run->runs->ui->d, &job) : NULL;
    if (!run->g) {
        json_decref(body);
        run->released = true;
        fail_run(run, "out_of_memory", "the daemon is out of memory", NULL);
    }
}

static ui_run *new_run(struct ui_runs *runs, chats_run *begun)
{
    ui_run *run = calloc(1, sizeof *run);
    ui_log *log = run ? ui_log_open(runs->ui->d->http) : NULL;
    json_t *warnings = log ? json_array() : NULL;
    if (!warnings) {
        ui_log_release(log);
        free(run);
        return NULL;
    }
    *run = (ui_run){.runs = runs,
                    .id = begun->id,
                    .chat = begun->chat,
                    .message = begun->message,
                    .begun = *begun,
                    .log = log,
                    .warnings = warnings,
                    .reason = "error",
                    .began_ms = http_now_ms(runs->ui->d->http),
                    .next = runs->all};
    if (begun->continues) {
        text_add_string(&run->answer.content, begun->content);
        text_add_string(&run->answer.reasoning, begun->reasoning);
        run->answer.calls = json_is_array(begun->tool_calls) ? json_copy(begun->tool_calls) : NULL;
    }
    *begun = (chats_run){0};
    snprintf(run->model, sizeof run->model, "%s", run->begun.model);
    if (run->next) {
        run->next->previous = run;
    }
    runs->all = run;
    return run;
}

/* ---- POST …/generations ------------------------------------------------------------------------------------------ */

/* Pool, within the store's transaction: can such an answer be made at all? */
static chats_status check(void *user, chats_run *run, mlxr_error *error)
{
    ui_call *call = user;
    registry_model m;
    (void)error; /* is the call's */
    if (!ui_parameters_check(run->parameters, call->field, sizeof call->field, &call->error)) {
        return CHATS_INVALID;
    }
    const char *name = *run->model ? run->model : call->d->default_model;
    if (!*name) {
        return ui_call_bad(call, "model", "model is missing, and the chat has none");
    }
    mlxr_status status = registry_resolve(call->d->registry, name, &m, &call->error);
    if (status != MLXR_OK) {
        call->http_status = status == MLXR_ARG ? 404 : 500;
        snprintf(call->code, sizeof call->code, "%s", status == MLXR_ARG ? "model_not_found" : "registry_failed");
        snprintf(call->field, sizeof call->field, "model");
        return CHATS_INVALID;
    }
    if (!auth_allows_model(&call->identity, m.name)) {
        registry_model_close(&m);
        call->http_status = 403;
        snprintf(call->code, sizeof call->code, "model_not_allowed");
        return ui_call_bad(call, "model", "this key may not use the model '%.100s'", name);
    }
    char *found = strdup(m.name);
    registry_model_close(&m);
    if (!found) {
        return CHATS_NO_MEMORY;
    }
    free(run->model);
    run->model = found;
    return CHATS_OK;
}

static chats_status begin(ui_call *call)
{
    chats_run *run = calloc(1, sizeof *run);
    call->own = run;
    return run ? chats_run_begin(call->store, &call->who, call->id, call->fields, check, call, run, &call->error)
               : CHATS_NO_MEMORY;
}

static void began(ui_call *call)
{
    struct ui_runs *runs = call->d->ui->runs;
    chats_run *begun = call->own;
    int64_t id = begun ? begun->id : 0;
    json_t *answer = NULL;
    if (call->status == CHATS_OK) {
        answer = json_pack("{s:I, s:O, s:O, s:O}", "generation", (json_int_t)begun->id, "question",
                           begun->question ? begun->question : json_null(), "answer", begun->answer, "chat",
                           begun->chat_row);
        ui_run *run = answer ? new_run(runs, begun) : NULL;
        if (run) {
            publish(run, "started");
            ui_call_answer(call, answer);
            start_generation(run, &call->identity);
        } else {
            json_decref(answer);
            chats_run_forget(call->store, id);
            call->status = CHATS_NO_MEMORY;
            snprintf(call->error.text, sizeof call->error.text, "out of memory");
        }
    }
    if (call->status != CHATS_OK) {
        ui_call_fail(call);
    }
    if (begun) {
        chats_run_close(begun);
        free(begun);
    }
    ui_call_end(call);
}

void ui_generate(void *service, http_exchange *x)
{
    static const ui_spec spec = {begin, NULL, NULL, began};
    const struct daemon *d = service;
    if (ui_save_is_stuck(d->ui->runs)) {
        error_respond_retry(x, 503, "not_saved", "answers cannot be saved now, and none is begun; the log says why",
                            60);
    } else if (generation_admit(service, x)) {
        ui_call_start(service, x, &spec);
    }
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static chats_status get_generation(ui_call *c)
{
    return chats_run_get(c->store, &c->who, c->id, &c->out, &c->error);
}

void ui_generation_get(void *service, http_exchange *x)
{
    static const ui_spec spec = {get_generation, NULL, NULL, NULL};
    ui_call_start(service, x, &spec);
}

static chats_status list_generations(ui_call *c)
{
    json_t *list = NULL;
    int64_t chat = json_integer_value(json_object_get(c->query, "chat"));
    chats_status status = chats_runs(c->store, &c->who, chat, &list, &c->error);
    c->out = status == CHATS_OK ? json_pack("{s:o}", "generations", list) : NULL;
    return status == CHATS_OK && !c->out ? CHATS_NO_MEMORY : status;
}

void ui_generations(void *service, http_exchange *x)
{
    static const ui_spec spec = {list_generations, NULL, NULL, NULL};
    ui_call_start(service, x, &spec);
}

/* The run that the path names, if it is under way and the asker may see it. */
static ui_run *run_of(struct daemon *d, http_exchange *x)
{
    const char *text = http_path_param(x, "id");
    char *end;
    int64_t id = strtoll(text, &end, 10);
    ui_run *run = *end ? NULL : find_run(d->ui->runs, id);
    return run && ui_sees(route_identity(x), run->begun.owner) ? run : NULL;
}

void ui_generation_stop(void *service, http_exchange *x)
{
    struct daemon *d = service;
    ui_run *run = run_of(d, x);
    if (!run || run->written) {
        ui_generation_get(service, x);
        return;
    }
    ui_waiter *w = calloc(1, sizeof *w);
    if (!w) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    *w = (ui_waiter){.next = run->waiters, .run = run, .x = x};
    run->waiters = w;
    http_on_gone_forget(&w->x);
    if (!run->state) {
        generation *g = run->g;
        add_start(run);
        run->reason = "stopped";
        end_run(run, "stopped", stats_of(run, NULL));
        if (g) {
            generation_cancel(g);
        }
    }
}

/* ---- attaching to one that has ended ----------------------------------------------------------------------------- */

static chats_status read_events(ui_call *c)
{
    return chats_run_events(c->store, &c->who, c->id, &c->out, &c->error);
}

/* Its events as they were; where they are gone, or it ended in another way than they tell, its end only. */
static ui_log *log_of(ui_call *c)
{
    const json_t *events = json_object_get(c->out, "events"), *run = json_object_get(c->out, "generation");
    const json_t *message = json_object_get(c->out, "message");
    ui_log *log = ui_log_open(c->d->http);
    bool ok = log != NULL;
    for (size_t i = 0; ok && i < json_array_size(events); i++) {
        ok = ui_log_add(log, json_incref(json_array_get(events, i)));
    }
    if (ok && json_array_size(events) == 0) {
        ok = ui_log_add(log, json_pack("{s:s, s:i, s:s, s:s?, s:s?, s:O?, s:O?}", "type", "start", "n", 1, "model",
                                       json_string_value(json_object_get(message, "model")), "content",
                                       json_string_value(json_object_get(message, "content")), "reasoning",
                                       json_string_value(json_object_get(message, "reasoning")), "tool_calls",
                                       json_object_get(message, "tool_calls"), "stats", json_null())) &&
             ui_log_add(log, json_pack("{s:s, s:i, s:O, s:O}", "type", "end", "n", 2, "state",
                                       json_object_get(run, "state"), "stats", json_object_get(message, "stats")));
    }
    if (!ok) {
        ui_log_release(log);
        return NULL;
    }
    return log;
}

static void attach_ended(ui_call *c)
{
    ui_log *log = c->status == CHATS_OK ? log_of(c) : NULL;
    http_exchange *x = c->x;
    const char *state = json_string_value(json_object_get(json_object_get(c->out, "generation"), "state"));
    if (c->status == CHATS_OK && !log) {
        c->status = CHATS_NO_MEMORY;
        snprintf(c->error.text, sizeof c->error.text, "out of memory");
    }
    if (c->status != CHATS_OK) {
        ui_call_fail(c);
    } else if (x && state && strcmp(state, "running") == 0) { /* it began or ended this moment */
        error_respond_retry(x, 503, "unavailable", "the generation is just beginning or ending; try again", 1);
    } else if (x) {
        uint64_t after = (uint64_t)json_integer_value(json_object_get(c->query, "after"));
        http_on_gone(x, NULL, NULL);
        c->x = NULL;
        ui_log_end(log);
        ui_log_attach(log, x, after);
    }
    ui_log_release(log);
    ui_call_end(c);
}

void ui_generation_events(void *service, http_exchange *x)
{
    static const ui_spec spec = {read_events, NULL, NULL, attach_ended};
    struct daemon *d = service;
    uint64_t after = 0;
    ui_run *run = run_of(d, x);
    if (!route_query_after(x, &after)) {
        return;
    }
    if (run) {
        ui_log_attach(run->log, x, after);
    } else {
        ui_call_start(service, x, &spec);
    }
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

mlxr_status ui_runs_open(struct ui_runs **out, struct ui *ui, mlxr_error *error)
{
    struct ui_runs *runs = calloc(1, sizeof *runs);
    if (!runs) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        return MLXR_NOMEM;
    }
    runs->ui = ui;
    *out = runs;
    return MLXR_OK;
}

unsigned ui_runs_answering(const struct ui_runs *runs)
{
    unsigned n = 0;
    for (const ui_run *run = runs->all; run; run = run->next) {
        n += !run->state;
    }
    return n;
}

bool ui_runs_idle(const struct ui_runs *runs)
{
    const ui_run *run = runs->all;
    while (run && run->written) {
        run = run->next;
    }
    return !run && !runs->write;
}

void ui_runs_end(struct ui_runs *runs)
{
    for (ui_run *run = runs->all; run; run = run->next) {
        if (!run->state) {
            fail_run(run, "shutting_down", "", NULL);
        }
    }
    ui_save_rest(runs);
}

void ui_runs_close(struct ui_runs **pointer)
{
    struct ui_runs *runs = *pointer;
    if (!runs) {
        return;
    }
    while (runs->all) {
        ui_run *run = runs->all;
        run->written = run->released = true;
        free_waiters(run);
        ui_run_free_if_over(run);
    }
    free(runs);
    *pointer = NULL;
}
