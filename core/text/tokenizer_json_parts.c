/*
 * The small members of tokenizer.json: normaliser, pre-tokenizer, decoder and post-processor as operations and rules.
 * Owner: the tokenizer's region. Lifetime: the tokenizer. What is not supported is refused by name.
 */
#include "base/error.h"
#include "text/tokenizer_json.h"

#define OPS_MAX 24u
#define NESTING_MAX 8u

/* ---- members ---- */

static bool type_is(const json_t *value, const char *name)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    return type && strcmp(type, name) == 0;
}

static mlxr_status unsupported(const char *what, const json_t *value, mlxr_error *error)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: %s \"%.60s\" is not supported", what,
                     type ? type : "without a type");
}

static mlxr_status malformed(const char *what, const char *member, mlxr_error *error)
{
    return error_set(error, MLXR_FORMAT, "tokenizer.json: %s: \"%s\" is missing or of the wrong type", what, member);
}

/* A boolean member; absent: the default. */
static mlxr_status read_flag(const json_t *value, const char *name, const char *what, bool otherwise, bool *out,
                             mlxr_error *error)
{
    const json_t *member = json_object_get(value, name);
    if (member && !json_is_boolean(member) && !json_is_null(member)) {
        return malformed(what, name, error);
    }
    *out = json_is_boolean(member) ? json_is_true(member) : otherwise;
    return MLXR_OK;
}

/* Copies a string into the tokenizer's memory. */
static mlxr_status keep_text(tokenizer *t, const json_t *value, const char *what, const char *member, token_text *out,
                             mlxr_error *error)
{
    if (!json_is_string(value)) {
        return malformed(what, member, error);
    }
    size_t n = json_string_length(value);
    char *copy = region_strndup(&t->memory, json_string_value(value), n);
    if (!copy) {
        return error_nomem(error, what, n + 1);
    }
    *out = (token_text){copy, n};
    return MLXR_OK;
}

/* {"String": …} or {"Regex": …} into an operation's pattern. */
static mlxr_status read_pattern(tokenizer *t, const json_t *value, const char *what, text_op *op, mlxr_error *error)
{
    const json_t *choice = json_object_get(value, "pattern");
    const json_t *regex = json_object_get(choice, "Regex");
    if (!regex) {
        mlxr_status status = keep_text(t, json_object_get(choice, "String"), what, "pattern", &op->literal, error);
        return status == MLXR_OK && op->literal.n == 0 ? malformed(what, "pattern", error) : status;
    }
    if (!json_is_string(regex)) {
        return malformed(what, "pattern", error);
    }
    const char *source = json_string_value(regex);
    size_t n = json_string_length(regex);
    op->splitter = splitter_for_pattern(source, n);
    return op->splitter ? MLXR_OK : pattern_open(&op->pattern, source, n, error);
}

/* Walks a tree of {"type": "Sequence", `list`: […]} and calls `one` for each leaf in order. */
typedef mlxr_status leaf_function(tokenizer *t, const json_t *value, void *context, mlxr_error *error);

static mlxr_status walk(tokenizer *t, const json_t *root, const char *what, const char *list, leaf_function *one,
                        void *context, mlxr_error *error)
{
    struct {
        const json_t *items;
        size_t next;
    } stack[NESTING_MAX];
    uint32_t depth = 0;
    const json_t *value = root;
    while (value) {
        if (type_is(value, "Sequence")) {
            const json_t *items = json_object_get(value, list);
            if (!json_is_array(items)) {
                return malformed(what, list, error);
            }
            if (depth == NESTING_MAX) {
                return error_set(error, MLXR_LIMIT, "tokenizer.json: %s nested deeper than %u", what, NESTING_MAX);
            }
            stack[depth].items = items;
            stack[depth++].next = 0;
        } else {
            mlxr_status status = one(t, value, context, error);
            if (status != MLXR_OK) {
                return status;
            }
        }
        value = NULL;
        while (depth && !value) {
            value = json_array_get(stack[depth - 1].items, stack[depth - 1].next++);
            depth -= !value;
        }
    }
    return MLXR_OK;
}

/* ---- normaliser ---- */

/* Base64, as Precompiled holds its map. */
static mlxr_status open_charsmap(tokenizer *t, const json_t *value, mlxr_error *error)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *text = json_string_value(value);
    if (!text) {
        return malformed("Precompiled", "precompiled_charsmap", error);
    }
    size_t n = json_string_length(value), used = 0;
    while (n && text[n - 1] == '=') {
        n--;
    }
    char *bytes = region_alloc(&t->memory, n);
    if (!bytes) {
        return error_nomem(error, "Precompiled", n);
    }
    uint32_t bits = 0, n_bits = 0;
    for (size_t i = 0; i < n; i++) {
        const char *letter = text[i] ? strchr(letters, text[i]) : NULL;
        if (!letter) {
            return error_set(error, MLXR_FORMAT, "tokenizer.json: Precompiled: character %zu is not base64", i);
        }
        bits = bits << 6 | (uint32_t)(letter - letters);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            bytes[used++] = (char)(bits >> n_bits & 0xff);
        }
    }
    return charsmap_open(&t->charsmap, &t->memory, bytes, used, error);
}

static mlxr_status read_bert(const json_t *value, text_op *op, mlxr_error *error)
{
    bool clean = false, chinese = false, accents = false, lower = false;
    mlxr_status status = read_flag(value, "clean_text", "BertNormalizer", true, &clean, error);
    if (status == MLXR_OK) {
        status = read_flag(value, "handle_chinese_chars", "BertNormalizer", true, &chinese, error);
    }
    if (status == MLXR_OK) {
        status = read_flag(value, "lowercase", "BertNormalizer", true, &lower, error);
    }
    if (status == MLXR_OK) {
        status = read_flag(value, "strip_accents", "BertNormalizer", lower, &accents, error);
    }
    if (status == MLXR_OK) {
        op->kind = OP_BERT;
        op->flags = (clean ? OP_CLEAN : 0u) | (chinese ? OP_CHINESE : 0u) | (accents ? OP_UNACCENT : 0u) |
                    (lower ? OP_LOWER : 0u);
    }
    return status;
}

static mlxr_status read_strip(const json_t *value, text_op *op, mlxr_error *error)
{
    bool left = false, right = false;
    mlxr_status status = read_flag(value, "strip_left", "Strip", true, &left, error);
    if (status == MLXR_OK) {
        status = read_flag(value, "strip_right", "Strip", true, &right, error);
    }
    if (status == MLXR_OK) {
        op->kind = OP_STRIP;
        op->flags = (left ? OP_LEFT : 0u) | (right ? OP_RIGHT : 0u);
    }
    return status;
}

static mlxr_status take_op(text_op *ops, uint32_t *n, const char *what, text_op **op, mlxr_error *error)
{
    if (*n == OPS_MAX) {
        return error_set(error, MLXR_LIMIT, "tokenizer.json: more than %u steps in the %s", OPS_MAX, what);
    }
    *op = &ops[(*n)++];
    return MLXR_OK;
}

static mlxr_status normalizer_leaf(tokenizer *t, const json_t *value, void *context, mlxr_error *error)
{
    (void)context;
    static const struct {
        const char *name;
        text_op_kind kind;
        unsigned flags;
    } plain[] = {{"NFC", OP_NORMAL_FORM, OP_COMPOSE},
                 {"NFD", OP_NORMAL_FORM, 0},
                 {"NFKC", OP_NORMAL_FORM, OP_COMPOSE | OP_COMPATIBILITY},
                 {"NFKD", OP_NORMAL_FORM, OP_COMPATIBILITY},
                 {"Lowercase", OP_LOWERCASE, 0},
                 {"StripAccents", OP_STRIP_ACCENTS, 0},
                 {"Nmt", OP_NMT, 0},
                 {"ByteLevel", OP_BYTE_ALPHABET, 0}};
    text_op *op = NULL;
    mlxr_status status = take_op(t->normalizers, &t->n_normalizers, "normalizer", &op, error);
    if (status != MLXR_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (type_is(value, plain[i].name)) {
            op->kind = plain[i].kind;
            op->flags = plain[i].flags;
            return MLXR_OK;
        }
    }
    if (type_is(value, "Prepend")) {
        op->kind = OP_PREPEND;
        return keep_text(t, json_object_get(value, "prepend"), "Prepend", "prepend", &op->content, error);
    }
    if (type_is(value, "Replace")) {
        op->kind = OP_REPLACE;
        status = read_pattern(t, value, "Replace", op, error);
        return status == MLXR_OK
                   ? keep_text(t, json_object_get(value, "content"), "Replace", "content", &op->content, error)
                   : status;
    }
    if (type_is(value, "Strip")) {
        return read_strip(value, op, error);
    }
    if (type_is(value, "BertNormalizer")) {
        return read_bert(value, op, error);
    }
    if (type_is(value, "Precompiled")) {
        op->kind = OP_CHARSMAP;
        if (t->charsmap.n_units) {
            return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: two Precompiled maps");
        }
        return open_charsmap(t, json_object_get(value, "precompiled_charsmap"), error);
    }
    return unsupported("normalizer", value, error);
}

static mlxr_status make_ops(tokenizer *t, text_op **ops, mlxr_error *error)
{
    *ops = region_array(&t->memory, OPS_MAX, sizeof **ops);
    return *ops ? MLXR_OK : error_nomem(error, "operations", OPS_MAX * sizeof **ops);
}

mlxr_status json_open_normalizer(tokenizer *t, const json_t *value, mlxr_error *error)
{
    if (!value || json_is_null(value)) {
        return MLXR_OK;
    }
    mlxr_status status = make_ops(t, &t->normalizers, error);
    return status == MLXR_OK ? walk(t, value, "normalizer", "normalizers", normalizer_leaf, NULL, error) : status;
}

/* ---- pre-tokenizer ---- */

static mlxr_status read_behavior(const json_t *value, split_behavior *out, mlxr_error *error)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(value);
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (split_behavior)i;
            return MLXR_OK;
        }
    }
    return malformed("pre_tokenizer", "behavior", error);
}

static mlxr_status read_split(tokenizer *t, const json_t *value, text_op *op, mlxr_error *error)
{
    op->kind = OP_SPLIT;
    mlxr_status status = read_pattern(t, value, "Split", op, error);
    if (status == MLXR_OK) {
        status = read_behavior(json_object_get(value, "behavior"), &op->behavior, error);
    }
    return status == MLXR_OK ? read_flag(value, "invert", "Split", false, &op->invert, error) : status;
}

static mlxr_status read_byte_level(const json_t *value, text_op *op, mlxr_error *error)
{
    bool prefix = false, regex = false;
    mlxr_status status = read_flag(value, "add_prefix_space", "ByteLevel", true, &prefix, error);
    if (status == MLXR_OK) {
        status = read_flag(value, "use_regex", "ByteLevel", true, &regex, error);
    }
    if (status == MLXR_OK) {
        op->kind = OP_BYTE_LEVEL;
        op->flags = prefix ? OP_PREFIX : 0u;
        op->splitter = regex ? splitter_named("gpt2") : NULL;
    }
    return status;
}

/* prepend_scheme, or the older add_prefix_space. */
static mlxr_status read_scheme(const json_t *value, unsigned *flags, mlxr_error *error)
{
    const json_t *scheme = json_object_get(value, "prepend_scheme");
    bool prefix = false;
    mlxr_status status = read_flag(value, "add_prefix_space", "Metaspace", true, &prefix, error);
    if (status != MLXR_OK) {
        return status;
    }
    const char *name = scheme ? json_string_value(scheme) : prefix ? "always" : "never";
    if (!name || (strcmp(name, "always") != 0 && strcmp(name, "first") != 0 && strcmp(name, "never") != 0)) {
        return malformed("Metaspace", "prepend_scheme", error);
    }
    *flags = strcmp(name, "always") == 0 ? OP_PREFIX : strcmp(name, "first") == 0 ? OP_PREFIX_FIRST : 0u;
    return MLXR_OK;
}

static mlxr_status read_metaspace(tokenizer *t, const json_t *value, text_op *op, mlxr_error *error)
{
    bool cut = false;
    op->kind = OP_METASPACE;
    mlxr_status status = read_scheme(value, &op->flags, error);
    if (status == MLXR_OK) {
        status = read_flag(value, "split", "Metaspace", true, &cut, error);
    }
    if (status == MLXR_OK) {
        status = keep_text(t, json_object_get(value, "replacement"), "Metaspace", "replacement", &op->content, error);
    }
    if (status == MLXR_OK && op->content.n == 0) {
        return malformed("Metaspace", "replacement", error);
    }
    if (status == MLXR_OK && cut) {
        op->flags |= OP_CUT;
        op->literal = op->content;
        op->behavior = SPLIT_MERGED_WITH_NEXT;
    }
    return status;
}

static mlxr_status pre_tokenizer_leaf(tokenizer *t, const json_t *value, void *context, mlxr_error *error)
{
    (void)context;
    text_op *op = NULL;
    mlxr_status status = take_op(t->pre_tokenizers, &t->n_pre_tokenizers, "pre_tokenizer", &op, error);
    if (status != MLXR_OK) {
        return status;
    }
    op->kind = OP_SPLIT;
    if (type_is(value, "Split")) {
        return read_split(t, value, op, error);
    }
    if (type_is(value, "ByteLevel")) {
        return read_byte_level(value, op, error);
    }
    if (type_is(value, "Metaspace")) {
        return read_metaspace(t, value, op, error);
    }
    if (type_is(value, "Digits")) {
        bool single = false;
        status = read_flag(value, "individual_digits", "Digits", false, &single, error);
        op->splitter = splitter_named(single ? "digit" : "digits");
        return status;
    }
    if (type_is(value, "Punctuation")) {
        op->splitter = splitter_named("punctuation");
        const json_t *behavior = json_object_get(value, "behavior");
        return behavior ? read_behavior(behavior, &op->behavior, error) : MLXR_OK;
    }
    if (type_is(value, "WhitespaceSplit") || type_is(value, "BertPreTokenizer")) {
        op->splitter = splitter_named("space");
        op->behavior = SPLIT_REMOVED;
        if (type_is(value, "BertPreTokenizer")) {
            status = take_op(t->pre_tokenizers, &t->n_pre_tokenizers, "pre_tokenizer", &op, error);
            if (status == MLXR_OK) {
                op->kind = OP_SPLIT;
                op->splitter = splitter_named("punctuation");
            }
        }
        return status;
    }
    if (type_is(value, "Whitespace")) {
        op->splitter = splitter_named("words");
        op->behavior = SPLIT_REMOVED;
        op->invert = true;
        return MLXR_OK;
    }
    if (type_is(value, "CharDelimiterSplit") || type_is(value, "Delimiter")) {
        op->behavior = SPLIT_REMOVED;
        status = keep_text(t, json_object_get(value, "delimiter"), "CharDelimiterSplit", "delimiter", &op->literal,
                           error);
        return status == MLXR_OK && op->literal.n == 0 ? malformed("CharDelimiterSplit", "delimiter", error) : status;
    }
    if (type_is(value, "FixedLength")) {
        const json_t *length = json_object_get(value, "length");
        json_int_t n = length ? json_integer_value(length) : 5;
        op->kind = OP_FIXED_LENGTH;
        op->length = (uint32_t)n;
        return n > 0 && n < INT32_MAX ? MLXR_OK : malformed("FixedLength", "length", error);
    }
    return unsupported("pre_tokenizer", value, error);
}

mlxr_status json_open_pre_tokenizer(tokenizer *t, const json_t *value, mlxr_error *error)
{
    if (!value || json_is_null(value)) {
        return MLXR_OK;
    }
    mlxr_status status = make_ops(t, &t->pre_tokenizers, error);
    if (status == MLXR_OK) {
        status = walk(t, value, "pre_tokenizer", "pretokenizers", pre_tokenizer_leaf, NULL, error);
    }
    uint32_t n_byte_level = 0;
    for (uint32_t i = 0; status == MLXR_OK && i < t->n_pre_tokenizers; i++) {
        text_op *op = &t->pre_tokenizers[i];
        if (op->kind != OP_BYTE_LEVEL) {
            continue;
        }
        if (++n_byte_level > 1 || t->from_alphabet) {
            return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: more than one ByteLevel is not supported");
        }
        if (i + 1 < t->n_pre_tokenizers) { /* what follows works on GPT-2's alphabet */
            op->flags |= OP_TO_ALPHABET;
            t->from_alphabet = true;
        }
    }
    return status;
}

/* ---- what decodes to what ---- */

static mlxr_status add_replacement(piece_rules *rules, token_text from, token_text to, mlxr_error *error)
{
    if (rules->n_replacements == sizeof rules->from / sizeof *rules->from) {
        return error_set(error, MLXR_LIMIT, "tokenizer.json: decoder with more than %u replacements",
                         rules->n_replacements);
    }
    rules->from[rules->n_replacements] = from;
    rules->to[rules->n_replacements++] = to;
    return MLXR_OK;
}

static mlxr_status decoder_leaf(tokenizer *t, const json_t *value, void *context, mlxr_error *error)
{
    piece_rules *rules = context;
    token_text from = {0}, to = {0};
    if (type_is(value, "ByteLevel")) {
        rules->byte_level = true;
        return MLXR_OK;
    }
    if (type_is(value, "ByteFallback")) {
        rules->byte_fallback = true;
        return MLXR_OK;
    }
    if (type_is(value, "Fuse")) {
        return MLXR_OK;
    }
    if (type_is(value, "Replace")) {
        const json_t *choice = json_object_get(json_object_get(value, "pattern"), "String");
        if (!choice) {
            return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: decoder Replace with a regular expression");
        }
        mlxr_status status = keep_text(t, choice, "decoder Replace", "pattern", &from, error);
        if (status == MLXR_OK) {
            status = keep_text(t, json_object_get(value, "content"), "decoder Replace", "content", &to, error);
        }
        return status == MLXR_OK && from.n ? add_replacement(rules, from, to, error) : status;
    }
    if (type_is(value, "Metaspace")) {
        unsigned flags;
        mlxr_status status = read_scheme(value, &flags, error);
        if (status == MLXR_OK) {
            status = keep_text(t, json_object_get(value, "replacement"), "decoder Metaspace", "replacement", &from,
                               error);
        }
        rules->strip_first = rules->strip_first || (status == MLXR_OK && flags);
        return status == MLXR_OK && from.n ? add_replacement(rules, from, (token_text){" ", 1}, error) : status;
    }
    if (type_is(value, "Strip")) {
        const char *content = json_string_value(json_object_get(value, "content"));
        json_int_t start = json_integer_value(json_object_get(value, "start"));
        json_int_t stop = json_integer_value(json_object_get(value, "stop"));
        if (!content || strcmp(content, " ") != 0 || start > 1 || stop != 0) {
            return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: decoder Strip of other than one leading space");
        }
        rules->strip_first = rules->strip_first || start == 1;
        return MLXR_OK;
    }
    if (type_is(value, "WordPiece")) {
        rules->has_word_prefix = true;
        rules->strip_first = true;
        return keep_text(t, json_object_get(value, "prefix"), "decoder WordPiece", "prefix", &rules->word_prefix,
                         error);
    }
    if (type_is(value, "BPEDecoder")) {
        return keep_text(t, json_object_get(value, "suffix"), "BPEDecoder", "suffix", &rules->suffix, error);
    }
    return unsupported("decoder", value, error);
}

mlxr_status json_read_decoder(tokenizer *t, const json_t *value, piece_rules *rules, mlxr_error *error)
{
    *rules = (piece_rules){0};
    if (!value || json_is_null(value)) { /* tokens are joined by spaces */
        rules->has_word_prefix = true;
        rules->strip_first = true;
        return MLXR_OK;
    }
    return walk(t, value, "decoder", "decoders", decoder_leaf, rules, error);
}

/* ---- what is added round a text ---- */

static mlxr_status check_fixed(const tokenizer *t, json_int_t id, int32_t *out, mlxr_error *error)
{
    if (id < 0 || id >= t->n_tokens) {
        return error_set(error, MLXR_FORMAT,
                         "tokenizer.json: post_processor: token %lld is outside the vocabulary of %u", (long long)id,
                         t->n_tokens);
    }
    *out = (int32_t)id;
    return MLXR_OK;
}

/* Puts ids outside of what is there already. */
static mlxr_status wrap(tokenizer *t, const int32_t *before, uint32_t n_before, const int32_t *after, uint32_t n_after,
                        mlxr_error *error)
{
    if (t->n_prefix_ids + n_before > FIXED_IDS_MAX || t->n_suffix_ids + n_after > FIXED_IDS_MAX) {
        return error_set(error, MLXR_LIMIT, "tokenizer.json: post_processor adds more than %u tokens on a side",
                         FIXED_IDS_MAX);
    }
    memmove(t->prefix_ids + n_before, t->prefix_ids, t->n_prefix_ids * sizeof *t->prefix_ids);
    memcpy(t->prefix_ids, before, n_before * sizeof *before);
    t->n_prefix_ids += n_before;
    memcpy(t->suffix_ids + t->n_suffix_ids, after, n_after * sizeof *after);
    t->n_suffix_ids += n_after;
    return MLXR_OK;
}

static mlxr_status read_template(tokenizer *t, const json_t *value, mlxr_error *error)
{
    const json_t *single = json_object_get(value, "single"), *tokens = json_object_get(value, "special_tokens");
    int32_t sides[2][FIXED_IDS_MAX];
    uint32_t counts[2] = {0, 0}, side = 0;
    if (!json_is_array(single)) {
        return malformed("TemplateProcessing", "single", error);
    }
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        if (json_object_get(piece, "Sequence")) {
            if (side) {
                return error_set(error, MLXR_UNSUPPORTED, "tokenizer.json: TemplateProcessing with the text twice");
            }
            side = 1;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
        if (!json_is_array(ids)) {
            return malformed("TemplateProcessing", "special_tokens", error);
        }
        for (size_t k = 0; k < json_array_size(ids); k++) {
            const json_t *id = json_array_get(ids, k);
            if (counts[side] == FIXED_IDS_MAX || !json_is_integer(id)) {
                return malformed("TemplateProcessing", "ids", error);
            }
            mlxr_status status = check_fixed(t, json_integer_value(id), &sides[side][counts[side]], error);
            if (status != MLXR_OK) {
                return status;
            }
            counts[side]++;
        }
    }
    if (!side) {
        return malformed("TemplateProcessing", "Sequence", error);
    }
    return wrap(t, sides[0], counts[0], sides[1], counts[1], error);
}

static mlxr_status processor_leaf(tokenizer *t, const json_t *value, void *context, mlxr_error *error)
{
    (void)context;
    if (type_is(value, "ByteLevel")) {
        return MLXR_OK; /* offsets only */
    }
    if (type_is(value, "TemplateProcessing")) {
        return read_template(t, value, error);
    }
    if (type_is(value, "BertProcessing") || type_is(value, "RobertaProcessing")) {
        const json_t *cls = json_array_get(json_object_get(value, "cls"), 1);
        const json_t *sep = json_array_get(json_object_get(value, "sep"), 1);
        int32_t before = 0, after = 0;
        if (!json_is_integer(cls) || !json_is_integer(sep)) {
            return malformed("post_processor", json_is_integer(cls) ? "sep" : "cls", error);
        }
        mlxr_status status = check_fixed(t, json_integer_value(cls), &before, error);
        if (status == MLXR_OK) {
            status = check_fixed(t, json_integer_value(sep), &after, error);
        }
        return status == MLXR_OK ? wrap(t, &before, 1, &after, 1, error) : status;
    }
    return unsupported("post_processor", value, error);
}

mlxr_status json_open_post_processor(tokenizer *t, const json_t *value, mlxr_error *error)
{
    if (!value || json_is_null(value)) {
        return MLXR_OK;
    }
    return walk(t, value, "post_processor", "processors", processor_leaf, NULL, error);
}

bool json_has_byte_level(const json_t *value)
{
    if (type_is(value, "ByteLevel")) {
        return true;
    }
    const json_t *items = json_object_get(value, "pretokenizers");
    items = items ? items : json_object_get(value, "normalizers");
    for (size_t i = 0; i < json_array_size(items); i++) {
        if (type_is(json_array_get(items, i), "ByteLevel")) {
            return true;
        }
    }
    return false;
}
