/*
 * Matrices of logits as models have them, of tiny models: with usual weights, and in a file's mapping.
 * Owner: the test. Lifetime: the test's.
 */
#ifndef MLXR_LOGITS_MATRIX_H
#define MLXR_LOGITS_MATRIX_H

#include "base/mapping.h"
#include "tiny_plan.h"

#define ROWS_MOST 40u /* of a pass */
#define LARGE 16573u  /* tokens, of which one pass makes halves of 16,384 */
#define MADE 18u      /* passes behind which they are halves: 16 learn what is usual, 2 make them */

/* Of a model most of whose weights are the matrix of logits: halves are kept of it. */
#define LOGITS_MODEL(vocab)                                                                                            \
    {.n_layers = 1,                                                                                                    \
     .n_embd = 256,                                                                                                    \
     .n_head = 4,                                                                                                      \
     .n_head_kv = 2,                                                                                                   \
     .head_dim = 64,                                                                                                   \
     .n_ff = 256,                                                                                                      \
     .n_vocab = (vocab),                                                                                               \
     .weights = DTYPE_Q8_0}

static inline bool can_halve(cpu_features features)
{
    linear_kernels k;
    linear_init(&k, features);
    return halves_kernels_for(features).products && linear_format_for(&k, DTYPE_Q8_0, 1) == LINEAR_Q16;
}

static inline bool can_copy(void)
{
    return coarse_kernels_for(cpu_detect()).products != NULL;
}

/* Weights as models have them: few of a block are nearly as large as its largest, which uniform ones often are. */
static inline void open_normal(tiny *t, const tiny_options *o)
{
    float row[512];
    tiny_open(t, o);
    for (uint32_t i = 0; i < o->n_vocab; i++) {
        for (uint32_t j = 0; j < o->n_embd; j++) {
            row[j] = 0;
            for (uint32_t n = 0; n < 8; n++) {
                row[j] += 0.05f * tiny_uniform(&t->seed);
            }
        }
        codec_encode(DTYPE_Q8_0, row, tiny_logits_row(t, i), o->n_embd, NULL);
    }
}

/* A model that may have halves of its matrix or a copy, beside one of the same that never has any, as it is only asked
 * for all logits. */
typedef struct subject {
    tiny t;
    logits_pair l; /* of ROWS_MOST tokens */
} subject;

static inline void subject_open(subject *s, const tiny_options *plain, uint32_t n_vocab)
{
    tiny_options o = *plain;
    o.n_vocab = n_vocab;
    open_normal(&s->t, &o);
    s->l = logits_pair_open(&s->t, ROWS_MOST, ROWS_MOST, 2, cpu_detect());
}

static inline void subject_close(subject *s)
{
    logits_pair_close(&s->l);
    tiny_close(&s->t);
}

/* KiB of a file's mapping that are in this process's memory; −1: the system does not tell. */
static inline long resident_kib(const char *path)
{
    char line[1024];
    long kib = -1;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long begin, end;
        inside = sscanf(line, "%llx-%llx ", &begin, &end) == 2 ? strstr(line, path) != NULL : inside;
        long of_part;
        if (inside && sscanf(line, "Rss: %ld kB", &of_part) == 1) {
            kib = (kib < 0 ? 0 : kib) + of_part;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib;
}

/* KiB of this process's memory that are no file's; −1: the system does not tell, or a sanitizer keeps what is freed. */
static inline long anonymous_kib(void)
{
    char line[1024];
    long kib = -1;
#if defined(TEST_SANITIZED)
    FILE *f = NULL;
#else
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
#endif
    while (f && fgets(line, sizeof line, f) && sscanf(line, "Anonymous: %ld kB", &kib) != 1) {
    }
    if (f) {
        fclose(f);
    }
    return kib;
}

/* The matrix of a plan becomes a mapping of a file that has the same bytes. */
static inline mapping map_matrix(tiny *t, const char *path)
{
    mapping m;
    mlxr_error error;
    tensor *w = (tensor *)(uintptr_t)tiny_logits_matrix(t);
    assert_ok(mapping_open(&m, path, &error), &error);
    w->data = m.data;
    t->p.logits_mapped = true;
    return m;
}

#endif
