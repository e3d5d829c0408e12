/*
 * Texts: immutable UTF-8 with Python's view of it (characters are code points), and growing them.
 * Owner: the render, or the compiled template for constants. Lifetime: the same.
 */
#include "text/jinja_run.h"

#include <string.h>

#include "base/utf8.h"

#define STORE_MIN 64

jtext *jtext_view(jrun *r, const char *bytes, size_t n)
{
    jtext *t = jrun_alloc(r, sizeof *t);
    if (t) {
        *t = (jtext){.bytes = bytes, .n = n, .n_chars = n ? JTEXT_UNCOUNTED : 0};
    }
    return t;
}

jtext *jtext_copy(jrun *r, const char *bytes, size_t n)
{
    if (!jrun_charge_bytes(r, n)) {
        return NULL;
    }
    char *copy = jrun_alloc(r, n);
    if (!copy) {
        return NULL;
    }
    if (n) {
        memcpy(copy, bytes, n);
    }
    return jtext_view(r, copy, n);
}

jtext *jtext_of(jrun *r, const char *c_string)
{
    return jtext_view(r, c_string, strlen(c_string));
}

jtext *jtext_sub(jrun *r, const jtext *t, size_t from, size_t to)
{
    jtext *sub = jtext_view(r, t->bytes + from, to - from);
    if (sub && t->n_chars == t->n) { /* ASCII stays ASCII */
        sub->n_chars = sub->n;
    }
    return sub;
}

const jtext *jtext_with_markup(jrun *r, const jtext *t, bool markup)
{
    if (t->markup == markup) {
        return t;
    }
    jtext *copy = jrun_alloc(r, sizeof *copy);
    if (copy) {
        *copy = *t;
        copy->markup = markup;
    }
    return copy;
}

jtext *jtext_concat(jrun *r, const jtext *a, const jtext *b)
{
    if (!jrun_charge_bytes(r, b->n)) {
        return NULL;
    }
    jstore *store = a->store;
    bool in_place = store && a->bytes + a->n == store->data + store->used && store->cap - store->used >= b->n;
    if (!in_place) {
        size_t n, cap;
        if (__builtin_add_overflow(a->n, b->n, &n) || __builtin_add_overflow(n, n / 2 + STORE_MIN, &cap)) {
            jrun_limit(r, "a string of more than %zu bytes", a->n);
            return NULL;
        }
        store = jrun_charge_bytes(r, a->n) ? jrun_alloc(r, sizeof *store + cap) : NULL;
        if (!store) {
            return NULL;
        }
        store->cap = cap;
        if (a->n) {
            memcpy(store->data, a->bytes, a->n);
        }
        store->used = a->n;
    }
    if (b->n) {
        memcpy(store->data + store->used, b->bytes, b->n);
    }
    store->used += b->n;
    size_t n = a->n + b->n;
    jtext *t = jtext_view(r, store->data + store->used - n, n);
    if (t) {
        t->store = store;
        if (a->n_chars != JTEXT_UNCOUNTED && b->n_chars != JTEXT_UNCOUNTED) {
            /* Holds for whole characters only; halves of one that meet here do not come from valid input. */
            t->n_chars = a->n_chars == a->n && b->n_chars == b->n ? n : JTEXT_UNCOUNTED;
        }
    }
    return t;
}

const jtext *jtext_escape(jrun *r, const jtext *t)
{
    if (t->markup) {
        return t;
    }
    jbuild b = {.run = r};
    size_t done = 0;
    for (size_t i = 0; i < t->n; i++) {
        const char *entity = NULL;
        switch (t->bytes[i]) {
        case '&':
            entity = "&amp;";
            break;
        case '<':
            entity = "&lt;";
            break;
        case '>':
            entity = "&gt;";
            break;
        case '\'':
            entity = "&#39;";
            break;
        case '"':
            entity = "&#34;";
            break;
        default:
            continue;
        }
        if (!jrun_charge(r, 1) || !jbuild_bytes(&b, t->bytes + done, i - done) || !jbuild_c(&b, entity)) {
            return NULL;
        }
        done = i + 1;
    }
    if (done == 0) {
        return jtext_with_markup(r, t, true);
    }
    if (!jbuild_bytes(&b, t->bytes + done, t->n - done)) {
        return NULL;
    }
    jtext *escaped = jbuild_finish(&b);
    if (escaped) {
        escaped->markup = true;
    }
    return escaped;
}

bool jtext_equal(const jtext *a, const jtext *b)
{
    return a == b || (a->n == b->n && (a->n == 0 || memcmp(a->bytes, b->bytes, a->n) == 0));
}

bool jtext_is(const jtext *t, const char *c_string)
{
    size_t n = strlen(c_string);
    return t->n == n && memcmp(t->bytes, c_string, n) == 0;
}

int jtext_shown(const jtext *t)
{
    return t->n < 60 ? (int)t->n : 60;
}

int jtext_order(const jtext *a, const jtext *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n ? memcmp(a->bytes, b->bytes, n) : 0; /* bytes of UTF-8 sort as code points */
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

size_t jtext_char(const char *bytes, size_t n, size_t at, uint32_t *code)
{
    unsigned char first = (unsigned char)bytes[at];
    if (first < 0x80) {
        *code = first;
        return 1;
    }
    size_t used = utf8_decode(bytes + at, n - at, code);
    if (used == 0) {
        *code = 0xFFFD;
        return 1;
    }
    return used;
}

static bool all_ascii(const char *bytes, size_t n)
{
    unsigned char bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits |= (unsigned char)bytes[i];
    }
    return bits < 0x80;
}

size_t jtext_count(const jtext *t)
{
    if (t->n_chars == JTEXT_UNCOUNTED) {
        size_t count = t->n;
        if (!all_ascii(t->bytes, t->n)) {
            uint32_t code;
            count = 0;
            for (size_t at = 0; at < t->n; at += jtext_char(t->bytes, t->n, at, &code)) {
                count++;
            }
        }
        ((jtext *)t)->n_chars = count; /* only ever a text of this render: constants are counted when compiled */
    }
    return t->n_chars;
}

uint64_t jtext_hash(const jtext *t)
{
    if (t->hash == 0) {
        uint64_t h = 0x9e3779b97f4a7c15u ^ t->n;
        for (size_t i = 0; i < t->n; i++) {
            h = (h ^ (unsigned char)t->bytes[i]) * 0x100000001b3u;
        }
        h ^= h >> 29;
        h *= 0xbf58476d1ce4e5b9u;
        h ^= h >> 32;
        ((jtext *)t)->hash = h ? h : 1;
    }
    return t->hash;
}

size_t jtext_offset(const jtext *t, size_t i_char)
{
    size_t count = jtext_count(t);
    if (i_char >= count) {
        return t->n;
    }
    if (count == t->n) {
        return i_char;
    }
    uint32_t code;
    size_t at = 0;
    while (i_char-- > 0) {
        at += jtext_char(t->bytes, t->n, at, &code);
    }
    return at;
}

ptrdiff_t jtext_find(const jtext *t, const jtext *needle, size_t from, size_t to)
{
    if (from > to || needle->n > to - from) {
        return -1;
    }
    if (needle->n == 0) {
        return (ptrdiff_t)from;
    }
    const char *found = memmem(t->bytes + from, to - from, needle->bytes, needle->n);
    return found ? found - t->bytes : -1;
}

ptrdiff_t jtext_rfind(const jtext *t, const jtext *needle, size_t from, size_t to)
{
    if (from > to || needle->n > to - from) {
        return -1;
    }
    for (size_t at = to - needle->n + 1; at-- > from;) {
        if (needle->n == 0 || memcmp(t->bytes + at, needle->bytes, needle->n) == 0) {
            return (ptrdiff_t)at;
        }
    }
    return -1;
}

/* ---- growing texts ----------------------------------------------------------------------------------------------- */

static bool reserve(jbuild *b, size_t extra)
{
    size_t need;
    if (__builtin_add_overflow(b->n, extra, &need)) {
        return jrun_limit(b->run, "a string of more than %zu bytes", b->n);
    }
    if (need > b->cap) {
        size_t cap;
        if (__builtin_mul_overflow(need, (size_t)2, &cap)) {
            cap = need;
        }
        cap = cap < STORE_MIN ? STORE_MIN : cap;
        char *bytes = jrun_charge_bytes(b->run, need) ? jrun_alloc(b->run, cap) : NULL;
        if (!bytes) {
            return false;
        }
        if (b->n) {
            memcpy(bytes, b->bytes, b->n);
        }
        b->bytes = bytes;
        b->cap = cap;
    }
    return true;
}

bool jbuild_bytes(jbuild *b, const char *bytes, size_t n)
{
    if (n > b->cap - b->n && !reserve(b, n)) {
        return false;
    }
    if (n) {
        memcpy(b->bytes + b->n, bytes, n);
        b->n += n;
    }
    return jrun_charge_bytes(b->run, n);
}

bool jbuild_text(jbuild *b, const jtext *t)
{
    return jbuild_bytes(b, t->bytes, t->n);
}

bool jbuild_c(jbuild *b, const char *c_string)
{
    return jbuild_bytes(b, c_string, strlen(c_string));
}

bool jbuild_code(jbuild *b, uint32_t code)
{
    char bytes[4];
    return jbuild_bytes(b, bytes, utf8_encode(code, bytes));
}

bool jbuild_fill(jbuild *b, const jtext *unit, size_t count)
{
    size_t n;
    if (__builtin_mul_overflow(unit->n, count, &n)) {
        return jrun_limit(b->run, "a string repeated %zu times is too long", count);
    }
    if (n == 0) {
        return true;
    }
    if (!jrun_charge_bytes(b->run, n) || !reserve(b, n)) {
        return false;
    }
    if (unit->n == 1) {
        memset(b->bytes + b->n, unit->bytes[0], n);
        b->n += n;
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(b->bytes + b->n, unit->bytes, unit->n);
        b->n += unit->n;
    }
    return true;
}

jtext *jbuild_finish(jbuild *b)
{
    return jtext_view(b->run, b->bytes ? b->bytes : "", b->n);
}
