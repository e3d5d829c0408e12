/*
 * Speed of linear layers at the shapes of real models: ns, GB/s of weights, GFLOP/s, ratio to scalar.
 * Owner: none. Lifetime: the program. Runs on a thread team of --threads members, as the executor does.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkkernels.h"
#include "kernels/cpu/linear.h"
#include "weights.h"

void check_linear_bench(check *c);

#define POOL_BYTES ((size_t)128 << 20) /* larger than the last cache: small batches read weights from memory */

typedef struct shape {
    const char *model;
    uint32_t n_in, n_out;
    dtype types[4]; /* ends at the first repeated F32 */
    uint32_t n_types;
} shape;

static const shape shapes[] = {
    {"smollm2 q,o", 576, 576, {DTYPE_Q4_1, DTYPE_Q4_0}, 2},
    {"smollm2 k,v", 576, 192, {DTYPE_Q4_1}, 1},
    {"smollm2 gate,up", 576, 1536, {DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_BF16}, 3},
    {"smollm2 down", 1536, 576, {DTYPE_Q4_1}, 1},
    {"smollm2 logits", 576, 49152, {DTYPE_Q8_0}, 1},
    {"gemma q", 640, 1024, {DTYPE_Q5_0}, 1},
    {"gemma k,v", 640, 256, {DTYPE_Q5_0, DTYPE_Q8_0}, 2},
    {"gemma o", 1024, 640, {DTYPE_Q4_K}, 1},
    {"gemma gate,up", 640, 2048, {DTYPE_Q5_0}, 1},
    {"gemma down", 2048, 640, {DTYPE_Q4_K, DTYPE_Q6_K}, 2},
    {"gemma logits", 640, 262144, {DTYPE_Q8_0}, 1},
    {"tinyllama q,o", 2048, 2048, {DTYPE_Q4_K, DTYPE_Q8_0, DTYPE_BF16, DTYPE_F16}, 4},
    {"tinyllama k,v", 2048, 256, {DTYPE_Q4_K}, 1},
    {"tinyllama gate,up", 2048, 5632, {DTYPE_Q4_K, DTYPE_Q5_K}, 2},
    {"tinyllama down", 5632, 2048, {DTYPE_Q4_K, DTYPE_Q6_K}, 2},
};
static const uint32_t batches[] = {1, 2, 4, 8, 16, 32, 128, 512};

typedef struct job {
    const linear_kernels *kernels;
    linear_weight weight;
    linear_input input;
    linear_output output;
    const float *x;
    uint8_t *scratch;
    size_t scratch_bytes;
    bool pack;
} job;

static void work(void *context, const team_member *member)
{
    const job *j = context;
    uint32_t begin, end;
    if (j->pack) {
        team_share(member, j->input.n_tokens, LINEAR_TILE, &begin, &end);
        for (uint32_t t = begin; t < end; t++) {
            linear_pack(j->kernels, &j->input, t, j->x + (size_t)t * j->input.n_in);
        }
        team_barrier(member);
    }
    team_share(member, j->weight.n_out, LINEAR_ROW_GRAIN, &begin, &end);
    linear_rows(j->kernels, &j->weight, &j->input, &j->output, begin, end,
                j->scratch + member->index * j->scratch_bytes);
}

/* Least seconds of one product: other programs only ever add; the weights lie in another part of the pool each time. */
static double measure(job *j, team *t, uint8_t *pool, bool hot, double budget)
{
    double least = INFINITY, begin = check_seconds();
    size_t matrix = j->weight.row_bytes * j->weight.n_out;
    size_t n_copies = POOL_BYTES / matrix && !hot ? POOL_BYTES / matrix : 1;
    int n = 0;
    while (n < 200 && (n < 3 || check_seconds() - begin < budget)) {
        j->weight.data = pool + (size_t)n % n_copies * matrix;
        double start = check_seconds();
        team_run(t, work, j);
        least = fmin(least, check_seconds() - start);
        n++;
    }
    return least;
}

/* Scalar seconds of the same product, from a few rows of it. */
static double measure_scalar(const job *j, uint8_t *pool)
{
    linear_kernels scalar;
    linear_init(&scalar, 0);
    uint32_t n_tokens = j->input.n_tokens < 4 ? j->input.n_tokens : 4, n_rows = 16;
    linear_input in = linear_input_wrap(j->x, j->input.n_in, n_tokens, j->input.n_in);
    linear_weight w = j->weight;
    w.data = pool;
    w.laid = false;
    double start = check_seconds();
    linear_rows(&scalar, &w, &in, &j->output, 0, n_rows, j->scratch);
    double seconds = check_seconds() - start;
    return seconds * j->weight.n_out / n_rows * j->input.n_tokens / n_tokens;
}

/* The rows at `rows` in the order of laid panels. */
static void lay_rows(const linear_kernels *kernels, dtype type, uint32_t n_in, size_t n_bytes, uint8_t *rows)
{
    size_t row_bytes = dtype_row_bytes(type, n_in), panel = LINEAR_ROW_GRAIN * row_bytes;
    uint8_t *copy = malloc(panel);
    for (size_t at = 0; copy && at < n_bytes; at += panel) {
        memcpy(copy, rows + at, panel);
        kernels->lay(type, copy, row_bytes, n_in, rows + at);
    }
    free(copy);
}

static void bench_one(check *c, const linear_kernels *kernels, team *t, const shape *s, dtype type, uint8_t *pool)
{
    if (strcmp(kernels->isa[type], c->set) != 0 || strcmp(c->set, "scalar") == 0) {
        return; /* measured with the set it is from; the scalar one is what all are compared with */
    }
    if (c->laid && !kernels->laid_rows[type]) {
        return;
    }
    size_t n = (size_t)s->n_in * s->n_out, n_bytes = dtype_row_bytes(type, s->n_in) * s->n_out;
    size_t filled = n_bytes < ((size_t)4 << 20) ? n_bytes : dtype_row_bytes(type, s->n_in) * 256;
    weights_fill(c, type, WEIGHTS_RANDOM, pool, filled / dtype_row_bytes(type, s->n_in) * s->n_in);
    if (c->laid) {
        lay_rows(kernels, type, s->n_in, filled, pool);
    }
    for (size_t at = filled; at < POOL_BYTES || at < n_bytes; at += filled) {
        size_t room = (POOL_BYTES > n_bytes ? POOL_BYTES : n_bytes) - at;
        memcpy(pool + at, pool, room < filled ? room : filled);
    }
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        uint32_t m = batches[b];
        if ((uint64_t)m * s->n_out > (uint64_t)1 << 25) {
            continue;
        }
        job j = {.kernels = kernels, .pack = true};
        j.weight = (linear_weight){.data = pool,
                                   .row_bytes = dtype_row_bytes(type, s->n_in),
                                   .type = type,
                                   .n_in = s->n_in,
                                   .n_out = s->n_out,
                                   .laid = c->laid};
        j.scratch_bytes = linear_scratch_bytes(s->n_in);
        linear_format format = linear_format_for(kernels, type, m);
        float *x = malloc((size_t)m * s->n_in * sizeof(float));
        float *dst = malloc((size_t)m * s->n_out * sizeof(float));
        void *packed = aligned_alloc(LINEAR_ALIGN, linear_input_bytes(format, m, s->n_in));
        j.scratch = aligned_alloc(LINEAR_ALIGN, j.scratch_bytes * team_size(t));
        if (x && dst && packed && j.scratch) {
            for (size_t i = 0; i < (size_t)m * s->n_in; i++) {
                x[i] = check_uniform(c, -1.0f, 1.0f);
            }
            j.x = x;
            j.input = linear_input_make(format, m, s->n_in, packed);
            j.output = (linear_output){.dst = dst, .stride = s->n_out};
            double seconds = measure(&j, t, pool, c->hot, c->quick ? 0.02 : 0.15);
            double scalar = measure_scalar(&j, pool);
            printf("%-18s %-5s %5u → %6u × %3u  %-11s %10.0f ns  %6.2f GB/s  %7.1f GFLOP/s  %6.1f × scalar\n", s->model,
                   dtype_name(type), s->n_in, s->n_out, m, kernels->isa[type], seconds * 1e9,
                   (double)n_bytes / seconds * 1e-9, 2.0 * (double)n * m / seconds * 1e-9, scalar / seconds);
            fflush(stdout);
        }
        free(x);
        free(dst);
        free(packed);
        free(j.scratch);
    }
}

void check_linear_bench(check *c)
{
    linear_kernels kernels;
    linear_init(&kernels, c->features);
    if (c->rounded) {
        linear_round(&kernels);
    }
    team *t = NULL;
    mlxr_error error;
    size_t pool_bytes = (size_t)192 << 20;                   /* the largest matrix: 262,144 rows of 640 in Q8_0 */
    uint8_t *pool = aligned_alloc(LINEAR_ALIGN, pool_bytes); /* as laid panels lie in a program */
    if (!pool || team_open(&t, c->n_threads, &error) != MLXR_OK) {
        fprintf(stderr, "checkkernels: no memory or threads for the benchmark\n");
        free(pool);
        return;
    }
    printf("%s, %u threads\n", c->set, c->n_threads);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (uint32_t k = 0; k < shapes[i].n_types; k++) {
            if ((!c->shape || strstr(shapes[i].model, c->shape)) &&
                (!c->type || strcmp(c->type, dtype_name(shapes[i].types[k])) == 0)) {
                bench_one(c, &kernels, t, &shapes[i], shapes[i].types[k], pool);
            }
        }
    }
    team_close(&t);
    free(pool);
}
