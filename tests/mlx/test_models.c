/*
 * The real models on the backend that MLXR_TEST_BACKEND names against the CPU's: the greedy token of teacher-forced
 * positions, of sequences that are generated together, and with drafts. 64 positions; the whole text with MLXR_SOAK.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/mapping.h"
#include "support/models.h"
#include "support/test.h"

#define TEXT_PATH "tests/data/text/languages-and-code.text"
/* Where the CPU's two largest logits are further apart than this, the greedy token must be the same. */
#define CLEAR_MARGIN 0.3f

enum { LEAD = 16, POSITIONS = 64, WINDOW = LEAD + POSITIONS, SPREAD = 32, STREAMS = 3, GENERATE = 12, PROMPT = 24 };

typedef struct side { /* one of the two that are compared */
    mlxr_engine *engine;
    mlxr_model *model;
} side;

static void side_open(side *s, const char *backend, const char *path)
{
    mlxr_error error;
    mlxr_engine_options options = {.backend = backend, .n_threads = 2, .kv_bytes = 256u << 20, .no_prefix_cache = true};
    assert_ok(mlxr_engine_open(&s->engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&s->model, s->engine, path, NULL, &error), &error);
}

static void side_close(side *s)
{
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
}

static uint32_t best_of(const float *logits, uint32_t n, float *margin)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    float second = -1e30f;
    for (uint32_t i = 0; i < n; i++) {
        second = i != best && logits[i] > second ? logits[i] : second;
    }
    *margin = logits[best] - second;
    return best;
}

typedef struct choice { /* what comes next, and how sure that is */
    uint32_t id;
    float margin;
} choice;

/* The greedy token behind each of the last n − LEAD of n tokens. */
static void choose(const side *s, const int32_t *ids, uint32_t n, choice *out)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    uint32_t n_vocab = mlxr_model_info_get(s->model)->n_vocab;
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, n, &error), &error);
    const uint32_t parts[] = {LEAD, n - LEAD};
    for (uint32_t i = 0; i < 2; i++) {
        mlxr_slice slice = {.sequence = sequence, .n_compute = parts[i], .flags = MLXR_SLICE_NO_SAMPLE};
        slice.flags |= i ? MLXR_SLICE_LOGITS_ALL : 0;
        assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
        for (uint32_t j = 0; i && j < parts[i]; j++) {
            out[j].id = best_of(slice.logits + (size_t)j * n_vocab, n_vocab, &out[j].margin);
        }
    }
    mlxr_sequence_close(&sequence);
}

static size_t text_tokens(const mlxr_model *model, int32_t **ids)
{
    mlxr_error error;
    mapping file;
    size_t n = 0;
    assert_ok(mapping_open(&file, TEXT_PATH, &error), &error);
    *ids = malloc(file.n_bytes * sizeof **ids); /* a token has a byte at least */
    assert_non_null(*ids);
    assert_ok(mlxr_tokenize(model, (const char *)file.data, file.n_bytes, 0, *ids, file.n_bytes, &n, &error), &error);
    assert_in_range(n, WINDOW, file.n_bytes);
    mapping_close(&file);
    return n;
}

typedef struct tally { /* of positions */
    size_t n_all, n_clear, n_same;
} tally;

static void compare_window(const side *cpu, const side *mlx, const int32_t *ids, size_t at, const char *name, tally *t)
{
    choice expected[POSITIONS], found[POSITIONS];
    choose(cpu, ids + at, WINDOW, expected);
    choose(mlx, ids + at, WINDOW, found);
    for (size_t i = 0; i < POSITIONS; i++) {
        bool same = expected[i].id == found[i].id, clear = expected[i].margin > CLEAR_MARGIN;
        if (clear && !same) {
            fail_msg("%s: position %zu: %u, the CPU says %u by %.3f", name, at + LEAD + i, found[i].id, expected[i].id,
                     (double)expected[i].margin);
        }
        t->n_all++;
        t->n_clear += clear;
        t->n_same += same;
    }
}

/* The long form, which takes hours, goes over the text SPREAD times and tells each time what it has. */
static void forced_positions_have_the_cpus_greedy_tokens(const side *cpu, const side *mlx, const char *name)
{
    int32_t *ids = NULL;
    tally t = {0};
    size_t n_windows = (text_tokens(cpu->model, &ids) - LEAD) / POSITIONS;
    bool soak = getenv("MLXR_SOAK") != NULL;
    for (size_t pass = 0; pass < (soak ? SPREAD : 1); pass++) {
        for (size_t w = pass; w < (soak ? n_windows : 1); w += SPREAD) {
            compare_window(cpu, mlx, ids, w * POSITIONS, name, &t);
        }
        printf("%s: %zu of %zu greedy tokens as the CPU's, among them all %zu with a margin\n", name, t.n_same, t.n_all,
               t.n_clear);
        fflush(stdout);
    }
    assert_true(t.n_clear * 2 > t.n_all);
    free(ids);
}

typedef struct answer {
    choice of[GENERATE];
    uint32_t n;
} answer;

/* STREAMS greedy answers, together or one after the other, with or without drafts from the text itself. */
static void generate(const side *s, const int32_t *ids, bool together, bool drafts, answer *answers)
{
    mlxr_error error;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    uint32_t n_vocab = mlxr_model_info_get(s->model)->n_vocab;
    mlxr_sequence *sequences[STREAMS] = {NULL};
    for (int i = 0; i < STREAMS; i++) {
        answers[i].n = 0;
        assert_ok(mlxr_sequence_open(&sequences[i], s->model, &greedy, &error), &error);
        assert_ok(mlxr_sequence_append(sequences[i], ids + (size_t)i * 7, PROMPT + (size_t)i, &error), &error);
        if (drafts) {
            assert_ok(mlxr_sequence_draft(sequences[i], NULL, 4, &error), &error);
        }
    }
    for (int first = 0; first < STREAMS;) {
        mlxr_slice slices[STREAMS] = {{0}};
        int of[STREAMS], n = 0;
        for (int i = first; i < (together ? STREAMS : first + 1); i++) {
            if (answers[i].n < GENERATE) {
                of[n] = i;
                slices[n++] = (mlxr_slice){.sequence = sequences[i],
                                           .n_compute = (uint32_t)mlxr_sequence_pending(sequences[i])};
            }
        }
        if (n == 0) {
            first = together ? STREAMS : first + 1;
            continue;
        }
        assert_ok(mlxr_step(s->engine, slices, (size_t)n, &error), &error);
        for (int i = 0; i < n; i++) {
            answer *a = &answers[of[i]];
            for (uint32_t j = 0; j < slices[i].n_sampled && a->n < GENERATE; j++, a->n++) {
                best_of(slices[i].logits + (size_t)j * n_vocab, n_vocab, &a->of[a->n].margin);
                a->of[a->n].id = (uint32_t)slices[i].sampled[j].id;
            }
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        mlxr_sequence_close(&sequences[i]);
    }
}

static void streams_and_drafts_give_the_cpus_answers(const side *cpu, const side *mlx, const char *name)
{
    static const struct {
        bool together, drafts;
        const char *what;
    } ways[] = {{false, false, "alone"}, {true, false, "together"}, {true, true, "together, with drafts"}};
    int32_t *ids = NULL;
    answer expected[STREAMS], found[STREAMS];
    text_tokens(cpu->model, &ids);
    generate(cpu, ids, false, false, expected);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        uint32_t n_same = 0;
        generate(mlx, ids, ways[w].together, ways[w].drafts, found);
        for (int i = 0; i < STREAMS; i++) {
            for (uint32_t j = 0; j < GENERATE; j++) {
                if (found[i].of[j].id != expected[i].of[j].id) { /* what follows another token is another text */
                    assert_true(expected[i].of[j].margin <= CLEAR_MARGIN);
                    break;
                }
                n_same++;
            }
        }
        printf("%s, %s: %u of %u tokens as the CPU's\n", name, ways[w].what, n_same, STREAMS * GENERATE);
        assert_true(n_same * 2 > STREAMS * GENERATE);
    }
    free(ids);
}

static void the_model_says_what_the_cpu_says(void **state)
{
    const char *name = *state;
    char path[4096];
    side cpu, mlx;
    assert_true(test_model_path(name, path, sizeof path));
    side_open(&cpu, "cpu", path);
    side_open(&mlx, getenv("MLXR_TEST_BACKEND"), path);
    forced_positions_have_the_cpus_greedy_tokens(&cpu, &mlx, name);
    streams_and_drafts_give_the_cpus_answers(&cpu, &mlx, name);
    side_close(&mlx);
    side_close(&cpu);
}

int main(int argc, char **argv)
{
    if (argc != 2 || !getenv("MLXR_TEST_BACKEND")) {
        printf("usage: MLXR_TEST_BACKEND=NAME test_models MODEL\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {
        {.name = argv[1], .test_func = the_model_says_what_the_cpu_says, .initial_state = argv[1]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
