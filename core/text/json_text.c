/*
 * Reading JSON that comes from outside.
 * Owner: the caller of the value. Lifetime: until json_decref.
 */
#include "text/json_text.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"

/* The deepest nesting, as far as brackets tell, and where it first exceeds the limit. */
static bool depth_exceeds(const char *text, size_t n, size_t *at)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_TEXT_DEPTH_MAX) {
                *at = i;
                return true;
            }
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        }
    }
    return false;
}

static void position(const char *text, size_t at, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') {
            ++*line;
            *column = 1;
        } else {
            *column += ((unsigned char)text[i] & 0xc0) != 0x80;
        }
    }
}

static const char *describe(enum json_error_code code)
{
    switch (code) {
    case json_error_premature_end_of_input:
        return "the text ends in the middle of a value";
    case json_error_end_of_input_expected:
        return "there is text behind the value";
    case json_error_invalid_utf8:
        return "a string is not UTF-8";
    case json_error_duplicate_key:
        return "an object has the same key twice";
    case json_error_numeric_overflow:
        return "a number is too large (integers have 64 bits)";
    case json_error_null_byte_in_key:
        return "a key holds a NUL character";
    default:
        return "this is not JSON";
    }
}

mlxr_status json_text_parse(json_t **out, const char *text, size_t n, size_t bytes_max, mlxr_error *error)
{
    size_t line, column, at;
    json_error_t problem = {0};
    if (bytes_max && n > bytes_max) {
        return error_set(error, MLXR_LIMIT, "the JSON text has %zu bytes; the limit is %zu", n, bytes_max);
    }
    if (depth_exceeds(text, n, &at)) {
        position(text, at, &line, &column);
        return error_set(error, MLXR_LIMIT, "JSON, line %zu, column %zu: nested more than %d levels deep", line, column,
                         JSON_TEXT_DEPTH_MAX);
    }
    const char *nul = memchr(text, 0, n);
    if (nul) { /* jansson would take it for the end of the text */
        position(text, (size_t)(nul - text), &line, &column);
        return error_set(error, MLXR_FORMAT, "JSON, line %zu, column %zu: a NUL byte is not JSON", line, column);
    }
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!json) {
        if (problem.text[0] == 0) { /* jansson has no words where it finds no memory */
            return error_nomem(error, "parsing JSON", n);
        }
        at = problem.position <= 0 ? 0 : (size_t)problem.position - 1; /* jansson says how much it has read */
        position(text, at < n ? at : n, &line, &column);
        return error_set(error, MLXR_FORMAT, "JSON, line %zu, column %zu: %s", line, column,
                         describe(json_error_code(&problem)));
    }
    *out = json;
    return MLXR_OK;
}
