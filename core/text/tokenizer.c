/*
 * Tokenizer: opening, and text to ids: added tokens first, then normaliser, splitters and model.
 * Owner: the model. Lifetime: tokenizer_open… to tokenizer_close.
 */
#include "text/tokenizer.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
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

mlxr_status token_list_nomem(const token_list *list, mlxr_error *error)
{
    return error_nomem(error, "token list", (list->cap ? list->cap * 2 : 64) * sizeof *list->ids);
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

scratch scratch_make(void)
{
    buffer b = buffer_make(TOKENIZER_TEXT_MAX);
    return (scratch){.text = {b, b}, .pieces = {b, b}, .word = b};
}

void scratch_close(scratch *s)
{
    for (int i = 0; i < 2; i++) {
        buffer_close(&s->text[i]);
        buffer_close(&s->pieces[i]);
        free(s->spans[i].items);
    }
    buffer_close(&s->word);
    free(s->symbols);
    free(s->heap);
    free(s->path);
    free(s->cache);
    pattern_scratch_close(s);
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
    } ids[] = {{"BOS", source->bos},     {"EOS", source->eos},       {"EOT", source->eot}, {"unknown", source->unk},
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

/* Names under which control tokens end a turn or a text, whatever the file says. */
static bool ends_by_name(token_text text)
{
    static const char *const names[] = {
        "<|eot_id|>",      "<|im_end|>",         "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
        "<|end_of_text|>", "<|eom_id|>",         "<|eot|>", "<|eom|>",    "<EOT>",    "_<EOT>",
        "<end_of_turn>",   "<end_of_utterance>", "<turn|>",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (text.n == strlen(names[i]) && memcmp(text.data, names[i], text.n) == 0) {
            return true;
        }
    }
    return false;
}

static mlxr_status fill_common(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
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
        t->is_end[i] = (type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) && ends_by_name(source->tokens[i]);
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

mlxr_status tokenizer_open_common(tokenizer **out, const tokenizer_source *source, mlxr_error *error)
{
    mlxr_status status = check_source(source, error);
    if (status != MLXR_OK) {
        return status;
    }
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        return error_nomem(error, "tokenizer", sizeof *t);
    }
    status = fill_common(t, source, error);
    if (status != MLXR_OK) {
        tokenizer_close(&t);
        return status;
    }
    *out = t;
    return MLXR_OK;
}

mlxr_status tokenizer_open(tokenizer **out, const tokenizer_source *source, mlxr_error *error)
{
    tokenizer *t;
    mlxr_status status = tokenizer_open_common(&t, source, error);
    if (status != MLXR_OK) {
        return status;
    }
    switch (source->kind) {
    case TOKENIZER_BPE:
        status = bpe_open(t, source, error);
        break;
    case TOKENIZER_SPM:
    case TOKENIZER_UNIGRAM:
        status = spm_open(t, source, true, error);
        break;
    case TOKENIZER_WORDPIECE:
        status = wordpiece_open(t, source, error);
        break;
    default:
        status = error_set(error, MLXR_ARG, "tokenizer: kind %d", (int)source->kind);
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
        for (uint32_t i = 0; i < (*t)->n_normalizers; i++) {
            pattern_close(&(*t)->normalizers[i].pattern);
        }
        for (uint32_t i = 0; i < (*t)->n_pre_tokenizers; i++) {
            pattern_close(&(*t)->pre_tokenizers[i].pattern);
        }
        region_close(&(*t)->memory);
        free(*t);
        *t = NULL;
    }
}

/* ---- text to ids ---- */

static mlxr_status push_ids(const int32_t *ids, uint32_t n, token_list *out, mlxr_error *error)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!token_list_push(out, ids[i])) {
            return token_list_nomem(out, error);
        }
    }
    return MLXR_OK;
}

static mlxr_status encode_word(const tokenizer *t, scratch *s, const char *text, size_t n, token_list *out,
                               mlxr_error *error)
{
    switch (t->kind) {
    case TOKENIZER_UNIGRAM:
        return unigram_encode(t, s, text, n, out, error);
    case TOKENIZER_WORDPIECE:
        return wordpiece_encode(t, s, text, n, out, error);
    default:
        return bpe_encode(t, s, text, n,
                          t->n_pre_tokenizers == 0 && !t->ignore_merges && !t->word_suffix.n && !t->subword_prefix.n,
                          out, error);
    }
}

/* Normalised text without added tokens to ids. */
static mlxr_status encode_plain(const tokenizer *t, scratch *s, text_in *text, token_list *out, mlxr_error *error)
{
    if (text->n == 0) {
        return MLXR_OK;
    }
    if (t->n_pre_tokenizers == 0) {
        return encode_word(t, s, text->data, text->n, out, error);
    }
    const span_list *pieces;
    mlxr_status status = pretokenize_text(t, s, text, &pieces, error);
    for (size_t i = 0; status == MLXR_OK && i < pieces->n; i++) {
        span piece = pieces->items[i];
        status = encode_word(t, s, text->data + piece.begin, piece.end - piece.begin, out, error);
    }
    return status;
}

/* Where nothing may be taken for a special: offsets in the text that is encoded, ascending. */
typedef struct mark_list {
    size_t *at; /* [n] */
    size_t n;
} mark_list;

static bool has_mark(const mark_list *marks, size_t begin, size_t end)
{
    size_t low = 0, high = marks->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks->at[middle] < begin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < marks->n && marks->at[low] < end;
}

/* The specials of a text, each twice: its id, and whether a mark forbids it. `offset`: of the text in what was marked;
 * marks NULL: none are. */
static bool list_specials(const added_set *set, const char *text, size_t n, size_t offset, const mark_list *marks,
                          token_list *out)
{
    for (size_t at = 0; at < n;) {
        added_match match = added_set_find(set, text, at, at, n, true);
        if (match.id < 0) {
            break;
        }
        at = match.text_end;
        if (match.special) {
            bool marked = marks && has_mark(marks, offset + match.text_begin, offset + match.text_end);
            if (!token_list_push(out, match.id) || !token_list_push(out, marked)) {
                return false;
            }
        }
    }
    return true;
}

/* Normalising moves what was marked: the specials that are found behind it are those before it, in order, or, where
 * normalising has made some, none of them is believed. Without marks *before is left empty, and all are. */
static mlxr_status match_specials(const tokenizer *t, const text_in *text, token_list *before, bool *special,
                                  mlxr_error *error)
{
    token_list after = {0};
    mlxr_status status = MLXR_OK;
    if (!list_specials(&t->normalized, text->data, text->n, 0, NULL, &after)) {
        status = token_list_nomem(&after, error);
    }
    *special = after.n == before->n;
    for (size_t i = 0; i < after.n && *special; i += 2) {
        *special = after.ids[i] == before->ids[i];
    }
    token_list_close(&after);
    return status;
}

/* A stretch between added tokens of the raw text: normalised, its own added tokens found, tokenised. `offset`: of the
 * stretch in the whole text. */
static mlxr_status encode_fragment(const tokenizer *t, scratch *s, text_in *text, bool special, size_t offset,
                                   const mark_list *marks, token_list *out, mlxr_error *error)
{
    token_list named = {0};
    size_t n_seen = 0;
    bool check = special && marks && t->normalized.nodes;
    if (text->n == 0) {
        return MLXR_OK;
    }
    if (check && !list_specials(&t->normalized, text->data, text->n, offset, marks, &named)) {
        mlxr_status failed = token_list_nomem(&named, error);
        token_list_close(&named);
        return failed;
    }
    mlxr_status status = normalize_text(t, s, text, error);
    if (status == MLXR_OK && check) {
        status = match_specials(t, text, &named, &special, error);
    }
    for (size_t at = 0, taken = 0; status == MLXR_OK && (at < text->n || taken < text->n);) {
        added_match match = added_set_find(&t->normalized, text->data, at, taken, text->n, special);
        if (check && special && match.id >= 0 && match.special && n_seen + 1 < named.n) {
            n_seen += 2;
            if (named.ids[n_seen - 1]) {
                at = match.text_end;
                continue;
            }
        }
        if (taken < match.begin) {
            text_in plain = {text->data + taken, match.begin - taken, text->first && taken == 0,
                             text->after_added || taken > 0};
            status = encode_plain(t, s, &plain, out, error);
        }
        if (status == MLXR_OK && match.id >= 0) {
            status = push_ids(&match.id, 1, out, error);
        }
        at = match.next;
        taken = match.end;
    }
    token_list_close(&named);
    return status;
}

/* Vocabularies that cannot say bytes get U+FFFD for each byte that is no character. */
static bool replace_invalid(const tokenizer *t, buffer *valid, const char **text, size_t *n)
{
    if (t->byte_level || t->byte_ids[0xff] >= 0) {
        return true;
    }
    size_t from = 0;
    for (size_t at = 0; at < *n;) {
        uint32_t code;
        size_t length = (unsigned char)(*text)[at] < 0x80 ? 1 : utf8_decode(*text + at, *n - at, &code);
        if (length == 0) {
            buffer_append(valid, *text + from, at - from);
            buffer_append(valid, "\xef\xbf\xbd", 3);
            from = at + 1;
        }
        at += length ? length : 1;
    }
    if (from > 0) {
        buffer_append(valid, *text + from, *n - from);
        *text = valid->data;
        *n = valid->n;
    }
    return !valid->failed;
}

static mlxr_status encode_text(const tokenizer *t, scratch *s, const char *text, size_t n, bool special,
                               const mark_list *marks, token_list *out, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t at = 0, taken = 0; status == MLXR_OK && (at < n || taken < n);) {
        added_match match = added_set_find(&t->raw, text, at, taken, n, special);
        if (marks && match.id >= 0 && match.special && has_mark(marks, match.text_begin, match.text_end)) {
            at = match.text_begin + 1; /* one that the template has written may begin inside */
            continue;
        }
        if (taken < match.begin) {
            text_in fragment = {text + taken, match.begin - taken, taken == 0, taken > 0};
            status = encode_fragment(t, s, &fragment, special, taken, marks, out, error);
        }
        if (status == MLXR_OK && match.id >= 0) {
            status = push_ids(&match.id, 1, out, error);
        }
        at = match.next;
        taken = match.end;
    }
    return status;
}

bool tokenizer_spells_special(const tokenizer *t, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (added_set_special(&t->raw, text + i, n - i) || added_set_special(&t->normalized, text + i, n - i)) {
            return true;
        }
    }
    return false;
}

bool tokenizer_mark_specials(const tokenizer *t, const char *text, size_t n, buffer *out)
{
    static const char mark = TOKENIZER_MARK;
    bool ok = true;
    for (size_t i = 0; i < n && ok;) {
        uint32_t code;
        size_t raw = added_set_special(&t->raw, text + i, n - i);
        size_t normalized = added_set_special(&t->normalized, text + i, n - i);
        size_t length = raw > normalized ? raw : normalized, first = utf8_decode(text + i, n - i, &code);
        first = first ? first : 1;
        ok = (!length || buffer_append(out, &mark, 1)) && buffer_append(out, text + i, first) &&
             (length <= first || buffer_append(out, &mark, 1));
        i += first;
    }
    return ok;
}

size_t tokenizer_unmark(char *text, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        text[kept] = text[i];
        kept += text[i] != TOKENIZER_MARK;
    }
    return kept;
}

/* The text without its marks, and where they were. */
static bool take_marks(const char **text, size_t *n, char **copy, mark_list *marks)
{
    size_t n_marks = 0;
    for (const char *at = *text, *end = at + *n; (at = memchr(at, TOKENIZER_MARK, (size_t)(end - at))); at++) {
        n_marks++;
    }
    if (n_marks == 0) {
        return true;
    }
    *copy = malloc(*n - n_marks + 1);
    marks->at = malloc(n_marks * sizeof *marks->at);
    if (!*copy || !marks->at) {
        return false;
    }
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if ((*text)[i] == TOKENIZER_MARK) {
            marks->at[marks->n++] = kept;
        } else {
            (*copy)[kept++] = (*text)[i];
        }
    }
    *text = *copy;
    *n = kept;
    return true;
}

mlxr_status tokenizer_encode(const tokenizer *t, const char *text, size_t n, unsigned flags, token_list *out,
                             mlxr_error *error)
{
    if (n > TOKENIZER_TEXT_MAX) {
        return error_set(error, MLXR_LIMIT, "text of %zu bytes; at most %zu", n, TOKENIZER_TEXT_MAX);
    }
    size_t n_before = out->n;
    mark_list marks = {0};
    char *unmarked = NULL;
    bool marked = (flags & MLXR_TOKENIZE_MARKED) && (flags & MLXR_TOKENIZE_PARSE_SPECIAL);
    buffer valid = buffer_make(TOKENIZER_TEXT_MAX);
    scratch s = scratch_make();
    bpe_cache_make(&s, n);
    bool add = flags & MLXR_TOKENIZE_ADD_SPECIAL;
    mlxr_status status = push_ids(t->prefix_ids, add ? t->n_prefix_ids : 0, out, error);
    if (status == MLXR_OK && marked && !take_marks(&text, &n, &unmarked, &marks)) {
        status = error_nomem(error, "text without marks", n);
    }
    if (status == MLXR_OK && !replace_invalid(t, &valid, &text, &n)) {
        status = error_nomem(error, "text with replacement characters", n * 3);
    }
    if (status == MLXR_OK) {
        status = encode_text(t, &s, text, n, flags & MLXR_TOKENIZE_PARSE_SPECIAL, marked ? &marks : NULL, out, error);
    }
    if (status == MLXR_OK) {
        status = push_ids(t->suffix_ids, add ? t->n_suffix_ids : 0, out, error);
    }
    scratch_close(&s);
    buffer_close(&valid);
    free(unmarked);
    free(marks.at);
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

mlxr_status tokenizer_mark_end(tokenizer *t, int32_t id, mlxr_error *error)
{
    if (id < 0 || (uint32_t)id >= t->n_tokens) {
        return error_set(error, MLXR_FORMAT, "tokenizer: end token %d; the vocabulary has %u tokens", id, t->n_tokens);
    }
    t->is_end[id] = 1;
    return MLXR_OK;
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
