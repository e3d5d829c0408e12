/*
 * Reading JSON that comes from outside: size, depth and duplicate keys are checked, errors say where.
 * Owner: the caller of the value. Lifetime: until json_decref.
 */
#ifndef MLXR_TEXT_JSON_TEXT_H
#define MLXR_TEXT_JSON_TEXT_H

#include <jansson.h>

#include "mlxr.h"

#define JSON_TEXT_DEPTH_MAX 64

/* Any JSON value, of at most bytes_max bytes (0: no limit) and JSON_TEXT_DEPTH_MAX levels. MLXR_LIMIT beyond those,
 * MLXR_FORMAT with line and column for everything else: syntax, invalid UTF-8, a key twice in an object, an integer
 * beyond 64 bits, text behind the value. */
mlxr_status json_text_parse(json_t **out, const char *text, size_t n, size_t bytes_max, mlxr_error *error);

#endif
