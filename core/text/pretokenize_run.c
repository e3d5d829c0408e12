/*
 * Pre-tokenizers: a text in pieces to a text in more pieces, one operation after the other.
 * Owner: the caller's scratch. Lifetime: the call.
 */
#include "base/error.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

/* The first match at or after `at`; an empty one is possible. */
static mlxr_status find(const text_op *op, scratch *s, const char *text, size_t at, size_t n, size_t *begin,
                        size_t *end, bool *found, mlxr_error *error)
{
    *found = false;
    if (op->splitter) {
        while (at < n) {
            size_t stop = op->splitter->match(text, at, n);
            if (stop) {
                *begin = at;
                *end = stop;
                *found = true;
                return MLXR_OK;
            }
            uint32_t code;
            at += unicode_read(text + at, n - at, &code);
        }
        return MLXR_OK;
    }
    if (op->pattern) {
        return pattern_find(op->pattern, s, text, at, n, begin, end, found, error);
    }
    const char *hit = at < n && op->literal.n ? memmem(text + at, n - at, op->literal.data, op->literal.n) : NULL;
    if (hit) {
        *begin = (size_t)(hit - text);
        *end = *begin + op->literal.n;
        *found = true;
    }
    return MLXR_OK;
}

mlxr_status op_next(const text_op *op, scratch *s, const char *text, size_t n, op_match *m, bool *found,
                    mlxr_error *error)
{
    m->gap = m->end;
    *found = false;
    while (m->at <= n) {
        mlxr_status status = find(op, s, text, m->at, n, &m->begin, &m->end, found, error);
        if (status != MLXR_OK || !*found) {
            return status;
        }
        m->at = m->end;
        if (m->begin < m->end) {
            return MLXR_OK;
        }
        uint32_t code;
        m->at += m->end < n ? unicode_read(text + m->end, n - m->end, &code) : 1;
        if (m->begin != m->gap || m->begin == 0) { /* an empty match right after a match does not count */
            return MLXR_OK;
        }
        *found = false;
    }
    return MLXR_OK;
}

/* Drops the empty pieces from `first` on: empty matches count while merging, but give no piece. */
static void drop_empty(span_list *list, size_t first)
{
    size_t kept = first;
    for (size_t i = first; i < list->n; i++) {
        if (list->items[i].begin < list->items[i].end) {
            list->items[kept++] = list->items[i];
        }
    }
    list->n = kept;
}

/* Collects the pieces of one piece as matches and the stretches between them come in. */
typedef struct splitting {
    span_list *out;
    size_t first; /* index in *out where this piece's pieces begin */
    uint32_t base;
    split_behavior behavior;
    bool invert, previous, pending, failed;
    span held; /* SPLIT_MERGED_WITH_NEXT: a match that waits for what follows */
} splitting;

static void put(splitting *p, size_t begin, size_t end)
{
    if (!span_list_push(p->out, p->base + (uint32_t)begin, p->base + (uint32_t)end)) {
        p->failed = true;
    }
}

static void put_or_extend(splitting *p, bool extend, size_t begin, size_t end)
{
    if (extend && p->out->n > p->first) {
        p->out->items[p->out->n - 1].end = p->base + (uint32_t)end;
    } else {
        put(p, begin, end);
    }
}

static void take(splitting *p, size_t begin, size_t end, bool match)
{
    match = match != p->invert;
    switch (p->behavior) {
    case SPLIT_ISOLATED:
        put(p, begin, end);
        break;
    case SPLIT_REMOVED:
        if (!match) {
            put(p, begin, end);
        }
        break;
    case SPLIT_CONTIGUOUS:
        put_or_extend(p, match == p->previous, begin, end);
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        put_or_extend(p, match && !p->previous, begin, end);
        break;
    case SPLIT_MERGED_WITH_NEXT:
        if (match) {
            if (p->pending) {
                put(p, p->held.begin, p->held.end);
            }
            p->held = (span){(uint32_t)begin, (uint32_t)end};
        } else {
            put(p, p->pending ? p->held.begin : begin, end);
        }
        p->pending = match;
        break;
    }
    p->previous = match;
}

static mlxr_status split_piece(const text_op *op, scratch *s, const char *text, size_t n, splitting *p,
                               mlxr_error *error)
{
    op_match m = {0};
    bool found;
    mlxr_status status;
    while ((status = op_next(op, s, text, n, &m, &found, error)) == MLXR_OK && found) {
        if (m.gap < m.begin) {
            take(p, m.gap, m.begin, false);
        }
        take(p, m.begin, m.end, true);
    }
    if (status != MLXR_OK) {
        return status;
    }
    if (m.gap < n) {
        take(p, m.gap, n, false);
    }
    if (p->pending) {
        put(p, p->held.begin, p->held.end);
    }
    return MLXR_OK;
}

static mlxr_status split_pieces(const text_op *op, scratch *s, const char *text, const span_list *in, span_list *out,
                                mlxr_error *error)
{
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        splitting p = {
            .out = out, .first = out->n, .base = in->items[i].begin, .behavior = op->behavior, .invert = op->invert};
        mlxr_status status = split_piece(op, s, text + p.base, in->items[i].end - p.base, &p, error);
        if (status != MLXR_OK) {
            return status;
        }
        drop_empty(out, p.first);
        if (p.failed) {
            return error_nomem(error, "text pieces", out->cap * 2 * sizeof *out->items);
        }
    }
    return MLXR_OK;
}

static bool starts_with(const char *text, size_t n, token_text prefix)
{
    return n >= prefix.n && memcmp(text, prefix.data, prefix.n) == 0;
}

/* Rewrites each piece: a prefix where asked for and not there yet, and `from` (if any) replaced by `to`. */
static bool rewrite_pieces(const text_op *op, const text_in *text, const span_list *in, token_text from, token_text to,
                           token_text prefix, buffer *out_text, span_list *out)
{
    out->n = 0;
    buffer_clear(out_text);
    for (size_t i = 0; i < in->n; i++) {
        const char *p = text->data + in->items[i].begin;
        size_t n = in->items[i].end - in->items[i].begin;
        size_t begin = out_text->n;
        bool wanted = (op->flags & OP_PREFIX) ||
                      ((op->flags & OP_PREFIX_FIRST) && text->first && in->items[i].begin == 0);
        if (wanted && !starts_with(p, n, prefix) && !(from.n && starts_with(p, n, from))) {
            buffer_append(out_text, prefix.data, prefix.n);
        }
        while (n) {
            const char *hit = from.n ? memmem(p, n, from.data, from.n) : NULL;
            size_t keep = hit ? (size_t)(hit - p) : n;
            buffer_append(out_text, p, keep);
            if (hit) {
                buffer_append(out_text, to.data, to.n);
                keep += from.n;
            }
            p += keep;
            n -= keep;
        }
        if (out_text->failed || !span_list_push(out, (uint32_t)begin, (uint32_t)out_text->n)) {
            return false;
        }
    }
    return true;
}

static bool alphabet_pieces(const text_in *text, const span_list *in, buffer *out_text, span_list *out)
{
    out->n = 0;
    buffer_clear(out_text);
    for (size_t i = 0; i < in->n; i++) {
        size_t begin = out_text->n;
        for (uint32_t at = in->items[i].begin; at < in->items[i].end; at++) {
            char letter[2];
            buffer_append(out_text, letter, alphabet_encode(text->data + at, 1, letter));
        }
        if (out_text->failed || !span_list_push(out, (uint32_t)begin, (uint32_t)out_text->n)) {
            return false;
        }
    }
    return true;
}

static bool fixed_pieces(uint32_t length, const char *text, const span_list *in, span_list *out)
{
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        uint32_t begin = in->items[i].begin, at = begin, count = 0, code;
        while (at < in->items[i].end) {
            at += (uint32_t)unicode_read(text + at, in->items[i].end - at, &code);
            if (++count == length || at == in->items[i].end) {
                if (!span_list_push(out, begin, at)) {
                    return false;
                }
                begin = at;
                count = 0;
            }
        }
    }
    return true;
}

typedef struct run_state {
    scratch *s;
    text_in *text;
    span_list *pieces, *spare;
    uint32_t side; /* which of s->pieces is free */
} run_state;

static void swap_pieces(run_state *r)
{
    span_list *swap = r->pieces;
    r->pieces = r->spare;
    r->spare = swap;
}

/* Makes the rewritten text the current one. */
static void advance_text(run_state *r)
{
    r->text->data = r->s->pieces[r->side].data ? r->s->pieces[r->side].data : "";
    r->text->n = r->s->pieces[r->side].n;
    r->side ^= 1;
    swap_pieces(r);
}

static mlxr_status run_op(const text_op *op, run_state *r, mlxr_error *error)
{
    static const token_text space = {" ", 1};
    bool fits = true;
    if (op->kind == OP_FIXED_LENGTH) {
        fits = fixed_pieces(op->length, r->text->data, r->pieces, r->spare);
        swap_pieces(r);
    } else if (op->kind == OP_METASPACE || (op->flags & OP_PREFIX)) {
        bool meta = op->kind == OP_METASPACE;
        fits = rewrite_pieces(op, r->text, r->pieces, meta ? space : (token_text){0}, op->content,
                              meta ? op->content : space, &r->s->pieces[r->side], r->spare);
        advance_text(r);
    }
    if (fits && (op->kind == OP_SPLIT || op->splitter || (op->kind == OP_METASPACE && (op->flags & OP_CUT)))) {
        mlxr_status status = split_pieces(op, r->s, r->text->data, r->pieces, r->spare, error);
        if (status != MLXR_OK) {
            return status;
        }
        swap_pieces(r);
    }
    if (fits && op->kind == OP_BYTE_LEVEL && (op->flags & OP_TO_ALPHABET)) {
        fits = alphabet_pieces(r->text, r->pieces, &r->s->pieces[r->side], r->spare);
        advance_text(r);
    }
    return fits ? MLXR_OK : error_nomem(error, "text pieces", r->text->n);
}

mlxr_status pretokenize_text(const tokenizer *t, scratch *s, text_in *text, const span_list **pieces, mlxr_error *error)
{
    run_state r = {.s = s, .text = text, .pieces = &s->spans[0], .spare = &s->spans[1]};
    r.pieces->n = 0;
    if (!span_list_push(r.pieces, 0, (uint32_t)text->n)) {
        return error_nomem(error, "text pieces", sizeof(span));
    }
    for (uint32_t i = 0; i < t->n_pre_tokenizers; i++) {
        mlxr_status status = run_op(&t->pre_tokenizers[i], &r, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    *pieces = r.pieces;
    return MLXR_OK;
}
