/*
 * Reading of hyper-parameters, group by group. Owner: hparams_read. Lifetime: the call.
 */
#ifndef MLXR_GRAPH_HPARAMS_READER_H
#define MLXR_GRAPH_HPARAMS_READER_H

#include "graph/hparams.h"

/* Reads keys under "<architecture>."; the first failure sticks, so that a row of reads needs one check at its end. */
typedef struct reader {
    const model_file *file;
    char arch[64];
    mlxr_status status;
    mlxr_error *error;
} reader;

/* "<architecture>.<suffix>" */
const char *key_of(const reader *r, const char *suffix, char *buffer, size_t cap);
/* These leave *out as it is where the key is missing. */
void read_u32(reader *r, const char *suffix, uint32_t *out);
void read_f32(reader *r, const char *suffix, float *out);
/* A flag: true or false, or a number that is 0 for false, as files of different writers have it. */
void read_flag(reader *r, const char *suffix, uint32_t *out);
/* A count that must be present and lie in [1, max]. */
void need_u32(reader *r, const char *suffix, uint32_t max, uint32_t *out);

/* ---- groups that have files of their own: hparams_mlp.c, hparams_mixers.c ---- */

/* One number, or an array with one a layer: 0 where a layer of one block has no MLP. */
void read_feed_forward(reader *r, hparams *h);
void read_experts(reader *r, hparams *h);
/* The MLPs' activation: derivatives of ModernBERT have another one than it, and their files say so. */
void read_activation(reader *r, hparams *h);
/* Of xIELU a number a layer, or one: all four of them, or tensors have them. */
void read_xielu(reader *r, hparams *h);
void read_mixers(reader *r, hparams *h);
/* Falcon-H1's. */
void read_multipliers(reader *r, hparams *h);

#endif
