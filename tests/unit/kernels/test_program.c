/*
 * Programs of the CPU backend on tiny random models: right against plain mathematics, and the same however a step is
 * cut, batched, threaded or paged.
 * Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"

#include "tiny_plan.h"
#include "tiny_reference.h"

#define N_TOKENS 150u

static const tiny_options plain = {
    .n_layers = 3, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .head_dim = 16, .n_ff = 96, .n_vocab = 67};

static tiny_options with_everything(void)
{
    tiny_options o = plain;
    o.window = 21;
    o.n_rot = 12;
    o.rope = ROPE_PAIRS;
    o.norm = NORM_LAYER;
    o.act = ACT_GELU_ERF;
    o.qk_norm = o.post_norm = o.biases = o.sinks = o.scans = true;
    o.softcap = 5.0f;
    return o;
}

/* The oracle, and the fast program with each level of instruction sets this machine has. */
typedef struct way {
    const char *name;
    bool scalar;
    cpu_features features;
} way;

static uint32_t ways(way out[4])
{
    const cpu_features avx512 = CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_ADDS;
    cpu_features all = cpu_detect(), avx2 = all & ~avx512;
    uint32_t n = 0;
    out[n++] = (way){"the oracle", true, 0};
    out[n++] = (way){"no vectors", false, 0};
    if (all & CPU_AVX512) {
        out[n++] = (way){"below AVX-512", false, avx2};
    }
    out[n++] = (way){"all features", false, all};
    return n;
}

static float *logits_alloc(uint32_t n)
{
    float *l = calloc(n, sizeof *l);
    assert_non_null(l);
    return l;
}

static void check_against_reference(const tiny_options *o, const way *w, dtype kv_type, uint32_t page_tokens,
                                    double bound)
{
    tiny t;
    rig r;
    tiny_open(&t, o);
    int32_t *tokens = tiny_tokens(&t, N_TOKENS);
    float *expected = logits_alloc(N_TOKENS * o->n_vocab), *got = logits_alloc(N_TOKENS * o->n_vocab);
    tiny_reference(&t, tokens, N_TOKENS, expected);
    rig_open(&r, &t, w->scalar, 2, w->features, kv_type, page_tokens, 64);
    timeline line = timeline_make(&r, tokens, 3, 5);
    rig_compute(&r, &line, N_TOKENS, N_TOKENS, got);
    double nmse = tiny_nmse(got, expected, (size_t)N_TOKENS * o->n_vocab);
    if (!(nmse <= bound)) {
        fail_msg("%s: NMSE %g above %g", w->name, nmse, bound);
    }
    rig_close(&r);
    tiny_close(&t);
    free(expected);
    free(got);
}

static void logits_equal_plain_mathematics(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    for (uint32_t i = 0; i < n; i++) {
        tiny_options all = with_everything();
        check_against_reference(&plain, &all_ways[i], DTYPE_F32, 16, 1e-11);
        check_against_reference(&all, &all_ways[i], DTYPE_F32, 16, 1e-11);
        all.act = ACT_RELU;
        all.n_head_kv = 1;
        check_against_reference(&all, &all_ways[i], DTYPE_F32, 4, 1e-11);
        all.act = ACT_GELU_TANH;
        all.n_head_kv = 4;
        check_against_reference(&all, &all_ways[i], DTYPE_F32, 256, 1e-11);
    }
}

static void every_head_size_works(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {2, 6, 8, 20, 24, 40, 80, 100, 128, 256, 320};
    way all_ways[4];
    uint32_t n = ways(all_ways);
    for (uint32_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        tiny_options o = plain;
        o.n_layers = 1;
        o.head_dim = sizes[s];
        o.n_embd = 32;
        for (uint32_t i = 0; i < n; i++) {
            check_against_reference(&o, &all_ways[i], DTYPE_F32, 16, 1e-11);
        }
    }
}

static void many_query_heads_share_a_key_head(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    tiny_options o = plain;
    o.n_layers = 1;
    o.n_head_kv = 1;
    for (o.n_head = 31; o.n_head < 72; o.n_head += 20) {
        for (uint32_t i = 0; i < n; i++) {
            check_against_reference(&o, &all_ways[i], DTYPE_F32, 16, 1e-11);
        }
    }
}

static void logits_survive_rounded_keys(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    tiny_options all = with_everything();
    for (uint32_t i = 0; i < n; i++) {
        check_against_reference(&all, &all_ways[i], DTYPE_F16, 16, 1e-6);
        check_against_reference(&all, &all_ways[i], DTYPE_BF16, 16, 1e-4);
    }
    all.head_dim = 32;
    for (uint32_t i = 0; i < n; i++) {
        check_against_reference(&all, &all_ways[i], DTYPE_I16, 32, 1e-6);
        check_against_reference(&all, &all_ways[i], DTYPE_Q8_0, 16, 1.3e-3); /* 13 × BF16, see tests/oracle */
        check_against_reference(&all, &all_ways[i], DTYPE_Q4_0, 16, 0.3);    /* 230 × that */
    }
}

static void quantised_weights_and_embeddings_are_decoded(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    tiny_options o = plain;
    for (uint32_t i = 0; i < n; i++) {
        o.weights = DTYPE_Q8_0;
        check_against_reference(&o, &all_ways[i], DTYPE_F32, 16, all_ways[i].scalar ? 1e-11 : 1e-7);
        o.weights = DTYPE_BF16;
        check_against_reference(&o, &all_ways[i], DTYPE_F32, 16, all_ways[i].scalar ? 1e-11 : 1e-3);
    }
}

/* Computes the same tokens in two ways and wants equal bits. */
typedef struct manner {
    uint32_t n_threads, chunk, page_tokens, first_page, page_stride;
} manner;

static float *compute_in_manner(const tiny *t, const int32_t *tokens, const way *w, dtype kv_type, manner m)
{
    rig r;
    rig_open(&r, t, w->scalar, m.n_threads, w->features, kv_type, m.page_tokens, 97);
    float *logits = logits_alloc(N_TOKENS * t->o.n_vocab);
    timeline line = timeline_make(&r, tokens, m.first_page, m.page_stride);
    rig_compute(&r, &line, N_TOKENS, m.chunk, logits);
    rig_close(&r);
    return logits;
}

/* Pages of words are whole parts. */
static manner of_type(manner m, dtype kv_type)
{
    m.page_tokens = kv_type == DTYPE_I16 && m.page_tokens < KV_PART ? KV_PART : m.page_tokens;
    return m;
}

static void check_manners(const way *w, dtype kv_type, dtype weights)
{
    static const manner manners[] = {{1, N_TOKENS, 16, 0, 1}, {2, N_TOKENS, 16, 0, 1}, {3, 37, 16, 0, 1},
                                     {2, 1, 16, 0, 1},        {2, 7, 16, 0, 1},        {2, N_TOKENS, 16, 5, 31},
                                     {1, 64, 2, 7, 13},       {2, 50, 128, 7, 13},     {1, 3, 256, 90, 1}};
    tiny_options o = with_everything();
    o.weights = weights;
    o.head_dim = kv_type == DTYPE_I16 || kv_type == DTYPE_Q8_0 || kv_type == DTYPE_Q4_0 ? 32 : o.head_dim;
    tiny t;
    tiny_open(&t, &o);
    int32_t *tokens = tiny_tokens(&t, N_TOKENS);
    float *first = compute_in_manner(&t, tokens, w, kv_type, of_type(manners[0], kv_type));
    for (size_t i = 1; i < sizeof manners / sizeof *manners; i++) {
        float *other = compute_in_manner(&t, tokens, w, kv_type, of_type(manners[i], kv_type));
        double nmse = tiny_nmse(other, first, (size_t)N_TOKENS * o.n_vocab);
        if (memcmp(first, other, (size_t)N_TOKENS * o.n_vocab * sizeof *first) != 0) {
            fail_msg("%s: manner %zu differs: NMSE %g", w->name, i, nmse);
        }
        free(other);
    }
    free(first);
    tiny_close(&t);
}

static void results_do_not_depend_on_chunks_threads_or_pages(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    for (uint32_t i = 0; i < n; i++) {
        check_manners(&all_ways[i], i % 2 ? DTYPE_F16 : DTYPE_F32, DTYPE_F32);
    }
    check_manners(&all_ways[n - 1], DTYPE_BF16, DTYPE_Q4_1);
    check_manners(&all_ways[n - 1], DTYPE_F32, DTYPE_BF16);
    check_manners(&all_ways[n - 2], DTYPE_F16, DTYPE_Q8_0);
    for (uint32_t i = 1; i < n; i++) {
        check_manners(&all_ways[i], DTYPE_I16, DTYPE_F32);
        check_manners(&all_ways[i], DTYPE_Q8_0, DTYPE_F32);
        check_manners(&all_ways[i], DTYPE_Q4_0, DTYPE_F32);
    }
}

static void the_first_layers_what_is_before_them_and_logits_are_not_rounded(void **state)
{
    (void)state;
    static program prog;
    for (uint16_t layer = 0; layer < 4; layer++) {
        op o = {.kind = OP_LINEAR, .layer = layer, .dst = SLOT_Q};
        assert_ptr_equal(program_kernels(&prog, &o), layer < 2 ? &prog.linear : &prog.rounded);
    }
    op inputs = {.kind = OP_LINEAR, .layer = STEP_NO_LAYER, .dst = SLOT_LP};
    op logits = {.kind = OP_LINEAR, .layer = 7, .dst = SLOT_LOGITS};
    assert_ptr_equal(program_kernels(&prog, &inputs), &prog.linear);
    assert_ptr_equal(program_kernels(&prog, &logits), &prog.linear);
}

static void heads_that_are_no_whole_blocks_are_refused(void **state)
{
    (void)state;
    mlxr_error error;
    assert_int_equal(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 80}, DTYPE_Q8_0, &error),
                     MLXR_UNSUPPORTED);
    assert_string_equal(error.text, "KV type q8_0 stores heads in blocks of 32 elements, but this model's heads have "
                                    "80; use f16, bf16 or f32");
    assert_int_equal(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 16}, DTYPE_Q4_0, &error),
                     MLXR_UNSUPPORTED);
    assert_int_equal(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 64}, DTYPE_Q6_K, &error),
                     MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "f32, f16, bf16, i16, q8_0, q4_0"));
    const dtype words = DTYPE_I16;
    assert_int_equal(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 80}, words, &error),
                     MLXR_UNSUPPORTED);
    assert_string_equal(error.text, "KV type i16 stores heads in blocks of 32 elements, but this model's heads have "
                                    "80; use f16, bf16 or f32");
    assert_int_equal(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 2048}, words, &error),
                     MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "KV type i16 stores heads of up to 1024 elements"));
    const kv_group latent = {.n_layers = 1, .n_head_kv = 1, .head_dim = 576, .one_row = true};
    assert_int_equal(kv_layout_check(&latent, words, &error), MLXR_UNSUPPORTED);
    assert_ok(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 96}, DTYPE_Q4_0, &error), &error);
    assert_ok(kv_layout_check(&(kv_group){.n_layers = 1, .n_head_kv = 1, .head_dim = 7}, DTYPE_BF16, &error), &error);
}

/* Three sequences of unequal length in mixed steps, against each alone. */
static void check_batch(const way *w, dtype kv_type)
{
    enum { LINES = 3 };
    static const uint32_t lengths[LINES] = {90, 33, 60};
    tiny_options o = with_everything();
    o.head_dim = 32;
    tiny t;
    tiny_open(&t, &o);
    rig r;
    rig_open(&r, &t, w->scalar, 2, w->features, kv_type, 16, 60);
    timeline lines[LINES];
    float *alone[LINES], *together[LINES];
    float *step_logits = logits_alloc(200 * o.n_vocab);
    for (uint32_t i = 0; i < LINES; i++) {
        lines[i] = timeline_make(&r, tiny_tokens(&t, lengths[i]), i * 20, 1);
        alone[i] = logits_alloc(lengths[i] * o.n_vocab);
        together[i] = logits_alloc(lengths[i] * o.n_vocab);
        rig_compute(&r, &lines[i], lengths[i], 50, alone[i]);
        lines[i].n_computed = 0;
    }
    for (uint32_t round = 0; round < 200; round++) {
        timeline *active[LINES];
        uint32_t n[LINES], index[LINES], n_active = 0, row = 0;
        for (uint32_t i = 0; i < LINES; i++) {
            uint32_t left = lengths[i] - lines[i].n_computed, want = (round + i) % 4 == 0 ? 17 : 1;
            if (left) {
                index[n_active] = i;
                n[n_active] = left < want ? left : want;
                active[n_active++] = &lines[i];
            }
        }
        rig_step(&r, active, n, n_active, step_logits);
        for (uint32_t i = 0; i < n_active; i++) {
            memcpy(together[index[i]] + (size_t)(active[i]->n_computed - n[i]) * o.n_vocab,
                   step_logits + (size_t)row * o.n_vocab, (size_t)n[i] * o.n_vocab * sizeof(float));
            row += n[i];
        }
    }
    for (uint32_t i = 0; i < LINES; i++) {
        assert_memory_equal(alone[i], together[i], lengths[i] * o.n_vocab * sizeof(float));
        free(alone[i]);
        free(together[i]);
    }
    free(step_logits);
    rig_close(&r);
    tiny_close(&t);
}

static void batches_equal_each_sequence_alone(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    for (uint32_t i = 0; i < n; i++) {
        check_batch(&all_ways[i], DTYPE_F16);
        check_batch(&all_ways[i], i % 2 ? DTYPE_Q8_0 : DTYPE_Q4_0);
    }
}

/* Contexts of many blocks, which threads share out when there are few rows. */
static void deep_contexts_give_the_same_bits_on_many_threads(void **state)
{
    (void)state;
    enum { N = 1030 };
    tiny_options o = with_everything();
    o.n_layers = 3;
    o.n_head_kv = 1;
    o.head_dim = 32;
    o.window = 300;
    tiny t;
    tiny_open(&t, &o);
    int32_t *tokens = tiny_tokens(&t, N);
    float *expected = logits_alloc(N * o.n_vocab), *got = logits_alloc(N * o.n_vocab);
    static const dtype types[] = {DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_0};
    for (uint32_t job = 0; job < 9; job++) {
        uint32_t threads = 1 + job % 3 * 2;
        rig r;
        rig_open(&r, &t, false, threads, cpu_detect(), types[job / 3], 32, 40);
        timeline line = timeline_make(&r, tokens, 11, 7);
        rig_compute(&r, &line, threads == 1 ? N : 1000, threads == 1 ? 300 : 500, threads == 1 ? expected : got);
        for (uint32_t i = 1000; i < N && threads > 1; i++) { /* one by one from here on */
            timeline *one = &line;
            uint32_t n = 1;
            rig_step(&r, &one, &n, 1, got + (size_t)i * o.n_vocab);
        }
        rig_close(&r);
        if (threads > 1) {
            assert_memory_equal(got, expected, (size_t)N * o.n_vocab * sizeof *got);
        }
    }
    free(expected);
    free(got);
    tiny_close(&t);
}

/* The logits of some rows of a step long enough to be run as several passes. */
static void check_wanted(const way *w)
{
    enum { N = 1100, N_WANTED = 5 };
    static const uint32_t wanted[N_WANTED] = {0, 511, 512, 700, 1099};
    tiny_options o = plain;
    o.n_layers = 1;
    tiny t;
    tiny_open(&t, &o);
    rig r;
    rig_open(&r, &t, w->scalar, 2, w->features, DTYPE_F32, 64, 20);
    int32_t *tokens = tiny_tokens(&t, N), positions[N];
    float *all = logits_alloc(N * o.n_vocab), *some = logits_alloc((N_WANTED + 1) * o.n_vocab);
    timeline line = timeline_make(&r, tokens, 0, 1);
    rig_compute(&r, &line, N, 100, all);
    for (int32_t i = 0; i < N; i++) {
        positions[i] = i;
    }
    step_slice slice = {.n_rows = N, .pages = {line.pages[0]}};
    step s = {.n_rows = N,
              .tokens = tokens,
              .positions = positions,
              .slices = &slice,
              .n_slices = 1,
              .wanted = wanted,
              .n_wanted = N_WANTED,
              .kv = r.kv,
              .logits = some};
    memset(r.kv.base[0], 0xff, r.kv_bytes[0]);
    some[N_WANTED * o.n_vocab] = 1234.5f;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    for (uint32_t i = 0; i < N_WANTED; i++) {
        assert_memory_equal(some + i * o.n_vocab, all + (size_t)wanted[i] * o.n_vocab, o.n_vocab * sizeof(float));
    }
    assert_true(some[N_WANTED * o.n_vocab] == 1234.5f);
    s.n_wanted = 0;
    s.logits = NULL;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    free(all);
    free(some);
    rig_close(&r);
    tiny_close(&t);
}

static void only_wanted_rows_of_a_long_step_give_logits(void **state)
{
    (void)state;
    way all_ways[4];
    uint32_t n = ways(all_ways);
    for (uint32_t i = 0; i < n; i++) {
        check_wanted(&all_ways[i]);
    }
}

typedef struct mutation {
    const char *name;
    void (*apply)(tiny *t);
} mutation;

static op *find_op(tiny *t, op_kind kind)
{
    for (uint32_t i = 0; i < t->p.n_ops; i++) {
        if (t->ops[i].kind == kind) {
            return &t->ops[i];
        }
    }
    fail();
    return NULL;
}

static tensor *own_weight(tiny *t, op_kind kind)
{
    op *o = find_op(t, kind);
    tensor *copy = region_alloc(&t->memory, sizeof *copy);
    *copy = *o->weight;
    o->weight = copy;
    return copy;
}

#define MUTATION(label, ...)                                                                                           \
    static void mutate_##label(tiny *t)                                                                                \
    {                                                                                                                  \
        __VA_ARGS__;                                                                                                   \
    }
MUTATION(no_weight, find_op(t, OP_LINEAR)->weight = NULL)
MUTATION(no_table, find_op(t, OP_EMBED)->weight = NULL)
MUTATION(weight_too_narrow, own_weight(t, OP_LINEAR)->shape[0]--)
MUTATION(weight_too_short, own_weight(t, OP_LINEAR)->shape[1]--)
MUTATION(weight_overflows,
         *own_weight(t, OP_LINEAR) = (tensor){.data = t, .n_dims = 4, .shape = {64, 64, 1ull << 60, 1}})
MUTATION(weight_data_missing, own_weight(t, OP_LINEAR)->n_bytes--)
MUTATION(weight_rows_wrong, own_weight(t, OP_LINEAR)->row_bytes--)
MUTATION(weight_type_unknown, own_weight(t, OP_LINEAR)->type = (dtype)999)
MUTATION(dims_zero, own_weight(t, OP_LINEAR)->n_dims = 0)
MUTATION(kind_unknown, t->ops[3].kind = (op_kind)77)
MUTATION(slot_unknown, find_op(t, OP_LINEAR)->dst = (slot)55)
MUTATION(source_unknown, find_op(t, OP_LINEAR)->src = SLOT_NONE)
MUTATION(source_is_target, find_op(t, OP_LINEAR)->dst = SLOT_N)
MUTATION(width_wrong, find_op(t, OP_ADD)->width++)
MUTATION(slot_huge, t->p.slot_width[SLOT_U] = UINT32_MAX)
MUTATION(group_zero, find_op(t, OP_NORM)->norm.width = 0)
MUTATION(group_not_dividing, find_op(t, OP_NORM)->norm.width = 63)
MUTATION(heads_not_dividing, find_op(t, OP_ATTEND)->attend.n_head = 3)
MUTATION(heads_none, find_op(t, OP_KV_WRITE)->attend.n_head_kv = 0)
MUTATION(kv_layer_missing, find_op(t, OP_ATTEND)->attend.kv_layer = 9)
MUTATION(kv_group_missing, find_op(t, OP_ATTEND)->attend.kv_group = 3)
MUTATION(kv_heads_disagree, t->p.kv_groups[0].head_dim = 8)
MUTATION(window_longer_than_kept, t->p.kv_groups[0].window = 5)
MUTATION(chunks_kept_as_a_window, find_op(t, OP_ATTEND)->attend.chunked = true)
MUTATION(chunks_of_no_length, find_op(t, OP_ATTEND)->attend.window = 0; find_op(t, OP_ATTEND)->attend.chunked = true)
MUTATION(groups_too_many, t->p.n_kv_groups = 5)
MUTATION(rot_odd, find_op(t, OP_ROPE)->rope.n_rot = 3)
MUTATION(rot_wider_than_head, find_op(t, OP_ROPE)->rope.n_rot = 18)
MUTATION(rot_without_frequencies, find_op(t, OP_ROPE)->rope.inv_freq = NULL)
MUTATION(activation_unknown, find_op(t, OP_GATED)->act = (activation)9)
MUTATION(read_before_write, t->ops[0] = t->ops[1])
MUTATION(logits_of_all_rows, find_op(t, OP_TAKE_ROWS)->kind = OP_SOFTCAP)
MUTATION(no_logits, t->p.n_ops--)
MUTATION(vocabulary_wrong, t->p.n_vocab--)
MUTATION(bias_not_f32, find_op(t, OP_LINEAR)->bias = tiny_tensor(t, DTYPE_F16, 64, 1, 0, 1))
MUTATION(state_group_missing, find_op(t, OP_SCAN)->state.kv_group = 4)
MUTATION(state_layer_missing, find_op(t, OP_SCAN)->state.kv_layer = 1)
MUTATION(state_narrow, t->p.kv_groups[1].state_width--)
MUTATION(state_of_attention, find_op(t, OP_SCAN)->state.kv_group = 0)
MUTATION(attention_over_states, find_op(t, OP_ATTEND)->attend.kv_group = 1)
MUTATION(state_without_decay, find_op(t, OP_SCAN)->weight = NULL)
MUTATION(rows_taken_too_early, t->ops[1] = *find_op(t, OP_TAKE_ROWS))
MUTATION(carried_by_nobody, *find_op(t, OP_ADD) = (op){.kind = OP_STORE, .src = SLOT_X, .width = 64})
MUTATION(carried_narrow, t->p.carried = 63; t->ops[1] = (op){.kind = OP_LOAD, .dst = SLOT_N, .width = 64})
MUTATION(late_window, find_op(t, OP_ATTEND)->attend.first = 1; find_op(t, OP_ATTEND)->attend.window = 3)
MUTATION(kinds_of_one_row, own_weight(t, OP_EMBED)->shape[1] = 1; find_op(t, OP_EMBED)->kind = OP_KIND)
MUTATION(kinds_of_nothing, find_op(t, OP_EMBED)->weight = NULL; find_op(t, OP_EMBED)->kind = OP_KIND)
MUTATION(kinds_with_a_bias, find_op(t, OP_EMBED)->bias = tiny_tensor(t, DTYPE_F32, 64, 1, 0, 1);
         find_op(t, OP_EMBED)->kind = OP_KIND)
#define ROW(label) {#label, mutate_##label}

static void malformed_plans_are_refused_in_words(void **state)
{
    (void)state;
    static const mutation mutations[] = {ROW(no_weight),
                                         ROW(carried_by_nobody),
                                         ROW(carried_narrow),
                                         ROW(late_window),
                                         ROW(kinds_of_one_row),
                                         ROW(kinds_of_nothing),
                                         ROW(kinds_with_a_bias),
                                         ROW(no_table),
                                         ROW(weight_too_narrow),
                                         ROW(weight_too_short),
                                         ROW(weight_overflows),
                                         ROW(weight_data_missing),
                                         ROW(weight_rows_wrong),
                                         ROW(weight_type_unknown),
                                         ROW(dims_zero),
                                         ROW(kind_unknown),
                                         ROW(slot_unknown),
                                         ROW(source_unknown),
                                         ROW(source_is_target),
                                         ROW(width_wrong),
                                         ROW(slot_huge),
                                         ROW(group_zero),
                                         ROW(group_not_dividing),
                                         ROW(heads_not_dividing),
                                         ROW(heads_none),
                                         ROW(kv_layer_missing),
                                         ROW(kv_group_missing),
                                         ROW(kv_heads_disagree),
                                         ROW(window_longer_than_kept),
                                         ROW(chunks_kept_as_a_window),
                                         ROW(chunks_of_no_length),
                                         ROW(groups_too_many),
                                         ROW(rot_odd),
                                         ROW(rot_wider_than_head),
                                         ROW(rot_without_frequencies),
                                         ROW(activation_unknown),
                                         ROW(read_before_write),
                                         ROW(logits_of_all_rows),
                                         ROW(no_logits),
                                         ROW(vocabulary_wrong),
                                         ROW(bias_not_f32),
                                         ROW(state_group_missing),
                                         ROW(state_layer_missing),
                                         ROW(state_narrow),
                                         ROW(state_of_attention),
                                         ROW(attention_over_states),
                                         ROW(state_without_decay),
                                         ROW(rows_taken_too_early)};
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        tiny t;
        tiny_options o = plain;
        o.scans = true;
        tiny_open(&t, &o);
        mutations[i].apply(&t);
        mlxr_error error = {0};
        backend *b = NULL;
        program *prog = NULL;
        backend_options options = {.n_threads = 1, .scalar = true};
        assert_ok(backend_cpu.open(&b, &options, &error), &error);
        mlxr_status status = backend_cpu.prepare(b, &t.p, &prog, &error);
        if (status == MLXR_OK || error.text[0] == 0 || prog) {
            fail_msg("%s was accepted", mutations[i].name);
        }
        backend_cpu.close(&b);
        tiny_close(&t);
    }
}

static void refused(rig *r, const step *s)
{
    r->error.text[0] = 0;
    assert_int_not_equal(r->ops->run(r->b, r->prog, s, &r->error), MLXR_OK);
    assert_true(r->error.text[0] != 0);
}

static void malformed_steps_are_refused(void **state)
{
    (void)state;
    tiny t;
    rig r;
    tiny_open(&t, &plain);
    rig_open(&r, &t, true, 1, 0, DTYPE_F32, 16, 4);
    int32_t tokens[2] = {0, 1}, positions[2] = {0, 1};
    uint32_t wanted[2] = {0, 1}, pages[1] = {0};
    float logits[2 * 67];
    step_slice slice = {.n_rows = 2, .pages = {pages}};
    const step good = {.n_rows = 2,
                       .tokens = tokens,
                       .positions = positions,
                       .slices = &slice,
                       .n_slices = 1,
                       .wanted = wanted,
                       .n_wanted = 2,
                       .kv = r.kv,
                       .logits = logits};
    assert_ok(r.ops->run(r.b, r.prog, &good, &r.error), &r.error);
    step s = good;
    tokens[1] = 67;
    refused(&r, &s);
    tokens[1] = -1;
    refused(&r, &s);
    tokens[1] = 1;
    positions[0] = -1;
    refused(&r, &s);
    positions[0] = 0;
    slice.n_rows = 1;
    refused(&r, &s);
    slice.n_rows = 3;
    refused(&r, &s);
    slice.n_rows = 2;
    slice.start = UINT32_MAX - 1;
    refused(&r, &s);
    slice.start = 0;
    wanted[1] = 0;
    refused(&r, &s);
    wanted[1] = 2;
    refused(&r, &s);
    wanted[1] = 1;
    s.logits = NULL;
    refused(&r, &s);
    s = good;
    s.kv.layout[0].head_dim = 8;
    refused(&r, &s);
    s = good;
    s.kv.layout[0].page_tokens = 3;
    refused(&r, &s);
    s = good;
    s.kv.layout[0].type = DTYPE_Q4_0;
    refused(&r, &s);
    s = good;
    s.n_rows = s.n_slices = s.n_wanted = 0;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    rig_close(&r);
    tiny_close(&t);
}

static void count_members(void *context, uint32_t index, uint32_t n)
{
    ((uint32_t *)context)[index] += n;
}

/* What a state must be is known from the rows before it; a step of several passes would have to keep one for itself. */
static void states_are_kept_where_asked_and_carried_through_long_steps(void **state)
{
    (void)state;
    enum { N = 513, PAGES = 8 };
    tiny_options o = plain;
    o.scans = true;
    tiny t;
    rig r;
    tiny_open(&t, &o);
    rig_open(&r, &t, false, 2, cpu_detect(), DTYPE_F32, 1024, PAGES);
    int32_t *tokens = tiny_tokens(&t, N), positions[N];
    uint32_t pages[1] = {0}, states[N + 1];
    for (int32_t i = 0; i < N; i++) {
        positions[i] = i;
    }
    memset(states, 0xff, sizeof states);
    step_slice slice = {.n_rows = 20, .pages = {pages, states}};
    step s = {.n_rows = 20, .tokens = tokens, .positions = positions, .slices = &slice, .n_slices = 1, .kv = r.kv};
    states[7] = 1;
    states[20] = 2;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    slice.n_rows = s.n_rows = 7; /* the same state at the end of a shorter step */
    states[7] = 3;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    slice = (step_slice){.n_rows = 13, .start = 7, .pages = {pages, states + 7}}; /* and on from there */
    s = (step){
        .n_rows = 13, .tokens = tokens + 7, .positions = positions + 7, .slices = &slice, .n_slices = 1, .kv = r.kv};
    states[20] = 4;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    size_t n = r.kv.layout[1].page_bytes;
    const uint8_t *base = r.kv.base[1];
    assert_int_equal(n, 4 * 16 * sizeof(float));
    assert_memory_equal(base + 1 * n, base + 3 * n, n);
    assert_memory_equal(base + 2 * n, base + 4 * n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(base[i] & base[5 * n + i], 0xff); /* untouched */
    }
    slice = (step_slice){.n_rows = N, .pages = {pages, states}}; /* several passes */
    s = (step){.n_rows = N, .tokens = tokens, .positions = positions, .slices = &slice, .n_slices = 1, .kv = r.kv};
    states[7] = states[20] = KV_PAGE_NONE;
    states[N] = 6;
    assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    states[171] = 1;
    states[342] = 2;
    states[N] = 7;
    for (uint32_t first = 0; first < N; first += 171) {
        slice = (step_slice){.n_rows = 171, .start = first, .pages = {pages, states + first}};
        s = (step){.n_rows = 171,
                   .tokens = tokens + first,
                   .positions = positions + first,
                   .slices = &slice,
                   .n_slices = 1,
                   .kv = r.kv};
        assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
    }
    assert_memory_equal(base + 6 * n, base + 7 * n, n);
    rig_close(&r);
    tiny_close(&t);
}

static void parallel_runs_once_on_every_thread(void **state)
{
    (void)state;
    backend *b = NULL;
    mlxr_error error;
    backend_options options = {.n_threads = 3};
    assert_ok(backend_cpu.open(&b, &options, &error), &error);
    uint32_t counts[4] = {0};
    backend_cpu.parallel(b, count_members, counts);
    assert_true(counts[0] == 3 && counts[1] == 3 && counts[2] == 3 && counts[3] == 0);
    backend_cpu.close(&b);
    assert_null(b);
}

static void backends_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(backend_find("cpu"), &backend_cpu);
    assert_ptr_equal(backend_find("cpu-scalar"), &backend_cpu_scalar);
    assert_null(backend_find("abacus"));
    assert_ptr_equal(backend_list()[0], &backend_cpu);
}

static void kv_memory_is_aligned_and_zero(void **state)
{
    (void)state;
    mlxr_error error;
    void *memory = NULL;
    assert_ok(backend_cpu.kv_alloc(NULL, 1 << 20, &memory, &error), &error);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    for (size_t i = 0; i < 1 << 20; i++) {
        assert_int_equal(((uint8_t *)memory)[i], 0);
    }
    backend_cpu.kv_free(NULL, &memory, 1 << 20);
    assert_null(memory);
    assert_int_not_equal(backend_cpu.kv_alloc(NULL, 0, &memory, &error), MLXR_OK);
    assert_int_not_equal(backend_cpu.kv_alloc(NULL, SIZE_MAX, &memory, &error), MLXR_OK);
}

static void kv_memory_in_use_is_gathered_and_nothing_else(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, ALL = 64 * MIB, USED = 11 * MIB };
    mlxr_error error;
    void *memory = NULL;
    assert_ok(backend_cpu.kv_alloc(NULL, ALL, &memory, &error), &error);
    uint8_t *bytes = memory;
    for (size_t i = 0; i < USED; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 4096);
    }
    assert_int_equal(backend_cpu.kv_gather(NULL, memory, 0, 3 * MIB), 0); /* perhaps no whole large page */
#if defined(__linux__)
    size_t at = 0, n_calls = 0;
    for (size_t next; (next = backend_cpu.kv_gather(NULL, memory, at, USED)) != at; at = next, n_calls++) {
        assert_true(next > at && next <= USED);
        assert_true(next - at <= 4 * MIB); /* a step waits for no more */
    }
    assert_true(USED - at < 4 * MIB && n_calls >= 2);
#else
    assert_int_equal(backend_cpu.kv_gather(NULL, memory, 0, USED), USED); /* there is nothing that could be done */
#endif
    for (size_t i = 0; i < USED; i++) {
        assert_int_equal(bytes[i], (uint8_t)(i * 7 + i / 4096));
    }
    assert_int_equal(backend_cpu.kv_gather(NULL, memory, 40 * MIB, 48 * MIB),
                     48 * MIB); /* it never was in small ones */
    backend_cpu.kv_free(NULL, &memory, ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_plain_mathematics),
        cmocka_unit_test(every_head_size_works),
        cmocka_unit_test(many_query_heads_share_a_key_head),
        cmocka_unit_test(logits_survive_rounded_keys),
        cmocka_unit_test(quantised_weights_and_embeddings_are_decoded),
        cmocka_unit_test(results_do_not_depend_on_chunks_threads_or_pages),
        cmocka_unit_test(the_first_layers_what_is_before_them_and_logits_are_not_rounded),
        cmocka_unit_test(heads_that_are_no_whole_blocks_are_refused),
        cmocka_unit_test(batches_equal_each_sequence_alone),
        cmocka_unit_test(deep_contexts_give_the_same_bits_on_many_threads),
        cmocka_unit_test(only_wanted_rows_of_a_long_step_give_logits),
        cmocka_unit_test(malformed_plans_are_refused_in_words),
        cmocka_unit_test(malformed_steps_are_refused),
        cmocka_unit_test(states_are_kept_where_asked_and_carried_through_long_steps),
        cmocka_unit_test(parallel_runs_once_on_every_thread),
        cmocka_unit_test(backends_are_found_by_name),
        cmocka_unit_test(kv_memory_is_aligned_and_zero),
        cmocka_unit_test(kv_memory_in_use_is_gathered_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
