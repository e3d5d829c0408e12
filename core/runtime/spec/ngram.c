/*
 * Prompt lookup.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/spec/ngram.h"

/* Tokens farther back than this are not searched, so that a draft costs microseconds at any context length. */
#define SEARCH_TOKENS ((size_t)32768)

uint32_t ngram_draft(const int32_t *tokens, size_t n, uint32_t n_max, int32_t *out)
{
    if (n <= NGRAM_LEAST || n_max == 0) {
        return 0;
    }
    int32_t last = tokens[n - 1], before = tokens[n - 2];
    size_t stop = n > SEARCH_TOKENS ? n - SEARCH_TOKENS : 0;
    size_t best_end = 0;
    uint32_t best_length = 0;
    for (size_t end = n - 1; end > stop + 1 && best_length < NGRAM_MOST; end--) { /* tokens[end − 1] may equal `last` */
        if (tokens[end - 1] != last || tokens[end - 2] != before) {
            continue;
        }
        uint32_t length = NGRAM_LEAST;
        while (length < NGRAM_MOST && length < end && tokens[end - 1 - length] == tokens[n - 1 - length]) {
            length++;
        }
        if (length > best_length) {
            best_length = length;
            best_end = end;
        }
    }
    if (best_length < NGRAM_LEAST) {
        return 0;
    }
    uint32_t n_out = 0;
    for (; n_out < n_max; n_out++) { /* a draft may run into itself: text that repeats with a short period */
        size_t from = best_end + n_out;
        out[n_out] = from < n ? tokens[from] : out[from - n];
    }
    return n_out;
}
