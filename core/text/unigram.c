/*
 * Unigram: the segmentation with the best sum of scores (Viterbi), as SentencePiece and the reference do it.
 * Owner: the caller's scratch. Lifetime: the call.
 *
 * The texts are looked up in a sorted list: the range of texts that begin with the bytes read so far is narrowed byte
 * by byte, which finds all tokens that begin at a place in one go.
 */
#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#define UNKNOWN_PENALTY 10.0
#define NOT_REACHED (-2)
#define UNKNOWN (-1)

/* ---- opening ---- */

static int compare_texts(const text_table *table, uint32_t a, uint32_t b)
{
    token_text x = text_table_get(table, a), y = text_table_get(table, b);
    int order = memcmp(x.data, y.data, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

/* Merge sort, bottom up; the result is in `ids`. */
static void sort_ids(const text_table *table, uint32_t *ids, uint32_t *spare, uint32_t n)
{
    uint32_t *from = ids, *to = spare;
    for (uint32_t width = 1; width<n; width = width> n / 2 ? n : width * 2) {
        for (uint32_t begin = 0; begin<n; begin += width>(n - begin) / 2 ? n - begin : 2 * width) {
            uint32_t middle = width < n - begin ? begin + width : n;
            uint32_t end = width < n - middle ? middle + width : n;
            for (uint32_t a = begin, b = middle, at = begin; at < end; at++) {
                bool left = a < middle && (b == end || compare_texts(table, from[a], from[b]) <= 0);
                to[at] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != ids) {
        memcpy(ids, from, n * sizeof *ids);
    }
}

mlxr_status unigram_open(tokenizer *t, const token_text *written, uint32_t n_scored, mlxr_error *error)
{
    size_t n_bytes = (size_t)t->n_tokens * sizeof(uint32_t);
    uint32_t *spare = malloc(n_bytes);
    t->sorted = region_alloc(&t->memory, n_bytes);
    if (!t->sorted || !spare) {
        free(spare);
        return error_nomem(error, "sorted vocabulary", n_bytes);
    }
    double lowest = INFINITY;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        uint8_t type = t->types[id];
        token_text text = text_table_get(&t->texts, id);
        /* Of equal texts the map holds the one that counts. */
        if (text.n && text_map_find(&t->map, &t->texts, text.data, text.n) == (int32_t)id && type != TOKEN_UNUSED) {
            t->sorted[t->n_sorted++] = id;
        }
        if (id < n_scored && (type == TOKEN_NORMAL || t->all_scores_count)) {
            lowest = t->logprobs[id] < lowest ? t->logprobs[id] : lowest;
        }
    }
    sort_ids(&t->texts, t->sorted, spare, t->n_sorted);
    free(spare);
    t->unknown_score = (isinf(lowest) ? 0 : lowest) - UNKNOWN_PENALTY;
    t->unknown_score = t->single_precision ? (double)(float)t->unknown_score : t->unknown_score;
    for (uint32_t id = 0; written && id < t->n_tokens; id++) {
        if (t->types[id] == TOKEN_USER_DEFINED) { /* longer is better, whatever its score; as SentencePiece 0.2.3 */
            t->logprobs[id] = (double)(float)((double)written[id].n * 0.1 - 0.1);
        }
    }
    uint32_t at = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        t->sorted_first[byte] = at;
        while (at < t->n_sorted && (uint8_t)text_table_get(&t->texts, t->sorted[at]).data[0] == byte) {
            at++;
        }
    }
    t->sorted_first[256] = at;
    return MLXR_OK;
}

/* ---- search ---- */

/* The first text of sorted[low, high) whose byte at `depth` is at least `byte`; all are longer than `depth`. */
static uint32_t lower_bound(const tokenizer *t, uint32_t low, uint32_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint8_t)text_table_get(&t->texts, t->sorted[middle]).data[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void reach(const tokenizer *t, path_node *node, double score, uint32_t begin, int32_t id)
{
    score = t->single_precision ? (double)(float)score : score;
    if (node->id == NOT_REACHED || score > node->score) {
        *node = (path_node){.score = score, .begin = begin, .id = id};
    }
}

/* Extends the best path to `at` by every token that begins there, and by the unknown character if none is one
 * character long. Returns the length of that character. */
static size_t extend(const tokenizer *t, path_node *path, const char *text, size_t at, size_t n)
{
    uint32_t code, low = t->sorted_first[(uint8_t)text[at]], high = t->sorted_first[(uint8_t)text[at] + 1];
    size_t char_length = unicode_read(text + at, n - at, &code);
    double so_far = path[at].score;
    bool single = false;
    for (size_t depth = 1; low < high; depth++) {
        uint32_t id = t->sorted[low];
        if (text_table_get(&t->texts, id).n == depth) {
            reach(t, &path[at + depth], so_far + t->logprobs[id], (uint32_t)at, (int32_t)id);
            single = single || depth == char_length;
            low++;
        }
        if (at + depth == n) {
            break;
        }
        unsigned byte = (uint8_t)text[at + depth];
        low = lower_bound(t, low, high, depth, byte);
        high = lower_bound(t, low, high, depth, byte + 1);
    }
    if (!single) {
        reach(t, &path[at + char_length], so_far + t->unknown_score, (uint32_t)at, UNKNOWN);
    }
    return char_length;
}

/* An unknown stretch: a token as a whole after all, its bytes, or the unknown token. */
static mlxr_status push_unknown(const tokenizer *t, const char *text, size_t n, token_list *out, mlxr_error *error)
{
    bool bytes = true, fits = true;
    for (size_t i = 0; i < n; i++) {
        bytes = bytes && t->byte_ids[(uint8_t)text[i]] >= 0;
    }
    if (bytes) {
        for (size_t i = 0; fits && i < n; i++) {
            fits = token_list_push(out, t->byte_ids[(uint8_t)text[i]]);
        }
    } else if (t->unk < 0) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer: a character is not in the vocabulary, and there is no "
                         "unknown token");
    } else {
        fits = token_list_push(out, t->unk);
    }
    return fits ? MLXR_OK : token_list_nomem(out, error);
}

/* Turns the best path round: afterwards path[begin].begin is the end of the token that begins there. */
static void turn_path(path_node *path, size_t n)
{
    uint32_t end = (uint32_t)n;
    int32_t id = path[n].id;
    uint32_t begin = path[n].begin;
    while (end > 0) {
        int32_t next_id = path[begin].id;
        uint32_t next_begin = path[begin].begin;
        path[begin] = (path_node){.begin = end, .id = id};
        end = begin;
        id = next_id;
        begin = next_begin;
    }
}

mlxr_status unigram_encode(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                           mlxr_error *error)
{
    if (n + 1 > s->path_cap) {
        size_t cap = n + 1 < 256 ? 256 : n + 1 + n / 2;
        path_node *grown = realloc(s->path, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(error, "tokenizer path", cap * sizeof *grown);
        }
        s->path = grown;
        s->path_cap = cap;
    }
    path_node *path = s->path;
    for (size_t i = 0; i <= n; i++) {
        path[i] = (path_node){.id = NOT_REACHED};
    }
    for (size_t at = 0; at < n;) {
        at += extend(t, path, text, at, n);
    }
    turn_path(path, n);
    for (size_t at = 0; at < n;) {
        size_t end = path[at].begin;
        if (path[at].id != UNKNOWN) {
            if (!token_list_push(out, path[at].id)) {
                return token_list_nomem(out, error);
            }
        } else {
            while (end < n && path[end].id == UNKNOWN) {
                end = path[end].begin;
            }
            mlxr_status status = push_unknown(t, text + at, end - at, out, error);
            if (status != MLXR_OK) {
                return status;
            }
        }
        at = end;
    }
    return MLXR_OK;
}
