/*
 * Fields of requests that are JSON objects: tables of names and readers, and what all dialects and batches share.
 * Owner: whoever reads a request. Lifetime: texts are borrowed from the JSON, which must live as long.
 *
 * A field that no table has is refused by name; nothing of a request is ignored silently. The tables are also what
 * /openapi.json is made of.
 */
#ifndef MLXR_SERVER_REQUEST_FIELDS_H
#define MLXR_SERVER_REQUEST_FIELDS_H

#include <jansson.h>

#include "mlxr.h"
#include "registry/words.h"

typedef struct request_fields {
    mlxr_sampling sampling; /* its arrays are those below, or the defaults' */
    mlxr_logit_bias *bias;  /* owned */
    text_list breakers, stops;
    bool own_stops;      /* stops.items is owned: it was given, and is not a default */
    uint32_t max_tokens; /* 0: the usual */
    uint32_t n_choices;
    int32_t priority;
    char *grammar; /* owned; NULL: none */
    bool grammar_is_schema;
    uint64_t client;   /* 0: none; who shares fairly with whom */
    json_t *warnings;  /* owned, texts; NULL: none */
    char where[32];    /* stands before messages: "line 7: " */
    bool bad;          /* error says why */
    const char *field; /* borrowed or static: the one that is wrong; NULL: none */
    mlxr_error error;
} request_fields;

typedef struct request_field request_field;
/* `target`: the field's own place. False after request_fields_bad. */
typedef bool field_reader(request_fields *r, const request_field *f, void *target, const json_t *value);

struct request_field {
    const char *name;
    field_reader *read;
    size_t offset;    /* in the table's target */
    double min, max;  /* of numbers; both 0: what the type holds */
    const char *note; /* field_one_of: the values, "|" between them; field_warn: why; else NULL */
};

typedef struct field_table {
    const request_field *rows;
    size_t n;
    void *target;
} field_table;

/* Samplers, stop, n, max_tokens, seed, logprobs, grammar, schema, response_format, priority, user; target: the
 * request_fields themselves. */
extern const request_field request_fields_common[];
extern const size_t n_request_fields_common;

/* A body that is to be a JSON object; an empty one is none. NULL: the error says where it is wrong (MLXR_ARG), or that
 * memory is out. */
json_t *request_body_read(const char *body, size_t n, mlxr_error *error);

void request_fields_open(request_fields *r, const mlxr_sampling *sampling);
void request_fields_close(request_fields *r);

/* Reads every member of an object; null counts as not given. */
bool request_fields_read(request_fields *r, const json_t *object, const field_table *tables, size_t n_tables);
/* Marks the request as bad; the first reason stays. Returns false. */
bool request_fields_bad(request_fields *r, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same where a call failed: whether that is the client's fault its status tells (error_respond_fields). */
bool request_fields_fail(request_fields *r, mlxr_status status, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool request_fields_no_memory(request_fields *r);
bool request_fields_warn(request_fields *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "NAME must be WHAT". */
bool request_fields_want(request_fields *r, const request_field *f, const char *what);
/* Takes the text over; a second one is refused. */
bool request_fields_grammar(request_fields *r, const char *field, char *text, bool is_schema);
/* A text's or number's JSON Schema, for /openapi.json. */
json_t *request_field_schema(const request_field *f);
/* An object's, with the fields of all tables; `detail` (may be NULL): what a reader alone does not tell, or NULL.
 * `required`: a list as JSON. */
json_t *request_fields_schema(const field_table *tables, size_t n_tables, json_t *(*detail)(const request_field *f),
                              const char *required);
/* A whole number, 64.0 taken as 64. */
bool request_field_whole(const json_t *value, double min, double max, json_int_t *out);

field_reader field_float;   /* float */
field_reader field_i32;     /* int32_t */
field_reader field_i64;     /* int64_t */
field_reader field_count;   /* uint32_t, 1 or more unless min and max say otherwise */
field_reader field_bool;    /* bool */
field_reader field_text;    /* const char *, borrowed */
field_reader field_texts;   /* text_list of a text or a list of texts; items are owned */
field_reader field_stops;   /* request_fields.stops, which are then the request's own */
field_reader field_json;    /* json_t *, borrowed: any value */
field_reader field_object;  /* json_t *, borrowed */
field_reader field_list;    /* json_t *, borrowed */
field_reader field_one_of;  /* const char *, borrowed: one of the words in note */
field_reader field_warn;    /* nothing: accepted with a warning that says why it does nothing */
field_reader field_skip;    /* nothing: read by somebody else */
field_reader field_client;  /* uint64_t: hash of a text */
field_reader field_schema;  /* request_fields.grammar, by a JSON Schema or the text of one */
field_reader field_grammar; /* request_fields.grammar, by GBNF */

#endif
