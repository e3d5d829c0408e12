/*
 * The methods of strings. Where the string is markup, what they return is markup again.
 * Owner: none. Lifetime: the call.
 */
#include "text/jinja_methods.h"

#include <string.h>

#include "text/jinja_unicode.h"

static bool give(jrun *r, jvalue self, const jtext *t, jvalue *out)
{
    if (t && self.as.text->markup) {
        t = jtext_with_markup(r, t, true);
    }
    *out = jvalue_text(t);
    return t != NULL;
}

static bool push_part(jrun *r, jvalue self, jlist *l, size_t from, size_t to)
{
    jtext *part = jtext_sub(r, self.as.text, from, to);
    if (part) {
        part->markup = self.as.text->markup;
    }
    return part && jlist_push(r, l, jvalue_text(part));
}

/* ---- case -------------------------------------------------------------------------------------------------------- */

bool jstr_convert(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    (void)call;
    return give(r, self, junicode_convert(r, self.as.text, (jcase)f->tag), out);
}

bool jstr_recase(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    (void)call;
    const jtext *t = self.as.text;
    return give(r, self,
                f->tag == 0   ? junicode_capitalize(r, t)
                : f->tag == 1 ? junicode_titlecase(r, t)
                              : junicode_swapcase(r, t),
                out);
}

/* ---- stripping --------------------------------------------------------------------------------------------------- */

/* Whether the character of bytes [from, to) is in the set. */
static bool in_set(const jtext *set, const char *bytes, size_t n)
{
    for (size_t at = 0; at < set->n;) {
        uint32_t code;
        size_t used = jtext_char(set->bytes, set->n, at, &code);
        if (used == n && memcmp(set->bytes + at, bytes, n) == 0) {
            return true;
        }
        at += used;
    }
    return false;
}

static size_t char_length_before(const jtext *t, size_t end)
{
    size_t from = end - 1;
    uint32_t code;
    while (from > 0 && end - from < 4 && ((unsigned char)t->bytes[from] & 0xc0) == 0x80) {
        from--;
    }
    return jtext_char(t->bytes, end, from, &code) == end - from ? end - from : 1;
}

/* Cuts characters of `set` (white space when NULL) off the left (1) and right (2). */
bool jstr_strip_text(jrun *r, const jtext *t, const jtext *set, int sides, const jtext **out)
{
    size_t from = 0, to = t->n, used;
    uint32_t code;
    if (!jrun_charge_bytes(r, set ? set->n : 0)) {
        return false;
    }
    while ((sides & 1) && from < to) {
        used = jtext_char(t->bytes, to, from, &code);
        if (set ? !in_set(set, t->bytes + from, used) : !junicode_is_space(code)) {
            break;
        }
        from += used;
        if (set && !jrun_charge_bytes(r, set->n)) {
            return false;
        }
    }
    while ((sides & 2) && from < to) {
        used = char_length_before(t, to);
        if (set ? !in_set(set, t->bytes + to - used, used) : !junicode_space_before(t->bytes + from, to - from)) {
            break;
        }
        to -= used;
        if (set && !jrun_charge_bytes(r, set->n)) {
            return false;
        }
    }
    *out = from == 0 && to == t->n ? t : jtext_sub(r, t, from, to);
    return *out && jrun_charge_bytes(r, t->n - (to - from));
}

/* strip(chars), lstrip, rstrip */
bool jstr_strip(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *set = NULL, *t;
    if (call->args[0].kind != JNONE && !jarg_text(r, "the characters to strip", call->args[0], &set)) {
        return false;
    }
    return jstr_strip_text(r, self.as.text, set, f->tag, &t) && give(r, self, t, out);
}

/* removeprefix(text), removesuffix(text) */
bool jstr_remove(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *part = NULL;
    if (!jarg_text(r, "what to remove", call->args[0], &part)) {
        return false;
    }
    size_t at = f->tag || part->n > t->n ? 0 : t->n - part->n;
    bool there = part->n <= t->n && memcmp(t->bytes + at, part->bytes, part->n) == 0;
    if (!there) {
        return give(r, self, t, out);
    }
    return give(r, self, f->tag ? jtext_sub(r, t, part->n, t->n) : jtext_sub(r, t, 0, at), out);
}

/* ---- searching --------------------------------------------------------------------------------------------------- */

/* The byte range of the optional character range start, stop; false with *empty when it begins behind the end. */
static bool search_range(jrun *r, const jtext *t, jvalue start, jvalue stop, size_t *from, size_t *to, bool *empty)
{
    jslice s;
    size_t n = jtext_count(t);
    int64_t first = 0;
    if ((start.kind != JNONE && !jarg_int(r, "the start", start, &first)) ||
        !jslice_resolve(r, start, stop, JVALUE_NONE, n, &s)) {
        return false;
    }
    *from = jtext_offset(t, (size_t)s.first);
    *to = jtext_offset(t, (size_t)s.end);
    *empty = first > (int64_t)n || s.end < s.first;
    return jrun_charge_bytes(r, t->n);
}

static int64_t char_index(const jtext *t, size_t offset)
{
    jtext head = {.bytes = t->bytes, .n = offset, .n_chars = t->n_chars == t->n ? offset : JTEXT_UNCOUNTED};
    return (int64_t)jtext_count(&head);
}

/* Looking from the right compares at every place: that costs both lengths. */
static bool charge_backwards(jrun *r, size_t n, const jtext *needle)
{
    size_t cost;
    return __builtin_mul_overflow(n, needle->n, &cost) ? jrun_limit(r, "a search through %zu bytes", n)
                                                       : jrun_charge_bytes(r, cost);
}

/* find, rfind, index, rindex (text, start, stop): tag bit 0: from the right; bit 1: not finding it is an error */
bool jstr_find(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *needle = NULL;
    size_t from, to;
    bool empty;
    if (!jarg_text(r, "what to look for", call->args[0], &needle) ||
        !search_range(r, t, call->args[1], call->args[2], &from, &to, &empty)) {
        return false;
    }
    if ((f->tag & 1) && !charge_backwards(r, to > from ? to - from : 0, needle)) {
        return false;
    }
    ptrdiff_t at = empty ? -1 : f->tag & 1 ? jtext_rfind(t, needle, from, to) : jtext_find(t, needle, from, to);
    if (at < 0 && (f->tag & 2)) {
        return jrun_fail(r, "%s() did not find its text", f->name);
    }
    *out = jvalue_int(at < 0 ? -1 : char_index(t, (size_t)at));
    return true;
}

bool jstr_count(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *needle = NULL;
    size_t from, to;
    bool empty;
    int64_t n = 0;
    (void)f;
    if (!jarg_text(r, "what to count", call->args[0], &needle) ||
        !search_range(r, t, call->args[1], call->args[2], &from, &to, &empty)) {
        return false;
    }
    if (needle->n == 0) {
        n = empty ? 0 : char_index(t, to) - char_index(t, from) + 1;
    } else {
        for (ptrdiff_t at; !empty && (at = jtext_find(t, needle, from, to)) >= 0; n++) {
            from = (size_t)at + needle->n;
        }
    }
    *out = jvalue_int(n);
    return true;
}

static bool has_affix(const jtext *t, const jtext *affix, size_t from, size_t to, bool at_end)
{
    if (from > to || affix->n > to - from) {
        return false;
    }
    return memcmp(t->bytes + (at_end ? to - affix->n : from), affix->bytes, affix->n) == 0;
}

/* startswith, endswith (text or tuple of texts, start, stop) */
bool jstr_affix(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text;
    jvalue what = call->args[0];
    size_t from, to;
    bool empty, found = false;
    if (call->args[1].kind == JMISSING) { /* then so is the end */
        from = 0;
        to = t->n;
        empty = false;
    } else if (!search_range(r, t, call->args[1], call->args[2], &from, &to, &empty)) {
        return false;
    }
    const jvalue *items = what.kind == JTUPLE ? what.as.list->items : &what;
    size_t n = what.kind == JTUPLE ? what.as.list->n : 1;
    for (size_t i = 0; i < n && !found; i++) {
        const jtext *affix = NULL;
        if (!jrun_charge(r, 1) || !jarg_text(r, f->name, items[i], &affix)) {
            return false;
        }
        found = !empty && has_affix(t, affix, from, to, f->tag);
    }
    *out = jvalue_bool(found);
    return true;
}

/* ---- replacing --------------------------------------------------------------------------------------------------- */

const jtext *jstr_replace_text(jrun *r, const jtext *t, const jtext *old, const jtext *new, int64_t count)
{
    jbuild b = {.run = r};
    size_t done = 0, at = 0;
    uint32_t code;
    if (!jrun_charge_bytes(r, t->n)) {
        return NULL;
    }
    for (; count != 0; count--) {
        if (old->n == 0) { /* between all characters */
            if (!jrun_charge(r, 1) || !jbuild_text(&b, new) || at == t->n) {
                break;
            }
            size_t used = jtext_char(t->bytes, t->n, at, &code);
            if (!jbuild_bytes(&b, t->bytes + at, used)) {
                break;
            }
            at += used;
            done = at;
            continue;
        }
        ptrdiff_t found = jtext_find(t, old, done, t->n);
        if (found < 0 || !jrun_charge(r, 1) || !jbuild_bytes(&b, t->bytes + done, (size_t)found - done) ||
            !jbuild_text(&b, new)) {
            break;
        }
        done = (size_t)found + old->n;
    }
    if (r->status != MLXR_OK || !jbuild_bytes(&b, t->bytes + done, t->n - done)) {
        return NULL;
    }
    return jbuild_finish(&b);
}

/* replace(old, new, count) */
bool jstr_replace(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *old = NULL, *new = NULL;
    int64_t count = -1;
    (void)f;
    if (!jarg_text(r, "what to replace", call->args[0], &old) ||
        !jarg_text(r, "the replacement", call->args[1], &new) || !jarg_int(r, "the count", call->args[2], &count)) {
        return false;
    }
    if (self.as.text->markup) {
        new = jtext_escape(r, new);
    }
    return new && give(r, self, jstr_replace_text(r, self.as.text, old, new, count), out);
}

/* ---- splitting --------------------------------------------------------------------------------------------------- */

static bool split_on(jrun *r, jvalue self, const jtext *separator, int64_t most, jlist *l)
{
    const jtext *t = self.as.text;
    size_t done = 0;
    for (ptrdiff_t at; most != 0 && (at = jtext_find(t, separator, done, t->n)) >= 0; most--) {
        if (!jrun_charge(r, 1) || !push_part(r, self, l, done, (size_t)at)) {
            return false;
        }
        done = (size_t)at + separator->n;
    }
    return push_part(r, self, l, done, t->n);
}

static bool split_space(jrun *r, jvalue self, int64_t most, jlist *l)
{
    const jtext *t = self.as.text;
    size_t at = 0, used;
    for (;;) {
        while ((used = junicode_space_at(t->bytes, t->n, at)) > 0) {
            at += used;
        }
        if (at >= t->n) {
            return true;
        }
        if (most-- == 0) {
            break;
        }
        size_t from = at;
        uint32_t code;
        while (at < t->n && !junicode_space_at(t->bytes, t->n, at)) {
            at += jtext_char(t->bytes, t->n, at, &code);
        }
        if (!jrun_charge(r, 1) || !push_part(r, self, l, from, at)) {
            return false;
        }
    }
    return push_part(r, self, l, at, t->n); /* the rest keeps its white space, behind it too */
}

static void reverse(jlist *l)
{
    jvalue *items = (jvalue *)l->items; /* this list is not shared yet */
    for (size_t i = 0; i + 1 < l->n - i; i++) {
        jvalue swap = items[i];
        items[i] = items[l->n - 1 - i];
        items[l->n - 1 - i] = swap;
    }
}

static bool rsplit_on(jrun *r, jvalue self, const jtext *separator, int64_t most, jlist *l)
{
    const jtext *t = self.as.text;
    size_t end = t->n;
    while (most-- != 0) {
        ptrdiff_t at = jtext_rfind(t, separator, 0, end);
        size_t passed = end - (at < 0 ? 0 : (size_t)at);
        if (!charge_backwards(r, passed, separator) || !jrun_charge(r, 1)) {
            return false;
        }
        if (at < 0) {
            break;
        }
        if (!push_part(r, self, l, (size_t)at + separator->n, end)) {
            return false;
        }
        end = (size_t)at;
    }
    if (!push_part(r, self, l, 0, end)) {
        return false;
    }
    reverse(l);
    return true;
}

static bool rsplit_space(jrun *r, jvalue self, int64_t most, jlist *l)
{
    const jtext *t = self.as.text;
    size_t end = t->n, used;
    for (;;) {
        while ((used = junicode_space_before(t->bytes, end)) > 0) {
            end -= used;
        }
        if (end == 0) {
            break;
        }
        if (most-- == 0) {
            if (!push_part(r, self, l, 0, end)) {
                return false;
            }
            break;
        }
        size_t to = end;
        while (end > 0 && !junicode_space_before(t->bytes, end)) {
            end -= char_length_before(t, end);
        }
        if (!jrun_charge(r, 1) || !push_part(r, self, l, end, to)) {
            return false;
        }
    }
    if (l->n) {
        reverse(l);
    }
    return true;
}

/* split(separator, maxsplit), rsplit */
bool jstr_split(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *separator = NULL;
    int64_t most = -1;
    jlist *l = jlist_new(r);
    if (!l || (call->args[0].kind != JNONE && !jarg_text(r, "the separator", call->args[0], &separator)) ||
        !jarg_int(r, "maxsplit", call->args[1], &most) || !jrun_charge_bytes(r, self.as.text->n)) {
        return false;
    }
    if (separator && separator->n == 0) {
        return jrun_fail(r, "%s() with an empty separator", f->name);
    }
    bool ok = f->tag ? (separator ? rsplit_on(r, self, separator, most, l) : rsplit_space(r, self, most, l))
                     : (separator ? split_on(r, self, separator, most, l) : split_space(r, self, most, l));
    *out = jvalue_list(l);
    return ok;
}

bool jstr_split_lines(jrun *r, jvalue self, bool keep_ends, jlist *l)
{
    const jtext *t = self.as.text;
    uint32_t code;
    if (!jrun_charge_bytes(r, t->n)) {
        return false;
    }
    for (size_t at = 0; at < t->n;) {
        size_t from = at, end = t->n;
        while (at < t->n) {
            size_t used = jtext_char(t->bytes, t->n, at, &code);
            at += used;
            if (junicode_is_line_end(code)) {
                end = at - used;
                at += code == '\r' && at < t->n && t->bytes[at] == '\n';
                break;
            }
        }
        if (!jrun_charge(r, 1) || !push_part(r, self, l, from, keep_ends ? at : end)) {
            return false;
        }
    }
    return true;
}

bool jstr_splitlines(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    jlist *l = jlist_new(r);
    int64_t keep = 0;
    (void)f;
    if (!l || !jarg_int(r, "keepends", call->args[0], &keep) || !jstr_split_lines(r, self, keep != 0, l)) {
        return false;
    }
    *out = jvalue_list(l);
    return true;
}

/* partition(separator), rpartition */
bool jstr_partition(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *separator = NULL;
    jlist *l = jlist_new(r);
    if (!l || !jarg_text(r, "the separator", call->args[0], &separator) || !jrun_charge_bytes(r, t->n)) {
        return false;
    }
    if (separator->n == 0) {
        return jrun_fail(r, "%s() with an empty separator", f->name);
    }
    if (f->tag && !charge_backwards(r, t->n, separator)) {
        return false;
    }
    ptrdiff_t at = f->tag ? jtext_rfind(t, separator, 0, t->n) : jtext_find(t, separator, 0, t->n);
    size_t cut = at >= 0 ? (size_t)at : f->tag ? 0 : t->n, after = at >= 0 ? cut + separator->n : cut;
    if (!push_part(r, self, l, 0, cut) || !push_part(r, self, l, cut, after) || !push_part(r, self, l, after, t->n)) {
        return false;
    }
    *out = jvalue_tuple(l);
    return true;
}

/* ---- joining and padding ----------------------------------------------------------------------------------------- */

bool jstr_join(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    jbuild b = {.run = r};
    jlist *items;
    (void)f;
    if (!jiter_collect(r, call->args[0], &items)) {
        return false;
    }
    for (size_t i = 0; i < items->n; i++) {
        const jtext *item = NULL;
        jvalue v = items->items[i];
        if (self.as.text->markup) {
            item = jvalue_soft_str(r, v);
            item = item ? jtext_escape(r, item) : NULL;
        } else if (!jarg_text(r, "every item of join()", v, &item)) {
            return false;
        }
        if (!item || (i && !jbuild_text(&b, self.as.text)) || !jbuild_text(&b, item)) {
            return false;
        }
    }
    return give(r, self, jbuild_finish(&b), out);
}

const jtext *jstr_pad_text(jrun *r, const jtext *t, int64_t width, const jtext *fill, int how)
{
    size_t n = jtext_count(t), pad, left;
    jbuild b = {.run = r};
    if (width <= 0 || (uint64_t)width <= n) {
        return t;
    }
    pad = (size_t)width - n;
    /* Python's center() puts the odd one left when both the padding and the width are odd. */
    left = how == 0 ? pad / 2 + (pad & (size_t)width & 1) : how == 1 ? 0 : pad;
    return jbuild_fill(&b, fill, left) && jbuild_text(&b, t) && jbuild_fill(&b, fill, pad - left) ? jbuild_finish(&b)
                                                                                                  : NULL;
}

/* center, ljust, rjust (width, fill) */
bool jstr_pad(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *fill = jtext_of(r, " ");
    int64_t width = 0;
    if (!fill || !jarg_int(r, "the width", call->args[0], &width) ||
        !jarg_text(r, "the fill character", call->args[1], &fill)) {
        return false;
    }
    if (self.as.text->markup) {
        fill = jtext_escape(r, fill);
    }
    if (!fill || jtext_count(fill) != 1) {
        return jrun_fail(r, "the fill of %s() must be one character", f->name);
    }
    return give(r, self, jstr_pad_text(r, self.as.text, width, fill, f->tag), out);
}

bool jstr_zfill(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *zero = jtext_of(r, "0");
    int64_t width = 0;
    jbuild b = {.run = r};
    (void)f;
    if (!zero || !jarg_int(r, "the width", call->args[0], &width)) {
        return false;
    }
    size_t n = jtext_count(t), sign = t->n && (t->bytes[0] == '-' || t->bytes[0] == '+');
    if (width <= 0 || (uint64_t)width <= n) {
        return give(r, self, t, out);
    }
    bool ok = jbuild_bytes(&b, t->bytes, sign) && jbuild_fill(&b, zero, (size_t)width - n) &&
              jbuild_bytes(&b, t->bytes + sign, t->n - sign);
    return ok && give(r, self, jbuild_finish(&b), out);
}

bool jstr_expandtabs(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    const jtext *t = self.as.text, *blank = jtext_of(r, " ");
    int64_t size = 8;
    uint64_t column = 0;
    jbuild b = {.run = r};
    (void)f;
    if (!blank || !jarg_int(r, "the tab size", call->args[0], &size) || !jrun_charge_bytes(r, t->n)) {
        return false;
    }
    for (size_t at = 0; at < t->n;) {
        uint32_t code;
        size_t used = jtext_char(t->bytes, t->n, at, &code);
        bool ok = true;
        if (code == '\t') {
            uint64_t step = size > 0 ? (uint64_t)size - column % (uint64_t)size : 0;
            column += step;
            ok = jbuild_fill(&b, blank, (size_t)step);
        } else {
            column = code == '\n' || code == '\r' ? 0 : column + 1;
            ok = jbuild_bytes(&b, t->bytes + at, used);
        }
        if (!ok) {
            return false;
        }
        at += used;
    }
    return give(r, self, jbuild_finish(&b), out);
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

/* isupper, islower, istitle: about the letters that have case, of which there must be one */
bool jstr_is_cased(const jtext *t, char which)
{
    bool any = false, after_cased = false;
    for (size_t at = 0; at < t->n;) {
        uint32_t code;
        at += jtext_char(t->bytes, t->n, at, &code);
        bool upper = junicode_is_upper(code), lower = junicode_is_lower(code), title = junicode_is_title(code);
        if (which == 't') {
            if ((upper || title) ? after_cased : lower && !after_cased) {
                return false;
            }
        } else if ((which == 'u' && (lower || title)) || (which == 'l' && (upper || title))) {
            return false;
        }
        after_cased = upper || lower || title;
        any |= which == 'u' ? upper : which == 'l' ? lower : after_cased;
    }
    return any;
}

static bool is_identifier(const jtext *t)
{
    for (size_t at = 0; at < t->n;) {
        uint32_t code;
        bool first = at == 0;
        at += jtext_char(t->bytes, t->n, at, &code);
        if (!junicode_is_identifier(code, first)) {
            return false;
        }
    }
    return t->n > 0;
}

static bool is_ascii_code(uint32_t code)
{
    return code < 0x80;
}

/* isalnum, isalpha, …: whether all characters are of a class; isascii and isprintable hold for "" too */
bool jstr_is(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    static bool (*const classes[])(uint32_t) = {junicode_is_alnum, junicode_is_alpha,    junicode_is_decimal,
                                                junicode_is_digit, junicode_is_numeric,  junicode_is_space,
                                                is_ascii_code,     junicode_is_printable};
    const jtext *t = self.as.text;
    (void)call;
    if (!jrun_charge_bytes(r, t->n)) {
        return false;
    }
    bool holds;
    if (f->tag >= 8) {
        holds = f->tag == 8 ? is_identifier(t) : jstr_is_cased(t, f->tag == 9 ? 'u' : f->tag == 10 ? 'l' : 't');
    } else {
        holds = t->n > 0 || f->tag >= 6;
        for (size_t at = 0; at < t->n && holds;) {
            uint32_t code;
            at += jtext_char(t->bytes, t->n, at, &code);
            holds = classes[f->tag](code);
        }
    }
    *out = jvalue_bool(holds);
    return true;
}

/* ---- format ------------------------------------------------------------------------------------------------------ */

bool jstr_format(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    (void)f;
    return jformat_braces(r, self.as.text, call, NULL, out);
}

bool jstr_format_map(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    (void)f;
    if (call->args[0].kind != JDICT) {
        return jrun_fail(r, "format_map() needs a dict");
    }
    return jformat_braces(r, self.as.text, &(jcall){0}, call->args[0].as.dict, out);
}
