/*
 * Opening a SentencePiece vocabulary, BPE or unigram: spaces for U+2581, byte tokens, symbols, normalisation.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include "base/error.h"
#include "text/tokenizer_parts.h"

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int byte_token_value(token_text text)
{
    if (text.n != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') {
        return -1;
    }
    int high = hex_value(text.data[3]), low = hex_value(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Copies a text with spaces for U+2581; the length. */
static size_t copy_unmarked(char *out, token_text text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        if (text.n - i >= 3 && memcmp(text.data + i, SPACE_MARK, 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text.data[i++];
        }
    }
    return n;
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
        char *out = t->texts.bytes + used;
        uint8_t type = t->types[id];
        int byte = type == TOKEN_BYTE || !source->types ? byte_token_value(text) : -1;
        if (byte >= 0) {
            t->types[id] = TOKEN_BYTE;
            t->byte_ids[byte] = (int32_t)id;
            *out = (char)byte;
            used++;
        } else if (type == TOKEN_BYTE) {
            return error_set(error, MLXR_FORMAT, "tokenizer: byte token %u is \"%.*s\", expected the form <0x0A>", id,
                             (int)(text.n < 32 ? text.n : 32), text.data);
        } else if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN) {
            memcpy(out, text.data, text.n);
            used += (uint32_t)text.n;
        } else {
            used += (uint32_t)copy_unmarked(out, text);
        }
        t->texts.offsets[id + 1] = used;
    }
    t->texts.n = t->n_tokens;
    t->pieces = t->texts;
    return MLXR_OK;
}

/* A tokenizer.model writes U+2581 for every space that can be in normalised text, so a piece with a plain one is never
 * met; GGUF writes user-defined symbols with plain spaces. */
static bool matchable(const tokenizer *t, token_text written)
{
    return t->plain_spaces || !memchr(written.data, ' ', written.n);
}

/* User-defined symbols: found in normalised text (BPE; in a unigram model they compete like all tokens), and left
 * alone by the normalisation. */
static mlxr_status open_symbols(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    uint64_t n_bytes = 0, n_verbatim = 0;
    bool rewrites = t->charsmap.n_units || t->trim_spaces;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        if (t->types[id] == TOKEN_USER_DEFINED) {
            n_bytes += text_table_get(&t->texts, id).n;
            n_verbatim += source->tokens[id].n;
        }
    }
    mlxr_status status = MLXR_OK;
    if (t->kind == TOKENIZER_SPM) {
        status = added_set_make(&t->normalized, &t->memory, n_bytes, error);
    }
    if (status == MLXR_OK && rewrites) {
        status = added_set_make(&t->verbatim, &t->memory, n_verbatim, error);
    }
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        if (t->types[id] != TOKEN_USER_DEFINED) {
            continue;
        }
        if (t->kind == TOKENIZER_SPM && matchable(t, source->tokens[id])) {
            status = added_set_add(&t->normalized, text_table_get(&t->texts, id), (int32_t)id, 0, error);
        }
        if (status == MLXR_OK && rewrites) {
            status = added_set_add(&t->verbatim, source->tokens[id], (int32_t)id, 0, error);
        }
    }
    return status;
}

static mlxr_status open_index(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    mlxr_status status = text_map_make(&t->map, &t->memory, t->n_tokens, error);
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        token_text text = text_table_get(&t->texts, id);
        uint8_t type = t->types[id];
        if (text.n && type != TOKEN_CONTROL && type != TOKEN_UNKNOWN && type != TOKEN_BYTE &&
            matchable(t, source->tokens[id])) {
            bpe_note_joins(t, text);
            t->has_unused = t->has_unused || type == TOKEN_UNUSED;
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
        }
    }
    return status;
}

mlxr_status spm_open(tokenizer *t, const tokenizer_source *source, bool plain_spaces, mlxr_error *error)
{
    t->plain_spaces = plain_spaces;
    if (!source->scores) {
        return error_set(error, MLXR_FORMAT, "tokenizer: a SentencePiece vocabulary needs scores");
    }
    t->merge_by_text = true;
    t->fuse_unknown = true;
    t->single_precision = true;
    t->space_prefix = source->add_space_prefix;
    t->space_prefix_after_added = source->add_space_prefix;
    t->trim_spaces = source->remove_extra_whitespaces;
    t->strip_first_space = source->add_space_prefix;
    t->normalizers = region_array(&t->memory, 1, sizeof *t->normalizers);
    if (!t->normalizers) {
        return error_nomem(error, "normalisers", sizeof *t->normalizers);
    }
    t->normalizers[t->n_normalizers++].kind = OP_SENTENCEPIECE;
    mlxr_status status = charsmap_open(&t->charsmap, &t->memory, source->charsmap, source->n_charsmap, error);
    if (status == MLXR_OK) {
        status = open_texts(t, source, error);
    }
    if (status == MLXR_OK) {
        status = open_index(t, source, error);
    }
    if (status == MLXR_OK) {
        status = added_open(t, false, error);
    }
    if (status == MLXR_OK) {
        status = open_symbols(t, source, error);
    }
    if (status != MLXR_OK || t->kind != TOKENIZER_UNIGRAM) {
        return status;
    }
    t->logprobs = region_alloc(&t->memory, t->n_tokens * sizeof *t->logprobs);
    if (!t->logprobs) {
        return error_nomem(error, "token scores", t->n_tokens * sizeof *t->logprobs);
    }
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        t->logprobs[id] = source->scores[id];
    }
    return unigram_open(t, source->tokens, t->n_tokens, error);
}
