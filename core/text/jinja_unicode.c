/*
 * What Python's str knows about characters: classes, case mappings, white space.
 * Owner: none (constant tables). Lifetime: the program.
 */
#include "text/jinja_unicode.h"

#include "text/jinja_unicode_table.h"
#include "text/unicode.h"

static unsigned category(uint32_t code)
{
    return unicode_category_of(code);
}

static bool in_ranges(const struct junicode_range *ranges, unsigned n, uint32_t code)
{
    unsigned low = 0, high = n;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (code > ranges[mid].last) {
            low = mid + 1;
        } else if (code < ranges[mid].first) {
            high = mid;
        } else {
            return true;
        }
    }
    return false;
}

bool junicode_is_space(uint32_t code)
{
    if (code < 0x80) {
        return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x1f);
    }
    switch (code) {
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000:
        return true;
    default:
        return code >= 0x2000 && code <= 0x200a;
    }
}

bool junicode_is_line_end(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

bool junicode_is_alpha(uint32_t code)
{
    unsigned c = category(code);
    return c >= UNICODE_LU && c <= UNICODE_LO;
}

bool junicode_is_decimal(uint32_t code)
{
    return category(code) == UNICODE_ND;
}

bool junicode_is_digit(uint32_t code)
{
    return junicode_is_decimal(code) || in_ranges(junicode_digit_not_decimal, junicode_digit_not_decimal_n, code);
}

bool junicode_is_numeric(uint32_t code)
{
    unsigned c = category(code);
    return (c >= UNICODE_ND && c <= UNICODE_NO) ||
           in_ranges(junicode_numeric_not_number, junicode_numeric_not_number_n, code);
}

bool junicode_is_alnum(uint32_t code)
{
    return junicode_is_alpha(code) || junicode_is_numeric(code);
}

bool junicode_is_word(uint32_t code)
{
    return code == '_' || junicode_is_alnum(code);
}

bool junicode_is_upper(uint32_t code)
{
    return category(code) == UNICODE_LU || in_ranges(junicode_upper_not_lu, junicode_upper_not_lu_n, code);
}

bool junicode_is_lower(uint32_t code)
{
    return category(code) == UNICODE_LL || in_ranges(junicode_lower_not_ll, junicode_lower_not_ll_n, code);
}

bool junicode_is_title(uint32_t code)
{
    return category(code) == UNICODE_LT;
}

static bool is_cased(uint32_t code)
{
    return junicode_is_upper(code) || junicode_is_lower(code) || junicode_is_title(code);
}

bool junicode_is_printable(uint32_t code)
{
    if (code < 0x7f) {
        return code >= 0x20;
    }
    unsigned c = category(code);
    return c > UNICODE_CS && c < UNICODE_ZS;
}

bool junicode_is_identifier(uint32_t code, bool first)
{
    if (code < 0x80) {
        return code == '_' || ((code | 0x20) >= 'a' && (code | 0x20) <= 'z') || (!first && code >= '0' && code <= '9');
    }
    unsigned c = category(code);
    if ((c >= UNICODE_LU && c <= UNICODE_LO) || c == UNICODE_NL) {
        return true;
    }
    return !first && (c == UNICODE_MN || c == UNICODE_MC || c == UNICODE_ND || c == UNICODE_PC || code == 0xb7);
}

/* ---- case -------------------------------------------------------------------------------------------------------- */

static bool map_simple(const struct junicode_shift *rows, unsigned n, uint32_t code, uint32_t *out)
{
    unsigned low = 0, high = n;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (code > rows[mid].last) {
            low = mid + 1;
        } else if (code < rows[mid].first) {
            high = mid;
        } else if ((code - rows[mid].first) % rows[mid].step == 0) {
            *out = (uint32_t)((int32_t)code + rows[mid].delta);
            return true;
        } else {
            return false;
        }
    }
    return false;
}

static size_t map_special(const struct junicode_special *rows, unsigned n, uint32_t code, uint32_t out[3])
{
    for (unsigned low = 0, high = n; low < high;) {
        unsigned mid = (low + high) / 2;
        if (rows[mid].code == code) {
            size_t n_out = 0;
            while (n_out < 3 && rows[mid].to[n_out]) {
                out[n_out] = rows[mid].to[n_out];
                n_out++;
            }
            return n_out;
        }
        if (rows[mid].code < code) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return 0;
}

size_t junicode_map(uint32_t code, jcase to, uint32_t out[3])
{
    static const struct junicode_table {
        const struct junicode_shift *simple;
        const unsigned *n_simple;
        const struct junicode_special *special;
        const unsigned *n_special;
    } tables[] = {
        [JCASE_UPPER] = {junicode_upper, &junicode_upper_n, junicode_upper_special, &junicode_upper_special_n},
        [JCASE_LOWER] = {junicode_lower, &junicode_lower_n, junicode_lower_special, &junicode_lower_special_n},
        [JCASE_TITLE] = {junicode_title, &junicode_title_n, junicode_title_special, &junicode_title_special_n},
        [JCASE_FOLD] = {junicode_fold, &junicode_fold_n, junicode_fold_special, &junicode_fold_special_n},
    };
    if (code < 0x80) { /* the usual case */
        uint32_t letter = code | 0x20;
        bool is_letter = letter >= 'a' && letter <= 'z';
        out[0] = !is_letter ? code : to == JCASE_LOWER || to == JCASE_FOLD ? letter : letter - 0x20;
        return 1;
    }
    const struct junicode_table *t = &tables[to];
    size_t n = map_special(t->special, *t->n_special, code, out);
    if (n > 0) {
        return n;
    }
    if (map_simple(t->simple, *t->n_simple, code, out)) {
        return 1;
    }
    if (to == JCASE_TITLE || to == JCASE_FOLD) {
        return junicode_map(code, to == JCASE_TITLE ? JCASE_UPPER : JCASE_LOWER, out);
    }
    out[0] = code;
    return 1;
}

static size_t char_before(const char *bytes, size_t n, uint32_t *code)
{
    for (size_t back = 1; back <= 4 && back <= n; back++) {
        if (((unsigned char)bytes[n - back] & 0xc0) != 0x80) {
            if (jtext_char(bytes, n, n - back, code) == back) {
                return back;
            }
            break;
        }
    }
    *code = 0xFFFD;
    return 1;
}

#define CAPITAL_SIGMA 0x3a3

/* A capital sigma at [at, after) ends a word: a cased letter before it and none behind, marks not counted. */
static bool is_final_sigma(const char *bytes, size_t n, size_t at, size_t after)
{
    uint32_t code = 0;
    bool cased = false;
    while (at > 0) {
        at -= char_before(bytes, at, &code);
        if (!in_ranges(junicode_case_ignorable, junicode_case_ignorable_n, code)) {
            cased = is_cased(code);
            break;
        }
    }
    while (cased && after < n) {
        after += jtext_char(bytes, n, after, &code);
        if (!in_ranges(junicode_case_ignorable, junicode_case_ignorable_n, code)) {
            return !is_cased(code);
        }
    }
    return cased;
}

/* Appends the character at `at`, converted; *at moves past it. */
static bool append_mapped(jbuild *b, const jtext *t, size_t *at, jcase to)
{
    uint32_t code, mapped[3];
    size_t used = jtext_char(t->bytes, t->n, *at, &code);
    if (used == 1 && code == 0xFFFD) { /* not UTF-8: as it is */
        *at += 1;
        return jbuild_bytes(b, t->bytes + *at - 1, 1);
    }
    size_t n = junicode_map(code, to, mapped);
    if (to == JCASE_LOWER && code == CAPITAL_SIGMA) {
        mapped[0] = is_final_sigma(t->bytes, t->n, *at, *at + used) ? 0x3c2 : 0x3c3;
    }
    *at += used;
    for (size_t i = 0; i < n; i++) {
        if (!jbuild_code(b, mapped[i])) {
            return false;
        }
    }
    return true;
}

jtext *junicode_convert(jrun *r, const jtext *t, jcase to)
{
    jbuild b = {.run = r};
    if (!jrun_charge_bytes(r, t->n)) {
        return NULL;
    }
    for (size_t at = 0; at < t->n;) {
        if (!append_mapped(&b, t, &at, to)) {
            return NULL;
        }
    }
    return jbuild_finish(&b);
}

jtext *junicode_capitalize(jrun *r, const jtext *t)
{
    jbuild b = {.run = r};
    if (!jrun_charge_bytes(r, t->n)) {
        return NULL;
    }
    for (size_t at = 0; at < t->n;) {
        if (!append_mapped(&b, t, &at, at == 0 ? JCASE_TITLE : JCASE_LOWER)) {
            return NULL;
        }
    }
    return jbuild_finish(&b);
}

jtext *junicode_titlecase(jrun *r, const jtext *t)
{
    jbuild b = {.run = r};
    bool in_word = false;
    if (!jrun_charge_bytes(r, t->n)) {
        return NULL;
    }
    for (size_t at = 0; at < t->n;) {
        uint32_t code;
        jtext_char(t->bytes, t->n, at, &code);
        if (!append_mapped(&b, t, &at, in_word ? JCASE_LOWER : JCASE_TITLE)) {
            return NULL;
        }
        in_word = is_cased(code);
    }
    return jbuild_finish(&b);
}

jtext *junicode_swapcase(jrun *r, const jtext *t)
{
    jbuild b = {.run = r};
    if (!jrun_charge_bytes(r, t->n)) {
        return NULL;
    }
    for (size_t at = 0; at < t->n;) {
        uint32_t code;
        size_t used = jtext_char(t->bytes, t->n, at, &code);
        bool ok;
        if (junicode_is_upper(code)) {
            ok = append_mapped(&b, t, &at, JCASE_LOWER);
        } else if (junicode_is_lower(code)) {
            ok = append_mapped(&b, t, &at, JCASE_UPPER);
        } else {
            ok = jbuild_bytes(&b, t->bytes + at, used);
            at += used;
        }
        if (!ok) {
            return NULL;
        }
    }
    return jbuild_finish(&b);
}

/* ---- white space ------------------------------------------------------------------------------------------------- */

size_t junicode_space_at(const char *bytes, size_t n, size_t at)
{
    uint32_t code;
    if (at >= n) {
        return 0;
    }
    size_t used = jtext_char(bytes, n, at, &code);
    return junicode_is_space(code) ? used : 0;
}

size_t junicode_space_before(const char *bytes, size_t n)
{
    uint32_t code;
    if (n == 0) {
        return 0;
    }
    size_t used = char_before(bytes, n, &code);
    return junicode_is_space(code) ? used : 0;
}

void junicode_trim(const jtext *t, size_t *from, size_t *to)
{
    size_t start = 0, end = t->n, used;
    while ((used = junicode_space_at(t->bytes, end, start)) > 0) {
        start += used;
    }
    while (end > start && (used = junicode_space_before(t->bytes, end)) > 0) {
        end -= used;
    }
    *from = start;
    *to = end;
}
