/*
 * Fields of requests: readers of values, and the table that all dialects share.
 * Owner: the request. Lifetime: the call.
 */
#include "server/request_fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

/* Is there memory to parse it with? Where jansson's buffer cannot grow to a token's length, jansson 2.14 reads and
 * writes behind its end. That buffer doubles, and a copy comes beside it: at most three times the body, if it is one
 * token. */
static bool has_room(size_t n)
{
    if (n > SIZE_MAX / 4) {
        return false;
    }
    void *room = mmap(NULL, 4 * n + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return room != MAP_FAILED && munmap(room, 4 * n + 1) == 0;
}

json_t *request_body_read(const char *body, size_t n, mlxr_error *error)
{
    json_error_t where = {.text = ""}; /* where memory ends, jansson says nothing at all */
    bool room = has_room(n);
    json_t *made = room ? json_loadb(body, n, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (json_is_object(made)) {
        return made;
    }
    bool no_memory = !made && !where.text[0];
    *error = (mlxr_error){.status = no_memory ? MLXR_NOMEM : MLXR_ARG};
    if (made || no_memory) {
        snprintf(error->text, sizeof error->text, no_memory ? "out of memory" : "the body must be a JSON object");
    } else {
        snprintf(error->text, sizeof error->text, "the body is no JSON: line %d, column %d: %s", where.line,
                 where.column, where.text);
    }
    text_trim_cut(error->text);
    json_decref(made);
    return NULL;
}

void request_fields_open(request_fields *r, const mlxr_sampling *sampling)
{
    *r = (request_fields){.n_choices = 1, .sampling = sampling ? *sampling : mlxr_sampling_default()};
}

void request_fields_close(request_fields *r)
{
    json_decref(r->warnings);
    free(r->bias);
    free(r->breakers.items);
    if (r->own_stops) {
        free(r->stops.items);
    }
    free(r->grammar);
    *r = (request_fields){0};
}

static void fail(request_fields *r, mlxr_status status, const char *field, const char *format, va_list args)
{
    if (!r->bad) {
        int n = snprintf(r->error.text, sizeof r->error.text, "%s", r->where);
        vsnprintf(r->error.text + n, sizeof r->error.text - (size_t)n, format, args);
        text_trim_cut(r->error.text);
        r->error.status = status;
        r->field = field;
        r->bad = true;
    }
}

bool request_fields_bad(request_fields *r, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(r, MLXR_ARG, field, format, args);
    va_end(args);
    return false;
}

bool request_fields_fail(request_fields *r, mlxr_status status, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(r, status, field, format, args);
    va_end(args);
    return false;
}

bool request_fields_no_memory(request_fields *r)
{
    return request_fields_fail(r, MLXR_NOMEM, NULL, "out of memory");
}

bool request_fields_warn(request_fields *r, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_trim_cut(text);
    r->warnings = r->warnings ? r->warnings : json_array();
    return json_array_append_new(r->warnings, json_string(text)) == 0 || request_fields_no_memory(r);
}

bool request_fields_want(request_fields *r, const request_field *f, const char *what)
{
    return request_fields_bad(r, f->name, "%s must be %s", f->name, what);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool out_of_range(request_fields *r, const request_field *f, const char *what, const json_t *value)
{
    double number = json_number_value(value);
    if (json_is_number(value) && !(number >= f->min && number <= f->max)) {
        return request_fields_bad(r, f->name, "%s %.15g: it must be from %.15g to %.15g", f->name, number, f->min,
                                  f->max);
    }
    return request_fields_want(r, f, what);
}

static bool has_range(const request_field *f)
{
    return f->min != 0 || f->max != 0;
}

bool field_float(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    double number = json_number_value(value);
    if (has_range(f) && json_is_number(value) && !(number >= f->min && number <= f->max)) {
        return out_of_range(r, f, "a number", value);
    }
    if (!json_is_number(value) || !isfinite((float)number)) {
        return request_fields_want(r, f, "a number");
    }
    *(float *)target = (float)number;
    return true;
}

bool request_field_whole(const json_t *value, double min, double max, json_int_t *out)
{
    *out = json_integer_value(value);
    if (json_is_real(value)) { /* 64.0 is meant as 64 */
        double real = json_real_value(value);
        if (!(fabs(real) < 9e15) || real != floor(real)) {
            return false;
        }
        *out = (json_int_t)real;
    }
    return json_is_number(value) && (double)*out >= min && (double)*out <= max;
}

static bool read_whole(request_fields *r, const request_field *f, double min, double max, const char *what,
                       const json_t *value, json_int_t *out)
{
    if (has_range(f)) {
        return request_field_whole(value, f->min, f->max, out) || out_of_range(r, f, "a whole number", value);
    }
    return request_field_whole(value, min, max, out) || request_fields_want(r, f, what);
}

bool field_i32(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    json_int_t number;
    bool ok = read_whole(r, f, INT32_MIN, INT32_MAX, "a whole number", value, &number);
    *(int32_t *)target = ok ? (int32_t)number : *(int32_t *)target;
    return ok;
}

bool field_i64(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    json_int_t number;
    bool ok = read_whole(r, f, -9e18, 9e18, "a whole number", value, &number);
    *(int64_t *)target = ok ? (int64_t)number : *(int64_t *)target;
    return ok;
}

bool field_count(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    json_int_t number;
    bool ok = read_whole(r, f, 1, INT32_MAX, "a whole number above 0", value, &number);
    *(uint32_t *)target = ok ? (uint32_t)number : *(uint32_t *)target;
    return ok;
}

bool field_bool(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    if (!json_is_boolean(value)) {
        return request_fields_want(r, f, "true or false");
    }
    *(bool *)target = json_is_true(value);
    return true;
}

bool field_text(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    if (!json_is_string(value)) {
        return request_fields_want(r, f, "a text");
    }
    *(const char **)target = json_string_value(value);
    return true;
}

bool field_json(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)r;
    (void)f;
    *(json_t **)target = (json_t *)value;
    return true;
}

bool field_object(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    return json_is_object(value) ? field_json(r, f, target, value) : request_fields_want(r, f, "an object");
}

bool field_list(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    return json_is_array(value) ? field_json(r, f, target, value) : request_fields_want(r, f, "a list");
}

bool field_one_of(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *text = json_string_value(value), *at = f->note;
    size_t n = text ? strlen(text) : 0;
    while (text && at) {
        size_t n_word = strcspn(at, "|");
        if (n == n_word && memcmp(text, at, n) == 0) {
            *(const char **)target = text;
            return true;
        }
        at = at[n_word] ? at + n_word + 1 : NULL;
    }
    return request_fields_bad(r, f->name, "%s must be one of %s", f->name, f->note);
}

bool field_warn(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)target;
    (void)value;
    return request_fields_warn(r, "%s: %s", f->name, f->note);
}

bool field_skip(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)r;
    (void)f;
    (void)target;
    (void)value;
    return true;
}

/* Clients share fairly. */
bool field_client(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    if (!json_is_string(value)) {
        return request_fields_want(r, f, "a text");
    }
    *(uint64_t *)target = XXH3_64bits(json_string_value(value), json_string_length(value));
    return true;
}

static bool read_seed(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    int64_t number = 0;
    bool ok = field_i64(r, f, &number, value);
    (void)target;
    r->sampling.seed = (uint64_t)number;
    return ok;
}

/* true, or how many alternatives. */
static bool read_logprobs(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    json_int_t number;
    (void)target;
    if (json_is_boolean(value)) {
        r->sampling.logprobs = json_is_true(value);
        return true;
    }
    if (!request_field_whole(value, 0, f->max, &number)) {
        return request_fields_want(r, f, "true, false or a number of alternatives");
    }
    r->sampling.logprobs = true;
    r->sampling.n_logprobs = (uint32_t)number;
    return true;
}

/* A text or a list of them. */
bool field_texts(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    size_t n = json_is_string(value) ? 1 : json_array_size(value);
    text_list *out = target;
    *out = (text_list){.items = calloc(n + 1, sizeof *out->items), .cap = n + 1};
    if (!out->items) {
        return request_fields_no_memory(r);
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_string(value) ? value : json_array_get(value, i));
        if (!text || !*text) {
            return request_fields_want(r, f, "a text or a list of texts, none of them empty");
        }
        out->items[out->n++] = text;
    }
    return json_is_string(value) || json_is_array(value) || request_fields_want(r, f, "a text or a list of texts");
}

bool field_stops(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    if (r->own_stops) {
        return request_fields_bad(r, f->name, "%s: the stop strings were given already", f->name);
    }
    r->own_stops = true;
    return field_texts(r, f, target, value);
}

static bool read_breakers(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    bool ok = field_texts(r, f, target, value);
    r->sampling.dry_breakers = r->breakers.items;
    r->sampling.n_dry_breakers = r->breakers.n;
    return ok;
}

/* {"42": -1.5} */
static bool read_bias(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *key;
    json_t *one;
    size_t n = 0;
    (void)target;
    if (!json_is_object(value)) {
        return request_fields_want(r, f, "an object such as {\"42\": -1.5}");
    }
    r->bias = calloc(json_object_size(value) + 1, sizeof *r->bias);
    if (!r->bias) {
        return request_fields_no_memory(r);
    }
    json_object_foreach((json_t *)value, key, one)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (*key < '0' || *key > '9' || *end || id > INT32_MAX || !json_is_number(one)) {
            return request_fields_want(r, f, "an object such as {\"42\": -1.5}");
        }
        r->bias[n++] = (mlxr_logit_bias){.id = (int32_t)id, .bias = (float)json_number_value(one)};
    }
    r->sampling.logit_bias = r->bias;
    r->sampling.n_logit_bias = n;
    return true;
}

/* ---- grammars ---------------------------------------------------------------------------------------------------- */

bool request_fields_grammar(request_fields *r, const char *field, char *text, bool is_schema)
{
    if (r->grammar) {
        free(text);
        return request_fields_bad(r, field, "%s: there is a grammar or a schema already", field);
    }
    r->grammar = text;
    r->grammar_is_schema = is_schema;
    return text || request_fields_no_memory(r);
}

bool field_grammar(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)target;
    return json_is_string(value) ? request_fields_grammar(r, f->name, strdup(json_string_value(value)), false)
                                 : request_fields_want(r, f, "GBNF, a text");
}

/* The schema itself, or the text of one. */
bool field_schema(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)target;
    if (json_is_string(value)) {
        return request_fields_grammar(r, f->name, strdup(json_string_value(value)), true);
    }
    return json_is_object(value) || json_is_true(value)
               ? request_fields_grammar(r, f->name, json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), true)
               : request_fields_want(r, f, "a JSON Schema");
}

/* {"type": "text" | "json_object" | "json_schema", "json_schema": {"schema": …}} */
static bool read_response_format(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type && strcmp(type, "text") == 0) {
        return true;
    }
    if (type && strcmp(type, "json_object") == 0) {
        return request_fields_grammar(r, f->name, strdup("{\"type\":\"object\"}"), true);
    }
    const json_t *form = json_object_get(value, "json_schema"), *schema = json_object_get(form, "schema");
    const json_t *name = json_object_get(form, "name"), *strict = json_object_get(form, "strict");
    bool named = !name || json_is_null(name) || json_is_string(name);
    bool told = !strict || json_is_null(strict) || json_is_boolean(strict); /* it is strict anyway */
    if (type && strcmp(type, "json_schema") == 0 && named && told && json_is_object(schema)) {
        return field_schema(r, f, target, schema);
    }
    return request_fields_want(
        r, f,
        "{\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": "
        "{\"schema\": …}}");
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

#define AT(member) offsetof(request_fields, member)

const request_field request_fields_common[] = {
    {"temperature", field_float, AT(sampling.temperature), 0, 1e6, NULL},
    {"temp", field_float, AT(sampling.temperature), 0, 1e6, NULL},
    {"top_k", field_i32, AT(sampling.top_k), 0, INT32_MAX, NULL},
    {"top_p", field_float, AT(sampling.top_p), 0, 1, NULL},
    {"min_p", field_float, AT(sampling.min_p), 0, 1, NULL},
    {"typical_p", field_float, AT(sampling.typical_p), 0, 1, NULL},
    {"xtc_probability", field_float, AT(sampling.xtc_probability), 0, 1, NULL},
    {"xtc_threshold", field_float, AT(sampling.xtc_threshold), 0, 1, NULL},
    {"dry_multiplier", field_float, AT(sampling.dry_multiplier), 0, 1e6, NULL},
    {"dry_base", field_float, AT(sampling.dry_base), 1, 1e6, NULL},
    {"dry_allowed_length", field_i32, AT(sampling.dry_allowed_length), 1, INT32_MAX, NULL},
    {"dry_penalty_last_n", field_i32, AT(sampling.dry_penalty_last_n), -1, INT32_MAX, NULL},
    {"dry_sequence_breakers", read_breakers, AT(breakers), 0, 0, NULL},
    {"mirostat", field_i32, AT(sampling.mirostat), 0, 2, NULL},
    {"mirostat_tau", field_float, AT(sampling.mirostat_tau), 0, 1e6, NULL},
    {"mirostat_eta", field_float, AT(sampling.mirostat_eta), 0, 1e6, NULL},
    {"repeat_penalty", field_float, AT(sampling.repeat_penalty), 1e-6, 1e6, NULL},
    {"repetition_penalty", field_float, AT(sampling.repeat_penalty), 1e-6, 1e6, NULL},
    {"presence_penalty", field_float, AT(sampling.presence_penalty), -1e6, 1e6, NULL},
    {"frequency_penalty", field_float, AT(sampling.frequency_penalty), -1e6, 1e6, NULL},
    {"repeat_last_n", field_i32, AT(sampling.penalty_last_n), -1, INT32_MAX, NULL},
    {"logit_bias", read_bias, AT(bias), 0, 0, NULL},
    {"seed", read_seed, AT(sampling.seed), 0, 0, NULL},
    {"logprobs", read_logprobs, AT(sampling.logprobs), 0, INT32_MAX, NULL},
    {"top_logprobs", field_count, AT(sampling.n_logprobs), 0, INT32_MAX, NULL},
    {"max_tokens", field_count, AT(max_tokens), 0, 0, NULL},
    {"max_completion_tokens", field_count, AT(max_tokens), 0, 0, NULL},
    {"n", field_count, AT(n_choices), 0, 0, NULL},
    {"stop", field_stops, AT(stops), 0, 0, NULL},
    {"priority", field_i32, AT(priority), -100, 100, NULL},
    {"grammar", field_grammar, 0, 0, 0, NULL},
    {"schema", field_schema, 0, 0, 0, NULL},
    {"response_format", read_response_format, 0, 0, 0, NULL},
    {"user", field_client, AT(client), 0, 0, NULL},
};
const size_t n_request_fields_common = sizeof request_fields_common / sizeof *request_fields_common;

static bool unknown(request_fields *r, const char *key, const field_table *tables, size_t n_tables)
{
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            size_t distance = words_distance(key, tables[t].rows[i].name);
            best = distance < best_distance ? tables[t].rows[i].name : best;
            best_distance = distance < best_distance ? distance : best_distance;
        }
    }
    return best ? request_fields_bad(r, key, "unknown field \"%.60s\"; did you mean \"%s\"?", key, best)
                : request_fields_bad(r, key, "unknown field \"%.60s\"", key);
}

static bool read_member(request_fields *r, const char *key, const json_t *value, const field_table *tables,
                        size_t n_tables)
{
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const request_field *f = &tables[t].rows[i];
            if (strcmp(f->name, key) == 0) {
                return json_is_null(value) || f->read(r, f, (char *)tables[t].target + f->offset, value);
            }
        }
    }
    return unknown(r, key, tables, n_tables);
}

bool request_fields_read(request_fields *r, const json_t *object, const field_table *tables, size_t n_tables)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!read_member(r, key, value, tables, n_tables)) {
            return false;
        }
    }
    if (r->sampling.n_logprobs && !r->sampling.logprobs) {
        return request_fields_bad(r, "top_logprobs", "top_logprobs needs logprobs");
    }
    return true;
}

/* ---- for /openapi.json ------------------------------------------------------------------------------------------- */

static const struct {
    field_reader *read;
    const char *schema;
} schemas[] = {
    {field_float, "{\"type\":\"number\"}"},
    {field_i32, "{\"type\":\"integer\"}"},
    {field_i64, "{\"type\":\"integer\"}"},
    {read_seed, "{\"type\":\"integer\"}"},
    {field_count, "{\"type\":\"integer\",\"minimum\":1,\"maximum\":2147483647}"},
    {field_bool, "{\"type\":\"boolean\"}"},
    {field_text, "{\"type\":\"string\"}"},
    {field_client, "{\"type\":\"string\"}"},
    {field_grammar, "{\"type\":\"string\"}"},
    {field_object, "{\"type\":\"object\"}"},
    {field_list, "{\"type\":\"array\",\"items\":{}}"},
    {field_schema, "{\"anyOf\":[{\"type\":\"object\"},{\"type\":\"string\"},{\"const\":true}]}"},
    {field_texts, "{\"anyOf\":[{\"type\":\"string\",\"minLength\":1},"
                  "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1}}]}"},
    {field_stops, "{\"anyOf\":[{\"type\":\"string\",\"minLength\":1},"
                  "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1}}]}"},
    {read_breakers, "{\"anyOf\":[{\"type\":\"string\",\"minLength\":1},"
                    "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1}}]}"},
    {read_bias, "{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[0-9]+$\"},"
                "\"additionalProperties\":{\"type\":\"number\"}}"},
    {read_logprobs, "{\"anyOf\":[{\"type\":\"boolean\"},{\"type\":\"integer\",\"minimum\":0}]}"},
    {read_response_format,
     "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"type\":{\"enum\":[\"text\",\"json_object\"]}},"
     "\"required\":[\"type\"]},"
     "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"json_schema\"},\"json_schema\":{\"type\":\"object\","
     "\"properties\":{\"name\":{\"type\":[\"string\",\"null\"]},\"strict\":{\"type\":[\"boolean\",\"null\"]},"
     "\"schema\":{\"type\":\"object\"}"
     "},"
     "\"required\":[\"schema\"]}},\"required\":[\"type\",\"json_schema\"]}]}"},
};

static json_t *words_schema(const char *at)
{
    json_t *list = json_array();
    while (at) {
        size_t n = strcspn(at, "|");
        json_array_append_new(list, json_stringn(at, n));
        at = at[n] ? at + n + 1 : NULL;
    }
    return json_pack("{s:s, s:o}", "type", "string", "enum", list);
}

json_t *request_field_schema(const request_field *f)
{
    json_t *made = f->read == field_one_of ? words_schema(f->note) : NULL;
    for (size_t i = 0; !made && i < sizeof schemas / sizeof *schemas; i++) {
        made = schemas[i].read == f->read ? json_loads(schemas[i].schema, 0, NULL) : NULL;
    }
    made = made ? made : json_object();
    if (has_range(f) && json_object_get(made, "type")) {
        bool real = f->read == field_float;
        json_object_set_new(made, "minimum", real ? json_real(f->min) : json_integer((json_int_t)f->min));
        json_object_set_new(made, "maximum", real ? json_real(f->max) : json_integer((json_int_t)f->max));
    }
    if (f->read == field_warn) {
        json_object_set_new(made, "description", json_sprintf("Accepted with a warning: %s", f->note));
    }
    return made;
}

json_t *request_fields_schema(const field_table *tables, size_t n_tables, json_t *(*detail)(const request_field *f),
                              const char *required)
{
    json_t *properties = json_object();
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const request_field *f = &tables[t].rows[i];
            if (!json_object_get(properties, f->name)) { /* null counts as not given */
                json_t *own = detail ? detail(f) : NULL;
                json_object_set_new(
                    properties, f->name,
                    json_pack("{s:[o, {s:s}]}", "anyOf", own ? own : request_field_schema(f), "type", "null"));
            }
        }
    }
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required",
                     json_loads(required, 0, NULL), "additionalProperties", 0);
}
