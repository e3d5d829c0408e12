/*
 * `mlxr perplexity`: how well a model predicts a text.
 * Owner: main. Lifetime: the call.
 *
 * The file's tokens (no special ones added) are cut into consecutive windows of --ctx tokens, the last one shorter and
 * dropped if it has a single token; --windows takes the first so many. BOS, where the model's tokenizer adds one, comes
 * in addition before each window; one whose length --rope-* made the context has one token less. Every position but
 * the first is predicted; --skip N leaves out what the first N positions of a window (BOS is one) predict. With
 * --save-logits what is predicted at each goes to a file, with --kld it is compared with such a file: the divergence of
 * this run from the reference, how often both have the same favourite, and the ratio of their perplexities with its
 * standard error, of the differences position by position.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inputs.h"
#include "output.h"
#include "reference_logits.h"
#include "scheduler/quantile.h"
#include "session.h"
#include "verbs.h"

#define WINDOW_TOKENS 512u

/* ln of softmax(logits[n])'s denominator, relative to the greatest logit, which goes to *max. */
static double log_total(const float *logits, uint32_t n, float *max)
{
    float greatest = logits[0];
    for (uint32_t i = 1; i < n; i++) {
        greatest = logits[i] > greatest ? logits[i] : greatest;
    }
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        float below = logits[i] - greatest;
        if (below > -40.0f) { /* what is left out is under 1e-12 of the total */
            total += exp((double)below);
        }
    }
    *max = greatest;
    return log(total);
}

typedef struct measurement {
    session s;
    int32_t *window; /* [n_window + 1] */
    int32_t bos;     /* before each window; −1: none */
    size_t n_window, n_skip;
    uint32_t n_vocab, chunk;
    double sum; /* of surprises */
    size_t n_predicted, n_done, n_tokens;
    reference_file save, reference; /* open where asked for */
    float *own, *theirs;            /* [n_vocab] log-probabilities */
    double *divergence;             /* [n_tokens]: KL divergence of each position */
    double *excess;                 /* [n_tokens]: how much more surprised than the reference */
    size_t n_agree;                 /* positions with the same favourite */
    progress bar;
} measurement;

static void show(measurement *m)
{
    char note[64];
    snprintf(note, sizeof note, "perplexity %.4f", m->n_predicted ? exp(m->sum / (double)m->n_predicted) : NAN);
    progress_show(&m->bar, (double)m->n_done, (double)m->n_tokens, note);
}

/* KL(reference ‖ this run) of one position, Σ p ln(p / q), and whether both have the same favourite. */
static double diverge(const float *theirs, const float *own, uint32_t n, bool *agree)
{
    double sum = 0, total = 0;
    uint32_t best = 0, own_best = 0;
    for (uint32_t i = 0; i < n; i++) {
        best = theirs[i] > theirs[best] ? i : best;
        own_best = own[i] > own[own_best] ? i : own_best;
        double p = exp((double)theirs[i]);
        total += p;
        sum += p * ((double)theirs[i] - (double)own[i]);
    }
    *agree = theirs[own_best] == theirs[best]; /* ties of the rounded reference agree */
    return sum / total - log(total);           /* its rounded probabilities do not quite add up to 1 */
}

/* Takes one position in: its surprise, and what goes to or is compared with a file. */
static bool take_position(measurement *m, const float *logits, int32_t id)
{
    float max;
    double total = log_total(logits, m->n_vocab, &max);
    m->sum += total - ((double)logits[id] - (double)max);
    if (!m->own) {
        m->n_predicted++;
        return true;
    }
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        m->own[i] = (float)((double)(logits[i] - max) - total);
    }
    if (m->save.file && !reference_put(&m->save, m->own)) {
        return false;
    }
    if (m->reference.file) {
        bool agree;
        if (!reference_get(&m->reference, m->theirs)) {
            return false;
        }
        m->divergence[m->n_predicted] = diverge(m->theirs, m->own, m->n_vocab, &agree);
        const double own = (double)m->own[id], least = -total - (double)REFERENCE_DEPTH;
        m->excess[m->n_predicted] = (double)m->theirs[id] - (own < least ? least : own);
        m->n_agree += agree;
    }
    m->n_predicted++;
    return true;
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
        bool taken = at >= m->n_skip;
        size_t end = taken || m->n_skip > n - 1 ? n - 1 : m->n_skip, left = end - at;
        mlxr_slice slice = {.sequence = sequence,
                            .n_compute = left < m->chunk ? (uint32_t)left : m->chunk,
                            .flags = MLXR_SLICE_NO_SAMPLE | (taken ? MLXR_SLICE_LOGITS_ALL : 0)};
        if (mlxr_step(m->s.engine, &slice, 1, &error) != MLXR_OK) {
            return print_failure(&error);
        }
        for (uint32_t i = 0; taken && i < slice.n_compute; i++) {
            if (!take_position(m, slice.logits + (size_t)i * m->n_vocab, m->window[at + i + 1])) {
                return EXIT_FAILED;
            }
        }
        at += slice.n_compute;
        m->n_done += slice.n_compute;
        show(m);
    }
    return EXIT_OK;
}

/* Opens the files that were asked for, and makes room to compare. */
static bool open_references(measurement *m, const options *o, const int32_t *ids)
{
    reference_text text = {.ids = ids,
                           .n_tokens = m->n_tokens,
                           .n_vocab = m->n_vocab,
                           .n_window = (uint32_t)m->n_window,
                           .n_skip = (uint32_t)m->n_skip,
                           .bos = m->bos};
    if (!o->save_logits && !o->kld) {
        return true;
    }
    m->own = malloc(m->n_vocab * sizeof *m->own);
    m->theirs = malloc(m->n_vocab * sizeof *m->theirs);
    m->divergence = malloc(m->n_tokens * sizeof *m->divergence);
    m->excess = malloc(m->n_tokens * sizeof *m->excess);
    if (!m->own || !m->theirs || !m->divergence || !m->excess) {
        print_error("out of memory");
        return false;
    }
    return (!o->kld || reference_open(&m->reference, o->kld, &text)) &&
           (!o->save_logits || reference_create(&m->save, o->save_logits, &text));
}

/* The windows' tokens and which of their predictions count. */
static bool choose_windows(measurement *m, const options *o)
{
    size_t n_ctx = mlxr_model_info_get(m->s.model)->n_ctx, n_bos;
    m->bos = session_bos(&m->s);
    n_bos = m->bos >= 0;
    m->n_window = o->n_ctx                         ? o->n_ctx
                  : WINDOW_TOKENS + n_bos <= n_ctx ? WINDOW_TOKENS
                                                   : n_ctx - n_bos;       /* the default suits any model */
    if ((o->rope_scaling || o->rope_base != 0) && m->n_window == n_ctx) { /* made for it: BOS is one of its tokens */
        m->n_window -= n_bos;
    }
    m->n_skip = o->n_skip;
    if (m->n_window < 2) {
        print_error("the model's context of %zu tokens has no room for a window", n_ctx);
        return false;
    }
    if (m->n_skip + 1 >= m->n_window + n_bos) {
        print_error("--skip %zu: a window of %zu tokens predicts nothing behind them", m->n_skip, m->n_window + n_bos);
        return false;
    }
    m->window = malloc((m->n_window + 1) * sizeof *m->window);
    if (!m->window) {
        print_error("out of memory");
        return false;
    }
    m->window[0] = m->bos;
    return true;
}

static int measure(measurement *m, const options *o, const int32_t *ids)
{
    size_t n_bos = m->bos >= 0 ? 1 : 0;
    int code = EXIT_OK;
    if (!open_references(m, o, ids)) {
        return EXIT_FAILED;
    }
    for (size_t at = 0; code == EXIT_OK && at < m->n_tokens; at += m->n_window) {
        size_t n = m->n_tokens - at < m->n_window ? m->n_tokens - at : m->n_window;
        if (n < 2) {
            break;
        }
        memcpy(m->window + n_bos, ids + at, n * sizeof *ids);
        code = measure_window(m, n + n_bos);
    }
    if (code == EXIT_OK &&
        ((m->reference.file && !reference_finish(&m->reference)) || (m->save.file && !reference_finish(&m->save)))) {
        code = EXIT_FAILED;
    }
    return code;
}

typedef struct comparison {
    double mean, p99, agreement;
    double ratio, ratio_error; /* of perplexities, and its standard error; NaN of a single position */
} comparison;

/* What both runs find hard alike cancels in the differences, so that they tell far smaller changes from chance than
 * either perplexity's own error would. Positions count as independent, as in others' tools. */
static comparison compare(measurement *m)
{
    const double n = (double)m->n_predicted;
    comparison c = {.agreement = (double)m->n_agree / n};
    double excess = 0, squares = 0;
    for (size_t i = 0; i < m->n_predicted; i++) {
        c.mean += m->divergence[i] / n;
        excess += m->excess[i] / n;
    }
    for (size_t i = 0; i < m->n_predicted; i++) {
        squares += (m->excess[i] - excess) * (m->excess[i] - excess);
    }
    c.p99 = quantile_of(m->divergence, m->n_predicted, 0.99);
    c.ratio = exp(excess);
    c.ratio_error = m->n_predicted > 1 ? c.ratio * sqrt(squares / (n - 1) / n) : NAN;
    return c;
}

static int print_result(const options *o, measurement *m, double seconds)
{
    comparison c = {0};
    if (o->kld) {
        c = compare(m);
    }
    double ppl = exp(m->sum / (double)m->n_predicted);
    uint32_t bits = mlxr_engine_info_get(m->s.engine)->activation_bits;
    if (o->json) {
        json_t *root = json_pack("{s:o, s:I, s:I}", "ppl", json_number(ppl), "n_tokens", (json_int_t)m->n_tokens,
                                 "n_predicted", (json_int_t)m->n_predicted);
        if (o->batch_invariant) {
            json_object_set_new(root, "batch_invariant", json_true());
        }
        json_object_set_new(root, "activations", json_integer(bits));
        if (o->kld) {
            json_object_set_new(root, "kld_mean", json_number(c.mean));
            json_object_set_new(root, "kld_p99", json_number(c.p99));
            json_object_set_new(root, "top1_agreement", json_number(c.agreement));
            json_object_set_new(root, "ppl_ratio", json_number(c.ratio));
            json_object_set_new(root, "ppl_ratio_error", json_number(c.ratio_error));
        }
        return print_json(root);
    }
    printf("perplexity %.4f over %zu predicted of %zu tokens (%.0f tokens/s)%s\n", ppl, m->n_predicted, m->n_tokens,
           (double)m->n_predicted / seconds, bits == 8 ? "; activations of 8 bits" : "");
    if (o->kld) {
        printf("KL divergence from the reference %.6g, 99 %% of positions below %.6g; the same favourite at %.2f %%\n",
               c.mean, c.p99, 100 * c.agreement);
        printf("perplexity %+.3f %% from the reference's", 100 * (c.ratio - 1));
        if (m->n_predicted > 1) {
            printf(", standard error %.3f %%", 100 * c.ratio_error);
        }
        printf("\n");
    }
    return finish_output(EXIT_OK);
}

static int perplexity_of(options *o, measurement *m, const char *text, size_t n_text)
{
    int32_t *ids = session_tokenize(&m->s, text, n_text, 0, &m->n_tokens);
    if (!ids) {
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    if (o->n_windows && m->n_tokens / m->n_window < o->n_windows) {
        print_error("--windows %u: %s has %zu tokens, %zu whole windows of %zu", o->n_windows, o->file, m->n_tokens,
                    m->n_tokens / m->n_window, m->n_window);
        free(ids);
        return EXIT_FAILED;
    }
    m->n_tokens = o->n_windows ? o->n_windows * m->n_window : m->n_tokens;
    if (m->n_tokens < m->n_skip + 2) {
        print_error("%s: %zu tokens; at least %zu are needed", o->file, m->n_tokens, m->n_skip + 2);
    } else {
        double started = now_seconds();
        m->bar = progress_begin("perplexity");
        code = measure(m, o, ids);
        progress_end(&m->bar);
        code = code == EXIT_OK ? print_result(o, m, now_seconds() - started) : code;
    }
    free(ids);
    return code;
}

static bool loses_input(const measurement *m, const options *o)
{
    inputs in = {0};
    inputs_add(&in, o->file);
    inputs_add(&in, o->kld);
    inputs_add_loaded(&in, &m->s.entry, o);
    bool loses = inputs_lose(&in, o->save_logits);
    inputs_close(&in);
    return loses;
}

int verb_perplexity(options *o)
{
    measurement m = {0};
    size_t n_text = 0;
    if (!o->file) {
        print_error("perplexity needs --file FILE");
        return EXIT_USAGE;
    }
    if (o->n_ctx == 1) {
        print_error("--ctx 1: a window needs at least 2 tokens");
        return EXIT_USAGE;
    }
    char *text = read_all(o->file, &n_text);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = session_open(&m.s, o, o->args[0], true);
    code = code == EXIT_OK ? session_sequence(&m.s, o) : code;
    code = code == EXIT_OK && !choose_windows(&m, o) ? EXIT_USAGE : code;
    code = code == EXIT_OK && o->save_logits && loses_input(&m, o) ? EXIT_USAGE : code;
    if (code == EXIT_OK) {
        m.n_vocab = mlxr_model_info_get(m.s.model)->n_vocab;
        m.chunk = session_rows_max(&m.s);
        code = perplexity_of(o, &m, text, n_text);
    }
    reference_close(&m.save);
    reference_close(&m.reference);
    session_close(&m.s);
    free(m.own);
    free(m.theirs);
    free(m.divergence);
    free(m.excess);
    free(m.window);
    free(text);
    return code;
}
