/*
 * Streaming detokenisation: token by token, whole characters only.
 * Owner: none; the state is the caller's. Lifetime: one stream.
 */
#include "base/utf8.h"
#include "text/tokenizer_parts.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* How many bytes at the start of what is no character belong together (Unicode 3.9, maximal subpart); n > 0. */
static size_t maximal_subpart(const char *text, size_t n)
{
    for (size_t length = n < 3 ? n : 3; length > 1; length--) {
        if (utf8_incomplete_tail(text, length) == length) {
            return length;
        }
    }
    return 1;
}

/* Writes the whole characters of text[0..n), U+FFFD for what is none, and leaves an unfinished one unread. */
static size_t write_characters(const char *text, size_t n, size_t *n_read, char *out, size_t cap)
{
    size_t used = 0, at = 0;
    while (at < n) {
        uint32_t code;
        size_t length = utf8_decode(text + at, n - at, &code);
        if (length == 0) {
            if (n - at < 4 && utf8_incomplete_tail(text + at, n - at) == n - at) {
                break;
            }
            if (cap - used < 3) {
                break;
            }
            memcpy(out + used, REPLACEMENT, 3);
            used += 3;
            at += maximal_subpart(text + at, n - at);
            continue;
        }
        if (cap - used < length) {
            break;
        }
        memcpy(out + used, text + at, length);
        used += length;
        at += length;
    }
    *n_read = at;
    return used;
}

size_t detokenizer_push(detokenizer *d, const tokenizer *t, int32_t id, bool with_special, char *out, size_t cap)
{
    if (tokenizer_is_special(t, id) && !with_special) {
        return 0;
    }
    token_text piece = tokenizer_piece(t, id);
    if (piece.n == 0) {
        return 0;
    }
    if (!d->started && t->strip_first_space && piece.data[0] == ' ' && !tokenizer_is_special(t, id)) {
        piece.data++;
        piece.n--;
    }
    d->started = true;
    size_t used = 0, n_read;
    /* The unfinished character first: it needs at most three bytes of this piece. */
    while (d->n_tail && piece.n) {
        d->tail[d->n_tail++] = *piece.data++;
        piece.n--;
        used += write_characters(d->tail, d->n_tail, &n_read, out + used, cap - used);
        memmove(d->tail, d->tail + n_read, d->n_tail - n_read);
        d->n_tail -= (uint32_t)n_read;
    }
    if (d->n_tail == 0) {
        used += write_characters(piece.data, piece.n, &n_read, out + used, cap - used);
        size_t rest = piece.n - n_read;
        rest = rest < sizeof d->tail ? rest : sizeof d->tail; /* more only if the caller gave too little room */
        memcpy(d->tail, piece.data + n_read, rest);
        d->n_tail = (uint32_t)rest;
    }
    return used;
}

size_t detokenizer_finish(detokenizer *d, char *out, size_t cap)
{
    size_t used = 0;
    if (d->n_tail && cap >= 3) {
        memcpy(out, REPLACEMENT, 3);
        used = 3;
    }
    *d = (detokenizer){0};
    return used;
}
