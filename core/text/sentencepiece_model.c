/*
 * SentencePiece tokenizer.model: a bounded reader for the few protobuf fields that matter, and a source from them.
 * Owner: the tokenizer it opens. Lifetime: the call.
 */
#include <stdlib.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"

/* ---- protobuf ---- */

typedef struct proto_reader {
    const unsigned char *bytes;
    size_t n, at;
    const char *where;
    mlxr_error *error;
} proto_reader;

typedef struct proto_field {
    uint32_t number;
    uint32_t wire; /* 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes */
    uint64_t value;
    proto_reader inner; /* of wire 2 */
} proto_field;

static mlxr_status bad(const proto_reader *r, const char *what)
{
    return error_set(r->error, MLXR_FORMAT, "tokenizer.model: %s: %s at byte %zu of %zu", r->where, what, r->at, r->n);
}

static mlxr_status read_varint(proto_reader *r, uint64_t *value)
{
    *value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        if (r->at == r->n) {
            return bad(r, "cut off inside a number");
        }
        unsigned char byte = r->bytes[r->at++];
        if (shift == 63 && byte > 1) {
            break;
        }
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            return MLXR_OK;
        }
    }
    return bad(r, "a number of more than 64 bits");
}

static mlxr_status read_bytes(proto_reader *r, uint64_t n, const unsigned char **out)
{
    if (!checked_range(r->at, n, r->n)) {
        return error_set(r->error, MLXR_FORMAT, "tokenizer.model: %s: %llu bytes announced at byte %zu, %zu are left",
                         r->where, (unsigned long long)n, r->at, r->n - r->at);
    }
    *out = r->bytes + r->at;
    r->at += (size_t)n;
    return MLXR_OK;
}

/* The next field; at the end of the message *more is false. */
static mlxr_status read_field(proto_reader *r, proto_field *field, bool *more)
{
    uint64_t tag;
    const unsigned char *bytes = NULL;
    *more = r->at < r->n;
    if (!*more) {
        return MLXR_OK;
    }
    mlxr_status status = read_varint(r, &tag);
    if (status != MLXR_OK) {
        return status;
    }
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
        return bad(r, "no field has this number");
    }
    *field = (proto_field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
    switch (field->wire) {
    case 0:
        return read_varint(r, &field->value);
    case 1:
        status = read_bytes(r, 8, &bytes);
        field->value = status == MLXR_OK ? load_u64le(bytes) : 0;
        return status;
    case 5:
        status = read_bytes(r, 4, &bytes);
        field->value = status == MLXR_OK ? load_u32le(bytes) : 0;
        return status;
    case 2:
        status = read_varint(r, &field->value);
        if (status == MLXR_OK) {
            status = read_bytes(r, field->value, &bytes);
        }
        field->inner = (proto_reader){.bytes = bytes, .n = (size_t)field->value, .where = r->where, .error = r->error};
        return status;
    default:
        return bad(r, "a wire type that is not supported");
    }
}

static mlxr_status expect_wire(const proto_reader *r, const proto_field *field, uint32_t wire)
{
    return field->wire == wire
               ? MLXR_OK
               : error_set(r->error, MLXR_FORMAT, "tokenizer.model: %s: field %u has wire type %u, expected %u",
                           r->where, field->number, field->wire, wire);
}

/* ---- the model ---- */

enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct spm_model {
    token_text *pieces; /* [n] */
    float *scores;
    int32_t *types;
    uint32_t n;
    uint64_t model_type;
    bool byte_fallback, suffix;
    bool dummy_prefix, trim, escape;
    token_text names[4]; /* unk, bos, eos, pad */
    token_text charsmap;
} spm_model;

static token_text field_text(const proto_field *field)
{
    return (token_text){(const char *)field->inner.bytes, field->inner.n};
}

static mlxr_status read_piece(proto_reader *r, spm_model *m)
{
    proto_field field;
    bool more;
    mlxr_status status;
    uint32_t i = m->n++;
    m->types[i] = TOKEN_NORMAL;
    m->scores[i] = 0;
    m->pieces[i] = (token_text){"", 0};
    while ((status = read_field(r, &field, &more)) == MLXR_OK && more) {
        if (field.number == 1 && (status = expect_wire(r, &field, 2)) == MLXR_OK) {
            m->pieces[i] = field_text(&field);
        } else if (field.number == 2 && (status = expect_wire(r, &field, 5)) == MLXR_OK) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(&m->scores[i], &bits, sizeof bits);
        } else if (field.number == 3 && (status = expect_wire(r, &field, 0)) == MLXR_OK) {
            m->types[i] = field.value <= TOKEN_BYTE ? (int32_t)field.value : 0;
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    if (status == MLXR_OK && (m->pieces[i].n == 0 || m->types[i] == 0)) {
        return error_set(r->error, MLXR_FORMAT, "tokenizer.model: piece %u has no text or a type that is not known", i);
    }
    return status;
}

static mlxr_status read_trainer(proto_reader *r, spm_model *m)
{
    proto_field field;
    bool more;
    mlxr_status status;
    r->where = "trainer_spec";
    while ((status = read_field(r, &field, &more)) == MLXR_OK && more) {
        bool number = field.number == 3 || field.number == 24 || field.number == 35;
        bool text = field.number >= 45 && field.number <= 48;
        if (number || text) {
            status = expect_wire(r, &field, text ? 2 : 0);
        }
        if (status != MLXR_OK) {
            return status;
        }
        if (field.number == 3) {
            m->model_type = field.value;
        } else if (field.number == 24) {
            m->suffix = field.value != 0;
        } else if (field.number == 35) {
            m->byte_fallback = field.value != 0;
        } else if (text) {
            m->names[field.number - 45] = field_text(&field);
        }
    }
    return status;
}

static mlxr_status read_normalizer(proto_reader *r, spm_model *m)
{
    proto_field field;
    bool more;
    mlxr_status status;
    r->where = "normalizer_spec";
    while ((status = read_field(r, &field, &more)) == MLXR_OK && more) {
        bool *const flags[] = {&m->dummy_prefix, &m->trim, &m->escape};
        if (field.number == 2 && (status = expect_wire(r, &field, 2)) == MLXR_OK) {
            m->charsmap = field_text(&field);
        } else if (field.number >= 3 && field.number <= 5 && (status = expect_wire(r, &field, 0)) == MLXR_OK) {
            *flags[field.number - 3] = field.value != 0;
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    return status;
}

static mlxr_status read_model(proto_reader *r, spm_model *m, bool count_only, uint32_t *n_pieces)
{
    proto_field field;
    bool more;
    mlxr_status status;
    *n_pieces = 0;
    r->at = 0;
    while ((status = read_field(r, &field, &more)) == MLXR_OK && more) {
        if (field.number >= 1 && field.number <= 3 && (status = expect_wire(r, &field, 2)) != MLXR_OK) {
            return status;
        }
        *n_pieces += field.number == 1; /* at most one for two bytes of a file below 4 GiB */
        if (count_only) {
            continue;
        }
        if (field.number == 1) {
            status = read_piece(&field.inner, m);
        } else if (field.number == 2) {
            status = read_trainer(&field.inner, m);
        } else if (field.number == 3) {
            status = read_normalizer(&field.inner, m);
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    return status;
}

/* ---- checks and the source ---- */

/* The id of a control or unknown piece by its name, −1 if there is none. */
static int32_t named_piece(const spm_model *m, token_text name, int32_t type)
{
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->types[i] == type && m->pieces[i].n == name.n && memcmp(m->pieces[i].data, name.data, name.n) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static mlxr_status check_model(const spm_model *m, int32_t *unknown, mlxr_error *error)
{
    uint32_t n_bytes = 0;
    *unknown = -1;
    if (m->model_type != MODEL_UNIGRAM && m->model_type != MODEL_BPE) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tokenizer.model: model type %llu (%s) is not supported; unigram and "
                         "BPE are",
                         (unsigned long long)m->model_type,
                         m->model_type == 3   ? "word"
                         : m->model_type == 4 ? "char"
                                              : "unknown");
    }
    if (!m->escape) {
        return error_set(error, MLXR_UNSUPPORTED, "tokenizer.model: escape_whitespaces = false is not supported");
    }
    for (uint32_t i = 0; i < m->n; i++) {
        token_text text = m->pieces[i];
        for (size_t at = 0; at < text.n;) {
            uint32_t code;
            size_t length = utf8_decode(text.data + at, text.n - at, &code);
            if (length == 0) {
                return error_set(error, MLXR_FORMAT, "tokenizer.model: piece %u is not UTF-8", i);
            }
            at += length;
        }
        n_bytes += m->types[i] == TOKEN_BYTE;
        if (m->types[i] == TOKEN_UNKNOWN) {
            if (*unknown >= 0) {
                return error_set(error, MLXR_FORMAT, "tokenizer.model: pieces %d and %u are both unknown", *unknown, i);
            }
            *unknown = (int32_t)i;
        }
    }
    if (*unknown < 0) {
        return error_set(error, MLXR_FORMAT, "tokenizer.model: no unknown piece");
    }
    if (n_bytes != (m->byte_fallback ? 256u : 0u)) {
        return error_set(error, MLXR_FORMAT, "tokenizer.model: %u byte pieces, with byte_fallback %s", n_bytes,
                         m->byte_fallback ? "true" : "false");
    }
    return MLXR_OK;
}

static mlxr_status open_model(tokenizer **out, const spm_model *m, mlxr_error *error)
{
    int32_t unknown;
    mlxr_status status = check_model(m, &unknown, error);
    if (status != MLXR_OK) {
        return status;
    }
    bool bpe = m->model_type == MODEL_BPE;
    tokenizer_source source = {
        .kind = bpe ? TOKENIZER_SPM : TOKENIZER_UNIGRAM,
        .n_tokens = m->n,
        .tokens = m->pieces,
        .scores = m->scores,
        .types = m->types,
        .bos = named_piece(m, m->names[1], TOKEN_CONTROL),
        .eos = named_piece(m, m->names[2], TOKEN_CONTROL),
        .pad = named_piece(m, m->names[3], TOKEN_CONTROL),
        .eot = -1,
        .unk = unknown,
        .sep = -1,
        .cls = -1,
        .mask = -1,
        .add_space_prefix = m->dummy_prefix && !m->suffix,
        .remove_extra_whitespaces = m->trim,
        .charsmap = (const uint8_t *)m->charsmap.data,
        .n_charsmap = m->charsmap.n,
    };
    /* What models of the two kinds are used with: Llama begins texts, T5 ends them. */
    source.add_bos = bpe && source.bos >= 0;
    source.add_eos = !bpe && source.eos >= 0;
    tokenizer *t;
    status = tokenizer_open_common(&t, &source, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = spm_open(t, &source, false, error);
    if (status != MLXR_OK) {
        tokenizer_close(&t);
        return status;
    }
    t->space_suffix = m->dummy_prefix && m->suffix;
    *out = t;
    return MLXR_OK;
}

mlxr_status tokenizer_open_spm(tokenizer **out, const void *bytes, size_t n, mlxr_error *error)
{
    if (n > UINT32_MAX) {
        return error_set(error, MLXR_LIMIT, "tokenizer.model of %zu bytes; at most 4 GiB", n);
    }
    spm_model m = {.model_type = MODEL_UNIGRAM,
                   .dummy_prefix = true,
                   .trim = true,
                   .escape = true,
                   .names = {{"<unk>", 5}, {"<s>", 3}, {"</s>", 4}, {"<pad>", 5}}};
    proto_reader r = {.bytes = bytes, .n = n, .where = "model", .error = error};
    uint32_t n_pieces;
    mlxr_status status = read_model(&r, &m, true, &n_pieces);
    if (status == MLXR_OK && n_pieces == 0) {
        status = error_set(error, MLXR_FORMAT, "tokenizer.model: no pieces");
    }
    if (status != MLXR_OK) {
        return status;
    }
    m.pieces = malloc(n_pieces * sizeof *m.pieces);
    m.scores = malloc(n_pieces * sizeof *m.scores);
    m.types = malloc(n_pieces * sizeof *m.types);
    status = m.pieces && m.scores && m.types
                 ? read_model(&r, &m, false, &n_pieces)
                 : error_nomem(error, "tokenizer.model", n_pieces * (sizeof *m.pieces + sizeof *m.scores));
    if (status == MLXR_OK) {
        status = open_model(out, &m, error);
    }
    free(m.pieces);
    free(m.scores);
    free(m.types);
    return status;
}
