/*
 * Byte pair merging: of byte-level BPE by pairs of ids, of SentencePiece by the merged text. O(n log n) in the length
 * of a word; short words take a simpler path with the same result.
 * Owner: the caller's scratch. Lifetime: the call.
 */
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#define NO_RANK UINT32_MAX
#define SHORT_WORD 24u /* symbols; above, a heap */

/* ---- cache of short words: most words of a text come again ---- */

#define CACHE_SLOTS 2048u
#define CACHE_TEXT 26u
#define CACHE_IDS 9u

struct word_cache {
    struct {
        uint8_t n_text, n_ids; /* n_text 0: empty */
        char text[CACHE_TEXT];
        int32_t ids[CACHE_IDS];
    } slots[CACHE_SLOTS];
};

void bpe_cache_make(scratch *s, size_t n)
{
    if (!s->cache && n >= 1024) {
        s->cache = calloc(1, sizeof *s->cache); /* none: no cache, same result */
    }
}

/* ---- candidates ---- */

typedef struct merge_rule {
    uint32_t rank; /* NO_RANK: the two do not merge */
    int32_t product;
} merge_rule;

/* Scores as integers in their order, best first. */
static uint32_t score_rank(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    if (bits == 0x80000000u) {
        bits = 0; /* −0 is 0 */
    }
    uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    uint32_t rank = ~ascending;
    return rank == NO_RANK ? NO_RANK - 1 : rank;
}

static inline merge_rule rule_for(const tokenizer *t, const char *word, const symbol *left, const symbol *right)
{
    if (t->merge_by_text) {
        int32_t id = text_map_find(&t->map, &t->texts, word + left->begin, left->length + right->length);
        return id < 0 ? (merge_rule){NO_RANK, -1} : (merge_rule){score_rank(t->scores[id]), id};
    }
    const pair_slot *slot = pair_map_find(&t->pairs, (uint32_t)left->id, (uint32_t)right->id);
    return slot ? (merge_rule){slot->rank, (int32_t)slot->product} : (merge_rule){NO_RANK, -1};
}

/* ---- short words: an array, the best pair looked for anew each time ---- */

static size_t merge_short(const tokenizer *t, const char *word, symbol *symbols, size_t n)
{
    merge_rule rules[SHORT_WORD]; /* of symbol i with symbol i + 1 */
    for (size_t i = 0; i + 1 < n; i++) {
        rules[i] = rule_for(t, word, &symbols[i], &symbols[i + 1]);
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            best = rules[i].rank < rules[best].rank ? i : best;
        }
        if (rules[best].rank == NO_RANK) {
            break;
        }
        symbols[best].id = rules[best].product;
        symbols[best].length += symbols[best + 1].length;
        for (size_t i = best + 1; i + 1 < n; i++) {
            symbols[i] = symbols[i + 1];
            rules[i - 1] = rules[i];
        }
        n--;
        if (best + 1 < n) {
            rules[best] = rule_for(t, word, &symbols[best], &symbols[best + 1]);
        }
        if (best > 0) {
            rules[best - 1] = rule_for(t, word, &symbols[best - 1], &symbols[best]);
        }
    }
    return n;
}

/* ---- long words: a linked list and a heap of candidates ---- */

static bool heap_push(scratch *s, merge_candidate candidate)
{
    if (s->heap_n == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : 256;
        merge_candidate *heap = realloc(s->heap, cap * sizeof *heap);
        if (!heap) {
            return false;
        }
        s->heap = heap;
        s->heap_cap = cap;
    }
    size_t at = s->heap_n++;
    while (at > 0 && candidate.key < s->heap[(at - 1) / 2].key) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = candidate;
    return true;
}

static merge_candidate heap_pop(scratch *s)
{
    merge_candidate top = s->heap[0], last = s->heap[--s->heap_n];
    size_t at = 0;
    for (size_t child; (child = at * 2 + 1) < s->heap_n; at = child) {
        if (child + 1 < s->heap_n && s->heap[child + 1].key < s->heap[child].key) {
            child++;
        }
        if (last.key <= s->heap[child].key) {
            break;
        }
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = last;
    return top;
}

static bool consider(const tokenizer *t, scratch *s, const char *word, int32_t left, int32_t right)
{
    if (left < 0 || right < 0) {
        return true;
    }
    merge_rule rule = rule_for(t, word, &s->symbols[left], &s->symbols[right]);
    uint32_t length = s->symbols[left].length + s->symbols[right].length;
    if (rule.rank == NO_RANK || length == s->whole) {
        return true;
    }
    return heap_push(s, (merge_candidate){.key = (uint64_t)rule.rank << 32 | (uint32_t)left,
                                          .product = rule.product,
                                          .length = length});
}

/* Merges symbols [0, n) in place; those of length 0 are gone. A symbol only ever grows, so a candidate whose two
 * symbols have another length together than when it was found is out of date. */
static bool merge_long(const tokenizer *t, scratch *s, const char *word, size_t n)
{
    symbol *symbols = s->symbols;
    s->heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        symbols[i].prev = (int32_t)i - 1;
        symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        if (!consider(t, s, word, (int32_t)i, (int32_t)i + 1)) {
            return false;
        }
    }
    while (s->heap_n) {
        merge_candidate best = heap_pop(s);
        int32_t at = (int32_t)(uint32_t)best.key;
        symbol *left = &symbols[at];
        if (left->length == 0 || left->next < 0 || left->length + symbols[left->next].length != best.length) {
            continue;
        }
        symbol *right = &symbols[left->next];
        left->length = best.length;
        left->id = best.product;
        right->length = 0;
        left->next = right->next;
        if (left->next >= 0) {
            symbols[left->next].prev = at;
        }
        if (!consider(t, s, word, left->prev, at) || !consider(t, s, word, at, left->next)) {
            return false;
        }
    }
    return true;
}

/* ---- words ---- */

static bool symbols_reserve(scratch *s, size_t n)
{
    if (n > s->symbols_cap) {
        size_t cap = n < 512 ? 512 : n + n / 2;
        symbol *symbols = realloc(s->symbols, cap * sizeof *symbols);
        if (!symbols) {
            return false;
        }
        s->symbols = symbols;
        s->symbols_cap = cap;
    }
    return true;
}

/* Appends what an unknown character is when merging by ids, as the reference does before it merges: its bytes, one
 * (shared) unknown token, or nothing, so that its neighbours may merge. */
static size_t fill_unknown(const tokenizer *t, symbol *symbols, size_t count, const char *word, uint32_t begin,
                           uint32_t length)
{
    bool bytes = !t->byte_level;
    for (uint32_t i = 0; i < length; i++) {
        bytes = bytes && t->byte_ids[(uint8_t)word[begin + i]] >= 0;
    }
    for (uint32_t i = 0; bytes && i < length; i++) {
        symbols[count++] = (symbol){.begin = begin + i, .length = 1, .id = t->byte_ids[(uint8_t)word[begin + i]]};
    }
    if (bytes || t->unk < 0) {
        return count;
    }
    if (t->fuse_unknown && count && symbols[count - 1].id == t->unk) {
        symbols[count - 1].length += length;
        return count;
    }
    symbols[count] = (symbol){.begin = begin, .length = length, .id = t->unk};
    return count + 1;
}

/* The id of a character with the vocabulary's marks around it ("##" inside a word, "</w>" at its end). */
static int32_t marked_id(const tokenizer *t, scratch *s, const char *word, size_t n, size_t at, size_t length)
{
    token_text prefix = at > 0 ? t->subword_prefix : (token_text){0};
    token_text suffix = at + length == n ? t->word_suffix : (token_text){0};
    if (!prefix.n && !suffix.n) {
        return text_map_find(&t->map, &t->texts, word + at, length);
    }
    buffer_clear(&s->word);
    buffer_append(&s->word, prefix.data, prefix.n);
    buffer_append(&s->word, word + at, length);
    buffer_append(&s->word, suffix.data, suffix.n);
    s->failed = s->failed || s->word.failed;
    return s->word.failed ? -1 : text_map_find(&t->map, &t->texts, s->word.data, s->word.n);
}

/* Cuts a word into its first symbols: bytes, or characters with the bytes of damaged ones single. */
static size_t symbols_fill(const tokenizer *t, scratch *s, const char *word, size_t n)
{
    symbol *symbols = s->symbols;
    size_t count = 0;
    for (size_t i = 0, length; i < n; i += length) {
        int32_t id;
        length = 1;
        if (t->byte_level) {
            id = t->byte_ids[(uint8_t)word[i]];
        } else {
            uint32_t code;
            length = utf8_decode(word + i, n - i, &code);
            length = length ? length : 1;
            id = marked_id(t, s, word, n, i, length);
        }
        if (id < 0 && !t->merge_by_text) {
            count = fill_unknown(t, symbols, count, word, (uint32_t)i, (uint32_t)length);
        } else {
            symbols[count++] = (symbol){.begin = (uint32_t)i, .length = (uint32_t)length, .id = id};
        }
    }
    return count;
}

/* What an unknown character is in the end when merging by text: its bytes if the vocabulary has them all, else the
 * unknown token, once for a run. */
static bool push_unknown(const tokenizer *t, const char *text, size_t n, size_t first_out, token_list *out)
{
    bool bytes = true;
    for (size_t i = 0; i < n; i++) {
        bytes = bytes && t->byte_ids[(uint8_t)text[i]] >= 0;
    }
    if (bytes) {
        for (size_t i = 0; i < n; i++) {
            if (!token_list_push(out, t->byte_ids[(uint8_t)text[i]])) {
                return false;
            }
        }
        return true;
    }
    if (t->unk < 0 || (t->fuse_unknown && out->n > first_out && out->ids[out->n - 1] == t->unk)) {
        return true;
    }
    return token_list_push(out, t->unk);
}

/* ---- tokens that are steps only ---- */

static bool is_unused(const tokenizer *t, const char *text, size_t n, int32_t *id)
{
    *id = text_map_find(&t->map, &t->texts, text, n);
    uint32_t code;
    return *id >= 0 && t->types[*id] == TOKEN_UNUSED && unicode_read(text, n, &code) < n;
}

/* How long the left part of the last merge is that made this text one token: it is merged again, without the merge
 * that would make it whole. 0: out of memory. */
static size_t last_cut(const tokenizer *t, const char *text, size_t n)
{
    scratch again = scratch_make();
    size_t left = 0;
    again.whole = (uint32_t)n;
    if (symbols_reserve(&again, n)) {
        size_t count = symbols_fill(t, &again, text, n);
        left = merge_long(t, &again, text, count) ? again.symbols[0].length : 0;
    }
    scratch_close(&again);
    return left;
}

/* Pushes what an unused token is made of. */
static bool push_parts(const tokenizer *t, const char *text, size_t n, size_t first_out, token_list *out)
{
    span_list todo = {0}; /* the next one last */
    bool fits = span_list_push(&todo, 0, (uint32_t)n);
    while (fits && todo.n) {
        span part = todo.items[--todo.n];
        const char *p = text + part.begin;
        size_t length = part.end - part.begin;
        int32_t id;
        if (is_unused(t, p, length, &id)) {
            uint32_t left = (uint32_t)last_cut(t, p, length);
            fits = left > 0 && span_list_push(&todo, part.begin + left, part.end) &&
                   span_list_push(&todo, part.begin, part.begin + left);
        } else {
            fits = id >= 0 ? token_list_push(out, id) : push_unknown(t, p, length, first_out, out);
        }
    }
    free(todo.items);
    return fits;
}

static bool push_symbol(const tokenizer *t, const char *text, const symbol *part, size_t first_out, token_list *out)
{
    int32_t id = part->id;
    if (id < 0) {
        return push_unknown(t, text + part->begin, part->length, first_out, out);
    }
    if (t->has_unused && t->types[id] == TOKEN_UNUSED) {
        return push_parts(t, text + part->begin, part->length, first_out, out);
    }
    if (id == t->unk && t->fuse_unknown && out->n > first_out && out->ids[out->n - 1] == id) {
        return true; /* two words that were one before the text was cut */
    }
    return token_list_push(out, id);
}

static mlxr_status encode_word(const tokenizer *t, scratch *s, const char *word, size_t n, size_t first_out,
                               token_list *out, mlxr_error *error)
{
    if (!symbols_reserve(s, n)) {
        return error_nomem(error, "tokenizer symbols", n * sizeof *s->symbols);
    }
    symbol *symbols = s->symbols;
    size_t count = symbols_fill(t, s, word, n);
    if (s->failed) {
        return error_nomem(error, "tokenizer symbols", n);
    }
    if (count <= SHORT_WORD) {
        count = merge_short(t, word, symbols, count);
    } else if (!merge_long(t, s, word, count)) {
        return error_nomem(error, "tokenizer merges", s->heap_cap * 2 * sizeof *s->heap);
    }
    for (size_t i = 0; i < count; i++) {
        if (symbols[i].length == 0) {
            continue;
        }
        if (!push_symbol(t, word, &symbols[i], first_out, out)) {
            return token_list_nomem(out, error);
        }
    }
    return MLXR_OK;
}

static mlxr_status encode_cached(const tokenizer *t, scratch *s, const char *word, size_t n, size_t first_out,
                                 token_list *out, mlxr_error *error)
{
    if (!s->cache || n > CACHE_TEXT || n == 1) {
        return encode_word(t, s, word, n, first_out, out, error);
    }
    size_t slot = text_hash(word, n) & (CACHE_SLOTS - 1);
    if (s->cache->slots[slot].n_text == n && memcmp(s->cache->slots[slot].text, word, n) == 0) {
        for (size_t i = 0; i < s->cache->slots[slot].n_ids; i++) {
            if (!token_list_push(out, s->cache->slots[slot].ids[i])) {
                return token_list_nomem(out, error);
            }
        }
        return MLXR_OK;
    }
    size_t before = out->n;
    mlxr_status status = encode_word(t, s, word, n, first_out, out, error);
    /* An unknown token depends on what stands before it. */
    if (status == MLXR_OK && out->n > before && out->n - before <= CACHE_IDS && out->ids[before] != t->unk) {
        s->cache->slots[slot].n_text = (uint8_t)n;
        s->cache->slots[slot].n_ids = (uint8_t)(out->n - before);
        memcpy(s->cache->slots[slot].text, word, n);
        memcpy(s->cache->slots[slot].ids, out->ids + before, (out->n - before) * sizeof *out->ids);
    }
    return status;
}

void bpe_note_joins(tokenizer *t, token_text text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    for (size_t i = 1; i < text.n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            t->joins[p[i - 1]][p[i] >> 3] |= (uint8_t)(1u << (p[i] & 7));
        }
    }
}

static inline bool joins(const tokenizer *t, unsigned char last, unsigned char first)
{
    return (first & 0xc0) == 0x80 || (t->joins[last][first >> 3] >> (first & 7) & 1);
}

mlxr_status bpe_encode(const tokenizer *t, scratch *s, const char *text, size_t n, bool cut, token_list *out,
                       mlxr_error *error)
{
    size_t first_out = out->n;
    if (t->from_alphabet) { /* later pre-tokenizers needed the alphabet; the merges are over bytes */
        buffer_clear(&s->word);
        static const char zeros[64];
        while (s->word.n < n && buffer_append(&s->word, zeros, n - s->word.n < 64 ? n - s->word.n : 64)) {
        }
        if (s->word.failed) {
            return error_nomem(error, "text", n);
        }
        n = alphabet_decode((token_text){text, n}, s->word.data);
        text = s->word.data;
    }
    if (!cut) {
        if (t->ignore_merges) {
            int32_t id = text_map_find(&t->map, &t->texts, text, n);
            if (id >= 0) {
                return token_list_push(out, id) ? MLXR_OK : token_list_nomem(out, error);
            }
        }
        return encode_cached(t, s, text, n, first_out, out, error);
    }
    const unsigned char *p = (const unsigned char *)text;
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = begin + 1;
        while (end < n && joins(t, p[end - 1], p[end])) {
            end++;
        }
        mlxr_status status = encode_cached(t, s, text + begin, end - begin, first_out, out, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    return MLXR_OK;
}
