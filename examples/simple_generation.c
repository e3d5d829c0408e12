/*
 * Generates text: simple_generation MODEL.gguf [PROMPT]
 * Owner: the process. Lifetime: the process.
 *
 * The whole life of the library in one page: engine, model, sequence; tokens in, steps, text out.
 */
#include <mlxr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 128

/* Turns the prompt into tokens and appends them to the sequence. */
static mlxr_status add_prompt(mlxr_sequence *sequence, const mlxr_model *model, const char *prompt, mlxr_error *error)
{
    size_t n = 0, cap = strlen(prompt) + 8;
    int32_t *ids = malloc(cap * sizeof *ids);
    if (!ids) {
        snprintf(error->text, sizeof error->text, "out of memory");
        return MLXR_NOMEM;
    }
    mlxr_status status = mlxr_tokenize(model, prompt, strlen(prompt), MLXR_TOKENIZE_ADD_SPECIAL, ids, cap, &n, error);
    if (status == MLXR_OK) {
        status = mlxr_sequence_append(sequence, ids, n, error);
    }
    free(ids);
    return status;
}

/* Computes one step: a chunk of the prompt, or the token sampled last. *token is the one sampled now, or −1. */
static mlxr_status step(mlxr_engine *engine, mlxr_sequence *sequence, int32_t *token, mlxr_error *error)
{
    size_t pending = mlxr_sequence_pending(sequence);
    uint32_t max = mlxr_step_tokens_max(engine);
    mlxr_slice slice = {.sequence = sequence, .n_compute = pending < max ? (uint32_t)pending : max};
    mlxr_status status = mlxr_step(engine, &slice, 1, error);
    *token = slice.token;
    return status;
}

static mlxr_status generate(mlxr_engine *engine, mlxr_model *model, const char *prompt, mlxr_error *error)
{
    mlxr_sequence *sequence = NULL;
    mlxr_stream *stream = NULL;
    mlxr_sampling sampling = mlxr_sampling_default();
    sampling.seed = 1; /* the same answer every time */
    const char *text;
    size_t n_bytes;
    bool stopped = false;

    mlxr_status status = mlxr_sequence_open(&sequence, model, &sampling, error);
    if (status == MLXR_OK) {
        status = mlxr_stream_open(&stream, model, NULL, 0, error);
    }
    if (status == MLXR_OK) {
        status = add_prompt(sequence, model, prompt, error);
    }
    for (int n = 0; status == MLXR_OK && n < TOKENS_MAX && mlxr_sequence_pending(sequence) > 0;) {
        int32_t token;
        status = step(engine, sequence, &token, error);
        if (status != MLXR_OK || token < 0) {
            continue; /* failed, or there is more of the prompt */
        }
        if (mlxr_token_is_end(model, token)) {
            break;
        }
        status = mlxr_stream_push(stream, token, &text, &n_bytes, &stopped, error);
        if (status == MLXR_OK) {
            fwrite(text, 1, n_bytes, stdout);
            fflush(stdout);
        }
        n++;
    }
    if (status == MLXR_OK && mlxr_stream_finish(stream, &text, &n_bytes, error) == MLXR_OK) {
        fwrite(text, 1, n_bytes, stdout);
    }
    putchar('\n');
    mlxr_stream_close(&stream);
    mlxr_sequence_close(&sequence);
    return status;
}

int main(int argc, char **argv)
{
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    mlxr_error error;
    const char *prompt = argc > 2 ? argv[2] : "The capital of France is";
    if (argc < 2) {
        fprintf(stderr, "usage: simple_generation MODEL.gguf [PROMPT]\n");
        return 2;
    }
    mlxr_status status = mlxr_engine_open(&engine, NULL, &error);
    if (status == MLXR_OK) {
        status = mlxr_model_load(&model, engine, argv[1], NULL, &error);
    }
    if (status == MLXR_OK) {
        printf("%s", prompt);
        status = generate(engine, model, prompt, &error);
    }
    if (status != MLXR_OK) {
        fprintf(stderr, "simple_generation: %s\n", error.text);
    }
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
    return status == MLXR_OK ? 0 : 1;
}
