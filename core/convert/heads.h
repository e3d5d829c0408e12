/*
 * Value heads of a mixer in GGUF's order. Safetensors have those of key head 0 first, then those of key head 1; GGUF
 * (families with gguf_heads_in_turn) the first one of each key head, then the second one of each: a product with keys
 * that are repeated as a whole. What a head has moves with it: rows of what makes values, gates and steps, channels of
 * the convolution, and columns of what takes the result. Likewise Q, K and V of one matrix: side by side for each head,
 * in GGUF (qkv_by_heads) all of Q first: three "values" of each "key".
 * Owner: the source's memory. Lifetime: its own.
 */
#ifndef MLXR_CONVERT_HEADS_H
#define MLXR_CONVERT_HEADS_H

#include "convert/source.h"
#include "graph/hparams.h"

/* Heads of `size` rows (or columns) each, from row `first` on. */
typedef struct head_order {
    uint64_t first, size;
    uint32_t n_heads, n_keys;
    bool columns;
    const char *of; /* for errors: what kind of heads they are */
} head_order;

/* Which row (or column) of the folder becomes number `at`. */
uint64_t head_order_source(const head_order *order, uint64_t at);

/* The order of a folder's tensor of that name; false: it has the folder's own in GGUF, too. */
bool head_order_find(head_order *out, const hparams *h, const char *name);

/* Sets `order` of the tensors that have such heads; elements of vectors are put in order here. */
mlxr_status heads_in_turn(source *s, const hparams *h, mlxr_error *error);

#endif
