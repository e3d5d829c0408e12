/*
 * Integer linear layers for AMX with int8: panels of 16 rows. Up to LINEAR_FEW tokens are AVX-512 VNNI's.
 * Owner: const tables. Lifetime: static.
 *
 * Tiles are configured and released within a call: outside of it nothing is left for the system to save when it
 * switches threads. base/cpu.h asks for the permission to use them.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_avx512.h"

#define LINEAR_SUFFIX linear_table_amx
#define LINEAR_PANELS linear_panels_amx
#define LINEAR_MANY_ONLY
#define LINEAR_FEW_PANELS linear_panels_avx512vnni
#define LINEAR_ISA "amx"
#define MAKE_UNSIGNED false
#define TILE_MULTIPLY

/* For n rows of digits and products of `depth` k: sums 0 … 3, tokens 4 and 5, weights 6 and 7. */
static void amx_configure(int n, int depth)
{
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = (uint8_t)(i < 6 ? n : depth / 4);
        config.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? depth : 64);
    }
    amx_stored();
    _tile_loadconfig(&config);
}

#include "kernels/cpu/linear_blocks.h"
