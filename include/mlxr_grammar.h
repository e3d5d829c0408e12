/*
 * mlxr_grammar.h: answers that are bound to a grammar and go on where they were, and what a model keeps of grammars.
 * The rules of mlxr.h about errors, threads and ownership hold here, too.
 *
 * A model keeps the compiled grammars of the newest texts, 64 of them and 64 MiB at most: opening one of these again
 * (mlxr_grammar_open_gbnf, _schema) finds it with all states and masks that were needed so far. Results are the same.
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

typedef struct mlxr_grammar_stats {
    uint64_t n_made, n_found; /* calls that compiled a text, and calls that found it compiled */
    uint64_t n_dropped;       /* made, kept and gone since */
    uint32_t n_kept;          /* now */
    uint64_t bytes_kept;
} mlxr_grammar_stats;

/* On the engine's thread. */
MLXR_API mlxr_grammar_stats mlxr_grammar_stats_get(const mlxr_model *model);

#ifdef __cplusplus
}
#endif

#endif
