/*
 * WordPiece: the longest token first, then the longest that goes on from there; a word that does not come out even is
 * unknown.
 * Owner: the tokenizer; words: the caller's scratch. Lifetime: the tokenizer; the call.
 */
#include "base/error.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

static size_t count_chars(const char *text, size_t n)
{
    size_t count = 0;
    uint32_t code;
    for (size_t at = 0; at < n; count++) {
        at += unicode_read(text + at, n - at, &code);
    }
    return count;
}

/* The longest token at `begin` of the word that lies at `word` in a buffer with room for the prefix before it: its
 * end, or begin if there is none. Overwrites what was read already. */
static size_t longest_piece(const tokenizer *t, char *word, size_t begin, size_t n, int32_t *id)
{
    size_t prefix = begin ? t->subword_prefix.n : 0;
    char *key = word + begin - prefix;
    if (prefix) {
        memcpy(key, t->subword_prefix.data, prefix);
    }
    size_t end = n - begin + prefix > t->longest ? begin - prefix + t->longest : n;
    for (; end > begin; end--) {
        if (end < n && ((unsigned char)word[end] & 0xc0) == 0x80) {
            continue; /* inside a character */
        }
        *id = text_map_find(&t->map, &t->texts, key, end - begin + prefix);
        if (*id >= 0) {
            return end;
        }
    }
    return begin;
}

mlxr_status wordpiece_encode(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                             mlxr_error *error)
{
    size_t n_before = out->n;
    bool known = count_chars(text, n) <= t->word_chars_max;
    if (known) {
        buffer_clear(&s->word);
        buffer_append(&s->word, t->subword_prefix.data, t->subword_prefix.n);
        buffer_append(&s->word, text, n);
        if (s->word.failed) {
            return error_nomem(error, "word", n);
        }
    }
    for (size_t at = 0, end; known && at < n; at = end) {
        int32_t id = -1;
        end = longest_piece(t, s->word.data + t->subword_prefix.n, at, n, &id);
        known = end > at;
        if (known && !token_list_push(out, id)) {
            return token_list_nomem(out, error);
        }
    }
    if (!known) {
        out->n = n_before;
        if (t->unk < 0) {
            return error_set(error, MLXR_UNSUPPORTED,
                             "tokenizer: a word is not in the vocabulary, and there is no "
                             "unknown token");
        }
        if (!token_list_push(out, t->unk)) {
            return token_list_nomem(out, error);
        }
    }
    return MLXR_OK;
}

/* ---- opening ---- */

mlxr_status wordpiece_index(tokenizer *t, mlxr_error *error)
{
    mlxr_status status = text_map_make(&t->map, &t->memory, t->n_tokens, error);
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        token_text text = text_table_get(&t->texts, id);
        if (text.n && (t->types[id] == TOKEN_NORMAL || t->types[id] == TOKEN_USER_DEFINED)) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
            t->longest = text.n > t->longest ? (uint32_t)text.n : t->longest;
        }
    }
    return status;
}

/* GGUF marks the start of a word with U+2581 where the vocabulary marked what goes on with "##". Texts go back to the
 * latter, pieces begin with a space. */
static mlxr_status open_texts(tokenizer *t, const tokenizer_source *source, bool *upper, mlxr_error *error)
{
    uint64_t n_bytes = texts_bytes(source->tokens, t->n_tokens) + 2 * (uint64_t)t->n_tokens;
    mlxr_status status = text_table_make(&t->texts, &t->memory, t->n_tokens, n_bytes, error);
    if (status == MLXR_OK) {
        status = text_table_make(&t->pieces, &t->memory, t->n_tokens, n_bytes, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t used = 0, pieces_used = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        token_text text = source->tokens[id];
        bool plain = t->types[id] == TOKEN_NORMAL;
        bool start = plain && text.n >= 3 && memcmp(text.data, SPACE_MARK, 3) == 0;
        const char *mark = start || !plain ? "" : "##", *space = start ? " " : "";
        text.data += start ? 3 : 0;
        text.n -= start ? 3 : 0;
        for (size_t i = 0; plain && i < text.n; i++) {
            *upper = *upper || (text.data[i] >= 'A' && text.data[i] <= 'Z');
        }
        memcpy(t->texts.bytes + used, mark, strlen(mark));
        memcpy(t->texts.bytes + used + strlen(mark), text.data, text.n);
        used += (uint32_t)(strlen(mark) + text.n);
        memcpy(t->pieces.bytes + pieces_used, space, strlen(space));
        memcpy(t->pieces.bytes + pieces_used + strlen(space), text.data, text.n);
        pieces_used += (uint32_t)(strlen(space) + text.n);
        t->texts.offsets[id + 1] = used;
        t->pieces.offsets[id + 1] = pieces_used;
    }
    t->texts.n = t->pieces.n = t->n_tokens;
    return MLXR_OK;
}

mlxr_status wordpiece_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    bool upper = false;
    t->subword_prefix = (token_text){"##", 2};
    t->word_chars_max = 100;
    t->strip_first_space = true;
    mlxr_status status = open_texts(t, source, &upper, error);
    if (status == MLXR_OK) {
        status = wordpiece_index(t, error);
    }
    if (status == MLXR_OK) {
        status = added_open(t, true, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    t->normalizers = region_array(&t->memory, 1, sizeof *t->normalizers);
    t->pre_tokenizers = region_array(&t->memory, 2, sizeof *t->pre_tokenizers);
    if (!t->normalizers || !t->pre_tokenizers) {
        return error_nomem(error, "normalisers", 3 * sizeof *t->normalizers);
    }
    /* A vocabulary without a single capital letter is of an uncased model. */
    t->normalizers[t->n_normalizers++] = (text_op){
        .kind = OP_BERT, .flags = OP_CLEAN | OP_CHINESE | (upper ? 0u : (unsigned)OP_UNACCENT | (unsigned)OP_LOWER)};
    t->pre_tokenizers[t->n_pre_tokenizers++] = (text_op){
        .kind = OP_SPLIT, .splitter = splitter_named("space"), .behavior = SPLIT_REMOVED};
    t->pre_tokenizers[t->n_pre_tokenizers++] = (text_op){.kind = OP_SPLIT, .splitter = splitter_named("punctuation")};
    return MLXR_OK;
}
