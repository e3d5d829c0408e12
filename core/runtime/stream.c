/*
 * Stream: sampled tokens to text, watching for stop strings.
 * Owner: the caller of mlxr.h. Lifetime: mlxr_stream_open to mlxr_stream_close; the model must live longer.
 *
 * Each stop string has a Knuth-Morris-Pratt state: how many of its first bytes are the last bytes of the text. What
 * must be held back is the longest of them; a stop is met at the first byte that completes one, and of those it
 * completes the longest counts. So the result does not depend on where tokens begin and end.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/utf8.h"
#include "runtime/engine.h"

typedef struct stop_string {
    const char *text;
    uint32_t *border; /* [n]: length of the longest proper prefix of text[0..i] that is also its suffix */
    size_t n;
    size_t matched;
} stop_string;

struct mlxr_stream {
    const tokenizer *tokenizer;
    uint32_t n_vocab; /* rows of logits: models pad the vocabulary, and what they pad it with has no text */
    detokenizer detokenizer;
    stop_string *stops; /* [n_stops] */
    size_t n_stops;
    char *text; /* [n_text] */
    size_t n_text, cap_text;
    size_t n_given; /* of the text, handed out by the last call */
    bool stopped, finished;
};

/* ---- stop strings -------------------------------------------------------------------------------------------------
 */

static bool is_utf8(const char *text, size_t n)
{
    uint32_t code;
    for (size_t i = 0, length; i < n; i += length) {
        length = utf8_decode(text + i, n - i, &code);
        if (length == 0) {
            return false;
        }
    }
    return true;
}

static void fill_borders(stop_string *stop)
{
    size_t length = 0;
    stop->border[0] = 0;
    for (size_t i = 1; i < stop->n; i++) {
        while (length > 0 && stop->text[i] != stop->text[length]) {
            length = stop->border[length - 1];
        }
        length += stop->text[i] == stop->text[length];
        stop->border[i] = (uint32_t)length;
    }
}

/* Takes one byte of text; true if it completes the stop string. */
static bool advance(stop_string *stop, char byte)
{
    while (stop->matched > 0 && (stop->matched == stop->n || stop->text[stop->matched] != byte)) {
        stop->matched = stop->border[stop->matched - 1];
    }
    stop->matched += stop->text[stop->matched] == byte;
    return stop->matched == stop->n;
}

/* One block of memory: the borders of all strings, then their bytes. */
static mlxr_status copy_stops(mlxr_stream *s, const char *const *stops, size_t n_stops, mlxr_error *error)
{
    uint64_t n_bytes = 0, need;
    for (size_t i = 0; i < n_stops; i++) {
        size_t n = stops[i] ? strlen(stops[i]) : 0;
        if (n == 0) {
            return error_set(error, MLXR_ARG, "stop string %zu of %zu is empty; it would end every answer at once",
                             i + 1, n_stops);
        }
        if (!is_utf8(stops[i], n)) {
            return error_set(error, MLXR_ARG, "stop string %zu of %zu is not UTF-8; the text never has such bytes",
                             i + 1, n_stops);
        }
        if (!checked_add(n_bytes, n, &n_bytes)) {
            return error_set(error, MLXR_LIMIT, "stop strings are too long");
        }
    }
    if (n_bytes > UINT32_MAX || !checked_mul(n_bytes, 1 + sizeof(uint32_t), &need) ||
        !checked_add(need, n_stops * sizeof *s->stops, &need)) {
        return error_set(error, MLXR_LIMIT, "stop strings of %llu bytes are too long", (unsigned long long)n_bytes);
    }
    if (n_stops == 0) {
        return MLXR_OK;
    }
    s->stops = malloc(need);
    if (!s->stops) {
        return error_nomem(error, "stop strings", need);
    }
    uint32_t *border = (uint32_t *)(s->stops + n_stops);
    char *text = (char *)(border + n_bytes);
    for (size_t i = 0; i < n_stops; i++) {
        size_t n = strlen(stops[i]);
        memcpy(text, stops[i], n);
        s->stops[i] = (stop_string){.text = text, .border = border, .n = n};
        fill_borders(&s->stops[i]);
        text += n;
        border += n;
    }
    s->n_stops = n_stops;
    return MLXR_OK;
}

/* ---- the stream ---------------------------------------------------------------------------------------------------
 */

mlxr_status mlxr_stream_open(mlxr_stream **out, const mlxr_model *model, const char *const *stops, size_t n_stops,
                             mlxr_error *error)
{
    mlxr_stream *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(error, "stream", sizeof *s);
    }
    s->tokenizer = model->tokenizer;
    s->n_vocab = model->graph ? model->graph->h.n_vocab : tokenizer_size(model->tokenizer);
    s->detokenizer.started = true; /* what a model generates follows a prompt: a first space is part of it */
    mlxr_status status = copy_stops(s, stops, n_stops, error);
    if (status != MLXR_OK) {
        mlxr_stream_close(&s);
        return status;
    }
    *out = s;
    return MLXR_OK;
}

void mlxr_stream_close(mlxr_stream **pointer)
{
    mlxr_stream *s = *pointer;
    if (!s) {
        return;
    }
    free(s->stops);
    free(s->text);
    free(s);
    *pointer = NULL;
}

static mlxr_status reserve(mlxr_stream *s, size_t more, mlxr_error *error)
{
    size_t need = s->n_text + more;
    if (need <= s->cap_text) {
        return MLXR_OK;
    }
    char *grown = realloc(s->text, need * 2);
    if (!grown) {
        return error_nomem(error, "text of a stream", need * 2);
    }
    s->text = grown;
    s->cap_text = need * 2;
    return MLXR_OK;
}

/* Feeds text[from..n_text) to the stop strings and decides what of the text can be given now. */
static void watch(mlxr_stream *s, size_t from)
{
    for (size_t i = from; i < s->n_text; i++) {
        size_t longest = 0;
        for (size_t j = 0; j < s->n_stops; j++) {
            if (advance(&s->stops[j], s->text[i]) && s->stops[j].n > longest) {
                longest = s->stops[j].n;
            }
        }
        if (longest > 0) {
            s->stopped = true;
            s->n_given = i + 1 - longest;
            return;
        }
    }
    size_t held = 0;
    for (size_t j = 0; j < s->n_stops; j++) {
        held = s->stops[j].matched > held ? s->stops[j].matched : held;
    }
    s->n_given = s->n_text - held;
}

/* Forgets what the last call gave. */
static void drop_given(mlxr_stream *s)
{
    if (s->n_given > 0) {
        memmove(s->text, s->text + s->n_given, s->n_text - s->n_given);
        s->n_text -= s->n_given;
        s->n_given = 0;
    }
}

mlxr_status mlxr_stream_push(mlxr_stream *s, int32_t id, const char **text, size_t *n_bytes, bool *stopped,
                             mlxr_error *error)
{
    if (id < 0 || (uint32_t)id >= s->n_vocab) {
        return error_set(error, MLXR_ARG, "token %d; the vocabulary has 0 to %u", id, s->n_vocab - 1);
    }
    size_t need = 3 * (tokenizer_piece(s->tokenizer, id).n + sizeof s->detokenizer.tail);
    mlxr_status status = reserve(s, need, error);
    if (status != MLXR_OK) {
        return status;
    }
    drop_given(s);
    if (!s->stopped && !s->finished) {
        size_t from = s->n_text;
        s->n_text += detokenizer_push(&s->detokenizer, s->tokenizer, id, false, s->text + from, s->cap_text - from);
        watch(s, from);
    }
    *text = s->text;
    *n_bytes = s->n_given;
    *stopped = s->stopped;
    return MLXR_OK;
}

mlxr_status mlxr_stream_finish(mlxr_stream *s, const char **text, size_t *n_bytes, mlxr_error *error)
{
    mlxr_status status = reserve(s, 3 * sizeof s->detokenizer.tail, error);
    if (status != MLXR_OK) {
        return status;
    }
    drop_given(s);
    if (!s->stopped && !s->finished) {
        size_t from = s->n_text;
        s->n_text += detokenizer_finish(&s->detokenizer, s->text + from, s->cap_text - from);
        watch(s, from); /* U+FFFD may be part of a stop string, too */
        s->n_given = s->stopped ? s->n_given : s->n_text;
    }
    s->finished = true;
    *text = s->text;
    *n_bytes = s->n_given;
    return MLXR_OK;
}
