/*
 * From an open tokenizer back to the arrays of a GGUF file.
 * Owner: the caller's region. Lifetime: the region's and the tokenizer's.
 */
#include "text/tokenizer_export.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer_parts.h"

#define WORD_CHARS_MAX 100u /* of WordPiece, where nothing says otherwise */

/* What pre-tokenisations differ in: numbers, blanks and line ends, contractions in both cases, letters with marks,
 * other scripts, punctuation beside them, code. */
static const char trial[] =
    "Hello, world! It's 12345 o'clock; we'LL see 1,234,567.89 and 2026-11-29... don't you'Ve THEY'RE he'd\n"
    "  two  spaces\tand\t\ttabs \n\n\n three lines\r\n \r\n   end   \n"
    "na\xc3\xafve caf\xc3\xa9 e\xcc\x81 \xc3\x9c"
    "ber stra\xc3\x9f"
    "e \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, "
    "\xd0\xbc\xd0\xb8\xd1\x80! \xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82 "
    "\xe3\x81\x93\xe3\x82\x93\xe3\x81\xab\xe3\x81\xa1\xe3\x81\xaf \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 "
    "\xd8\xa7\xd9\x84\xd8\xb9\xd8\xb1\xd8\xa8\xd9\x8a\xd8\xa9 "
    "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80 "
    "\xf0\x9f\x98\x80\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9 \xe2\x80\x9cquoted\xe2\x80\x9d \xc2\xbd \xe2\x85\xa7 "
    "\xd9\xa1\xd9\xa2\xd9\xa3\n"
    "int main(void) { return x->y[0] != 0x1F ? a++ : --b; } // camelCase snake_case UPPER iOS9 v2.0\n"
    "https://example.org/a?b=c&d=%20e #tag @name $5.00 100% <b>bold</b> ((nested)) ___ --- ==== \"\"\" 'x' `y`\n";

/* The bytes in GPT-2's alphabet. */
static bool put_alphabet(buffer *b, token_text text)
{
    char out[256];
    for (size_t at = 0; at < text.n; at += 64) {
        size_t n = text.n - at < 64 ? text.n - at : 64;
        if (!buffer_append(b, out, alphabet_encode(text.data + at, n, out))) {
            return false;
        }
    }
    return true;
}

static bool put_marked(buffer *b, token_text text)
{
    for (size_t i = 0; i < text.n; i++) {
        bool ok = text.data[i] == ' ' ? buffer_append_text(b, SPACE_MARK) : buffer_append(b, text.data + i, 1);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool keep(buffer *b, region *memory, token_text *out)
{
    const char *copy = region_strndup(memory, b->data ? b->data : "", b->n);
    *out = (token_text){copy, b->n};
    buffer_clear(b);
    return copy != NULL && !b->failed;
}

static bool put_token(const tokenizer *t, uint32_t id, buffer *b)
{
    token_text text = text_table_get(&t->texts, id), piece = text_table_get(&t->pieces, id);
    static const char digits[] = "0123456789ABCDEF";
    if (t->types[id] == TOKEN_BYTE && !t->byte_level && piece.n == 1) {
        unsigned char byte = (unsigned char)piece.data[0];
        const char name[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        return buffer_append(b, name, 6);
    }
    if (t->types[id] != TOKEN_NORMAL) {
        token_text literal = piece.n ? piece : text;
        return buffer_append(b, literal.data, literal.n);
    }
    if (t->kind == TOKENIZER_WORDPIECE) { /* GGUF marks what begins a word, not what goes on with one */
        bool goes_on = text.n >= 2 && memcmp(text.data, "##", 2) == 0;
        return goes_on ? buffer_append(b, text.data + 2, text.n - 2)
                       : buffer_append_text(b, SPACE_MARK) && buffer_append(b, text.data, text.n);
    }
    return t->byte_level ? put_alphabet(b, text) : put_marked(b, text);
}

static mlxr_status put_tokens(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    token_text *tokens = region_array(memory, t->n_tokens, sizeof *tokens);
    int32_t *types = region_array(memory, t->n_tokens, sizeof *types);
    buffer b = buffer_make(1 << 20);
    bool ok = tokens && types;
    for (uint32_t id = 0; id < t->n_tokens && ok; id++) {
        types[id] = t->types[id] ? t->types[id] : TOKEN_UNUSED;
        ok = put_token(t, id, &b) && keep(&b, memory, &tokens[id]);
    }
    buffer_close(&b);
    s->tokens = tokens;
    s->types = types;
    s->n_tokens = t->n_tokens;
    return ok ? MLXR_OK : error_nomem(error, "a vocabulary", t->n_tokens * sizeof *tokens);
}

static int by_rank(const void *a, const void *b)
{
    const pair_slot *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* All merges in the order of their ranks, in malloc'd memory. */
static pair_slot *sorted_merges(const tokenizer *t, uint32_t *n)
{
    uint32_t n_slots = t->pairs.slots ? t->pairs.mask + 1 : 0;
    pair_slot *found = malloc((n_slots + 1) * sizeof *found);
    *n = 0;
    for (uint32_t i = 0; i < n_slots && found; i++) {
        if (t->pairs.slots[i].left1) {
            found[(*n)++] = t->pairs.slots[i];
        }
    }
    if (found) {
        qsort(found, *n, sizeof *found, by_rank);
    }
    return found;
}

static mlxr_status put_merges(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    uint32_t n = 0;
    pair_slot *slots = sorted_merges(t, &n);
    token_text *merges = region_array(memory, n, sizeof *merges);
    buffer b = buffer_make(1 << 20);
    bool ok = slots && merges;
    for (uint32_t i = 0; i < n && ok; i++) {
        ok = put_alphabet(&b, text_table_get(&t->texts, slots[i].left1 - 1)) && buffer_append(&b, " ", 1) &&
             put_alphabet(&b, text_table_get(&t->texts, slots[i].right)) && keep(&b, memory, &merges[i]);
    }
    buffer_close(&b);
    free(slots);
    s->merges = merges;
    s->n_merges = n;
    return ok ? MLXR_OK : error_nomem(error, "merges", n * sizeof *merges);
}

static mlxr_status put_logprobs(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    float *scores = region_array(memory, t->n_tokens, sizeof *scores);
    if (!scores) {
        return error_nomem(error, "token scores", t->n_tokens * sizeof *scores);
    }
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        scores[id] = (float)t->logprobs[id];
    }
    s->scores = scores;
    return MLXR_OK;
}

/* The map as SentencePiece keeps it: the trie's bytes, behind how many they are, then the replacements. */
static mlxr_status put_charsmap(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    const charsmap *map = &t->charsmap;
    uint32_t n_trie = (uint32_t)(map->n_units * sizeof *map->units);
    size_t n = sizeof n_trie + n_trie + map->n_replacements;
    if (map->n_units == 0) {
        return MLXR_OK;
    }
    uint8_t *bytes = region_alloc(memory, n);
    if (!bytes) {
        return error_nomem(error, "a normalisation map", n);
    }
    memcpy(bytes, &n_trie, sizeof n_trie);
    memcpy(bytes + sizeof n_trie, map->units, n_trie);
    memcpy(bytes + sizeof n_trie + n_trie, map->replacements, map->n_replacements);
    s->charsmap = bytes;
    s->n_charsmap = n;
    return MLXR_OK;
}

/* SentencePiece's scores; where there are only merges, a token's is the rank of the first that makes it. */
static mlxr_status put_scores(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    float *scores = region_array(memory, t->n_tokens, sizeof *scores);
    uint32_t n = 0;
    pair_slot *slots = t->scores ? NULL : sorted_merges(t, &n);
    if (!scores || (!t->scores && !slots)) {
        free(slots);
        return error_nomem(error, "token scores", t->n_tokens * sizeof *scores);
    }
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        scores[id] = t->scores ? t->scores[id] : 0.0f;
    }
    for (uint32_t i = n; i > 0; i--) {
        scores[slots[i - 1].product] = -(float)i;
    }
    free(slots);
    s->scores = scores;
    return MLXR_OK;
}

/* Do both give the trial text the same tokens? */
static bool agree(const tokenizer *a, const tokenizer *b)
{
    token_list x = {0}, y = {0};
    mlxr_error error;
    bool same = true;
    for (unsigned flags = 0; flags < 4 && same; flags++) {
        x.n = y.n = 0;
        same = tokenizer_encode(a, trial, sizeof trial - 1, flags, &x, &error) == MLXR_OK &&
               tokenizer_encode(b, trial, sizeof trial - 1, flags, &y, &error) == MLXR_OK && x.n == y.n &&
               memcmp(x.ids, y.ids, x.n * sizeof *x.ids) == 0;
    }
    token_list_close(&x);
    token_list_close(&y);
    return same;
}

static mlxr_status try_source(const tokenizer_source *s, const tokenizer *t, bool *same, mlxr_error *error)
{
    tokenizer *again = NULL;
    mlxr_status status = tokenizer_open(&again, s, error);
    *same = status == MLXR_OK && agree(t, again);
    tokenizer_close(&again);
    return status;
}

static mlxr_status find_pre(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    char names[4096], *rest = NULL;
    bool same = false;
    pre_recipe_names(names, sizeof names);
    for (char *name = strtok_r(names, ", ", &rest); name && !same; name = strtok_r(NULL, ", ", &rest)) {
        s->pre = region_strndup(memory, name, strlen(name));
        mlxr_status status = s->pre ? try_source(s, t, &same, error) : error_nomem(error, "a name", strlen(name));
        if (status == MLXR_NOMEM) {
            return status;
        }
    }
    return same ? MLXR_OK
                : error_set(error, MLXR_UNSUPPORTED,
                            "tokenizer: it splits texts in a way that GGUF has no name for, or that is not known here");
}

static int32_t find_text(const tokenizer *t, const char *a, const char *b)
{
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        token_text text = text_table_get(&t->texts, id);
        if ((text.n == strlen(a) && memcmp(text.data, a, text.n) == 0) ||
            (text.n == strlen(b) && memcmp(text.data, b, text.n) == 0)) {
            return (int32_t)id;
        }
    }
    return -1;
}

/* What stands before and behind a text; GGUF has room for one token each. */
static mlxr_status put_ends(tokenizer_source *s, const tokenizer *t, mlxr_error *error)
{
    if (t->n_prefix_ids > 1 || t->n_suffix_ids > 1) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer: it puts %u tokens before a text and %u behind; GGUF can say one each",
                         t->n_prefix_ids, t->n_suffix_ids);
    }
    s->add_bos = t->n_prefix_ids == 1;
    s->add_eos = t->n_suffix_ids == 1;
    s->bos = s->cls = s->add_bos ? t->prefix_ids[0] : t->bos;
    s->eos = s->sep = s->add_eos ? t->suffix_ids[0] : t->eos;
    s->pad = find_text(t, "[PAD]", "<pad>");
    s->mask = find_text(t, "[MASK]", "<mask>");
    return MLXR_OK;
}

/* The reader's tokenizer must be this one, with or without a space in front and, of unigram, with blanks trimmed or
 * not. */
static mlxr_status find_switches(tokenizer_source *s, const tokenizer *t, mlxr_error *error)
{
    bool same = false, unigram = s->kind == TOKENIZER_UNIGRAM;
    mlxr_status status = MLXR_OK;
    for (unsigned way = 0; way < (unigram ? 4 : 2) && status == MLXR_OK && !same; way++) {
        s->add_space_prefix = !(way & 1);
        s->remove_extra_whitespaces = unigram && !(way & 2);
        status = try_source(s, t, &same, error);
    }
    if (status == MLXR_OK && !same) {
        status = error_set(error, MLXR_UNSUPPORTED,
                           "tokenizer: GGUF's form of it would give other tokens than this one");
    }
    return status;
}

static mlxr_status export_sentencepiece(tokenizer_source *s, const tokenizer *t, region *memory, mlxr_error *error)
{
    s->kind = t->kind == TOKENIZER_UNIGRAM ? TOKENIZER_UNIGRAM : TOKENIZER_SPM;
    mlxr_status status = t->kind == TOKENIZER_UNIGRAM ? put_logprobs(s, t, memory, error)
                                                      : put_scores(s, t, memory, error);
    if (status == MLXR_OK && t->kind == TOKENIZER_UNIGRAM) {
        status = put_charsmap(s, t, memory, error);
        status = status == MLXR_OK ? put_ends(s, t, error) : status;
    }
    return status == MLXR_OK ? find_switches(s, t, error) : status;
}

static mlxr_status export_wordpiece(tokenizer_source *s, const tokenizer *t, mlxr_error *error)
{
    bool same = false;
    s->kind = TOKENIZER_WORDPIECE;
    if (t->word_chars_max != WORD_CHARS_MAX) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer: words of more than %u characters are unknown to it; GGUF means %u",
                         t->word_chars_max, WORD_CHARS_MAX);
    }
    mlxr_status status = put_ends(s, t, error);
    status = status == MLXR_OK ? try_source(s, t, &same, error) : status;
    if (status == MLXR_OK && !same) {
        status = error_set(error, MLXR_UNSUPPORTED,
                           "tokenizer: GGUF's form of WordPiece would give other tokens than this one");
    }
    return status;
}

mlxr_status tokenizer_export_make(tokenizer_export *out, const tokenizer *t, region *memory, mlxr_error *error)
{
    tokenizer_source s = {.kind = TOKENIZER_BPE,
                          .bos = t->bos,
                          .eos = t->eos,
                          .unk = t->unk,
                          .eot = -1,
                          .pad = -1,
                          .sep = -1,
                          .cls = -1,
                          .mask = -1,
                          .add_bos = t->adds_bos};
    static const char *const models[] = {[TOKENIZER_BPE] = "gpt2",
                                         [TOKENIZER_SPM] = "llama",
                                         [TOKENIZER_UNIGRAM] = "t5",
                                         [TOKENIZER_WORDPIECE] = "bert"};
    mlxr_status status = put_tokens(&s, t, memory, error);
    if (status == MLXR_OK && t->kind == TOKENIZER_WORDPIECE) {
        status = export_wordpiece(&s, t, error);
    } else if (status == MLXR_OK && t->byte_level) {
        status = put_merges(&s, t, memory, error);
        status = status == MLXR_OK ? find_pre(&s, t, memory, error) : status;
    } else if (status == MLXR_OK) {
        status = export_sentencepiece(&s, t, memory, error);
    }
    *out = (tokenizer_export){.model = models[s.kind], .source = s};
    return status;
}
