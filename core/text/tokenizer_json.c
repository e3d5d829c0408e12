/*
 * Hugging Face tokenizer.json: the large members are read in one pass, the small ones as JSON trees.
 * Owner: the tokenizer it opens. Lifetime: the call.
 */
#include "text/tokenizer_json.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

#define SMALL_BYTES_MAX ((size_t)64 << 20) /* of a member read as a tree */
#define HOLES_MAX 65536u                   /* ids without a token, beyond three for each token */

typedef struct vocabulary_entry {
    size_t begin; /* in the strings */
    uint32_t n;
    uint32_t id;
    double score;
} vocabulary_entry;

typedef struct merge_entry {
    size_t left, right; /* in the strings */
    uint32_t n_left, n_right;
} merge_entry;

typedef struct part {
    size_t begin, end;
} part;

typedef struct json_document {
    json_reader reader;
    buffer strings;
    part added, normalizer, pre_tokenizer, post_processor, decoder;
    /* of the model */
    json_t *settings; /* the model's scalar members */
    vocabulary_entry *entries;
    size_t n_entries, entries_cap;
    merge_entry *merges;
    size_t n_merges, merges_cap;
    bool has_vocabulary, has_merges, is_list;
} json_document;

/* ---- reading ---- */

static bool grow(json_reader *r, void **items, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return true;
    }
    size_t wanted = *cap ? *cap * 2 : 1024;
    void *grown = realloc(*items, wanted * size);
    if (!grown) {
        return scan_fail(r, MLXR_NOMEM, "out of memory for %zu entries", wanted);
    }
    *items = grown;
    *cap = wanted;
    return true;
}

/* {"text": id, …} or [["text", score], …] */
static void read_vocabulary(json_document *d)
{
    json_reader *r = &d->reader;
    r->where = "vocab";
    d->has_vocabulary = true;
    d->n_entries = 0;
    d->is_list = scan_peek(r) == '[';
    bool first = true;
    scan_take(r, d->is_list ? '[' : '{');
    while (scan_more(r, d->is_list ? ']' : '}', &first)) {
        vocabulary_entry entry = {0};
        size_t n = 0;
        double number = 0;
        if (!grow(r, (void **)&d->entries, d->n_entries, &d->entries_cap, sizeof entry) ||
            (d->is_list && !scan_take(r, '[')) || !scan_string(r, &entry.begin, &n) ||
            !scan_take(r, d->is_list ? ',' : ':') || !scan_number(r, &number) || (d->is_list && !scan_take(r, ']'))) {
            return;
        }
        if (d->is_list ? !isfinite(number) || d->n_entries >= INT32_MAX - 1
                       : !(number >= 0 && number < INT32_MAX - 1 && number == floor(number))) {
            scan_fail(r, MLXR_FORMAT, "%g is no token %s", number, d->is_list ? "score" : "id");
            return;
        }
        entry.n = (uint32_t)n;
        entry.id = d->is_list ? (uint32_t)d->n_entries : (uint32_t)number;
        entry.score = number;
        d->entries[d->n_entries++] = entry;
    }
}

/* "left right": two texts and one space. */
static bool split_merge(json_document *d, merge_entry *merge, size_t begin, size_t n)
{
    const char *text = d->strings.data + begin;
    const char *space = n ? memchr(text, ' ', n) : NULL;
    if (!space || memchr(space + 1, ' ', n - (size_t)(space + 1 - text))) {
        return scan_fail(&d->reader, MLXR_FORMAT, "merge %zu is not two texts with a space between", d->n_merges);
    }
    *merge = (merge_entry){begin, begin + (size_t)(space + 1 - text), (uint32_t)(space - text),
                           (uint32_t)(n - (size_t)(space + 1 - text))};
    return true;
}

/* ["left right", …] or [["left", "right"], …] */
static void read_merges(json_document *d)
{
    json_reader *r = &d->reader;
    r->where = "merges";
    d->has_merges = true;
    d->n_merges = 0;
    bool first = true;
    scan_take(r, '[');
    while (scan_more(r, ']', &first)) {
        merge_entry merge;
        size_t begin, n;
        if (!grow(r, (void **)&d->merges, d->n_merges, &d->merges_cap, sizeof merge)) {
            return;
        }
        if (scan_peek(r) == '"') {
            if (!scan_string(r, &begin, &n)) {
                return;
            }
            if (n >= 8 && memcmp(d->strings.data + begin, "#version", 8) == 0) {
                continue;
            }
            if (!split_merge(d, &merge, begin, n)) {
                return;
            }
        } else {
            size_t n_right;
            if (!scan_take(r, '[') || !scan_string(r, &merge.left, &n) || !scan_take(r, ',') ||
                !scan_string(r, &merge.right, &n_right) || !scan_take(r, ']')) {
                return;
            }
            merge.n_left = (uint32_t)n;
            merge.n_right = (uint32_t)n_right;
        }
        d->merges[d->n_merges++] = merge;
    }
}

/* A value as a tree; fails for one too large to be what it should be. */
static json_t *read_tree(json_reader *r, part range)
{
    json_error_t where;
    if (range.end - range.begin > SMALL_BYTES_MAX) {
        scan_fail(r, MLXR_LIMIT, "%zu bytes", range.end - range.begin);
        return NULL;
    }
    json_t *tree = json_loadb(r->text + range.begin, range.end - range.begin, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (!tree) {
        bool memory = where.text[0] == 0; /* jansson has no words where it finds no memory */
        scan_fail(r, memory ? MLXR_NOMEM : MLXR_FORMAT, "%.100s", where.text); /* GCOV_EXCL_BR_LINE: inside jansson */
    }
    return tree;
}

/* The key of the next member, short ones only; anything longer is no key we know. */
static bool read_key(json_reader *r, char key[32])
{
    size_t begin, n;
    key[0] = 0;
    if (!scan_string(r, &begin, &n) || !scan_take(r, ':')) {
        return false;
    }
    if (n < 32) {
        memcpy(key, r->strings->data + begin, n);
        key[n] = 0;
    }
    r->strings->n = begin;
    return true;
}

static void read_model(json_document *d)
{
    json_reader *r = &d->reader;
    char key[32];
    bool first = true;
    r->where = "model";
    json_decref(d->settings);
    d->settings = json_object();
    if (!d->settings) { /* GCOV_EXCL_BR_LINE: inside jansson */
        scan_fail(r, MLXR_NOMEM, "out of memory");
        return;
    }
    scan_take(r, '{');
    while (scan_more(r, '}', &first) && read_key(r, key)) {
        if (strcmp(key, "vocab") == 0) {
            read_vocabulary(d);
        } else if (strcmp(key, "merges") == 0) {
            read_merges(d);
        } else {
            part range;
            if (!scan_skip(r, &range.begin, &range.end)) {
                return;
            }
            json_t *tree = read_tree(r, range);
            if (tree && json_object_set_new(d->settings, key, tree) != 0) { /* GCOV_EXCL_BR_LINE: inside jansson */
                scan_fail(r, MLXR_NOMEM, "out of memory");
            }
        }
        r->where = "model";
    }
}

static void read_document(json_document *d)
{
    json_reader *r = &d->reader;
    const struct {
        const char *key;
        part *range;
    } members[] = {{"added_tokens", &d->added},
                   {"normalizer", &d->normalizer},
                   {"pre_tokenizer", &d->pre_tokenizer},
                   {"post_processor", &d->post_processor},
                   {"decoder", &d->decoder}};
    char key[32];
    bool first = true;
    r->where = "document";
    if (r->n >= 3 && memcmp(r->text, "\xef\xbb\xbf", 3) == 0) {
        r->at = 3;
    }
    scan_take(r, '{');
    while (scan_more(r, '}', &first) && read_key(r, key)) {
        part ignored, *range = &ignored;
        if (strcmp(key, "model") == 0) {
            read_model(d);
            r->where = "document";
            continue;
        }
        for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
            range = strcmp(key, members[i].key) == 0 ? members[i].range : range;
        }
        scan_skip(r, &range->begin, &range->end);
    }
    if (r->status == MLXR_OK && (scan_peek(r), r->at) != r->n) {
        scan_fail(r, MLXR_FORMAT, "something follows the document");
    }
    if (r->status == MLXR_OK && !d->has_vocabulary) {
        scan_fail(r, MLXR_FORMAT, "no model with a vocabulary");
    }
}

/* ---- from the document to a source ---- */

typedef struct json_build {
    json_document *d;
    json_t *added; /* array or NULL */
    tokenizer_source source;
    token_text *tokens;
    int32_t *types;
    tokenizer *t;
    bool byte_level;
} json_build;

static mlxr_status bad(mlxr_error *error, const char *what)
{
    return error_set(error, MLXR_FORMAT, "tokenizer.json: %s", what);
}

static const char *setting_text(const json_document *d, const char *name)
{
    return json_string_value(json_object_get(d->settings, name));
}

static bool setting_flag(const json_document *d, const char *name)
{
    return json_is_true(json_object_get(d->settings, name));
}

static mlxr_status find_kind(json_build *b, mlxr_error *error)
{
    const json_document *d = b->d;
    const char *type = setting_text(d, "type");
    if (!type) { /* old files leave it out */
        type = d->is_list ? "Unigram" : d->has_merges ? "BPE" : "WordPiece";
    }
    if (strcmp(type, "BPE") == 0) {
        b->source.kind = TOKENIZER_BPE;
    } else if (strcmp(type, "Unigram") == 0) {
        b->source.kind = TOKENIZER_UNIGRAM;
    } else if (strcmp(type, "WordPiece") == 0) {
        b->source.kind = TOKENIZER_WORDPIECE;
    } else {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer.json: model \"%.60s\" is not supported; BPE, Unigram and "
                         "WordPiece are",
                         type);
    }
    if (d->is_list != (b->source.kind == TOKENIZER_UNIGRAM)) {
        return bad(error, "vocab is a list for Unigram and an object for other models");
    }
    if (b->source.kind == TOKENIZER_BPE && !d->has_merges) {
        return bad(error, "model BPE without merges");
    }
    const json_t *dropout = json_object_get(d->settings, "dropout");
    if (json_number_value(dropout) != 0) {
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: BPE dropout is not supported");
    }
    return MLXR_OK;
}

/* How many ids there are: the largest of the vocabulary and the added tokens, plus one. */
static mlxr_status count_tokens(json_build *b, mlxr_error *error)
{
    const json_document *d = b->d;
    uint64_t n = 0, given = d->n_entries + json_array_size(b->added);
    for (size_t i = 0; i < d->n_entries; i++) {
        n = d->entries[i].id >= n ? (uint64_t)d->entries[i].id + 1 : n;
    }
    for (size_t i = 0; i < json_array_size(b->added); i++) {
        const json_t *token = json_array_get(b->added, i), *id = json_object_get(token, "id");
        if (!json_is_string(json_object_get(token, "content")) || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= INT32_MAX - 1) {
            return error_set(error, MLXR_FORMAT, "tokenizer.json: added token %zu has no content or no id", i);
        }
        uint64_t end = (uint64_t)json_integer_value(id) + 1;
        n = end > n ? end : n;
    }
    if (n == 0) {
        return bad(error, "the vocabulary is empty");
    }
    if (n > given * 4 + HOLES_MAX) {
        return error_set(error, MLXR_LIMIT, "tokenizer.json: ids up to %llu for %llu tokens", (unsigned long long)n - 1,
                         (unsigned long long)given);
    }
    b->source.n_tokens = (uint32_t)n;
    return MLXR_OK;
}

static mlxr_status place_vocabulary(json_build *b, mlxr_error *error)
{
    const json_document *d = b->d;
    uint32_t n = b->source.n_tokens;
    b->tokens = calloc(n, sizeof *b->tokens);
    b->types = malloc(n * sizeof *b->types);
    if (!b->tokens || !b->types) {
        return error_nomem(error, "tokenizer.json tokens", n * (sizeof *b->tokens + sizeof *b->types));
    }
    for (uint32_t i = 0; i < n; i++) {
        b->tokens[i].data = "";
        b->types[i] = TOKEN_UNUSED;
    }
    bool byte_fallback = setting_flag(d, "byte_fallback");
    for (size_t i = 0; i < d->n_entries; i++) {
        vocabulary_entry entry = d->entries[i];
        if (b->types[entry.id] != TOKEN_UNUSED) {
            return error_set(error, MLXR_FORMAT, "tokenizer.json: vocab: two tokens with id %u", entry.id);
        }
        b->tokens[entry.id] = (token_text){d->strings.data + entry.begin, entry.n};
        b->types[entry.id] = byte_fallback && byte_token_value(b->tokens[entry.id]) >= 0 ? TOKEN_BYTE : TOKEN_NORMAL;
    }
    b->source.tokens = b->tokens;
    b->source.types = b->types;
    return MLXR_OK;
}

/* Added tokens take the id the vocabulary has for their text, else the one they name. */
static mlxr_status place_added(json_build *b, mlxr_error *error)
{
    for (size_t i = 0; i < json_array_size(b->added); i++) {
        const json_t *token = json_array_get(b->added, i), *content = json_object_get(token, "content");
        uint32_t id = (uint32_t)json_integer_value(json_object_get(token, "id"));
        token_text text = {json_string_value(content), json_string_length(content)};
        bool same = b->tokens[id].n == text.n && memcmp(b->tokens[id].data, text.data, text.n) == 0;
        if (b->types[id] != TOKEN_UNUSED && !same) {
            return error_set(error, MLXR_FORMAT,
                             "tokenizer.json: added token %zu, \"%.60s\", has the id %u of another "
                             "token",
                             i, text.data, id);
        }
        b->tokens[id] = text;
        b->types[id] = json_is_true(json_object_get(token, "special")) ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
    return MLXR_OK;
}

/* The id of a text among all tokens; −1 if none has it. */
static int32_t find_token(const json_build *b, const char *text, size_t n)
{
    for (uint32_t id = 0; id < b->source.n_tokens; id++) {
        if (b->tokens[id].n == n && memcmp(b->tokens[id].data, text, n) == 0) {
            return (int32_t)id;
        }
    }
    return -1;
}

static mlxr_status find_unknown(json_build *b, mlxr_error *error)
{
    const json_t *name = json_object_get(b->d->settings, "unk_token"), *id = json_object_get(b->d->settings, "unk_id");
    int32_t *unk = &b->source.unk;
    if (json_is_string(name)) {
        *unk = find_token(b, json_string_value(name), json_string_length(name));
        if (*unk < 0 && b->source.kind != TOKENIZER_WORDPIECE) {
            return error_set(error, MLXR_FORMAT, "tokenizer.json: unk_token \"%.60s\" is not in the vocabulary",
                             json_string_value(name));
        }
    } else if (json_is_integer(id)) {
        if (json_integer_value(id) < 0 || json_integer_value(id) >= b->source.n_tokens) {
            return bad(error, "unk_id is outside the vocabulary");
        }
        *unk = (int32_t)json_integer_value(id);
    }
    if (*unk >= 0 && b->types[*unk] == TOKEN_NORMAL) {
        b->types[*unk] = TOKEN_UNKNOWN;
    }
    return MLXR_OK;
}

/* bos_token and the like in tokenizer_config.json: a string, or an object with content. */
static int32_t config_id(const json_build *b, const json_t *config, const char *name)
{
    const json_t *value = json_object_get(config, name);
    value = json_is_object(value) ? json_object_get(value, "content") : value;
    return json_is_string(value) ? find_token(b, json_string_value(value), json_string_length(value)) : -1;
}

/* ---- the models ---- */

static mlxr_status keep_setting(json_build *b, const char *name, const char *otherwise, token_text *out,
                                mlxr_error *error)
{
    const char *text = setting_text(b->d, name);
    text = text ? text : otherwise;
    char *copy = region_strndup(&b->t->memory, text, strlen(text));
    if (!copy) {
        return error_nomem(error, name, strlen(text) + 1);
    }
    *out = (token_text){copy, strlen(text)};
    return MLXR_OK;
}

static mlxr_status open_bpe(json_build *b, mlxr_error *error)
{
    tokenizer *t = b->t;
    const json_document *d = b->d;
    t->byte_level = b->byte_level;
    t->ignore_merges = setting_flag(d, "ignore_merges");
    t->fuse_unknown = setting_flag(d, "fuse_unk");
    mlxr_status status = keep_setting(b, "continuing_subword_prefix", "", &t->subword_prefix, error);
    if (status == MLXR_OK) {
        status = keep_setting(b, "end_of_word_suffix", "", &t->word_suffix, error);
    }
    if (status == MLXR_OK) {
        status = bpe_open_vocabulary(t, &b->source, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    size_t n_bytes = (d->n_merges + 1) * sizeof(merge_text);
    merge_text *merges = malloc(n_bytes);
    if (!merges) {
        return error_nomem(error, "tokenizer merges", n_bytes);
    }
    for (size_t i = 0; i < d->n_merges; i++) {
        merges[i].left = (token_text){d->strings.data + d->merges[i].left, d->merges[i].n_left};
        merges[i].right = (token_text){d->strings.data + d->merges[i].right, d->merges[i].n_right};
    }
    status = bpe_open_merges(t, merges, (uint32_t)d->n_merges, error);
    free(merges);
    return status;
}

/* Texts as they are. */
static mlxr_status open_literal_texts(json_build *b, mlxr_error *error)
{
    tokenizer *t = b->t;
    uint64_t n_bytes = texts_bytes(b->tokens, t->n_tokens);
    mlxr_status status = text_table_make(&t->texts, &t->memory, t->n_tokens, n_bytes, error);
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t used = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        memcpy(t->texts.bytes + used, b->tokens[id].data, b->tokens[id].n);
        used += (uint32_t)b->tokens[id].n;
        t->texts.offsets[id + 1] = used;
    }
    t->texts.n = t->n_tokens;
    return MLXR_OK;
}

static mlxr_status open_unigram(json_build *b, mlxr_error *error)
{
    tokenizer *t = b->t;
    mlxr_status status = open_literal_texts(b, error);
    if (status == MLXR_OK) {
        status = text_map_make(&t->map, &t->memory, t->n_tokens, error);
    }
    t->logprobs = region_array(&t->memory, t->n_tokens, sizeof *t->logprobs);
    if (status == MLXR_OK && !t->logprobs) {
        status = error_nomem(error, "token scores", t->n_tokens * sizeof *t->logprobs);
    }
    t->all_scores_count = true;
    for (size_t i = 0; status == MLXR_OK && i < b->d->n_entries; i++) {
        uint32_t id = b->d->entries[i].id;
        t->logprobs[id] = b->d->entries[i].score;
        if (t->types[id] == TOKEN_NORMAL || t->types[id] == TOKEN_USER_DEFINED || t->types[id] == TOKEN_BYTE) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
        }
    }
    return status == MLXR_OK ? unigram_open(t, NULL, (uint32_t)b->d->n_entries, error) : status;
}

static mlxr_status open_wordpiece(json_build *b, mlxr_error *error)
{
    tokenizer *t = b->t;
    const json_t *longest = json_object_get(b->d->settings, "max_input_chars_per_word");
    json_int_t n = json_is_integer(longest) ? json_integer_value(longest) : 100;
    t->word_chars_max = n < 0 ? 0 : n > INT32_MAX ? INT32_MAX : (uint32_t)n;
    mlxr_status status = keep_setting(b, "continuing_subword_prefix", "##", &t->subword_prefix, error);
    if (status == MLXR_OK) {
        status = open_literal_texts(b, error);
    }
    return status == MLXR_OK ? wordpiece_index(t, error) : status;
}

static mlxr_status open_model(json_build *b, mlxr_error *error)
{
    tokenizer *t = b->t;
    for (size_t i = 0; setting_flag(b->d, "byte_fallback") && i < b->d->n_entries; i++) {
        uint32_t id = b->d->entries[i].id;
        int byte = byte_token_value(b->tokens[id]);
        if (byte >= 0) {
            t->byte_ids[byte] = (int32_t)id;
        }
    }
    if (b->byte_level && t->kind != TOKENIZER_BPE) {
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: ByteLevel with a model other than BPE");
    }
    return t->kind == TOKENIZER_BPE       ? open_bpe(b, error)
           : t->kind == TOKENIZER_UNIGRAM ? open_unigram(b, error)
                                          : open_wordpiece(b, error);
}

/* ---- added tokens and pieces ---- */

/* The text a normalized added token is looked for by, in s->text or as it is. */
static mlxr_status added_text(json_build *b, scratch *s, const json_t *token, bool *normalized, text_in *text,
                              mlxr_error *error)
{
    const json_t *content = json_object_get(token, "content"), *flag = json_object_get(token, "normalized");
    *text = (text_in){json_string_value(content), json_string_length(content), true, false};
    *normalized = flag ? json_is_true(flag) : !json_is_true(json_object_get(token, "special"));
    return *normalized ? normalize_text(b->t, s, text, error) : MLXR_OK;
}

static mlxr_status open_added(json_build *b, scratch *s, mlxr_error *error)
{
    uint64_t n_bytes[2] = {0, 0};
    text_in text;
    bool normalized;
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; status == MLXR_OK && i < json_array_size(b->added); i++) {
        status = added_text(b, s, json_array_get(b->added, i), &normalized, &text, error);
        n_bytes[normalized] += text.n;
    }
    if (status == MLXR_OK) {
        status = added_set_make(&b->t->raw, &b->t->memory, n_bytes[0], error);
    }
    if (status == MLXR_OK) {
        status = added_set_make(&b->t->normalized, &b->t->memory, n_bytes[1], error);
    }
    for (size_t i = 0; status == MLXR_OK && i < json_array_size(b->added); i++) {
        const json_t *token = json_array_get(b->added, i);
        unsigned flags = (json_is_true(json_object_get(token, "special")) ? ADDED_SPECIAL : 0u) |
                         (json_is_true(json_object_get(token, "single_word")) ? ADDED_SINGLE_WORD : 0u) |
                         (json_is_true(json_object_get(token, "lstrip")) ? ADDED_LSTRIP : 0u) |
                         (json_is_true(json_object_get(token, "rstrip")) ? ADDED_RSTRIP : 0u);
        status = added_text(b, s, token, &normalized, &text, error);
        if (status == MLXR_OK) {
            status = added_set_add(normalized ? &b->t->normalized : &b->t->raw, (token_text){text.data, text.n},
                                   (int32_t)json_integer_value(json_object_get(token, "id")), flags, error);
        }
    }
    return status;
}

/* Appends `text` with replacements one after the other. */
static void append_piece(buffer *out, buffer *spare, token_text text, const piece_rules *rules)
{
    buffer_clear(spare);
    buffer_append(spare, text.data, text.n);
    for (uint32_t i = 0; i < rules->n_replacements; i++) {
        buffer next = buffer_make(spare->limit);
        const char *p = spare->data ? spare->data : "";
        size_t n = spare->n;
        for (const char *hit; n && (hit = memmem(p, n, rules->from[i].data, rules->from[i].n)) != NULL;) {
            buffer_append(&next, p, (size_t)(hit - p));
            buffer_append(&next, rules->to[i].data, rules->to[i].n);
            n -= (size_t)(hit - p) + rules->from[i].n;
            p = hit + rules->from[i].n;
        }
        buffer_append(&next, p, n);
        next.failed = next.failed || spare->failed;
        buffer_close(spare);
        *spare = next;
    }
    out->failed = out->failed || spare->failed;
    buffer_append(out, spare->data ? spare->data : "", spare->n);
}

static void append_decoded(const json_build *b, const piece_rules *rules, uint32_t id, buffer *out, buffer *spare)
{
    token_text text = b->tokens[id];
    uint8_t type = b->t->types[id];
    int byte = rules->byte_fallback ? byte_token_value(text) : -1;
    if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN) {
        buffer_append(out, text.data, text.n);
        return;
    }
    if (byte >= 0) {
        char c = (char)byte;
        buffer_append(out, &c, 1);
        return;
    }
    if (rules->has_word_prefix && text.n) {
        token_text prefix = rules->word_prefix;
        if (prefix.n && text.n >= prefix.n && memcmp(text.data, prefix.data, prefix.n) == 0) {
            text = (token_text){text.data + prefix.n, text.n - prefix.n};
        } else {
            buffer_append(out, " ", 1);
        }
    }
    size_t suffix = rules->suffix.n;
    bool ends_word = suffix && text.n >= suffix && memcmp(text.data + text.n - suffix, rules->suffix.data, suffix) == 0;
    text.n -= ends_word ? suffix : 0;
    append_piece(out, spare, text, rules);
    if (ends_word) {
        buffer_append(out, " ", 1);
    }
}

static mlxr_status open_pieces(json_build *b, const piece_rules *rules, mlxr_error *error)
{
    tokenizer *t = b->t;
    t->strip_first_space = rules->strip_first;
    if (t->byte_level && rules->byte_level) {
        return MLXR_OK; /* the texts are bytes already */
    }
    buffer all = buffer_make(UINT32_MAX), spare = buffer_make(UINT32_MAX);
    uint32_t *offsets = region_alloc(&t->memory, ((size_t)t->n_tokens + 1) * sizeof *offsets);
    mlxr_status status = offsets ? MLXR_OK : error_nomem(error, "pieces", t->n_tokens * sizeof *offsets);
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        offsets[id] = (uint32_t)all.n;
        append_decoded(b, rules, id, &all, &spare);
    }
    char *bytes = status == MLXR_OK ? region_strndup(&t->memory, all.data ? all.data : "", all.n) : NULL;
    if (status == MLXR_OK && (!bytes || all.failed)) {
        status = error_nomem(error, "pieces", all.n);
    }
    if (status == MLXR_OK) {
        offsets[t->n_tokens] = (uint32_t)all.n;
        t->pieces = (text_table){bytes, offsets, t->n_tokens};
    }
    buffer_close(&all);
    buffer_close(&spare);
    return status;
}

/* ---- putting it together ---- */

typedef struct small_parts {
    json_t *normalizer, *pre_tokenizer, *post_processor, *decoder, *config;
} small_parts;

static bool read_small(json_document *d, const char *where, part range, json_t **out)
{
    d->reader.where = where;
    if (range.end > range.begin) {
        *out = read_tree(&d->reader, range);
        return *out != NULL;
    }
    return true;
}

static mlxr_status read_parts(json_document *d, small_parts *parts, json_t **added, mlxr_error *error)
{
    if (!read_small(d, "added_tokens", d->added, added) ||
        !read_small(d, "normalizer", d->normalizer, &parts->normalizer) ||
        !read_small(d, "pre_tokenizer", d->pre_tokenizer, &parts->pre_tokenizer) ||
        !read_small(d, "post_processor", d->post_processor, &parts->post_processor) ||
        !read_small(d, "decoder", d->decoder, &parts->decoder)) {
        return d->reader.status;
    }
    if (*added && !json_is_array(*added) && !json_is_null(*added)) {
        return bad(error, "added_tokens is not a list");
    }
    return MLXR_OK;
}

/* add_bos_token and add_eos_token of the configuration, where they say more than the post-processor did. */
static void apply_config(json_build *b, const json_t *config)
{
    tokenizer *t = b->t;
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    bool rebuilds = class && (strncmp(class, "Llama", 5) == 0 || strncmp(class, "Gemma", 5) == 0);
    const json_t *add_bos = json_object_get(config, "add_bos_token"),
                 *add_eos = json_object_get(config, "add_eos_token");
    bool has_bos = t->n_prefix_ids && t->bos >= 0 && t->prefix_ids[0] == t->bos;
    bool has_eos = t->n_suffix_ids && t->eos >= 0 && t->suffix_ids[t->n_suffix_ids - 1] == t->eos;
    if (json_is_true(add_bos) && !has_bos && t->bos >= 0 && t->n_prefix_ids < FIXED_IDS_MAX) {
        memmove(t->prefix_ids + 1, t->prefix_ids, t->n_prefix_ids++ * sizeof *t->prefix_ids);
        t->prefix_ids[0] = t->bos;
    } else if (json_is_false(add_bos) && has_bos && rebuilds) {
        memmove(t->prefix_ids, t->prefix_ids + 1, --t->n_prefix_ids * sizeof *t->prefix_ids);
    }
    if (json_is_true(add_eos) && !has_eos && t->eos >= 0 && t->n_suffix_ids < FIXED_IDS_MAX) {
        t->suffix_ids[t->n_suffix_ids++] = t->eos;
    } else if (json_is_false(add_eos) && has_eos && rebuilds) {
        t->n_suffix_ids--;
    }
    if (t->bos < 0 && t->n_prefix_ids) {
        t->bos = t->prefix_ids[0];
    }
    t->adds_bos = t->n_prefix_ids && t->prefix_ids[0] == t->bos;
}

static mlxr_status build(json_build *b, const small_parts *parts, scratch *s, mlxr_error *error)
{
    piece_rules rules;
    tokenizer_source *source = &b->source;
    source->bos = config_id(b, parts->config, "bos_token");
    source->eos = config_id(b, parts->config, "eos_token");
    source->pad = config_id(b, parts->config, "pad_token");
    b->byte_level = json_has_byte_level(parts->pre_tokenizer) || json_has_byte_level(parts->normalizer);
    mlxr_status status = tokenizer_open_common(&b->t, source, error);
    if (status == MLXR_OK) {
        b->t->from_alphabet = json_has_byte_level(parts->normalizer);
        status = json_open_normalizer(b->t, parts->normalizer, error);
    }
    if (status == MLXR_OK) {
        status = json_open_pre_tokenizer(b->t, parts->pre_tokenizer, error);
    }
    if (status == MLXR_OK) {
        status = open_model(b, error);
    }
    if (status == MLXR_OK) {
        status = open_added(b, s, error);
    }
    if (status == MLXR_OK) {
        status = json_read_decoder(b->t, parts->decoder, &rules, error);
    }
    if (status == MLXR_OK) {
        status = open_pieces(b, &rules, error);
    }
    if (status == MLXR_OK) {
        status = json_open_post_processor(b->t, parts->post_processor, error);
    }
    if (status == MLXR_OK) {
        apply_config(b, parts->config);
    }
    return status;
}

static mlxr_status prepare(json_build *b, mlxr_error *error)
{
    mlxr_status status = find_kind(b, error);
    if (status == MLXR_OK) {
        status = count_tokens(b, error);
    }
    if (status == MLXR_OK) {
        status = place_vocabulary(b, error);
    }
    if (status == MLXR_OK) {
        status = place_added(b, error);
    }
    return status == MLXR_OK ? find_unknown(b, error) : status;
}

mlxr_status tokenizer_open_json(tokenizer **out, const char *json, size_t n, const char *config_json, size_t n_config,
                                mlxr_error *error)
{
    json_document d = {.strings = buffer_make(n < UINT32_MAX ? n + 16 : UINT32_MAX)};
    d.reader = (json_reader){.text = json, .n = n, .strings = &d.strings, .where = "document", .error = error};
    json_build b = {
        .d = &d, .source = {.bos = -1, .eos = -1, .eot = -1, .unk = -1, .pad = -1, .sep = -1, .cls = -1, .mask = -1}};
    small_parts parts = {0};
    scratch s = scratch_make();
    read_document(&d);
    mlxr_status status = d.reader.status;
    if (status == MLXR_OK) {
        status = read_parts(&d, &parts, &b.added, error);
    }
    if (status == MLXR_OK && n_config) {
        d.reader.where = "tokenizer_config.json";
        d.reader.text = config_json;
        parts.config = read_tree(&d.reader, (part){0, n_config});
        status = d.reader.status;
    }
    if (status == MLXR_OK) {
        status = prepare(&b, error);
    }
    if (status == MLXR_OK) {
        status = build(&b, &parts, &s, error);
    }
    if (status == MLXR_OK) {
        *out = b.t;
    } else if (b.t) {
        tokenizer_close(&b.t);
    }
    scratch_close(&s);
    json_t *trees[] = {d.settings,           b.added,       parts.normalizer, parts.pre_tokenizer,
                       parts.post_processor, parts.decoder, parts.config};
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        json_decref(trees[i]);
    }
    buffer_close(&d.strings);
    free(d.entries);
    free(d.merges);
    free(b.tokens);
    free(b.types);
    return status;
}
