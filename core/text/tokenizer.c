/*
 * Tokenizer: opening, and text to ids: added tokens first, then normaliser, splitters and model.
 * Owner: the model. Lifetime: tokenizer_open… to tokenizer_close.
 */
#include "text/tokenizer.h"

#include <stdlib.h>

#include "base/error.h"
#include "text/tokenizer_parts.h"

/* ---- lists ---- */

void token_list_close(token_list *list)
{
    free(list->ids);
    *list = (token_list){0};
}

bool token_list_push(token_list *list, int32_t id)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        int32_t *ids = realloc(list->ids, cap * sizeof *ids);
        if (!ids) {
            return false;
        }
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return true;
}

bool span_list_push(span_list *list, uint32_t begin, uint32_t end)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 256;
        span *items = realloc(list->items, cap * sizeof *items);
        if (!items) {
            return false;
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = (span){begin, end};
    return true;
}

void scratch_close(scratch *s)
{
    buffer_close(&s->text);
    free(s->spans[0].items);
    free(s->spans[1].items);
    free(s->symbols);
    free(s->heap);
    free(s->cache);
}

/* ---- opening ---- */

static mlxr_status check_id(const char *name, int32_t id, uint32_t n_tokens, mlxr_error *error)
{
    if (id >= 0 && (uint32_t)id >= n_tokens) {
        return error_set(error, MLXR_FORMAT, "tokenizer: %s token %d is outside the vocabulary of %u", name, id,
                         n_tokens);
    }
    return MLXR_OK;
}

static mlxr_status check_source(const tokenizer_source *source, mlxr_error *error)
{
    if (source->n_tokens == 0 || source->n_tokens > INT32_MAX - 1 || !source->tokens) {
        return error_set(error, MLXR_FORMAT, "tokenizer: vocabulary of %u tokens", source->n_tokens);
    }
    const struct {
        const char *name;
        int32_t id;
    } ids[] = {{"BOS", source->bos}, {"EOS", source->eos}, {"EOT", source->eot}, {"unknown", source->unk},
               {"padding", source->pad}, {"separator", source->sep}, {"CLS", source->cls}, {"mask", source->mask}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        mlxr_status status = check_id(ids[i].name, ids[i].id, source->n_tokens, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < source->n_end_ids; i++) {
        mlxr_status status = check_id("end", source->end_ids[i], source->n_tokens, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    if ((source->add_bos && source->bos < 0) || (source->add_eos && source->eos < 0)) {
        return error_set(error, MLXR_FORMAT, "tokenizer: %s is to be added but there is none",
                         source->add_bos && source->bos < 0 ? "BOS" : "EOS");
    }
    for (uint32_t i = 0; source->types && i < source->n_tokens; i++) {
        if (source->types[i] < 0 || source->types[i] > TOKEN_BYTE) {
            return error_set(error, MLXR_FORMAT, "tokenizer: token %u has type %d, expected 1 to 6", i,
                             source->types[i]);
        }
    }
    return MLXR_OK;
}

static mlxr_status open_common(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    uint32_t n = source->n_tokens;
    t->kind = source->kind;
    t->n_tokens = n;
    t->types = region_alloc(&t->memory, n);
    t->is_end = region_array(&t->memory, n, 1);
    if (!t->types || !t->is_end) {
        return error_nomem(error, "token types", (size_t)n * 2);
    }
    for (uint32_t i = 0; i < n; i++) {
        int32_t type = source->types ? source->types[i] : TOKEN_NORMAL;
        t->types[i] = (uint8_t)(type ? type : TOKEN_NORMAL);
    }
    if (source->scores) {
        t->scores = region_alloc(&t->memory, n * sizeof *t->scores);
        if (!t->scores) {
            return error_nomem(error, "token scores", n * sizeof *t->scores);
        }
        memcpy(t->scores, source->scores, n * sizeof *t->scores);
    }
    memset(t->byte_ids, 0xff, sizeof t->byte_ids); /* −1 */
    t->bos = source->bos;
    t->eos = source->eos;
    t->unk = source->unk;
    t->adds_bos = source->add_bos;
    if (source->add_bos) {
        t->prefix_ids[t->n_prefix_ids++] = source->bos;
    }
    if (source->add_eos) {
        t->suffix_ids[t->n_suffix_ids++] = source->eos;
    }
    if (source->eos >= 0) {
        t->is_end[source->eos] = 1;
    }
    if (source->eot >= 0) {
        t->is_end[source->eot] = 1;
    }
    for (uint32_t i = 0; i < source->n_end_ids; i++) {
        if (source->end_ids[i] >= 0) {
            t->is_end[source->end_ids[i]] = 1;
        }
    }
    return MLXR_OK;
}

mlxr_status tokenizer_open(tokenizer **out, const tokenizer_source *source, mlxr_error *error)
{
    mlxr_status status = check_source(source, error);
    if (status != MLXR_OK) {
        return status;
    }
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        return error_nomem(error, "tokenizer", sizeof *t);
    }
    status = open_common(t, source, error);
    if (status == MLXR_OK) {
        switch (source->kind) {
        case TOKENIZER_BPE:
            status = bpe_open(t, source, error);
            break;
        case TOKENIZER_SPM:
            status = spm_open(t, source, error);
            break;
        default:
            status = error_set(error, MLXR_UNSUPPORTED, "tokenizer: kind %d", (int)source->kind);
        }
    }
    if (status != MLXR_OK) {
        tokenizer_close(&t);
        return status;
    }
    *out = t;
    return MLXR_OK;
}

void tokenizer_close(tokenizer **t)
{
    if (*t) {
        region_close(&(*t)->memory);
        free(*t);
        *t = NULL;
    }
}

/* ---- text to ids ---- */

/* Splits the pieces of `in` further: matches and what lies between them are pieces of their own. */
static bool split_step(const splitter *step, const char *text, const span_list *in, span_list *out)
{
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        const char *piece = text + in->items[i].begin;
        uint32_t base = in->items[i].begin;
        size_t n = in->items[i].end - base, gap = 0, at = 0;
        while (at < n) {
            size_t end = step->match(piece, at, n);
            if (end == 0) {
                at++; /* no match begins inside a character either */
                continue;
            }
            if ((gap < at && !span_list_push(out, base + (uint32_t)gap, base + (uint32_t)at)) ||
                !span_list_push(out, base + (uint32_t)at, base + (uint32_t)end)) {
                return false;
            }
            gap = at = end;
        }
        if (gap < n && !span_list_push(out, base + (uint32_t)gap, base + (uint32_t)n)) {
            return false;
        }
    }
    return true;
}

/* Normalised text without added tokens to ids. */
static mlxr_status encode_plain(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                                mlxr_error *error)
{
    if (n == 0) {
        return MLXR_OK;
    }
    if (t->n_steps == 0) {
        return bpe_encode(t, s, text, n, true, out, error);
    }
    span_list *pieces = &s->spans[0], *spare = &s->spans[1];
    pieces->n = 0;
    bool fits = span_list_push(pieces, 0, (uint32_t)n);
    for (uint32_t i = 0; fits && i < t->n_steps; i++) {
        fits = split_step(t->steps[i], text, pieces, spare);
        span_list *swap = pieces;
        pieces = spare;
        spare = swap;
    }
    if (!fits) {
        return error_nomem(error, "text pieces", spare->cap * 2 * sizeof *spare->items);
    }
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; status == MLXR_OK && i < pieces->n; i++) {
        span piece = pieces->items[i];
        status = bpe_encode(t, s, text + piece.begin, piece.end - piece.begin, false, out, error);
    }
    return status;
}

/* SentencePiece's normalisation without a character map, into s->text. */
static bool spm_normalize(const tokenizer *t, scratch *s, const char *text, size_t n, bool prefix)
{
    buffer *b = &s->text;
    buffer_clear(b);
    if (t->trim_spaces) {
        while (n && text[0] == ' ') {
            text++;
            n--;
        }
        while (n && text[n - 1] == ' ') {
            n--;
        }
    }
    if (n && prefix) {
        buffer_append(b, " ", 1);
    }
    for (size_t i = 0, from = 0; i <= n; i++) {
        bool escaped = t->escape_spaces && n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        bool extra = t->trim_spaces && i > 0 && i < n && text[i] == ' ' && text[i - 1] == ' ';
        if (i == n || escaped || extra) {
            buffer_append(b, text + from, i - from);
            from = i + 1;
        }
        if (escaped) {
            buffer_append(b, " ", 1);
            i += 2;
            from = i + 1;
        }
    }
    return !b->failed;
}

/* A stretch between added tokens of the raw text: normalised, its own added tokens found, tokenised. */
static mlxr_status encode_fragment(const tokenizer *t, scratch *s, const char *text, size_t n, bool first,
                                   unsigned flags, token_list *out, mlxr_error *error)
{
    bool prefix = t->space_prefix && (first || t->space_prefix_after_added);
    if (prefix || t->trim_spaces || (t->escape_spaces && memmem(text, n, "\xe2\x96\x81", 3))) {
        if (!spm_normalize(t, s, text, n, prefix)) {
            return n >= TOKENIZER_TEXT_MAX ? error_set(error, MLXR_LIMIT, "text of %zu bytes, normalised more than %zu",
                                                       n, TOKENIZER_TEXT_MAX)
                                           : error_nomem(error, "normalised text", n);
        }
        text = s->text.data ? s->text.data : "";
        n = s->text.n;
    }
    mlxr_status status = MLXR_OK;
    for (size_t at = 0; status == MLXR_OK && at < n;) {
        added_match match = added_set_find(&t->normalized, text, at, n, flags & MLXR_TOKENIZE_PARSE_SPECIAL);
        status = encode_plain(t, s, text + at, match.begin - at, out, error);
        if (status == MLXR_OK && match.id >= 0 && !token_list_push(out, match.id)) {
            status = error_nomem(error, "token list", out->cap * 2 * sizeof *out->ids);
        }
        at = match.end;
    }
    return status;
}

static mlxr_status push_fixed(const int32_t *ids, uint32_t n, token_list *out, mlxr_error *error)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!token_list_push(out, ids[i])) {
            return error_nomem(error, "token list", out->cap * 2 * sizeof *out->ids);
        }
    }
    return MLXR_OK;
}

mlxr_status tokenizer_encode(const tokenizer *t, const char *text, size_t n, unsigned flags, token_list *out,
                             mlxr_error *error)
{
    if (n > TOKENIZER_TEXT_MAX) {
        return error_set(error, MLXR_LIMIT, "text of %zu bytes; at most %zu", n, TOKENIZER_TEXT_MAX);
    }
    size_t n_before = out->n;
    scratch s = {.text = buffer_make(TOKENIZER_TEXT_MAX)};
    bpe_cache_make(&s, n);
    mlxr_status status = MLXR_OK;
    if (flags & MLXR_TOKENIZE_ADD_SPECIAL) {
        status = push_fixed(t->prefix_ids, t->n_prefix_ids, out, error);
    }
    for (size_t at = 0; status == MLXR_OK && at < n;) {
        added_match match = added_set_find(&t->raw, text, at, n, flags & MLXR_TOKENIZE_PARSE_SPECIAL);
        status = encode_fragment(t, &s, text + at, match.begin - at, at == 0, flags, out, error);
        if (status == MLXR_OK && match.id >= 0) {
            status = push_fixed(&match.id, 1, out, error);
        }
        at = match.end;
    }
    if (status == MLXR_OK && (flags & MLXR_TOKENIZE_ADD_SPECIAL)) {
        status = push_fixed(t->suffix_ids, t->n_suffix_ids, out, error);
    }
    scratch_close(&s);
    if (status != MLXR_OK) {
        out->n = n_before;
    }
    return status;
}

/* ---- facts ---- */

token_text tokenizer_piece(const tokenizer *t, int32_t id)
{
    if (id < 0 || (uint32_t)id >= t->n_tokens) {
        return (token_text){"", 0};
    }
    return text_table_get(&t->pieces, (uint32_t)id);
}

uint32_t tokenizer_size(const tokenizer *t)
{
    return t->n_tokens;
}

tokenizer_kind tokenizer_kind_of(const tokenizer *t)
{
    return t->kind;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_tokens && (t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN);
}

bool tokenizer_is_end(const tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_tokens && t->is_end[id];
}

bool tokenizer_adds_bos(const tokenizer *t)
{
    return t->adds_bos;
}

int32_t tokenizer_bos(const tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const tokenizer *t)
{
    return t->eos;
}
