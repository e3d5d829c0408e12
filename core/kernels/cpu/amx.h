/*
 * AMX's tiles: their configuration, which is a thread's own.
 * Owner: none. Lifetime: from amx_configure to _tile_release, within one call of a kernel. Included by *_amx.c only.
 */
#ifndef MLXR_KERNELS_CPU_AMX_H
#define MLXR_KERNELS_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>

/* Intel SDM vol. 1, 18.4: palette 1, eight tiles of up to 16 rows of 64 bytes. */
typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

/* gcc's intrinsics that read memory do not say so (ldtilecfg claims 8 of 64 bytes): what they read must be in memory
 * by now. */
static inline void amx_stored(void)
{
    __asm__ volatile("" ::: "memory");
}

#endif
