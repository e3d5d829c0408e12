/*
 * Token trie.
 * Owner: a model. Lifetime: the model's.
 */
#include "runtime/grammar/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define TOKEN_BYTES_MAX 4096u /* longer tokens can never be sampled under a grammar */

typedef struct entry {
    token_text text;
    int32_t id;
} entry;

static int by_text(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int order = memcmp(x->text.data, y->text.data, n);
    if (order == 0) {
        order = (x->text.n > y->text.n) - (x->text.n < y->text.n);
    }
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

static size_t common_bytes(token_text a, token_text b)
{
    size_t n = a.n < b.n ? a.n : b.n, i = 0;
    while (i < n && a.data[i] == b.data[i]) {
        i++;
    }
    return i;
}

/* Lists the texts that can be generated, sorted; also fills trie->ends. */
static uint32_t list_tokens(token_trie *trie, const tokenizer *t, entry *list)
{
    uint32_t n = 0, n_tokens = tokenizer_size(t);
    for (uint32_t i = 0; i < n_tokens && i < trie->n_vocab; i++) {
        token_text text = tokenizer_piece(t, (int32_t)i);
        trie->same[i] = -1;
        if (tokenizer_is_end(t, (int32_t)i)) {
            trie->ends[trie->n_ends++] = (int32_t)i;
        } else if (!tokenizer_is_special(t, (int32_t)i) && text.n > 0 && text.n <= TOKEN_BYTES_MAX) {
            list[n++] = (entry){text, (int32_t)i};
        }
    }
    qsort(list, n, sizeof *list, by_text);
    return n;
}

/* Writes the nodes of sorted texts: each adds one node for every byte it does not share with the one before. */
static void build(token_trie *trie, const entry *list, uint32_t n)
{
    uint32_t open[TOKEN_BYTES_MAX + 1]; /* open[d]: node of depth d on the path to the newest text */
    uint32_t depth = 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t shared = i ? common_bytes(list[i - 1].text, list[i].text) : 0;
        if (i && shared == list[i].text.n) { /* the same text once more */
            trie->same[list[i - 1].id] = list[i].id;
            continue;
        }
        while (depth > shared) {
            trie->nodes[open[depth--]].end = trie->n_nodes;
        }
        for (size_t b = shared; b < list[i].text.n; b++) {
            open[++depth] = trie->n_nodes;
            trie->nodes[trie->n_nodes++] = (trie_node){
                .token = -1, .depth = (uint16_t)depth, .byte = (uint8_t)list[i].text.data[b]};
        }
        trie->nodes[trie->n_nodes - 1].token = list[i].id;
        trie->depth_max = depth > trie->depth_max ? depth : trie->depth_max;
    }
    while (depth > 0) {
        trie->nodes[open[depth--]].end = trie->n_nodes;
    }
}

mlxr_status token_trie_open(token_trie **out, const tokenizer *t, uint32_t n_vocab, mlxr_error *error)
{
    token_trie *trie = calloc(1, sizeof *trie);
    entry *list = calloc(n_vocab + 1u, sizeof *list);
    mlxr_status status = MLXR_OK;
    size_t n_bytes = 1;
    if (!trie || !list) {
        status = error_nomem(error, "token trie", n_vocab * sizeof *list);
        goto done;
    }
    trie->tokenizer = t;
    trie->n_vocab = n_vocab;
    trie->same = calloc(n_vocab + 1u, sizeof *trie->same);
    trie->ends = calloc(n_vocab + 1u, sizeof *trie->ends);
    if (!trie->same || !trie->ends) {
        status = error_nomem(error, "token trie", n_vocab * 2 * sizeof *trie->same);
        goto done;
    }
    uint32_t n = list_tokens(trie, t, list);
    for (uint32_t i = 0; i < n; i++) {
        n_bytes += list[i].text.n - (i ? common_bytes(list[i - 1].text, list[i].text) : 0);
    }
    trie->nodes = malloc(n_bytes * sizeof *trie->nodes);
    if (!trie->nodes) {
        status = error_nomem(error, "token trie", n_bytes * sizeof *trie->nodes);
        goto done;
    }
    build(trie, list, n);
    *out = trie;
    trie = NULL;
done:
    free(list);
    token_trie_close(&trie);
    return status;
}

void token_trie_close(token_trie **pointer)
{
    token_trie *trie = *pointer;
    if (trie) {
        free(trie->nodes);
        free(trie->same);
        free(trie->ends);
        free(trie);
        *pointer = NULL;
    }
}
