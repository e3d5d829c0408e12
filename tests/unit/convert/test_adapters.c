/*
 * Adapters of experts and embeddings: what PEFT writes and what GGUF has say the same, merged or applied, alone or in a
 * step with others; and those that fit no matrix of the model say which. What they compute is compared with PEFT itself
 * in oracle/families.
 * Owner: the test program. Lifetime: the process.
 */
#include "mlxr_adapter.h"

#include <stdlib.h>

#include "graph/adapter.h"
#include "graph/family.h"
#include "mlxr_convert.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { N = 24, TENSORS = 512 };

static const char *const families[] = {"mixtral-lora", "qwen3moe-lora", "gpt-oss-lora", "gemma2-lora"};

/* ---- GGUF adapters ------------------------------------------------------------------------------------------------
 */

typedef struct entry {
    char name[96];
    uint32_t n_dims;
    uint64_t shape[3];
    float *values;
} entry;

typedef struct script {
    entry entries[TENSORS];
    size_t n;
    char arch[32];
    float alpha;
} script;

static script *new_script(const char *arch, float alpha)
{
    script *s = calloc(1, sizeof *s);
    assert_non_null(s);
    snprintf(s->arch, sizeof s->arch, "%s", arch);
    s->alpha = alpha;
    return s;
}

/* A zeroed tensor; n 0: a matrix, else a stack. */
static float *add(script *s, const char *name, char which, uint64_t a, uint64_t b, uint64_t n)
{
    assert_true(s->n < TENSORS);
    entry *e = &s->entries[s->n++];
    *e = (entry){.n_dims = n ? 3 : 2, .shape = {a, b, n ? n : 1}};
    snprintf(e->name, sizeof e->name, "%s.lora_%c", name, which);
    e->values = calloc((size_t)(a * b * e->shape[2]), sizeof(float));
    assert_non_null(e->values);
    return e->values;
}

static void put(FILE *f, uint64_t value, size_t n)
{
    fwrite(&value, n, 1, f);
}

static void put_text(FILE *f, const char *text)
{
    put(f, strlen(text), 8);
    fputs(text, f);
}

static size_t bytes_of(const entry *e)
{
    return (size_t)(e->shape[0] * e->shape[1] * e->shape[2]) * sizeof(float);
}

/* Writes it, and ends it. */
static void write_script(script *s, const char *path)
{
    const char *const texts[][2] = {
        {"general.type", "adapter"}, {"general.architecture", s->arch}, {"adapter.type", "lora"}};
    FILE *f = tiny_open(path);
    uint64_t offset = 0;
    fputs("GGUF", f);
    put(f, 3, 4);
    put(f, s->n, 8);
    put(f, 4, 8);
    for (size_t i = 0; i < 3; i++) {
        put_text(f, texts[i][0]);
        put(f, 8, 4);
        put_text(f, texts[i][1]);
    }
    put_text(f, "adapter.lora.alpha");
    put(f, 6, 4);
    fwrite(&s->alpha, sizeof s->alpha, 1, f);
    for (size_t i = 0; i < s->n; i++) {
        const entry *e = &s->entries[i];
        put_text(f, e->name);
        put(f, e->n_dims, 4);
        for (uint32_t d = 0; d < e->n_dims; d++) {
            put(f, e->shape[d], 8);
        }
        put(f, 0, 4);
        put(f, offset, 8);
        offset += (bytes_of(e) + 31) / 32 * 32;
    }
    for (size_t i = 0; i < s->n; i++) {
        while (ftell(f) % 32) {
            fputc(0, f);
        }
        fwrite(s->entries[i].values, 1, bytes_of(&s->entries[i]), f);
        free(s->entries[i].values);
    }
    while (ftell(f) % 32) {
        fputc(0, f);
    }
    tiny_close(f, path);
    free(s);
}

/* A matrix as convert_lora_to_gguf.py of llama.cpp writes it; an embedding's A has a row a token. */
static void turn_matrix(script *s, const hparams *h, const adapter_target *t)
{
    bool table = adapter_is_table(t->name);
    float *a = add(s, t->name, 'a', table ? t->rank : t->n_in, table ? t->n_in : t->rank, 0);
    float *b = add(s, t->name, 'b', t->rank, t->n_out, 0);
    float *plain = calloc((size_t)t->n_in * t->rank, sizeof *plain);
    adapter_target_a(t, 0, plain);
    for (uint64_t i = 0; i < t->n_in * t->rank; i++) {
        a[table ? i % t->n_in * t->rank + i / t->n_in : i] = plain[i];
    }
    for (uint64_t row = 0; row < t->n_out; row++) {
        adapter_target_b(t, 0, graph_adapter_row(h, false, true, t->name, row), b + row * t->rank);
    }
    free(plain);
}

/* The experts of a layer's gates, ups or downs as one stack. */
static void turn_experts(script *s, const hparams *h, const adapter_file *file, uint32_t layer, uint32_t part)
{
    static const char *const parts[] = {"gate", "up", "down"};
    char name[96];
    float *a = NULL, *b = NULL;
    uint64_t n_in = part == 2 ? h->n_ff_expert : h->n_embd, n_out = part == 2 ? h->n_embd : h->n_ff_expert;
    snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", layer, parts[part]);
    for (uint32_t i = 0; i < file->n_targets; i++) {
        const adapter_target *t = &file->targets[i];
        adapter_experts x;
        if (!graph_adapter_experts(t->name, &x) || x.layer != layer || !x.of[part]) {
            continue;
        }
        a = a ? a : add(s, name, 'a', n_in, t->rank, h->n_expert);
        b = b ? b : add(s, name, 'b', t->rank, n_out, h->n_expert);
        for (uint32_t e = 0; e < h->n_expert; e++) {
            if (x.expert != UINT32_MAX && x.expert != e) {
                continue;
            }
            uint32_t from = x.expert == UINT32_MAX ? e : 0;
            adapter_target_a(t, from, a + e * n_in * t->rank);
            for (uint64_t row = 0; row < n_out; row++) {
                adapter_target_b(t, from, graph_adapter_expert_row(t, &x, part, row), b + (e * n_out + row) * t->rank);
            }
        }
    }
}

/* The adapter in dir/adapter as GGUF. */
static void turn_adapter(const char *dir, const char *path)
{
    mlxr_error error;
    char folder[600];
    model_file *model = NULL;
    adapter_file *file = NULL;
    hparams h;
    assert_ok(model_file_open(&model, dir, &error), &error);
    assert_ok(hparams_read(&h, model, &error), &error);
    const adapter_model of = graph_adapter_model(&h);
    snprintf(folder, sizeof folder, "%s/adapter", dir);
    assert_ok(adapter_file_open(&file, folder, &of, &error), &error);
    script *s = new_script(h.fam->name, file->targets[0].scale * (float)file->targets[0].rank);
    for (uint32_t i = 0; i < file->n_targets; i++) {
        adapter_experts x;
        if (!graph_adapter_experts(file->targets[i].name, &x)) {
            turn_matrix(s, &h, &file->targets[i]);
        }
    }
    for (uint32_t i = 0; i < 3 * h.n_layers && h.n_expert; i++) {
        turn_experts(s, &h, file, i / 3, i % 3);
    }
    write_script(s, path);
    adapter_file_close(&file);
    model_file_close(&model);
}

/* ---- the world ----------------------------------------------------------------------------------------------------
 */

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *plain, *adapted;
    int32_t ids[N];
} world;

static const char *file_of(const char *name)
{
    static char paths[8][512];
    static unsigned n;
    char *path = paths[n++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_temp_dir(), name);
    return path;
}

static mlxr_model *with(mlxr_model *model, const char *path, float scale)
{
    mlxr_error error;
    mlxr_model *made = NULL;
    assert_ok(mlxr_model_with(&made, model, &(mlxr_adapter_path){path, scale}, 1, &error), &error);
    return made;
}

/* `adapter` NULL: none. */
static void open_world(world *w, const char *model, const char *adapter, uint32_t n_threads)
{
    mlxr_error error;
    *w = (world){0};
    mlxr_engine_options options = {.backend = "cpu", .kv_type = "f32", .n_threads = n_threads, .kv_bytes = 16 << 20};
    assert_ok(mlxr_engine_open(&w->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w->plain, w->engine, model, NULL, &error), &error);
    w->adapted = adapter ? with(w->plain, adapter, 1) : mlxr_model_ref(w->plain);
    for (int i = 0; i < N; i++) {
        w->ids[i] = 5 + i * i % 290;
    }
}

static void close_world(world *w)
{
    mlxr_model_unref(&w->adapted);
    mlxr_model_unref(&w->plain);
    mlxr_engine_close(&w->engine);
}

static mlxr_slice slice_of(const world *w, mlxr_model *model, uint32_t n)
{
    mlxr_error error;
    mlxr_slice slice = {.n_compute = n, .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
    assert_ok(mlxr_sequence_open(&slice.sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(slice.sequence, w->ids, n, &error), &error);
    mlxr_sequence_release(slice.sequence); /* nothing is found in the cache */
    return slice;
}

static void logits_of(const world *w, mlxr_model *model, uint32_t n, float *out)
{
    mlxr_error error;
    mlxr_slice slice = slice_of(w, model, n);
    assert_ok(mlxr_step(w->engine, &slice, 1, &error), &error);
    memcpy(out, slice.logits, (size_t)n * TINY_N_VOCAB * sizeof *out);
    mlxr_sequence_close(&slice.sequence);
}

static double distance(const float *a, const float *b)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < (size_t)N * TINY_N_VOCAB; i++) {
        wrong += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return wrong / all;
}

static float expected[N * TINY_N_VOCAB], found[N * TINY_N_VOCAB], without[N * TINY_N_VOCAB];

enum { PEFT_ROOM = 600 };

/* A family's model with its adapter, peft[PEFT_ROOM], and that as GGUF in `turned`. */
static void write_both(const char *name, const char *dir, char *peft, const char *turned)
{
    family_model_write(name, dir);
    snprintf(peft, PEFT_ROOM, "%s/adapter", dir);
    turn_adapter(dir, turned);
}

/* ---- tests --------------------------------------------------------------------------------------------------------
 */

static void adapters_of_both_formats_say_the_same_of_models_of_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        world w;
        mlxr_error error;
        char peft[PEFT_ROOM];
        const char *dir = file_of(families[i]), *gguf = file_of("model.gguf"), *turned = file_of("lora.gguf");
        write_both(families[i], dir, peft, turned);
        open_world(&w, dir, peft, 2);
        logits_of(&w, w.plain, N, without);
        logits_of(&w, w.adapted, N, expected);
        assert_true(distance(without, expected) > 1e-3);
        mlxr_model *other = with(w.plain, turned, 1);
        logits_of(&w, other, N, found);
        assert_memory_equal(found, expected, sizeof found); /* the same numbers, from elsewhere */
        mlxr_model_unref(&other);
        close_world(&w);
        assert_ok(mlxr_quantize(dir, gguf, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error), &error);
        open_world(&w, gguf, peft, 2);
        logits_of(&w, w.adapted, N, found);
        assert_true(distance(found, expected) < 1e-10);
        other = with(w.plain, turned, 1);
        logits_of(&w, other, N, found);
        assert_true(distance(found, expected) < 1e-10);
        mlxr_model_unref(&other);
        close_world(&w);
    }
}

static void merged_weights_compute_what_applied_adapters_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        world w;
        mlxr_error error;
        char peft[PEFT_ROOM];
        const char *dir = file_of(families[i]), *plain = file_of("plain.gguf"), *turned = file_of("lora.gguf");
        write_both(families[i], dir, peft, turned);
        open_world(&w, dir, peft, 2);
        logits_of(&w, w.adapted, N, expected);
        close_world(&w);
        assert_ok(mlxr_quantize(dir, plain, &(mlxr_quantize_options){.n_threads = 2}, NULL, &error), &error);
        for (int from = 0; from < 4; from++) { /* either model with either adapter */
            const char *const adapters[] = {from % 2 ? turned : peft};
            const char *merged = file_of("merged.gguf");
            const mlxr_quantize_options o = {.adapters = adapters, .n_adapters = 1, .n_threads = 2};
            assert_ok(mlxr_quantize(from / 2 ? plain : dir, merged, &o, NULL, &error), &error);
            open_world(&w, merged, NULL, 2);
            logits_of(&w, w.plain, N, found);
            assert_true(distance(found, expected) < 1e-9);
            close_world(&w);
        }
    }
}

static void sequences_with_different_adapters_of_experts_share_a_step(void **state)
{
    (void)state;
    static float alone[5][N * TINY_N_VOCAB];
    const uint32_t lengths[] = {N, 1, 13, N, 7};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        for (uint32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
            world w;
            mlxr_error error;
            char peft[600];
            mlxr_slice slices[5];
            mlxr_model *both = NULL;
            family_model_write(families[i], file_of("model"));
            snprintf(peft, sizeof peft, "%s/adapter", file_of("model"));
            open_world(&w, file_of("model"), peft, n_threads);
            const mlxr_adapter_path twice[] = {{peft, 0.25f}, {peft, 0.75f}};
            assert_ok(mlxr_model_with(&both, w.plain, twice, 2, &error), &error);
            mlxr_model *half = with(w.plain, peft, -0.5f), *models[] = {w.plain, w.adapted, half, both, w.adapted};
            for (size_t k = 0; k < 5; k++) {
                logits_of(&w, models[k], lengths[k], alone[k]);
                slices[k] = slice_of(&w, models[k], lengths[k]);
            }
            assert_ok(mlxr_step(w.engine, slices, 5, &error), &error);
            for (size_t k = 0; k < 5; k++) {
                assert_memory_equal(slices[k].logits, alone[k], lengths[k] * TINY_N_VOCAB * sizeof(float));
            }
            for (size_t k = 0; k < 5; k++) {
                mlxr_sequence_close(&slices[k].sequence);
            }
            logits_of(&w, w.adapted, N, expected);
            assert_true(distance(alone[3], expected) < 1e-9); /* a quarter and three of them */
            mlxr_model_unref(&half);
            mlxr_model_unref(&both);
            close_world(&w);
        }
    }
}

/* The model has 6 experts of [64, 96] in 4 layers, 320 tokens, and a head that is its embedding. */
static const struct {
    const char *name;
    uint64_t n_in, n_out, n; /* n 0: no stack */
    const char *words;       /* NULL: it is taken */
} hostile[] = {
    {"blk.0.ffn_up_exps.weight", 64, 96, 6, NULL},
    {"blk.3.ffn_gate_up_exps.weight", 64, 192, 6, NULL},
    {"blk.0.ffn_down.5.weight", 96, 64, 0, NULL},
    {"output.weight", 64, 320, 0, NULL},
    {"token_embd.weight", 320, 64, 0, NULL},
    {"blk.0.ffn_up_exps.weight", 64, 96, 5, "as 5 of [64, 96]; the model has 6 experts of [64, 96]"},
    {"blk.0.ffn_up_exps.weight", 64, 96, 0, "as 1 of [64, 96]; the model has 6 experts"},
    {"blk.0.ffn_up_exps.weight", 96, 64, 6, "'blk.0.ffn_up_exps.weight' as 6 of [96, 64]"},
    {"blk.0.ffn_down_exps.weight", 64, 96, 6, "'blk.0.ffn_down_exps.weight' as 6 of [64, 96]"},
    {"blk.0.ffn_gate_up_exps.weight", 64, 96, 6, "'blk.0.ffn_gate_up_exps.weight' as 6 of [64, 96]"},
    {"blk.0.ffn_up.6.weight", 64, 96, 0, "'blk.0.ffn_up.6.weight' as 1 of [64, 96]; the model has 6 experts"},
    {"blk.0.ffn_up.1.weight", 64, 96, 6, "'blk.0.ffn_up.1.weight' as 6 of [64, 96]"},
    {"blk.4.ffn_up_exps.weight", 64, 96, 6, "the adapter changes 'blk.4.ffn_up_exps.weight', which "},
    {"blk.0.ffn_upper_exps.weight", 64, 96, 6, "the adapter changes 'blk.0.ffn_upper_exps.weight', which "},
    {"blk.0.ffn_up.1.weights", 64, 96, 0, "the adapter changes 'blk.0.ffn_up.1.weights', which "},
    {"blk.0.ffn_up.weight", 64, 96, 0, "the adapter changes 'blk.0.ffn_up.weight', which "},
    {"token_embd.weight", 321, 64, 0, "'token_embd.weight' as [321, 64]; the model has [320, 64]"},
    {"token_embd.weight", 320, 65, 0, "'token_embd.weight' as [320, 65]; the model has [320, 64]"},
    {"output.weight", 64, 321, 0, "'output.weight' as [64, 321]; the model has [64, 320]"},
    {"output.weight", 64, 320, 2, "'output.weight' as [64, 320]"},
};

static void write_one(const char *path, size_t i)
{
    script *s = new_script("llama", 2);
    bool table = adapter_is_table(hostile[i].name);
    uint64_t n_in = hostile[i].n_in;
    add(s, hostile[i].name, 'a', table ? 2 : n_in, table ? n_in : 2, hostile[i].n);
    add(s, hostile[i].name, 'b', 2, hostile[i].n_out, hostile[i].n);
    write_script(s, path);
}

static void what_fits_no_matrix_of_the_model_names_itself(void **state)
{
    (void)state;
    world w;
    mlxr_error error = {0};
    const char *path = file_of("hostile.gguf"), *model = file_of("mixtral"), *merged = file_of("merged.gguf");
    const char *const adapters[] = {path};
    family_model_write("mixtral-lora", model);
    open_world(&w, model, NULL, 1);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        const char *words = hostile[i].words;
        mlxr_adapter *adapter = NULL;
        write_one(path, i);
        mlxr_status status = mlxr_adapter_load(&adapter, w.plain, path, &error);
        if ((status == MLXR_OK) != !words || (words && !strstr(error.text, words))) {
            fail_msg("%s: applied: %s", hostile[i].name, status == MLXR_OK ? "no error" : error.text);
        }
        mlxr_adapter_unref(&adapter);
        const mlxr_quantize_options o = {.adapters = adapters, .n_adapters = 1, .n_threads = 1};
        status = mlxr_quantize(model, merged, &o, NULL, &error);
        if ((status == MLXR_OK) != !words || (words && !strstr(error.text, words))) {
            fail_msg("%s: merged: %s", hostile[i].name, status == MLXR_OK ? "no error" : error.text);
        }
    }
    close_world(&w);
}

static void an_expert_that_is_changed_twice_is_refused(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"blk.1.ffn_up.3.weight", "blk.1.ffn_up_exps.weight"},
                                           {"blk.1.ffn_gate_up_exps.weight", "blk.1.ffn_up.3.weight"}};
    world w;
    mlxr_error error = {0};
    mlxr_adapter *adapter = NULL;
    const char *model = file_of("mixtral"), *twice = file_of("twice.gguf"), *merged = file_of("merged.gguf");
    const char *const adapters[] = {twice, twice};
    family_model_write("mixtral-lora", model);
    open_world(&w, model, NULL, 1);
    for (size_t i = 0; i < 2; i++) {
        script *s = new_script("llama", 2);
        for (size_t k = 0; k < 2; k++) {
            bool all = strstr(pairs[i][k], "_exps") != NULL, both = strstr(pairs[i][k], "gate_up") != NULL;
            add(s, pairs[i][k], 'a', 64, 2 + k, all ? 6 : 0); /* of different ranks */
            add(s, pairs[i][k], 'b', 2 + k, both ? 192 : 96, all ? 6 : 0);
        }
        write_script(s, twice);
        assert_int_equal(mlxr_adapter_load(&adapter, w.plain, twice, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, pairs[i][1]));
        assert_non_null(strstr(error.text, "twice"));
        mlxr_quantize_options o = {.adapters = adapters, .n_adapters = 1, .n_threads = 1};
        assert_int_equal(mlxr_quantize(model, merged, &o, NULL, &error), MLXR_FORMAT);
        assert_non_null(strstr(error.text, pairs[i][1]));
        assert_non_null(strstr(error.text, "' twice"));
        s = new_script("llama", 2); /* two adapters may change the same expert */
        add(s, "blk.1.ffn_up.3.weight", 'a', 64, 2, 0);
        add(s, "blk.1.ffn_up.3.weight", 'b', 2, 96, 0);
        write_script(s, twice);
        o.n_adapters = 2;
        assert_ok(mlxr_quantize(model, merged, &o, NULL, &error), &error);
    }
    close_world(&w);
}

static void adapters_of_experts_are_refused_where_there_are_none(void **state)
{
    (void)state;
    world w;
    mlxr_error error = {0};
    mlxr_adapter *adapter = NULL;
    char peft[600];
    family_model_write("qwen3moe-lora", file_of("moe"));
    snprintf(peft, sizeof peft, "%s/adapter", file_of("moe"));
    family_model_write("llama-lora", file_of("dense"));
    open_world(&w, file_of("dense"), NULL, 1);
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, peft, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "experts"));
    assert_non_null(strstr(error.text, "changes what no llama model takes adapters for"));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_of_both_formats_say_the_same_of_models_of_both),
        cmocka_unit_test(merged_weights_compute_what_applied_adapters_do),
        cmocka_unit_test(sequences_with_different_adapters_of_experts_share_a_step),
        cmocka_unit_test(what_fits_no_matrix_of_the_model_names_itself),
        cmocka_unit_test(an_expert_that_is_changed_twice_is_refused),
        cmocka_unit_test(adapters_of_experts_are_refused_where_there_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
