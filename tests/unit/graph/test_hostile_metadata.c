/*
 * Metadata of every family's tiny model with each value left out or made another one: the model is built or refused in
 * one line that says of what, and nothing is written beyond its tables.
 * Owner: the test program. Lifetime: the process.
 */
#include <math.h>

#include "graph/graph.h"
#include "loaders/readers.h"
#include "support/family_model.h"
#include "support/test.h"

enum { FAMILIES_MAX = 128, META_MAX = 256 };

static const uint64_t numbers[] = {0,    1,    2,     3,          7,          255,        1023,
                                   1024, 1025, 65537, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000};
static const double floats[] = {0, -1, 1e-30, 1e30, 1e300, 0.5, 3};

/* What a value becomes; false: there are no more. */
static bool change(meta_value *v, size_t i)
{
    static const uint32_t list[3] = {1, 0, 0xffffffff};
    enum { N_NUMBERS = sizeof numbers / sizeof *numbers, N_FLOATS = sizeof floats / sizeof *floats };
    if (i < N_NUMBERS) {
        v->type = META_U64;
        v->u = numbers[i];
        return true;
    }
    i -= N_NUMBERS;
    if (i < N_FLOATS + 2) {
        v->type = META_F32;
        v->f = i < N_FLOATS ? floats[i] : i == N_FLOATS ? (double)NAN : (double)INFINITY;
        return true;
    }
    i -= N_FLOATS + 2;
    v->type = i == 0 ? META_BOOL : i == 1 ? META_STRING : i == 2 ? META_I64 : META_ARRAY;
    if (i == 0) {
        v->u = 1;
    } else if (i == 1) {
        v->s = (text_view){"x", 1};
    } else if (i == 2) {
        v->i = -1;
    } else if (i < 7) { /* of none, one and three */
        v->array = (meta_array){.type = META_U32, .n = i == 3 ? 0 : i == 4 ? 1 : 3, .data = list};
        v->array.type = i == 6 ? META_I32 : META_U32;
    }
    return i < 7;
}

/* Whether it builds. */
static bool builds(const char *what, const model_file *whole, const meta_value *meta, uint64_t n_meta)
{
    model_file *file = NULL;
    graph *g = NULL;
    mlxr_error error = {0}, ignored;
    assert_ok(model_file_make(&file, &ignored), &ignored);
    file->format = whole->format;
    file->version = whole->version;
    file->meta = meta;
    file->n_meta = n_meta;
    file->tensors = whole->tensors;
    file->n_tensors = whole->n_tensors;
    file->rope_halves = whole->rope_halves;
    assert_ok(model_file_index(file, &ignored), &ignored);
    mlxr_status status = graph_build(&g, file, 0, false, &error);
    if ((status == MLXR_OK) != (g != NULL) || (status != MLXR_OK && (!error.text[0] || strchr(error.text, '\n')))) {
        fail_msg("%s: status %d, '%s'", what, status, error.text);
    }
    graph_close(&g);
    model_file_close(&file);
    return status == MLXR_OK;
}

static void any_value_is_taken_or_refused_in_one_line(void **state)
{
    static char names[FAMILIES_MAX][FAMILY_NAME_MAX];
    size_t n_families = family_model_list(names, FAMILIES_MAX), n_all = 0, n_refused = 0;
    (void)state;
    for (size_t f = 0; f < n_families; f++) {
        char folder[600];
        size_t n_tried = 0;
        mlxr_error error = {0};
        model_file *file = NULL;
        meta_value meta[META_MAX];
        snprintf(folder, sizeof folder, "%.400s/%.99s", test_temp_dir(), names[f]);
        family_model_write(names[f], folder);
        assert_ok(model_file_open(&file, folder, &error), &error);
        assert_true(file->n_meta < META_MAX);
        memcpy(meta, file->meta, (size_t)file->n_meta * sizeof *meta);
        assert_true(builds(names[f], file, meta, file->n_meta));
        for (uint64_t k = 0; k < file->n_meta; k++) {
            for (size_t i = 0; change(&meta[k], i); i++, n_tried++) {
                n_refused += !builds(meta[k].key, file, meta, file->n_meta);
            }
            meta[k] = meta[file->n_meta - 1]; /* left out */
            n_refused += !builds("one less", file, meta, file->n_meta - 1);
            meta[k] = file->meta[k];
        }
        assert_true(n_tried >= 50);
        n_all += n_tried;
        model_file_close(&file);
    }
    assert_true(3 * n_refused > n_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_value_is_taken_or_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
