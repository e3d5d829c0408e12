/*
 * mlxr_quantize on tiny models: what is written is a model, of the types that were asked for, whole or not at all.
 * Owner: the test program. Lifetime: the process; files lie in a folder of its own.
 */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/mapping.h"
#include "convert/mix.h"
#include "convert/write.h"
#include "mlxr_convert.h"
#include "quant/codec.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

static char folder[64], in[96], out[96];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/mlxr-quantize-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(in, sizeof in, "%s/in.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    tiny_model_write_gguf(tiny_model_at(0), NULL, in);
    return 0;
}

static size_t n_files(void)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    }
    closedir(d);
    return n;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void quantize(const char *type, mlxr_quantize_report *report)
{
    mlxr_error error = {0};
    assert_ok(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = type, .n_threads = 2}, report, &error), &error);
}

static void every_mix_gives_a_model_with_the_same_metadata_and_near_weights(void **state)
{
    static const struct {
        const char *type;
        double rmse; /* relative to the weights' own */
    } cases[] = {{"F32", 0},      {"F16", 1e-3},   {"BF16", 1e-2},  {"Q8_0", 0.02},  {"Q6_K", 0.05},  {"Q5_K_M", 0.1},
                 {"Q5_K_S", 0.1}, {"Q5_1", 0.1},   {"Q5_0", 0.1},   {"Q4_K_M", 0.1}, {"Q4_K_S", 0.1}, {"Q4_1", 0.2},
                 {"Q4_0", 0.2},   {"Q3_K_L", 0.2}, {"Q3_K_M", 0.2}, {"Q3_K_S", 0.2}, {"Q2_K", 0.2},   {"Q2_K_S", 0.2},
                 {"q4_k", 0.1},   {"q5_k", 0.1},   {"q3_k", 0.2},   {"IQ4_NL", 0.1}, {"IQ4_XS", 0.1}, {"MXFP4", 0.2}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mlxr_quantize_report report;
        mlxr_error error = {0};
        model_file *before = NULL, *after = NULL;
        quantize(cases[i].type, &report);
        assert_ok(model_file_open(&before, in, &error), &error);
        assert_ok(model_file_open(&after, out, &error), &error);
        assert_int_equal(after->n_tensors, before->n_tensors);
        assert_int_equal(report.n_bytes_out, after->file_bytes);
        uint32_t file_type = 999;
        assert_ok(model_file_u32(after, "general.file_type", &file_type, &error), &error);
        assert_int_equal(file_type, mix_file_type(mix_find(cases[i].type)));
        for (uint64_t k = 0; k < before->n_meta; k++) {
            if (strcmp(before->meta[k].key, "general.alignment") != 0) {
                assert_non_null(model_file_meta(after, before->meta[k].key));
            }
        }
        for (uint64_t t = 0; t < before->n_tensors; t++) {
            const tensor *x = &before->tensors[t], *y = &after->tensors[t];
            size_t n = (size_t)(x->shape[0] * x->shape[1] * x->shape[2]);
            float *a = malloc(n * 4), *b = malloc(n * 4);
            double square = 0, difference = 0;
            assert_string_equal(x->name, y->name);
            codec_decode(x->type, x->data, a, n);
            codec_decode(y->type, y->data, b, n);
            for (size_t j = 0; j < n; j++) {
                square += (double)a[j] * (double)a[j];
                difference += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
            }
            if (sqrt(difference) > cases[i].rmse * sqrt(square)) {
                fail_msg("%s: %s (%s): %g of %g", cases[i].type, x->name, dtype_name(y->type), sqrt(difference),
                         sqrt(square));
            }
            free(a);
            free(b);
        }
        model_file_close(&before);
        model_file_close(&after);
    }
}

static void the_number_of_threads_and_the_instruction_set_change_no_byte(void **state)
{
    static const char *const masks[] = {NULL, "-avx512", NULL};
    static const uint32_t threads[] = {1, 2, 5};
    char *first = NULL;
    size_t n_first = 0;
    (void)state;
    if (!(cpu_detect() & (CPU_AVX2 | CPU_NEON))) {
        skip(); /* one encoder only */
    }
    for (size_t i = 0; i < 3; i++) {
        mlxr_error error = {0};
        char *bytes = NULL;
        size_t n = 0;
        mlxr_quantize_options o = {.type = "Q4_K_M", .n_threads = threads[i]};
        o.cpu_features = cpu_detect() & CPU_AVX512 ? masks[i] : NULL;
        assert_ok(mlxr_quantize(in, out, &o, NULL, &error), &error);
        assert_ok(file_read(out, 1 << 24, &bytes, &n, &error), &error);
        if (first) {
            assert_int_equal(n, n_first);
            assert_memory_equal(bytes, first, n);
            free(bytes);
        } else {
            first = bytes;
            n_first = n;
        }
    }
    free(first);
}

static bool stop_at_once(void *user, uint64_t n_done, uint64_t n_total, const char *what)
{
    (void)n_done;
    (void)n_total;
    assert_non_null(what);
    ++*(int *)user;
    return false;
}

static void a_stopped_call_leaves_what_was_there(void **state)
{
    mlxr_error error = {0};
    int calls = 0;
    struct stat before, after;
    (void)state;
    quantize("Q8_0", NULL);
    assert_int_equal(stat(out, &before), 0);
    assert_int_equal(n_files(), 2);
    mlxr_quantize_options o = {.type = "Q4_0", .n_threads = 1, .progress = stop_at_once, .user = &calls};
    assert_int_equal(mlxr_quantize(in, out, &o, NULL, &error), MLXR_IO);
    assert_string_equal(error.text, "stopped");
    assert_int_equal(calls, 1);
    assert_int_equal(stat(out, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(n_files(), 2);
}

/* Not even a signal that nothing can catch leaves a file behind. */
static void a_killed_process_leaves_nothing(void **state)
{
    (void)state;
    unlink(out);
    for (useconds_t us = 100; us <= 102400; us *= 4) {
        pid_t child = fork();
        if (child == 0) {
            mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "Q2_K", .n_threads = 1}, NULL, NULL);
            _exit(0);
        }
        usleep(us);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        assert_true(n_files() == (path_find(out) == PATH_FILE ? 2u : 1u));
        if (path_find(out) == PATH_FILE) {
            model_file *whole = NULL;
            mlxr_error error = {0};
            assert_ok(model_file_open(&whole, out, &error), &error);
            model_file_close(&whole);
        }
        unlink(out);
    }
}

/* ---- parts ---- */

static mlxr_status split(const char *path, uint64_t most, mlxr_progress_fn *progress, void *user,
                         mlxr_quantize_report *report, mlxr_error *error)
{
    mlxr_quantize_options o = {
        .type = "Q8_0", .split_max_bytes = most, .n_threads = 2, .progress = progress, .user = user};
    return mlxr_quantize(in, path, &o, report, error);
}

static void part_of(char path[128], uint32_t number, uint32_t n)
{
    snprintf(path, 128, "%s/out-%05u-of-%05u.gguf", folder, number, n);
}

static void remove_parts(uint32_t n)
{
    char path[128];
    for (uint32_t i = 1; i <= n; i++) {
        part_of(path, i, n);
        unlink(path);
    }
}

/* Whether there is a first file of n parts, which then must open. */
static bool is_whole(uint32_t n)
{
    char path[128];
    model_file *file = NULL;
    mlxr_error error = {0};
    part_of(path, 1, n);
    if (path_find(path) == PATH_NONE) {
        return false;
    }
    assert_ok(model_file_open(&file, path, &error), &error);
    assert_int_equal(file->n_parts, n);
    model_file_close(&file);
    return true;
}

static void parts_are_the_same_model_and_no_longer_than_asked_for(void **state)
{
    const uint64_t sizes[] = {1, 20000, 50000, 100000};
    mlxr_error error = {0};
    model_file *one = NULL;
    (void)state;
    quantize("Q8_0", NULL);
    assert_ok(model_file_open(&one, out, &error), &error);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char path[128];
        mlxr_quantize_report report;
        model_file *parts = NULL;
        uint32_t total = 0;
        assert_ok(split(out, sizes[i], NULL, NULL, &report, &error), &error);
        assert_true(report.n_files > 1);
        part_of(path, 1, report.n_files);
        assert_ok(model_file_open(&parts, path, &error), &error);
        assert_int_equal(parts->n_parts, report.n_files);
        assert_int_equal(parts->file_bytes, report.n_bytes_out);
        assert_int_equal(parts->n_tensors, one->n_tensors);
        assert_int_equal(parts->n_meta, one->n_meta + 3);
        assert_ok(model_file_u32(parts, "split.tensors.count", &total, &error), &error);
        assert_int_equal(total, one->n_tensors);
        for (uint64_t t = 0; t < one->n_tensors; t++) {
            assert_string_equal(parts->tensors[t].name, one->tensors[t].name);
            assert_int_equal(parts->tensors[t].type, one->tensors[t].type);
            assert_memory_equal(parts->tensors[t].data, one->tensors[t].data, one->tensors[t].n_bytes);
        }
        for (uint32_t k = 0; k < report.n_files; k++) { /* longer only with one tensor, or the metadata */
            uint64_t n_here = 0;
            for (uint64_t t = 0; t < parts->n_tensors; t++) {
                n_here += (uintptr_t)parts->tensors[t].data - (uintptr_t)parts->parts[k].data < parts->parts[k].n_bytes;
            }
            assert_true(n_here >= 1 && (parts->parts[k].n_bytes <= sizes[i] || n_here == 1));
        }
        model_file_close(&parts);
        remove_parts(report.n_files);
    }
    model_file_close(&one);
    mlxr_quantize_report report;
    assert_ok(split(out, 1 << 30, NULL, NULL, &report, &error), &error);
    assert_int_equal(report.n_files, 1);
    assert_ok(model_file_open(&one, out, &error), &error);
    assert_null(model_file_meta(one, "split.count"));
    model_file_close(&one);
}

static void what_was_split_becomes_one_file_again(void **state)
{
    char path[128], again[128], *first = NULL, *second = NULL;
    size_t n_first = 0, n_second = 0;
    mlxr_quantize_report report;
    mlxr_error error = {0};
    const mlxr_quantize_options as_it_is = {.n_threads = 1};
    (void)state;
    quantize("Q8_0", NULL);
    snprintf(again, sizeof again, "%s/again.gguf", folder);
    assert_ok(split(out, 50000, NULL, NULL, &report, &error), &error);
    part_of(path, 1, report.n_files);
    assert_ok(mlxr_quantize(path, again, &as_it_is, NULL, &error), &error);
    assert_ok(file_read(out, 1 << 24, &first, &n_first, &error), &error);
    assert_ok(file_read(again, 1 << 24, &second, &n_second, &error), &error);
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, n_first);
    free(first);
    free(second);
    remove_parts(report.n_files);
    unlink(again);
}

/* A name without an ending gets one; parts of a model may be written over. */
static void parts_take_the_place_of_parts(void **state)
{
    char path[128], bare[128];
    mlxr_quantize_report report;
    mlxr_error error = {0};
    struct stat before, after;
    (void)state;
    snprintf(bare, sizeof bare, "%s/out", folder);
    assert_ok(split(bare, 50000, NULL, NULL, &report, &error), &error);
    part_of(path, report.n_files, report.n_files);
    assert_int_equal(stat(path, &before), 0);
    assert_ok(split(out, 50000, NULL, NULL, &report, &error), &error);
    assert_int_equal(stat(path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_true(is_whole(report.n_files));
    remove_parts(report.n_files);
}

static void parts_that_cannot_be_placed_leave_none(void **state)
{
    char path[128];
    int calls = 0;
    mlxr_quantize_report report;
    mlxr_error error = {0};
    (void)state;
    unlink(out);
    assert_ok(split(out, 50000, NULL, NULL, &report, &error), &error);
    remove_parts(report.n_files);
    size_t n_before = n_files();
    assert_int_equal(split(out, 50000, stop_at_once, &calls, NULL, &error), MLXR_IO);
    assert_int_equal(n_files(), n_before);
    for (uint32_t i = 1; i <= report.n_files; i++) { /* a folder in the place of any of them */
        part_of(path, i, report.n_files);
        assert_int_equal(mkdir(path, 0777), 0);
        assert_int_equal(split(out, 50000, NULL, NULL, NULL, &error), MLXR_IO);
        assert_non_null(strstr(error.text, "something else than a file"));
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(n_files(), n_before);
    }
}

/* Wherever a process is killed, a first part that is there has the others it was written with. */
static void a_process_killed_among_parts_leaves_a_whole_model_or_none(void **state)
{
    mlxr_quantize_report report;
    mlxr_error error = {0};
    (void)state;
    assert_ok(split(out, 20000, NULL, NULL, &report, &error), &error);
    for (useconds_t us = 100; us <= 102400; us = us * 3 / 2) {
        pid_t child = fork();
        if (child == 0) {
            split(out, 20000, NULL, NULL, NULL, NULL);
            _exit(0);
        }
        usleep(us);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        is_whole(report.n_files);
    }
    remove_parts(report.n_files);
}

/* Quantises the model with one weight of blk.1.ffn_down replaced; nothing may be left behind. */
static void check_refused(float weight, const char *type, mlxr_status wanted, const char *why)
{
    mlxr_error error = {0};
    model_file *file = NULL;
    char bad[96];
    snprintf(bad, sizeof bad, "%s/bad.gguf", folder);
    char *bytes = NULL;
    size_t n = 0;
    assert_ok(file_read(in, 1 << 24, &bytes, &n, &error), &error);
    assert_ok(model_file_open(&file, in, &error), &error);
    const tensor *t = model_file_tensor(file, "blk.1.ffn_down.weight");
    size_t at = (size_t)((const uint8_t *)t->data - file->parts[0].data) + 4 * (size_t)t->shape[0] + 8;
    memcpy(bytes + at, &weight, 4);
    FILE *f = fopen(bad, "wb");
    fwrite(bytes, 1, n, f);
    fclose(f);
    assert_int_equal(mlxr_quantize(bad, out, &(mlxr_quantize_options){.type = type}, NULL, &error), wanted);
    const char *expected = "tensor 'blk.1.ffn_down.weight': a weight in rows 0 to";
    assert_memory_equal(error.text, expected, strlen(expected));
    assert_non_null(strstr(error.text, why));
    assert_int_equal(path_find(out), PATH_NONE);
    model_file_close(&file);
    free(bytes);
    unlink(bad);
}

static void a_weight_that_is_no_number_names_its_tensor(void **state)
{
    (void)state;
    check_refused(NAN, "Q4_0", MLXR_FORMAT, "is no finite number");
    check_refused(-INFINITY, "F16", MLXR_FORMAT, "is no finite number");
}

static void a_weight_that_f16_cannot_hold_does_not_become_infinite(void **state)
{
    (void)state;
    check_refused(-65520, "F16", MLXR_UNSUPPORTED, "too large for F16");
}

static void what_cannot_be_is_said(void **state)
{
    mlxr_error error = {0};
    char place[128];
    (void)state;
    assert_int_equal(mlxr_quantize(in, out, &(mlxr_quantize_options){.type = "Q9_K"}, NULL, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "type 'Q9_K' is unknown; known: F32"));
    assert_int_equal(mlxr_quantize("/nowhere.gguf", out, &(mlxr_quantize_options){.type = "F16"}, NULL, &error),
                     MLXR_IO);
    assert_int_equal(mlxr_quantize(in, folder, &(mlxr_quantize_options){.type = "F16"}, NULL, &error), MLXR_IO);
    assert_non_null(strstr(error.text, "something else than a file"));
    snprintf(place, sizeof place, "%s/absent/out.gguf", folder);
    assert_int_equal(mlxr_quantize(in, place, &(mlxr_quantize_options){.type = "F16"}, NULL, &error), MLXR_IO);
    assert_non_null(strstr(error.text, "cannot be created"));
}

static void an_importance_matrix_that_would_change_nothing_is_refused(void **state)
{
    static const char *const types[] = {"F16", "F32", "BF16", "Q8_0", NULL};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        mlxr_error error = {0};
        mlxr_quantize_options o = {.type = types[i], .imatrix = "/nowhere.imatrix"};
        assert_int_equal(mlxr_quantize(in, out, &o, NULL, &error), MLXR_ARG);
        assert_non_null(strstr(error.text, "importance matrix '/nowhere.imatrix' would change nothing: "));
    }
}

/* A legacy importance matrix with one entry: values[n], 4 calls. */
static void write_legacy(const char *path, const char *name, const float *values, int32_t n)
{
    const int32_t head[2] = {1, (int32_t)strlen(name)}, numbers[2] = {4, n};
    FILE *f = fopen(path, "wb");
    fwrite(head, sizeof head, 1, f);
    fwrite(name, (size_t)head[1], 1, f);
    fwrite(numbers, sizeof numbers, 1, f);
    fwrite(values, sizeof *values, (size_t)n, f);
    assert_int_equal(fclose(f), 0);
}

/* The older format does not tell how many matrices a tensor has: the tensor does. */
static void experts_have_their_own_importance_in_the_older_format_too(void **state)
{
    static const char name[] = "blk.0.ffn_down_exps.weight";
    char moe[96], matrix[96];
    mlxr_error error = {0};
    mlxr_quantize_report report;
    model_file *file = NULL;
    (void)state;
    snprintf(moe, sizeof moe, "%s/moe", folder);
    snprintf(matrix, sizeof matrix, "%s/imatrix.dat", folder);
    family_model_write("gpt-oss", moe);
    assert_ok(model_file_open(&file, moe, &error), &error);
    assert_ok(model_file_unpack(file, UINT32_MAX, &error), &error);
    const tensor *t = model_file_tensor(file, name);
    size_t n_in = (size_t)t->shape[0], n = n_in * (size_t)t->shape[2], n_rows = (size_t)t->shape[1];
    assert_true(t->shape[2] > 1);
    float *values = calloc(n, sizeof *values), *from = malloc(n_in * n_rows * 4), *to = malloc(n_in * n_rows * 4);
    for (size_t i = 0; i < n; i++) { /* expert 1: every eighth input counts, and the others nearly not */
        values[i] = i / n_in == 1 && i % 8 ? 1e-6f : 4.0f;
    }
    write_legacy(matrix, name, values, (int32_t)n);
    mlxr_quantize_options o = {.type = "Q4_0", .imatrix = matrix};
    assert_ok(mlxr_quantize(moe, out, &o, &report, &error), &error);
    assert_int_equal(report.n_weighted, 1);
    model_file *after = NULL;
    double errors[2] = {0}; /* of expert 1: of inputs that count, and of the others */
    assert_ok(model_file_open(&after, out, &error), &error);
    const tensor *y = model_file_tensor(after, name);
    codec_decode(t->type, (const uint8_t *)t->data + t->row_bytes * n_rows, from, n_in * n_rows);
    codec_decode(y->type, (const uint8_t *)y->data + y->row_bytes * n_rows, to, n_in * n_rows);
    for (size_t i = 0; i < n_in * n_rows; i++) {
        errors[i % 8 != 0] += fabs((double)from[i] - (double)to[i]) / (i % 8 ? 7 : 1);
    }
    assert_true(errors[0] < 0.7 * errors[1]);
    write_legacy(matrix, name, values, (int32_t)n - 1);
    assert_int_equal(mlxr_quantize(moe, out, &o, &report, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "it was made with another model"));
    write_legacy(matrix, name, values, 2 * (int32_t)n_in);
    assert_int_equal(mlxr_quantize(moe, out, &o, &report, &error), t->shape[2] == 2 ? MLXR_OK : MLXR_FORMAT);
    model_file_close(&after);
    model_file_close(&file);
    free(values);
    free(from);
    free(to);
    unlink(matrix);
    unlink(out);
}

static void importance_of_fewer_matrices_than_four_dimensions_have_is_refused(void **state)
{
    static const char name[] = "blk.0.ffn_up_exps.weight";
    static const float data[32 * 2 * 3];
    static const int32_t n_values[] = {2 * 32, 3 * 32, 5 * 32, 7 * 32};
    char deep[96], matrix[96];
    float ones[7 * 32];
    mlxr_error error = {0};
    mlxr_quantize_report report;
    write_result written;
    const tensor t = {.name = name,
                      .type = DTYPE_F32,
                      .n_dims = 4,
                      .shape = {32, 1, 2, 3},
                      .data = data,
                      .row_bytes = 32 * sizeof *data,
                      .n_bytes = sizeof data};
    const out_tensor whole = {.in = &t, .type = DTYPE_F32};
    const write_options options = {.n_threads = 1};
    gguf_out header = gguf_out_make();
    (void)state;
    snprintf(deep, sizeof deep, "%s/deep.gguf", folder);
    snprintf(matrix, sizeof matrix, "%s/imatrix.dat", folder);
    gguf_out_text(&header, "general.architecture", "llama", 5);
    assert_ok(write_model(deep, &header, &whole, 1, &options, &written, &error), &error);
    gguf_out_close(&header);
    for (size_t i = 0; i < 7 * 32; i++) {
        ones[i] = 1;
    }
    const mlxr_quantize_options o = {.type = "Q4_0", .imatrix = matrix, .n_threads = 1};
    for (size_t i = 0; i < sizeof n_values / sizeof *n_values; i++) {
        write_legacy(matrix, name, ones, n_values[i]);
        assert_int_equal(mlxr_quantize(deep, out, &o, NULL, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, "in 6 matrices; it was made with another model"));
    }
    write_legacy(matrix, name, ones, 6 * 32);
    assert_ok(mlxr_quantize(deep, out, &o, &report, &error), &error);
    assert_int_equal(report.n_weighted, 1);
    unlink(deep);
    unlink(matrix);
    unlink(out);
}

/* A folder's imatrix has both in one; what meets the values' matrices is what met that, keys' are turned. */
static void values_of_latent_attention_find_the_importance_of_the_whole(void **state)
{
    static const float data[32 * 2 * 3];
    static const char *const names[] = {"blk.0.attn_k_b.weight", "blk.0.attn_v_b.weight"};
    char parts[96], matrix[96];
    float values[32];
    mlxr_error error = {0};
    mlxr_quantize_report report;
    write_result written;
    tensor t[2];
    out_tensor tensors[2];
    gguf_out header = gguf_out_make();
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        t[i] = (tensor){.name = names[i],
                        .type = DTYPE_F32,
                        .n_dims = 3,
                        .shape = {32, 2, 3, 1},
                        .data = data,
                        .row_bytes = 32 * sizeof *data,
                        .n_bytes = sizeof data};
        tensors[i] = (out_tensor){.in = &t[i], .type = DTYPE_F32};
    }
    for (size_t i = 0; i < 32; i++) {
        values[i] = (float)i;
    }
    snprintf(parts, sizeof parts, "%s/parts.gguf", folder);
    snprintf(matrix, sizeof matrix, "%s/imatrix.dat", folder);
    gguf_out_text(&header, "general.architecture", "deepseek2", 9);
    assert_ok(write_model(parts, &header, tensors, 2, &(write_options){.n_threads = 1}, &written, &error), &error);
    gguf_out_close(&header);
    const mlxr_quantize_options o = {.type = "Q4_0", .imatrix = matrix, .n_threads = 1};
    write_legacy(matrix, "blk.0.attn_kv_b.weight", values, 32);
    assert_ok(mlxr_quantize(parts, out, &o, &report, &error), &error);
    assert_int_equal(report.n_encoded, 2);
    assert_int_equal(report.n_weighted, 1);
    write_legacy(matrix, "blk.0.attn_kv_b.weight", values, 31);
    assert_int_equal(mlxr_quantize(parts, out, &o, &report, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "'blk.0.attn_v_b.weight'"));
    unlink(parts);
    unlink(matrix);
    unlink(out);
}

static void kept_types_keep_the_files_word_for_them(void **state)
{
    mlxr_error error = {0};
    model_file *file = NULL;
    uint32_t file_type = 999;
    (void)state;
    quantize("Q4_K_S", NULL);
    assert_ok(mlxr_quantize(out, out, &(mlxr_quantize_options){.type = NULL}, NULL, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    assert_ok(model_file_u32(file, "general.file_type", &file_type, &error), &error);
    assert_int_equal(file_type, 14);
    model_file_close(&file);
    unlink(out);
    static const struct {
        dtype type;
        uint32_t file_type;
    } known[] = {{DTYPE_F32, 0},   {DTYPE_F16, 1},   {DTYPE_Q4_0, 2},  {DTYPE_Q4_1, 3},   {DTYPE_Q8_0, 7},
                 {DTYPE_Q5_0, 8},  {DTYPE_Q5_1, 9},  {DTYPE_Q2_K, 10}, {DTYPE_Q3_K, 12},  {DTYPE_Q4_K, 15},
                 {DTYPE_Q5_K, 17}, {DTYPE_Q6_K, 18}, {DTYPE_BF16, 32}, {DTYPE_MXFP4, 38}, {DTYPE_IQ4_XS, 30}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_int_equal(mix_file_type_of(known[i].type), known[i].file_type);
    }
}

static void a_model_may_take_its_own_place(void **state)
{
    mlxr_error error = {0};
    model_file *file = NULL;
    (void)state;
    quantize("Q8_0", NULL);
    assert_ok(mlxr_quantize(out, out, &(mlxr_quantize_options){.type = "Q4_0"}, NULL, &error), &error);
    assert_ok(model_file_open(&file, out, &error), &error);
    assert_int_equal(model_file_tensor(file, "blk.0.attn_q.weight")->type, DTYPE_Q4_0);
    model_file_close(&file);
    unlink(out);
}

/* The mixes for 32 layers whose keys and values four heads share, tied or not. */
static void mixes_are_the_fields(void **state)
{
    static const struct {
        const char *mix, *tensor;
        uint32_t n_expert;
        dtype type;
    } cases[] = {
        {"Q4_K_M", "blk.0.attn_v.weight", 0, DTYPE_Q6_K},
        {"Q4_K_M", "blk.5.attn_v.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "blk.6.attn_v.weight", 0, DTYPE_Q6_K},
        {"Q4_K_M", "blk.28.ffn_down.weight", 0, DTYPE_Q6_K},
        {"Q4_K_M", "blk.4.ffn_down.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "output.weight", 0, DTYPE_Q6_K},
        {"Q4_K_M", "token_embd.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "blk.3.attn_q.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "blk.0.attn_norm.weight", 0, DTYPE_F32},
        {"Q4_K_M", "blk.0.ffn_gate_inp.weight", 0, DTYPE_F32},
        {"Q4_K_M", "blk.0.attn_v.weight", 8, DTYPE_Q8_0},
        {"Q4_K_M", "blk.9.attn_k.weight", 8, DTYPE_Q8_0},
        {"Q4_K_M", "blk.9.attn_output.weight", 8, DTYPE_Q5_K},
        {"Q4_K_S", "blk.3.attn_v.weight", 0, DTYPE_Q5_K},
        {"Q4_K_S", "blk.4.attn_v.weight", 0, DTYPE_Q4_K},
        {"Q4_K_S", "blk.3.ffn_down.weight", 0, DTYPE_Q5_K},
        {"Q2_K", "blk.9.attn_v.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "blk.0.attn_kv_b.weight", 0, DTYPE_Q6_K},
        {"Q4_K_M", "blk.0.attn_v_b.weight", 0, DTYPE_Q6_K}, /* the field's is Q4_K */
        {"Q4_K_M", "blk.5.attn_v_b.weight", 0, DTYPE_Q4_K},
        {"Q4_K_M", "blk.0.attn_k_b.weight", 0, DTYPE_Q4_K},
        {"Q2_K", "blk.9.attn_v_b.weight", 0, DTYPE_Q3_K}, /* of no other head */
        {"Q2_K", "blk.9.ffn_down.weight", 0, DTYPE_Q3_K},
        {"Q2_K", "blk.9.attn_output.weight", 0, DTYPE_Q3_K},
        {"Q3_K_M", "blk.1.attn_v.weight", 0, DTYPE_Q5_K},
        {"Q3_K_M", "blk.2.attn_v.weight", 0, DTYPE_Q4_K},
        {"Q3_K_M", "blk.1.ffn_down.weight", 0, DTYPE_Q5_K},
        {"Q3_K_M", "blk.2.ffn_down.weight", 0, DTYPE_Q4_K},
        {"Q3_K_L", "blk.2.attn_output.weight", 0, DTYPE_Q5_K},
        {"Q8_0", "output.weight", 0, DTYPE_Q8_0},
        {"F16", "output.weight", 0, DTYPE_F16},
        {"Q6_K", "blk.0.ffn_up.weight", 0, DTYPE_Q6_K},
        {"F32", "blk.0.attn_norm.weight", 0, DTYPE_F32},
        {"IQ4_XS", "blk.9.attn_v.weight", 0, DTYPE_Q5_K},
        {"IQ4_XS", "blk.3.ffn_down.weight", 0, DTYPE_Q5_K},
        {"IQ4_XS", "blk.4.ffn_down.weight", 0, DTYPE_IQ4_XS},
        {"IQ4_NL", "blk.9.attn_output.weight", 8, DTYPE_Q5_K},
        {"IQ4_NL", "output.weight", 0, DTYPE_Q6_K},
        {"MXFP4", "output.weight", 0, DTYPE_Q8_0},
        {"MXFP4", "blk.9.ffn_down.weight", 0, DTYPE_MXFP4},
        {"MXFP4", "blk.9.ffn_down_exps.weight", 32, DTYPE_MXFP4},
        {"MXFP4", "blk.9.attn_q.weight", 32, DTYPE_Q8_0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mix_model model = {.n_layers = 32, .n_head = 32, .n_head_kv = 8, .n_expert = cases[i].n_expert};
        tensor t = {.name = cases[i].tensor, .type = DTYPE_F32, .n_dims = 2, .shape = {4096, 64, 1, 1}};
        bool gave_way;
        dtype type = mix_type(mix_find(cases[i].mix), &model, &t, &gave_way);
        if (type != cases[i].type || gave_way) {
            fail_msg("%s: %s became %s", cases[i].mix, cases[i].tensor, dtype_name(type));
        }
    }
}

static void rows_that_do_not_divide_get_smaller_blocks(void **state)
{
    static const struct {
        const char *mix;
        uint64_t n_in;
        dtype type;
    } cases[] = {{"Q2_K", 96, DTYPE_Q4_0},    {"Q3_K_S", 96, DTYPE_Q4_0}, {"Q4_K_S", 96, DTYPE_Q5_0},
                 {"Q5_K_S", 96, DTYPE_Q5_1},  {"Q6_K", 96, DTYPE_Q8_0},   {"Q4_K_S", 100, DTYPE_F16},
                 {"IQ4_XS", 96, DTYPE_IQ4_NL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mix_model model = {.n_layers = 32, .n_head = 32, .n_head_kv = 32};
        tensor t = {.name = "blk.9.ffn_up.weight", .n_dims = 2, .shape = {cases[i].n_in, 64, 1, 1}};
        bool gave_way;
        assert_int_equal(mix_type(mix_find(cases[i].mix), &model, &t, &gave_way), cases[i].type);
        assert_true(gave_way);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mix_gives_a_model_with_the_same_metadata_and_near_weights),
        cmocka_unit_test(the_number_of_threads_and_the_instruction_set_change_no_byte),
        cmocka_unit_test(a_stopped_call_leaves_what_was_there),
        cmocka_unit_test(a_killed_process_leaves_nothing),
        cmocka_unit_test(parts_are_the_same_model_and_no_longer_than_asked_for),
        cmocka_unit_test(what_was_split_becomes_one_file_again),
        cmocka_unit_test(parts_take_the_place_of_parts),
        cmocka_unit_test(parts_that_cannot_be_placed_leave_none),
        cmocka_unit_test(a_process_killed_among_parts_leaves_a_whole_model_or_none),
        cmocka_unit_test(a_weight_that_is_no_number_names_its_tensor),
        cmocka_unit_test(a_weight_that_f16_cannot_hold_does_not_become_infinite),
        cmocka_unit_test(what_cannot_be_is_said),
        cmocka_unit_test(an_importance_matrix_that_would_change_nothing_is_refused),
        cmocka_unit_test(experts_have_their_own_importance_in_the_older_format_too),
        cmocka_unit_test(importance_of_fewer_matrices_than_four_dimensions_have_is_refused),
        cmocka_unit_test(values_of_latent_attention_find_the_importance_of_the_whole),
        cmocka_unit_test(kept_types_keep_the_files_word_for_them),
        cmocka_unit_test(a_model_may_take_its_own_place),
        cmocka_unit_test(mixes_are_the_fields),
        cmocka_unit_test(rows_that_do_not_divide_get_smaller_blocks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
