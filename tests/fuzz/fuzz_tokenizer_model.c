/*
 * Fuzz target: any bytes as a SentencePiece tokenizer.model. What opens must tokenise and detokenise any text without
 * harm.
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
    tokenizer *t = NULL;
    mlxr_error error = {0};
    mlxr_status status = tokenizer_open_spm(&t, data, n, &error);
    exercise_opened(status, t, &error);
    if (t) {
        exercise_tokenizer(t);
        tokenizer_close(&t);
    }
    return 0;
}
