/*
 * /v1/embeddings.
 * Owner: the service. Lifetime: as in embeddings.h.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "server/embeddings.h"
#include "server/openai_parts.h"

static bool parse(request_fields *f, const json_t *body, embeddings_ask *ask)
{
    openai_text_options o = {0};
    if (!openai_text_parse(f, "/v1/embeddings", body, &o)) {
        return false;
    }
    ask->model = o.model;
    ask->input = o.input;
    ask->lora = o.lora;
    ask->dimensions = o.dimensions;
    ask->base64 = o.encoding_format && strcmp(o.encoding_format, "base64") == 0;
    return true;
}

static json_t *as_base64(const float *values, uint32_t n)
{
    size_t n_bytes = n * sizeof *values;
    char *text = malloc(4 * ((n_bytes + 2) / 3) + 1);
    int length = text ? EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)values, (int)n_bytes) : -1;
    json_t *made = length >= 0 ? json_stringn_nocheck(text, (size_t)length) : NULL;
    free(text);
    return made;
}

static json_t *as_list(const float *values, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t k = 0; k < n; k++) {
        json_array_append_new(list, json_real((double)values[k]));
    }
    return list;
}

static json_t *answer(const embeddings_found *found)
{
    json_t *list = json_array();
    for (size_t i = 0; i < found->n; i++) {
        const float *v = found->vectors[i];
        json_t *one = found->ask->base64 ? as_base64(v, found->n_dims) : as_list(v, found->n_dims);
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index", (json_int_t)i, "embedding", one));
    }
    return json_pack("{s:s, s:o, s:s, s:{s:I, s:I}, s:O*}", "object", "list", "data", list, "model", found->model,
                     "usage", "prompt_tokens", (json_int_t)found->n_tokens, "total_tokens", (json_int_t)found->n_tokens,
                     "warnings", found->warnings);
}

void openai_embeddings(void *service, http_exchange *x)
{
    static const embeddings_dialect dialect = {.parse = parse, .answer = answer};
    embeddings_start(service, x, &dialect);
}
