/*
 * Every allocation of the CPU backend fails once: the call says so, leaks nothing, and works the next time.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/fail_alloc.h"
#include "tiny_plan.h"

static const tiny_options options = {.n_layers = 2,
                                     .n_embd = 32,
                                     .n_head = 2,
                                     .n_head_kv = 1,
                                     .head_dim = 16,
                                     .n_ff = 64,
                                     .n_vocab = 20,
                                     .qk_norm = true};

static void opening_fails_cleanly_at_any_allocation(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &options);
    for (long n = 1;; n++) {
        mlxr_error error = {0};
        backend_options o = {.n_threads = 2, .features = cpu_detect()};
        backend *b = NULL;
        program *prog = NULL;
        void *memory = NULL;
        fail_alloc_at(n);
        mlxr_status status = backend_cpu.open(&b, &o, &error);
        if (status == MLXR_OK) {
            status = backend_cpu.prepare(b, &t.p, &prog, &error);
        }
        if (status == MLXR_OK) {
            status = backend_cpu.kv_alloc(b, 4096, &memory, &error);
        }
        bool failed = fail_alloc_stop();
        backend_cpu.kv_free(b, &memory, 4096);
        if (b) {
            backend_cpu.release(b, &prog);
        }
        backend_cpu.close(&b);
        if (!failed) {
            assert_int_equal(status, MLXR_OK);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_true(error.text[0] != 0);
    }
    tiny_close(&t);
}

static void a_step_fails_cleanly_at_any_allocation(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, &options);
    int32_t *tokens = tiny_tokens(&t, 30), positions[30];
    for (int32_t i = 0; i < 30; i++) {
        positions[i] = i;
    }
    float expected[20], logits[20];
    for (long n = 1;; n++) {
        rig r;
        rig_open(&r, &t, false, 2, cpu_detect(), DTYPE_F32, 16, 4);
        timeline line = timeline_make(&r, tokens, 0, 1);
        uint32_t wanted = 29;
        step_slice slice = {.n_rows = 30, .pages = {line.pages[0]}};
        step s = {.n_rows = 30,
                  .tokens = tokens,
                  .positions = positions,
                  .slices = &slice,
                  .n_slices = 1,
                  .wanted = &wanted,
                  .n_wanted = 1,
                  .kv = r.kv,
                  .logits = logits};
        fail_alloc_at(n);
        mlxr_status status = r.ops->run(r.b, r.prog, &s, &r.error);
        bool failed = fail_alloc_stop();
        assert_int_equal(status, failed ? MLXR_NOMEM : MLXR_OK);
        assert_ok(r.ops->run(r.b, r.prog, &s, &r.error), &r.error);
        if (n == 1) {
            memcpy(expected, logits, sizeof logits);
        }
        assert_memory_equal(expected, logits, sizeof logits);
        rig_close(&r);
        if (!failed) {
            break;
        }
    }
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_fails_cleanly_at_any_allocation),
        cmocka_unit_test(a_step_fails_cleanly_at_any_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
