/*
 * Small questions about texts.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_BASE_TEXT_H
#define MLXR_BASE_TEXT_H

#include <stdbool.h>
#include <string.h>

static inline bool text_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + (n - n_end), end) == 0;
}

#endif
