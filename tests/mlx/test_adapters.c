/*
 * Adapters on MLX: more of them than the device keeps, several in a step and of one sequence, against the scalar
 * backend; and that a model's programs share its weights. Owner: the test program. Lifetime: the process.
 */
#include "mlxr_adapter.h"
#include "mlxr_convert.h"

#include "base/mapping.h"
#include "kernels/mlx/adapters.h"
#include "kernels/mlx/program.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { ADAPTERS = ADAPTERS_KEPT + 4, STREAMS = 5, PROMPT = 9, STEPS = 2 };

#define MODEL "llama-lora"

/* Models; of experts in F32, which are looked up, and in F16, which MLX multiplies by after decoding: few are copied,
 * and of many rows every expert computes each. */
static const struct {
    const char *name, *type; /* NULL: as they are */
} models[] = {{MODEL, NULL}, {"qwen3moe-lora", NULL}, {"qwen3moe-lora", "F16"}, {"gemma2-lora", NULL}};

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *base;
    mlxr_adapter *adapters[ADAPTERS];
} world;

/* The folder of a model, and one for each adapter: every (n + 2)-th number of the first has another sign. */
static void write_adapters(const char *model, char path[512])
{
    static uint8_t data[1 << 22];
    char file[600], from[600];
    snprintf(path, 512, "%s/%s", test_temp_dir(), model);
    snprintf(file, sizeof file, "%s/adapter0", path);
    if (path_find(file) == PATH_FOLDER) {
        return; /* an earlier test has written them */
    }
    family_model_write(model, path);
    snprintf(from, sizeof from, "%s/adapter/adapter_model.safetensors", path);
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    size_t n = fread(data, 1, sizeof data, f);
    assert_true(n < sizeof data && feof(f));
    fclose(f);
    uint64_t header;
    memcpy(&header, data, sizeof header);
    for (size_t i = 0; i < ADAPTERS; i++) {
        snprintf(file, sizeof file, "%s/adapter/adapter_model.safetensors", path);
        for (size_t at = 8 + header + 3; at < n && i > 0; at += 4 * (i + 2)) {
            data[at] ^= 0x80;
        }
        f = tiny_open(file);
        fwrite(data, 1, n, f);
        tiny_close(f, file);
        snprintf(from, sizeof from, "%s/adapter", path);
        snprintf(file, sizeof file, "%s/adapter%zu", path, i);
        assert_int_equal(rename(from, file), 0);
        family_model_write(model, path); /* and the first again */
    }
}

/* `file`: the model, if it is not the folder. */
static void open_world(world *w, const char *device, const char *path, const char *file)
{
    mlxr_error error;
    mlxr_engine_options options = {
        .backend = device, .kv_type = "f32", .n_threads = 1, .kv_bytes = 16u << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&w->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w->base, w->engine, file ? file : path, NULL, &error), &error);
    for (size_t i = 0; i < ADAPTERS; i++) {
        char folder[600];
        snprintf(folder, sizeof folder, "%s/adapter%zu", path, i);
        assert_ok(mlxr_adapter_load(&w->adapters[i], w->base, folder, &error), &error);
    }
}

static void close_world(world *w)
{
    for (size_t i = 0; i < ADAPTERS; i++) {
        mlxr_adapter_unref(&w->adapters[i]);
    }
    mlxr_model_unref(&w->base);
    mlxr_engine_close(&w->engine);
}

/* Stream 0 has none, others one, the last one two with other weights. */
static mlxr_sequence *open_stream(world *w, size_t round, size_t stream)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    mlxr_sequence *sequence = NULL;
    int32_t ids[PROMPT];
    const mlxr_adapter_use uses[] = {{w->adapters[(round + stream) % ADAPTERS], stream == 2 ? 0.5f : 1},
                                     {w->adapters[(round + 7) % ADAPTERS], -0.75f}};
    size_t n = stream == 0 ? 0 : stream + 1 == STREAMS ? 2 : 1;
    tiny_model_tokens(tiny_model_find("llama"), ids, PROMPT);
    assert_ok(mlxr_model_adapt(&model, w->base, uses, n, &error), &error);
    assert_ok(mlxr_sequence_open(&sequence, model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, PROMPT, &error), &error);
    mlxr_model_unref(&model);
    return sequence;
}

/* All streams of a round together: a prompt, of which one gives all rows, then its last token. */
static void run_round(world *w, size_t round, float (*out)[STREAMS][TINY_N_VOCAB])
{
    mlxr_error error;
    mlxr_sequence *sequences[STREAMS];
    for (size_t i = 0; i < STREAMS; i++) {
        sequences[i] = open_stream(w, round, i);
    }
    for (uint32_t at = 0; at < STEPS; at++) {
        mlxr_slice slices[STREAMS] = {{0}};
        for (size_t i = 0; i < STREAMS; i++) {
            slices[i] = (mlxr_slice){.sequence = sequences[i],
                                     .n_compute = at == 0 ? PROMPT - 1 : 1,
                                     .flags = MLXR_SLICE_NO_SAMPLE | (i == 1 || at ? MLXR_SLICE_LOGITS_ALL : 0)};
        }
        assert_ok(mlxr_step(w->engine, slices, STREAMS, &error), &error);
        for (size_t i = 0; i < STREAMS; i++) {
            if (slices[i].n_logits) {
                memcpy(out[at][i], slices[i].logits + (size_t)(slices[i].n_logits - 1) * TINY_N_VOCAB,
                       sizeof out[at][i]);
            }
        }
    }
    for (size_t i = 0; i < STREAMS; i++) {
        mlxr_sequence_close(&sequences[i]);
    }
}

static void more_adapters_than_the_device_keeps_are_each_applied_to_their_own_rows(void **state)
{
    static float expected[STEPS][STREAMS][TINY_N_VOCAB], found[STEPS][STREAMS][TINY_N_VOCAB];
    const size_t model = (size_t)(uintptr_t)*state;
    char path[512], other[600], *file = NULL;
    world scalar, mlx;
    mlxr_error error;
    double worst = 0, least = 1;
    write_adapters(models[model].name, path);
    if (models[model].type) {
        snprintf(other, sizeof other, "%s.gguf", path);
        file = other;
        const mlxr_quantize_options o = {.type = models[model].type, .n_threads = 1};
        assert_ok(mlxr_quantize(path, file, &o, NULL, &error), &error);
    }
    open_world(&scalar, "cpu-scalar", path, file);
    open_world(&mlx, "mlx", path, file);
    for (size_t round = 0; round < ADAPTERS; round++) {
        run_round(&scalar, round, expected);
        run_round(&mlx, round, found);
        for (size_t i = 0; i < STREAMS; i++) {
            double wrong = 0, all = 0, changed = 0;
            for (size_t j = 0; j < TINY_N_VOCAB; j++) {
                double e = (double)expected[1][i][j], plain = (double)expected[1][0][j];
                wrong += (e - (double)found[1][i][j]) * (e - (double)found[1][i][j]);
                changed += (e - plain) * (e - plain);
                all += e * e;
            }
            worst = wrong / all > worst ? wrong / all : worst;
            least = i && changed / all < least ? changed / all : least;
        }
        assert_memory_not_equal(found[1][1], found[1][3], sizeof found[1][1]);
    }
    printf("%s %s: %d adapters, %d in a step: worst NMSE %.1e, the least that one changes %.1e\n", models[model].name,
           file ? models[model].type : "F32", ADAPTERS, STREAMS, worst, least);
    assert_true(worst < 1e-9);
    assert_true(least > 1e-3);
    assert_true(mlx.base->adapted->adapters.n <= ADAPTERS_KEPT);
    close_world(&scalar);
    close_world(&mlx);
}

static void programs_of_a_model_share_its_weights(void **state)
{
    (void)state;
    mlxr_error error;
    char path[512];
    world w;
    mlxr_model *adapted = NULL;
    snprintf(path, sizeof path, "%s/" MODEL, test_temp_dir());
    size_t before = bridge_bytes();
    open_world(&w, "mlx", path, NULL);
    size_t loaded = bridge_bytes() - before;
    assert_ok(mlxr_model_adapt(&adapted, w.base, &(mlxr_adapter_use){w.adapters[0], 1}, 1, &error), &error);
    assert_ok(model_hidden_program(w.base, &error), &error);
    size_t more = bridge_bytes() - before - loaded;
    printf("%zu bytes of weights, %zu more for two more programs\n", loaded, more);
    assert_true(loaded > 0 && more < loaded / 10);
    mlxr_model_unref(&adapted);
    close_world(&w);
    assert_int_equal(bridge_bytes(), before);
}

int main(void)
{
    static struct CMUnitTest tests[sizeof models / sizeof *models + 1];
    size_t n = 0;
    for (; n < sizeof models / sizeof *models; n++) {
        tests[n] = (struct CMUnitTest){
            .name = "more_adapters_than_the_device_keeps_are_each_applied_to_their_own_rows",
            .test_func = more_adapters_than_the_device_keeps_are_each_applied_to_their_own_rows,
            .initial_state = (void *)(uintptr_t)n};
    }
    tests[n] = (struct CMUnitTest)cmocka_unit_test(programs_of_a_model_share_its_weights);
    return _cmocka_run_group_tests("adapters", tests, n + 1, NULL, NULL);
}
