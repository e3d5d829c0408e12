/*
 * A tokenizer as GGUF embeds it, whatever file it was opened from.
 * Owner: the caller's region. Lifetime: the region's and the tokenizer's.
 */
#ifndef MLXR_TEXT_TOKENIZER_EXPORT_H
#define MLXR_TEXT_TOKENIZER_EXPORT_H

#include "base/region.h"
#include "text/tokenizer.h"

typedef struct tokenizer_export {
    const char *model;       /* tokenizer.ggml.model: "gpt2", "llama", "t5" (unigram) or "bert" (WordPiece) */
    tokenizer_source source; /* what tokenizer_open takes; .pre is NULL but for "gpt2" */
} tokenizer_export;

/* MLXR_UNSUPPORTED for what GGUF has no form for. For byte-level BPE the pre-tokenisation is found by trying: the first
 * of those known by name with which the same texts give the same tokens. In every case the tokenizer that will be read
 * is opened once and compared. */
mlxr_status tokenizer_export_make(tokenizer_export *out, const tokenizer *t, region *memory, mlxr_error *error);

#endif
