/*
 * Opening a SentencePiece BPE vocabulary (GGUF's model "llama"): spaces for U+2581, byte tokens, safe cuts.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include "base/error.h"
#include "text/tokenizer_parts.h"

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* <0x0A>: 10; −1 for what is not of this form. */
static int byte_token_value(token_text text)
{
    if (text.n != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') {
        return -1;
    }
    int high = hex_value(text.data[3]), low = hex_value(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Copies a text with spaces for U+2581; the length. */
static size_t copy_unescaped(char *out, token_text text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        if (text.n - i >= 3 && memcmp(text.data + i, "\xe2\x96\x81", 3) == 0) {
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
        char *out = t->texts.bytes + used;
        int byte = t->types[id] == TOKEN_BYTE || !source->types ? byte_token_value(text) : -1;
        if (byte >= 0) {
            t->types[id] = TOKEN_BYTE;
            t->byte_ids[byte] = (int32_t)id;
            *out = (char)byte;
            used++;
        } else if (t->types[id] == TOKEN_BYTE) {
            return error_set(error, MLXR_FORMAT, "tokenizer: byte token %u is \"%.*s\", expected the form <0x0A>", id,
                             (int)(text.n < 32 ? text.n : 32), text.data);
        } else if (t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN) {
            memcpy(out, text.data, text.n);
            used += (uint32_t)text.n;
        } else {
            used += (uint32_t)copy_unescaped(out, text);
        }
        t->texts.offsets[id + 1] = used;
    }
    t->texts.n = t->n_tokens;
    t->pieces = t->texts;
    return MLXR_OK;
}

static mlxr_status open_index(tokenizer *t, mlxr_error *error)
{
    mlxr_status status = text_map_make(&t->map, &t->memory, t->n_tokens, error);
    uint64_t control_bytes = 0, user_bytes = 0;
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        token_text text = text_table_get(&t->texts, id);
        uint8_t type = t->types[id];
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN) {
            control_bytes += text.n;
        } else if (type != TOKEN_BYTE) {
            user_bytes += type == TOKEN_USER_DEFINED ? text.n : 0;
            bpe_note_joins(t, text);
            status = text_map_add(&t->map, &t->texts, id, NULL, error);
        }
    }
    if (status == MLXR_OK) {
        status = added_set_make(&t->raw, &t->memory, control_bytes, error);
    }
    if (status == MLXR_OK) {
        status = added_set_make(&t->normalized, &t->memory, user_bytes, error);
    }
    for (uint32_t id = 0; status == MLXR_OK && id < t->n_tokens; id++) {
        uint8_t type = t->types[id];
        token_text text = text_table_get(&t->texts, id);
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN) {
            status = added_set_add(&t->raw, text, (int32_t)id, ADDED_SPECIAL, error);
        } else if (type == TOKEN_USER_DEFINED) {
            status = added_set_add(&t->normalized, text, (int32_t)id, 0, error);
        }
    }
    return status;
}

mlxr_status spm_open(tokenizer *t, const tokenizer_source *source, mlxr_error *error)
{
    if (!source->scores) {
        return error_set(error, MLXR_FORMAT, "tokenizer: a SentencePiece vocabulary needs scores");
    }
    t->merge_by_text = true;
    t->fuse_unknown = true;
    t->space_prefix = source->add_space_prefix;
    t->space_prefix_after_added = source->add_space_prefix;
    t->trim_spaces = source->remove_extra_whitespaces;
    t->escape_spaces = true;
    t->strip_first_space = source->add_space_prefix;
    mlxr_status status = open_texts(t, source, error);
    return status == MLXR_OK ? open_index(t, error) : status;
}
