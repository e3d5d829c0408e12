/*
 * Unpacked panels × all tokens with AMX's products of int8 tiles. Included by linear_blocks.h; uses its definitions.
 * Owner: const tables. Lifetime: static.
 *
 * Eight words of a panel's block are the eight rows of 64 bytes of a B tile as they lie. The digits of up to eight
 * tokens, 32 bytes each and one after the other, are the rows of an A tile: of two digits a token, 16 rows, so that one
 * product serves both. Rows 2t and 2t + 1 of its sum are the higher and the lower one of token t. Signed × signed
 * serves every format: weights of up to six bits are positive, or had their offset taken off when they were unpacked.
 *
 * Why 32 k a product, half of what a tile could hold: every 32 k of a row and of a token have scales of their own, and
 * integers must not be added over them. Filling 64 would take a second digit of the weights (scales as integers) and
 * other bits than every other kernel gives. So would a bf16 panel with its scales multiplied in, that needs no scales
 * at its end: exact enough only in two parts for weights and tokens, three products of half the rate, and a token's
 * result would depend on whether it came alone.
 *
 * What bounds it is turning sums into floats: of 8 tokens × 32 rows × 32 k, 80 vector operations (with minima 96) on
 * two ports of a Sapphire Rapids, and 84 loads on two others, where two products of 16 rows take 32 cycles and eight
 * tokens' sums in registers leave memory the integers alone. So products come two blocks before the floats they are
 * for, which do not wait for them then. What L1 holds meanwhile are the panels of a few blocks (a stretch), met by up
 * to eight tiles of tokens, and these tokens' sums, which rest there between two stretches.
 *
 * Executed only in the software model so far (tests/kernels/model): single products, and both test models with the same
 * bits as every other set in all their logits. Its speed is not known, only counted (docs/performance.md).
 */
#define TILE_PANELS 2
#define PANEL_UNSIGNED false
#define TILE_GROUP 8u    /* tiles of tokens that meet a stretch */
#define TILE_STRETCH 12u /* its blocks, at most: 15 KB of two panels */

INLINE void put_bytes(int bits, int shift, const block *v, uint8_t *to)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        v_put(to + i * VECTOR, shift && bits < 8 ? v_sub8(v->w[i], v_bytes(1 << shift)) : v->w[i]);
    }
}

/* A block's sums by panel: of each token the higher digit's, then the lower one's, or the only one's. */
typedef struct tile_sums {
    _Alignas(64) int32_t of[TILE_PANELS][2 * LINEAR_TILE][ROWS];
} tile_sums;

/* Blocks of panels × tiles of tokens, whose records of the first of these blocks begin at `records`. */
typedef struct tile_stretch {
    const uint8_t *panel;
    size_t panel_bytes; /* to the second panel */
    uint32_t n_blocks;
    const uint8_t *records;
    size_t tile_bytes; /* from tile to tile */
    uint32_t n_tiles;
} tile_stretch;

/* A block of a stretch and a record of a tile. */
typedef struct tile_place {
    const uint8_t *panel, *record;
    uint32_t block, tile;
} tile_place;

INLINE size_t tile_record(int digits, int n)
{
    return (size_t)n * (Q16_RECORD_BYTES - Q16_DIGITS + (size_t)digits * Q16_BLOCK);
}

INLINE tile_place tile_first(const tile_stretch *s)
{
    return (tile_place){.panel = s->panel, .record = s->records};
}

/* Block by block, tile by tile; behind the last one the first comes again. */
INLINE void tile_advance(int kind, size_t record, const tile_stretch *s, tile_place *at)
{
    at->panel += BLOCK_BYTES(BYTE_VECTORS, kind);
    at->record += record;
    if (++at->block == s->n_blocks) {
        at->tile = at->tile + 1 < s->n_tiles ? at->tile + 1 : 0;
        at->block = 0;
        at->panel = s->panel;
        at->record = s->records + at->tile * s->tile_bytes;
    }
}

/* The products of a block, or of its lower and upper halves. Tiles 0 and 1 (2 and 3 of upper halves) are sums, 4 and 5
 * tokens, 6 and 7 weights. */
INLINE void tile_products(int kind, int n_panels, const tile_stretch *s, const tile_place *at)
{
    const uint8_t *first = at->panel, *second = first + s->panel_bytes;
    _tile_loadd(4, at->record, Q16_BLOCK);
    _tile_loadd(6, first, VECTOR);
    _tile_zero(0);
    _tile_dpbssd(0, 4, 6);
    if (n_panels == 2) {
        _tile_loadd(7, second, VECTOR);
        _tile_zero(1);
        _tile_dpbssd(1, 4, 7);
    }
    if (kind & HALVES) {
        _tile_loadd(5, at->record + Q16_BLOCK / 2, Q16_BLOCK);
        _tile_loadd(6, first + 4 * VECTOR, VECTOR);
        _tile_zero(2);
        _tile_dpbssd(2, 5, 6);
        if (n_panels == 2) {
            _tile_loadd(7, second + 4 * VECTOR, VECTOR);
            _tile_zero(3);
            _tile_dpbssd(3, 5, 7);
        }
    }
}

/* What they left, those of lower and upper halves in sums[0] and sums[1]. */
INLINE void tile_store(int kind, int n_panels, tile_sums *sums)
{
    _tile_stored(0, sums[0].of[0], VECTOR);
    if (n_panels == 2) {
        _tile_stored(1, sums[0].of[1], VECTOR);
    }
    if (kind & HALVES) {
        _tile_stored(2, sums[1].of[0], VECTOR);
        if (n_panels == 2) {
            _tile_stored(3, sums[1].of[1], VECTOR);
        }
    }
}

/* acc += sums × each panel's scales. */
INLINE void tile_scale(int digits, int n_panels, int n, const tile_sums *sums, const uint8_t *const scale[],
                       const uint8_t *units, vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        vflt unit = v_floats(float_at(units + 4 * t));
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            vint sum = v_get(sums->of[p][digits * t + digits - 1]);
            if (digits == 2) {
                sum = v_add32(v_left32(v_get(sums->of[p][2 * t]), 8), sum);
            }
            vflt factor = v_mul(v_get_floats(scale[p]), unit);
            acc[TILE_PANELS * t + p] = v_fma(v_from_int(sum), factor, acc[TILE_PANELS * t + p]);
        }
    }
}

/* acc += minima, which lie behind the scales, × what the tokens' integers add up to. */
INLINE void tile_minima(int kind, int n_panels, int n, const uint8_t *const scale[], const uint8_t *words, vflt acc[])
{
    UNROLL
    for (int t = 0; t < n; t++) {
        const uint8_t *of = words + 4 * t;
        vflt unit = v_floats(float_at(of + Q16_UNIT * n * 4));
        vflt low = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_LOW * n * 4))), unit);
        vflt high = v_mul(v_from_int(v_words(word_at(of + Q16_MINUS_HIGH * n * 4))), unit);
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            vflt *a = acc + TILE_PANELS * t + p;
            if (kind == MIN) {
                *a = v_fma(v_get_floats(scale[p] + VECTOR), v_floats(float_at(of + Q16_SCALED_SUM * n * 4)), *a);
            } else {
                *a = v_fma(low, v_get_floats(scale[p] + 2 * VECTOR), *a);
                *a = v_fma(high, v_get_floats(scale[p] + 3 * VECTOR), *a);
            }
        }
    }
}

/* acc += a block whose sums are there × the tokens of a record. */
INLINE void tile_floats(int kind, int digits, int n_panels, int n, const tile_sums *sums, const tile_stretch *s,
                        const tile_place *at, vflt acc[])
{
    const uint8_t *words = at->record + n * digits * Q16_BLOCK, *units = words + Q16_UNIT * n * 4;
    const uint8_t *first = at->panel + BYTE_VECTORS * VECTOR, *second = first + s->panel_bytes;
    const uint8_t *const scale[] = {first, second}, *const high[] = {first + VECTOR, second + VECTOR};
    tile_scale(digits, n_panels, n, &sums[0], scale, units, acc);
    if (kind & HALVES) {
        tile_scale(digits, n_panels, n, &sums[1], high, units, acc);
    }
    if (kind & MIN) {
        tile_minima(kind, n_panels, n, scale, words, acc);
    }
}

INLINE void tile_fetch(panel_ahead *ahead)
{
    const size_t step = ahead->bytes < ahead->end ? ahead->step : 0;
    for (size_t i = 0; i < step; i += 64) {
        __builtin_prefetch(ahead->bytes + i, 0, 2);
    }
    ahead->bytes += step;
}

/* totals[tile][LINEAR_TILE][TILE_PANELS][ROWS] += a stretch × tiles of n tokens. Products are two blocks ahead of the
 * floats, the last two for nothing. */
INLINE void tile_pass(int kind, int digits, int n_panels, int n, const tile_stretch *s, float *totals,
                      panel_ahead *ahead)
{
    const size_t record = tile_record(digits, n);
    /* 2 KB from each other: 4 KB, and reading one would seem to depend on what was just written to the other. */
    tile_sums sums[4], *now = sums, *next = sums + (kind & HALVES ? 2 : 1);
    tile_place at = tile_first(s), soon = at;
    tile_products(kind, n_panels, s, &soon);
    tile_store(kind, n_panels, now);
    tile_advance(kind, record, s, &soon);
    tile_products(kind, n_panels, s, &soon);
    tile_store(kind, n_panels, next);
    for (uint32_t tile = 0; tile < s->n_tiles; tile++) {
        vflt acc[TILE_PANELS * LINEAR_TILE] = {v_floats(0.0f)};
        UNROLL
        for (int i = 0; i < n * TILE_PANELS; i++) {
            acc[i] = v_get_floats(totals + i * ROWS);
        }
        for (uint32_t b = 0; b < s->n_blocks; b++) {
            tile_advance(kind, record, s, &soon);
            tile_products(kind, n_panels, s, &soon);
            tile_floats(kind, digits, n_panels, n, now, s, &at, acc);
            tile_store(kind, n_panels, now);
            tile_fetch(ahead);
            tile_advance(kind, record, s, &at);
            tile_sums *stored = now;
            now = next;
            next = stored;
        }
        UNROLL
        for (int i = 0; i < n * TILE_PANELS; i++) {
            v_put_floats(totals + i * ROWS, acc[i]);
        }
        totals += LINEAR_TILE * TILE_PANELS * ROWS;
    }
}

typedef void tile_pass_fn(int n, const tile_stretch *s, float *totals, panel_ahead *ahead);

/* The passes of a kind and a number of digits: two panels × a whole tile, and one or two × tokens of any number. */
typedef struct tile_kind {
    int kind, digits;
    tile_pass_fn *two, *two_any, *one_any;
} tile_kind;

/* n_tiles tiles of n tokens from `token` on × one or two panels. */
static void tile_group(const tile_kind *k, tile_pass_fn *pass, const uint8_t *panel, const linear_input *input,
                       uint32_t token, int n, uint32_t n_tiles, const panel_output *out, panel_ahead *ahead)
{
    _Alignas(64) float totals[TILE_GROUP][LINEAR_TILE][TILE_PANELS][ROWS];
    const uint32_t n_blocks = input->n_in / Q16_BLOCK, n_stretches = (n_blocks + TILE_STRETCH - 1) / TILE_STRETCH;
    const size_t block_bytes = BLOCK_BYTES(BYTE_VECTORS, k->kind), record = tile_record(k->digits, n);
    const uint8_t *tiles = q16_tile(input, token);
    memset(totals, 0, n_tiles * sizeof *totals);
    for (uint32_t i = 0; i < n_stretches; i++) {
        const uint32_t first = n_blocks * i / n_stretches, end = n_blocks * (i + 1) / n_stretches;
        const tile_stretch s = {.panel = panel + first * block_bytes,
                                .panel_bytes = n_blocks * block_bytes,
                                .n_blocks = end - first,
                                .records = tiles + first * record,
                                .tile_bytes = n_blocks * record,
                                .n_tiles = n_tiles};
        pass(n, &s, totals[0][0][0], ahead);
    }
    for (int p = 0; p < TILE_PANELS && (uint32_t)p * ROWS < out->n_rows; p++) {
        panel_output part = panel_part(out, p);
        for (int t = 0; t < (int)n_tiles * n; t++) {
            vflt sum = v_get_floats(totals[t / n][t % n][p]);
            store((int)token + t, 1, &sum, &part);
        }
    }
}

/* The same × all panels. */
static void tile_rows(const tile_kind *k, tile_pass_fn *two, const uint8_t *panels, const linear_input *input,
                      uint32_t token, int n, uint32_t n_tiles, const panel_output *out, panel_ahead *ahead)
{
    const size_t panel_bytes = input->n_in / Q16_BLOCK * BLOCK_BYTES(BYTE_VECTORS, k->kind);
    for (uint32_t row = 0; row < out->n_rows; row += TILE_PANELS * ROWS) {
        const uint32_t left = out->n_rows - row;
        panel_output part = *out;
        part.dst += row;
        part.bias = out->bias ? out->bias + row : NULL;
        part.n_rows = left < TILE_PANELS * ROWS ? left : TILE_PANELS * ROWS;
        tile_group(k, left > ROWS ? two : k->one_any, panels + row / ROWS * panel_bytes, input, token, n, n_tiles,
                   &part, ahead);
    }
}

static void tile_all(const tile_kind *k, const uint8_t *panels, const linear_input *input, const panel_output *out,
                     panel_ahead *ahead)
{
    const int depth = k->kind & HALVES ? Q16_BLOCK / 2 : Q16_BLOCK;
    const uint32_t n_whole = input->n_tokens / LINEAR_TILE, left = input->n_tokens % LINEAR_TILE;
    if (n_whole) {
        amx_configure(k->digits * LINEAR_TILE, depth);
    }
    for (uint32_t i = 0; i < n_whole; i += TILE_GROUP) {
        const uint32_t n_tiles = n_whole - i < TILE_GROUP ? n_whole - i : TILE_GROUP;
        tile_rows(k, k->two, panels, input, i * LINEAR_TILE, LINEAR_TILE, n_tiles, out, ahead);
    }
    if (left) {
        amx_configure(k->digits * (int)left, depth);
        tile_rows(k, k->two_any, panels, input, n_whole * LINEAR_TILE, (int)left, 1, out, ahead);
    }
    _tile_release();
}

#define TILE_PASS(name, kind, digits, n_panels, n_tokens)                                                              \
    static void name(int n, const tile_stretch *s, float *totals, panel_ahead *ahead)                                  \
    {                                                                                                                  \
        (void)n;                                                                                                       \
        tile_pass(kind, digits, n_panels, n_tokens, s, totals, ahead);                                                 \
    }
#define TILES_OF(name, kind, digits)                                                                                   \
    TILE_PASS(name##_##digits##_two, kind, digits, 2, LINEAR_TILE)                                                     \
    TILE_PASS(name##_##digits##_two_any, kind, digits, 2, n)                                                           \
    TILE_PASS(name##_##digits##_one_any, kind, digits, 1, n)                                                           \
    static void name##_##digits(const uint8_t *panels, const linear_input *input, const panel_output *out,             \
                                panel_ahead *ahead)                                                                    \
    {                                                                                                                  \
        static const tile_kind k = {kind, digits, name##_##digits##_two, name##_##digits##_two_any,                    \
                                    name##_##digits##_one_any};                                                        \
        tile_all(&k, panels, input, out, ahead);                                                                       \
    }
#define TILES(name, kind)                                                                                              \
    TILES_OF(name, kind, 2)                                                                                            \
    TILES_OF(name, kind, 1)

/* Offsets are gone: formats differ by their scales and minima only. */
TILES(tiles_plain, 0)
TILES(tiles_min, MIN)
TILES(tiles_halves, HALVES)
TILES(tiles_min_halves, MIN | HALVES)

#define tile_q4_0 tiles_plain
#define tile_q5_0 tiles_plain
#define tile_q8 tiles_plain
#define tile_min4 tiles_min
#define tile_min5 tiles_min
#define tile_q6_k tiles_halves
#define tile_q3_k tiles_halves
#define tile_q2_k tiles_min_halves
