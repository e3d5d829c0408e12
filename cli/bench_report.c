/*
 * What `mlxr bench` prints.
 * Owner: the verb. Lifetime: the call.
 *
 * The limit beside a figure is the least time that the machine needs for the test: reading every byte that must be read
 * at the rate it reads as much memory, or computing all operations at its peak, whichever takes longer. Bytes are the
 * weights, once a step, less what of the logits' need not be read where only the greatest is wanted, and the KV cache
 * that a step attends to; operations those of mlxr_model_flops.
 */
#include "bench_report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "output.h"
#include "scheduler/quantile.h"

static uint64_t peak_rss(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

typedef struct figures {
    char test[32];
    double median, min, max, mad; /* tokens/s; mad: median of the distances from the median */
    double bytes, flops;          /* a token */
    double read_rate, peak;       /* 0: not known */
    double limit;                 /* tokens/s; 0: not known */
    bool reads;                   /* what limits it is reading */
} figures;

/* Of the weights, what a repetition's steps did not need to read. Steps that were not timed count in the mean only. */
static double bytes_saved(const bench_row *row, double n_steps)
{
    double n = (double)row->logits.n_steps / row->n_rates;
    return row->logits.n_steps ? (double)row->logits.bytes_saved / (double)row->logits.n_steps * fmin(n, n_steps) : 0;
}

/* What a test's tokens cost altogether: prompts in full steps, decoded tokens a step each for all sequences. */
static void count_costs(const bench_report *r, const bench_row *row, figures *f)
{
    const mlxr_model *model = r->s->model;
    double weights = (double)mlxr_model_info_get(model)->bytes_per_token, kv = 0, flops = 0, n_steps, n_tokens;
    if (!row->decodes) {
        uint32_t max = mlxr_step_tokens_max(r->s->engine);
        n_steps = ceil((double)row->n / max);
        for (uint32_t at = 0; at < row->n; at += max) {
            uint32_t end = at + max < row->n ? at + max : row->n;
            kv += (double)mlxr_model_kv_bytes(model, row->depth + (size_t)end, 0);
        }
        flops = mlxr_model_flops(model, row->depth, row->n, 1);
        n_tokens = row->n;
    } else {
        bool batch = strcmp(row->kind, "batch") == 0;
        uint32_t n = batch ? row->n_generate : row->n, together = batch ? row->n : 1;
        size_t before = batch ? row->n_prompt : (size_t)row->depth + 1;
        for (uint32_t i = 0; i < n; i++) {
            kv += (double)mlxr_model_kv_bytes(model, before + i, 0) * together;
        }
        flops = mlxr_model_flops(model, before, n, n) * together;
        n_steps = n;
        n_tokens = (double)n * together;
    }
    double bytes = weights * n_steps + kv - bytes_saved(row, n_steps);
    f->bytes = bytes / n_tokens;
    f->flops = flops / n_tokens;
    f->read_rate = machine_read_rate(&r->m, bytes / n_steps);
    f->peak = machine_peak(&r->m, mlxr_model_info_get(model)->weight_types);
    if (f->read_rate > 0 && f->peak > 0) {
        double reading = f->bytes / f->read_rate, computing = f->flops / f->peak;
        f->reads = reading > computing;
        f->limit = 1 / (f->reads ? reading : computing);
    }
}

static figures figures_of(const bench_report *r, bench_row *row)
{
    figures f = {.median = median_of(row->rates, row->n_rates)};
    f.min = row->rates[0];
    f.max = row->rates[row->n_rates - 1];
    for (uint32_t i = 0; i < row->n_rates; i++) {
        row->rates[i] = fabs(row->rates[i] - f.median);
    }
    f.mad = median_of(row->rates, row->n_rates);
    snprintf(f.test, sizeof f.test, "%s%u", row->kind, row->n);
    count_costs(r, row, &f);
    if (row->decodes && r->o->draft) { /* several tokens a step: the costs of plain decoding are no limit */
        f.limit = 0;
    }
    return f;
}

static json_t *known(double value, double divisor)
{
    return value > 0 ? json_number(value / divisor) : json_null();
}

static json_t *row_json(const bench_report *r, const bench_row *row, const figures *f)
{
    const mlxr_model_info *info = mlxr_model_info_get(r->s->model);
    const mlxr_engine_info *engine = mlxr_engine_info_get(r->s->engine);
    bool batch = strcmp(row->kind, "batch") == 0;
    json_t *line = json_pack("{s:s, s:f, s:f, s:f, s:f, s:i, s:I, s:I, s:I, s:b}", "test", batch ? row->kind : f->test,
                             "tokens_per_s", f->median, "min", f->min, "max", f->max, "mad", f->mad, "n_repeat",
                             (int)row->n_rates, "model_bytes", (json_int_t)info->file_bytes, "bytes_per_token",
                             (json_int_t)info->bytes_per_token, "peak_rss_bytes", (json_int_t)peak_rss(),
                             "batch_invariant", engine->batch_invariant);
    json_t *costs = json_pack("{s:f, s:f, s:o, s:o, s:o, s:o, s:s, s:i, s:s}", "read_bytes_per_token", f->bytes,
                              "flops_per_token", f->flops, "read_gb_s", known(f->read_rate, 1e9), "peak_tops",
                              known(f->peak, 1e12), "limit_pct",
                              known(f->limit > 0 ? 100 * f->median / f->limit : 0, 1), "limit",
                              f->limit > 0 ? json_string(f->reads ? "read" : "peak") : json_null(), "backend",
                              engine->backend, "threads", (int)engine->n_threads, "cpu_features", engine->cpu_features);
    json_object_update(line, costs);
    json_decref(costs);
    json_object_set_new(line, "activations", json_integer(engine->activation_bits));
    json_object_set_new(line, "logits", json_boolean(r->o->logits));
    if (r->o->file) {
        json_object_set_new(line, "file", json_string(r->o->file));
    }
    if (row->depth) {
        json_object_set_new(line, "depth", json_integer(row->depth));
    }
    if (batch) {
        json_object_set_new(line, "batch", json_integer(row->n));
        json_object_set_new(line, "n_prompt", json_integer(row->n_prompt));
        json_object_set_new(line, "n_generate", json_integer(row->n_generate));
    }
    json_t *draft = row->decodes ? session_draft_json(r->o, row->drafts) : NULL;
    if (draft) {
        json_object_set_new(line, "draft", draft);
    }
    return line;
}

/* The columns of CSV and Markdown, and how many decimals each number has. */
static const struct {
    const char *name;
    int decimals;
} columns[] = {
    {"test", 0},
    {"depth", 0},
    {"tokens_per_s", 2},
    {"min", 2},
    {"max", 2},
    {"mad", 2},
    {"read_bytes_per_token", 0},
    {"flops_per_token", 0},
    {"read_gb_s", 1},
    {"peak_tops", 3},
    {"limit_pct", 2},
    {"limit", 0},
    {"n_repeat", 0},
    {"threads", 0},
    {"cpu_features", 0},
    {"peak_rss_bytes", 0},
    {"model_bytes", 0},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

static void print_cell(const json_t *line, const figures *f, size_t i, bool csv)
{
    const json_t *value = json_object_get(line, columns[i].name);
    if (i == 0) {
        fputs(f->test, stdout);
    } else if (json_is_string(value)) {
        const char *quote = csv ? "\"" : ""; /* features have commas between */
        printf("%s%s%s", quote, json_string_value(value), quote);
    } else if (json_is_number(value)) {
        printf("%.*f", columns[i].decimals, json_number_value(value));
    } else if (i == 1) {
        fputs("0", stdout);
    }
}

static void print_cells(const json_t *line, const figures *f, bool csv, bool header)
{
    for (size_t i = 0; header && i < N_COLUMNS; i++) {
        printf("%s%s%s", csv ? i ? "," : "" : "| ", columns[i].name, csv ? "" : " ");
    }
    fputs(header ? csv ? "\n" : "|\n" : "", stdout);
    for (size_t i = 0; header && !csv && i < N_COLUMNS; i++) {
        fputs(i ? "|---:" : "|---", stdout);
    }
    fputs(header && !csv ? "|\n" : "", stdout);
    for (size_t i = 0; i < N_COLUMNS; i++) {
        fputs(csv ? i ? "," : "" : "| ", stdout);
        print_cell(line, f, i, csv);
        fputs(csv ? "" : " ", stdout);
    }
    fputs(csv ? "\n" : "|\n", stdout);
}

/* Adds to a text of `cap` bytes, of which n are used; what does not fit is left out. */
static void text_add(char *text, size_t *n, size_t cap, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int added = vsnprintf(text + *n, cap - *n, format, args);
    va_end(args);
    *n += added < 0 ? 0 : (size_t)added < cap - *n ? (size_t)added : cap - *n - 1;
}

/* A line as it is into files, between words on terminals. */
static void print_line(const char *text)
{
    if (output_columns()) {
        print_wrapped(text, 2, 0);
    } else {
        puts(text);
    }
}

static void print_machine(const bench_report *r)
{
    const mlxr_engine_info *engine = mlxr_engine_info_get(r->s->engine);
    const machine *m = &r->m;
    const struct {
        const char *name;
        double per_s;
    } peaks[] = {{"int8", m->int8_per_s}, {"bf16", m->bf16_per_s}, {"f32", m->f32_per_s}};
    char line[1024];
    size_t n = 0;
    text_add(line, &n, sizeof line, "%s, %u threads%s%s%s", engine->backend, engine->n_threads,
             *engine->cpu_features ? ", " : "", engine->cpu_features,
             engine->activation_bits == 8 ? ", activations of 8 bits" : "");
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++) {
        if (peaks[i].per_s > 0) {
            text_add(line, &n, sizeof line, "; %.3f Tops %s", peaks[i].per_s / 1e12, peaks[i].name);
        }
    }
    for (unsigned i = 0; i < m->n_sizes; i++) {
        text_add(line, &n, sizeof line, "%s%.0f GB/s of %s", i ? ", " : "; reads ", m->read_bytes_per_s[i] / 1e9,
                 human_bytes((uint64_t)m->sizes[i]));
    }
    print_line(line);
}

/* A row of the table for people. A terminal too narrow for it is not told the bytes and FLOP, which --json has. */
static void print_table_row(const char *test, const char *const cells[8])
{
    static const int wide[8] = {12, 12, 12, 8, 11, 11, 10, 16}, narrow[8] = {9, 9, 9, 8, 0, 0, 10, 15};
    int room = output_columns();
    const int *widths = room && room < 116 ? narrow : wide;
    printf("%-*s", widths == narrow ? 11 : 14, test);
    for (size_t i = 0; i < 8; i++) {
        int n_more = strcmp(cells[i], "±") == 0; /* two bytes in one column */
        if (widths[i]) {
            printf(" %*s", widths[i] + n_more, cells[i]);
        }
    }
    putchar('\n');
}

void bench_report_begin(bench_report *r)
{
    const mlxr_model_info *info = mlxr_model_info_get(r->s->model);
    if (r->o->json || r->o->csv) {
        return;
    }
    char title[1024];
    snprintf(title, sizeof title, "%s (%s, %s parameters, %s, %s per token)", *info->name ? info->name : info->path,
             info->weight_types, human_count(info->n_params), human_bytes(info->file_bytes),
             human_bytes(info->bytes_per_token));
    print_line(plain_line(title));
    print_machine(r);
    if (r->o->md) {
        putchar('\n');
    } else {
        print_table_row("test", (const char *const[]){"tokens/s", "min", "max", "±", "bytes/token", "FLOP/token",
                                                      "GB/s read", "% of the limit"});
    }
    fflush(stdout);
}

int bench_report_row(bench_report *r, bench_row *row)
{
    figures f = figures_of(r, row);
    if (r->o->verbose && row->decodes) {
        session_draft_note(r->o, row->drafts);
    }
    json_t *line = row_json(r, row, &f);
    bool first = r->n_rows++ == 0;
    if (r->o->json) {
        if (first) {
            json_object_set_new(line, "machine", machine_json(&r->m));
        }
        return print_json(line);
    }
    if (r->o->csv || r->o->md) {
        print_cells(line, &f, r->o->csv, first);
    } else {
        char test[48], limit[32] = "";
        snprintf(test, sizeof test, "%s", f.test);
        if (row->depth) {
            snprintf(test, sizeof test, "%s @%u", f.test, row->depth);
        }
        if (f.limit > 0) {
            snprintf(limit, sizeof limit, "%.0f%% %s", 100 * f.median / f.limit, f.reads ? "reading" : "computing");
        }
        char numbers[5][32];
        const double values[5] = {f.median, f.min, f.max, f.mad, f.bytes * f.median / 1e9};
        for (size_t i = 0; i < 5; i++) {
            snprintf(numbers[i], sizeof numbers[i], "%.*f", i < 4 ? 2 : 1, values[i]);
        }
        print_table_row(test, (const char *const[]){numbers[0], numbers[1], numbers[2], numbers[3],
                                                    human_bytes((uint64_t)f.bytes), human_count((uint64_t)f.flops),
                                                    numbers[4], limit});
    }
    json_decref(line);
    return finish_output(EXIT_OK);
}
