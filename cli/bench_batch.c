/*
 * Decoding together: every step has a row of each sequence (and of its draft).
 * Owner: the verb `bench`. Lifetime: bench_batch_open to bench_batch_close.
 */
#include "bench_batch.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"

void bench_fill_prompt(const session *s, const bench_text *text, uint32_t number, int32_t *ids, size_t n)
{
    uint32_t n_vocab = mlxr_model_info_get(s->model)->n_vocab;
    uint64_t state = number + 1u;
    if (text->ids) {
        memcpy(ids, text->ids + number * n, n * sizeof *ids);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        for (unsigned attempt = 0; attempt < 16; attempt++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            ids[i] = (int32_t)((state >> 33) % n_vocab);
            if (!mlxr_token_is_special(s->model, ids[i])) {
                break;
            }
        }
    }
}

int bench_batch_open(bench_batch *b, session *s, const options *o, const bench_text *text, uint32_t n,
                     uint32_t n_prompt, uint32_t n_generate)
{
    *b = (bench_batch){
        .s = s, .n = n, .n_prompt = n_prompt, .n_generate = n_generate, .flags = o->logits ? 0 : MLXR_SLICE_NO_LOGITS};
    if (n > mlxr_step_tokens_max(s->engine)) {
        print_error("--batch %u: a step computes at most %u tokens", n, mlxr_step_tokens_max(s->engine));
        return EXIT_USAGE;
    }
    b->sequences = calloc(n, sizeof *b->sequences);
    b->slices = calloc(n, sizeof *b->slices);
    b->n_done = calloc(n, sizeof *b->n_done);
    b->prompts = calloc((size_t)n * n_prompt, sizeof *b->prompts);
    if (!b->sequences || !b->slices || !b->n_done || !b->prompts) {
        print_error("out of memory for %u sequences", n);
        return EXIT_FAILED;
    }
    for (uint32_t i = 0; i < n; i++) {
        bench_fill_prompt(s, text, i, b->prompts + (size_t)i * n_prompt, n_prompt);
        int code = session_open_sequence(s, o, &b->sequences[i]);
        if (code != EXIT_OK) {
            return code;
        }
    }
    return EXIT_OK;
}

void bench_batch_close(bench_batch *b)
{
    for (uint32_t i = 0; b->sequences && i < b->n; i++) {
        mlxr_sequence_close(&b->sequences[i]);
    }
    free(b->sequences);
    free(b->slices);
    free(b->n_done);
    free(b->prompts);
    *b = (bench_batch){0};
}

static bool failed(const mlxr_error *error)
{
    print_error("%s", error->text);
    return false;
}

/* Every sequence with its prompt computed and its first token sampled. */
static bool compute_prompts(bench_batch *b)
{
    mlxr_error error;
    uint32_t max = mlxr_step_tokens_max(b->s->engine);
    for (uint32_t i = 0; i < b->n; i++) {
        mlxr_sequence *sequence = b->sequences[i];
        if (mlxr_sequence_truncate(sequence, 0, &error) != MLXR_OK ||
            mlxr_sequence_append(sequence, b->prompts + (size_t)i * b->n_prompt, b->n_prompt, &error) != MLXR_OK) {
            return failed(&error);
        }
        for (bool done = false; !done;) {
            size_t pending = mlxr_sequence_pending(sequence);
            done = pending <= max;
            mlxr_slice slice = {.sequence = sequence, .n_compute = done ? (uint32_t)pending : max, .flags = b->flags};
            if (mlxr_step(b->s->engine, &slice, 1, &error) != MLXR_OK) {
                return failed(&error);
            }
        }
    }
    return true;
}

bool bench_batch_run(bench_batch *b, double *rate)
{
    mlxr_error error;
    if (!compute_prompts(b)) {
        return false;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        b->n_done[i] = 0;
    }
    uint64_t n_tokens = 0;
    double started = now_seconds();
    for (;;) {
        uint32_t n_slices = 0;
        for (uint32_t i = 0; i < b->n; i++) {
            if (b->n_done[i] < b->n_generate) {
                b->slices[n_slices++] = (mlxr_slice){.sequence = b->sequences[i], .n_compute = 1, .flags = b->flags};
            }
        }
        if (n_slices == 0) {
            break;
        }
        if (mlxr_step(b->s->engine, b->slices, n_slices, &error) != MLXR_OK) {
            return failed(&error);
        }
        for (uint32_t i = 0, at = 0; i < b->n; i++) {
            if (b->n_done[i] < b->n_generate) {
                uint32_t n = b->slices[at++].n_sampled, left = b->n_generate - b->n_done[i];
                n = n < left ? n : left;
                b->n_done[i] += n;
                n_tokens += n;
            }
        }
    }
    *rate = (double)n_tokens / (now_seconds() - started);
    return true;
}
