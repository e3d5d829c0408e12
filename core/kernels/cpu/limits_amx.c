/*
 * Limits with AMX: 16 × 16 products over a depth of 64 bytes, four sums at a time as a 2 × 2 block has them.
 * Owner: the caller's limits_loops. Lifetime: limits_init.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/limits.h"

static void begin(void)
{
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    amx_stored();
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
}

static uint32_t end(void)
{
    uint32_t sums[16][16];
    _tile_stored(0, sums, sizeof sums[0]);
    _tile_release();
    return sums[3][5];
}

static uint32_t run_int8(uint32_t n_rounds)
{
    begin();
    for (uint32_t r = 0; r < n_rounds; r++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    return end();
}

static uint32_t run_bf16(uint32_t n_rounds)
{
    begin();
    for (uint32_t r = 0; r < n_rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    return end();
}

void limits_table_amx(limits_loops *loops, cpu_features features)
{
    if (features & CPU_AMX_INT8) {
        loops->int8 = (limits_loop){run_int8, 4 * 16 * 16 * 64 * 2, "amx-int8"};
    }
    if (features & CPU_AMX_BF16) {
        loops->bf16 = (limits_loop){run_bf16, 4 * 16 * 16 * 32 * 2, "amx-bf16"};
    }
}
