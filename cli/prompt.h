/*
 * From messages to tokens.
 * Owner: the caller frees what it is given. Lifetime: the call.
 */
#ifndef MLXR_CLI_PROMPT_H
#define MLXR_CLI_PROMPT_H

#include <jansson.h>

#include "mlxr_chat.h"
#include "registry/registry.h"

/* What the model shall read: the messages through its chat template or, raw, one after the other. `made`: what the
 * registry has for the model; its template stands in the place of the model's own, and the turns it was made with
 * behind the system message. *text is NUL-terminated and freed with mlxr_free. */
mlxr_status prompt_render(const mlxr_model *model, const registry_model *made, const json_t *messages, bool raw,
                          char **text, mlxr_error *error);
/* How such a text is tokenised. */
unsigned prompt_flags(bool raw);
/* *ids is malloc'ed, even if *n is 0. */
mlxr_status prompt_tokenize(const mlxr_model *model, const char *text, size_t n_bytes, unsigned flags, int32_t **ids,
                            size_t *n, mlxr_error *error);

#endif
