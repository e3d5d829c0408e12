/*
 * Hugging Face tokenizer.json.
 * Owner: the tokenizer it opens. Lifetime: the call.
 */
#include "base/error.h"
#include "text/tokenizer.h"

mlxr_status tokenizer_open_json(tokenizer **out, const char *json, size_t n, const char *config_json, size_t n_config,
                                mlxr_error *error)
{
    (void)out, (void)json, (void)n, (void)config_json, (void)n_config;
    return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json is not read yet");
}
