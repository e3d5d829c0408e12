/*
 * Reference logits as tools/oracle/check_logits.py packs them, and the error against them.
 * Owner: the caller closes `file`. Lifetime: the mapping's.
 */
#ifndef MLXR_TEST_REFERENCE_LOGITS_H
#define MLXR_TEST_REFERENCE_LOGITS_H

#include "base/mapping.h"
#include "support/test.h"

/* What the rows are: logits, of an encoder hidden states, behind each token; the score of the text that ends there; its
 * vector. */
typedef enum reference_kind { REFERENCE_LOGITS, REFERENCE_SCORES, REFERENCE_VECTORS } reference_kind;

typedef struct reference {
    uint32_t n_tokens, n_vocab, stride;
    reference_kind kind;
    const int32_t *ids;  /* [n_tokens] */
    const float *logits; /* position p: ids v with v % stride == p % stride */
    mapping file;
} reference;

/* tests/oracle/FOLDER/NAME */
static inline void reference_open_file(reference *r, const char *folder, const char *name)
{
    mlxr_error error;
    char path[256];
    snprintf(path, sizeof path, "tests/oracle/%s/%s", folder, name);
    assert_ok(mapping_open(&r->file, path, &error), &error);
    const char *data = (const char *)r->file.data;
    assert_true(r->file.n_bytes > 24);
    assert_memory_equal(data, "MLXRLOG1", 8);
    memcpy(&r->n_tokens, data + 8, 4);
    memcpy(&r->n_vocab, data + 12, 4);
    memcpy(&r->stride, data + 16, 4);
    uint32_t kind;
    memcpy(&kind, data + 20, 4);
    r->kind = (reference_kind)kind;
    r->ids = (const int32_t *)(const void *)(data + 24);
    r->logits = (const float *)(const void *)(data + 24 + 4 * (size_t)r->n_tokens);
    assert_int_equal(r->file.n_bytes, 24 + 4 * (size_t)r->n_tokens * (1 + r->n_vocab / r->stride));
}

/* tests/oracle/FOLDER/NAME.bin */
static inline void reference_open(reference *r, const char *folder, const char *name)
{
    char file[128];
    snprintf(file, sizeof file, "%s.bin", name);
    reference_open_file(r, folder, file);
}

typedef struct error_sum {
    double wrong, all;
} error_sum;

/* Adds the squared errors of one position's logits [n_vocab]. */
static inline void add_position(error_sum *sum, const reference *r, uint32_t position, const float *logits)
{
    uint32_t n_kept = r->n_vocab / r->stride;
    for (uint32_t i = 0; i < n_kept; i++) {
        double expected = (double)r->logits[(size_t)position * n_kept + i];
        double found = (double)logits[position % r->stride + i * r->stride];
        sum->wrong += (found - expected) * (found - expected);
        sum->all += expected * expected;
    }
}

#endif
