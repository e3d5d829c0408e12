/*
 * Folders of sentence-transformers: what modules.json may say, in which order, and where the modules lie; and weight
 * files that have another name than others give them. Each broken in one place: one clear line for each.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loaders/model_file.h"
#include "loaders/safetensors_modules.h"
#include "safetensors_text.h"
#include "support/fail_alloc.h"
#include "support/region_malloc.inc"

#define GEMMA_EMBED CLASS("Gemma3TextModel", ", \"use_bidirectional_attention\": true")
#define NORM "{" E("model.norm.weight", "F32", "[1]", 0, 4) "}"
#define LAYER "{" E("linear.weight", "F32", "[3, 1]", 0, 12) "}"
#define IDENTITY "{\"activation_function\": \"torch.nn.modules.linear.Identity\"}"
#define MEAN "{\"pooling_mode_mean_tokens\": true}"
#define M(type, path)                                                                                                  \
    "{\"idx\": 0, \"name\": \"0\", \"path\": \"" path "\", \"type\": \"sentence_transformers.models." type "\"}"
#define FIRST M("Transformer", "")
#define POOL M("Pooling", "1_Pooling")
#define D2 M("Dense", "2_Dense")
#define D3 M("Dense", "3_Dense")
#define LAST M("Normalize", "4_Normalize")

/* A model with pooling and two dense layers in the folders that sentence-transformers calls so. */
static const char *make_model(const char *kind, size_t i)
{
    static char folder[512];
    snprintf(folder, sizeof folder, "%s/%s%zu", test_temp_dir(), kind, i);
    mkdir(folder, 0777);
    write_bytes(folder, "config.json", GEMMA_EMBED, strlen(GEMMA_EMBED));
    write_weights(folder, "model.safetensors", NORM, 4);
    write_bytes(folder, "1_Pooling/config.json", MEAN, strlen(MEAN));
    write_bytes(folder, "2_Dense/config.json", IDENTITY, strlen(IDENTITY));
    write_weights(folder, "2_Dense/model.safetensors", LAYER, 12);
    write_bytes(folder, "3_Dense/config.json", IDENTITY, strlen(IDENTITY));
    write_weights(folder, "3_Dense/model.safetensors", "{" E("linear.weight", "F32", "[1, 3]", 0, 12) "}", 12);
    return folder;
}

/* Opens the folder: it is refused with these words in one line, or taken (NULL). */
static void check_folder(const char *folder, const char *what, const char *wanted)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = model_file_open(&file, folder, &error);
    bool right = wanted ? status != MLXR_OK && status == error.status && !file && strstr(error.text, wanted) &&
                              !strchr(error.text, '\n')
                        : status == MLXR_OK;
    if (!right) {
        fail_msg("%s: %s\n  expected: %s", what, error.text, wanted ? wanted : "(success)");
    }
    model_file_close(&file);
}

static uint64_t number(const model_file *file, const char *key)
{
    const meta_value *value = model_file_meta(file, key);
    return value ? value->u : 0;
}

/* The list says which folders, and in which order; those that it does not list are not read. */
static void modules_are_those_of_the_list_in_its_order(void **state)
{
    static const struct {
        const char *list; /* NULL: there is none */
        uint64_t pooling, out_2, out_3;
    } cases[] = {{NULL, 1, 3, 1},
                 {"[" FIRST ", " POOL ", " D2 ", " D3 ", " LAST "]", 1, 3, 1},
                 {"[" FIRST ", " POOL ", " D2 ", " LAST "]", 1, 3, 0},
                 {"[" FIRST ", " POOL ", " D3 ", " D2 "]", 1, 1, 3},
                 {"[" FIRST ", " POOL ", " LAST "]", 1, 0, 0},
                 {"[" FIRST ", " POOL ", " M("Dropout", "d") ", " LAST "]", 1, 0, 0},
                 {"[" FIRST ", " M("Pooling", "other") "]", 2, 0, 0},
                 {"[" FIRST "]", 1 /* the class's */, 0, 0},
                 {"[{\"type\": \"sentence_transformers.base.modules.transformer.Transformer\"}, " POOL "]", 1, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_file *file = NULL;
        mlxr_error error;
        const char *folder = make_model("order", i);
        const char cls[] = "{\"pooling_mode\": \"cls\"}";
        write_bytes(folder, "other/config.json", cls, strlen(cls));
        if (cases[i].list) {
            write_bytes(folder, "modules.json", cases[i].list, strlen(cases[i].list));
        }
        assert_ok(model_file_open(&file, folder, &error), &error);
        assert_int_equal(number(file, "gemma-embedding.pooling_type"), cases[i].pooling);
        const tensor *t2 = model_file_tensor(file, "dense_2.weight"), *t3 = model_file_tensor(file, "dense_3.weight");
        assert_int_equal(t2 ? t2->shape[1] : 0, cases[i].out_2);
        assert_int_equal(t3 ? t3->shape[1] : 0, cases[i].out_3);
        assert_int_equal(number(file, "gemma-embedding.dense_2_feat_out"), cases[i].out_2);
        assert_int_equal(number(file, "gemma-embedding.dense_3_feat_out"), cases[i].out_3);
        assert_int_equal(number(file, "gemma-embedding.dense_2_feat_in"), t2 ? t2->shape[0] : 0);
        model_file_close(&file);
    }
}

static void a_list_that_cannot_be_computed_is_named(void **state)
{
    static const struct {
        const char *list, *error;
    } cases[] = {
        {"", "modules.json: line 1"},
        {"{", "modules.json: line 1"},
        {"[", "modules.json: line 1"},
        {"[" FIRST, "modules.json: line 1"},
        {"[" FIRST ",]", "modules.json: line 1"},
        {"[" FIRST "] x", "modules.json: line 1"},
        {"{}", "modules.json: no list of modules"},
        {"{\"a\": [" FIRST "]}", "modules.json: no list of modules"},
        {"[]", "modules.json: no list of modules"},
        {"[[" FIRST "]]", "module 0 is of type '(no text)'"},
        {"[null]", "module 0 is of type '(no text)'"},
        {"[1]", "module 0 is of type '(no text)'"},
        {"[\"Transformer\"]", "module 0 is of type '(no text)'"},
        {"[{}]", "module 0 is of type '(no text)'"},
        {"[{\"type\": null}]", "module 0 is of type '(no text)'"},
        {"[{\"type\": 1}]", "module 0 is of type '(no text)'"},
        {"[{\"type\": [\"Transformer\"]}]", "module 0 is of type '(no text)'"},
        {"[{\"type\": \"\"}]", "module 0 is of type ''"},
        {"[{\"type\": \"Transformer.\"}]", "module 0 is of type 'Transformer.'"},
        {"[{\"type\": \"transformer\"}]", "module 0 is of type 'transformer'"},
        {"[{\"type\": \"XTransformer\"}]", "module 0 is of type 'XTransformer'"},
        {"[{\"type\": \"a\", \"type\": \"b\"}]", "modules.json: line 1"},
        {"[" M("CLIPModel", "") "]", "of type 'sentence_transformers.models.CLIPModel'; Transformer"},
        {"[" M("StaticEmbedding", "") "]", "StaticEmbedding'"},
        {"[" M("Router", "") "]", "Router'"},
        {"[" FIRST ", " M("WordWeights", "1") "]", "module 1 is of type 'sentence_transformers.models.WordWeights'"},
        {"[" FIRST ", " M("LSTM", "1") "]", "LSTM'"},
        {"[" FIRST ", " M("CNN", "1") "]", "CNN'"},
        {"[" FIRST ", " M("SpladePooling", "1_Pooling") "]", "SpladePooling'"},
        {"[" FIRST ", " POOL ", " M("LayerNorm", "2") "]",
         "module 2 is of type 'sentence_transformers.models.LayerNorm'"},
        {"[" FIRST ", " M("WeightedLayerPooling", "1") ", " POOL "]", "WeightedLayerPooling'"},
        {"[" POOL "]", "module 0: the first one must be a Transformer"},
        {"[" POOL ", " FIRST "]", "module 0: the first one must be a Transformer"},
        {"[" LAST "]", "module 0: the first one must be a Transformer"},
        {"[" D2 "]", "module 0: the first one must be a Transformer"},
        {"[" FIRST ", " FIRST "]", "module 1: a second Transformer"},
        {"[" FIRST ", " POOL ", " FIRST "]", "module 2: a second Transformer"},
        {"[" M("Transformer", "0_Transformer") ", " POOL "]", "the model lies in '0_Transformer'; name that folder"},
        {"[" FIRST ", " POOL ", " POOL "]", "module 2: pooling behind pooling"},
        {"[" FIRST ", " LAST ", " POOL "]", "module 2: pooling behind pooling, a dense layer or a normalisation"},
        {"[" FIRST ", " D2 "]", "module 1: a dense layer before pooling"},
        {"[" FIRST ", " D2 ", " POOL "]", "module 1: a dense layer before pooling"},
        {"[" FIRST ", " POOL ", " LAST ", " D2 "]", "module 3: a dense layer behind a normalisation"},
        {"[" FIRST ", " POOL ", " D2 ", " LAST ", " D3 "]", "module 4: a dense layer behind a normalisation"},
        {"[" FIRST ", " POOL ", " D2 ", " D3 ", " D2 "]", "'2_Dense' is a third dense layer; 2 are supported"},
        {"[" FIRST ", " M("Pooling", "") "]", "module 1: path '' is no folder of the model's"},
        {"[" FIRST ", " M("Pooling", "..") "]", "module 1: path '..' is no folder"},
        {"[" FIRST ", " M("Pooling", ".") "]", "module 1: path '.' is no folder"},
        {"[" FIRST ", " M("Pooling", "../1_Pooling") "]", "module 1: path '../1_Pooling' is no folder"},
        {"[" FIRST ", " M("Pooling", "/1_Pooling") "]", "module 1: path '/1_Pooling' is no folder"},
        {"[" FIRST ", " M("Pooling", "a/1_Pooling") "]", "module 1: path 'a/1_Pooling' is no folder"},
        {"[" FIRST ", " M("Pooling", "a\\\\b") "]", "module 1: path 'a\\b' is no folder"},
        {"[" FIRST ", " M("Pooling", "c:b") "]", "module 1: path 'c:b' is no folder"},
        {"[" FIRST ", {\"type\": \"Pooling\"}]", "module 1: path '(no text)' is no folder"},
        {"[" FIRST ", {\"type\": \"Pooling\", \"path\": 1}]", "module 1: path '(no text)' is no folder"},
        {"[" FIRST ", {\"type\": \"Pooling\", \"path\": null}]", "module 1: path '(no text)' is no folder"},
        {"[" FIRST ", {\"type\": \"Pooling\", \"path\": [\"1_Pooling\"]}]", "module 1: path '(no text)' is no folder"},
        {"[" FIRST ", " POOL ", " M("Dense", "") "]", "module 2: path '' is no folder"},
        {"[" FIRST ", " POOL ", " M("Dense", "../2_Dense") "]", "module 2: path '../2_Dense' is no folder"},
        {"[" FIRST ", " POOL ", " M("Dense", "/2_Dense") "]", "module 2: path '/2_Dense' is no folder"},
        {"[" FIRST ", " POOL ", {\"type\": \"Dense\", \"path\": {}}]", "module 2: path '(no text)' is no folder"},
        {"[" FIRST ", " POOL ", " M("Dense", "none") "]", "none/config.json: cannot open"},
        {"[" FIRST ", " POOL ", " M("Dense", "1_Pooling") "]", "1_Pooling/config.json: activation ''"},
        {"[" FIRST ", " POOL ", " M("Dense", "seventeen-letters-and-more-than-sixty-four-bytes-are-no-name-of-one") "]",
         "is no folder of the model's"},
        {"[\"\\u0000\"]", "modules.json: line 1"},
    };
    (void)state;
    _Static_assert(sizeof cases / sizeof *cases >= 50, "hostile lists of modules");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = make_model("list", i);
        write_bytes(folder, "modules.json", cases[i].list, strlen(cases[i].list));
        check_folder(folder, cases[i].list, cases[i].error);
    }
}

static void a_list_cut_anywhere_is_refused(void **state)
{
    static const char list[] = "[" FIRST ", " POOL ", " D2 ", " D3 ", " LAST "]";
    const char *folder = make_model("cut", 0);
    (void)state;
    for (size_t n = 0; n < sizeof list - 1; n++) {
        write_bytes(folder, "modules.json", list, n);
        check_folder(folder, "cut", "modules.json: line 1");
    }
    write_bytes(folder, "modules.json", "[\0]", 3);
    check_folder(folder, "NUL", "modules.json: a NUL byte");
}

/* Of a dense module each file, and what its configuration says. */
static void dense_modules_that_are_not_computed_are_named(void **state)
{
    static const char *const activations[] = {"Tanh", "ReLU",      "GELU",     "Sigmoid",  "SiLU",
                                              "ELU",  "LeakyReLU", "Softplus", "Softmax",  "Hardtanh",
                                              "Mish", "SELU",      "PReLU",    "identity", "Identity "};
    static const char *const values[] = {
        "null",         "true", "false", "0",  "-1.5",
        "1e300",        "\"\"", "[]",    "{}", "[\"torch.nn.modules.linear.Identity\"]",
        "\"Identity\"", "\".\""};
    static const char *const configs[] = {"",     "{",  "[]",         "1",     "\"x\"",
                                          "null", "{}", "{\"a\": 1}", "{} {}", "{\"activation_function\"}"};
    static const struct {
        const char *header;
        size_t n_data;
        const char *error;
    } files[] = {{"", 0, "model.safetensors"},
                 {"{", 0, "header: line 1"},
                 {"[]", 0, "header"},
                 {LAYER, 11, "is truncated, download it again"},
                 {"{" E("linear.weight", "F64", "[3, 1]", 0, 24) "}", 24, "has dtype 'F64'"},
                 {"{" E("linear.weight", "I8", "[3, 1]", 0, 3) "}", 3, "dtype 'I8'"},
                 {"{" E("linear.weight", "F32", "[3, 1]", 0, 8) "}", 8, "linear.weight"},
                 {"{" E("linear.weight", "F32", "[3, -1]", 0, 12) "}", 12, "linear.weight"},
                 {"{" E("linear.weight", "F32", "[1, 1, 1, 1, 3]", 0, 12) "}", 12, "linear.weight"},
                 {"{" E("linear.weight", "F32", "[3, 1]", 4, 16) "}", 16, "linear.weight"},
                 {"{" E("linear.weight", "F32", "\"3\"", 0, 12) "}", 12, "linear.weight"},
                 {"{" E("linear.weight", "F32", "[4611686018427387904, 4]", 0, 12) "}", 12, "linear.weight"},
                 {"{\"linear.weight\": 1}", 0, "linear.weight"},
                 {"{\"linear.weight\": {}}", 0, "linear.weight"}};
    (void)state;
    size_t n = 0;
    char text[160], path[700];
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++, n++) {
        const char *folder = make_model("dense", n);
        snprintf(text, sizeof text, "{\"activation_function\": \"torch.nn.modules.activation.%s\"}", activations[i]);
        write_bytes(folder, i % 2 ? "2_Dense/config.json" : "3_Dense/config.json", text, strlen(text));
        check_folder(folder, text, "; torch's Identity is supported");
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++, n++) {
        const char *folder = make_model("dense", n);
        snprintf(text, sizeof text, "{\"activation_function\": %s}", values[i]);
        write_bytes(folder, "2_Dense/config.json", text, strlen(text));
        check_folder(folder, text, "; torch's Identity is supported");
    }
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++, n++) {
        const char *folder = make_model("dense", n);
        write_bytes(folder, "3_Dense/config.json", configs[i], strlen(configs[i]));
        check_folder(folder, configs[i], "3_Dense/config.json");
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++, n++) {
        const char *folder = make_model("dense", n);
        write_weights(folder, "2_Dense/model.safetensors", files[i].header, files[i].n_data);
        check_folder(folder, files[i].header, files[i].error);
    }
    assert_true(n >= 50);
    const char *folder = make_model("dense", n);
    snprintf(path, sizeof path, "%s/2_Dense/model.safetensors", folder);
    assert_int_equal(unlink(path), 0);
    check_folder(folder, "no weights: no module", NULL);
    const char list[] = "[" FIRST ", " POOL ", " D2 "]";
    write_bytes(folder, "modules.json", list, strlen(list));
    check_folder(folder, "listed, no weights", "2_Dense/model.safetensors: cannot open");
}

/* Several modes are put side by side by sentence-transformers, and one that is not known is another vector. */
static void a_pooling_mode_that_is_not_computed_is_named(void **state)
{
    static const struct {
        const char *text;
        bool taken;
    } cases[] = {{"{\"pooling_mode\": \"mean\"}", true},
                 {"{\"pooling_mode\": \"cls\"}", true},
                 {"{\"pooling_mode\": \"lasttoken\"}", true},
                 {"{\"pooling_mode\": [\"mean\"]}", true},
                 {"{\"pooling_mode\": \"mean\", \"pooling_mode_cls_token\": true}", true},
                 {"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_max_tokens\": false}", true},
                 {"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_max_tokens\": true}", false},
                 {"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_weightedmean_tokens\": true}", false},
                 {"{\"pooling_mode_mean_sqrt_len_tokens\": true}", false},
                 {"{\"pooling_mode\": \"max\"}", false},
                 {"{\"pooling_mode\": \"weightedmean\"}", false},
                 {"{\"pooling_mode\": [\"mean\", \"cls\"]}", false},
                 {"{\"pooling_mode\": []}", false},
                 {"{\"pooling_mode\": 1}", false},
                 {"{\"pooling_mode\": {}}", false},
                 {"{\"pooling_mode\": \"\"}", false},
                 {"{\"pooling_mode\": [[\"mean\"]]}", false},
                 {"{\"pooling_mode\": \"Mean\"}", false}};
    const char list[] = "[" FIRST ", " M("Pooling", "vector") "]";
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = make_model("mode", i);
        write_bytes(folder, "modules.json", list, strlen(list));
        write_bytes(folder, "vector/config.json", cases[i].text, strlen(cases[i].text));
        check_folder(folder, cases[i].text, cases[i].taken ? NULL : "vector/config.json: exactly one of mean, first");
    }
}

/* ---- weight files of other names ------------------------------------------------------------------------------- */

static void the_only_weight_file_is_the_models_whatever_its_name(void **state)
{
    static const char *const names[] = {"gptq_model-4bit-128g.safetensors", "pytorch_model.safetensors",
                                        "x.safetensors"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[700], to[700];
        const char *folder = make_model("name", i);
        snprintf(from, sizeof from, "%s/model.safetensors", folder);
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        assert_int_equal(rename(from, to), 0);
        write_bytes(folder, ".hidden.safetensors", "", 0);
        write_bytes(folder, "adapter_model.safetensors", "", 0);
        write_bytes(folder, "notes.txt", "", 0);
        check_folder(folder, names[i], NULL);
        check_folder(to, names[i], NULL);
    }
}

static void several_weight_files_without_an_index_are_named(void **state)
{
    static const char *const names[] = {"a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors"};
    char from[700], to[700], wanted[64];
    const char *folder = make_model("several", 0);
    (void)state;
    snprintf(from, sizeof from, "%s/model.safetensors", folder);
    snprintf(to, sizeof to, "%s/moved", folder);
    assert_int_equal(rename(from, to), 0);
    check_folder(folder, "none", "model.safetensors: cannot open");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        write_weights(folder, names[i], NORM, 4);
        snprintf(wanted, sizeof wanted, "%zu files of weights (", i + 1);
        check_folder(folder, names[i], i == 0 ? NULL : wanted);
    }
    check_folder(folder, "what to do",
                 "…), and no model.safetensors.index.json that says which belong together: add it");
    char here[1024];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    check_folder("config.json", "the current folder", "current folder: 4 files of weights (");
    assert_int_equal(chdir(here), 0);
    snprintf(to, sizeof to, "%s/b.safetensors", folder);
    check_folder(to, "one by name", NULL);
    write_weights(folder, "model.safetensors", NORM, 4);
    check_folder(folder, "model.safetensors comes first", NULL);
}

/* The n-th allocation fails, for each n: one error, nothing left. */
static void each_allocation_may_fail(void **state)
{
    static const char list[] = "[" FIRST ", " POOL ", " D2 ", " D3 ", " LAST "]";
    const char *folder = make_model("memory", 0);
    (void)state;
    for (int listed = 0; listed < 2; listed++) {
        if (listed) {
            write_bytes(folder, "modules.json", list, strlen(list));
        }
        for (long n = 1;; n++) {
            model_file *file = NULL;
            mlxr_error error = {0};
            fail_alloc_at(n);
            mlxr_status status = model_file_open(&file, folder, &error);
            if (!fail_alloc_stop()) {
                assert_ok(status, &error);
                model_file_close(&file);
                assert_true(n > 10);
                break;
            }
            assert_true(status == MLXR_NOMEM && !file && strstr(error.text, "memory"));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_are_those_of_the_list_in_its_order),
        cmocka_unit_test(a_list_that_cannot_be_computed_is_named),
        cmocka_unit_test(a_list_cut_anywhere_is_refused),
        cmocka_unit_test(dense_modules_that_are_not_computed_are_named),
        cmocka_unit_test(a_pooling_mode_that_is_not_computed_is_named),
        cmocka_unit_test(the_only_weight_file_is_the_models_whatever_its_name),
        cmocka_unit_test(several_weight_files_without_an_index_are_named),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
