/*
 * Unpacked panels × tiles of tokens with AMX's products of int8 tiles. Included by linear_blocks.h; uses its
 * definitions. Owner: const tables. Lifetime: static.
 *
 * Eight words of a panel's block are the eight rows of 64 bytes of a B tile as they lie, and the digits of up to eight
 * tokens, 64 bytes apart, the rows of an A tile. Of the eight tiles four hold sums (two panels × two digits), two the
 * tokens' digits and two the weights. Signed × signed serves every format: weights of up to six bits are positive, or
 * had their offset taken off when they were unpacked.
 *
 * Why 32 k a product, half of what a tile could hold: every 32 k of a row and of a token have scales of their own, and
 * integers must not be added over them. Filling 64 would take a second digit of the weights (scales as integers) and
 * other bits than every other kernel gives. So would a bf16 panel with its scales multiplied in, that needs no scales
 * at its end: exact enough only in two parts for weights and tokens, three products of half the rate, and a token's
 * result would depend on whether it came alone. By count, for 8 tokens × 32 rows × 32 k: 4 products of 8 rows each,
 * against 80 vector operations that turn their sums into floats, two a cycle, beside them; words of 16 bits take 256
 * + 48.
 *
 * Executed only in the software model so far (tests/kernels/model): single products, and both test models with the same
 * bits as every other set in all their logits. Its speed is not known.
 */
#define TILE_PANELS 2
#define PANEL_UNSIGNED false

INLINE void put_bytes(int bits, int shift, const block *v, uint8_t *to)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        v_put(to + i * VECTOR, shift && bits < 8 ? v_sub8(v->w[i], v_bytes(1 << shift)) : v->w[i]);
    }
}

/* Sums of two panels: [0], [1] of the high digit, [2], [3] of the low one. */
typedef struct tile_sums {
    _Alignas(64) int32_t of[4][LINEAR_TILE][ROWS];
} tile_sums;

/* The products of 4 × `words` k. */
INLINE void tile_products(int n_panels, const uint8_t *const w[2], const uint8_t *digits, tile_sums *sums)
{
    _tile_loadd(4, digits, Q16_DIGITS);
    _tile_loadd(5, digits + Q16_BLOCK, Q16_DIGITS);
    _tile_loadd(6, w[0], VECTOR);
    _tile_zero(0);
    _tile_zero(2);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(2, 5, 6);
    if (n_panels == 2) {
        _tile_loadd(7, w[1], VECTOR);
        _tile_zero(1);
        _tile_zero(3);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(3, 5, 7);
        _tile_stored(1, sums->of[1], VECTOR);
        _tile_stored(3, sums->of[3], VECTOR);
    }
    _tile_stored(0, sums->of[0], VECTOR);
    _tile_stored(2, sums->of[2], VECTOR);
}

/* acc += sums × scales of n tokens. */
INLINE void tile_scale(int n_panels, int n, const tile_sums *sums, const uint8_t *const scale[2], const uint8_t *units,
                       float *acc)
{
    for (int p = 0; p < n_panels; p++) {
        vflt of_rows = v_get_floats(scale[p]);
        for (int t = 0; t < n; t++) {
            vint sum = v_add32(v_left32(v_get(sums->of[p][t]), 8), v_get(sums->of[2 + p][t]));
            vflt factor = v_mul(of_rows, v_floats(float_at(units + 4 * t)));
            float *a = acc + (p * LINEAR_TILE + t) * ROWS;
            v_put_floats(a, v_fma(v_from_int(sum), factor, v_get_floats(a)));
        }
    }
}

INLINE void tile_minima(int kind, int n_panels, int n, const uint8_t *const scale[2], const uint8_t *words, float *acc)
{
    for (int p = 0; p < n_panels; p++) {
        for (int t = 0; t < n; t++) {
            const uint8_t *of = words + 4 * t;
            float *a = acc + (p * LINEAR_TILE + t) * ROWS;
            vflt sum = v_get_floats(a);
            if (kind == MIN) {
                sum = v_fma(v_get_floats(scale[p] + VECTOR), v_floats(float_at(of + Q16_SCALED_SUM * n * 4)), sum);
            } else {
                vflt unit = v_floats(float_at(of + Q16_UNIT * n * 4));
                vflt low = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_LOW * n * 4))), unit);
                vflt high = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_HIGH * n * 4))), unit);
                sum = v_fma(low, v_get_floats(scale[p] + 2 * VECTOR), sum);
                sum = v_fma(high, v_get_floats(scale[p] + 3 * VECTOR), sum);
            }
            v_put_floats(a, sum);
        }
    }
}

/* n tokens, a whole record × n_panels panels. */
INLINE void tile_pass(int kind, int n_panels, const uint8_t *panel, uint32_t n_in, const uint8_t *record, int n,
                      const panel_output *out, const panel_ahead *ahead)
{
    _Alignas(64) float acc[2 * LINEAR_TILE * ROWS] = {0};
    tile_sums sums[2];
    const size_t panel_bytes = n_in / Q16_BLOCK * BLOCK_BYTES(BYTE_VECTORS, kind);
    const uint8_t *far = ahead->bytes;
    amx_configure(n, kind & HALVES ? 16 : 32);
    for (uint32_t b = 0; b < n_in / Q16_BLOCK; b++) {
        const uint8_t *words = record + n * Q16_DIGITS, *units = words + Q16_UNIT * n * 4;
        const uint8_t *const w[2] = {panel, panel + panel_bytes};
        const uint8_t *const scale[2] = {w[0] + 8 * VECTOR, w[1] + 8 * VECTOR};
        tile_products(n_panels, w, record, &sums[0]);
        if (kind & HALVES) {
            const uint8_t *const half[2] = {w[0] + 4 * VECTOR, w[1] + 4 * VECTOR};
            const uint8_t *const high[2] = {scale[0] + VECTOR, scale[1] + VECTOR};
            tile_products(n_panels, half, record + 16, &sums[1]);
            tile_scale(n_panels, n, &sums[0], scale, units, acc);
            tile_scale(n_panels, n, &sums[1], high, units, acc);
        } else {
            tile_scale(n_panels, n, &sums[0], scale, units, acc);
        }
        if (kind & MIN) {
            tile_minima(kind, n_panels, n, scale, words, acc);
        }
        for (size_t i = 0; i < ahead->step; i += 64) {
            __builtin_prefetch(far + i, 0, 2);
        }
        far += ahead->step;
        panel += BLOCK_BYTES(BYTE_VECTORS, kind);
        record += n * Q16_RECORD_BYTES;
    }
    _tile_release();
    for (int p = 0; p < n_panels; p++) {
        panel_output part = panel_part(out, p);
        for (int t = 0; t < n; t++) {
            vflt sum = v_get_floats(acc + (p * LINEAR_TILE + t) * ROWS);
            store(t, 1, &sum, &part);
        }
    }
}

#define TILES(name, kind)                                                                                              \
    static void tile_##name(const uint8_t *panel, uint32_t n_in, const uint8_t *record, int n,                         \
                            const panel_output *out, const panel_ahead *ahead)                                         \
    {                                                                                                                  \
        if (out->n_rows > ROWS) {                                                                                      \
            tile_pass(kind, 2, panel, n_in, record, n, out, ahead);                                                    \
        } else {                                                                                                       \
            tile_pass(kind, 1, panel, n_in, record, n, out, ahead);                                                    \
        }                                                                                                              \
    }

TILES(plain, 0)
TILES(min, MIN)
TILES(halves, HALVES)
TILES(min_halves, MIN | HALVES)

/* Offsets are gone: formats differ by their scales and minima only. */
#define tile_q4_0 tile_plain
#define tile_q5_0 tile_plain
#define tile_q8 tile_plain
#define tile_min4 tile_min
#define tile_min5 tile_min
#define tile_q6_k tile_halves
#define tile_q3_k tile_halves
#define tile_q2_k tile_min_halves
