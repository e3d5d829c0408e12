/*
 * Loops of any machine: vectors of 16 bytes, which every compiler maps to what the baseline has.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/limits.h"

#include <string.h>

typedef float vfloat __attribute__((vector_size(16)));
typedef uint32_t vword __attribute__((vector_size(16)));

enum { N_SUMS = 12 };

static uint32_t run_f32(uint32_t n_rounds)
{
    vfloat sum[N_SUMS], a = {0.5f, 0.25f, 0.5f, 0.25f}, b = {1.0f, 2.0f, 3.0f, 4.0f};
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        sum[i] = b * (float)i;
    }
    for (uint32_t r = 0; r < n_rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < N_SUMS; i++) {
            sum[i] = sum[i] * a + b;
        }
        __asm__ volatile("" ::: "memory"); /* a round is a round: nothing is folded over them */
    }
    float total = 0;
#pragma GCC unroll 16
    for (int i = 0; i < N_SUMS; i++) {
        total += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
    }
    uint32_t bits;
    memcpy(&bits, &total, sizeof bits);
    return bits;
}

static uint32_t read_words(const uint8_t *bytes, size_t n)
{
    vword sum[4] = {{0}};
    for (const uint8_t *end = bytes + n; bytes < end; bytes += sizeof sum) {
#pragma GCC unroll 16
        for (unsigned i = 0; i < 4; i++) {
            vword v;
            memcpy(&v, bytes + i * sizeof v, sizeof v);
            sum[i] += v;
        }
    }
    vword all = sum[0] + sum[1] + sum[2] + sum[3];
    return all[0] + all[1] + all[2] + all[3];
}

void limits_init(limits_loops *loops, cpu_features features)
{
    *loops = (limits_loops){.f32 = {run_f32, N_SUMS * 4 * 2, "baseline"}, .read = read_words};
    limits_table_arch(loops, features);
}
