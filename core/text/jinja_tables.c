/*
 * The tables of filters and of global functions, and the functions.
 * Owner: none; constant. Lifetime: the program.
 */
#include <string.h>
#include <time.h>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

#define RANGE_MAX 100000 /* as in Jinja's sandbox */

static const jfunction filters[] = {
    {"abs", "", jfilter_abs, 0},
    {"attr", "name", jfilter_attr, 0},
    {"batch", "linecount ?fill_with", jfilter_batch, 0},
    {"capitalize", "", jfilter_capitalize, 0},
    {"center", "?width", jfilter_center, 0},
    {"count", "", jfilter_length, 0},
    {"d", "?default_value ?boolean", jfilter_default, 0},
    {"default", "?default_value ?boolean", jfilter_default, 0},
    {"dictsort", "?case_sensitive ?by ?reverse", jfilter_dictsort, 0},
    {"e", "", jfilter_escape, 0},
    {"escape", "", jfilter_escape, 0},
    {"filesizeformat", "?binary", jfilter_filesizeformat, 0},
    {"first", "", jfilter_first, 0},
    {"float", "?default", jfilter_float, 0},
    {"forceescape", "", jfilter_escape, 1},
    {"format", NULL, jfilter_format, 0},
    {"groupby", "attribute ?default ?case_sensitive", jfilter_groupby, 0},
    {"indent", "?width ?first ?blank", jfilter_indent, 0},
    {"int", "?default ?base", jfilter_int, 0},
    {"items", "", jfilter_items, 0},
    {"join", "?d ?attribute", jfilter_join, 0},
    {"last", "", jfilter_last, 0},
    {"length", "", jfilter_length, 0},
    {"list", "", jfilter_list, 0},
    {"lower", "", jfilter_convert, JCASE_LOWER},
    {"map", NULL, jfilter_map, 0},
    {"max", "?case_sensitive ?attribute", jfilter_extreme, 1},
    {"min", "?case_sensitive ?attribute", jfilter_extreme, 0},
    {"reject", NULL, jfilter_select, 2},
    {"rejectattr", NULL, jfilter_select, 3},
    {"replace", "old new ?count", jfilter_replace, 0},
    {"reverse", "", jfilter_reverse, 0},
    {"round", "?precision ?method", jfilter_round, 0},
    {"safe", "", jfilter_safe, 0},
    {"select", NULL, jfilter_select, 0},
    {"selectattr", NULL, jfilter_select, 1},
    {"slice", "slices ?fill_with", jfilter_slice, 0},
    {"sort", "?reverse ?case_sensitive ?attribute", jfilter_sort, 0},
    {"string", "", jfilter_string, 0},
    {"sum", "?attribute ?start", jfilter_sum, 0},
    {"title", "", jfilter_title, 0},
    {"tojson", "?ensure_ascii ?indent ?separators ?sort_keys", jfilter_tojson, 0},
    {"trim", "?chars", jfilter_trim, 0},
    {"truncate", "?length ?killwords ?end ?leeway", jfilter_truncate, 0},
    {"unique", "?case_sensitive ?attribute", jfilter_unique, 0},
    {"upper", "", jfilter_convert, JCASE_UPPER},
    {"urlencode", "", jfilter_urlencode, 0},
    {"wordcount", "", jfilter_wordcount, 0},
    {"xmlattr", "?autospace", jfilter_xmlattr, 0},
};

const jfunction *jfilter_find(const jtext *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (jtext_is(name, filters[i].name)) {
            return &filters[i];
        }
    }
    return NULL;
}

bool jfilter_refused(const jtext *name)
{
    static const char *const refused[] = {"pprint", "random", "striptags", "urlize", "wordwrap"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (jtext_is(name, refused[i])) {
            return true;
        }
    }
    return false;
}

/* ---- global functions -------------------------------------------------------------------------------------------- */

/* range(stop) or range(start, stop, step) */
static JNATIVE(global_range)
{
    int64_t part[3] = {0, 0, 1};
    (void)self;
    if (call->n_keywords || call->n_args < 1 || call->n_args > 3) {
        return jrun_fail(r, "%s() takes one to three numbers", f->name);
    }
    for (size_t i = 0; i < call->n_args; i++) {
        if (!jarg_int(r, "every argument of range()", call->args[i], &part[call->n_args == 1 ? 1 : i])) {
            return false;
        }
    }
    if (part[2] == 0) {
        return jrun_fail(r, "the step of range() is zero");
    }
    bool up = part[2] > 0;
    /* As unsigned numbers neither the distance nor the size of a step overflows. */
    uint64_t span = up ? (uint64_t)part[1] - (uint64_t)part[0] : (uint64_t)part[0] - (uint64_t)part[1];
    uint64_t size = up ? (uint64_t)part[2] : 0 - (uint64_t)part[2];
    uint64_t n = (up ? part[1] > part[0] : part[1] < part[0]) ? (span - 1) / size + 1 : 0;
    if (n > RANGE_MAX) {
        return jrun_limit(r, "range() of %llu numbers; the limit is %d", (unsigned long long)n, RANGE_MAX);
    }
    jrange *range = jrun_alloc(r, sizeof *range);
    if (range) {
        *range = (jrange){.start = part[0], .stop = part[1], .step = part[2], .n = (int64_t)n};
        *out = (jvalue){.kind = JRANGE, .as.range = range};
    }
    return range != NULL;
}

static bool add_pairs(jrun *r, jdict *d, jvalue source)
{
    jlist *pairs, *pair;
    if (source.kind == JUNDEFINED) {
        return jrun_undefined(r, source);
    }
    if (source.kind == JDICT) {
        source = (jvalue){.kind = JVIEW, .note = JVIEW_ITEMS, .as.dict = source.as.dict};
    }
    if (!jiter_collect(r, source, &pairs)) {
        return false;
    }
    for (size_t i = 0; i < pairs->n; i++) {
        if (!jiter_collect(r, pairs->items[i], &pair)) {
            return false;
        }
        if (pair->n != 2) {
            return jrun_fail(r, "a dict is made of pairs, not of %zu values", pair->n);
        }
        if (!jdict_set(r, d, pair->items[0], pair->items[1])) {
            return false;
        }
    }
    return true;
}

/* dict(pairs, name=value…); namespace(…) (tag 1), which keeps no private names */
static JNATIVE(global_dict)
{
    (void)self;
    if (call->n_args > 1) {
        return jrun_fail(r, "%s() takes at most one value besides keywords", f->name);
    }
    jdict *d = jdict_new(r);
    if (!d || (call->n_args == 1 && !add_pairs(r, d, call->args[0]))) {
        return false;
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (!jdict_set_text(r, d, call->keywords[i].name, call->keywords[i].value)) {
            return false;
        }
    }
    for (size_t i = 0; f->tag && i < d->n; i++) {
        jvalue key = d->entries[i].key;
        if (key.kind == JTEXT && key.as.text->n && key.as.text->bytes[0] == '_') {
            return jrun_fail(r, "a namespace keeps no attribute that begins with '_'");
        }
    }
    *out = (jvalue){.kind = f->tag ? JNAMESPACE : JDICT, .as.dict = d};
    return true;
}

static JNATIVE(global_cycler)
{
    (void)self;
    if (call->n_args == 0 || call->n_keywords) {
        return jrun_fail(r, "%s() needs values to go through", f->name);
    }
    jcycler *c = jrun_alloc(r, sizeof *c);
    const jlist *items = c ? jlist_copy(r, call->args, call->n_args) : NULL;
    if (!items) {
        return false;
    }
    *c = (jcycler){.items = items};
    *out = (jvalue){.kind = JCYCLER, .as.cycler = c};
    return true;
}

static JNATIVE(global_joiner)
{
    const jtext *separator = jtext_of(r, ", ");
    jjoiner *j = separator ? jrun_alloc(r, sizeof *j) : NULL;
    (void)f;
    (void)self;
    if (!j || !jarg_text(r, "the separator of joiner()", call->args[0], &separator)) {
        return false;
    }
    *j = (jjoiner){.separator = separator};
    *out = (jvalue){.kind = JJOINER, .as.joiner = j};
    return true;
}

static JNATIVE(global_raise)
{
    const jtext *t = jvalue_str(r, call->args[0]);
    (void)f;
    (void)self;
    (void)out;
    if (t) {
        jrun_fail(r, "the template refuses: %.*s", t->n < 380 ? (int)t->n : 380, t->bytes);
    }
    return false;
}

/* One %-directive of strftime; what C knows, Python knows. */
static bool put_time(jrun *r, jbuild *b, const struct tm *tm, char directive)
{
    char format[3] = {'%', directive, 0}, text[128];
    if (directive == 'f') {
        return jbuild_c(b, "000000");
    }
    if (directive == 'z' || directive == 'Z') {
        return true; /* a naive datetime prints nothing */
    }
    if (!directive || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", directive)) {
        return jrun_fail(r, "strftime_now() knows no '%%%c'", directive ? directive : '?');
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, format, tm);
#pragma GCC diagnostic pop
    return jbuild_bytes(b, text, n);
}

static JNATIVE(global_strftime)
{
    const jtext *t = NULL;
    jbuild b = {.run = r};
    struct tm tm;
    time_t now = (time_t)r->now;
    (void)f;
    (void)self;
    if (!jarg_text(r, "the format of strftime_now()", call->args[0], &t)) {
        return false;
    }
    if (!localtime_r(&now, &tm)) {
        return jrun_fail(r, "the time %lld has no date", (long long)r->now);
    }
    for (size_t at = 0; at < t->n; at++) {
        const char *next = &t->bytes[at];
        bool ok;
        if (*next != '%') {
            ok = jbuild_bytes(&b, next, 1);
        } else if (at + 2 < t->n && next[1] == '-') { /* without the leading zero, as glibc and macOS have it */
            jbuild one = {.run = r};
            ok = put_time(r, &one, &tm, next[2]);
            size_t skip = one.n > 1 && (one.bytes[0] == '0' || one.bytes[0] == ' ');
            ok = ok && (one.n == 0 || jbuild_bytes(&b, one.bytes + skip, one.n - skip));
            at += 2;
        } else if (at + 1 < t->n) {
            ok = put_time(r, &b, &tm, next[1]);
            at++;
        } else {
            ok = jbuild_c(&b, "%");
        }
        if (!ok) {
            return false;
        }
    }
    const jtext *text = jbuild_finish(&b);
    *out = jvalue_text(text);
    return text != NULL;
}

static const jfunction globals[] = {
    {"cycler", NULL, global_cycler, 0},   {"dict", NULL, global_dict, 0},
    {"joiner", "?sep", global_joiner, 0}, {"lipsum", NULL, NULL, 0},
    {"namespace", NULL, global_dict, 1},  {"raise_exception", "message", global_raise, 0},
    {"range", NULL, global_range, 0},     {"strftime_now", "format", global_strftime, 0},
};

const jfunction *jglobal_find(const jtext *name)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (jtext_is(name, globals[i].name)) {
            return &globals[i];
        }
    }
    return NULL;
}
