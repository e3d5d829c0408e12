/*
 * Chat templates: compiled once, rendered with the members of a JSON object as variables.
 * Owner: the model. Lifetime: chat_template_open to chat_template_close. Immutable once open; any thread.
 */
#include "text/chat_template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/jinja_parse.h"

#define STEPS_MAX 2000000
#define OUTPUT_BYTES_MAX ((size_t)16 << 20)
#define MEMORY_BYTES_MAX ((size_t)256 << 20)
#define JSON_DEPTH_MAX 200

struct chat_template {
    jprogram *program;
};

mlxr_status chat_template_open(chat_template **out, const char *source, size_t n, mlxr_error *error)
{
    chat_template *t = calloc(1, sizeof *t);
    if (!t) {
        return error_nomem(error, "a chat template", sizeof *t);
    }
    mlxr_status status = jcompile(&t->program, source, n, error);
    if (status != MLXR_OK) {
        free(t);
        return status;
    }
    *out = t;
    return MLXR_OK;
}

void chat_template_close(chat_template **t)
{
    if (*t) {
        jprogram_close(&(*t)->program);
        free(*t);
        *t = NULL;
    }
}

/* ---- what transformers does before it renders -------------------------------------------------------------------- */

/* A copy of a message as templates expect it, or NULL without memory. Members keep their order. */
static json_t *complete_message(const json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *reasoning = NULL, *copy = json_object();
    bool ok = copy != NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !reasoning; i++) {
        json_t *value = json_object_get(message, names[i]);
        reasoning = json_is_null(value) ? NULL : value;
    }
    if (ok && reasoning) {
        ok = json_object_set(copy, "thinking", reasoning) == 0;
    }
    void *it = json_object_iter((json_t *)message);
    for (; it && ok; it = json_object_iter_next((json_t *)message, it)) {
        json_t *value = json_object_iter_value(it);
        ok = json_is_null(value) ||
             json_object_setn_nocheck(copy, json_object_iter_key(it), json_object_iter_key_len(it), value) == 0;
    }
    if (ok && reasoning) {
        ok = json_object_set(copy, "reasoning_content", reasoning) == 0;
    }
    if (!ok) {
        json_decref(copy);
    }
    return ok ? copy : NULL;
}

mlxr_status chat_variables_complete(json_t *variables, mlxr_error *error)
{
    static const char *const null_if_missing[] = {"tools", "documents"};
    for (size_t i = 0; i < sizeof null_if_missing / sizeof *null_if_missing; i++) {
        const char *name = null_if_missing[i];
        if (!json_object_get(variables, name) && json_object_set_new(variables, name, json_null())) {
            return error_nomem(error, name, 1);
        }
    }
    const json_t *messages = json_object_get(variables, "messages");
    json_t *copies = json_array();
    size_t n = json_array_size(messages);
    bool ok = copies != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        const json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) {
            json_decref(copies);
            return error_set(error, MLXR_ARG, "message %zu of %zu must be a JSON object with role and content", i + 1,
                             n);
        }
        ok = json_array_append_new(copies, complete_message(message)) == 0;
    }
    if (!ok || json_object_set_new(variables, "messages", copies)) {
        if (!ok) {
            json_decref(copies);
        }
        return error_nomem(error, "the messages of a chat", n);
    }
    return MLXR_OK;
}

/* ---- JSON to values ---------------------------------------------------------------------------------------------- */

static bool from_json(jrun *r, const json_t *json, unsigned depth, jvalue *out);

/* Strings stay where they are: the caller keeps the JSON while we render. */
static bool text_from_json(jrun *r, const char *bytes, size_t n, jvalue *out)
{
    const jtext *t = jtext_view(r, bytes, n);
    *out = jvalue_text(t);
    return t != NULL;
}

static bool list_from_json(jrun *r, const json_t *json, unsigned depth, jvalue *out)
{
    size_t n = json_array_size(json);
    jlist *l = jlist_new(r);
    jvalue *items = l ? jrun_array(r, n, sizeof *items) : NULL;
    if (!items) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!from_json(r, json_array_get(json, i), depth + 1, &items[i])) {
            return false;
        }
    }
    *l = (jlist){.items = items, .n = n};
    *out = jvalue_list(l);
    return true;
}

static bool dict_from_json(jrun *r, const json_t *json, unsigned depth, jvalue *out)
{
    jdict *d = jdict_new(r);
    void *it = json_object_iter((json_t *)json);
    bool ok = d != NULL;
    for (; it && ok; it = json_object_iter_next((json_t *)json, it)) {
        jvalue key, value;
        ok = text_from_json(r, json_object_iter_key(it), json_object_iter_key_len(it), &key) &&
             from_json(r, json_object_iter_value(it), depth + 1, &value) && jdict_set(r, d, key, value);
    }
    *out = jvalue_dict(d);
    return ok;
}

static bool from_json(jrun *r, const json_t *json, unsigned depth, jvalue *out)
{
    if (depth > JSON_DEPTH_MAX) {
        return jrun_limit(r, "the variables are nested more than %d levels deep", JSON_DEPTH_MAX);
    }
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return dict_from_json(r, json, depth, out);
    case JSON_ARRAY:
        return list_from_json(r, json, depth, out);
    case JSON_STRING:
        return text_from_json(r, json_string_value(json), json_string_length(json), out);
    case JSON_INTEGER:
        *out = jvalue_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = jvalue_real(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jvalue_bool(json_is_true(json));
        return true;
    default:
        *out = JVALUE_NONE;
        return true;
    }
}

/* The variables the template names, and Jinja's own functions where no variable hides them. */
static bool bind_globals(jrun *r, const jprogram *p, const json_t *variables)
{
    r->globals = jrun_array(r, p->n_globals, sizeof *r->globals);
    for (uint32_t i = 0; i < p->n_globals && r->globals; i++) {
        const jtext *name = p->globals[i];
        const json_t *json = json_object_getn(variables, name->bytes, name->n);
        const jfunction *function = json ? NULL : jglobal_find(name);
        if (json && !from_json(r, json, 1, &r->globals[i])) {
            return false;
        }
        if (function) {
            r->globals[i] = (jvalue){.kind = JFUNCTION, .as.function = function};
        }
    }
    return r->globals != NULL;
}

mlxr_status chat_template_render(const chat_template *t, const json_t *variables, const chat_limits *limits,
                                 buffer *out, mlxr_error *error)
{
    static const chat_limits defaults;
    const chat_limits *l = limits ? limits : &defaults;
    if (variables && !json_is_object(variables)) {
        return error_set(error, MLXR_ARG, "the variables of a chat template must be a JSON object");
    }
    jrun r = {.memory_max = l->memory_bytes_max ? l->memory_bytes_max : MEMORY_BYTES_MAX,
              .steps_max = l->steps_max ? l->steps_max : STEPS_MAX,
              .text = buffer_make(l->output_bytes_max ? l->output_bytes_max : OUTPUT_BYTES_MAX),
              .now = l->now ? l->now : (int64_t)time(NULL),
              .error = error,
              .line = 1};
    bool ok = bind_globals(&r, t->program, variables) && jprogram_run(&r, t->program);
    if (ok && (out->failed || r.text.n > out->limit - out->n)) {
        ok = jrun_limit(&r, "the text of %zu bytes does not fit into what is left of the buffer", r.text.n);
    }
    if (ok) {
        bool failed_before = out->failed;
        ok = buffer_append(out, r.text.data, r.text.n);
        if (!ok) {
            jrun_no_memory(&r, r.text.n);
        }
        out->failed = failed_before;
    }
    mlxr_status status = ok ? MLXR_OK : r.status;
    buffer_close(&r.text);
    region_close(&r.memory);
    return status;
}
