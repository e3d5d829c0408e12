/*
 * Cases: small plans with one kind of operation in them, by which our kernels are checked on a device. The same numbers
 * everywhere: whole numbers of a generator made floats, blocks of random bits that decode to weights of usual size.
 * Owner: kernel_world is the caller's. Lifetime: kernel_world_open to kernel_world_close.
 *
 * Whether results are right is seen in small cases, for which the scalar backend's results are recorded
 * (kernel_vectors.c; tests/metal/test_vectors.c makes and checks them). Speed is measured in large ones: a chain of the
 * same operation, each of whose links needs the one before.
 */
#ifndef MLXR_KERNELS_MLX_CASES_H
#define MLXR_KERNELS_MLX_CASES_H

#include "base/region.h"
#include "kernels/backend.h"
#include "kernels/mlx/units.h"

#define KERNEL_CASES_MAX 5u
#define KERNEL_CASE_OPS 128u
#define KERNEL_SAMPLES 24u

typedef struct kernel_case {
    kernel_unit unit;
    bool timed;
    uint32_t n_rows, n_slices; /* of each slice; how many alike */
    uint32_t start;            /* positions before them */
    uint32_t n_links;
    uint32_t n_in, n_out;                        /* NORM: n_in in n_out groups; products */
    uint32_t n_head, n_head_kv, head_dim, n_rot; /* ROPE and attention */
    uint32_t window;
    float softcap;
    bool biased, sinks, pairs;
    activation act;
    dtype kv;
} kernel_case;

/* The cases of a unit; returns how many. */
uint32_t kernel_cases(kernel_unit unit, bool timed, kernel_case out[KERNEL_CASES_MAX]);

typedef struct kernel_world {
    region memory;
    uint64_t random;
    plan p;
    op ops[KERNEL_CASE_OPS];
    step s;
    void *kv; /* s.kv.base[0] */
    size_t n_logits;
} kernel_world;

/* `plain`: weights are decoded to F32, for those who round what they multiply with others. */
mlxr_status kernel_world_open(kernel_world *out, const kernel_case *c, bool plain, mlxr_error *error);
void kernel_world_close(kernel_world *w);

/* What the scalar backend gave for case `index` of a unit: KERNEL_SAMPLES of its logits, evenly spread, as bits. */
typedef struct kernel_vector {
    const char *unit;
    uint32_t index;
    uint32_t samples[KERNEL_SAMPLES];
} kernel_vector;

extern const kernel_vector kernel_vectors[]; /* ends with a row whose unit is NULL */

/* NULL: none is recorded. */
const kernel_vector *kernel_vector_find(const kernel_vector *all, kernel_unit unit, uint32_t index);
/* Which element of the logits sample i is. */
static inline size_t kernel_sample_at(size_t n_logits, uint32_t i)
{
    return n_logits / KERNEL_SAMPLES * i + i % (n_logits / KERNEL_SAMPLES);
}

#endif
