/*
 * Adapters: sequences with different ones in a step give the bits of each alone, what the cache keeps is found with the
 * same ones only, GGUF and PEFT files say the same, and files that say something else are refused by name.
 * Owner: the test program. Lifetime: the process.
 */
#include "mlxr_adapter.h"
#include <pthread.h>

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/error.h"
#include "mlxr_embed.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { EMBD = 64, KV = 32, RANK = 4, LAYERS = 4, PROMPT = 70 };

/* ---- adapter files for the tiny model "llama" ---------------------------------------------------------------------
 */

typedef struct matrix {
    const char *hf, *gguf;
    uint32_t n_out;
    bool turned; /* rows that GGUF has as pairs */
} matrix;

static const matrix matrices[] = {{"self_attn.q_proj", "attn_q", EMBD, true},
                                  {"self_attn.k_proj", "attn_k", KV, true},
                                  {"self_attn.o_proj", "attn_output", EMBD, false}};

static void values_of(uint64_t seed, uint32_t layer, size_t m, bool a, float *out)
{
    char name[64];
    snprintf(name, sizeof name, "%u.%s.%c", layer, matrices[m].hf, a ? 'a' : 'b');
    tiny_random_fill(seed, name, 0, 0.3f, out, (size_t)RANK * (a ? EMBD : matrices[m].n_out));
}

static void write_text(const char *path, const char *text)
{
    FILE *f = tiny_open(path);
    fputs(text, f);
    tiny_close(f, path);
}

/* dir/adapter_config.json and adapter_model.safetensors; names may be spoilt by the test. */
static void write_peft(const char *dir, uint64_t seed, const char *config, const char *prefix, const char *end)
{
    char path[512], *header = NULL;
    size_t n_header = 0, offset = 0;
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    write_text(path, config ? config : "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6, \"bias\": \"none\"}");
    FILE *text = open_memstream(&header, &n_header);
    for (uint32_t i = 0; i < 2 * LAYERS * 3; i++) {
        const matrix *m = &matrices[i / 2 % 3];
        uint32_t rows = i % 2 ? m->n_out : RANK, columns = i % 2 ? RANK : EMBD;
        fprintf(
            text,
            "%s\"%slayers.%u.%s.lora_%c%s\": {\"dtype\": \"F32\", \"shape\": [%u, %u], \"data_offsets\": [%zu, %zu]}",
            i ? ", " : "{", prefix, i / 6, m->hf, i % 2 ? 'B' : 'A', end, rows, columns, offset,
            offset + 4 * (size_t)rows * columns);
        offset += 4 * (size_t)rows * columns;
    }
    fputs("}", text);
    fclose(text);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    FILE *f = tiny_open(path);
    uint64_t length = (n_header + 7) / 8 * 8;
    fwrite(&length, sizeof length, 1, f);
    fprintf(f, "%-*s", (int)length, header);
    for (uint32_t i = 0; i < 2 * LAYERS * 3; i++) {
        static float values[RANK * EMBD];
        values_of(seed, i / 6, i / 2 % 3, i % 2 == 0, values);
        fwrite(values, 4, (size_t)RANK * (i % 2 ? matrices[i / 2 % 3].n_out : EMBD), f);
    }
    tiny_close(f, path);
    free(header);
}

static void put(FILE *f, uint64_t value, size_t n)
{
    fwrite(&value, n, 1, f);
}

static void put_name(FILE *f, const char *text)
{
    put(f, strlen(text), 8);
    fputs(text, f);
}

/* The same as a GGUF file. */
static void write_gguf(const char *path, uint64_t seed)
{
    static const char *const texts[][2] = {
        {"general.type", "adapter"}, {"general.architecture", "llama"}, {"adapter.type", "lora"}};
    FILE *f = tiny_open(path);
    float alpha = 6;
    uint64_t offset = 0;
    fputs("GGUF", f);
    put(f, 3, 4);
    put(f, 2 * LAYERS * 3, 8);
    put(f, 4, 8);
    for (size_t i = 0; i < 3; i++) {
        put_name(f, texts[i][0]);
        put(f, 8, 4);
        put_name(f, texts[i][1]);
    }
    put_name(f, "adapter.lora.alpha");
    put(f, 6, 4);
    fwrite(&alpha, 4, 1, f);
    for (uint32_t i = 0; i < 2 * LAYERS * 3; i++) {
        char name[64];
        const matrix *m = &matrices[i / 2 % 3];
        snprintf(name, sizeof name, "blk.%u.%s.weight.lora_%c", i / 6, m->gguf, i % 2 ? 'b' : 'a');
        put_name(f, name);
        put(f, 2, 4);
        put(f, i % 2 ? RANK : EMBD, 8);
        put(f, i % 2 ? m->n_out : RANK, 8);
        put(f, 0, 4);
        put(f, offset, 8);
        offset += 4 * (uint64_t)RANK * (i % 2 ? m->n_out : EMBD);
    }
    while (ftell(f) % 32) {
        fputc(0, f);
    }
    for (uint32_t i = 0; i < 2 * LAYERS * 3; i++) {
        static float values[RANK * EMBD];
        const matrix *m = &matrices[i / 2 % 3];
        values_of(seed, i / 6, i / 2 % 3, i % 2 == 0, values);
        for (uint32_t row = 0; row < (i % 2 ? m->n_out : RANK); row++) {
            uint32_t n = i % 2 ? RANK : EMBD, at = row % 16; /* heads of 16 */
            uint32_t from = i % 2 && m->turned ? row - at + at / 2 + at % 2 * 8 : row;
            fwrite(values + (size_t)from * n, 4, n, f);
        }
    }
    tiny_close(f, path);
}

/* ---- the world -----------------------------------------------------------------------------------------------------
 */

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *plain, *one, *other; /* without, and with one of two adapters */
    int32_t ids[PROMPT];
} world;

static mlxr_model *adapted(mlxr_model *model, const char *path, float scale)
{
    mlxr_error error;
    mlxr_adapter *adapter = NULL;
    mlxr_model *made = NULL;
    assert_ok(mlxr_adapter_load(&adapter, model, path, &error), &error);
    assert_int_equal(mlxr_adapter_info_get(adapter)->rank, RANK);
    assert_int_equal(mlxr_adapter_info_get(adapter)->n_targets, LAYERS * 3);
    assert_ok(mlxr_model_adapt(&made, model, &(mlxr_adapter_use){adapter, scale}, 1, &error), &error);
    mlxr_adapter_unref(&adapter);
    return made;
}

static const char *file_of(const char *name)
{
    static char paths[4][512];
    static unsigned n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_temp_dir(), name);
    return path;
}

static void open_engine(world *w, const char *model, uint32_t n_threads, const char *kv_dir)
{
    mlxr_error error;
    memset(w, 0, sizeof *w);
    mlxr_engine_options options = {
        .backend = "cpu", .kv_type = "f32", .n_threads = n_threads, .kv_bytes = 16 << 20, .kv_dir = kv_dir};
    assert_ok(mlxr_engine_open(&w->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w->plain, w->engine, model, NULL, &error), &error);
    for (size_t i = 0; i < PROMPT; i++) {
        w->ids[i] = (int32_t)(5 + i * i % 290);
    }
}

static void open_world(world *w, uint32_t n_threads, const char *kv_dir)
{
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, file_of("base.gguf"));
    write_peft(file_of("one"), 1, NULL, "base_model.model.model.", ".weight");
    write_peft(file_of("other"), 2, NULL, "base_model.model.model.", ".weight");
    open_engine(w, file_of("base.gguf"), n_threads, kv_dir);
    w->one = adapted(w->plain, file_of("one"), 1);
    w->other = adapted(w->plain, file_of("other"), 0.5f);
}

static void close_world(world *w)
{
    mlxr_model_unref(&w->one);
    mlxr_model_unref(&w->other);
    mlxr_model_unref(&w->plain);
    mlxr_engine_close(&w->engine);
}

static mlxr_sequence *sequence_of(const world *w, mlxr_model *model, size_t n)
{
    mlxr_error error;
    mlxr_sequence *s = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    assert_ok(mlxr_sequence_open(&s, model, &greedy, &error), &error);
    assert_ok(mlxr_sequence_append(s, w->ids, n, &error), &error);
    return s;
}

/* The logits behind n tokens, with a model alone. */
static void logits_alone(const world *w, mlxr_model *model, size_t n, float *out)
{
    mlxr_error error;
    mlxr_sequence *s = sequence_of(w, model, n);
    mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s), .flags = MLXR_SLICE_NO_SAMPLE};
    assert_ok(mlxr_step(w->engine, &slice, 1, &error), &error);
    memcpy(out, slice.logits, TINY_N_VOCAB * sizeof *out);
    mlxr_sequence_close(&s);
}

static double distance(const float *a, const float *b)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < TINY_N_VOCAB; i++) {
        wrong += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return wrong / all;
}

static void sequences_with_different_adapters_share_a_step(void **state)
{
    (void)state;
    static float alone[6][TINY_N_VOCAB];
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
        world w;
        mlxr_error error;
        open_world(&w, n_threads, NULL);
        mlxr_model *models[] = {w.plain, w.one, w.other, w.one, w.plain, w.other};
        size_t lengths[] = {40, 33, 61, 2, 7, 70};
        mlxr_slice slices[6];
        for (size_t i = 0; i < 6; i++) {
            logits_alone(&w, models[i], lengths[i], alone[i]);
        }
        for (size_t i = 0; i < 6; i++) {
            mlxr_sequence *s = sequence_of(&w, models[i], lengths[i]);
            mlxr_sequence_release(s);
            slices[i] = (mlxr_slice){.sequence = s, .n_compute = (uint32_t)lengths[i]};
        }
        assert_ok(mlxr_step(w.engine, slices, 6, &error), &error);
        for (size_t i = 0; i < 6; i++) {
            assert_memory_equal(slices[i].logits, alone[i], sizeof alone[i]);
        }
        assert_true(distance(alone[1], alone[0]) > 1e-3);
        for (size_t i = 0; i < 6; i++) { /* one more token each, of which some have adapters */
            slices[i] = (mlxr_slice){.sequence = slices[i].sequence, .n_compute = 1};
        }
        assert_ok(mlxr_step(w.engine, slices, 6, &error), &error);
        for (size_t i = 0; i < 6; i++) {
            float again[TINY_N_VOCAB];
            mlxr_sequence *s = NULL;
            memcpy(again, slices[i].logits, sizeof again);
            assert_ok(mlxr_sequence_open(&s, models[i], NULL, &error), &error);
            assert_ok(mlxr_sequence_append(s, mlxr_sequence_tokens(slices[i].sequence), lengths[i] + 1, &error),
                      &error);
            mlxr_sequence_release(s);
            mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)lengths[i] + 1, .flags = MLXR_SLICE_NO_SAMPLE};
            assert_ok(mlxr_step(w.engine, &slice, 1, &error), &error);
            assert_memory_equal(slice.logits, again, sizeof again);
            mlxr_sequence_close(&s);
            slices[i].logits = NULL;
        }
        for (size_t i = 0; i < 6; i++) {
            mlxr_sequence_close(&slices[i].sequence);
        }
        close_world(&w);
    }
}

static void scales_and_several_adapters_add_up(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    float whole[TINY_N_VOCAB], halves[TINY_N_VOCAB], plain[TINY_N_VOCAB], nothing[TINY_N_VOCAB];
    mlxr_adapter *one = NULL;
    mlxr_model *model = NULL;
    open_world(&w, 1, NULL);
    assert_ok(mlxr_adapter_load(&one, w.plain, file_of("one"), &error), &error);
    mlxr_adapter_use twice[] = {{one, 0.25f}, {one, 0.75f}}, none[] = {{one, 0}};
    assert_ok(mlxr_model_adapt(&model, w.other, twice, 2, &error), &error); /* in the place of the other one */
    logits_alone(&w, w.one, 50, whole);
    logits_alone(&w, model, 50, halves);
    assert_true(distance(halves, whole) < 1e-10);
    mlxr_model_unref(&model);
    assert_ok(mlxr_model_adapt(&model, w.plain, none, 1, &error), &error);
    logits_alone(&w, w.plain, 50, plain);
    logits_alone(&w, model, 50, nothing);
    assert_memory_equal(plain, nothing, sizeof plain);
    mlxr_model_unref(&model);
    assert_ok(mlxr_model_adapt(&model, w.one, NULL, 0, &error), &error);
    assert_ptr_equal(model, w.plain);
    mlxr_model_unref(&model);
    mlxr_adapter_unref(&one);
    close_world(&w);
}

static void what_drafting_costs_is_learned_for_a_model_with_and_without_adapters(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    open_world(&w, 1, NULL);
    mlxr_sequence *s = sequence_of(&w, w.one, PROMPT);
    assert_ok(mlxr_sequence_draft(s, w.plain, 4, &error), &error);
    for (int i = 0; i < 20; i++) { /* a prompt, plain steps and drafting ones in turn, whatever they cost */
        acceptance_tracker *t = &s->spec.tracker;
        t->loss = t->draft_cost = 0;
        t->acceptance = 0.9;
        t->pause = i % 2;
        mlxr_slice slice = {.sequence = s, .n_compute = (uint32_t)mlxr_sequence_pending(s)};
        assert_ok(mlxr_step(w.engine, &slice, 1, &error), &error);
    }
    assert_true(mlxr_draft_stats_get(s).n_drafting_steps > 0);
    double learned = mlxr_draft_stats_get(s).row_cost;
    assert_true(learned != 0.3); /* not what it began with */
    mlxr_sequence_close(&s);
    mlxr_model *models[] = {w.one, w.plain, w.other};
    for (size_t i = 0; i < 3; i++) {
        s = sequence_of(&w, models[i], PROMPT);
        assert_ok(mlxr_sequence_draft(s, NULL, 4, &error), &error);
        assert_true(mlxr_draft_stats_get(s).row_cost == learned);
        mlxr_sequence_close(&s);
    }
    close_world(&w);
}

/* In memory and behind a restart. */
static void pages_are_found_with_the_same_adapters_only(void **state)
{
    (void)state;
    world w;
    float logits[TINY_N_VOCAB];
    char kv_dir[512];
    snprintf(kv_dir, sizeof kv_dir, "%s", file_of("kv"));
    open_world(&w, 1, kv_dir);
    logits_alone(&w, w.plain, PROMPT, logits);
    mlxr_sequence *s = sequence_of(&w, w.one, PROMPT);
    assert_int_equal(mlxr_sequence_cached(s), 0);
    mlxr_sequence_close(&s);
    logits_alone(&w, w.one, PROMPT, logits);
    s = sequence_of(&w, w.one, PROMPT);
    assert_true(mlxr_sequence_cached(s) >= 64);
    mlxr_sequence_close(&s);
    s = sequence_of(&w, w.other, PROMPT);
    assert_int_equal(mlxr_sequence_cached(s), 0);
    mlxr_sequence_close(&s);
    close_world(&w);
    open_world(&w, 1, kv_dir);
    mlxr_model *scaled = adapted(w.plain, file_of("one"), 0.999f);
    const struct {
        mlxr_model *model;
        bool found;
    } cases[] = {{w.other, false}, {scaled, false}, {w.one, true}, {w.plain, true}};
    for (size_t i = 0; i < 4; i++) {
        s = sequence_of(&w, cases[i].model, PROMPT);
        assert_int_equal(mlxr_sequence_cached(s) > 0, cases[i].found);
        mlxr_sequence_close(&s);
    }
    mlxr_model_unref(&scaled);
    write_peft(file_of("one"), 3, NULL, "base_model.model.model.", ".weight"); /* other bytes under the same name */
    scaled = adapted(w.plain, file_of("one"), 1);
    s = sequence_of(&w, scaled, PROMPT);
    assert_int_equal(mlxr_sequence_cached(s), 0);
    mlxr_sequence_close(&s);
    mlxr_model_unref(&scaled);
    close_world(&w);
}

/* Rows of Q and K lie otherwise in GGUF, of models and of adapters. */
static void formats_of_models_and_adapters_can_be_mixed(void **state)
{
    (void)state;
    float logits[4][TINY_N_VOCAB];
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, file_of("base.gguf"));
    tiny_model_write_safetensors(tiny_model_find("llama"), NULL, file_of("base"));
    write_peft(file_of("peft"), 7, NULL, "base_model.model.model.", ".weight");
    write_gguf(file_of("lora.gguf"), 7);
    for (size_t i = 0; i < 4; i++) {
        world w;
        open_engine(&w, file_of(i % 2 ? "base" : "base.gguf"), 1, NULL);
        w.one = adapted(w.plain, file_of(i / 2 ? "lora.gguf" : "peft"), 1);
        logits_alone(&w, w.one, PROMPT, logits[i]);
        close_world(&w);
        assert_true(distance(logits[i], logits[0]) < 1e-9);
    }
}

static void embeddings_take_adapters(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    float plain[EMBD], with[EMBD], squares = 0;
    open_world(&w, 1, NULL);
    mlxr_embed_input input = {.ids = w.ids, .n_ids = 30};
    assert_ok(mlxr_embed(w.engine, w.plain, &input, 1, 0, plain, &error), &error);
    assert_ok(mlxr_embed(w.engine, w.one, &input, 1, 0, with, &error), &error);
    for (size_t i = 0; i < EMBD; i++) {
        squares += (plain[i] - with[i]) * (plain[i] - with[i]);
    }
    assert_true(squares > 1e-4f);
    close_world(&w);
}

/* The same files and scales are the same model, with what it cached, until its place is needed. */
static void a_model_keeps_what_it_made_of_files(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    mlxr_model *model = NULL, *again = NULL;
    float with[TINY_N_VOCAB], by_hand[TINY_N_VOCAB];
    open_world(&w, 1, NULL);
    char one[512], other[512];
    snprintf(one, sizeof one, "%s", file_of("one"));
    snprintf(other, sizeof other, "%s", file_of("other"));
    mlxr_adapter_path files[] = {{one, 1}, {other, 0.5f}};
    assert_ok(mlxr_model_with(&model, w.plain, files, 1, &error), &error);
    logits_alone(&w, model, PROMPT, with);
    logits_alone(&w, w.one, PROMPT, by_hand);
    assert_memory_equal(with, by_hand, sizeof with);
    mlxr_model *address = model;
    mlxr_model_unref(&model);
    assert_ok(mlxr_model_with(&again, w.plain, files, 1, &error), &error);
    assert_ptr_equal(again, address);
    mlxr_sequence *s = sequence_of(&w, again, PROMPT);
    assert_true(mlxr_sequence_cached(s) >= 64);
    for (uint32_t i = 0; i < 12; i++) { /* more than it keeps; the one in use stays */
        files[1].scale = 0.25f * (float)(i + 1);
        assert_ok(mlxr_model_with(&model, again, files, 2, &error), &error);
        logits_alone(&w, model, 40, with);
        mlxr_model_unref(&model);
    }
    assert_ok(mlxr_model_with(&model, w.plain, files, 1, &error), &error);
    assert_ptr_equal(model, again);
    mlxr_model_unref(&model);
    files[1].path = "nowhere";
    assert_int_not_equal(mlxr_model_with(&model, w.plain, files, 2, &error), MLXR_OK);
    mlxr_sequence_close(&s);
    mlxr_model_unref(&again);
    close_world(&w); /* what was kept goes with the model */
}

typedef struct reading {
    mlxr_model *model;
    mlxr_adapter_path files[2];
    mlxr_status status;
    mlxr_error error;
} reading;

static void *read_files(void *user)
{
    reading *r = user;
    r->status = mlxr_model_read_adapters(r->model, r->files, 2, &r->error);
    return NULL;
}

static void files_are_read_by_any_thread_and_the_engines_waits_for_none(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    mlxr_model *model = NULL;
    float with[TINY_N_VOCAB], by_hand[TINY_N_VOCAB];
    open_world(&w, 1, NULL);
    char one[512], other[512], away[520];
    snprintf(one, sizeof one, "%s", file_of("one"));
    snprintf(other, sizeof other, "%s", file_of("other"));
    snprintf(away, sizeof away, "%s-away", one);
    reading readings[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        readings[i] = (reading){.model = w.plain, .files = {{one, 1}, {i < 3 ? other : "nowhere", 0.5f}}};
        assert_int_equal(pthread_create(&threads[i], NULL, read_files, &readings[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readings[i].status == MLXR_OK, i < 3);
    }
    assert_non_null(strstr(readings[3].error.text, "nowhere"));
    rename(one, away); /* who looked for it now would not find it */
    assert_ok(mlxr_model_with(&model, w.plain, readings[0].files, 1, &error), &error);
    logits_alone(&w, model, PROMPT, with);
    logits_alone(&w, w.one, PROMPT, by_hand);
    assert_memory_equal(with, by_hand, sizeof with);
    rename(away, one);
    mlxr_model_unref(&model);
    close_world(&w);
}

/* ---- what is refused -----------------------------------------------------------------------------------------------
 */

#define CONFIG(more) "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6" more "}"

static const struct {
    const char *config, *prefix, *end, *words;
} spoilt[] = {
    {"{", NULL, NULL, "adapter_config.json: line 1"},
    {"[]", NULL, NULL, "not a JSON object"},
    {"{\"r\": 4}", NULL, NULL, "peft_type ''"},
    {"{\"peft_type\": \"IA3\"}", NULL, NULL, "peft_type 'IA3'"},
    {"{\"peft_type\": \"LORA\", \"r\": 4}", NULL, NULL, "'lora_alpha'"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": \"6\"}", NULL, NULL, "'lora_alpha'"},
    {CONFIG(", \"use_dora\": true"), NULL, NULL, "'use_dora'"},
    {CONFIG(", \"fan_in_fan_out\": true"), NULL, NULL, "'fan_in_fan_out'"},
    {CONFIG(", \"modules_to_save\": [\"lm_head\"]"), NULL, NULL, "'modules_to_save'"},
    {CONFIG(", \"trainable_token_indices\": [1]"), NULL, NULL, "'trainable_token_indices'"},
    {CONFIG(", \"layer_replication\": [[0, 2]]"), NULL, NULL, "'layer_replication'"},
    {CONFIG(", \"bias\": \"all\""), NULL, NULL, "biases ('all')"},
    {NULL, "model.", NULL, "only lora_A and lora_B"},
    {NULL, NULL, "", "only lora_A and lora_B"},
    {NULL, NULL, ".magnitude", "only lora_A and lora_B"},
    {NULL, "base_model.model.decoder.", NULL, "no llama model takes adapters"},
    {NULL, "base_model.model.model.1", NULL, "no llama model takes adapters"},
};

static void what_is_no_plain_adapter_is_refused_by_name(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    mlxr_adapter *adapter = NULL;
    open_world(&w, 1, NULL);
    for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        write_peft(file_of("spoilt"), 1, spoilt[i].config,
                   spoilt[i].prefix ? spoilt[i].prefix : "base_model.model.model.",
                   spoilt[i].end ? spoilt[i].end : ".weight");
        if (mlxr_adapter_load(&adapter, w.plain, file_of("spoilt"), &error) == MLXR_OK ||
            !strstr(error.text, spoilt[i].words)) {
            fail_msg("case %zu: expected '%s', found '%s'", i, spoilt[i].words, adapter ? "no error" : error.text);
        }
    }
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, file_of("nowhere"), &error), MLXR_IO);
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, file_of("base.gguf"), &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "not a LoRA adapter"));
    close_world(&w);
    tiny_model_write_gguf(tiny_model_find("llama-wide"), NULL, file_of("wide.gguf"));
    open_engine(&w, file_of("wide.gguf"), 1, NULL);
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, file_of("one"), &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "blk.0.attn_q.weight"));
    close_world(&w);
    tiny_model_write_gguf(tiny_model_find("qwen2"), NULL, file_of("qwen2.gguf"));
    open_engine(&w, file_of("qwen2.gguf"), 1, NULL);
    write_gguf(file_of("lora.gguf"), 7);
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, file_of("lora.gguf"), &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "family 'llama'"));
    close_world(&w);
}

/* They would reach other sequences of a step, where a backend computes all rows together. */
static void numbers_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    static const struct {
        float value;
        long from_end; /* first: the last of the file, of a matrix B; then the last of the A before it */
        bool refused;
    } cases[] = {{NAN, 4, true},
                 {INFINITY, 4, true},
                 {3e38f, 4, true}, /* × 1.5, the adapter's scale */
                 {2e38f, 4, false},
                 {NAN, 4 + 4L * RANK * EMBD, true},
                 {3e38f, 4 + 4L * RANK * EMBD, false}};
    world w;
    open_world(&w, 1, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mlxr_error error;
        mlxr_adapter *adapter = NULL;
        char path[600];
        write_peft(file_of("odd"), 1, NULL, "base_model.model.model.", ".weight");
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", file_of("odd"));
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, -cases[i].from_end, SEEK_END), 0);
        fwrite(&cases[i].value, sizeof cases[i].value, 1, f);
        tiny_close(f, path);
        mlxr_status status = mlxr_adapter_load(&adapter, w.plain, file_of("odd"), &error);
        assert_int_equal(status, cases[i].refused ? MLXR_FORMAT : MLXR_OK);
        if (adapter) {
            mlxr_adapter_unref(&adapter);
        } else {
            assert_non_null(strstr(error.text, "attn_output.weight' hold numbers that are not finite"));
        }
    }
    close_world(&w);
}

static mlxr_status refuse(backend *b, const plan *p, program **out, mlxr_error *error)
{
    (void)b;
    (void)out;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_ADAPT) {
            return error_set(error, MLXR_UNSUPPORTED, "applies no adapters");
        }
    }
    return error_set(error, MLXR_ARG, "a plan without adapters");
}

/* Whoever asks again is told again, and a model that lives for months does not grow by it. */
static void a_backend_that_refuses_adapters_costs_no_memory_a_request(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    open_world(&w, 1, NULL);
    backend_ops refusing = *w.engine->ops;
    mlxr_model *model = NULL, *base = NULL;
    mlxr_adapter *adapter = NULL;
    refusing.prepare = refuse;
    assert_ok(mlxr_model_load(&base, w.engine, file_of("base.gguf"), NULL, &error), &error);
    assert_ok(mlxr_adapter_load(&adapter, base, file_of("one"), &error), &error);
    const backend_ops *own = w.engine->ops;
    w.engine->ops = &refusing;
    size_t n_bytes = 0;
    for (size_t i = 0; i < 3; i++) {
        program *unused = NULL;
        assert_int_equal(mlxr_model_adapt(&model, base, &(mlxr_adapter_use){adapter, 1}, 1, &error), MLXR_UNSUPPORTED);
        assert_int_equal(model_adapted_program(base, true, &unused, &error), MLXR_UNSUPPORTED);
        assert_true(i == 0 || base->memory.bytes_used == n_bytes);
        n_bytes = base->memory.bytes_used;
    }
    w.engine->ops = own;
    mlxr_adapter_unref(&adapter);
    mlxr_model_unref(&base);
    close_world(&w);
}

/* Also one that lies where the other lay, in an engine that lies where the other's did. */
static void an_adapter_of_a_model_that_is_gone_is_refused(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    open_world(&w, 1, NULL);
    close_world(&w); /* the files stay */
    for (size_t i = 0; i < 8; i++) {
        mlxr_adapter *adapter = NULL;
        mlxr_model *model = NULL;
        open_engine(&w, file_of("base.gguf"), 1, NULL);
        assert_ok(mlxr_adapter_load(&adapter, w.plain, file_of("one"), &error), &error);
        mlxr_model_unref(&w.plain);
        if (i % 2) {
            assert_ok(mlxr_model_load(&w.plain, w.engine, file_of("base.gguf"), NULL, &error), &error);
        } else {
            mlxr_engine_close(&w.engine);
            open_engine(&w, file_of("base.gguf"), 1, NULL);
        }
        assert_int_equal(mlxr_model_adapt(&model, w.plain, &(mlxr_adapter_use){adapter, 1}, 1, &error), MLXR_ARG);
        assert_non_null(strstr(error.text, "another model"));
        mlxr_adapter_unref(&adapter);
        mlxr_model_unref(&w.plain);
        mlxr_engine_close(&w.engine);
    }
}

/* With the folder around the layers and without it, as models without a head are saved, a name means the same. */
static void a_matrix_that_is_changed_twice_is_refused(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    mlxr_adapter *adapter = NULL;
    open_world(&w, 1, NULL);
    write_peft(file_of("twice"), 1, NULL, "base_model.model.model.", ".weight");
    const char *weights = file_of("twice/adapter_model.safetensors");
    family_model_exchange(weights, "\"base_model.model.model.layers.1.", "      \"base_model.model.layers.1.");
    assert_ok(mlxr_adapter_load(&adapter, w.plain, file_of("twice"), &error), &error);
    mlxr_adapter_unref(&adapter);
    family_model_exchange(weights, "\"base_model.model.layers.1.", "\"base_model.model.layers.0.");
    assert_int_equal(mlxr_adapter_load(&adapter, w.plain, file_of("twice"), &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "the adapter changes 'blk.0.attn_q.weight' twice"));
    close_world(&w);
}

/* Cut anywhere, an adapter is an error or, where nothing of it is missing, the same adapter; it is never a crash. */
static void cut_files_are_errors(void **state)
{
    (void)state;
    world w;
    mlxr_error error;
    open_world(&w, 1, NULL);
    write_gguf(file_of("lora.gguf"), 7);
    static char bytes[1 << 17];
    FILE *f = fopen(file_of("lora.gguf"), "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t cut = 0; cut < n; cut += cut < 2500 ? 41 : 2503) {
        mlxr_adapter *adapter = NULL;
        f = tiny_open(file_of("cut.gguf"));
        fwrite(bytes, 1, cut, f);
        tiny_close(f, file_of("cut.gguf"));
        assert_int_not_equal(mlxr_adapter_load(&adapter, w.plain, file_of("cut.gguf"), &error), MLXR_OK);
    }
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_with_different_adapters_share_a_step),
        cmocka_unit_test(scales_and_several_adapters_add_up),
        cmocka_unit_test(what_drafting_costs_is_learned_for_a_model_with_and_without_adapters),
        cmocka_unit_test(pages_are_found_with_the_same_adapters_only),
        cmocka_unit_test(formats_of_models_and_adapters_can_be_mixed),
        cmocka_unit_test(embeddings_take_adapters),
        cmocka_unit_test(a_model_keeps_what_it_made_of_files),
        cmocka_unit_test(files_are_read_by_any_thread_and_the_engines_waits_for_none),
        cmocka_unit_test(what_is_no_plain_adapter_is_refused_by_name),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused),
        cmocka_unit_test(a_backend_that_refuses_adapters_costs_no_memory_a_request),
        cmocka_unit_test(an_adapter_of_a_model_that_is_gone_is_refused),
        cmocka_unit_test(a_matrix_that_is_changed_twice_is_refused),
        cmocka_unit_test(cut_files_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
