/*
 * The check of our kernels on a device (`mlxr doctor --metal`), where the emulator is the device: that all pass, that
 * wrong ones are found and put aside for good, and what becomes of the file that says so.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>

#include "kernels/mlx/backend_mlx.h"
#include "kernels/mlx/check.h"
#include "kernels/mlx/verdicts.h"
#include "mlx/backend_emulated.h"
#include "runtime/engine.h"
#include "support/test.h"
#include "support/tiny_model.h"

static const verdicts_key key = {"CPU", "0.0.0"}; /* of files that tests write themselves */

static const kernel_finding *finding_of(const kernel_report *r, const char *name)
{
    for (uint32_t i = 0; i < r->n_findings; i++) {
        if (strcmp(r->findings[i].name, name) == 0) {
            return &r->findings[i];
        }
    }
    fail_msg("no finding on %s", name);
    return NULL;
}

static void check_here(const kernel_vector *vectors, const char *file, kernel_report *out)
{
    mlxr_error error;
    backend *b = NULL;
    const backend_ops *ops = backend_find("mlx-emulated");
    assert_ok(ops->open(&b, &(backend_options){.n_threads = 1}, &error), &error);
    assert_ok(backend_mlx_check(b, vectors, file, out, &error), &error);
    ops->close(&b);
}

static const char *file_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/not/yet/there/%s", test_temp_dir(), name);
    return path;
}

static void every_kernel_passes_in_every_size(void **state)
{
    (void)state;
    static kernel_report r;
    double recorded = 0, fallback = 0;
    uint32_t n_cases = 0, n_sizes = 0;
    check_here(kernel_vectors, NULL, &r);
    assert_true(r.emulated);
    assert_int_equal(r.n_findings, UNIT_COUNT);
    for (uint32_t i = 0; i < r.n_findings; i++) {
        const kernel_finding *f = &r.findings[i];
        if (f->verdict != KERNEL_OK) {
            fail_msg("%s: %s", f->name, f->why);
        }
        assert_true(f->n_cases >= 2 && f->error_vectors >= 0 && f->first_s > 0);
        assert_true(f->ratio == 0 && f->threads == 0); /* times say nothing here */
        for (uint32_t j = 0; j < f->n_sizes; j++) {
            assert_true(f->sizes[j].right);
        }
        recorded = f->error_vectors > recorded ? f->error_vectors : recorded;
        fallback = f->error_fallback > fallback ? f->error_fallback : fallback;
        n_cases += f->n_cases;
        n_sizes += f->n_sizes;
    }
    printf("%u kernels, %u cases, %u sizes; at most %.1e from what is recorded, %.1e from MLX's operations\n",
           r.n_findings, n_cases, n_sizes, recorded, fallback);
}

/* Opens an engine that knows the file; what it warns of goes to `warning`. */
static void note_warning(void *user, mlxr_log_level level, const char *line)
{
    if (level == MLXR_LOG_WARN) {
        snprintf(user, 512, "%s", line);
    }
}

static size_t runs_in_an_answer(const char *kernel, const char *file, char warning[512])
{
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    char path[512];
    int32_t ids[20];
    const tiny_model *tiny = tiny_model_find("llama-wide");
    snprintf(path, sizeof path, "%s/wide.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny, &(tiny_options){.type = DTYPE_Q4_0}, path);
    tiny_model_tokens(tiny, ids, 20);
    *warning = '\0';
    mlxr_engine_options options = {.backend = "mlx-emulated",
                                   .n_threads = 1,
                                   .kv_bytes = 8u << 20,
                                   .kernel_file = file,
                                   .log = note_warning,
                                   .log_user = warning};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, 20, &error), &error);
    size_t before = emulated_runs(kernel);
    for (int i = 0; i < 2; i++) { /* a prompt, and a token */
        mlxr_slice slice = {.sequence = sequence, .n_compute = i ? 1 : 20};
        assert_ok(mlxr_step(engine, &slice, 1, &error), &error);
    }
    size_t n = emulated_runs(kernel) - before;
    mlxr_sequence_close(&sequence);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return n;
}

/* Each way to be wrong: another number, another number in the record, an error. */
static void a_wrong_kernel_is_found_and_put_aside(void **state)
{
    (void)state;
    static const struct {
        const char *spoilt, *fails, *unit, *why;
    } wrong[] = {
        {"rms_norm_f32", NULL, "rms_norm", "from "},
        {"q_gemm_matrix_f32_q4_0", NULL, "q_gemm_dequant/q4_0", "from "},
        {NULL, "attention_decode_fused_f32_f32_128", "attention_decode_fused", "as the test wants it"},
    };
    char warning[512];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        static kernel_report r;
        const char *file = file_path(i ? "second" : "first");
        emulated_spoil(wrong[i].spoilt);
        emulated_fail(wrong[i].fails);
        check_here(kernel_vectors, file, &r);
        emulated_spoil(NULL);
        emulated_fail(NULL);
        const kernel_finding *f = finding_of(&r, wrong[i].unit);
        assert_int_equal(f->verdict, KERNEL_FAILED);
        assert_non_null(strstr(f->why, wrong[i].why));
        printf("%s: %s\n", f->name, f->why);
        const char *kernel = i == 0 ? "rms_norm" : i == 1 ? "q_gemm" : "attention_decode_fused";
        for (uint32_t j = 0; j < r.n_findings; j++) { /* the others are used as before, but what depends on it */
            bool depends = i == 1 && strcmp(r.findings[j].name, "swiglu_mlp_fused/q4_0") == 0;
            assert_true(&r.findings[j] == f || depends || r.findings[j].verdict == KERNEL_OK);
        }
        assert_true(runs_in_an_answer(kernel, NULL, warning) > 0);
        assert_int_equal(runs_in_an_answer(kernel, file, warning), 0);
        assert_string_equal(warning, "");
        assert_true(runs_in_an_answer(i == 0 ? "rope_apply" : "rms_norm", file, warning) > 0);
        if (i == 0) { /* it is right again: so it is used again */
            check_here(kernel_vectors, file, &r);
            assert_true(runs_in_an_answer(kernel, file, warning) > 0);
        }
    }
}

static void a_recorded_vector_that_is_another_is_found(void **state)
{
    (void)state;
    static kernel_report r;
    size_t n = 0, at = 0;
    while (kernel_vectors[n].unit) {
        n++;
    }
    kernel_vector *others = malloc((n + 1) * sizeof *others);
    assert_non_null(others);
    memcpy(others, kernel_vectors, (n + 1) * sizeof *others);
    while (strcmp(others[at].unit, "attention_prefill_fused") != 0) {
        at++;
    }
    others[at].samples[5] ^= 0x00400000; /* a bit of the fraction */
    check_here(others, NULL, &r);
    assert_int_equal(finding_of(&r, "attention_prefill_fused")->verdict, KERNEL_FAILED);
    assert_non_null(strstr(finding_of(&r, "attention_prefill_fused")->why, "recorded vector"));
    assert_int_equal(finding_of(&r, "attention_decode_fused")->verdict, KERNEL_OK);
    free(others);
}

/* ---- the file ---- */

static kernel_report some_verdicts(void)
{
    kernel_report r = {.n_findings = 2};
    r.findings[0] = (kernel_finding){
        .name = "rms_norm", .digest = unit_digest(UNIT_RMS_NORM), .verdict = KERNEL_SLOWER, .why = "one\ttwo\nthree"};
    r.findings[1] = (kernel_finding){.name = "rope_apply", .digest = unit_digest(UNIT_ROPE), .threads = 96};
    return r;
}

static void read_file(const char *path, const verdicts_key *as, unit_choices *out, char *warning)
{
    verdicts_read(path, as, out, warning, 300);
}

static void verdicts_hold_for_their_device_library_and_source(void **state)
{
    (void)state;
    mlxr_error error;
    unit_choices c;
    char warning[300];
    kernel_report r = some_verdicts();
    const char *path = file_path("verdicts");
    static const verdicts_key others[] = {{"CPU 2", "0.0.0"}, {"CPU", "0.0.1"}};
    read_file(path, &key, &c, warning);
    assert_true(*warning == '\0' && !c.off[UNIT_RMS_NORM]); /* no file: nothing is known, nothing is wrong */
    assert_ok(verdicts_write(path, &key, &r, &error), &error);
    read_file(path, &key, &c, warning);
    assert_true(*warning == '\0' && c.off[UNIT_RMS_NORM] && !c.off[UNIT_ROPE] && c.threads[UNIT_ROPE] == 96);
    for (size_t i = 0; i < 2; i++) {
        read_file(path, &others[i], &c, warning);
        assert_true(*warning == '\0' && !c.off[UNIT_RMS_NORM] && c.threads[UNIT_ROPE] == 0);
    }
    r.findings[0].verdict = KERNEL_OK; /* of another device: the first one's stay */
    assert_ok(verdicts_write(path, &others[0], &r, &error), &error);
    read_file(path, &key, &c, warning);
    assert_true(c.off[UNIT_RMS_NORM]);
    read_file(path, &others[0], &c, warning);
    assert_false(c.off[UNIT_RMS_NORM]);
    r = some_verdicts();
    r.findings[0].digest++; /* of a kernel that has changed since */
    assert_ok(verdicts_write(path, &key, &r, &error), &error);
    read_file(path, &key, &c, warning);
    assert_true(!c.off[UNIT_RMS_NORM] && c.threads[UNIT_ROPE] == 96);
}

static void put_file(const char *path, const char *data, size_t n)
{
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(data, 1, n, to), n);
    assert_int_equal(fclose(to), 0);
}

static void a_damaged_file_is_ignored_with_a_warning_and_written_anew(void **state)
{
    (void)state;
    mlxr_error error;
    unit_choices c;
    char warning[512], data[4096];
    kernel_report r = some_verdicts();
    const char *path = file_path("damaged");
    assert_ok(verdicts_write(path, &key, &r, &error), &error);
    FILE *from = fopen(path, "rb");
    assert_non_null(from);
    size_t n = fread(data, 1, sizeof data, from);
    fclose(from);
    for (size_t i = 0; i < 2 * n; i++) { /* each byte another; cut behind each */
        char damaged[4096];
        memcpy(damaged, data, n);
        damaged[i % n] = (char)(damaged[i % n] ^ (i % 3 == 0 ? 1 : i % 3 == 1 ? 0x80 : 0x20));
        put_file(path, damaged, i < n ? n : i - n);
        read_file(path, &key, &c, warning);
        assert_non_null(strstr(warning, "damaged"));
        assert_true(!c.off[UNIT_RMS_NORM] && c.threads[UNIT_ROPE] == 0);
    }
    assert_true(runs_in_an_answer("rms_norm", path, warning) > 0);
    assert_non_null(strstr(warning, "damaged and ignored"));
    assert_ok(verdicts_write(path, &key, &r, &error), &error);
    read_file(path, &key, &c, warning);
    assert_true(*warning == '\0' && c.off[UNIT_RMS_NORM]);
    assert_int_equal(remove(path), 0); /* a folder where the file should be */
    assert_int_equal(mkdir(path, 0777), 0);
    read_file(path, &key, &c, warning);
    assert_non_null(strstr(warning, "cannot be read"));
    assert_int_equal(verdicts_write(path, &key, &r, &error), MLXR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_passes_in_every_size),
        cmocka_unit_test(a_wrong_kernel_is_found_and_put_aside),
        cmocka_unit_test(a_recorded_vector_that_is_another_is_found),
        cmocka_unit_test(verdicts_hold_for_their_device_library_and_source),
        cmocka_unit_test(a_damaged_file_is_ignored_with_a_warning_and_written_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
