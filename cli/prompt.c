/*
 * Prompts: rendering and tokenising. Nothing is printed here: who asks tells what is wrong in his own way.
 * Owner: the caller frees what it is given. Lifetime: the call.
 */
#include "prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mlxr_status no_memory(mlxr_error *error)
{
    error->status = MLXR_NOMEM;
    snprintf(error->text, sizeof error->text, "out of memory");
    return MLXR_NOMEM;
}

static const char *content_at(const json_t *messages, size_t i)
{
    const char *content = json_string_value(json_object_get(json_array_get(messages, i), "content"));
    return content ? content : "";
}

/* Everything that was said, one after the other. */
static char *join(const json_t *messages)
{
    size_t n = 1, at = 0;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        n += strlen(content_at(messages, i));
    }
    char *text = calloc(n, 1);
    for (size_t i = 0; text && i < json_array_size(messages); i++) {
        size_t length = strlen(content_at(messages, i));
        memcpy(text + at, content_at(messages, i), length);
        at += length;
    }
    return text;
}

/* With the turns that the model was made with; NULL: no memory. */
static json_t *with_turns(const json_t *messages, const registry_pairs *turns)
{
    json_t *made = json_copy((json_t *)messages);
    const char *role = json_string_value(json_object_get(json_array_get(made, 0), "role"));
    size_t at = role && strcmp(role, "system") == 0;
    for (size_t i = 0; made && i < turns->n; i++) {
        const registry_pair *turn = &turns->items[i];
        if (json_array_insert_new(made, at + i, json_pack("{s:s, s:s}", "role", turn->name, "content", turn->value)) !=
            0) {
            json_decref(made);
            return NULL;
        }
    }
    return made;
}

mlxr_status prompt_render(const mlxr_model *model, const registry_model *made, const json_t *messages, bool raw,
                          char **text, mlxr_error *error)
{
    if (raw) {
        *text = join(messages);
        return *text ? MLXR_OK : no_memory(error);
    }
    json_t *all = with_turns(messages, &made->messages);
    char *dumped = all ? json_dumps(all, JSON_COMPACT) : NULL;
    mlxr_status status = dumped ? mlxr_chat_render_with(model, made->template_text, dumped, NULL, NULL, true, true,
                                                        text, error)
                                : no_memory(error);
    json_decref(all);
    free(dumped);
    return status;
}

unsigned prompt_flags(bool raw)
{
    return MLXR_TOKENIZE_PARSE_SPECIAL | (raw ? MLXR_TOKENIZE_ADD_SPECIAL : MLXR_TOKENIZE_MARKED);
}

mlxr_status prompt_tokenize(const mlxr_model *model, const char *text, size_t n_bytes, unsigned flags, int32_t **ids,
                            size_t *n, mlxr_error *error)
{
    size_t cap = n_bytes + 8; /* a token is at least a byte, but for the special ones around the text */
    for (;;) {
        int32_t *made = malloc(cap * sizeof *made);
        if (!made) {
            return no_memory(error);
        }
        mlxr_status status = mlxr_tokenize(model, text, n_bytes, flags, made, cap, n, error);
        if (status == MLXR_OK && *n <= cap) {
            *ids = made;
            return MLXR_OK;
        }
        free(made);
        if (status != MLXR_OK) {
            return status;
        }
        cap = *n;
    }
}
