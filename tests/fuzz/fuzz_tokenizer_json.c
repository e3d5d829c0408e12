/*
 * Fuzz target: any bytes as a tokenizer.json, with a tokenizer_config.json after a line "%%". What opens must tokenise
 * and detokenise any text without harm.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: text */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "support/exercise_tokenizer.inc"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *line = n >= 4 ? memmem(data, n, "\n%%\n", 4) : NULL;
    size_t n_json = line ? (size_t)(line - data) : n;
    const char *config = line ? (const char *)line + 4 : NULL;
    tokenizer *t = NULL;
    mlxr_error error = {0};
    mlxr_status status = tokenizer_open_json(&t, (const char *)data, n_json, config, line ? n - n_json - 4 : 0, &error);
    exercise_opened(status, t, &error);
    if (t) {
        exercise_tokenizer(t);
        tokenizer_close(&t);
    }
    return 0;
}
