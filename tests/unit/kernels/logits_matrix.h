/*
 * Matrices of logits as models have them, of tiny models: with usual weights, and in a file's mapping.
 * Owner: the test. Lifetime: the test's.
 */
#ifndef MLXR_LOGITS_MATRIX_H
#define MLXR_LOGITS_MATRIX_H

#include "base/mapping.h"
#include "tiny_plan.h"

#if defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_SANITIZED
#endif
#endif

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
