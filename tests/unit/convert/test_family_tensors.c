/*
 * The tensors of every family's tiny model, in its folder and in the GGUF file that convert makes of it: without any
 * one of them, with one more, and with any one in another shape or type, the model is refused by a line that names it.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>

#include "base/mapping.h"
#include "graph/graph.h"
#include "loaders/safetensors.h"
#include "mlxr_convert.h"
#include "support/family_model.h"
#include "support/test.h"

enum { FAMILIES_MAX = 128, TENSORS_MAX = 2048 };

static char names[FAMILIES_MAX][FAMILY_NAME_MAX];
static size_t n_families;

/* The model with other tensors. */
static mlxr_status build(const model_file *whole, const tensor *tensors, uint64_t n, mlxr_error *error)
{
    model_file *file = NULL;
    graph *g = NULL;
    mlxr_error ignored = {0};
    assert_ok(model_file_make(&file, &ignored), &ignored);
    file->format = whole->format;
    file->version = whole->version;
    file->meta = whole->meta;
    file->n_meta = whole->n_meta;
    file->tensors = tensors;
    file->n_tensors = n;
    file->rope_halves = whole->rope_halves;
    assert_ok(model_file_index(file, &ignored), &ignored);
    *error = (mlxr_error){0};
    mlxr_status status = graph_build(&g, file, 0, false, error);
    if (status != MLXR_OK) {
        assert_null(g);
        assert_int_equal(error->status, status);
        assert_null(strchr(error->text, '\n'));
    }
    graph_close(&g);
    model_file_close(&file);
    return status;
}

static bool is_of_name(char c)
{
    return c == '_' || c == '.' || c == '~' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
}

/* Whether the text has this name, and not as a part of another. */
static bool has_name(const char *text, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(text, name); at; at = strstr(at + 1, name)) {
        if ((at == text || !is_of_name(at[-1])) && !is_of_name(at[n])) {
            return true;
        }
    }
    return false;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && strcmp(name + n - n_end, end) == 0;
}

typedef void with_file(const char *what, const model_file *file);

/* Calls it with the folder and the file of every family. */
static void for_each_file(with_file *call)
{
    for (size_t f = 0; f < n_families; f++) {
        char folder[600], gguf[610], what[2 * FAMILY_NAME_MAX];
        mlxr_error error = {0};
        model_file *file = NULL;
        snprintf(folder, sizeof folder, "%.400s/%.99s", test_temp_dir(), names[f]);
        snprintf(gguf, sizeof gguf, "%s.gguf", folder);
        for (int is_gguf = 0; is_gguf < 2; is_gguf++) {
            snprintf(what, sizeof what, "%s, %s", names[f], is_gguf ? "GGUF" : "folder");
            assert_ok(model_file_open(&file, is_gguf ? gguf : folder, &error), &error);
            assert_true(file->n_tensors + 1 < TENSORS_MAX);
            assert_ok(build(file, file->tensors, file->n_tensors, &error), &error);
            call(what, file);
            model_file_close(&file);
        }
    }
}

static int write_all(void **state)
{
    (void)state;
    n_families = family_model_list(names, FAMILIES_MAX);
    for (size_t f = 0; f < n_families; f++) {
        char folder[600], gguf[610];
        mlxr_error error = {0};
        snprintf(folder, sizeof folder, "%.400s/%.99s", test_temp_dir(), names[f]);
        snprintf(gguf, sizeof gguf, "%s.gguf", folder);
        family_model_write(names[f], folder);
        assert_ok(mlxr_quantize(folder, gguf, &(mlxr_quantize_options){.n_threads = 1}, NULL, &error), &error);
    }
    return 0;
}

/* Ends of names whose absence means something else. */
static const struct {
    const char *end;
    bool gguf_only;
} may_be_absent[] = {
    {"output.weight", false},              /* the embedding stands for it; folders: see below */
    {"rope_freqs.weight", false},          /* all pairs turn as they would; a folder's is made of config.json */
    {"token_types.weight", true},          /* of one row: files of encoders without any say so, too */
    {".nextn.embed_tokens.weight", false}, /* the model's own stand for these three */
    {".nextn.shared_head_norm.weight", false},
    {".nextn.shared_head_head.weight", false},
};

/* Optional, and of the only layer that may have it: nothing in the file tells that it was there. */
static bool is_alone(const char *what, const char *name)
{
    bool keys_are_values = strncmp(what, "gemma4-sees,", 12) == 0 && strcmp(name, "blk.1.attn_v.weight") == 0;
    return keys_are_values ||
           (strncmp(what, "nemotron-h-latent,", 18) == 0 && strcmp(name, "blk.0.ssm_conv1d.bias") == 0);
}

/* Of a head for multi-token prediction layers behind the first stay unread (docs/models.md); names of both kinds. */
static bool is_unread(const char *what, const char *name)
{
    static const char *const second[] = {"blk.5.", "model.layers.5.", "mtp.layers.1."};
    bool in_second = false;
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) {
        in_second = in_second || strncmp(name, second[i], strlen(second[i])) == 0;
    }
    return in_second && strstr(what, "-two-mtp") != NULL;
}

static void without_any_one_tensor(const char *what, const model_file *file)
{
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        tensor others[TENSORS_MAX];
        mlxr_error error;
        uint64_t n = 0;
        for (uint64_t k = 0; k < file->n_tensors; k++) {
            if (k != i) {
                others[n++] = file->tensors[k];
            }
        }
        const char *name = file->tensors[i].name;
        bool may = is_alone(what, name) || is_unread(what, name), bound = build(file, others, n, &error) == MLXR_OK;
        for (size_t k = 0; k < sizeof may_be_absent / sizeof *may_be_absent; k++) {
            may = may || (ends_with(name, may_be_absent[k].end) &&
                          (!may_be_absent[k].gguf_only || file->format == MODEL_GGUF));
        }
        if (bound ? !may : !has_name(error.text, name)) {
            fail_msg("%s without '%s': %s", what, name, bound ? "binds" : error.text);
        }
    }
}

static void a_missing_tensor_names_itself(void **state)
{
    (void)state;
    for_each_file(without_any_one_tensor);
}

/* Tables whose number of rows says itself how long they are: tokens of GGUF, where files may be padded; positions, more
 * of which than the context has do no harm; what a vector ends as, and a reranker's one or two numbers. */
static bool may_have_other_rows(const model_file *file, const tensor *t)
{
    static const char *const any[] = {"position_embd.weight", "dense_2.weight", "dense_3.weight", "cls.output.weight"};
    bool may = file->format == MODEL_GGUF && strcmp(t->name, "token_embd.weight") == 0;
    for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
        may = may || strcmp(t->name, any[i]) == 0;
    }
    return may;
}

static void in_other_shapes(const char *what, const model_file *file)
{
    tensor changed[TENSORS_MAX];
    memcpy(changed, file->tensors, (size_t)file->n_tensors * sizeof *changed);
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        for (uint32_t d = 0; d < TENSOR_DIMS_MAX; d++) {
            for (int change = 0; change < 3; change++) {
                tensor *t = &changed[i];
                mlxr_error error;
                if (change == 1 && t->shape[d] == 1) {
                    continue;
                }
                t->shape[d] = change == 0 ? t->shape[d] + 1 : change == 1 ? t->shape[d] - 1 : t->shape[d] * 2;
                t->n_dims = d >= t->n_dims ? d + 1 : t->n_dims;
                mlxr_status status = build(file, changed, file->n_tensors, &error);
                if ((status == MLXR_OK || !has_name(error.text, t->name)) &&
                    !(d == 1 && may_have_other_rows(file, t)) && !is_unread(what, t->name)) {
                    fail_msg("%s: '%s', dimension %u of %llu: %s", what, t->name, d, (unsigned long long)t->shape[d],
                             status == MLXR_OK ? "binds" : error.text);
                }
                *t = file->tensors[i];
            }
        }
        if (changed[i].n_dims == 1 && !is_unread(what, changed[i].name)) {
            mlxr_error error;
            changed[i].type = DTYPE_F16;
            assert_int_equal(build(file, changed, file->n_tensors, &error), MLXR_UNSUPPORTED);
            assert_true(has_name(error.text, changed[i].name));
            changed[i] = file->tensors[i];
        }
    }
}

static void a_tensor_of_another_shape_or_type_names_itself(void **state)
{
    (void)state;
    for_each_file(in_other_shapes);
}

static void with_one_more(const char *what, const model_file *file)
{
    static const char *const ends[] = {
        "nobody.weight",         "attn_q.weigh",         "attn_q",           "attn_norm",
        "ffn_up.0.0.weight",     "ffn_up.99.weight",     "ffn_up.weight",    "ffn_up_exps.99",
        "ffn_gate.0.weight",     "ffn_down.3.weight",    "ffn_gate.weight",  "ffn_gate_exps.weight",
        "ffn_up_exps.weight",    "ffn_down_exps.weight", "ffn_up_exps.bias", "ffn_gate_up_exps.weight",
        "ffn_gate_up_exps.bias", "nextn.nobody",         "ssm_nobody",       "ssm_in.weight",
        "attn_qkv.weight",       "attn_q_a.weight",      "attn_sinks",       "shortconv.conv.weight"};
    static const char *const others[] = {"blk.1000.attn_norm.weight", "blk.-1.attn_norm.weight",
                                         "blk. 0.attn_norm.weight",   "blk.+0.attn_norm.weight",
                                         "blk.00.attn_norm.weight",   "blk.4294967296.attn_norm.weight",
                                         "blk..attn_norm.weight",     "blk.0",
                                         "output_norm.weights",       "output",
                                         "v.patch_embd.weight",       "mm.0.weight"};
    enum { N_ENDS = sizeof ends / sizeof *ends, N_OTHERS = sizeof others / sizeof *others };
    for (size_t m = 0; m < 3 * N_ENDS + N_OTHERS; m++) {
        tensor all[TENSORS_MAX];
        char name[128];
        mlxr_error error;
        static const char *const places[] = {"blk.0.", "blk.99.", ""};
        snprintf(name, sizeof name, "%s%s", m < 3 * N_ENDS ? places[m % 3] : "",
                 m < 3 * N_ENDS ? ends[m / 3] : others[m - 3 * N_ENDS]);
        if (model_file_tensor(file, name)) {
            continue;
        }
        memcpy(all, file->tensors, (size_t)file->n_tensors * sizeof *all);
        all[file->n_tensors] = all[0];
        all[file->n_tensors].name = name;
        mlxr_status status = build(file, all, file->n_tensors + 1, &error);
        if (status == MLXR_OK || !has_name(error.text, name)) {
            fail_msg("%s with '%s': %s", what, name, status == MLXR_OK ? "binds" : error.text);
        }
    }
}

static void one_tensor_more_names_itself(void **state)
{
    (void)state;
    for_each_file(with_one_more);
}

/* ---- folders ---- */

typedef struct folder {
    char *config, *pooling, *weights;
    size_t n_config, n_pooling, n_weights;
    const model_file *file; /* unchanged */
} folder;

static void read_text(const char *model, const char *name, char **text, size_t *n)
{
    char path[700];
    mlxr_error error = {0};
    snprintf(path, sizeof path, "%.400s/%.99s/%s", test_temp_dir(), model, name);
    if (file_read(path, 1 << 26, text, n, &error) != MLXR_OK) {
        *text = NULL;
        *n = 0;
    }
}

/* Whether the text has GGUF's name of what a folder calls `theirs`. */
static bool has_our_name(const char *text, const folder *f, const char *theirs)
{
    char ours[272];
    unsigned change;
    hf_config config = {0};
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_ok(model_file_make(&file, &error), &error);
    assert_ok(hf_config_read(file, &(safetensors_texts){.config = {f->config, f->n_config}}, &config, &error), &error);
    bool found = hf_tensor_name(&config, theirs, ours, sizeof ours, &change) == HF_KEEP && has_name(text, ours);
    model_file_close(&file);
    return found;
}

/* Opens the changed folder and binds it. A failure must name the tensor, or one of those that were made of it: they are
 * no more what they were. True: it is as good as before. */
static bool takes(const folder *f, const char *theirs, const char *now_called, mlxr_error *error)
{
    model_file *file = NULL;
    graph *g = NULL;
    const safetensors_texts texts = {.config = {f->config, f->n_config}, .pooling = {f->pooling, f->n_pooling}};
    *error = (mlxr_error){0};
    mlxr_status status = safetensors_open_memory(&file, &texts, f->weights, f->n_weights, error);
    if (status == MLXR_OK) {
        status = graph_build(&g, file, 0, false, error);
    }
    bool named = status == MLXR_OK || has_name(error->text, theirs) || has_name(error->text, now_called) ||
                 has_our_name(error->text, f, theirs);
    for (uint64_t i = 0; !named && file && i < f->file->n_tensors; i++) {
        const tensor *t = &f->file->tensors[i], *now = model_file_tensor(file, t->name);
        named = (!now || memcmp(now->shape, t->shape, sizeof t->shape) != 0) && has_name(error->text, t->name);
    }
    if (!named) {
        fail_msg("'%s': %s", theirs, error->text);
    }
    graph_close(&g);
    model_file_close(&file);
    return status == MLXR_OK;
}

/* What no part of a text model is made of: left out, whatever it is. */
static bool is_left_out(const char *name)
{
    static const char *const words[] = {"pooler.", "embed_vision.", "vision_tower.",
                                        "visual.", "vision_model.", "multi_modal_projector."};
    bool found = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        found = found || strstr(name, words[i]);
    }
    return found;
}

/* Under another name each tensor is missing, and there is one that has no place. */
static void rename_each(const char *model, folder *f)
{
    uint64_t n_header;
    memcpy(&n_header, f->weights, 8);
    for (char *at = f->weights + 8, *end = at + n_header; at < end; at++) {
        char name[128], renamed[128], *close = memchr(at + 1, '"', (size_t)(end - at) - 1);
        mlxr_error error;
        if (*at != '"' || !close || close[1] != ':' || close[2] != ' ' || close[3] != '{') {
            continue; /* no name of a tensor */
        }
        snprintf(name, sizeof name, "%.*s", (int)(close - at - 1), at + 1);
        char *middle = memchr(at + 1, '.', (size_t)(close - at)), kept = middle ? middle[1] : 0;
        assert_non_null(middle);
        middle[1] = '~';
        snprintf(renamed, sizeof renamed, "%.*s", (int)(close - at - 1), at + 1);
        if (takes(f, name, renamed, &error) && !is_left_out(name) && !is_unread(model, name)) {
            fail_msg("%s: without '%s' it binds", model, name);
        }
        middle[1] = kept;
    }
}

/* Each tensor with its dimensions the other way round, and as a vector: the same bytes. */
static void reshape_each(const char *model, folder *f)
{
    uint64_t n_header;
    memcpy(&n_header, f->weights, 8);
    for (char *at = f->weights + 8, *end = at + n_header; at < end; at++) {
        char name[128], old[64], other[80];
        mlxr_error error;
        unsigned long a, b;
        int n_used = 0;
        if (sscanf(at, "\"%127[^\"]\": {\"dtype\": \"F32\", \"shape\": [%lu, %lu]%n", name, &a, &b, &n_used) != 3 ||
            n_used == 0 || a == b) {
            continue;
        }
        snprintf(old, sizeof old, "[%lu, %lu]", a, b);
        char *shape = at + n_used - strlen(old);
        assert_memory_equal(shape, old, strlen(old));
        for (int as_vector = 0; as_vector < 2 - (a == 1); as_vector++) { /* one row is a vector */
            int n = as_vector ? snprintf(other, sizeof other, "[%lu]", a * b)
                              : snprintf(other, sizeof other, "[%lu, %lu]", b, a);
            assert_true((size_t)n <= strlen(old));
            memset(shape, ' ', strlen(old));
            memcpy(shape, other, (size_t)n);
            if (takes(f, name, name, &error) && !is_left_out(name) && !is_unread(model, name)) {
                fail_msg("%s: with '%s' as %s it binds", model, name, other);
            }
        }
        memcpy(shape, old, strlen(old));
    }
}

static void for_each_folder(void (*call)(const char *model, folder *f))
{
    for (size_t i = 0; i < n_families; i++) {
        folder f;
        model_file *file = NULL;
        mlxr_error error = {0};
        read_text(names[i], "config.json", &f.config, &f.n_config);
        read_text(names[i], "1_Pooling/config.json", &f.pooling, &f.n_pooling);
        read_text(names[i], "model.safetensors", &f.weights, &f.n_weights);
        const safetensors_texts texts = {.config = {f.config, f.n_config}, .pooling = {f.pooling, f.n_pooling}};
        assert_ok(safetensors_open_memory(&file, &texts, f.weights, f.n_weights, &error), &error);
        f.file = file;
        call(names[i], &f);
        model_file_close(&file);
        free(f.config);
        free(f.pooling);
        free(f.weights);
    }
}

static void a_tensor_of_a_folder_under_another_name_is_named(void **state)
{
    (void)state;
    for_each_folder(rename_each);
}

static void a_tensor_of_a_folder_in_another_shape_is_named(void **state)
{
    (void)state;
    for_each_folder(reshape_each);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_tensor_names_itself),
        cmocka_unit_test(a_tensor_of_another_shape_or_type_names_itself),
        cmocka_unit_test(one_tensor_more_names_itself),
        cmocka_unit_test(a_tensor_of_a_folder_under_another_name_is_named),
        cmocka_unit_test(a_tensor_of_a_folder_in_another_shape_is_named),
    };
    return cmocka_run_group_tests(tests, write_all, NULL);
}
