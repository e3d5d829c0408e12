/*
 * Python's format(value, spec) and str.format().
 * Owner: none. Lifetime: the call.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_format.h"
#include "text/jinja_run.h"

/* ---- padding ----------------------------------------------------------------------------------------------------- */

bool jformat_pad(jbuild *b, const jtext *fill, char align, int64_t width, const jtext *sign, const jtext *body)
{
    size_t have = jtext_count(sign) + jtext_count(body), pad = 0;
    if (width > 0 && (uint64_t)width > have) {
        pad = (size_t)width - have;
    }
    size_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    if (align == '=') { /* between sign and digits */
        return jbuild_text(b, sign) && jbuild_fill(b, fill, pad) && jbuild_text(b, body);
    }
    return jbuild_fill(b, fill, left) && jbuild_text(b, sign) && jbuild_text(b, body) &&
           jbuild_fill(b, fill, pad - left);
}

size_t jformat_integer(uint64_t value, unsigned base, bool upper, char out[72])
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[72];
    size_t n = 0;
    do {
        text[n++] = digits[value % base];
        value /= base;
    } while (value);
    for (size_t i = 0; i < n; i++) {
        out[i] = text[n - 1 - i];
    }
    return n;
}

/* ---- format specifications --------------------------------------------------------------------------------------- */

typedef struct spec {
    const jtext *fill;
    char align, sign, type, grouping;
    bool alternate, zero, has_precision;
    int64_t width, precision;
} spec;

static bool is_align(uint32_t c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static bool read_count(jrun *r, const jtext *t, size_t *at, int64_t *out)
{
    int64_t n = 0;
    for (; *at < t->n && t->bytes[*at] >= '0' && t->bytes[*at] <= '9'; ++*at) {
        n = n * 10 + (t->bytes[*at] - '0');
        if (n > INT32_MAX) {
            return jrun_limit(r, "a width or precision in a format is too large");
        }
    }
    *out = n;
    return true;
}

static char take(const jtext *t, size_t *at, const char *choices)
{
    if (*at < t->n && t->bytes[*at] && strchr(choices, t->bytes[*at])) {
        return t->bytes[(*at)++];
    }
    return 0;
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type], not empty */
static bool spec_parse(jrun *r, const jtext *t, spec *s)
{
    size_t at = 0;
    uint32_t code = 0, next = 0;
    *s = (spec){.fill = jtext_of(r, " ")};
    if (!s->fill) {
        return false;
    }
    size_t used = jtext_char(t->bytes, t->n, 0, &code);
    if (used < t->n) {
        jtext_char(t->bytes, t->n, used, &next);
    }
    if (is_align(next)) {
        s->fill = jtext_sub(r, t, 0, used);
        s->align = (char)next;
        at = used + 1;
    } else if (is_align(code)) {
        s->align = (char)code;
        at = 1;
    }
    s->sign = take(t, &at, "+- ");
    s->alternate = take(t, &at, "#") != 0;
    if (at < t->n && t->bytes[at] == '0') {
        at++;
        s->zero = true;
        if (!s->align) {
            s->align = '=';
        }
        if (!is_align(next)) {
            s->fill = jtext_of(r, "0");
        }
    }
    if (!s->fill || !read_count(r, t, &at, &s->width)) {
        return false;
    }
    s->grouping = take(t, &at, ",_");
    if (take(t, &at, ".")) {
        size_t before = at;
        s->has_precision = true;
        if (!read_count(r, t, &at, &s->precision)) {
            return false;
        }
        if (at == before) {
            return jrun_fail(r, "a format misses the precision behind its point");
        }
    }
    if (at + 1 == t->n && t->bytes[at]) {
        s->type = t->bytes[at++];
    }
    if (at < t->n) {
        return jrun_fail(r, "the format '%.*s' is not valid", jtext_shown(t), t->bytes);
    }
    return true;
}

static bool finish(jbuild *b, const spec *s, char usual_align, const char *sign, const jtext *body, jvalue *out)
{
    jrun *r = b->run;
    const jtext *sign_text = jtext_of(r, sign);
    if (!sign_text || !jformat_pad(b, s->fill, s->align ? s->align : usual_align, s->width, sign_text, body)) {
        return false;
    }
    const jtext *t = jbuild_finish(b);
    *out = jvalue_text(t);
    return t != NULL;
}

static bool format_text(jrun *r, const jtext *t, const spec *s, jvalue *out)
{
    jbuild b = {.run = r};
    if ((s->type && s->type != 's') || s->sign || s->alternate || s->grouping || (s->align == '=' && !s->zero)) {
        return jrun_fail(r, "this format is not for strings");
    }
    const jtext *body = t;
    if (s->has_precision && (uint64_t)s->precision < jtext_count(t)) {
        body = jtext_sub(r, t, 0, jtext_offset(t, (size_t)s->precision));
        if (!body) {
            return false;
        }
    }
    spec padded = *s;
    padded.align = s->align == '=' ? '<' : s->align; /* "05" pads strings on the right */
    return finish(&b, &padded, '<', "", body, out);
}

/* Copies digits (and what follows a point or exponent unchanged) with a separator every `every` places. With zero
 * padding the separators go through the padding too, as Python does it. */
static jtext *group_digits(jrun *r, const char *text, size_t n, char separator, size_t every, size_t width)
{
    size_t n_whole = 0;
    while (n_whole < n && (every == 4 || (text[n_whole] >= '0' && text[n_whole] <= '9'))) { /* by 4: all are digits */
        n_whole++;
    }
    size_t n_rest = n - n_whole, n_digits = n_whole;
    if (width > n + 4096) { /* digit by digit is for widths people use */
        jrun_limit(r, "a width of %zu with digit groups is too large", width);
        return NULL;
    }
    while (n_digits + (n_digits - 1) / every + n_rest < width) {
        n_digits++;
    }
    jbuild b = {.run = r};
    const jtext *zero = jtext_of(r, "0");
    bool ok = zero != NULL;
    for (size_t i = 0; i < n_digits && ok; i++) {
        size_t left = n_digits - i;
        ok = i < n_digits - n_whole ? jbuild_text(&b, zero) : jbuild_bytes(&b, &text[i - (n_digits - n_whole)], 1);
        if (ok && left > 1 && (left - 1) % every == 0) {
            ok = jbuild_bytes(&b, &separator, 1);
        }
    }
    return ok && jbuild_bytes(&b, text + n_whole, n_rest) ? jbuild_finish(&b) : NULL;
}

static const char *sign_of(const spec *s, bool negative)
{
    return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

static bool format_number_text(jrun *r, const char *text, size_t n, bool negative, const char *prefix, size_t every,
                               const spec *s, jvalue *out)
{
    char sign[8];
    jbuild b = {.run = r};
    snprintf(sign, sizeof sign, "%s%s", sign_of(s, negative), prefix);
    size_t width = 0;
    bool zero_fill = s->fill->n == 1 && s->fill->bytes[0] == '0' && s->align == '=';
    if (s->grouping && zero_fill && (uint64_t)s->width > strlen(sign)) {
        width = (size_t)s->width - strlen(sign);
    }
    const jtext *body = s->grouping ? group_digits(r, text, n, s->grouping, every, width) : jtext_copy(r, text, n);
    return body && finish(&b, s, '>', sign, body, out);
}

static bool format_float(jrun *r, double f, const spec *s, jvalue *out)
{
    char text[JNUMBER_TEXT + 8];
    char type = s->type;
    size_t n;
    int precision = s->has_precision ? (int)(s->precision < 300 ? s->precision : 300) : 6;
    bool percent = type == '%', negative = signbit(f) && !isnan(f);
    if (type && !strchr("eEfFgGn%", type)) {
        return jrun_fail(r, "the format type '%c' is not for floats", type);
    }
    if (s->has_precision && s->precision > 300) {
        return jrun_limit(r, "a precision above 300 in a format");
    }
    double size = fabs(percent ? f * 100.0 : f);
    if (!type && !s->has_precision) {
        n = jnumber_repr(size, text);
    } else if (!type) { /* as 'g', but with at least one digit behind the point, and e from the precision on */
        int digits = precision > 0 ? precision : 1;
        n = jnumber_format(size, 'e', digits - 1, false, text, sizeof text);
        char *e = memchr(text, 'e', n);
        int exponent = e ? (int)jnumber_read(e + 1 + (e[1] == '+'), n - (size_t)(e - text) - 1 - (e[1] == '+')) : 0;
        n = jnumber_format(size, 'g', digits, false, text, sizeof text);
        if (e && exponent == digits - 1) { /* 'g' prints 12. as 12; Python goes to 1.2e+01 */
            n = jnumber_format(size, 'e', digits - 1, false, text, sizeof text);
        } else if (isfinite(size) && !memchr(text, '.', n) && !memchr(text, 'e', n)) {
            n += (size_t)sprintf(text + n, ".0");
        }
    } else {
        n = jnumber_format(size,
                           percent       ? 'f'
                           : type == 'n' ? 'g'
                                         : type,
                           precision, s->alternate, text, sizeof text - 2);
    }
    if (percent) {
        text[n++] = '%';
    }
    return format_number_text(r, text, n, negative, "", 3, s, out);
}

static bool format_integer(jrun *r, int64_t i, const spec *s, jvalue *out)
{
    char text[72];
    unsigned base = 10;
    const char *prefix = "";
    if (s->type && strchr("eEfFgG%", s->type)) {
        return format_float(r, (double)i, s, out);
    }
    if (s->has_precision) {
        return jrun_fail(r, "integers take no precision in a format");
    }
    switch (s->type) {
    case 0:
    case 'd':
    case 'n':
        break;
    case 'x':
    case 'X':
        base = 16;
        prefix = s->type == 'x' ? "0x" : "0X";
        break;
    case 'o':
        base = 8;
        prefix = "0o";
        break;
    case 'b':
        base = 2;
        prefix = "0b";
        break;
    case 'c': {
        jbuild b = {.run = r};
        if (i < 0 || i > 0x10ffff || s->sign || s->alternate) {
            return jrun_fail(r, "%lld is no character", (long long)i);
        }
        bool ok = jbuild_code(&b, (uint32_t)i);
        const jtext *t = ok ? jbuild_finish(&b) : NULL;
        jbuild padded = {.run = r};
        return t && finish(&padded, s, '>', "", t, out);
    }
    default:
        return jrun_fail(r, "the format type '%c' is not for integers", s->type);
    }
    if (s->grouping == ',' && base != 10) {
        return jrun_fail(r, "',' groups decimal digits only");
    }
    uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    size_t n = jformat_integer(size, base, s->type == 'X', text);
    return format_number_text(r, text, n, i < 0, s->alternate ? prefix : "", base == 10 ? 3 : 4, s, out);
}

bool jformat_spec(jrun *r, jvalue v, const jtext *text, jvalue *out)
{
    spec s;
    if (text->n == 0) {
        const jtext *t = jvalue_str(r, v);
        *out = jvalue_text(t);
        return t != NULL;
    }
    if (v.kind != JTEXT && !jvalue_is_number(v)) {
        return jrun_fail(r, "a value of type '%s' takes no format", jvalue_type(v));
    }
    if (!spec_parse(r, text, &s)) {
        return false;
    }
    if (v.kind == JTEXT) {
        return format_text(r, v.as.text, &s, out);
    }
    if (v.kind == JBOOL && !s.type) { /* Python: a bool is formatted as the integer it is */
        s.type = 'd';
    }
    return v.kind == JFLOAT ? format_float(r, v.as.real, &s, out) : format_integer(r, jvalue_integer(v), &s, out);
}

/* ---- str.format() ------------------------------------------------------------------------------------------------ */

typedef struct braces {
    jrun *run;
    const jtext *text;
    const jcall *call;
    const jdict *mapping; /* format_map's argument, or NULL */
    int64_t automatic;    /* next number for "{}", -1 once numbers were given */
    bool numbered;
    bool escape; /* the format is markup */
} braces;

static bool argument(braces *f, const jtext *name, jvalue *out)
{
    jrun *r = f->run;
    int64_t i;
    bool too_big;
    bool is_number = name->n > 0;
    for (size_t k = 0; k < name->n; k++) {
        is_number = is_number && name->bytes[k] >= '0' && name->bytes[k] <= '9';
    }
    if (name->n == 0) {
        if (f->automatic < 0) {
            return jrun_fail(r, "format() cannot switch from given numbers to automatic ones");
        }
        i = f->automatic++;
        f->numbered = true;
    } else if (is_number) {
        if (f->numbered) {
            return jrun_fail(r, "format() cannot switch from automatic numbers to given ones");
        }
        f->automatic = -1;
        if (!jnumber_parse_int(name, 10, &i, &too_big) || too_big) {
            return jrun_fail(r, "an argument number in format() is too large");
        }
    } else {
        for (size_t k = 0; k < f->call->n_keywords; k++) {
            if (jtext_equal(f->call->keywords[k].name, name)) {
                *out = f->call->keywords[k].value;
                return true;
            }
        }
        const jentry *entry = f->mapping ? jdict_get(f->mapping, name) : NULL;
        if (!entry) {
            return jrun_fail(r, "format() has no argument '%.*s'", jtext_shown(name), name->bytes);
        }
        *out = entry->value;
        return true;
    }
    if ((uint64_t)i >= f->call->n_args) {
        return jrun_fail(r, "format() has no argument number %lld", (long long)i);
    }
    *out = f->call->args[i];
    return true;
}

/* name(.attribute | [item])* */
static bool field_value(braces *f, const jtext *field, jvalue *out)
{
    jrun *r = f->run;
    size_t at = 0;
    while (at < field->n && field->bytes[at] != '.' && field->bytes[at] != '[') {
        at++;
    }
    const jtext *name = jtext_sub(r, field, 0, at);
    if (!name || !argument(f, name, out)) {
        return false;
    }
    while (at < field->n) {
        bool item = field->bytes[at] == '[';
        size_t from = ++at;
        while (at < field->n && (item ? field->bytes[at] != ']' : field->bytes[at] != '.' && field->bytes[at] != '[')) {
            at++;
        }
        if (at == from) {
            return jrun_fail(r, "a field of format() has an empty attribute or item");
        }
        name = jtext_sub(r, field, from, at);
        if (!name) {
            return false;
        }
        at += item;
        if (item && at < field->n && field->bytes[at] != '.' && field->bytes[at] != '[') {
            return jrun_fail(r, "in a field of format() only '.' or '[' may follow ']'");
        }
        int64_t index;
        bool too_big, number = item && jnumber_parse_int(name, 10, &index, &too_big) && !too_big &&
                               name->bytes[0] >= '0' && name->bytes[0] <= '9';
        bool ok = number ? jvalue_item(r, *out, jvalue_int(index), out)
                  : item ? jvalue_item(r, *out, jvalue_text(name), out)
                         : jvalue_attr(r, *out, name, jattr_find(name), out);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool convert(braces *f, char how, jvalue *v)
{
    jbuild b = {.run = f->run};
    if (how == 0) {
        return true;
    }
    if (how != 'r' && how != 's' && how != 'a') {
        return jrun_fail(f->run, "format() has no conversion '%c'", how);
    }
    if (!(how == 's' ? jprint_str(&b, *v) : how == 'r' ? jprint_repr(&b, *v) : jprint_ascii(&b, *v))) {
        return false;
    }
    const jtext *t = jbuild_finish(&b);
    *v = jvalue_text(t);
    return t != NULL;
}

static bool expand(braces *f, const jtext *text, unsigned level, jbuild *b);

/* The inside of {…}: field[!conversion][:spec] */
static bool replace_field(braces *f, const jtext *inside, unsigned level, jbuild *b)
{
    jrun *r = f->run;
    size_t at = 0;
    for (bool bracket = false; at < inside->n; at++) { /* brackets do not nest: [ lasts until the next ] */
        char c = inside->bytes[at];
        bracket = c == '[' || (bracket && c != ']');
        if (!bracket && (c == '!' || c == ':')) {
            break;
        }
    }
    const jtext *field = jtext_sub(r, inside, 0, at), *formatted;
    char how = 0;
    if (at < inside->n && inside->bytes[at] == '!') {
        if (at + 1 >= inside->n || (at + 2 < inside->n && inside->bytes[at + 2] != ':')) {
            return jrun_fail(r, "format() misses ':' behind a conversion");
        }
        how = inside->bytes[at + 1];
        at += 2;
    }
    const jtext *spec_text = jtext_sub(r, inside, at < inside->n ? at + 1 : inside->n, inside->n);
    jvalue v, shown;
    jbuild spec_build = {.run = r};
    if (!field || !spec_text || !field_value(f, field, &v) || !convert(f, how, &v) ||
        !expand(f, spec_text, level + 1, &spec_build)) {
        return false;
    }
    spec_text = jbuild_finish(&spec_build);
    if (!spec_text) {
        return false;
    }
    if (f->escape && v.kind == JTEXT && v.as.text->markup) {
        if (spec_text->n) {
            return jrun_fail(r, "markup takes no format");
        }
        formatted = v.as.text;
    } else {
        if (!jformat_spec(r, v, spec_text, &shown)) {
            return false;
        }
        formatted = shown.as.text;
    }
    if (f->escape) {
        formatted = jtext_escape(r, formatted);
    }
    return formatted && jbuild_text(b, formatted);
}

/* The '}' that closes a field opened before `at`, or n. */
static size_t field_end(const jtext *t, size_t at)
{
    size_t open = 1;
    bool bracket = false;
    for (; at < t->n; at++) {
        char c = t->bytes[at];
        if (c == '[') {
            bracket = true;
        } else if (c == ']') {
            bracket = false;
        } else if (!bracket && c == '{') {
            open++;
        } else if (!bracket && c == '}' && --open == 0) {
            return at;
        }
    }
    return t->n;
}

static bool expand(braces *f, const jtext *t, unsigned level, jbuild *b)
{
    jrun *r = f->run;
    if (level > 3) {
        return jrun_fail(r, "format() fields nested too deep");
    }
    for (size_t at = 0; at < t->n;) {
        size_t from = at;
        while (at < t->n && t->bytes[at] != '{' && t->bytes[at] != '}') {
            at++;
        }
        if (!jbuild_bytes(b, t->bytes + from, at - from)) {
            return false;
        }
        if (at == t->n) {
            break;
        }
        if (at + 1 < t->n && t->bytes[at + 1] == t->bytes[at]) { /* {{ and }} stand for one brace */
            if (!jbuild_bytes(b, t->bytes + at, 1)) {
                return false;
            }
            at += 2;
            continue;
        }
        size_t end = t->bytes[at] == '{' ? field_end(t, at + 1) : t->n;
        if (end == t->n) {
            return jrun_fail(r, "format() found a '%c' without its partner", t->bytes[at]);
        }
        const jtext *inside = jtext_sub(r, t, at + 1, end);
        if (!inside || !replace_field(f, inside, level, b)) {
            return false;
        }
        at = end + 1;
    }
    return true;
}

bool jformat_braces(jrun *r, const jtext *format, const jcall *call, const jdict *mapping, jvalue *out)
{
    braces f = {.run = r, .text = format, .call = call, .mapping = mapping, .escape = format->markup};
    jbuild b = {.run = r};
    if (!expand(&f, format, 1, &b)) {
        return false;
    }
    jtext *t = jbuild_finish(&b);
    if (t) {
        t->markup = format->markup;
    }
    *out = jvalue_text(t);
    return t != NULL;
}
