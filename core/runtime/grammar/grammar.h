/*
 * Grammar: rules run as an automaton over tokens, with the allowed tokens of each state as a bit mask.
 * Owner: reference-counted; sequences share one. Lifetime: until the last grammar_unref. Any thread: a lock of its own
 * guards the parts that are filled in on demand.
 *
 * The automaton is a pushdown automaton over bytes made deterministic on the fly: a state is the set of all stacks the
 * text so far can have led to, states are interned, and each state's transitions (by class of byte) and mask are
 * computed once, when first needed. Stacks are interned lists, so equal futures are one state.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_GRAMMAR_H
#define MLXR_RUNTIME_GRAMMAR_GRAMMAR_H

#include "runtime/grammar/rules.h"
#include "runtime/grammar/trie.h"

#define GRAMMAR_DEAD 0u /* nothing can follow and the text is no sentence */
#define GRAMMAR_START 1u

typedef struct grammar grammar;

/* Takes the rules over, also on failure. `trie` must outlive the grammar. `root`: the start rule. */
mlxr_status grammar_open(grammar **out, rules *taken, uint32_t root, const token_trie *trie, mlxr_error *error);
/* GBNF text; the start rule is "root". Errors give line and column. */
mlxr_status grammar_open_gbnf(grammar **out, const char *text, size_t n, const token_trie *trie, mlxr_error *error);
/* A JSON Schema; see schema.c for the keywords. "{}": any JSON value. */
mlxr_status grammar_open_schema(grammar **out, const char *json, size_t n, const token_trie *trie, mlxr_error *error);
grammar *grammar_ref(grammar *g);
void grammar_unref(grammar **g);

/* The state after one more token, or GRAMMAR_DEAD. Tokens that end a generation keep a state that may end. */
uint32_t grammar_advance(grammar *g, uint32_t state, int32_t token);
/* The state after some bytes. */
uint32_t grammar_advance_bytes(grammar *g, uint32_t state, const char *bytes, size_t n);
/* Is the text so far a whole sentence? */
bool grammar_may_end(grammar *g, uint32_t state);
/* Bits [n_vocab] of the tokens allowed next, ends among them where the text may end. Copied to mask
 * [(n_vocab + 31) / 32]. MLXR_LIMIT where the grammar needs more states than are kept. */
mlxr_status grammar_mask(grammar *g, uint32_t state, uint32_t *mask, mlxr_error *error);

/* Bytes of memory it takes now; more as texts need further states and masks. */
size_t grammar_bytes(grammar *g);
/* Has it got so many states that what is left of its limits may be too little for another long text? */
bool grammar_is_grown(grammar *g);

typedef struct grammar_stats {
    uint32_t n_states, n_stacks, n_classes, n_masks;
    uint64_t n_walks; /* masks computed, not found */
} grammar_stats;
grammar_stats grammar_stats_get(grammar *g);

#endif
