/*
 * Folders of every family: they open, and so does none of what their config.json and weights may not be without one
 * clear line. Each member of each config is left out or becomes something else, each tensor gets other dimensions.
 * Owner: the test program. Lifetime: the process.
 */
#include "safetensors_text.h"
#include "support/family_model.h"

enum { FAMILIES_MAX = 160, FAMILY_FILE_MAX = 1 << 26 };

typedef struct folder {
    char name[FAMILY_NAME_MAX];
    char *config, *weights;
    size_t n_config, n_weights;
} folder;

static folder folders[FAMILIES_MAX];
static size_t n_folders;

static void read_into(const char *dir, const char *name, char **text, size_t *n)
{
    char path[700];
    mlxr_error error = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(file_read(path, FAMILY_FILE_MAX, text, n, &error), &error);
}

static int read_all(void **state)
{
    static char names[FAMILIES_MAX][FAMILY_NAME_MAX];
    (void)state;
    n_folders = family_model_list(names, FAMILIES_MAX);
    assert_true(n_folders > 30 && n_folders <= FAMILIES_MAX);
    for (size_t i = 0; i < n_folders; i++) {
        char dir[600];
        model_file *file = NULL;
        mlxr_error error = {0};
        snprintf(dir, sizeof dir, "%s/%s", test_temp_dir(), names[i]);
        family_model_write(names[i], dir);
        assert_ok(model_file_open(&file, dir, &error), &error);
        assert_true(file->n_tensors > 3 && file->n_meta > 5);
        model_file_close(&file);
        memcpy(folders[i].name, names[i], FAMILY_NAME_MAX);
        read_into(dir, "config.json", &folders[i].config, &folders[i].n_config);
        read_into(dir, "model.safetensors", &folders[i].weights, &folders[i].n_weights);
    }
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_folders; i++) {
        free(folders[i].config);
        free(folders[i].weights);
    }
    return 0;
}

/* What opens is a model file; what does not says why in one line. True: it opened. */
static bool opens(const char *what, text_view config, const void *weights_bytes, size_t n)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    const safetensors_texts texts = {.config = config};
    mlxr_status status = safetensors_open_memory(&file, &texts, weights_bytes, n, &error);
    bool opened = file != NULL;
    if (opened != (status == MLXR_OK) || (!opened && (!error.text[0] || strchr(error.text, '\n')))) {
        fail_msg("%s: status %d, '%s'", what, status, error.text);
    }
    model_file_close(&file);
    return opened;
}

static json_t *parse(const char *text, size_t n)
{
    json_error_t where;
    json_t *root = json_loadb(text, n, 0, &where);
    assert_non_null(root);
    return root;
}

static size_t open_config(const char *what, const json_t *root)
{
    static const uint8_t empty[10] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    size_t opened = opens(what, view(text), empty, sizeof empty);
    free(text);
    return opened;
}

static const char *const others[] = {"null", "true", "false", "-1",   "0",    "1",    "3",  "4294967296",
                                     "1.5",  "1e30", "\"x\"", "\"\"", "[]",   "[1]",  "{}", "[\"full_attention\"]",
                                     "9999", "-1.5", "[-1]",  "[{}]", "[[]]", "1e-30"};

static void changed_members_are_taken_or_refused_by_name(void **state)
{
    size_t n_tried = 0, n_refused = 0;
    (void)state;
    for (size_t f = 0; f < n_folders; f++) {
        json_t *keys = parse(folders[f].config, folders[f].n_config), *value;
        const char *kept, *inner;
        size_t n_here = 0;
        json_object_set_new(keys, "tie_word_embeddings", json_true()); /* there are no weights */
        json_t *root = json_deep_copy(keys);
        json_object_foreach(keys, kept, value)
        {
            json_t *whole = json_deep_copy(value), *part;
            for (size_t k = 0; k < sizeof others / sizeof *others; k++, n_here++) {
                json_object_set_new(root, kept, json_loads(others[k], JSON_DECODE_ANY, NULL));
                n_refused += !open_config(kept, root);
            }
            json_object_del(root, kept);
            n_refused += !open_config(kept, root);
            n_here++;
            json_object_foreach(whole, inner, part) /* none of what is no object */
            {
                json_t *copy = json_deep_copy(whole);
                assert_non_null(part);
                for (size_t k = 0; k < sizeof others / sizeof *others; k++, n_here++) {
                    json_object_set_new(copy, inner, json_loads(others[k], JSON_DECODE_ANY, NULL));
                    json_object_set(root, kept, copy);
                    n_refused += !open_config(inner, root);
                }
                json_decref(copy);
            }
            json_object_set_new(root, kept, whole);
        }
        if (!open_config(folders[f].name, root)) {
            fail_msg("%s does not open without weights", folders[f].name);
        }
        assert_true(n_here > 50);
        n_tried += n_here;
        json_decref(root);
        json_decref(keys);
    }
    assert_true(10 * n_refused > n_tried); /* most members mean nothing here, and may be anything */
}

/* The same data behind another header, which is padded so that the data stays where it is. */
typedef struct changed_weights {
    uint8_t *bytes;
    size_t n_header, n; /* room of the header; of all */
} changed_weights;

static bool opens_with(const folder *f, changed_weights *w, const json_t *header, const char *what)
{
    char *text = json_dumps(header, JSON_COMPACT);
    size_t n_text = strlen(text);
    assert_true(n_text <= w->n_header);
    memcpy(w->bytes + 8, text, n_text);
    memset(w->bytes + 8 + n_text, ' ', w->n_header - n_text);
    free(text);
    return opens(what, (text_view){f->config, f->n_config}, w->bytes, w->n);
}

static void changed_tensors_are_taken_or_refused_by_name(void **state)
{
    size_t n_tried = 0, n_refused = 0;
    (void)state;
    for (size_t f = 0; f < n_folders; f++) {
        uint64_t n_header;
        memcpy(&n_header, folders[f].weights, 8);
        json_t *root = parse(folders[f].weights + 8, (size_t)n_header), *entry;
        changed_weights w = {.n_header = (size_t)n_header + 4096};
        size_t n_data = folders[f].n_weights - 8 - (size_t)n_header;
        uint64_t length = w.n_header;
        const char *key;
        w.n = 8 + w.n_header + n_data;
        w.bytes = malloc(w.n);
        memcpy(w.bytes, &length, 8);
        memcpy(w.bytes + 8 + w.n_header, folders[f].weights + 8 + n_header, n_data);
        assert_true(opens_with(&folders[f], &w, root, "unchanged"));
        json_object_foreach(root, key, entry)
        {
            json_t *shape = json_incref(json_object_get(entry, "shape")), *dtype_text = json_object_get(entry, "dtype");
            json_int_t n = 1;
            if (!shape) {
                continue; /* __metadata__ */
            }
            for (size_t i = 0; i < json_array_size(shape); i++) {
                n *= json_integer_value(json_array_get(shape, i));
            }
            json_incref(dtype_text);
            for (int i = 0; i < 2; i++, n_tried++) {
                int change = (int)(n_tried % 7);
                json_t *other = change == 0   ? json_pack("[I]", n)
                                : change == 1 ? json_pack("[I, i]", n, 1)
                                : change == 2 ? json_pack("[i, I]", 1, n)
                                : change == 3 ? json_pack("[i, i, I]", 1, 1, n)
                                : change == 4 ? json_pack("[I]", n + 1)
                                : change == 5 ? json_array()
                                              : json_pack("[I]", 2 * n);
                json_object_set_new(entry, "shape", other);
                json_object_set_new(entry, "dtype", change == 6 ? json_string("BF16") : json_copy(dtype_text));
                n_refused += !opens_with(&folders[f], &w, root, key);
            }
            json_object_set_new(entry, "shape", shape);
            json_object_set_new(entry, "dtype", dtype_text);
        }
        free(w.bytes);
        json_decref(root);
    }
    assert_true(4 * n_refused > n_tried); /* what the graph will refuse is not refused here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_members_are_taken_or_refused_by_name),
        cmocka_unit_test(changed_tensors_are_taken_or_refused_by_name),
    };
    return cmocka_run_group_tests(tests, read_all, free_all);
}
