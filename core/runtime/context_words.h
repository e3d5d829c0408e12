/*
 * Context words: what the log says of a context that is longer than the one a model was trained for.
 * Owner: none. Lifetime: the call. The engine's thread.
 */
#ifndef MLXR_RUNTIME_CONTEXT_WORDS_H
#define MLXR_RUNTIME_CONTEXT_WORDS_H

#include "runtime/engine.h"

/* Nothing where the context is what was asked for and the model was trained for it. */
void context_words(const mlxr_model *model);

#endif
