/*
 * Opening a byte-level BPE vocabulary: tokens out of GPT-2's printable alphabet into bytes, merges into pairs of ids.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"

/* Letters of GPT-2's alphabet are code points below this. */
#define ALPHABET_END 0x144u

/* byte + 1 for each letter of the alphabet, 0: not a letter. Bytes that print stand for themselves, the others follow
 * from U+0100 on in their order. */
static void alphabet_fill(uint16_t *byte1)
{
    uint32_t next = 0x100;
    memset(byte1, 0, ALPHABET_END * sizeof *byte1);
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
        byte1[prints ? byte : next++] = (uint16_t)(byte + 1);
    }
}

/* Translates text out of the alphabet to out[0..text.n); the length, or SIZE_MAX if a character is not of it. */
static size_t alphabet_decode(const uint16_t *byte1, token_text text, char *out)
{
    size_t n = 0;
    for (size_t i = 0, length; i < text.n; i += length) {
        unsigned char lead = (unsigned char)text.data[i];
        uint32_t code = lead;
        length = lead < 0x80 ? 1 : utf8_decode(text.data + i, text.n - i, &code);
        if (length == 0 || code >= ALPHABET_END || byte1[code] == 0) {
            return SIZE_MAX;
        }
        out[n++] = (char)(byte1[code] - 1);
    }
    return n;
}

static mlxr_status open_texts(tokenizer *t, const tokenizer_source *source, const uint16_t *byte1, mlxr_error *error)
{
    uint64_t n_bytes = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        n_bytes += source->tokens[id].n;
    }
    mlxr_status status = text_table_make(&t->texts, &t->memory, t->n_tokens, n_bytes, error);
    if (status != MLXR_OK) {
        return status;
    }
    uint32_t used = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        token_text text = source->tokens[id];
        size_t n = SIZE_MAX;
        if (t->types[id] == TOKEN_NORMAL || t->types[id] == TOKEN_UNUSED || t->types[id] == TOKEN_BYTE) {
            n = alphabet_decode(byte1, text, t->texts.bytes + used);
        }
        if (n == SIZE_MAX) { /* a control or user-defined token is literal, and so is what the alphabet does not know */
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
    uint64_t added_bytes = 0;
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        if (t->types[id] == TOKEN_NORMAL || t->types[id] == TOKEN_BYTE) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
        } else if (t->types[id] != TOKEN_UNUSED) {
            added_bytes += text_table_get(&t->texts, id).n;
        }
    }
    if (status == MLXR_OK) {
        status = added_set_make(&t->raw, &t->memory, added_bytes, error);
    }
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        uint8_t type = t->types[id];
        if (type == TOKEN_USER_DEFINED) {
            status = text_map_add(&t->map, &t->texts, id, NULL, error); /* some are products of merges as well */
        }
        if (status == MLXR_OK && (type == TOKEN_USER_DEFINED || type == TOKEN_CONTROL || type == TOKEN_UNKNOWN)) {
            status = added_set_add(&t->raw, text_table_get(&t->texts, id), (int32_t)id,
                                   type == TOKEN_USER_DEFINED ? 0 : ADDED_SPECIAL, error);
        }
    }
    for (int byte = 0; status == MLXR_OK && byte < 256; byte++) {
        char text = (char)byte;
        t->byte_ids[byte] = text_map_find(&t->map, &t->texts, &text, 1);
    }
    return status;
}

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

/* One merge "left right". Vocabularies list products in the order of merges, so the id after the last product is the
 * first guess. */
static mlxr_status open_merge(tokenizer *t, const uint16_t *byte1, token_text merge, uint32_t rank, char *text,
                              uint32_t *guess, mlxr_error *error)
{
    const char *space = merge.n > 1 ? memchr(merge.data + 1, ' ', merge.n - 1) : NULL;
    if (!space) {
        return error_set(error, MLXR_FORMAT, "tokenizer: merge %u, \"%.*s\", is not two texts with a space between",
                         rank, (int)(merge.n < 64 ? merge.n : 64), merge.data);
    }
    token_text parts[2] = {{merge.data, (size_t)(space - merge.data)},
                           {space + 1, (size_t)(merge.data + merge.n - space - 1)}};
    size_t lengths[2], n = 0;
    for (int i = 0; i < 2; i++) {
        lengths[i] = alphabet_decode(byte1, parts[i], text + n);
        if (lengths[i] == SIZE_MAX) {
            memcpy(text + n, parts[i].data, parts[i].n);
            lengths[i] = parts[i].n;
        }
        n += lengths[i];
    }
    int32_t left, right, product;
    mlxr_status status = merge_part(t, text, lengths[0], rank, "left side", &left, error);
    if (status == MLXR_OK) {
        status = merge_part(t, text + lengths[0], lengths[1], rank, "right side", &right, error);
    }
    if (status != MLXR_OK) {
        return status;
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
    return pair_map_add(&t->pairs, (uint32_t)left, (uint32_t)right, rank, (uint32_t)product, error);
}

static mlxr_status open_merges(tokenizer *t, const tokenizer_source *source, const uint16_t *byte1, mlxr_error *error)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < source->n_merges; i++) {
        longest = source->merges[i].n > longest ? source->merges[i].n : longest;
    }
    char *text = malloc(longest + 1);
    if (!text) {
        return error_nomem(error, "tokenizer merges", longest + 1);
    }
    mlxr_status status = pair_map_make(&t->pairs, &t->memory, source->n_merges, error);
    uint32_t guess = 0;
    for (uint32_t i = 0; status == MLXR_OK && i < source->n_merges; i++) {
        status = open_merge(t, byte1, source->merges[i], i, text, &guess, error);
    }
    free(text);
    return status;
}

mlxr_status bpe_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    const char *pre = source->pre ? source->pre : "default";
    const pre_recipe *recipe = pre_recipe_named(pre);
    if (!recipe) {
        char names[360];
        pre_recipe_names(names, sizeof names);
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer: pre-tokenizer \"%.60s\" is not known; known: %s", pre,
                         names);
    }
    while (t->n_steps < SPLIT_STEPS_MAX && recipe->steps[t->n_steps]) {
        t->steps[t->n_steps] = splitter_named(recipe->steps[t->n_steps]);
        t->n_steps++;
    }
    t->ignore_merges = recipe->ignore_merges;
    t->byte_level = true;
    t->unk = -1; /* every byte is a token; as in the reference, a byte that is not gives nothing */
    uint16_t byte1[ALPHABET_END];
    alphabet_fill(byte1);
    mlxr_status status = open_texts(t, source, byte1, error);
    if (status == MLXR_OK) {
        status = open_index(t, error);
    }
    return status == MLXR_OK ? open_merges(t, source, byte1, error) : status;
}
