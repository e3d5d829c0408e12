/*
 * Vocabulary: opens the tokenizer a model file brings along.
 * Owner: the caller of vocabulary_open owns the tokenizer. Lifetime: the call.
 */
#ifndef MLXR_GRAPH_VOCABULARY_H
#define MLXR_GRAPH_VOCABULARY_H

#include "loaders/model_file.h"
#include "text/tokenizer.h"

/* From tokenizer.json or tokenizer.model beside safetensors, else from the tokenizer.ggml.* metadata. The tokenizer
 * keeps nothing of the file. MLXR_UNSUPPORTED names a tokenizer model or pre-tokenizer that is not known. */
mlxr_status vocabulary_open(tokenizer **out, const model_file *file, mlxr_error *error);

#endif
