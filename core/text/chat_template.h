/*
 * Chat templates: an engine for the Jinja that real templates use, with fuel and output limits and no access to
 * anything outside its inputs.
 * Owner: the model. Lifetime: chat_template_open to chat_template_close. Immutable once open; any thread.
 */
#ifndef MLXR_TEXT_CHAT_TEMPLATE_H
#define MLXR_TEXT_CHAT_TEMPLATE_H

#include <jansson.h>

#include "base/buffer.h"
#include "mlxr.h"

typedef struct chat_template chat_template;

typedef struct chat_limits { /* {0}: the defaults */
    uint64_t steps_max;      /* evaluation steps; default 2,000,000 */
    size_t output_bytes_max; /* default 16 MiB */
    size_t memory_bytes_max; /* of values alive during a render; default 256 MiB */
    int64_t now;             /* seconds since 1970 for strftime_now; 0: the clock */
} chat_limits;

/* Compiles a template. Errors give line and column. `trim_blocks` and `lstrip_blocks` are on, as in transformers. */
mlxr_status chat_template_open(chat_template **out, const char *source, size_t n, mlxr_error *error);
void chat_template_close(chat_template **t);

/* Makes of the variables a caller has (messages, tools, documents, anything else) those that apply_chat_template() of
 * transformers hands to a template: `tools` and `documents` are null where they are missing; the messages are copied
 * without members that are null, and with their reasoning (`reasoning_content`, `thinking` or `reasoning`, the first
 * there is) as `reasoning_content` and, if there was none, `thinking`. A message that is no object is MLXR_ARG. */
mlxr_status chat_variables_complete(json_t *variables, mlxr_error *error);

/* Renders with the members of the JSON object `variables` as globals. raise_exception() and every run-time error come
 * back as MLXR_FORMAT with the line; running out of fuel, output or memory as MLXR_LIMIT. */
mlxr_status chat_template_render(const chat_template *t, const json_t *variables, const chat_limits *limits,
                                 buffer *out, mlxr_error *error);

#endif
