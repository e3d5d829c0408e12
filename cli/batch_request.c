/*
 * Lines to requests: form, id, messages.
 * Owner: whoever read it. Lifetime: batch_request_read to batch_request_close.
 */
#include "batch_request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "batch_reader.h"

void batch_request_close(batch_request *r)
{
    request_fields_close(&r->f);
    json_decref(r->root);
    json_decref(r->messages);
    free(r->key);
    *r = (batch_request){0};
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

/* The text of a message: a text, a list of text parts, or nothing. NULL after a failure. */
static json_t *content_text(batch_request *r, const json_t *content, size_t index)
{
    json_t *text = json_string("");
    if (!content || json_is_null(content)) {
        return text;
    }
    if (json_is_string(content)) {
        json_decref(text);
        return json_incref((json_t *)content);
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *more = json_string_value(json_object_get(part, "text"));
        if (!type || strcmp(type, "text") != 0 || !more) {
            request_fields_bad(&r->f, "messages", "part %zu of message %zu is '%.40s'; only text can be read", i + 1,
                               index + 1, type ? type : "of no type");
            json_decref(text);
            return NULL;
        }
        json_t *joined = json_sprintf("%s%s", json_string_value(text), more);
        json_decref(text);
        text = joined;
    }
    if (!json_is_array(content)) {
        request_fields_bad(&r->f, "messages", "the content of message %zu must be a text or a list of parts",
                           index + 1);
        json_decref(text);
        return NULL;
    }
    return text;
}

/* A copy whose contents are texts; the command line's system message comes first where there is none. */
static bool copy_messages(batch_request *r, const json_t *from, const char *system)
{
    size_t n = json_array_size(from);
    if (n == 0) {
        return request_fields_bad(&r->f, "messages", "messages must be a list of {\"role\", \"content\"}");
    }
    r->messages = json_array();
    const char *first = json_string_value(json_object_get(json_array_get(from, 0), "role"));
    if (system && !(first && strcmp(first, "system") == 0)) {
        json_array_append_new(r->messages, json_pack("{s:s, s:s}", "role", "system", "content", system));
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(from, i);
        if (!json_is_string(json_object_get(one, "role"))) {
            return request_fields_bad(&r->f, "messages", "message %zu has no role", i + 1);
        }
        json_t *text = content_text(r, json_object_get(one, "content"), i), *copy = json_copy((json_t *)one);
        if (!text || !copy || json_object_set_new(copy, "content", text) != 0 ||
            json_array_append_new(r->messages, copy) != 0) {
            return request_fields_bad(&r->f, NULL, "out of memory");
        }
    }
    return true;
}

/* What is asked about. Called when all other fields have been read. */
static bool read_prompt(batch_request *r, const json_t *object, const options *defaults)
{
    const json_t *prompt = json_object_get(object, "prompt"), *messages = json_object_get(object, "messages");
    const char *wanted = r->form == BATCH_CHAT ? "messages" : r->form == BATCH_COMPLETION ? "prompt" : NULL;
    const char *found = messages && prompt ? "both" : messages ? "messages" : prompt ? "prompt" : "none";
    if (wanted && strcmp(found, wanted) != 0) {
        return request_fields_bad(&r->f, wanted, "%s are asked for as \"%s\", not %s",
                                  r->form == BATCH_CHAT ? "chat completions" : "completions", wanted, found);
    }
    if (!wanted && (!messages == !prompt)) {
        return request_fields_bad(&r->f, "prompt", "either \"prompt\" or \"messages\" is needed, not %s", found);
    }
    if (messages && json_is_true(json_object_get(object, "raw"))) {
        return request_fields_bad(&r->f, "raw", "raw is for a prompt; messages need the chat template");
    }
    if (messages) {
        r->raw = false;
        return json_is_array(messages) ? copy_messages(r, messages, defaults->system)
                                       : request_fields_bad(&r->f, "messages", "messages must be a list");
    }
    r->prompt = json_string_value(prompt);
    if (!r->prompt || !*r->prompt) {
        return request_fields_bad(&r->f, "prompt", r->prompt ? "the prompt is empty" : "the prompt must be a text");
    }
    if (r->raw || r->form == BATCH_COMPLETION) {
        r->raw = true;
        return true;
    }
    json_t *one = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
    bool ok = copy_messages(r, one, defaults->system);
    json_decref(one);
    return ok;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static bool set_key(batch_request *r)
{
    char text[32];
    snprintf(text, sizeof text, "line %" PRIu64, r->line);
    r->key = r->id ? json_dumps(r->id, JSON_ENCODE_ANY | JSON_COMPACT) : strdup(text);
    return r->key != NULL;
}

/* All lines are answered by one model: another one's name is not an error, for such files are written for many, but it
 * is said. */
static bool read_model(request_fields *f, const request_field *row, void *target, const json_t *value)
{
    const char *name = json_string_value(value), *answers = *(const char **)target;
    if (!name) {
        return request_fields_want(f, row, "a text");
    }
    return strcmp(name, answers) == 0 ||
           request_fields_warn(f, "the line asks for the model \"%.80s\"; \"%.80s\" has answered", name, answers);
}

static bool read_stream(request_fields *f, const request_field *row, void *target, const json_t *value)
{
    (void)target;
    return json_is_false(value) || request_fields_want(f, row, "false: results of a batch come whole");
}

#define LINE_FIELDS                                                                                                    \
    {"prompt", field_skip, 0, 0, 0, NULL}, {"messages", field_skip, 0, 0, 0, NULL},                                    \
        {"raw", field_bool, offsetof(batch_request, raw), 0, 0, NULL},                                                 \
        {"model", read_model, offsetof(batch_request, model), 0, 0, NULL},                                             \
    {                                                                                                                  \
        "stream", read_stream, 0, 0, 0, NULL                                                                           \
    }

static const request_field body_fields[] = {LINE_FIELDS};
static const request_field own_fields[] = {
    {"id", field_skip, 0, 0, 0, NULL}, {"custom_id", field_skip, 0, 0, 0, NULL}, LINE_FIELDS};

static bool read_fields(batch_request *r, const json_t *object, const request_field *rows, size_t n)
{
    const field_table tables[] = {{request_fields_common, n_request_fields_common, &r->f}, {rows, n, r}};
    return request_fields_read(&r->f, object, tables, 2);
}

static bool read_form(batch_request *r, const json_t **body)
{
    const json_t *root = r->root, *inner = json_object_get(root, "body");
    const char *key, *url = json_string_value(json_object_get(root, "url"));
    const char *method = json_string_value(json_object_get(root, "method"));
    json_t *ignored;
    if (!inner && !json_object_get(root, "url")) {
        *body = root;
        return read_fields(r, root, own_fields, sizeof own_fields / sizeof *own_fields);
    }
    *body = inner;
    r->form = BATCH_CHAT; /* errors have its shape, too */
    if (!json_is_object(inner)) {
        return request_fields_bad(&r->f, "body",
                                  "a line with \"url\" needs a \"body\" that is an object, and the other way round");
    }
    json_object_foreach((json_t *)root, key, ignored)
    {
        if (strcmp(key, "custom_id") != 0 && strcmp(key, "id") != 0 && strcmp(key, "method") != 0 &&
            strcmp(key, "url") != 0 && strcmp(key, "body") != 0) {
            return request_fields_bad(&r->f, key, "unknown field \"%.60s\" beside \"body\"", key);
        }
    }
    if (method && strcmp(method, "POST") != 0) {
        return request_fields_bad(&r->f, "method", "method %.20s: only POST makes sense", method);
    }
    if (url && strcmp(url, "/v1/chat/completions") == 0) {
        return read_fields(r, inner, body_fields, sizeof body_fields / sizeof *body_fields);
    }
    if (!url || strcmp(url, "/v1/completions") != 0) {
        return request_fields_bad(&r->f, "url", "url %.60s: there is /v1/chat/completions and /v1/completions",
                                  url ? url : "is missing");
    }
    r->form = BATCH_COMPLETION;
    return read_fields(r, inner, body_fields, sizeof body_fields / sizeof *body_fields);
}

static bool read_line(batch_request *r, const options *defaults)
{
    const json_t *body = NULL;
    json_t *id = json_object_get(r->root, "custom_id");
    id = id ? id : json_object_get(r->root, "id");
    r->id = json_is_string(id) || json_is_integer(id) ? id : NULL;
    if (id && !r->id && !json_is_null(id)) {
        return request_fields_bad(&r->f, "id", "an id is a text or a whole number");
    }
    if (json_object_get(r->root, "custom_id") && json_object_get(r->root, "id")) {
        return request_fields_bad(&r->f, "id", "\"id\" and \"custom_id\" are the same thing: give one");
    }
    return read_form(r, &body) && read_prompt(r, body, defaults);
}

static void set_defaults(batch_request *r, const options *o, uint64_t line)
{
    *r = (batch_request){.line = line, .raw = o->raw, .model = o->model};
    request_fields_open(&r->f, &o->sampling);
    snprintf(r->f.where, sizeof r->f.where, "line %" PRIu64 ": ", line);
    r->f.stops = o->stops;
    r->f.max_tokens = o->n_predict > 0 ? (uint32_t)o->n_predict : 0;
}

bool batch_request_read(batch_request *r, const options *defaults, uint64_t line, const char *text, size_t n)
{
    json_error_t where;
    set_defaults(r, defaults, line);
    r->root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    r->hash = XXH3_64bits(text, n);
    if (!r->root) {
        request_fields_bad(&r->f, NULL, "no JSON at column %d: %.300s", where.column, where.text);
    } else if (!json_is_object(r->root)) {
        request_fields_bad(&r->f, NULL, "a request is an object");
    } else {
        read_line(r, defaults);
        char *canonical = json_dumps(r->root, JSON_COMPACT | JSON_SORT_KEYS);
        r->hash = canonical ? XXH3_64bits(canonical, strlen(canonical)) : 0;
        bool ok = canonical != NULL;
        free(canonical);
        if (!ok) {
            return false;
        }
    }
    return set_key(r);
}

bool batch_request_too_long(batch_request *r, uint64_t line)
{
    *r = (batch_request){.line = line};
    snprintf(r->f.where, sizeof r->f.where, "line %" PRIu64 ": ", line);
    request_fields_bad(&r->f, NULL, "more than %zu bytes", BATCH_LINE_MAX);
    return set_key(r);
}
