/*
 * `mlxr imatrix`: which inputs of a model's matrices matter on a text.
 * Owner: main. Lifetime: the call.
 *
 * The file's tokens are cut into consecutive windows of --ctx tokens, of which only whole ones are computed. BOS, where
 * the model's tokenizer adds one, takes the place of a window's first token. What is measured is written when all are
 * done.
 */
#include <stdlib.h>
#include <string.h>

#include "inputs.h"
#include "interrupt.h"
#include "mlxr_importance.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

#define WINDOW_TOKENS 512u
typedef struct task {
    session s;
    mlxr_importance *measured;
    size_t n_window, n_windows, n_done;
    uint32_t chunk;
    int32_t bos; /* −1: none */
    progress bar;
} task;

/* One window: its tokens, all rows of them. */
static int compute(task *t, int32_t *ids)
{
    mlxr_error error;
    size_t n_left = t->n_window;
    ids[0] = t->bos >= 0 ? t->bos : ids[0];
    if (mlxr_sequence_truncate(t->s.sequence, 0, &error) != MLXR_OK ||
        mlxr_sequence_append(t->s.sequence, ids, t->n_window, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    while (n_left > 0) {
        mlxr_slice slice = {.sequence = t->s.sequence,
                            .n_compute = n_left < t->chunk ? (uint32_t)n_left : t->chunk,
                            .flags = MLXR_SLICE_NO_SAMPLE | MLXR_SLICE_LOGITS_ALL};
        if (interrupt_seen()) {
            progress_end(&t->bar);
            print_error("stopped; nothing was written");
            return interrupt_code();
        }
        if (mlxr_step(t->s.engine, &slice, 1, &error) != MLXR_OK) {
            return print_failure(&error);
        }
        n_left -= slice.n_compute;
        t->n_done += slice.n_compute;
        progress_show(&t->bar, (double)t->n_done, (double)(t->n_windows * t->n_window), "imatrix");
    }
    return EXIT_OK;
}

static int compute_all(task *t, int32_t *ids)
{
    interrupt_state before;
    int code = EXIT_OK;
    t->bar = progress_begin("imatrix");
    interrupt_begin(&before);
    for (size_t i = 0; i < t->n_windows && code == EXIT_OK; i++) {
        code = compute(t, ids + i * t->n_window);
    }
    interrupt_end(&before);
    progress_end(&t->bar);
    return code;
}

/* How many windows of how many tokens; false after telling why there is none. */
static bool choose_windows(task *t, const options *o, size_t n_tokens)
{
    size_t n_ctx = mlxr_model_info_get(t->s.model)->n_ctx;
    t->n_window = o->n_ctx ? o->n_ctx : WINDOW_TOKENS < n_ctx ? WINDOW_TOKENS : n_ctx;
    t->n_windows = n_tokens / t->n_window;
    if (t->n_windows == 0 || (o->n_windows && t->n_windows < o->n_windows)) {
        print_error("%s has %zu tokens: %zu whole windows of %zu", o->file, n_tokens, t->n_windows, t->n_window);
        return false;
    }
    t->n_windows = o->n_windows ? o->n_windows : t->n_windows;
    t->chunk = session_rows_max(&t->s); /* the last layers show all rows only where all logits are wanted */
    return true;
}

static int print_result(const options *o, const task *t, double seconds)
{
    uint32_t n = mlxr_importance_count(t->measured);
    if (o->json) {
        return print_json(json_pack("{s:i, s:I, s:I, s:I, s:o}", "tensors", (int)n, "windows", (json_int_t)t->n_windows,
                                    "window_tokens", (json_int_t)t->n_window, "tokens", (json_int_t)t->n_done,
                                    "seconds", json_number(seconds)));
    }
    printf("%u matrices over %zu windows of %zu tokens (%.0f tokens/s)\n", n, t->n_windows, t->n_window,
           (double)t->n_done / seconds);
    return finish_output(EXIT_OK);
}

static int measure(task *t, const options *o, const char *text, size_t n_text)
{
    mlxr_error error;
    size_t n_tokens = 0;
    int32_t *ids = session_tokenize(&t->s, text, n_text, 0, &n_tokens);
    t->bos = session_bos(&t->s);
    int code = ids && choose_windows(t, o, n_tokens) ? EXIT_OK : EXIT_FAILED;
    double started = now_seconds();
    if (code == EXIT_OK && mlxr_importance_begin(&t->measured, t->s.engine, t->s.model, &error) != MLXR_OK) {
        code = print_failure(&error);
    }
    code = code == EXIT_OK ? compute_all(t, ids) : code;
    if (code == EXIT_OK && mlxr_importance_write(t->measured, o->args[1], o->file, (uint32_t)t->n_windows,
                                                 (uint32_t)t->n_window, &error) != MLXR_OK) {
        code = print_failure(&error);
    }
    code = code == EXIT_OK ? print_result(o, t, now_seconds() - started) : code;
    mlxr_importance_end(&t->measured);
    free(ids);
    return code;
}

static bool loses_input(const task *t, const options *o)
{
    inputs in = {0};
    inputs_add(&in, o->file);
    inputs_add_loaded(&in, &t->s.entry, o);
    bool loses = inputs_lose(&in, o->args[1]);
    inputs_close(&in);
    return loses;
}

int verb_imatrix(options *o)
{
    task t = {0};
    size_t n_text = 0;
    if (!o->file) {
        print_error("imatrix needs --file FILE");
        return EXIT_USAGE;
    }
    char *text = read_all(o->file, &n_text);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = session_open(&t.s, o, o->args[0], true);
    code = code == EXIT_OK && loses_input(&t, o) ? EXIT_USAGE : code;
    code = code == EXIT_OK ? session_sequence(&t.s, o) : code;
    code = code == EXIT_OK ? measure(&t, o, text, n_text) : code;
    session_close(&t.s);
    free(text);
    return code;
}
