/*
 * What the machine can reach at best: loops that only multiply, or only read. A benchmark prints its figures beside
 * them. Owner: none; const functions. Lifetime: the call. Any thread.
 */
#ifndef MLXR_KERNELS_CPU_LIMITS_H
#define MLXR_KERNELS_CPU_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"

/* Runs n rounds of multiply-adds on registers. What it returns depends on all of them,
 * and sums begin with different numbers, so that none is left out. */
typedef struct limits_loop {
    uint32_t (*run)(uint32_t n_rounds);
    uint32_t ops_per_round; /* a multiply-add is two; 0: the machine has no such instructions */
    const char *isa;
} limits_loop;

typedef struct limits_loops {
    limits_loop int8, bf16, f32;
    /* A sum over n bytes, a multiple of LIMITS_READ_GRAIN from an address that is one of 64. */
    uint32_t (*read)(const uint8_t *bytes, size_t n);
} limits_loops;

#define LIMITS_READ_GRAIN 1024u

void limits_init(limits_loops *loops, cpu_features features);

/* Of one instruction set each, in limits_<set>.c. */
void limits_table_arch(limits_loops *loops, cpu_features features);
void limits_table_dotprod(limits_loops *loops);
void limits_table_avx2(limits_loops *loops);
void limits_table_avxvnni(limits_loops *loops);
void limits_table_avx512(limits_loops *loops);
void limits_table_avx512vnni(limits_loops *loops);
void limits_table_avx512bf16(limits_loops *loops);
void limits_table_amx(limits_loops *loops, cpu_features features);

#endif
