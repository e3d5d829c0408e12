/*
 * Fields of a batch's lines: one table of their names, and readers of their values.
 * Owner: the request. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "batch_request.h"
#include "words.h"

typedef struct field {
    const char *name;
    bool (*read)(batch_request *r, const struct field *f, const json_t *value);
    size_t offset; /* in batch_request */
} field;

static bool want(batch_request *r, const field *f, const char *what)
{
    return batch_request_bad(r, f->name, "%s must be %s", f->name, what);
}

static bool read_float(batch_request *r, const field *f, const json_t *value)
{
    if (!json_is_number(value)) {
        return want(r, f, "a number");
    }
    *(float *)((char *)r + f->offset) = (float)json_number_value(value);
    return true;
}

static bool whole(const json_t *value, json_int_t min, json_int_t max, json_int_t *out)
{
    *out = json_integer_value(value);
    if (json_is_real(value)) { /* 64.0 is meant as 64 */
        double real = json_real_value(value);
        if (!(fabs(real) < 9e15) || real != floor(real)) {
            return false;
        }
        *out = (json_int_t)real;
    }
    return json_is_number(value) && *out >= min && *out <= max;
}

static bool read_i32(batch_request *r, const field *f, const json_t *value)
{
    json_int_t number;
    if (!whole(value, INT32_MIN, INT32_MAX, &number)) {
        return want(r, f, "a whole number");
    }
    *(int32_t *)((char *)r + f->offset) = (int32_t)number;
    return true;
}

/* One or more of something. */
static bool read_count(batch_request *r, const field *f, const json_t *value)
{
    json_int_t number;
    if (!whole(value, 1, INT32_MAX, &number)) {
        return want(r, f, "a whole number above 0");
    }
    *(uint32_t *)((char *)r + f->offset) = (uint32_t)number;
    return true;
}

static bool read_seed(batch_request *r, const field *f, const json_t *value)
{
    json_int_t number;
    if (!whole(value, INT64_MIN, INT64_MAX, &number)) {
        return want(r, f, "a whole number");
    }
    r->sampling.seed = (uint64_t)number;
    return true;
}

static bool read_bool(batch_request *r, const field *f, const json_t *value)
{
    if (!json_is_boolean(value)) {
        return want(r, f, "true or false");
    }
    *(bool *)((char *)r + f->offset) = json_is_true(value);
    return true;
}

/* true, or how many alternatives. */
static bool read_logprobs(batch_request *r, const field *f, const json_t *value)
{
    json_int_t number;
    if (json_is_boolean(value)) {
        r->sampling.logprobs = json_is_true(value);
        return true;
    }
    if (!whole(value, 0, INT32_MAX, &number)) {
        return want(r, f, "true, false or a number of alternatives");
    }
    r->sampling.logprobs = true;
    r->sampling.n_logprobs = (uint32_t)number;
    return true;
}

static bool read_top_logprobs(batch_request *r, const field *f, const json_t *value)
{
    json_int_t number;
    if (!whole(value, 0, INT32_MAX, &number)) {
        return want(r, f, "a whole number of 0 or more");
    }
    r->sampling.n_logprobs = (uint32_t)number;
    return true;
}

/* A text or a list of them. */
static bool read_texts(batch_request *r, const field *f, const json_t *value, text_list *out)
{
    size_t n = json_is_string(value) ? 1 : json_array_size(value);
    *out = (text_list){.items = calloc(n + 1, sizeof *out->items), .cap = n + 1};
    if (!out->items) {
        return batch_request_bad(r, f->name, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_string(value) ? value : json_array_get(value, i));
        if (!text || !*text) {
            return want(r, f, "a text or a list of texts, none of them empty");
        }
        out->items[out->n++] = text;
    }
    return json_is_string(value) || json_is_array(value) || want(r, f, "a text or a list of texts");
}

static bool read_stop(batch_request *r, const field *f, const json_t *value)
{
    r->own_stops = true;
    return read_texts(r, f, value, &r->stops);
}

static bool read_breakers(batch_request *r, const field *f, const json_t *value)
{
    bool ok = read_texts(r, f, value, &r->breakers);
    r->sampling.dry_breakers = r->breakers.items;
    r->sampling.n_dry_breakers = r->breakers.n;
    return ok;
}

/* {"42": -1.5} */
static bool read_bias(batch_request *r, const field *f, const json_t *value)
{
    const char *key;
    json_t *one;
    size_t n = 0;
    if (!json_is_object(value)) {
        return want(r, f, "an object such as {\"42\": -1.5}");
    }
    r->bias = calloc(json_object_size(value) + 1, sizeof *r->bias);
    if (!r->bias) {
        return batch_request_bad(r, f->name, "out of memory");
    }
    json_object_foreach((json_t *)value, key, one)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (*key < '0' || *key > '9' || *end || id > INT32_MAX || !json_is_number(one)) {
            return want(r, f, "an object such as {\"42\": -1.5}");
        }
        r->bias[n++] = (mlxr_logit_bias){.id = (int32_t)id, .bias = (float)json_number_value(one)};
    }
    r->sampling.logit_bias = r->bias;
    r->sampling.n_logit_bias = n;
    return true;
}

static bool set_grammar(batch_request *r, const field *f, char *text, bool is_schema)
{
    if (r->grammar) {
        free(text);
        return batch_request_bad(r, f->name, "%s: the line has a grammar or a schema already", f->name);
    }
    r->grammar = text;
    r->grammar_is_schema = is_schema;
    return text || batch_request_bad(r, f->name, "out of memory");
}

static bool read_grammar(batch_request *r, const field *f, const json_t *value)
{
    return json_is_string(value) ? set_grammar(r, f, strdup(json_string_value(value)), false)
                                 : want(r, f, "GBNF, a text");
}

/* The schema itself, or the text of one. */
static bool read_schema(batch_request *r, const field *f, const json_t *value)
{
    if (json_is_string(value)) {
        return set_grammar(r, f, strdup(json_string_value(value)), true);
    }
    return json_is_object(value) || json_is_true(value)
               ? set_grammar(r, f, json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), true)
               : want(r, f, "a JSON Schema");
}

/* {"type": "text" | "json_object" | "json_schema", "json_schema": {"schema": …}} */
static bool read_response_format(batch_request *r, const field *f, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type && strcmp(type, "text") == 0) {
        return true;
    }
    if (type && strcmp(type, "json_object") == 0) {
        return set_grammar(r, f, strdup("{\"type\":\"object\"}"), true);
    }
    const json_t *schema = json_object_get(json_object_get(value, "json_schema"), "schema");
    if (type && strcmp(type, "json_schema") == 0 && schema) {
        return read_schema(r, f, schema);
    }
    return want(r, f,
                "{\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": "
                "{\"schema\": …}}");
}

/* All lines are answered by one model: another one's name is not an error, for such files are written for many, but it
 * is said. */
static bool read_model(batch_request *r, const field *f, const json_t *value)
{
    const char *name = json_string_value(value);
    if (!name) {
        return want(r, f, "a text");
    }
    return strcmp(name, r->model) == 0 ||
           batch_request_warn(r, "the line asks for the model \"%.80s\"; \"%.80s\" has answered", name, r->model);
}

static bool read_stream(batch_request *r, const field *f, const json_t *value)
{
    return json_is_false(value) || want(r, f, "false: results of a batch come whole");
}

/* Clients share fairly. */
static bool read_user(batch_request *r, const field *f, const json_t *value)
{
    if (!json_is_string(value)) {
        return want(r, f, "a text");
    }
    r->client = XXH3_64bits(json_string_value(value), json_string_length(value));
    return true;
}

#define SAMPLING(name) offsetof(batch_request, sampling.name)

static const field fields[] = {
    {"temperature", read_float, SAMPLING(temperature)},
    {"temp", read_float, SAMPLING(temperature)},
    {"top_k", read_i32, SAMPLING(top_k)},
    {"top_p", read_float, SAMPLING(top_p)},
    {"min_p", read_float, SAMPLING(min_p)},
    {"typical_p", read_float, SAMPLING(typical_p)},
    {"xtc_probability", read_float, SAMPLING(xtc_probability)},
    {"xtc_threshold", read_float, SAMPLING(xtc_threshold)},
    {"dry_multiplier", read_float, SAMPLING(dry_multiplier)},
    {"dry_base", read_float, SAMPLING(dry_base)},
    {"dry_allowed_length", read_i32, SAMPLING(dry_allowed_length)},
    {"dry_penalty_last_n", read_i32, SAMPLING(dry_penalty_last_n)},
    {"dry_sequence_breakers", read_breakers, 0},
    {"mirostat", read_i32, SAMPLING(mirostat)},
    {"mirostat_tau", read_float, SAMPLING(mirostat_tau)},
    {"mirostat_eta", read_float, SAMPLING(mirostat_eta)},
    {"repeat_penalty", read_float, SAMPLING(repeat_penalty)},
    {"repetition_penalty", read_float, SAMPLING(repeat_penalty)},
    {"presence_penalty", read_float, SAMPLING(presence_penalty)},
    {"frequency_penalty", read_float, SAMPLING(frequency_penalty)},
    {"repeat_last_n", read_i32, SAMPLING(penalty_last_n)},
    {"logit_bias", read_bias, 0},
    {"seed", read_seed, 0},
    {"logprobs", read_logprobs, 0},
    {"top_logprobs", read_top_logprobs, 0},
    {"max_tokens", read_count, offsetof(batch_request, max_tokens)},
    {"max_completion_tokens", read_count, offsetof(batch_request, max_tokens)},
    {"n", read_count, offsetof(batch_request, n_choices)},
    {"stop", read_stop, 0},
    {"priority", read_i32, offsetof(batch_request, priority)},
    {"grammar", read_grammar, 0},
    {"schema", read_schema, 0},
    {"response_format", read_response_format, 0},
    {"raw", read_bool, offsetof(batch_request, raw)},
    {"model", read_model, 0},
    {"stream", read_stream, 0},
    {"user", read_user, 0},
};
#define N_FIELDS (sizeof fields / sizeof *fields)

static bool unknown(batch_request *r, const char *key)
{
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < N_FIELDS; i++) {
        size_t distance = words_distance(key, fields[i].name);
        best = distance < best_distance ? fields[i].name : best;
        best_distance = distance < best_distance ? distance : best_distance;
    }
    return best ? batch_request_bad(r, key, "unknown field \"%.60s\"; did you mean \"%s\"?", key, best)
                : batch_request_bad(r, key, "unknown field \"%.60s\"", key);
}

bool batch_fields_read(batch_request *r, const json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t i = 0;
        bool skip = false;
        for (const char *const *k = known; *k && !skip; k++) {
            skip = strcmp(*k, key) == 0;
        }
        if (skip) {
            continue;
        }
        while (i < N_FIELDS && strcmp(fields[i].name, key) != 0) {
            i++;
        }
        if (i == N_FIELDS) {
            return unknown(r, key);
        }
        if (!json_is_null(value) && !fields[i].read(r, &fields[i], value)) {
            return false;
        }
    }
    if (r->sampling.n_logprobs && !r->sampling.logprobs) {
        return batch_request_bad(r, "top_logprobs", "top_logprobs needs logprobs");
    }
    return true;
}
