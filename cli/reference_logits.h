/*
 * Files of reference logits: what one run predicted at each position of a text, for others to be compared with.
 * Owner: the verb. Lifetime: open to close. One thread.
 *
 * Little-endian; version 1. A head of 64 bytes:
 *      0  "MLXRREF\n"
 *      8  u32 version, u32 n_vocab, u32 n_window (tokens of the text in a window), i32 BOS before each window, or −1
 *     24  u64 n_tokens of the text, u64 n_rows
 *     40  u64 XXH3 of the text's ids (i32 each)
 *     48  u32 positions of each window whose predictions are left out, u32 0
 *     56  u64 XXH3 of the 56 bytes before
 * then for each predicted position, in order, a row:
 *      f32 greatest log-probability; u16 q[n_vocab]: a log-probability is the greatest − q × 32 / 65535, what is
 * farther below counts as 32 below; u64 XXH3 of the row's bytes before it. Rounding so costs a KL divergence about
 * 1e-8.
 */
#ifndef MLXR_CLI_REFERENCE_LOGITS_H
#define MLXR_CLI_REFERENCE_LOGITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define REFERENCE_DEPTH 32.0f /* nats below the greatest that a file tells apart */

typedef struct reference_text { /* what a reference is of */
    const int32_t *ids;         /* [n_tokens] */
    size_t n_tokens;
    uint32_t n_vocab, n_window, n_skip;
    int32_t bos; /* −1: none */
} reference_text;

typedef struct reference_file {
    FILE *file;
    const char *path; /* borrowed */
    char partial[4096];
    uint32_t n_vocab;
    uint64_t n_rows, row; /* in all (reading); written or read so far */
    uint8_t *bytes;       /* of a row */
    reference_text text;
    bool writing;
} reference_file;

/* Each tells what is wrong and returns false. */
bool reference_create(reference_file *f, const char *path, const reference_text *text);
bool reference_open(reference_file *f, const char *path, const reference_text *text);
/* log_probs [n_vocab], natural */
bool reference_put(reference_file *f, const float *log_probs);
bool reference_get(reference_file *f, float *log_probs);
/* After the last row: a written file appears under its name whole or not at all; a read one must be at its end. */
bool reference_finish(reference_file *f);
/* Gives up what is not finished. Harmless when it was, or was never opened. */
void reference_close(reference_file *f);

#endif
