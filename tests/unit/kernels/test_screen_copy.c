/*
 * Greatest logits by a copy of the matrix with one scale a row: how far its products may be from the logits, and which
 * is the greatest does not depend on how it was found.
 * Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include <pthread.h>

#include "logits_matrix.h"

#define COPIED 16u /* behind so many passes the copy is made */

/* The matrix of logits is a small part of what a token reads: no halves are kept of it. */
static const tiny_options plain = {.n_layers = 1,
                                   .n_embd = 256,
                                   .n_head = 4,
                                   .n_head_kv = 2,
                                   .head_dim = 64,
                                   .n_ff = 2048,
                                   .n_vocab = 1003,
                                   .weights = DTYPE_Q8_0};

/* ---- kernels ---- */

enum { IN_MOST = 2048, ROW_BYTES_MOST = IN_MOST / 32 * 34 };

/* A block of rows, and inputs that meet it. */
typedef struct block_test {
    uint32_t n_in, n_rows, n_tokens;
    uint8_t rows[COARSE_ROWS * ROW_BYTES_MOST];
    float x[ROWS_MOST][IN_MOST];
    _Alignas(64) uint8_t block[COARSE_ROWS * IN_MOST];
    float scales[COARSE_ROWS], lengths[COARSE_ROWS], rests[COARSE_ROWS];
    _Alignas(64) uint8_t tiles[ROWS_MOST / COARSE_TILE * (IN_MOST * 8 + 1024)];
    uint16_t products[ROWS_MOST][COARSE_ROWS];
    float greatest[ROWS_MOST];
} block_test;

static block_test b;

static size_t row_bytes(void)
{
    return dtype_row_bytes(DTYPE_Q8_0, b.n_in);
}

static coarse_tile *tile_of(uint32_t token)
{
    return (coarse_tile *)(void *)(b.tiles + token / COARSE_TILE * coarse_tile_bytes(b.n_in));
}

static void multiply(void)
{
    coarse_kernels k = coarse_kernels_for(cpu_detect());
    k.make(b.rows, row_bytes(), b.n_in, b.n_rows, b.block, b.scales, b.lengths, b.rests);
    for (uint32_t t = 0; t < b.n_tokens; t += COARSE_TILE) {
        const float *src[COARSE_TILE] = {0};
        uint32_t n = b.n_tokens - t < COARSE_TILE ? b.n_tokens - t : COARSE_TILE;
        for (uint32_t i = 0; i < n; i++) {
            src[i] = b.x[t + i];
        }
        coarse_pack(b.n_in, n, src, tile_of(t));
    }
    k.products(b.block, b.scales, b.n_in, b.tiles, b.n_tokens, b.products[0], b.greatest, 1);
}

static void random_inputs(uint64_t *seed, float size, bool spikes)
{
    for (uint32_t t = 0; t < b.n_tokens; t++) {
        for (uint32_t i = 0; i < b.n_in; i++) {
            b.x[t][i] = size * tiny_uniform(seed) * (spikes && i % 97 == 5 ? 200.0f : 1.0f);
        }
    }
}

static void random_rows(uint64_t *seed, float size)
{
    float row[IN_MOST];
    for (uint32_t r = 0; r < b.n_rows; r++) {
        for (uint32_t i = 0; i < b.n_in; i++) {
            row[i] = size * tiny_uniform(seed) * (i / 32 % 3 == r % 3 ? 0.3f : 1.0f);
        }
        codec_encode(DTYPE_Q8_0, row, b.rows + r * row_bytes(), b.n_in, NULL);
    }
}

/* The integers of a row of the block. */
static int32_t weight_at(uint32_t row, uint32_t i)
{
    return (int32_t)b.block[(size_t)(row / 16 * 16) * b.n_in + i / 4 * 64 + row % 16 * 4 + i % 4] - 128;
}

static void check_products(void)
{
    static int32_t integers[IN_MOST];
    for (uint32_t t = 0; t < b.n_tokens; t++) {
        float greatest = -INFINITY, unit = tile_of(t)->unit[t % COARSE_TILE];
        coarse_read(tile_of(t), t % COARSE_TILE, b.n_in, integers);
        for (uint32_t r = 0; r < COARSE_ROWS; r++) {
            int32_t sum = 0;
            for (uint32_t i = 0; i < b.n_in; i++) {
                sum += integers[i] * weight_at(r, i);
            }
            float value = (float)sum * (b.scales[r] * unit), got = coarse_float(b.products[t][r]);
            greatest = fmaxf(greatest, value);
            assert_true(fabsf(got) <= fabsf(value) && fabsf(value) <= fabsf(got) * (1 + COARSE_ROUNDS));
        }
        assert_true(b.greatest[t] == greatest);
    }
}

static void products_are_those_of_the_integers(void **state)
{
    (void)state;
    if (!can_copy()) {
        skip();
    }
    uint64_t seed = 3;
    static const uint32_t sizes[] = {32, 64, 288, 576, 2048}, counts[] = {1, 2, 3, 5, 8, 9, 32, 33, 40};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint32_t n = 0; n < sizeof counts / sizeof *counts; n++) {
            b.n_in = sizes[i];
            b.n_rows = n % 2 ? COARSE_ROWS : 37;
            b.n_tokens = counts[n];
            random_rows(&seed, 0.1f);
            random_inputs(&seed, 3.0f, n % 3 == 0);
            multiply();
            check_products();
        }
    }
}

/* What a value of a row loses when the row has one scale. */
static float lost(const float *x, uint32_t at)
{
    float most = 0;
    for (uint32_t i = 0; i < b.n_in; i++) {
        most = fmaxf(most, fabsf(x[i]));
    }
    float whole = x[at] / most * 127.0f;
    return whole - rintf(whole);
}

/* The largest part of what the bound allows that a product is from the logit, and whether any bound is known. */
static double check_bound(void)
{
    static float exact[ROWS_MOST][COARSE_ROWS];
    static _Alignas(LINEAR_ALIGN) uint8_t packed[IN_MOST * 4], scratch[1u << 20];
    static int32_t integers[IN_MOST];
    linear_kernels k;
    linear_init(&k, cpu_detect());
    assert_true(linear_scratch_bytes(b.n_in) <= sizeof scratch);
    linear_weight w = {.data = b.rows, .row_bytes = row_bytes(), .type = DTYPE_Q8_0, .n_in = b.n_in, .n_out = b.n_rows};
    float most = 0;
    double worst = 0;
    multiply();
    for (uint32_t r = 0; r < b.n_rows; r++) {
        most = fmaxf(most, b.lengths[r]);
    }
    for (uint32_t t = 0; t < b.n_tokens; t++) {
        linear_input one = linear_input_make(LINEAR_Q16, 1, b.n_in, packed);
        linear_output out = {.dst = exact[t], .stride = COARSE_ROWS};
        linear_pack(&k, &one, 0, b.x[t]);
        linear_rows(&k, &w, &one, &out, 0, b.n_rows, scratch);
        coarse_read(tile_of(t), t % COARSE_TILE, b.n_in, integers);
        copy_reach reach = copy_reach_of(tile_of(t)->unit[t % COARSE_TILE], integers, &one, most);
        for (uint32_t r = 0; r < b.n_rows && !isnan(reach.length); r++) {
            double rough = (double)coarse_float(b.products[t][r]);
            double bound = (double)b.lengths[r] * (double)reach.length + (double)b.rests[r] * (double)reach.rest;
            double apart = fabs(rough - (double)exact[t][r]), rounds = fabs(rough) * (double)COARSE_ROUNDS;
            assert_true(apart <= bound + rounds);
            worst = bound > 0 ? fmax(worst, (apart - rounds) / bound) : worst;
            uint64_t all = coarse_kernels_for(cpu_detect())
                               .reaching(b.products[t], b.lengths, b.rests, reach.length, reach.rest, exact[t][r]);
            assert_true(all >> r & 1); /* nothing that is as great is missed */
        }
    }
    return worst;
}

static void what_the_copy_changes_is_within_the_bound(void **state)
{
    (void)state;
    if (!can_copy()) {
        skip();
    }
    uint64_t seed = 9;
    static const uint32_t sizes[] = {64, 576, 2048};
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t spikes = 0; spikes < 2; spikes++) {
            b.n_in = sizes[i];
            b.n_rows = COARSE_ROWS;
            b.n_tokens = ROWS_MOST;
            random_inputs(&seed, 1, spikes);
            random_rows(&seed, 0.05f);
            double worst = check_bound();
            assert_true(worst > 0.01);
        }
    }
}

/* Inputs and weights whose every loss has the other's sign: no bound of their lengths could be much lower. */
static void it_is_not_much_more_than_it_has_to_be(void **state)
{
    (void)state;
    if (!can_copy()) {
        skip();
    }
    uint64_t seed = 9;
    float row[IN_MOST];
    b.n_in = 576;
    b.n_rows = COARSE_ROWS;
    b.n_tokens = ROWS_MOST;
    random_inputs(&seed, 1, false);
    for (uint32_t t = 0; t < b.n_tokens; t++) {
        for (uint32_t i = 0; i < b.n_in; i++) { /* without fours that stand out, as lost() knows none */
            b.x[t][i] = i < 4 * (COARSE_FAR + 1) ? 1.0f : b.x[t][i];
        }
    }
    for (uint32_t r = 0; r < b.n_rows; r++) {
        for (uint32_t i = 0; i < b.n_in; i++) {
            row[i] = lost(b.x[r % ROWS_MOST], i);
        }
        codec_encode(DTYPE_Q8_0, row, b.rows + r * row_bytes(), b.n_in, NULL);
    }
    assert_true(check_bound() > 0.4);
}

static void it_is_within_the_bound_or_the_bound_is_not_known_where_numbers_are_tiny_or_huge(void **state)
{
    (void)state;
    if (!can_copy()) {
        skip();
    }
    uint64_t seed = 4;
    b.n_in = 256;
    b.n_rows = COARSE_ROWS;
    b.n_tokens = 9;
    for (int e = -120; e <= 120; e += 8) {
        random_inputs(&seed, ldexpf(1, e), e % 16 == 0);
        random_rows(&seed, 1e-6f);
        check_bound();
        random_rows(&seed, 1000.0f);
        check_bound();
    }
}

static void inputs_that_are_zero_or_no_numbers_are_told(void **state)
{
    (void)state;
    b.n_in = 64;
    b.n_tokens = 4;
    uint64_t seed = 4;
    random_inputs(&seed, 1, false);
    memset(b.x[1], 0, sizeof b.x[1]);
    b.x[2][17] = NAN;
    b.x[3][60] = -INFINITY;
    const float *src[COARSE_TILE] = {b.x[0], b.x[1], b.x[2], b.x[3]};
    coarse_pack(b.n_in, b.n_tokens, src, tile_of(0));
    const coarse_tile *t = tile_of(0);
    assert_true(t->unit[0] > 0 && t->unit[1] == 0 && isnan(t->unit[2]) && isnan(t->unit[3]));
}

static void *pack_the_widest(void *tile)
{
    static float x[COARSE_IN_MOST];
    const float *src[COARSE_TILE];
    for (uint32_t i = 0; i < COARSE_IN_MOST; i++) {
        x[i] = (float)(i % 97) - 48;
    }
    for (uint32_t t = 0; t < COARSE_TILE; t++) {
        src[t] = x;
    }
    coarse_pack(COARSE_IN_MOST, COARSE_TILE, src, tile);
    return tile;
}

static void the_widest_input_is_packed_on_the_stack_of_a_musl_thread(void **state)
{
    (void)state;
    static int32_t integers[COARSE_IN_MOST];
    coarse_tile *tile = aligned_alloc(LINEAR_ALIGN, coarse_tile_bytes(COARSE_IN_MOST));
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 128 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attributes, pack_the_widest, tile), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    for (uint32_t t = 0; t < COARSE_TILE; t++) {
        coarse_read(tile, t, COARSE_IN_MOST, integers);
        for (uint32_t i = 0; i < COARSE_IN_MOST; i++) {
            float x = (float)(i % 97) - 48;
            assert_true(fabsf((float)integers[i] * tile->unit[t] - x) <= tile->unit[t]);
        }
    }
    free(tile);
}

/* ---- programs ---- */

typedef logits_pair copied;

static copied copied_open(tiny *t, uint32_t n_threads, cpu_features features)
{
    copied s = logits_pair_open(t, ROWS_MOST, ROWS_MOST, n_threads, features);
    logits_pair_expect(&s, s.tokens, ROWS_MOST);
    return s;
}

static void copied_close(copied *s)
{
    logits_pair_close(s);
}

/* The first n tokens; returns how many rows it names. */
static uint32_t pass(copied *s, uint32_t n)
{
    return logits_pair_check(s, s->tokens, n, false);
}

static void passes(copied *s, uint32_t n_passes, uint32_t n)
{
    for (uint32_t i = 0; i < n_passes; i++) {
        pass(s, n);
    }
}

static copy_counts counts_of(const copied *s)
{
    return copy_count(s->r.prog);
}

/* screened: all passes behind the making of the copy are */
static void check_all_ways(tiny *t, bool screened)
{
    static const uint32_t counts[] = {1, 4, 5, 8, 17, 33, ROWS_MOST};
    for (uint32_t threads = 1; threads < 4; threads++) {
        copied s = copied_open(t, threads, cpu_detect());
        passes(&s, COPIED, 6);
        for (uint32_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            uint32_t n = pass(&s, counts[i]);
            assert_true(!screened || !can_copy() || n == counts[i]);
        }
        copy_counts c = counts_of(&s);
        assert_int_equal(c.n_screened - c.n_whole, screened && can_copy() ? sizeof counts / sizeof *counts : 0);
        copied_close(&s);
    }
}

static void the_greatest_is_that_of_whole_rows(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {64, 65, 100, 512, 513, 1003, 1536};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        tiny_options o = plain;
        o.n_vocab = sizes[i];
        tiny t;
        tiny_open(&t, &o);
        check_all_ways(&t, true);
        tiny_close(&t);
    }
}

static void the_first_of_equal_ones_is_named(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    for (uint32_t i = 0; i < 200; i++) {
        for (uint32_t copy = 1; copy < 3; copy++) {
            memcpy(tiny_logits_row(&t, 200 * copy + (copy * 37 + i) % 200), tiny_logits_row(&t, i), 256 / 32 * 34);
        }
    }
    check_all_ways(&t, true);
    tiny_close(&t);
}

static void rows_that_nearly_equal_each_other_are_told_apart(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    tiny_logits_alike(&t, 24);
    check_all_ways(&t, true);
    tiny_close(&t);
}

static void logits_that_are_all_alike_are_computed_whole_and_the_copy_is_let_go(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    tiny_logits_alike(&t, plain.n_vocab);
    for (uint32_t threads = 1; threads < 4; threads++) {
        copied s = copied_open(&t, threads, cpu_detect());
        passes(&s, COPIED, ROWS_MOST);
        assert_int_equal(counts_of(&s).n_bytes_kept > 0, can_copy());
        pass(&s, ROWS_MOST);
        assert_int_equal(counts_of(&s).n_whole, can_copy());
        assert_int_equal(counts_of(&s).n_bytes_kept, 0);
        passes(&s, 66, ROWS_MOST);
        copied_close(&s);
    }
    memset(tiny_logits_row(&t, 0), 0, plain.n_vocab * (size_t)(256 / 32 * 34));
    check_all_ways(&t, false);
    tiny_close(&t);
}

static void few_rows_alone_make_no_copy(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    copied s = copied_open(&t, 2, cpu_detect());
    passes(&s, 2 * COPIED, LINEAR_DIRECT);
    assert_int_equal(counts_of(&s).n_bytes_kept, 0);
    passes(&s, COPIED, LINEAR_DIRECT + 1);
    assert_int_equal(counts_of(&s).n_bytes_kept > 0, can_copy());
    copied_close(&s);
    tiny_close(&t);
}

/* And made again a while later, each time it did not pay a longer one: each way, results are the same. */
static void the_copy_is_let_go_before_a_pass_reads_the_whole_matrix(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    copied s = copied_open(&t, 2, cpu_detect());
    assert_int_equal(copy_kept_bytes(s.r.prog) > 0, can_copy());
    passes(&s, COPIED, 6);
    for (uint32_t pause = 64; can_copy() && pause <= 256; pause *= 2) {
        assert_int_equal(counts_of(&s).n_bytes_kept, copy_kept_bytes(s.r.prog)); /* the matrix is in no mapping */
        rig_logits(&s.r, s.tokens, 6, NULL, s.got);
        assert_memory_equal(s.got, s.whole, 6 * s.n_vocab * sizeof *s.got);
        for (uint32_t i = 0; i < pause; i++) {
            pass(&s, 6);
            assert_int_equal(counts_of(&s).n_bytes_kept, 0);
        }
        pass(&s, 6);
    }
    copied_close(&s);
    tiny_close(&t);
}

static void a_copy_that_is_refused_is_never_made_again(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &plain);
    copied s = copied_open(&t, 2, cpu_detect());
    passes(&s, COPIED, 6);
    copy_refuse(s.r.prog);
    for (uint32_t i = 0; i < 2 * COPIED; i++) {
        pass(&s, 6);
        assert_int_equal(counts_of(&s).n_bytes_kept, 0);
    }
    assert_int_equal(copy_kept_bytes(s.r.prog), 0);
    copied_close(&s);
    tiny_close(&t);
}

static void other_formats_and_other_processors_have_none(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_Q4_0, DTYPE_Q6_K, DTYPE_F32};
    for (uint32_t i = 0; i < 5; i++) {
        tiny_options o = plain;
        o.weights = i < 3 ? types[i] : DTYPE_Q8_0;
        tiny t;
        tiny_open(&t, &o);
        cpu_features without = CPU_HALVES;
        without = i == 4 ? CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 : without;
        copied s = copied_open(&t, 2, i < 3 ? cpu_detect() : cpu_detect() & ~without);
        passes(&s, COPIED + 2, 6);
        assert_int_equal(counts_of(&s).n_screened, 0);
        assert_int_equal(copy_kept_bytes(s.r.prog), 0);
        copied_close(&s);
        tiny_close(&t);
    }
}

static void weights_that_are_no_numbers_end_it(void **state)
{
    (void)state;
    static const uint16_t scales[] = {0x7e00, 0x7c00, 0xfc00}; /* NaN, ±infinity */
    for (uint32_t i = 0; i < 3; i++) {
        tiny t;
        tiny_open(&t, &plain);
        memcpy(tiny_logits_row(&t, 700), &scales[i], sizeof *scales);
        copied s = copied_open(&t, 2, cpu_detect());
        int32_t greatest[6];
        for (uint32_t n = 0; n < COPIED + 2; n++) { /* rows of NaN are equal to nothing */
            rig_logits(&s.r, s.tokens, 6, greatest, s.got);
        }
        assert_int_equal(counts_of(&s).n_screened + counts_of(&s).n_bytes_kept, 0);
        copied_close(&s);
        tiny_close(&t);
    }
}

/* Tokens behind one whose embedding is no number see it. */
static void inputs_that_are_no_numbers_leave_whole_rows(void **state)
{
    (void)state;
    tiny t;
    tiny_options o = plain;
    o.n_vocab = 128;
    tiny_open(&t, &o);
    uint16_t nan = 0x7e00;
    copied s = copied_open(&t, 2, cpu_detect());
    passes(&s, COPIED, 6);
    memcpy((uint8_t *)(uintptr_t)t.ops[0].weight->data + (size_t)s.tokens[2] * t.ops[0].weight->row_bytes, &nan,
           sizeof nan);
    int32_t greatest[6];
    rig_logits(&s.r, s.tokens, 6, greatest, s.got);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(greatest[i] == -1 || greatest[i] == greatest_of(s.got + (size_t)i * o.n_vocab, o.n_vocab));
    }
    assert_int_equal(counts_of(&s).n_whole, can_copy());
    copied_close(&s);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_the_integers),
        cmocka_unit_test(what_the_copy_changes_is_within_the_bound),
        cmocka_unit_test(it_is_not_much_more_than_it_has_to_be),
        cmocka_unit_test(it_is_within_the_bound_or_the_bound_is_not_known_where_numbers_are_tiny_or_huge),
        cmocka_unit_test(inputs_that_are_zero_or_no_numbers_are_told),
        cmocka_unit_test(the_widest_input_is_packed_on_the_stack_of_a_musl_thread),
        cmocka_unit_test(the_greatest_is_that_of_whole_rows),
        cmocka_unit_test(the_first_of_equal_ones_is_named),
        cmocka_unit_test(rows_that_nearly_equal_each_other_are_told_apart),
        cmocka_unit_test(logits_that_are_all_alike_are_computed_whole_and_the_copy_is_let_go),
        cmocka_unit_test(few_rows_alone_make_no_copy),
        cmocka_unit_test(the_copy_is_let_go_before_a_pass_reads_the_whole_matrix),
        cmocka_unit_test(a_copy_that_is_refused_is_never_made_again),
        cmocka_unit_test(other_formats_and_other_processors_have_none),
        cmocka_unit_test(weights_that_are_no_numbers_end_it),
        cmocka_unit_test(inputs_that_are_no_numbers_leave_whole_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
