/*
 * Answers of a daemon's model, over OpenAI's routes: the whole conversation goes there with each question, and what the
 * daemon has computed of it already it finds by itself.
 * Owner: the verb `run`. Lifetime: answer_daemon_open to answerer_close.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answerer.h"
#include "context.h"
#include "output.h"
#include "verbs.h"

/* JSON knows no infinity; no logit outweighs this. */
#define FORBIDDING (-3e38)

typedef struct there {
    answerer base;
    client *client;
    json_t *model; /* as the registry describes it */
    char name[REGISTRY_NAME_MAX + 1];
    char *warned; /* the last answer's warnings, told already */
} there;

typedef struct reading { /* an answer as it comes */
    there *t;
    generation *g;
    json_t *warnings; /* borrowed */
    uint32_t n_max;   /* what was asked for; 0: no limit */
    size_t n_answer;
    bool done, failed, begun;
    double first;
} reading;

/* ---- the request ------------------------------------------------------------------------------------------------- */

/* What the API calls an option; without a row: the same with underscores. */
static void field_name(const option_spec *spec, char *out, size_t cap)
{
    static const char *const others[][2] = {{"temp", "temperature"},
                                            {"typical", "typical_p"},
                                            {"dry-sequence-breaker", "dry_sequence_breakers"},
                                            {"ctx", "n_ctx"}};
    const char *name = spec->name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        name = strcmp(spec->name, others[i][0]) == 0 ? others[i][1] : name;
    }
    snprintf(out, cap, "%s", name);
    for (char *c = out; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
}

static json_t *texts_json(const text_list *list)
{
    json_t *made = json_array();
    for (size_t i = 0; i < list->n; i++) {
        json_array_append_new(made, json_text(list->items[i], strlen(list->items[i])));
    }
    return made;
}

static json_t *bias_json(const options *o)
{
    json_t *made = json_object();
    for (size_t i = 0; i < o->sampling.n_logit_bias; i++) {
        char id[16];
        double bias = (double)o->bias[i].bias;
        snprintf(id, sizeof id, "%d", (int)o->bias[i].id);
        json_object_set_new(made, id, json_real(isfinite(bias) ? bias : bias < 0 ? FORBIDDING : -FORBIDDING));
    }
    return made;
}

static json_t *value_json(const options *o, const option_spec *spec)
{
    const void *field = (const char *)o + spec->offset;
    switch (spec->kind) {
    case OPTION_FLOAT:
        return json_number((double)*(const float *)field);
    case OPTION_I32:
        return json_integer(*(const int32_t *)field);
    case OPTION_U32:
        return json_integer(*(const uint32_t *)field);
    case OPTION_U64:
        return json_integer((json_int_t)(*(const uint64_t *)field & INT64_MAX));
    case OPTION_LIST:
        return texts_json(field);
    case OPTION_BIAS:
        return bias_json(o);
    default:
        return NULL;
    }
}

/* What the command line or /set say; everything else the daemon knows of the model. */
static void add_settings(json_t *body, const options *o)
{
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        bool sent = (spec->groups & (GROUP_SAMPLING | GROUP_CONTEXT)) && !context_is_rope(spec) &&
                    options_given(o, spec);
        bool usual = spec->offset == offsetof(options, breakers) &&
                     o->breakers.n == 0; /* an empty list would be none */
        bool new_seed = spec->offset == offsetof(options, sampling.seed) && o->sampling.seed == 0;
        char name[64];
        if (sent && !new_seed && !usual) {
            field_name(spec, name, sizeof name);
            json_object_set_new(body, name, value_json(o, spec));
        }
    }
    if (o->stops.n) {
        json_object_set_new(body, "stop", texts_json(&o->stops));
    }
    if (o->sampling.logprobs) {
        json_object_set_new(body, "logprobs", json_true());
    }
    if (o->sampling.logprobs && o->sampling.n_logprobs) {
        json_object_set_new(body, "top_logprobs", json_integer(o->sampling.n_logprobs));
    }
}

static bool add_grammar(json_t *body, const options *o)
{
    const char *path = o->schema ? o->schema : o->grammar;
    size_t n = 0;
    if (o->schema && o->grammar) {
        print_error("--grammar and --schema: an answer follows one of them, not both");
        return false;
    }
    char *text = path ? read_all(path, &n) : NULL;
    if (path && !text) {
        return false;
    }
    if (text) {
        json_object_set_new(body, o->schema ? "schema" : "grammar", json_text(text, n));
    }
    free(text);
    return true;
}

static json_t *joined(const json_t *messages)
{
    size_t i;
    json_t *message, *all = json_string("");
    json_array_foreach(messages, i, message)
    {
        json_t *longer = json_sprintf("%s%s", json_string_value(all),
                                      json_string_value(json_object_get(message, "content")));
        json_decref(all);
        all = longer;
    }
    return all;
}

/* NULL after telling why not. */
static json_t *request(const there *t, const options *o, const json_t *messages, bool raw, const generation *g)
{
    json_t *body = json_pack("{s:s, s:b, s:{s:b}, s:b}", "model", t->name, "stream", 1, "stream_options",
                             "include_usage", 1, "return_token_ids", 1);
    if (raw) {
        json_object_set_new(body, "prompt", joined(messages));
    } else {
        json_object_set(body, "messages", (json_t *)messages);
        json_object_set_new(body, "reasoning_format", json_string("none"));
    }
    if (g->n_predict >= 0) {
        json_object_set_new(body, "max_tokens", json_integer(g->n_predict));
    } else if (raw) { /* the route's own limit is a low one */
        json_object_set_new(body, "max_tokens", json_integer(INT32_MAX));
    }
    add_settings(body, o);
    if (!add_grammar(body, o)) {
        json_decref(body);
        return NULL;
    }
    return body;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static json_t *logprob_json(const json_t *entry)
{
    const json_t *bytes = json_object_get(entry, "bytes");
    size_t n = json_array_size(bytes);
    char *text = malloc(n + 1);
    for (size_t i = 0; text && i < n; i++) {
        text[i] = (char)json_integer_value(json_array_get(bytes, i));
    }
    json_t *made = json_pack("{s:O, s:o, s:O}", "id", json_object_get(entry, "id"), "text",
                             json_text(text ? text : "", text ? n : 0), "logprob", json_object_get(entry, "logprob"));
    free(text);
    return made;
}

static void take_logprobs(const generation *g, const json_t *list)
{
    size_t i, k;
    json_t *entry, *other;
    json_array_foreach(list, i, entry)
    {
        json_t *made = logprob_json(entry), *top = json_array();
        json_array_foreach(json_object_get(entry, "top_logprobs"), k, other)
        {
            json_array_append_new(top, logprob_json(other));
        }
        json_object_set_new(made, "top", top);
        json_array_append_new(g->logprobs, made);
    }
}

static bool take_text(reading *r, const json_t *text)
{
    generation *g = r->g;
    const char *bytes = json_string_value(text);
    size_t n = json_string_length(text);
    if (!bytes || n == 0) {
        return true;
    }
    double now = now_seconds();
    if (!r->begun) {
        r->begun = true;
        r->first = now;
        g->first_seconds = now - g->started;
    }
    g->decode_seconds = now - r->first;
    if (!generation_add_text(g, bytes, n)) {
        print_error("out of memory");
        r->failed = true;
        return false;
    }
    if (g->show && !g->show(bytes, n)) {
        g->finish = FINISH_OUTPUT;
        r->done = true;
        return false;
    }
    return true;
}

static void take_finish(reading *r, const json_t *choice)
{
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    size_t i;
    json_t *id;
    json_array_foreach(json_object_get(choice, "token_ids"), i, id)
    {
        generation_add_id(r->g, (int32_t)json_integer_value(id));
    }
    r->g->finish = reason && strcmp(reason, "length") == 0 ? FINISH_LENGTH : FINISH_END;
    if (r->g->finish == FINISH_LENGTH && (r->n_max == 0 || r->g->n_ids < r->n_max)) {
        r->g->finish = FINISH_CONTEXT;
    }
}

static void take_usage(reading *r, const json_t *usage)
{
    r->g->n_prompt = (size_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
    r->n_answer = (size_t)json_integer_value(json_object_get(usage, "completion_tokens"));
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    r->g->n_cached = (size_t)json_integer_value(json_object_get(details, "cached_tokens"));
}

/* What is told stands on a line of its own. */
static void end_line(generation *g)
{
    if (g->show && g->n_text > 0 && g->text[g->n_text - 1] != '\n' && generation_add_text(g, "\n", 1)) {
        g->show("\n", 1);
    }
}

/* What is told once, not with each answer of a chat. */
static void tell_warnings(there *t, const json_t *warnings)
{
    size_t i;
    json_t *one;
    char *dumped = json_dumps(warnings, JSON_COMPACT);
    if (dumped && (!t->warned || strcmp(dumped, t->warned) != 0)) {
        json_array_foreach(warnings, i, one)
        {
            print_note("mlxr: %s", json_string_value(one));
        }
    }
    free(t->warned);
    t->warned = dumped;
}

static bool on_event(void *user, const client_event *event)
{
    reading *r = user;
    if (event->n == 6 && memcmp(event->text, "[DONE]", 6) == 0) {
        r->done = true;
        return false;
    }
    const json_t *error = json_object_get(event->json, "error");
    if (error) {
        const char *text = json_string_value(json_object_get(error, "message"));
        end_line(r->g);
        print_error("%s", text ? text : "the daemon ended the answer with an error");
        r->failed = true;
        return false;
    }
    const json_t *choice = json_array_get(json_object_get(event->json, "choices"), 0);
    const json_t *usage = json_object_get(event->json, "usage"), *warnings = json_object_get(event->json, "warnings");
    const json_t *delta = json_object_get(choice, "delta"), *logprobs = json_object_get(choice, "logprobs");
    if (r->g->logprobs && json_is_object(logprobs)) {
        take_logprobs(r->g, json_object_get(logprobs, "content"));
    }
    if (!take_text(r, json_object_get(delta ? delta : choice, delta ? "content" : "text"))) {
        return false;
    }
    if (json_is_string(json_object_get(choice, "finish_reason"))) {
        take_finish(r, choice);
    }
    if (json_is_object(usage)) {
        take_usage(r, usage);
    }
    if (json_array_size(warnings) > 0) {
        tell_warnings(r->t, warnings);
    }
    return true;
}

static int answer(answerer *a, const options *o, const json_t *messages, bool raw, generation *g)
{
    there *t = (there *)a;
    mlxr_error error;
    reading r = {.t = t, .g = g, .n_max = g->n_predict > 0 ? (uint32_t)g->n_predict : 0};
    json_t *body = request(t, o, messages, raw, g);
    if (!body) {
        return EXIT_FAILED;
    }
    if (!generation_add_text(g, "", 0)) {
        json_decref(body);
        print_error("out of memory");
        return EXIT_FAILED;
    }
    g->started = now_seconds();
    mlxr_status status = client_stream(t->client, "POST", raw ? "/v1/completions" : "/v1/chat/completions", body,
                                       on_event, &r, g->interrupted, &error);
    if (status == MLXR_OK && g->interrupted && *g->interrupted) {
        g->finish = FINISH_INTERRUPTED;
        return EXIT_OK;
    }
    if (status != MLXR_OK || !r.done) {
        end_line(g);
    }
    if (status == MLXR_OK && !r.done && !r.failed) {
        print_error("the daemon at %s broke its answer off", client_where(t->client));
    }
    a->n_context = g->n_prompt + r.n_answer;
    if (status != MLXR_OK) {
        return print_failure(&error);
    }
    return r.done ? EXIT_OK : EXIT_FAILED;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static void forget(answerer *a)
{
    a->n_context = 0;
}

/* The next request has it; the daemon says then whether it can be had. */
static bool change(answerer *a, const options *o, unsigned group)
{
    const there *t = (const there *)a;
    size_t n = 0;
    if (group == GROUP_DRAFT && o->draft) {
        print_error("the daemon at %s drafts as it was started; mlxr run --draft has a model of its own",
                    client_where(t->client));
        return false;
    }
    const char *path = o->schema ? o->schema : o->grammar;
    if (group == GROUP_GRAMMAR && path) {
        char *text = read_all(path, &n);
        free(text);
        return text != NULL;
    }
    return true;
}

/* What the daemon's options made of the model; nothing where it does not say. */
static void show_loaded(const there *t)
{
    mlxr_error error;
    json_t *told = NULL, *one;
    size_t i;
    if (client_ask(t->client, "GET", "/ui-api/loaded", NULL, &told, &error) != MLXR_OK) {
        return;
    }
    json_array_foreach(json_object_get(told, "loaded"), i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *how = json_string_value(json_object_get(one, "rope_scaling"));
        if (name && strcmp(name, t->name) == 0) {
            printf(" of %lld", (long long)json_integer_value(json_object_get(one, "n_ctx")));
            if (how && *how && strcmp(how, "none") != 0) {
                printf(", RoPE scaling %s by %g", how, json_number_value(json_object_get(one, "rope_factor")));
            }
        }
    }
    json_decref(told);
}

static void show(const answerer *a)
{
    const there *t = (const there *)a;
    const char *family = json_string_value(json_object_get(t->model, "family"));
    const char *type = json_string_value(json_object_get(t->model, "quantization"));
    printf("  model     %s, of the daemon at %s\n", t->name, client_where(t->client));
    printf("  family    %s, %s parameters, %s\n", family ? family : "?",
           human_count((uint64_t)json_integer_value(json_object_get(t->model, "n_params"))), type ? type : "?");
    printf("  context   %zu tokens used", a->n_context);
    show_loaded(t);
    printf("; trained for %lld\n", (long long)json_integer_value(json_object_get(t->model, "n_ctx_train")));
}

static json_t *drafts(const answerer *a, const options *o)
{
    (void)a;
    (void)o;
    return NULL;
}

static void note_drafts(const answerer *a, const options *o)
{
    (void)a;
    (void)o;
}

static void close_there(answerer *a)
{
    there *t = (there *)a;
    json_decref(t->model);
    free(t->warned);
    free(t);
}

/* What the model was made with, as a model in this process has it. */
static int apply_entry(const there *t, options *o)
{
    const char *system = json_string_value(json_object_get(t->model, "system"));
    size_t i;
    json_t *one;
    if (!o->system && !o->raw) {
        o->system = system;
    }
    json_array_foreach(json_object_get(t->model, "parameters"), i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *value = json_string_value(json_object_get(one, "value"));
        if (name && value && !session_apply_parameter(o, name, value)) {
            return EXIT_FAILED;
        }
    }
    return EXIT_OK;
}

int answer_daemon_open(answerer **out, options *o, client *c, const char *model)
{
    static const answerer_ops ops = {answer, forget, change, show, drafts, note_drafts, close_there};
    mlxr_error error;
    json_t *loaded = NULL;
    there *t = calloc(1, sizeof *t);
    if (!t) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    t->base.ops = &ops;
    t->client = c;
    mlxr_status status = client_ask(c, "POST", "/ui-api/models/load",
                                    json_pack("{s:o}", "model", json_text(model, strlen(model))), &loaded, &error);
    if (status != MLXR_OK) {
        close_there(&t->base);
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    t->model = json_incref(json_object_get(loaded, "model"));
    const char *name = json_string_value(json_object_get(t->model, "name"));
    snprintf(t->name, sizeof t->name, "%s", name ? name : model);
    t->base.model = t->name;
    t->base.load_ms = json_number_value(json_object_get(loaded, "load_ms"));
    t->base.has_template = json_is_true(json_object_get(t->model, "has_template")) ||
                           json_is_string(json_object_get(t->model, "template"));
    t->base.batch_invariant = json_is_true(json_object_get(loaded, "batch_invariant"));
    t->base.activations = (uint32_t)json_integer_value(json_object_get(loaded, "activations"));
    json_decref(loaded);
    int code = apply_entry(t, o);
    if (code != EXIT_OK) {
        close_there(&t->base);
        return code;
    }
    *out = &t->base;
    return EXIT_OK;
}

const char *answer_daemon_cannot(const options *o)
{
    const unsigned own = GROUP_ENGINE | GROUP_DRAFT | GROUP_CACHE | GROUP_COMPUTE | GROUP_LORA;
    for (size_t i = 0; i < n_option_table; i++) {
        if (((option_table[i].groups & own) || context_is_rope(&option_table[i])) &&
            options_given(o, &option_table[i])) {
            return option_table[i].name;
        }
    }
    return o->n_predict == 0 ? "tokens 0" : o->raw && o->sampling.logprobs ? "raw with --logprobs" : NULL;
}
