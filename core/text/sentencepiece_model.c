/*
 * SentencePiece tokenizer.model.
 * Owner: the tokenizer it opens. Lifetime: the call.
 */
#include "base/error.h"
#include "text/tokenizer.h"

mlxr_status tokenizer_open_spm(tokenizer **out, const void *bytes, size_t n, mlxr_error *error)
{
    (void)out, (void)bytes, (void)n;
    return error_set(error, MLXR_UNSUPPORTED, "tokenizer.model is not read yet");
}
