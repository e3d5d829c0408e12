/*
 * Opening a byte-level BPE vocabulary: tokens out of GPT-2's printable alphabet into bytes, merges into pairs of ids.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"

/* Letters of GPT-2's alphabet are code points below this. Bytes that print stand for themselves, the other 68 follow
 * from U+0100 on in their order: 0–32, 127–160, 173. */
#define ALPHABET_END 0x144u

/* The byte a letter stands for, −1 for what is no letter. */
static int letter_byte(uint32_t code)
{
    if (code < 0x100) {
        return (code > 0x20 && code < 0x7f) || (code > 0xa0 && code != 0xad) ? (int)code : -1;
    }
    uint32_t index = code - 0x100;
    return code >= ALPHABET_END ? -1 : index < 33 ? (int)index : index < 67 ? (int)(index - 33 + 127) : 173;
}

size_t alphabet_decode(token_text text, char *out)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        if (p[i] > 0x20 && p[i] < 0x7f) {
            out[n++] = (char)p[i++];
            continue;
        }
        /* All other letters have two bytes: U+00A1 to U+0143. */
        bool two = p[i] >= 0xc2 && p[i] <= 0xc5 && text.n - i > 1 && (p[i + 1] & 0xc0) == 0x80;
        int byte = two ? letter_byte((uint32_t)(p[i] & 0x1f) << 6 | (p[i + 1] & 0x3f)) : -1;
        if (byte < 0) {
            return SIZE_MAX;
        }
        out[n++] = (char)byte;
        i += 2;
    }
    return n;
}

size_t alphabet_encode(const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t byte = (unsigned char)bytes[i];
        uint32_t code = byte <= 32 ? 0x100 + byte : byte >= 127 && byte <= 160 ? 0x100 + 33 + byte - 127 : byte;
        code = byte == 173 ? 0x143 : code;
        used += utf8_encode(code, out + used);
    }
    return used;
}

static mlxr_status open_texts(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    uint64_t n_bytes = texts_bytes(source->tokens, t->n_tokens);
    mlxr_status status = text_table_make(&t->texts, &t->memory, t->n_tokens, n_bytes, error);
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t used = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        token_text text = source->tokens[id];
        uint8_t type = t->types[id];
        size_t n = SIZE_MAX;
        if (t->byte_level && (type == TOKEN_NORMAL || type == TOKEN_UNUSED || type == TOKEN_BYTE)) {
            n = alphabet_decode(text, t->texts.bytes + used);
            t->types[id] = n == SIZE_MAX ? TOKEN_UNUSED : type; /* no text of the alphabet: nothing can lead to it */
        }
        if (n == SIZE_MAX) { /* control and user-defined tokens are literal */
            memcpy(t->texts.bytes + used, text.data, text.n);
            n = text.n;
        }
        used += (uint32_t)n;
        t->texts.offsets[id + 1] = used;
    }
    t->texts.n = t->n_tokens;
    t->pieces = t->texts;
    return MLXR_OK;
}

static mlxr_status open_index(tokenizer *t, mlxr_error *error)
{
    mlxr_status status = text_map_make(&t->map, &t->memory, t->n_tokens, error);
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        if (t->types[id] == TOKEN_NORMAL || t->types[id] == TOKEN_BYTE) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
        }
    }
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        if (t->types[id] == TOKEN_USER_DEFINED && text_table_get(&t->texts, id).n) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error); /* some are products of merges as well */
        }
    }
    for (int byte = 0; status == MLXR_OK && t->byte_level && byte < 256; byte++) {
        char text = (char)byte;
        t->byte_ids[byte] = text_map_find(&t->map, &t->texts, &text, 1);
    }
    return status;
}

mlxr_status added_open(tokenizer *t, bool user_defined, mlxr_error *error)
{
    uint64_t n_bytes = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        uint8_t type = t->types[id];
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || (user_defined && type == TOKEN_USER_DEFINED)) {
            n_bytes += text_table_get(&t->texts, id).n;
        }
    }
    mlxr_status status = added_set_make(&t->raw, &t->memory, n_bytes, error);
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        uint8_t type = t->types[id];
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || (user_defined && type == TOKEN_USER_DEFINED)) {
            status = added_set_add(&t->raw, text_table_get(&t->texts, id), (int32_t)id,
                                   type == TOKEN_USER_DEFINED ? 0 : ADDED_SPECIAL, error);
        }
    }
    return status;
}

/* ---- merges ---- */

/* The id of a merge's left, right or whole text. */
static mlxr_status merge_part(const tokenizer *t, const char *text, size_t n, uint32_t rank, const char *which,
                              int32_t *id, mlxr_error *error)
{
    *id = text_map_find(&t->map, &t->texts, text, n);
    if (*id < 0) {
        return error_set(error, MLXR_FORMAT, "tokenizer: the %s of merge %u, \"%.*s\", is not in the vocabulary", which,
                         rank, (int)(n < 64 ? n : 64), text);
    }
    return MLXR_OK;
}

/* The bytes a side of a merge stands for; out has room for text.n. */
static size_t side_text(const tokenizer *t, token_text text, char *out)
{
    size_t n = t->byte_level ? alphabet_decode(text, out) : SIZE_MAX;
    if (n == SIZE_MAX) {
        memcpy(out, text.data, text.n);
        n = text.n;
    }
    return n;
}

/* Vocabularies list products in the order of merges, so the id after the last product is the first guess. */
static mlxr_status open_merge(tokenizer *t, const merge_text *merge, uint32_t rank, char *text, uint32_t *guess,
                              mlxr_error *error)
{
    size_t n_left = side_text(t, merge->left, text);
    size_t n = n_left + side_text(t, merge->right, text + n_left);
    int32_t left, right, product;
    mlxr_status status = merge_part(t, text, n_left, rank, "left side", &left, error);
    if (status == MLXR_OK) {
        status = merge_part(t, text + n_left, n - n_left, rank, "right side", &right, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    size_t skip = t->subword_prefix.n; /* of the right side, if it has the mark */
    if (skip && n - n_left >= skip) {
        memmove(text + n_left, text + n_left + skip, n - n_left - skip);
        n -= skip;
    }
    token_text guessed = *guess < t->n_tokens ? text_table_get(&t->texts, *guess) : (token_text){0};
    if (guessed.n == n && memcmp(guessed.data, text, n) == 0 && t->types[*guess] == TOKEN_NORMAL) {
        product = (int32_t)*guess;
    } else {
        if (added_set_id(&t->raw, (token_text){text, n}) >= 0 && text_map_find(&t->map, &t->texts, text, n) < 0) {
            return MLXR_OK; /* plain text must not become a control token */
        }
        if ((status = merge_part(t, text, n, rank, "product", &product, error)) != MLXR_OK) {
            return status;
        }
    }
    *guess = (uint32_t)product + 1;
    if (t->n_pre_tokenizers == 0) { /* else words are short */
        bpe_note_joins(t, (token_text){text, n});
    }
    return pair_map_add(&t->pairs, (uint32_t)left, (uint32_t)right, rank, (uint32_t)product, error);
}

mlxr_status bpe_open_merges(tokenizer *t, const merge_text *merges, uint32_t n_merges, mlxr_error *error)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < n_merges; i++) {
        size_t n = merges[i].left.n + merges[i].right.n;
        longest = n > longest ? n : longest;
    }
    char *text = malloc(longest + 1);
    if (!text) {
        return error_nomem(error, "tokenizer merges", longest + 1);
    }
    mlxr_status status = pair_map_make(&t->pairs, &t->memory, n_merges, error);
    uint32_t guess = 0;
    for (uint32_t i = 0; status == MLXR_OK && i < n_merges; i++) {
        status = open_merge(t, &merges[i], i, text, &guess, error);
    }
    free(text);
    return status;
}

/* Splits "left right". */
static mlxr_status split_merges(const tokenizer_source *source, merge_text *merges, mlxr_error *error)
{
    for (uint32_t i = 0; i < source->n_merges; i++) {
        token_text merge = source->merges[i];
        const char *space = merge.n > 1 ? memchr(merge.data + 1, ' ', merge.n - 1) : NULL;
        if (!space) {
            return error_set(error, MLXR_FORMAT, "tokenizer: merge %u, \"%.*s\", is not two texts with a space between",
                             i, (int)(merge.n < 64 ? merge.n : 64), merge.data);
        }
        merges[i].left = (token_text){merge.data, (size_t)(space - merge.data)};
        merges[i].right = (token_text){space + 1, (size_t)(merge.data + merge.n - space - 1)};
    }
    return MLXR_OK;
}

/* ---- opening ---- */

mlxr_status bpe_open_vocabulary(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    mlxr_status status = open_texts(t, source, error);
    return status == MLXR_OK ? open_index(t, error) : status;
}

static mlxr_status open_step(tokenizer *t, const char *step, mlxr_error *error)
{
    text_op *op = &t->pre_tokenizers[t->n_pre_tokenizers++];
    op->kind = OP_SPLIT;
    if (strcmp(step, "alphabet") == 0) {
        op->kind = OP_BYTE_LEVEL;
        op->flags = OP_TO_ALPHABET;
        t->from_alphabet = true;
    } else if (strncmp(step, "re:", 3) == 0) {
        return pattern_open(&op->pattern, step + 3, strlen(step + 3), error);
    } else {
        op->splitter = splitter_named(step);
    }
    return MLXR_OK;
}

static mlxr_status open_recipe(tokenizer *t, const char *pre, mlxr_error *error)
{
    const pre_recipe *recipe = pre_recipe_named(pre);
    if (!recipe) {
        char names[360];
        pre_recipe_names(names, sizeof names);
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer: pre-tokenizer \"%.60s\" is not known; known: %s", pre,
                         names);
    }
    t->pre_tokenizers = region_array(&t->memory, SPLIT_STEPS_MAX, sizeof *t->pre_tokenizers);
    if (!t->pre_tokenizers) {
        return error_nomem(error, "pre-tokenizers", SPLIT_STEPS_MAX * sizeof *t->pre_tokenizers);
    }
    mlxr_status status = MLXR_OK;
    for (uint32_t i = 0; status == MLXR_OK && i < SPLIT_STEPS_MAX && recipe->steps[i]; i++) {
        status = open_step(t, recipe->steps[i], error);
    }
    t->ignore_merges = recipe->ignore_merges;
    return status;
}

/* Gemma 4: characters instead of bytes, U+2581 for spaces, bytes only for what is not in the vocabulary. */
static mlxr_status open_marked(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    t->normalizers = region_array(&t->memory, 1, sizeof *t->normalizers);
    if (!t->normalizers) {
        return error_nomem(error, "normalisers", sizeof *t->normalizers);
    }
    t->normalizers[t->n_normalizers++] = (text_op){
        .kind = OP_REPLACE, .literal = {" ", 1}, .content = {SPACE_MARK, strlen(SPACE_MARK)}};
    t->unk = source->unk;
    t->fuse_unknown = true;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        int byte = t->types[id] == TOKEN_BYTE ? byte_token_value(source->tokens[id]) : -1;
        if (byte >= 0) {
            t->byte_ids[byte] = (int32_t)id;
        }
    }
    return MLXR_OK;
}

/* The texts of open_marked as they decode: spaces for U+2581, byte tokens as bytes. */
static mlxr_status open_marked_pieces(tokenizer *t, mlxr_error *error)
{
    mlxr_status status = text_table_make(&t->pieces, &t->memory, t->n_tokens, t->texts.offsets[t->n_tokens], error);
    uint32_t used = 0;
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        token_text text = text_table_get(&t->texts, id);
        int byte = t->types[id] == TOKEN_BYTE ? byte_token_value(text) : -1;
        bool literal = t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN;
        for (size_t i = 0; byte < 0 && i < text.n; i++) {
            bool mark = !literal && text.n - i >= 3 && memcmp(text.data + i, SPACE_MARK, 3) == 0;
            t->pieces.bytes[used++] = mark ? ' ' : text.data[i];
            i += mark ? 2 : 0;
        }
        if (byte >= 0) {
            t->pieces.bytes[used++] = (char)byte;
        }
        t->pieces.offsets[id + 1] = used;
    }
    t->pieces.n = t->n_tokens;
    return status;
}

mlxr_status bpe_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    bool marked = source->pre && strcmp(source->pre, "gemma4") == 0;
    t->byte_level = !marked;
    t->unk = -1; /* every byte is a token; as in the reference, a byte that is not gives nothing */
    mlxr_status status = open_recipe(t, source->pre ? source->pre : "default", error);
    if (status == MLXR_OK && marked) {
        status = open_marked(t, source, error);
    }
    if (status == MLXR_OK) {
        status = bpe_open_vocabulary(t, source, error);
    }
    if (status == MLXR_OK && marked) {
        status = open_marked_pieces(t, error);
    }
    if (status == MLXR_OK) {
        status = added_open(t, true, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    size_t n_bytes = ((size_t)source->n_merges + 1) * sizeof(merge_text);
    merge_text *merges = malloc(n_bytes);
    if (!merges) {
        return error_nomem(error, "tokenizer merges", n_bytes);
    }
    status = split_merges(source, merges, error);
    if (status == MLXR_OK) {
        status = bpe_open_merges(t, merges, source->n_merges, error);
    }
    free(merges);
    return status;
}
