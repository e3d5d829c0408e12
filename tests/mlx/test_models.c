/*
 * The real models on the backend that MLXR_TEST_BACKEND names against the CPU's: the greedy token of teacher-forced
 * positions, of sequences that are generated together, and with drafts. 256 positions; the whole text with MLXR_SOAK.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/mapping.h"
#include "support/models.h"
#include "support/test.h"

#define TEXT_PATH "tests/data/text/languages-and-code.text"
/* Where the CPU's two largest logits are further apart than this, the greedy token must be the same. */
#define CLEAR_MARGIN 0.3f

enum {
    LEAD = 16,      /* tokens before the first that is asked for */
    SHORT = 256,    /* positions without MLXR_SOAK */
    CHUNK = 512,    /* positions of a step */
    STRETCH = 1024, /* positions of a sequence */
    STREAMS = 3,
    GENERATE = 12,
    PROMPT = 24
};

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

/* A sequence of LEAD tokens and of those n that are asked about. */
static mlxr_sequence *begin(const side *s, const int32_t *ids, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    assert_ok(mlxr_sequence_open(&sequence, s->model, NULL, &error), &error);
    assert_ok(mlxr_sequence_append(sequence, ids, LEAD + n, &error), &error);
    mlxr_slice slice = {.sequence = sequence, .n_compute = LEAD, .flags = MLXR_SLICE_NO_SAMPLE};
    assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
    return sequence;
}

/* The greedy token behind each of the next n tokens. */
static void choose(const side *s, mlxr_sequence *sequence, uint32_t n, choice *out)
{
    mlxr_error error;
    uint32_t n_vocab = mlxr_model_info_get(s->model)->n_vocab;
    mlxr_slice slice = {.sequence = sequence, .n_compute = n, .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
    assert_ok(mlxr_step(s->engine, &slice, 1, &error), &error);
    for (uint32_t i = 0; i < n; i++) {
        out[i].id = best_of(slice.logits + (size_t)i * n_vocab, n_vocab, &out[i].margin);
    }
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
    assert_in_range(n, LEAD + SHORT, file.n_bytes);
    mapping_close(&file);
    return n;
}

typedef struct tally { /* of positions */
    size_t n_all, n_clear, n_same;
} tally;

/* The n positions behind the text's token at + LEAD − 1. */
static void compare_stretch(const side *cpu, const side *mlx, const int32_t *ids, size_t at, size_t n, const char *name,
                            tally *t)
{
    choice expected[CHUNK], found[CHUNK];
    mlxr_sequence *of_cpu = begin(cpu, ids + at, n), *of_mlx = begin(mlx, ids + at, n);
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t n_now = n - done < CHUNK ? n - done : CHUNK;
        choose(cpu, of_cpu, (uint32_t)n_now, expected);
        choose(mlx, of_mlx, (uint32_t)n_now, found);
        for (size_t i = 0; i < n_now; i++) {
            bool same = expected[i].id == found[i].id, clear = expected[i].margin > CLEAR_MARGIN;
            if (clear && !same) {
                fail_msg("%s: position %zu: %u, the CPU says %u by %.3f", name, at + LEAD + done + i, found[i].id,
                         expected[i].id, (double)expected[i].margin);
            }
            t->n_all++;
            t->n_clear += clear;
            t->n_same += same;
        }
    }
    mlxr_sequence_close(&of_cpu);
    mlxr_sequence_close(&of_mlx);
}

/* The long form, every position of the text but the first, tells after each stretch what it has. */
static void forced_positions_have_the_cpus_greedy_tokens(const side *cpu, const side *mlx, const char *name)
{
    int32_t *ids = NULL;
    tally t = {0};
    size_t n_text = text_tokens(cpu->model, &ids) - LEAD, n = getenv("MLXR_SOAK") ? n_text : SHORT;
    for (size_t at = 0; at < n; at += STRETCH) {
        compare_stretch(cpu, mlx, ids, at, n - at < STRETCH ? n - at : STRETCH, name, &t);
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
