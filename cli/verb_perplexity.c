/*
 * `mlxr perplexity`: how well a model predicts a text.
 * Owner: main. Lifetime: the call.
 *
 * The file's tokens (no special ones added) are cut into consecutive windows of --ctx tokens, the last one shorter and
 * dropped if it has a single token. BOS, where the model's tokenizer adds one, comes in addition before each window.
 * Every position but the first is predicted.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "session.h"
#include "verbs.h"

/* Logits of a step are kept below this, so that a vocabulary of 262k tokens does not need half a gigabyte. */
#define LOGITS_BYTES ((size_t)64 << 20)

/* −ln of the probability that softmax(logits[n]) gives to `id`. */
static double surprise(const float *logits, uint32_t n, int32_t id)
{
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        float below = logits[i] - max;
        if (below > -40.0f) { /* what is left out is under 1e-12 of the total */
            total += exp((double)below);
        }
    }
    return log(total) - ((double)logits[id] - (double)max);
}

typedef struct measurement {
    session s;
    int32_t *window; /* [n_window + 1] */
    uint32_t n_vocab, chunk;
    double sum; /* of surprises */
    size_t n_predicted, n_done, n_tokens;
    progress bar;
} measurement;

static void show(measurement *m)
{
    char note[64];
    snprintf(note, sizeof note, "perplexity %.4f", m->n_predicted ? exp(m->sum / (double)m->n_predicted) : NAN);
    progress_show(&m->bar, (double)m->n_done, (double)m->n_tokens, note);
}

/* Computes a window of n tokens and adds up how surprising each but the first is. */
static int measure_window(measurement *m, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = m->s.sequence;
    size_t at = 0;
    if (mlxr_sequence_truncate(sequence, 0, &error) != MLXR_OK ||
        mlxr_sequence_append(sequence, m->window, n, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    while (at + 1 < n) { /* nothing is predicted from the last token */
        size_t left = n - 1 - at;
        mlxr_slice slice = {.sequence = sequence,
                            .n_compute = left < m->chunk ? (uint32_t)left : m->chunk,
                            .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
        if (mlxr_step(m->s.engine, &slice, 1, &error) != MLXR_OK) {
            return print_failure(&error);
        }
        for (uint32_t i = 0; i < slice.n_compute; i++) {
            m->sum += surprise(slice.logits + (size_t)i * m->n_vocab, m->n_vocab, m->window[at + i + 1]);
        }
        at += slice.n_compute;
        m->n_predicted += slice.n_compute;
        m->n_done += slice.n_compute;
        show(m);
    }
    return EXIT_OK;
}

/* The model's BOS if its tokenizer adds one, else −1. */
static int32_t find_bos(const session *s)
{
    size_t n = 0;
    int32_t bos = -1;
    if (mlxr_model_info_get(s->model)->adds_bos) {
        int32_t *ids = session_tokenize(s, "", 0, MLXR_TOKENIZE_ADD_SPECIAL, &n);
        bos = ids && n > 0 ? ids[0] : -1;
        free(ids);
    }
    return bos;
}

static int measure(measurement *m, const int32_t *ids, size_t n_window)
{
    int32_t bos = find_bos(&m->s);
    size_t n_bos = bos >= 0 ? 1 : 0;
    int code = EXIT_OK;
    m->window = malloc((n_window + 1) * sizeof *m->window);
    if (!m->window) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    m->window[0] = bos;
    for (size_t at = 0; code == EXIT_OK && at < m->n_tokens; at += n_window) {
        size_t n = m->n_tokens - at < n_window ? m->n_tokens - at : n_window;
        if (n < 2) {
            break;
        }
        memcpy(m->window + n_bos, ids + at, n * sizeof *ids);
        code = measure_window(m, n + n_bos);
    }
    return code;
}

static int print_result(const options *o, const measurement *m, double seconds)
{
    double ppl = exp(m->sum / (double)m->n_predicted);
    if (o->json) {
        json_t *root = json_pack("{s:o, s:I, s:I}", "ppl", json_number(ppl), "n_tokens", (json_int_t)m->n_tokens,
                                 "n_predicted", (json_int_t)m->n_predicted);
        if (o->batch_invariant) {
            json_object_set_new(root, "batch_invariant", json_true());
        }
        return print_json(root);
    }
    printf("perplexity %.4f over %zu predicted of %zu tokens (%.0f tokens/s)\n", ppl, m->n_predicted, m->n_tokens,
           (double)m->n_predicted / seconds);
    return finish_output(EXIT_OK);
}

static int perplexity_of(options *o, measurement *m, const char *text, size_t n_text, size_t n_window)
{
    int32_t *ids = session_tokenize(&m->s, text, n_text, 0, &m->n_tokens);
    if (!ids) {
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    if (m->n_tokens < 2) {
        print_error("%s: %zu tokens; at least 2 are needed", o->file, m->n_tokens);
    } else {
        double started = now_seconds();
        m->bar = progress_begin("perplexity");
        code = measure(m, ids, n_window);
        progress_end(&m->bar);
        code = code == EXIT_OK ? print_result(o, m, now_seconds() - started) : code;
    }
    free(ids);
    return code;
}

int verb_perplexity(options *o)
{
    measurement m = {0};
    size_t n_text = 0, n_window = o->n_ctx ? o->n_ctx : 512;
    if (!o->file) {
        print_error("perplexity needs --file FILE");
        return EXIT_USAGE;
    }
    if (n_window < 2) {
        print_error("--ctx %zu: a window needs at least 2 tokens", n_window);
        return EXIT_USAGE;
    }
    char *text = read_all(o->file, &n_text);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = session_open(&m.s, o, o->args[0], true);
    code = code == EXIT_OK ? session_sequence(&m.s, o) : code;
    if (code == EXIT_OK) {
        m.n_vocab = mlxr_model_info_get(m.s.model)->n_vocab;
        size_t rows = LOGITS_BYTES / sizeof(float) / m.n_vocab, max = mlxr_step_tokens_max(m.s.engine);
        m.chunk = (uint32_t)(rows < 1 ? 1 : rows < max ? rows : max);
        code = perplexity_of(o, &m, text, n_text, n_window);
    }
    session_close(&m.s);
    free(m.window);
    free(text);
    return code;
}
