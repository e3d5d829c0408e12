/*
 * A small JSON Schema: types, required and known members, ranges, lengths, lists, words, alternatives.
 * Owner: the document is its holder's. Lifetime: the call.
 */
#include "server/ui_schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/words.h"
#include "server/openai_parts.h"
#include <server/ui_api.inc> /* made from ui_api.json */

#define DEPTH_MAX 32u
#define REF "#/components/schemas/"

const char *const ui_not_parameters[N_NOT_PARAMETERS] = {"model", "messages", "stream", "stream_options", "n", "store"};

typedef struct checking {
    const json_t *document;
    char *field;
    size_t cap;
    mlxr_error *error;
    unsigned depth;
} checking;

json_t *ui_schema_open(void)
{
    return json_loads(ui_api, JSON_REJECT_DUPLICATES, NULL);
}

const json_t *ui_schema_route(const json_t *document, const char *method, const char *pattern)
{
    char key[200];
    snprintf(key, sizeof key, "%s %s", method, pattern);
    return json_object_get(json_object_get(document, "routes"), key);
}

const json_t *ui_schema_named(const json_t *document, const char *name)
{
    return json_object_get(json_object_get(document, "schemas"), name);
}

static bool wrong(const checking *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(const checking *c, const char *format, ...)
{
    char what[200];
    va_list values;
    va_start(values, format);
    vsnprintf(what, sizeof what, format, values);
    va_end(values);
    text_trim_cut(what);
    snprintf(c->error->text, sizeof c->error->text, "%s %s", *c->field ? c->field : "the body", what);
    c->error->status = MLXR_ARG;
    return false;
}

static const json_t *resolved(const checking *c, const json_t *schema)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    return ref ? ui_schema_named(c->document, ref + strlen(REF)) : schema;
}

/* ---- one value --------------------------------------------------------------------------------------------------- */

static bool is_type(const json_t *value, const char *type)
{
    return (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "integer") == 0 && json_is_integer(value)) ||
           (strcmp(type, "number") == 0 && json_is_number(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "null") == 0 && json_is_null(value)) || (strcmp(type, "array") == 0 && json_is_array(value)) ||
           (strcmp(type, "object") == 0 && json_is_object(value));
}

static bool check_type(const checking *c, const json_t *type, const json_t *value)
{
    const char *one = json_string_value(type);
    if (one) {
        return is_type(value, one) || wrong(c, "must be of type %s", one);
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        if (is_type(value, json_string_value(json_array_get(type, i)))) {
            return true;
        }
    }
    const char *first = json_string_value(json_array_get(type, 0)),
               *second = json_string_value(json_array_get(type, 1));
    return json_array_size(type) == 0 || wrong(c, "must be of type %s or %s", first, second ? second : "?");
}

static bool check_words(const checking *c, const json_t *schema, const json_t *value)
{
    const json_t *list = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    if (only && !json_equal((json_t *)only, (json_t *)value)) {
        char *text = json_dumps(only, JSON_ENCODE_ANY);
        wrong(c, "must be %s", text ? text : "something else");
        free(text);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), (json_t *)value)) {
            return true;
        }
    }
    if (!list) {
        return true;
    }
    char words[160] = "";
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t n = strlen(words);
        char *text = json_dumps(json_array_get(list, i), JSON_ENCODE_ANY); /* texts in quotes, numbers without */
        snprintf(words + n, sizeof words - n, "%s%s", i ? ", " : "", text ? text : "?");
        free(text);
    }
    return wrong(c, "must be one of %s", words);
}

static size_t count_characters(const char *text, size_t n)
{
    size_t n_characters = 0;
    for (size_t i = 0; i < n; i++) {
        n_characters += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return n_characters;
}

static bool check_bounds(const checking *c, const json_t *schema, const json_t *value)
{
    const json_t *least = json_object_get(schema, "minimum"), *most = json_object_get(schema, "maximum");
    if (json_is_number(value) && least && json_number_value(value) < json_number_value(least)) {
        return wrong(c, "must be at least %.17g", json_number_value(least));
    }
    if (json_is_number(value) && most && json_number_value(value) > json_number_value(most)) {
        return wrong(c, "must be at most %.17g", json_number_value(most));
    }
    if (!json_is_string(value)) {
        return true;
    }
    const json_t *shortest = json_object_get(schema, "minLength"), *longest = json_object_get(schema, "maxLength");
    size_t n = count_characters(json_string_value(value), json_string_length(value));
    if (shortest && n < (size_t)json_integer_value(shortest)) {
        return wrong(c, "must not be empty");
    }
    return !longest || n <= (size_t)json_integer_value(longest) ||
           wrong(c, "has %zu characters; at most %lld are taken", n, (long long)json_integer_value(longest));
}

/* ---- what holds others ------------------------------------------------------------------------------------------- */

static bool check(checking *c, const json_t *schema, const json_t *value);

/* Checks what is at `name` (NULL: at an index) below the field. */
static bool check_below(checking *c, const json_t *schema, const json_t *value, const char *name, size_t index)
{
    size_t n = strlen(c->field);
    if (name) {
        snprintf(c->field + n, c->cap - n, "%s%.60s", n ? "." : "", name);
        text_trim_cut(c->field);
    } else {
        snprintf(c->field + n, c->cap - n, "[%zu]", index);
    }
    bool ok = check(c, schema, value);
    if (ok) {
        c->field[n] = '\0';
    }
    return ok;
}

static bool check_list(checking *c, const json_t *schema, const json_t *value)
{
    const json_t *items = json_object_get(schema, "items"), *most = json_object_get(schema, "maxItems");
    size_t n = json_array_size(value);
    if (most && n > (size_t)json_integer_value(most)) {
        return wrong(c, "has %zu items; at most %lld are taken", n, (long long)json_integer_value(most));
    }
    for (size_t i = 0; items && i < n; i++) {
        if (!check_below(c, items, json_array_get(value, i), NULL, i)) {
            return false;
        }
    }
    return true;
}

static bool check_object(checking *c, const json_t *schema, const json_t *value)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *more = json_object_get(schema, "additionalProperties"),
                 *most = json_object_get(schema, "maxProperties");
    const char *key;
    json_t *member;
    if (most && json_object_size(value) > (size_t)json_integer_value(most)) {
        return wrong(c, "has %zu members; at most %lld are taken", json_object_size(value),
                     (long long)json_integer_value(most));
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!json_object_get(value, name)) {
            return wrong(c, "needs \"%s\"", name);
        }
    }
    json_object_foreach((json_t *)value, key, member)
    {
        const json_t *known = json_object_get(properties, key);
        if (!known && json_is_false(more)) {
            return wrong(c, "has \"%.60s\", which is not known here", key);
        }
        known = known ? known : json_is_object(more) ? more : NULL;
        if (known && !check_below(c, known, member, key, 0)) {
            return false;
        }
    }
    return true;
}

static bool check_any(checking *c, const json_t *list, const json_t *value)
{
    size_t n = strlen(c->field);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (check(c, json_array_get(list, i), value)) {
            return true;
        }
        c->field[n] = '\0';
    }
    return wrong(c, "has none of the forms that it may have");
}

static bool check(checking *c, const json_t *schema, const json_t *value)
{
    schema = resolved(c, schema);
    if (++c->depth > DEPTH_MAX) {
        return wrong(c, "is nested too deeply");
    }
    const json_t *any = json_object_get(schema, "anyOf");
    bool ok = (!any || check_any(c, any, value)) && check_type(c, json_object_get(schema, "type"), value) &&
              check_words(c, schema, value) && check_bounds(c, schema, value) &&
              (!json_is_array(value) || check_list(c, schema, value)) &&
              (!json_is_object(value) || check_object(c, schema, value));
    c->depth--;
    return ok;
}

bool ui_schema_check(const json_t *document, const json_t *schema, const json_t *value, char *field, size_t cap,
                     mlxr_error *error)
{
    checking c = {.document = document, .field = field, .cap = cap, .error = error};
    field[0] = '\0';
    return check(&c, schema, value);
}

/* ---- /openapi.json ----------------------------------------------------------------------------------------------- */

static json_t *reference(const char *name)
{
    return json_pack("{s:s+}", "$ref", REF, name);
}

static json_t *content_of(const json_t *said)
{
    const char *answer = json_string_value(json_object_get(said, "answer"));
    const char *events = json_string_value(json_object_get(said, "stream"));
    const json_t *others = json_object_get(said, "answers");
    json_t *made = json_object();
    if (events) {
        json_object_set_new(made, "text/event-stream",
                            json_pack("{s:{s:s, s:s}, s:o}", "schema", "type", "string", "description",
                                      "Events; the data of each is one of x-event.", "x-event", reference(events)));
    }
    if (!answer) {
        return made;
    }
    json_t *schema = reference(answer);
    if (json_array_size(others) > 0) {
        json_t *list = json_pack("[o]", schema);
        for (size_t i = 0; i < json_array_size(others); i++) {
            json_array_append_new(list, reference(json_string_value(json_array_get(others, i))));
        }
        schema = json_pack("{s:o}", "anyOf", list);
    }
    json_object_set_new(made, "application/json", json_pack("{s:o}", "schema", schema));
    return made;
}

static void add_query(const json_t *said, json_t *parameters)
{
    const char *name;
    json_t *schema;
    json_object_foreach(json_object_get(said, "query"), name, schema)
    {
        json_t *copy = json_copy(schema);
        bool required = json_is_true(json_object_get(schema, "x-required"));
        json_object_del(copy, "x-required");
        json_array_append_new(parameters, json_pack("{s:s, s:s, s:b, s:o}", "name", name, "in", "query", "required",
                                                    (int)required, "schema", copy));
    }
}

void ui_schema_describe(const json_t *document, const route *row, json_t *operation)
{
    const json_t *said = ui_schema_route(document, row->method, row->pattern);
    if (!said) {
        return;
    }
    const char *body = json_string_value(json_object_get(said, "body"));
    json_t *answers = json_object_get(operation, "responses"), *status = json_object_get(said, "status");
    json_t *parameters = json_object_get(operation, "parameters");
    json_object_set(operation, "summary", json_object_get(said, "summary"));
    json_object_del(answers, "200");
    json_object_set_new(answers, status ? "201" : "200",
                        json_pack("{s:s, s:o}", "description", "The answer.", "content", content_of(said)));
    for (size_t i = 0; i < json_array_size(parameters); i++) {
        json_object_set_new(json_array_get(parameters, i), "schema", reference("UiId"));
    }
    add_query(said, parameters);
    if (body) {
        json_object_set_new(
            operation, "requestBody",
            json_pack("{s:b, s:{s:{s:o}}}", "required", 1, "content", "application/json", "schema", reference(body)));
    }
}

void ui_schema_components(const json_t *document, json_t *schemas)
{
    json_object_update(schemas, json_object_get(document, "schemas"));
    json_t *chat = openai_body_schema("/v1/chat/completions"), *parameters = json_object_get(schemas, "UiParameters");
    json_t *own = json_deep_copy(parameters);
    for (size_t i = 0; i < N_NOT_PARAMETERS; i++) {
        json_object_del(json_object_get(chat, "properties"), ui_not_parameters[i]);
    }
    json_object_set(own, "properties", json_object_get(chat, "properties"));
    json_object_set_new(own, "additionalProperties", json_false());
    json_object_set_new(schemas, "UiParameters", own);
    json_decref(chat);
}
