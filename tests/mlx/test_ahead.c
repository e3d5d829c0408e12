/*
 * The graph of the next step is built while the last one is computed: how often it is the right one, that it computes
 * the very same, and what a step's beginning costs then. Owner: the test program. Lifetime: the process.
 */
#include "kernels/mlx/program.h"
#include "mlx/backend_emulated.h"
#include "mlxr_adapter.h"
#include "runtime/engine.h"
#include "support/family_model.h"
#include "support/head_row.h"
#include "support/test.h"
#include "support/tiny_model.h"

enum { STREAMS = 3, PROMPT = 50, ANSWER = 40 };

typedef struct answers {
    int32_t ids[STREAMS][ANSWER];
    float logits[STREAMS][ANSWER][TINY_N_VOCAB];
} answers;

typedef struct world {
    mlxr_engine *engine;
    mlxr_model *base, *model; /* without and with the adapter that there may be */
    program *prog;
} world;

/* A tiny model, or one of tests/oracle/families. */
static void write_model(const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", test_temp_dir(), name);
    for (size_t i = 0; tiny_model_at(i); i++) {
        if (strcmp(tiny_model_at(i)->name, name) == 0) {
            strcat(path, ".gguf");
            tiny_model_write_gguf(tiny_model_at(i), &(tiny_options){.type = DTYPE_F32}, path);
            return;
        }
    }
    family_model_write(name, path);
}

static void adapt(world *w, const char *path)
{
    mlxr_error error;
    char folder[600];
    mlxr_adapter *adapter = NULL;
    snprintf(folder, sizeof folder, "%s/adapter", path);
    w->model = mlxr_model_ref(w->base);
    w->prog = w->base->program;
    if (path_find(folder) != PATH_NONE) {
        mlxr_model_unref(&w->model);
        assert_ok(mlxr_adapter_load(&adapter, w->base, folder, &error), &error);
        assert_ok(mlxr_model_adapt(&w->model, w->base, &(mlxr_adapter_use){adapter, 1}, 1, &error), &error);
        mlxr_adapter_unref(&adapter);
        w->prog = w->base->adapted;
    }
}

static world open_world(const char *device, const char *name, bool ahead)
{
    mlxr_error error;
    world w = {0};
    char path[512];
    write_model(name, path);
    mlxr_engine_options options = {
        .backend = device, .kv_type = "f32", .n_threads = 1, .kv_bytes = 8u << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&w.engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w.base, w.engine, path, NULL, &error), &error);
    adapt(&w, path);
    w.prog->no_ahead = !ahead;
    return w;
}

static void close_world(world *w)
{
    mlxr_model_unref(&w->model);
    mlxr_model_unref(&w->base);
    mlxr_engine_close(&w->engine);
}

static mlxr_sequence *open_sequence(world *w, size_t skip, size_t n)
{
    mlxr_error error;
    int32_t ids[PROMPT];
    mlxr_sequence *sequence = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    tiny_model_tokens(tiny_model_find("llama"), ids, PROMPT); /* all have the same vocabulary */
    assert_ok(mlxr_sequence_open(&sequence, w->model, &greedy, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids + skip, n, &error), &error);
    return sequence;
}

static void step_one(world *w, mlxr_sequence *sequence, uint32_t n)
{
    mlxr_error error;
    mlxr_slice slice = {.sequence = sequence, .n_compute = n};
    assert_ok(mlxr_step(w->engine, &slice, 1, &error), &error);
}

/* Prompts in equal pieces, then all streams together. */
static graph_counts answer(const char *device, const char *name, bool ahead, answers *out)
{
    mlxr_error error;
    world w = open_world(device, name, ahead);
    mlxr_sequence *sequences[STREAMS];
    for (size_t i = 0; i < STREAMS; i++) {
        sequences[i] = open_sequence(&w, i, PROMPT - 10 * i);
        for (int piece = 0; piece < 4; piece++) {
            step_one(&w, sequences[i], 6);
        }
    }
    for (size_t n = 0; n < ANSWER; n++) {
        mlxr_slice slices[STREAMS] = {{0}};
        for (size_t i = 0; i < STREAMS; i++) {
            slices[i] = (mlxr_slice){.sequence = sequences[i],
                                     .n_compute = (uint32_t)mlxr_sequence_pending(sequences[i])};
        }
        assert_ok(mlxr_step(w.engine, slices, STREAMS, &error), &error);
        for (size_t i = 0; i < STREAMS; i++) {
            out->ids[i][n] = slices[i].token;
            memcpy(out->logits[i][n], slices[i].logits, sizeof out->logits[i][n]);
        }
    }
    graph_counts counts = w.prog->counts;
    for (size_t i = 0; i < STREAMS; i++) {
        mlxr_sequence_close(&sequences[i]);
    }
    close_world(&w);
    return counts;
}

static void a_graph_built_ahead_computes_the_same_bits(void **state)
{
    (void)state;
    static const struct {
        const char *device, *model;
    } runs[] = {{"mlx", "llama"},     {"mlx", "gemma3"},     {"mlx-emulated", "llama-wide"},
                {"mlx", "qwen3next"}, {"mlx", "nemotron-h"}, {"mlx", "llama-lora"},
                {"mlx", "gemma4"},    {"mlx", "deepseek3"},  {"mlx", "mixtral"}};
    static answers expected, found;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        graph_counts plain = answer(runs[i].device, runs[i].model, false, &expected);
        graph_counts counts = answer(runs[i].device, runs[i].model, true, &found);
        printf("%s, %s: %llu steps, %llu graphs were there, %llu built for nothing; %.0f µs a step until there is a "
               "graph to submit, %.0f µs without\n",
               runs[i].device, runs[i].model, (unsigned long long)counts.n_steps, (unsigned long long)counts.n_taken,
               (unsigned long long)counts.n_dropped, counts.build_s / (double)counts.n_steps * 1e6,
               plain.build_s / (double)plain.n_steps * 1e6);
        assert_memory_equal(&expected, &found, sizeof expected);
        assert_int_equal(plain.n_taken, 0);
        assert_int_equal(counts.n_steps, 4 * STREAMS + ANSWER);
        /* the second piece of each prompt and the second token show that it goes on so; our own kernels need to know
         * the page of the next row, too, which three streams do not six times in 40 tokens */
        assert_in_range(counts.n_taken, 2 * STREAMS + ANSWER - 2 - 6, 2 * STREAMS + ANSWER - 2);
        assert_true(counts.n_dropped <= STREAMS + 1); /* behind each prompt's last piece */
    }
}

/* Whatever happens between two steps: what was expected must not be taken for what is. */
static void what_was_not_expected_is_built_anew(void **state)
{
    (void)state;
    mlxr_error error;
    float logits[2][2][TINY_N_VOCAB];
    uint64_t n_dropped = 0;
    for (int ahead = 0; ahead < 2; ahead++) {
        world w = open_world("mlx", "llama", ahead);
        mlxr_sequence *a = open_sequence(&w, 0, 40), *b = open_sequence(&w, 9, 40), *fork = NULL;
        for (int i = 0; i < 4; i++) {
            step_one(&w, b, 5); /* 20 of 40 */
        }
        for (int i = 0; i < 4; i++) {
            step_one(&w, a, 5);
        }
        step_one(&w, b, 5); /* of the shape of a's next, with other pages */
        for (int i = 0; i < 3; i++) {
            step_one(&w, a, 5); /* 35 of 40 */
        }
        assert_ok(mlxr_sequence_fork(&fork, a, NULL, &error), &error);
        step_one(&w, a, 5);
        mlxr_slice last = {.sequence = fork, .n_compute = 5}; /* the page that both share was copied for one of them */
        assert_ok(mlxr_step(w.engine, &last, 1, &error), &error);
        memcpy(logits[ahead][0], last.logits, sizeof logits[ahead][0]);
        assert_ok(mlxr_sequence_truncate(a, 12, &error), &error);
        assert_ok(mlxr_sequence_append(a, mlxr_sequence_tokens(b), 9, &error), &error);
        step_one(&w, a, (uint32_t)mlxr_sequence_pending(a) - 5);
        last = (mlxr_slice){.sequence = a, .n_compute = 5};
        assert_ok(mlxr_step(w.engine, &last, 1, &error), &error);
        memcpy(logits[ahead][1], last.logits, sizeof logits[ahead][1]);
        n_dropped = w.prog->counts.n_dropped;
        mlxr_sequence_close(&a);
        mlxr_sequence_close(&b);
        mlxr_sequence_close(&fork);
        close_world(&w);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_true(n_dropped >= 3);
}

/* The head of a model, which goes on from what it gave: rows [HEAD_ROWS] of logits and hidden states. */
enum { HEAD_ROWS = 8, HEAD_WIDTH = 64 };

typedef struct head_rows {
    float logits[HEAD_ROWS][TINY_N_VOCAB], hidden[HEAD_ROWS][HEAD_WIDTH];
} head_rows;

static graph_counts run_head(const char *name, bool ahead, head_rows *out)
{
    mlxr_error error;
    char path[512];
    world w = {0};
    write_model(name, path);
    mlxr_engine_options options = {.backend = "mlx", .kv_type = "f32", .n_threads = 1, .kv_bytes = 8u << 20};
    assert_ok(mlxr_engine_open(&w.engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&w.base, w.engine, path, &(mlxr_model_options){.mtp = MLXR_MTP_NEEDED}, &error), &error);
    w.model = mlxr_model_ref(w.base);
    program *head = w.model->ahead;
    head->no_ahead = !ahead;
    assert_int_equal(w.model->graph->h.n_embd, HEAD_WIDTH);
    mlxr_sequence *sequence = open_sequence(&w, 0, PROMPT);
    step_one(&w, sequence, PROMPT - 1);
    assert_ok(pager_reserve_ahead(&sequence->pages, PROMPT - 1, PROMPT - 1 + HEAD_ROWS, &error), &error);
    float hidden[HEAD_WIDTH];
    for (size_t i = 0; i < HEAD_WIDTH; i++) {
        hidden[i] = (float)(i % 7) - 3;
    }
    for (uint32_t i = 0; i < HEAD_ROWS; i++) {
        head_row(w.engine, w.model, sequence, 40 + (int32_t)i, PROMPT - 1 + i, hidden, out->logits[i]);
        memcpy(out->hidden[i], hidden, sizeof hidden);
    }
    graph_counts counts = head->counts;
    mlxr_sequence_close(&sequence);
    close_world(&w);
    return counts;
}

static void a_head_whose_graph_was_built_ahead_carries_the_same_bits(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3next-mtp",
                                        "deepseek3-mtp"}; /* hands on what is normed, and what is not */
    for (size_t i = 0; i < 2; i++) {
        static head_rows with, without;
        graph_counts counts = run_head(names[i], true, &with);
        assert_int_equal(run_head(names[i], false, &without).n_taken, 0);
        print_message("%s: %d of %d graphs were there\n", names[i], (int)counts.n_taken, (int)counts.n_steps);
        assert_true(counts.n_taken >= HEAD_ROWS - 3);
        assert_memory_equal(&with, &without, sizeof with);
        assert_memory_not_equal(with.hidden[0], with.hidden[1], sizeof with.hidden[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_built_ahead_computes_the_same_bits),
        cmocka_unit_test(a_head_whose_graph_was_built_ahead_carries_the_same_bits),
        cmocka_unit_test(what_was_not_expected_is_built_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
