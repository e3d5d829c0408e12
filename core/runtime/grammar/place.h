/*
 * Places in the text of a grammar or a schema, for error messages.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_PLACE_H
#define MLXR_RUNTIME_GRAMMAR_PLACE_H

#include <stddef.h>

typedef struct place {
    size_t line, column; /* from 1; columns count bytes */
} place;

/* Where text[offset] is. */
place place_of(const char *text, size_t offset);
/* The offset of the value that a path such as "/properties/a/items" leads to in a JSON text that has been parsed
 * before; where it leads nowhere, of the last value on the way. Steps are compared byte by byte with keys as they are
 * written. */
size_t place_in_json(const char *text, size_t n, const char *path);

#endif
