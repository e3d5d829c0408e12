/*
 * Token trie: the vocabulary's texts as one tree, so that a mask is one walk that skips what cannot match.
 * Owner: a model. Lifetime: the model's. Immutable; any thread.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_TRIE_H
#define MLXR_RUNTIME_GRAMMAR_TRIE_H

#include "text/tokenizer.h"

typedef struct trie_node { /* in preorder */
    uint32_t end;          /* index past the last descendant */
    int32_t token;         /* that ends here; −1: none */
    uint16_t depth;        /* 1: first byte of a token */
    uint8_t byte;
} trie_node;

typedef struct token_trie {
    const tokenizer *tokenizer;
    trie_node *nodes; /* [n_nodes] */
    uint32_t n_nodes, depth_max, n_vocab;
    int32_t *same; /* [n_vocab] further token of the same text, −1: none */
    int32_t *ends; /* [n_ends] tokens that end a generation */
    uint32_t n_ends;
} token_trie;

/* The tokenizer must outlive the trie. Tokens without text and special tokens are left out; ends are listed apart.
 * n_vocab: rows of logits. */
mlxr_status token_trie_open(token_trie **out, const tokenizer *t, uint32_t n_vocab, mlxr_error *error);
void token_trie_close(token_trie **trie);

#endif
