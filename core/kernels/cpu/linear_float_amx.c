/*
 * BF16 weights for AMX with BF16 tiles, whatever the number of tokens: inputs are rounded to bfloat16.
 * Owner: the caller's scratch; tiles are the thread's own within a call. Lifetime: the call.
 *
 * 16 weight rows are interleaved into a panel of B tiles, 32 k each: pair i of all rows is row i of a tile. Tokens are
 * A tiles as they lie. Two panels × up to 32 tokens are four sums that stay in tiles for all of k. tdpbf16ps rounds to
 * nearest even and takes subnormals as zero; a sum is a chain of products of 32 k, in each of which even and odd k are
 * added up apart. Neither the number of rows nor of tokens is in it: a token gets the same bits alone and among others.
 *
 * Rows that come next are fetched while these are multiplied, a few lines with each product, or for few tokens, where
 * that takes little time, while these are unpacked. Tiles are configured once for all blocks of as many tokens: that
 * takes as long as several products.
 *
 * Executed only in the software model so far (tests/kernels/model). Its speed is not known.
 */
#include <string.h>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/linear_ahead.h"
#include "kernels/cpu/linear_table.h"
#include "kernels/cpu/unpack_avx512.h"

#define DEPTH 32u                                  /* k of a tile */
#define TILE_BYTES ((size_t)16 * 64)               /* of a full tile */
#define TOKENS_MOST 32u                            /* two A tiles */
#define AHEAD(weight) ((weight)->row_bytes * ROWS) /* the next panel's row of the same number */
#define FEW_TOKENS (2 * TOKENS_MOST)

/* A block of results: up to two panels × up to two tiles of tokens. */
typedef struct amx_block {
    const uint8_t *panel[2];
    const uint16_t *tokens; /* the first one's row */
    size_t stride;          /* elements */
    uint32_t n_tokens, n_rows, n_in;
} amx_block;

/* What is fetched meanwhile: `step` bytes with the products of 32 k. */
typedef struct amx_ahead {
    const uint8_t *bytes, *end;
    size_t step;
} amx_ahead;

/* Sums 0 … 3 (tokens × panels), tokens 4 and 5, weights 6 and 7. */
static void configure(uint32_t n_tokens)
{
    const uint8_t n[2] = {(uint8_t)(n_tokens < 16 ? n_tokens : 16), (uint8_t)(n_tokens < 16 ? 0 : n_tokens - 16)};
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = i < 4 ? n[i / 2] : i < 6 ? n[i - 4] : (uint8_t)16;
        config.row_bytes[i] = config.rows[i] ? 64 : 0;
    }
    amx_stored();
    _tile_loadconfig(&config);
}

/* 32 k of rows [row, row + n_rows) from k on → a B tile; what does not exist is zero. */
static void unpack_tile(const linear_weight *weight, uint32_t row, uint32_t n_rows, uint32_t k, uint8_t *tile)
{
    const uint8_t *rows = (const uint8_t *)weight->data + row * weight->row_bytes + 2 * (size_t)k;
    uint32_t n = weight->n_in - k < DEPTH ? weight->n_in - k : DEPTH;
    size_t stride = weight->row_bytes;
    uint8_t copy[16][2 * DEPTH];
    if (n_rows < ROWS || n < DEPTH) {
        memset(copy, 0, sizeof copy);
        for (uint32_t r = 0; r < n_rows; r++) {
            memcpy(copy[r], rows + r * stride, 2 * (size_t)n);
        }
        rows = copy[0];
        stride = sizeof copy[0];
    }
    vint words[16];
    UNROLL
    for (int i = 0; i < 16; i += 8) {
        v_transpose_wide(rows + 4 * i, stride, words + i);
    }
    UNROLL
    for (int i = 0; i < 16; i++) {
        v_put(tile + 64 * i, words[i]);
    }
}

static void unpack_panel(const linear_weight *weight, uint32_t row, uint32_t end, bool few, uint8_t *panel)
{
    uint32_t n_rows = end - row < ROWS ? end - row : ROWS;
    const uint8_t *rows = (const uint8_t *)weight->data + row * weight->row_bytes;
    for (uint32_t k = 0; k < weight->n_in; k += DEPTH) {
        for (uint32_t r = 0; few && r < ROWS; r++) {
            __builtin_prefetch(rows + r * weight->row_bytes + AHEAD(weight) + 2 * (size_t)k, 0, 2);
        }
        unpack_tile(weight, row, n_rows, k, panel);
        panel += TILE_BYTES;
    }
}

/* The products of 32 k. `x` has tokens `stride` bytes apart. */
INLINE void products(const amx_block *b, const uint8_t *x, size_t stride, size_t at)
{
    const bool more_tokens = b->n_tokens > 16, more_rows = b->n_rows > ROWS;
    _tile_loadd(4, x, stride);
    _tile_loadd(6, b->panel[0] + at, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (more_rows) {
        _tile_loadd(7, b->panel[1] + at, 64);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (more_tokens) {
        _tile_loadd(5, x + 16 * stride, stride);
        _tile_dpbf16ps(2, 5, 6);
        if (more_rows) {
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

static void fetch(amx_ahead *ahead)
{
    const size_t step = ahead->bytes < ahead->end ? ahead->step : 0;
    for (size_t i = 0; i < step; i += 64) {
        __builtin_prefetch(ahead->bytes + i, 0, 2);
    }
    ahead->bytes += step;
}

/* Tiles are configured for the block's tokens. */
static void sum_block(const amx_block *b, amx_ahead *ahead, float sums[4][16][16])
{
    uint16_t tail[TOKENS_MOST][DEPTH];
    const uint32_t n_left = b->n_in % DEPTH, n_whole = b->n_in - n_left;
    for (uint32_t t = 0; n_left && t < b->n_tokens; t++) {
        memcpy(tail[t], b->tokens + t * b->stride + n_whole, n_left * sizeof **tail);
        memset(tail[t] + n_left, 0, (DEPTH - n_left) * sizeof **tail);
    }
    amx_stored();
    _tile_zero(0);
    _tile_zero(1);
    if (b->n_tokens > 16) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (uint32_t k = 0; k < n_whole; k += DEPTH) {
        products(b, (const uint8_t *)(b->tokens + k), b->stride * sizeof *b->tokens, k / DEPTH * TILE_BYTES);
        fetch(ahead);
    }
    if (n_left) {
        products(b, (const uint8_t *)tail, sizeof *tail, n_whole / DEPTH * TILE_BYTES);
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    if (b->n_tokens > 16) {
        _tile_stored(2, sums[2], 64);
        _tile_stored(3, sums[3], 64);
    }
    amx_stored();
}

static void store_block(const amx_block *b, float sums[4][16][16], const linear_output *output, uint32_t token,
                        uint32_t row)
{
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        for (uint32_t first = 0; first < b->n_rows; first += ROWS) {
            uint32_t n = b->n_rows - first < ROWS ? b->n_rows - first : ROWS;
            float *dst = output->dst + (token + t) * output->stride + row + first;
            vflt value = _mm512_loadu_ps(sums[t / 16 * 2 + first / ROWS][t % 16]);
            value = output->bias ? v_add(value, v_load_some(output->bias + row + first, n)) : value;
            value = output->add ? v_add(v_load_some(dst, n), value) : value;
            v_store_some(dst, value, n);
        }
    }
}

/* The rows behind `next`, as many as two panels have, evenly over the products of n_tokens; nothing for few. */
static amx_ahead ahead_of(const linear_weight *weight, uint32_t next, uint32_t end, uint32_t n_tokens)
{
    const size_t n_bytes = 2 * ROWS * weight->row_bytes;
    const size_t n_steps = (size_t)((n_tokens + TOKENS_MOST - 1) / TOKENS_MOST) * (weight->n_in / DEPTH);
    if (n_tokens <= FEW_TOKENS || n_steps == 0 || weight->n_out < 2 * ROWS) {
        return (amx_ahead){0};
    }
    const uint8_t *rows = linear_ahead(weight, next, end, n_bytes, 0);
    return (amx_ahead){.bytes = rows, .end = rows + n_bytes, .step = (n_bytes / 64 + n_steps) / n_steps * 64};
}

static void rows_bf16(const linear_weight *weight, const linear_input *input, const linear_output *output,
                      uint32_t begin, uint32_t end, void *scratch)
{
    const size_t panel_bytes = (weight->n_in + DEPTH - 1) / DEPTH * TILE_BYTES;
    const bool few = input->n_tokens <= FEW_TOKENS;
    uint8_t *panels = scratch;
    uint32_t configured = 0;
    _Alignas(64) float sums[4][16][16];
    for (uint32_t row = begin; row < end; row += 2 * ROWS) {
        uint32_t n_rows = end - row < 2 * ROWS ? end - row : 2 * ROWS;
        amx_ahead ahead = ahead_of(weight, row + n_rows, end, input->n_tokens);
        unpack_panel(weight, row, end, few, panels);
        if (n_rows > ROWS) {
            unpack_panel(weight, row + ROWS, end, few, panels + panel_bytes);
        }
        for (uint32_t token = 0; token < input->n_tokens; token += TOKENS_MOST) {
            uint32_t left = input->n_tokens - token;
            amx_block b = {.panel = {panels, panels + panel_bytes},
                           .tokens = (const uint16_t *)input->data + token * input->stride,
                           .stride = input->stride,
                           .n_tokens = left < TOKENS_MOST ? left : TOKENS_MOST,
                           .n_rows = n_rows,
                           .n_in = weight->n_in};
            if (b.n_tokens != configured) {
                configure(b.n_tokens);
                configured = b.n_tokens;
            }
            sum_block(&b, &ahead, sums);
            store_block(&b, sums, output, token, row);
        }
    }
    if (configured) {
        _tile_release();
    }
}

void linear_table_float_amx(linear_kernels *kernels)
{
    kernels->few[DTYPE_BF16] = kernels->many[DTYPE_BF16] = LINEAR_BF16;
    kernels->rows[DTYPE_BF16] = rows_bf16;
    kernels->isa[DTYPE_BF16] = "amx-bf16";
}
