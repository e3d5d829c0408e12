/*
 * What stands between the marks of a tool call, read into names and arguments.
 * Owner: the caller. Lifetime: tool_calls_read to tool_calls_close.
 */
#ifndef MLXR_SERVER_TOOL_CALL_TEXT_H
#define MLXR_SERVER_TOOL_CALL_TEXT_H

#include <jansson.h>

#include "server/output_format.h"

typedef struct tool_call {
    char *name;
    char *arguments; /* a JSON object; as the model wrote it where it wrote JSON */
} tool_call;

typedef struct tool_calls {
    tool_call *items; /* [n] */
    size_t n, cap;
} tool_calls;

/* Reads one call or several. `tools`: what may be called, in OpenAI's form, for the types of values that are written
 * without quotes; NULL: not known. False: they cannot be read, and nothing is in *out. */
bool tool_calls_read(tool_calls *out, tool_style style, const char *text, size_t n, const json_t *tools);
void tool_calls_close(tool_calls *c);
/* The tool of this name, its "function" object; NULL: there is none. */
const json_t *tool_find(const json_t *tools, const char *name);

#endif
