/*
 * A short prompt on a loaded model: the time to its first token, what each further token takes, and how much faster
 * prompts are read than tokens are written. With --schema the short answers keep to it, and opening it counts: the
 * first run compiles it and computes its masks, the others find them.
 * Owner: the program. Lifetime: its main. One thread and the engine's team.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/* Computes what is pending and samples. */
static double step_ms(mlxr_engine *engine, mlxr_sequence *sequence)
{
    mlxr_error error;
    double begin_ms = bench_now_ms();
    while (mlxr_sequence_pending(sequence) > 0) {
        size_t pending = mlxr_sequence_pending(sequence), most = mlxr_step_tokens_max(engine);
        mlxr_slice slice = {.sequence = sequence, .n_compute = (uint32_t)(pending < most ? pending : most)};
        bench_check(mlxr_step(engine, &slice, 1, &error), &error);
        if (slice.n_sampled > 0) {
            break;
        }
    }
    return bench_now_ms() - begin_ms;
}

static char *schema;
static size_t n_schema;

static void read_schema(const char *path)
{
    enum { MOST = 1 << 20 };
    FILE *file = fopen(path, "rb");
    schema = malloc(MOST);
    n_schema = file && schema ? fread(schema, 1, MOST, file) : 0;
    if (!n_schema) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(file);
}

/* Milliseconds until the sequence is bound to the schema. */
static double constrain_ms(mlxr_model *model, mlxr_sequence *sequence)
{
    mlxr_error error;
    mlxr_grammar *grammar = NULL;
    double begin_ms = bench_now_ms();
    if (schema) {
        bench_check(mlxr_grammar_open_schema(&grammar, model, schema, n_schema, &error), &error);
        bench_check(mlxr_sequence_constrain(sequence, grammar, &error), &error);
        mlxr_grammar_close(&grammar);
    }
    return bench_now_ms() - begin_ms;
}

typedef struct times {
    double *first_ms, *token_ms, *prefill_ms; /* [n_runs], [n_runs × n_tokens], [n_runs] */
} times;

static void run(mlxr_engine *engine, mlxr_model *model, const bench_text *text, size_t n_prompt, size_t n_tokens,
                size_t n_long, size_t i, times *t)
{
    mlxr_error error;
    mlxr_sequence *sequence = NULL;
    mlxr_sampling greedy = mlxr_sampling_default();
    greedy.temperature = 0;
    bench_check(mlxr_sequence_open(&sequence, model, &greedy, &error), &error);
    bench_check(mlxr_sequence_append(sequence, text->ids, n_prompt, &error), &error);
    t->first_ms[i] = constrain_ms(model, sequence);
    t->first_ms[i] += step_ms(engine, sequence);
    for (size_t k = 0; k < n_tokens; k++) {
        t->token_ms[i * n_tokens + k] = step_ms(engine, sequence);
    }
    bench_check(mlxr_sequence_constrain(sequence, NULL, &error), &error);
    bench_check(mlxr_sequence_truncate(sequence, 0, &error), &error);
    bench_check(mlxr_sequence_append(sequence, text->ids, n_long, &error), &error);
    t->prefill_ms[i] = step_ms(engine, sequence);
    mlxr_sequence_close(&sequence);
}

int main(int argc, char **argv)
{
    double n_prompt = 16, n_long = 128, n_tokens = 16, n_runs = 5, n_threads = 0;
    const char *path = BENCH_TEXT, *schema_path = NULL;
    const bench_option options[] = {
        {"prompt", &n_prompt, NULL, "tokens of the short prompt"},
        {"long", &n_long, NULL, "tokens of the prompt that shows how fast prompts are read"},
        {"generate", &n_tokens, NULL, "tokens behind the short prompt's first"},
        {"runs", &n_runs, NULL, "runs of each"},
        {"threads", &n_threads, NULL, "0: one per core"},
        {"schema", NULL, &schema_path, "JSON Schema that the short answers keep to"},
        {"text", NULL, &path, "where the prompts come from"},
        {0}};
    const char *model_path = bench_arguments(argc, argv, options);
    if (n_prompt < 1 || n_long < 1 || n_tokens < 1 || n_runs < 1) {
        fprintf(stderr, "numbers of tokens and runs must be 1 or more\n");
        return 2;
    }
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_engine_options engine_options = {.n_threads = (uint32_t)n_threads, .no_prefix_cache = true};
    bench_check(mlxr_engine_open(&engine, &engine_options, &error), &error);
    bench_check(mlxr_model_load(&model, engine, model_path, NULL, &error), &error);
    bench_text text = bench_text_open(model, path, (size_t)(n_prompt > n_long ? n_prompt : n_long));
    size_t runs = (size_t)n_runs, tokens = (size_t)n_tokens;
    times t = {calloc(runs, sizeof(double)), calloc(runs * tokens, sizeof(double)), calloc(runs, sizeof(double))};
    if (!t.first_ms || !t.token_ms || !t.prefill_ms) {
        return 1;
    }
    if (schema_path) {
        run(engine, model, &text, (size_t)n_prompt, tokens, (size_t)n_long, 0, &t); /* reads the weights */
        read_schema(schema_path);
    }
    for (size_t i = 0; i < runs; i++) {
        run(engine, model, &text, (size_t)n_prompt, tokens, (size_t)n_long, i, &t);
    }
    double cold = t.first_ms[0], warm = t.first_ms[runs - 1], cold_tokens = 0, warm_tokens = 0;
    for (size_t k = 0; k < tokens; k++) {
        cold_tokens += t.token_ms[k];
        warm_tokens += t.token_ms[(runs - 1) * tokens + k];
    }
    double first = quantile_of(t.first_ms, runs, 0.5), first_most = quantile_of(t.first_ms, runs, 1);
    double token = quantile_of(t.token_ms, runs * tokens, 0.5), token_p90 = quantile_of(t.token_ms, runs * tokens, 0.9);
    double prefill = quantile_of(t.prefill_ms, runs, 0.5) / n_long;
    printf("{\"test\":\"first token\",\"model\":\"%s\",\"threads\":%u,\"n_prompt\":%.0f,\"first_token_ms\":%.1f,"
           "\"first_token_ms_max\":%.1f,\"token_ms\":%.2f,\"token_ms_p90\":%.2f,\"n_long\":%.0f,\"prefill_tokens_per_"
           "s\":%.1f,"
           "\"decode_tokens_per_s\":%.1f,\"prefill_over_decode\":%.2f,"
           "\"first_run\":{\"first_token_ms\":%.1f,\"tokens_ms\":%.1f},\"last_run\":{\"first_token_ms\":%.1f,"
           "\"tokens_ms\":%.1f}}\n",
           mlxr_model_info_get(model)->name, mlxr_engine_info_get(engine)->n_threads, n_prompt, first, first_most,
           token, token_p90, n_long, 1e3 / prefill, 1e3 / token, token / prefill, cold, cold_tokens, warm, warm_tokens);
    free(schema);
    free(t.first_ms);
    free(t.token_ms);
    free(t.prefill_ms);
    bench_text_close(&text);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return 0;
}
