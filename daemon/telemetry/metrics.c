/*
 * Series are found in a table of atomic pointers, one table a metric: a look-up takes no lock, a new series is put in
 * its place by one compare-and-swap, and none is ever removed.
 * Owner: the caller of metrics_open. Lifetime: until metrics_close.
 *
 * Invariants
 *   1. A slot once filled keeps its series, so a look-up that found an empty slot and lost the race to fill it goes on
 *      from that slot.
 *   2. n_series counts reservations before their series are in a slot; it never exceeds series_max. A table has at
 * least twice as many slots, so that every probe ends.
 *   3. The count of a histogram is the sum of its buckets, each read once: a rendering cannot contradict itself.
 */
#include "telemetry/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/daemon_error.h"
#include "telemetry/text_buffer.h"

#define SERIES_DEFAULT 64u
#define SERIES_MOST 65536u
#define COLLECTORS_MAX 16u

struct metric_series {
    const metric *type;
    char *values[METRIC_LABELS_MAX]; /* behind the buckets */
    uint64_t hash;
    atomic_bool shown;
    _Atomic uint64_t value;     /* bits of a double; of a histogram the sum */
    _Atomic uint64_t buckets[]; /* [n_bounds + 1], not cumulated */
};

typedef struct family {
    const metric *type;
    uint32_t n_labels, series_max, mask;
    _Atomic(metric_series *) *slots; /* [mask + 1] */
    _Atomic uint32_t n_series;
    metric_series *other; /* made at once: what falls back on it has no memory; without labels, the only one */
} family;

typedef struct collector {
    void (*fn)(void *user, metrics *m);
    void *user;
} collector;

struct metrics {
    family *families; /* [n] */
    size_t n;
    pthread_mutex_t rendering;
    collector collectors[COLLECTORS_MAX];
    uint32_t n_collectors;
};

/* ---- series ---- */

/* At most METRIC_VALUE_BYTES_MAX bytes, not ending inside of a character. */
static size_t value_bytes(const char *value)
{
    size_t n = strnlen(value, METRIC_VALUE_BYTES_MAX + 1);
    if (n > METRIC_VALUE_BYTES_MAX) {
        n = METRIC_VALUE_BYTES_MAX;
        while (n > 0 && ((unsigned char)value[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    return n;
}

static metric_series *make_series(const family *f, const char *const *values, uint64_t hash)
{
    size_t n_buckets = f->type->kind == METRIC_HISTOGRAM ? f->type->n_bounds + 1 : 0, n_text = 0;
    for (uint32_t i = 0; i < f->n_labels; i++) {
        n_text += value_bytes(values[i]) + 1;
    }
    metric_series *s = calloc(1, sizeof *s + n_buckets * sizeof s->buckets[0] + n_text);
    if (!s) {
        return NULL;
    }
    s->type = f->type;
    s->hash = hash;
    char *text = (char *)&s->buckets[n_buckets];
    for (uint32_t i = 0; i < f->n_labels; i++) {
        size_t n = value_bytes(values[i]);
        memcpy(text, values[i], n);
        s->values[i] = text;
        text += n + 1;
    }
    return s;
}

static uint64_t hash_values(const family *f, const char *const *values)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (uint32_t i = 0; i < f->n_labels; i++) {
        size_t n = value_bytes(values[i]);
        for (size_t j = 0; j <= n; j++) {
            hash = (hash ^ (j < n ? (unsigned char)values[i][j] : 0xffu)) * 0x100000001b3u;
        }
    }
    return hash ^ hash >> 29;
}

static bool same(const family *f, const metric_series *s, const char *const *values, uint64_t hash)
{
    bool equal = s->hash == hash;
    for (uint32_t i = 0; equal && i < f->n_labels; i++) {
        size_t n = value_bytes(values[i]);
        equal = strlen(s->values[i]) == n && memcmp(s->values[i], values[i], n) == 0;
    }
    return equal;
}

/* A new series, counted; NULL: there are enough, or there is no memory. */
static metric_series *reserve_series(family *f, const char *const *values, uint64_t hash)
{
    metric_series *s = NULL;
    if (atomic_fetch_add_explicit(&f->n_series, 1, memory_order_relaxed) < f->series_max) {
        s = make_series(f, values, hash);
    }
    if (!s) {
        atomic_fetch_sub_explicit(&f->n_series, 1, memory_order_relaxed);
    }
    return s;
}

metric_series *metrics_series(metrics *m, size_t index, const char *const *values)
{
    family *f = &m->families[index];
    const char *given[METRIC_LABELS_MAX] = {"", "", ""};
    for (uint32_t i = 0; i < f->n_labels; i++) {
        given[i] = values && values[i] ? values[i] : "";
    }
    if (f->n_labels == 0) {
        return f->other;
    }
    uint64_t hash = hash_values(f, given);
    if (hash == f->other->hash && same(f, f->other, given, hash)) {
        return f->other;
    }
    metric_series *made = NULL;
    for (uint32_t at = (uint32_t)hash & f->mask;; at = (at + 1) & f->mask) {
        metric_series *s = atomic_load_explicit(&f->slots[at], memory_order_acquire);
        if (!s) {
            if (!made && !(made = reserve_series(f, given, hash))) {
                return f->other;
            }
            if (atomic_compare_exchange_strong(&f->slots[at], &s, made)) {
                return made;
            }
        }
        if (same(f, s, given, hash)) { /* s is now what the other thread put there */
            if (made) {
                free(made);
                atomic_fetch_sub_explicit(&f->n_series, 1, memory_order_relaxed);
            }
            return s;
        }
    }
}

/* ---- values ---- */

static double to_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t to_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void show(metric_series *s)
{
    if (!atomic_load_explicit(&s->shown, memory_order_relaxed)) {
        atomic_store_explicit(&s->shown, true, memory_order_relaxed);
    }
}

static void add_to(_Atomic uint64_t *word, double amount)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(word, &old, to_bits(to_double(old) + amount), memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void metric_add(metric_series *s, double amount)
{
    add_to(&s->value, amount);
    show(s);
}

void metric_set(metric_series *s, double value)
{
    atomic_store_explicit(&s->value, to_bits(value), memory_order_relaxed);
    show(s);
}

void metric_observe_many(metric_series *s, double value, uint64_t n)
{
    uint32_t i = 0;
    while (i < s->type->n_bounds && !(value <= s->type->bounds[i])) {
        i++;
    }
    atomic_fetch_add_explicit(&s->buckets[i], n, memory_order_relaxed);
    add_to(&s->value, value * (double)n);
    show(s);
}

void metric_observe(metric_series *s, double value)
{
    metric_observe_many(s, value, 1);
}

double metric_value(const metric_series *s)
{
    if (s->type->kind != METRIC_HISTOGRAM) {
        return to_double(atomic_load_explicit(&s->value, memory_order_relaxed));
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i <= s->type->n_bounds; i++) {
        n += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
    }
    return (double)n;
}

void metrics_hide(metrics *m, size_t index)
{
    family *f = &m->families[index];
    for (uint32_t i = 0; f->slots && i <= f->mask; i++) {
        metric_series *s = atomic_load_explicit(&f->slots[i], memory_order_acquire);
        if (s) {
            atomic_store_explicit(&s->shown, false, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&f->other->shown, false, memory_order_relaxed);
}

/* ---- opening ---- */

static mlxr_status open_family(family *f, const metric *type, mlxr_error *error)
{
    static const char *const other[METRIC_LABELS_MAX] = {METRIC_OTHER, METRIC_OTHER, METRIC_OTHER};
    f->type = type;
    while (f->n_labels < METRIC_LABELS_MAX && type->labels[f->n_labels]) {
        f->n_labels++;
    }
    f->series_max = type->series_max ? type->series_max : SERIES_DEFAULT;
    for (uint32_t i = 1; i < type->n_bounds; i++) {
        if (!(type->bounds[i - 1] < type->bounds[i])) {
            return daemon_error(error, MLXR_ARG, "metric %s: bound %u is not above the one before", type->name, i);
        }
    }
    if (f->series_max > SERIES_MOST || (type->kind == METRIC_HISTOGRAM) != (type->n_bounds > 0)) {
        return daemon_error(error, MLXR_ARG, "metric %s: %u series of %u bounds make no sense", type->name,
                            f->series_max, type->n_bounds);
    }
    f->other = make_series(f, other, hash_values(f, other));
    if (f->other && f->n_labels == 0) {
        atomic_store_explicit(&f->other->shown, true, memory_order_relaxed);
        return MLXR_OK;
    }
    uint32_t n_slots = 2;
    while (n_slots < 2 * f->series_max) {
        n_slots *= 2;
    }
    f->mask = n_slots - 1;
    f->slots = calloc(n_slots, sizeof *f->slots);
    return f->slots && f->other ? MLXR_OK : daemon_error(error, MLXR_NOMEM, "no memory for metric %s", type->name);
}

mlxr_status metrics_open(metrics **out, const metric *table, size_t n, mlxr_error *error)
{
    metrics *m = calloc(1, sizeof *m);
    if (!m) {
        return daemon_error(error, MLXR_NOMEM, "no memory for metrics");
    }
    pthread_mutex_init(&m->rendering, NULL);
    m->families = calloc(n ? n : 1, sizeof *m->families);
    mlxr_status status = m->families ? MLXR_OK : daemon_error(error, MLXR_NOMEM, "no memory for %zu metrics", n);
    while (status == MLXR_OK && m->n < n) {
        status = open_family(&m->families[m->n], &table[m->n], error);
        m->n++;
    }
    if (status != MLXR_OK) {
        metrics_close(&m);
        return status;
    }
    *out = m;
    return MLXR_OK;
}

void metrics_close(metrics **pointer)
{
    metrics *m = *pointer;
    if (!m) {
        return;
    }
    for (size_t i = 0; i < m->n; i++) {
        family *f = &m->families[i];
        for (uint32_t j = 0; f->slots && j <= f->mask; j++) {
            free(atomic_load_explicit(&f->slots[j], memory_order_relaxed));
        }
        free(f->slots);
        free(f->other);
    }
    pthread_mutex_destroy(&m->rendering);
    free(m->families);
    free(m);
    *pointer = NULL;
}

mlxr_status metrics_on_scrape(metrics *m, void (*fn)(void *user, metrics *m), void *user, mlxr_error *error)
{
    if (m->n_collectors == COLLECTORS_MAX) {
        return daemon_error(error, MLXR_LIMIT, "metrics have %u collectors at most", COLLECTORS_MAX);
    }
    m->collectors[m->n_collectors++] = (collector){fn, user};
    return MLXR_OK;
}

/* ---- text ---- */

static void add_escaped(text_buffer *t, const char *value, bool quotes)
{
    for (size_t n = strlen(value); n > 0;) {
        size_t length = text_character(value, n);
        if (length == 0) {
            text_add_string(t, "\xef\xbf\xbd");
        } else if (*value == '\n') {
            text_add_string(t, "\\n");
        } else if (*value == '\\' || (quotes && *value == '"')) {
            text_print(t, "\\%c", *value);
        } else {
            text_add(t, value, length);
        }
        value += length ? length : 1;
        n -= length ? length : 1;
    }
}

/* name{labels,le="bound"} value; `suffix` is of a histogram, `bound` NULL where there is none. */
static void add_sample(text_buffer *t, const family *f, const metric_series *s, const char *suffix, const double *bound,
                       double value)
{
    text_print(t, METRICS_PREFIX "%s%s", f->type->name, suffix);
    const char *before = "{";
    for (uint32_t i = 0; i < f->n_labels; i++) {
        text_print(t, "%s%s=\"", before, f->type->labels[i]);
        add_escaped(t, s->values[i], true);
        text_add_string(t, "\"");
        before = ",";
    }
    if (bound) {
        text_print(t, "%sle=\"", before);
        text_add_number(t, *bound);
        text_add_string(t, "\"");
        before = ",";
    }
    text_add_string(t, *before == ',' ? "} " : " ");
    text_add_number(t, value);
    text_add_string(t, "\n");
}

static void add_series(text_buffer *t, const family *f, const metric_series *s)
{
    double value = to_double(atomic_load_explicit(&s->value, memory_order_relaxed));
    if (f->type->kind != METRIC_HISTOGRAM) {
        add_sample(t, f, s, "", NULL, value);
        return;
    }
    uint64_t n = 0;
    const double infinite = INFINITY;
    for (uint32_t i = 0; i <= f->type->n_bounds; i++) {
        n += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        add_sample(t, f, s, "_bucket", i < f->type->n_bounds ? &f->type->bounds[i] : &infinite, (double)n);
    }
    add_sample(t, f, s, "_sum", NULL, value);
    add_sample(t, f, s, "_count", NULL, (double)n);
}

static int compare_series(const void *a, const void *b)
{
    const metric_series *x = *(const metric_series *const *)a, *y = *(const metric_series *const *)b;
    int order = 0;
    for (uint32_t i = 0; order == 0 && i < METRIC_LABELS_MAX && x->values[i]; i++) {
        order = strcmp(x->values[i], y->values[i]);
    }
    return order;
}

static bool add_family(text_buffer *t, const family *f)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    uint32_t n = 0, cap = f->slots ? f->mask + 2 : 1;
    const metric_series **list = malloc(cap * sizeof *list);
    if (!list) {
        return false;
    }
    for (uint32_t i = 0; i < cap; i++) {
        const metric_series *s = i + 1 == cap ? f->other : atomic_load_explicit(&f->slots[i], memory_order_acquire);
        if (s && atomic_load_explicit(&s->shown, memory_order_relaxed)) {
            list[n++] = s;
        }
    }
    if (n > 0) {
        qsort(list, n, sizeof *list, compare_series);
        text_print(t, "# HELP " METRICS_PREFIX "%s ", f->type->name);
        add_escaped(t, f->type->help, false);
        text_print(t, "\n# TYPE " METRICS_PREFIX "%s %s\n", f->type->name, kinds[f->type->kind]);
    }
    for (uint32_t i = 0; i < n; i++) {
        add_series(t, f, list[i]);
    }
    free(list);
    return true;
}

mlxr_status metrics_render(metrics *m, char **text, size_t *n_bytes, mlxr_error *error)
{
    text_buffer t = {0};
    bool ok = true;
    pthread_mutex_lock(&m->rendering);
    for (uint32_t i = 0; i < m->n_collectors; i++) {
        m->collectors[i].fn(m->collectors[i].user, m);
    }
    for (size_t i = 0; i < m->n && ok; i++) {
        ok = add_family(&t, &m->families[i]);
    }
    pthread_mutex_unlock(&m->rendering);
    text_add(&t, "", 0); /* a NUL even if there is nothing */
    if (!ok || t.failed) {
        text_buffer_close(&t);
        return daemon_error(error, MLXR_NOMEM, "no memory for the text of the metrics");
    }
    *text = t.data;
    *n_bytes = t.n;
    return MLXR_OK;
}
