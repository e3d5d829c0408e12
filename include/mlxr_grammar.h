/*
 * mlxr_grammar.h: answers that are bound to a grammar and go on where they were. The rules of mlxr.h about errors,
 * threads and ownership hold here, too.
 */
#ifndef MLXR_GRAMMAR_H
#define MLXR_GRAMMAR_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As mlxr_sequence_constrain, but the last n_given of the sequence's tokens are the sentence so far, and what is
 * sampled goes on with it. MLXR_ARG: they are no beginning of a sentence, or more than there are; then nothing has
 * changed. */
MLXR_API mlxr_status mlxr_sequence_constrain_behind(mlxr_sequence *sequence, const mlxr_grammar *grammar,
                                                    size_t n_given, mlxr_error *error);

#ifdef __cplusplus
}
#endif

#endif
