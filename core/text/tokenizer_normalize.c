/*
 * Normalisers: one text to another, from one scratch buffer into the other.
 * Owner: the caller's scratch. Lifetime: the call.
 */
#include <stdlib.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

static void append_code(buffer *out, uint32_t code)
{
    char bytes[4];
    buffer_append(out, bytes, utf8_encode(code, bytes));
}

/* ---- SentencePiece ---- */

/* What SentencePiece makes of the start of a text: a protected symbol or a character as it is, or an entry of the map.
 * Returns how much of the text that is. */
static size_t spm_prefix(const tokenizer *t, const char *text, size_t n, token_text *out)
{
    size_t kept = added_set_prefix(&t->verbatim, text, n);
    if (kept) {
        *out = (token_text){text, kept};
        return kept;
    }
    size_t length = charsmap_longest(&t->charsmap, text, n, out);
    if (length) {
        return length;
    }
    uint32_t code;
    length = unicode_read(text, n, &code);
    *out = (token_text){text, length};
    return length;
}

/* Appends with spaces for U+2581, except that leading spaces go while `drop`. */
static void append_unmarked(buffer *out, token_text text, bool drop)
{
    while (drop && text.n && text.data[0] == ' ') {
        text.data++;
        text.n--;
    }
    size_t from = 0;
    for (size_t i = 0; i + 3 <= text.n; i++) {
        if (memcmp(text.data + i, SPACE_MARK, 3) == 0) {
            buffer_append(out, text.data + from, i - from);
            buffer_append(out, " ", 1);
            i += 2;
            from = i + 1;
        }
    }
    buffer_append(out, text.data + from, text.n - from);
}

static void spm_normalize(const tokenizer *t, const text_in *text, buffer *out)
{
    const char *p = text->data;
    size_t n = text->n;
    token_text piece;
    while (t->trim_spaces && n) {
        size_t length = spm_prefix(t, p, n, &piece);
        if (piece.n != 1 || piece.data[0] != ' ') {
            break;
        }
        p += length;
        n -= length;
    }
    if (n == 0) {
        return;
    }
    if (t->space_prefix && (text->first || t->space_prefix_after_added)) {
        buffer_append(out, " ", 1);
    }
    if (!t->trim_spaces && t->charsmap.n_units == 0) {
        append_unmarked(out, (token_text){p, n}, false);
    } else {
        bool after_space = t->trim_spaces;
        while (n) {
            size_t length = spm_prefix(t, p, n, &piece);
            size_t before = out->n;
            append_unmarked(out, piece, after_space);
            if (out->n > before) {
                after_space = t->trim_spaces && piece.n && piece.data[piece.n - 1] == ' ';
            }
            p += length;
            n -= length;
        }
        while (t->trim_spaces && out->n && out->data[out->n - 1] == ' ') {
            out->data[--out->n] = 0;
        }
    }
    if (t->space_suffix) {
        buffer_append(out, " ", 1);
    }
}

/* ---- Unicode normal forms ---- */

/* Normalises a run of whole characters that utf8proc and the reference agree on. */
static void form_run(const char *text, size_t n, utf8proc_option_t options, buffer *work, buffer *out)
{
    utf8proc_ssize_t count = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, NULL, 0, options);
    buffer_clear(work);
    if (count < 0 || (size_t)count > work->limit / sizeof(utf8proc_int32_t) - 1) {
        out->failed = true;
        return;
    }
    /* Room by appending: utf8proc writes one more than `count` when it composes. */
    static const char zeros[256];
    for (size_t need = ((size_t)count + 1) * sizeof(utf8proc_int32_t); work->n < need && !work->failed;) {
        size_t step = need - work->n < sizeof zeros ? need - work->n : sizeof zeros;
        buffer_append(work, zeros, step);
    }
    if (work->failed) {
        out->failed = true;
        return;
    }
    utf8proc_int32_t *codes = (utf8proc_int32_t *)(void *)work->data;
    utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, codes, count, options);
    if (options & UTF8PROC_COMPOSE) {
        count = utf8proc_normalize_utf32(codes, count, options);
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        append_code(out, (uint32_t)codes[i]);
    }
}

/* NFC, NFD, NFKC or NFKD. An ASCII character combines with nothing before it, so a run may begin with one. */
static void form_text(unsigned flags, const char *text, size_t n, buffer *work, buffer *out)
{
    int options = UTF8PROC_STABLE | (flags & OP_COMPOSE ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (flags & OP_COMPATIBILITY ? UTF8PROC_COMPAT : 0);
    size_t at = 0;
    while (at < n) {
        size_t run = at; /* the run [run, end) begins with the last ASCII character */
        while (run < n && (unsigned char)text[run] < 0x80) {
            run++;
        }
        if (run == n) {
            break;
        }
        run -= run > at;
        buffer_append(out, text + at, run - at);
        size_t end = run + ((unsigned char)text[run] < 0x80), length = 0;
        bool foreign = false;
        while (end < n && (unsigned char)text[end] >= 0x80) {
            uint32_t code;
            length = utf8_decode(text + end, n - end, &code);
            foreign = length == 0 || unicode_in_ranges(&unicode_not_normalized, code);
            length = length ? length : 1;
            if (foreign) {
                break;
            }
            end += length;
        }
        form_run(text + run, end - run, (utf8proc_option_t)options, work, out);
        if (foreign) {
            buffer_append(out, text + end, length);
            end += length;
        }
        at = end;
    }
    buffer_append(out, text + at, n - at);
}

/* ---- character by character ---- */

static bool nmt_removed(uint32_t code)
{
    return (code >= 1 && code <= 8) || code == 0xb || (code >= 0xe && code <= 0x1f) || code == 0x7f || code == 0x8f ||
           code == 0x9f;
}

static bool nmt_space(uint32_t code)
{
    return code == 9 || code == 0xa || code == 0xc || code == 0xd || code == 0x1680 ||
           (code >= 0x200b && code <= 0x200f) || code == 0x2028 || code == 0x2029 || code == 0x2581 || code == 0xfeff ||
           code == 0xfffd;
}

static bool is_chinese(uint32_t code)
{
    return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3400 && code <= 0x4dbf) ||
           (code >= 0x20000 && code <= 0x2a6df) || (code >= 0x2a700 && code <= 0x2b73f) ||
           (code >= 0x2b740 && code <= 0x2b81f) || (code >= 0x2b920 && code <= 0x2ceaf) ||
           (code >= 0xf900 && code <= 0xfaff) || (code >= 0x2f800 && code <= 0x2fa1f);
}

static void lower_char(uint32_t code, buffer *out)
{
    uint32_t lower[2];
    size_t count = unicode_lower(code, lower);
    for (size_t i = 0; i < count; i++) {
        append_code(out, lower[i]);
    }
}

/* What one valid character becomes. `part` of OP_BERT is one of its flags. */
static void map_char(text_op_kind kind, unsigned part, uint32_t code, const char *text, size_t length, buffer *out)
{
    switch (kind) {
    case OP_LOWERCASE:
        lower_char(code, out);
        return;
    case OP_STRIP_ACCENTS:
        if (code >= 0x80 && unicode_in_ranges(&unicode_strip_accents, code)) {
            return;
        }
        break;
    case OP_NMT:
        if (nmt_removed(code)) {
            return;
        }
        if (nmt_space(code)) {
            buffer_append(out, " ", 1);
            return;
        }
        break;
    default: /* OP_BERT */
        if (part == OP_CLEAN && unicode_in_ranges(&unicode_bert_removed, code)) {
            return;
        }
        if (part == OP_CLEAN && unicode_is_space(code)) {
            buffer_append(out, " ", 1);
            return;
        }
        if (part == OP_CHINESE && is_chinese(code)) {
            buffer_append(out, " ", 1);
            buffer_append(out, text, length);
            buffer_append(out, " ", 1);
            return;
        }
        if (part == OP_UNACCENT && code >= 0x80 && unicode_in_ranges(&unicode_bert_accents, code)) {
            return;
        }
        break;
    }
    buffer_append(out, text, length);
}

static void map_text(text_op_kind kind, unsigned part, const char *text, size_t n, buffer *out)
{
    for (size_t at = 0, length; at < n; at += length) {
        uint32_t code;
        length = utf8_decode(text + at, n - at, &code);
        if (length == 0) {
            length = 1;
            buffer_append(out, text + at, 1);
        } else {
            map_char(kind, part, code, text + at, length, out);
        }
    }
}

/* Replacements of the map as the reference for tokenizer.json takes them: of a whole grapheme cluster if it is short,
 * else of each character. */
static void charsmap_text(const charsmap *map, const char *text, size_t n, buffer *out)
{
    for (size_t at = 0; at < n;) {
        uint32_t code, next;
        size_t first = unicode_read(text + at, n - at, &code), end = at + first;
        utf8proc_int32_t state = 0;
        while (end < n) {
            size_t length = unicode_read(text + end, n - end, &next);
            if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code, (utf8proc_int32_t)next, &state)) {
                break;
            }
            code = next;
            end += length;
        }
        token_text found;
        if (end - at < 6 && charsmap_first(map, text + at, end - at, &found)) {
            buffer_append(out, found.data, found.n);
            at = end;
            continue;
        }
        while (at < end) {
            size_t length = unicode_read(text + at, end - at, &code);
            if (charsmap_first(map, text + at, length, &found)) {
                buffer_append(out, found.data, found.n);
            } else {
                buffer_append(out, text + at, length);
            }
            at += length;
        }
    }
}

static void strip_text(unsigned flags, const char *text, size_t n, buffer *out)
{
    uint32_t code;
    size_t begin = 0, end = n, length;
    while ((flags & OP_LEFT) && begin < n) {
        length = unicode_read(text + begin, n - begin, &code);
        if (!unicode_is_space(code)) {
            break;
        }
        begin += length;
    }
    if (flags & OP_RIGHT) {
        end = begin; /* of the last character that is no space */
        for (size_t at = begin; at < n; at += length) {
            length = unicode_read(text + at, n - at, &code);
            end = unicode_is_space(code) ? end : at + length;
        }
    }
    buffer_append(out, text + begin, end - begin);
}

static mlxr_status replace_text(const text_op *op, scratch *s, const char *text, size_t n, buffer *out,
                                mlxr_error *error)
{
    op_match m = {0};
    bool found;
    mlxr_status status;
    while ((status = op_next(op, s, text, n, &m, &found, error)) == MLXR_OK && found) {
        buffer_append(out, text + m.gap, m.begin - m.gap);
        buffer_append(out, op->content.data, op->content.n);
    }
    buffer_append(out, text + m.gap, n - m.gap);
    return status;
}

static void bert_text(const text_op *op, scratch *s, const char *text, size_t n, buffer *out)
{
    buffer *other = out == &s->text[0] ? &s->text[1] : &s->text[0];
    buffer spare = buffer_make(TOKENIZER_TEXT_MAX); /* `text` may lie in `other`, so the first step leaves both alone */
    buffer_append(&spare, text, n);
    static const unsigned parts[] = {OP_CLEAN, OP_CHINESE, OP_UNACCENT, OP_LOWER};
    bool failed = spare.failed;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!(op->flags & parts[i])) {
            continue;
        }
        buffer_clear(out);
        const char *from = spare.data ? spare.data : "";
        if (parts[i] == OP_UNACCENT) {
            buffer_clear(other);
            form_text(0, from, spare.n, &s->word, other);
            map_text(OP_BERT, OP_UNACCENT, other->data ? other->data : "", other->n, out);
            failed = failed || other->failed;
        } else {
            map_text(parts[i] == OP_LOWER ? OP_LOWERCASE : OP_BERT, parts[i], from, spare.n, out);
        }
        failed = failed || out->failed;
        buffer_clear(&spare);
        buffer_append(&spare, out->data, out->n);
        failed = failed || spare.failed;
    }
    buffer_clear(out);
    buffer_append(out, spare.data, spare.n);
    out->failed = out->failed || failed;
    buffer_close(&spare);
}

static mlxr_status run_op(const tokenizer *t, const text_op *op, scratch *s, const text_in *text, buffer *out,
                          mlxr_error *error)
{
    switch (op->kind) {
    case OP_SENTENCEPIECE:
        spm_normalize(t, text, out);
        break;
    case OP_NORMAL_FORM:
        form_text(op->flags, text->data, text->n, &s->word, out);
        break;
    case OP_STRIP:
        strip_text(op->flags, text->data, text->n, out);
        break;
    case OP_PREPEND:
        if (text->n) {
            buffer_append(out, op->content.data, op->content.n);
        }
        buffer_append(out, text->data, text->n);
        break;
    case OP_REPLACE:
        return replace_text(op, s, text->data, text->n, out, error);
    case OP_CHARSMAP:
        charsmap_text(&t->charsmap, text->data, text->n, out);
        break;
    case OP_BERT:
        bert_text(op, s, text->data, text->n, out);
        break;
    case OP_BYTE_ALPHABET:
        for (size_t i = 0; i < text->n && !out->failed; i++) {
            char letter[2];
            buffer_append(out, letter, alphabet_encode(text->data + i, 1, letter));
        }
        break;
    default:
        map_text(op->kind, 0, text->data, text->n, out);
    }
    return MLXR_OK;
}

/* Whether an operation would leave a text as it is, seen at a glance. */
static bool leaves_alone(const tokenizer *t, const text_op *op, const text_in *text)
{
    if (op->kind == OP_NORMAL_FORM) {
        for (size_t i = 0; i < text->n; i++) {
            if ((unsigned char)text->data[i] >= 0x80) {
                return false;
            }
        }
        return true;
    }
    return op->kind == OP_SENTENCEPIECE && !t->trim_spaces && t->charsmap.n_units == 0 && !t->space_suffix &&
           !(t->space_prefix && (text->first || t->space_prefix_after_added)) &&
           !memmem(text->data, text->n, SPACE_MARK, 3);
}

mlxr_status normalize_text(const tokenizer *t, scratch *s, text_in *text, mlxr_error *error)
{
    uint32_t side = 0;
    for (uint32_t i = 0; i < t->n_normalizers; i++) {
        const text_op *op = &t->normalizers[i];
        if (leaves_alone(t, op, text)) {
            continue;
        }
        buffer *out = &s->text[side];
        buffer_clear(out);
        size_t n_in = text->n;
        mlxr_status status = run_op(t, op, s, text, out, error);
        if (status != MLXR_OK) {
            return status;
        }
        if (out->failed) {
            return error_set(error, MLXR_NOMEM,
                             "text of %zu bytes: normalised it needs more memory than there is, or "
                             "more than %zu bytes",
                             n_in, TOKENIZER_TEXT_MAX);
        }
        text->data = out->data ? out->data : "";
        text->n = out->n;
        side ^= 1;
    }
    return MLXR_OK;
}
