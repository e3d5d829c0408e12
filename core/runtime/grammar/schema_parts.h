/*
 * Parts of the JSON Schema compiler: shared by its files only.
 * Owner: one compilation. Lifetime: grammar_open_schema's call.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_SCHEMA_PARTS_H
#define MLXR_RUNTIME_GRAMMAR_SCHEMA_PARTS_H

#include <jansson.h>

#include "runtime/grammar/rules.h"

#define SCHEMA_DEPTH_MAX 64u

typedef struct schema_ref { /* a $ref met: its rule may be used before it is finished, so schemas can recurse */
    const json_t *target;
    uint32_t rule;
} schema_ref;

typedef struct schema {
    rules *rules;
    const json_t *root;
    const char *text; /* [n_text], for messages */
    size_t n_text;
    schema_ref *refs;
    size_t n_refs, cap_refs;
    uint32_t depth;
    json_t *merged; /* array that keeps schemas made by merging alive */
    char path[256]; /* where in the schema, for messages */
    mlxr_status status;
    mlxr_error *error;
    uint32_t space, value, string, string_char, number, integer, boolean, null; /* RULES_NONE: not made yet */
} schema;

/* Remembers the first failure: "JSON schema, line 3, column 8, at #/properties/a: …". */
uint32_t schema_fail(schema *s, mlxr_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint32_t schema_text(schema *s, const char *text); /* rules_literal */

/* ---- schema_value.c: values without a schema ---- */
uint32_t schema_space(schema *s); /* "" | " " | newline and up to 20 blanks */
uint32_t schema_any_value(schema *s);
uint32_t schema_string_char(schema *s); /* one character of a JSON string, escapes included */
uint32_t schema_any_string(schema *s);
uint32_t schema_any_number(schema *s);
uint32_t schema_any_integer(schema *s);
uint32_t schema_boolean(schema *s);
uint32_t schema_null(schema *s);
uint32_t schema_literal(schema *s, const json_t *value);
uint32_t schema_any_object(schema *s);
uint32_t schema_any_array(schema *s);

/* ---- schema_number.c ---- */
uint32_t schema_bounded_number(schema *s, const json_t *at, bool integer);

/* ---- schema_string.c ---- */
uint32_t schema_format(schema *s, const char *name);
/* The characters of a JSON string that match the pattern (ECMA 262 subset), without the quotes. */
uint32_t schema_pattern(schema *s, const char *pattern);
/* A JSON string (quotes included, no escapes) that is none of the names. */
uint32_t schema_other_key(schema *s, const char *const *names, size_t n);

#endif
