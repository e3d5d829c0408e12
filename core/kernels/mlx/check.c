/*
 * Checking our kernels on a device, unit by unit.
 * Owner, lifetime: as check.h says.
 */
#include "kernels/mlx/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

#define REPEATS 7u

static const uint32_t sizes_tried[] = {32, 64, 128, 256, 512, 1024};
#define N_SIZES (sizeof sizes_tried / sizeof *sizes_tried)

typedef struct checker {
    const program_device *device;
    const kernel_vector *vectors;
    kernel_report *report;
    unit_choices verdicts; /* of the units that came before */
    kernel_unit unit;
    kernel_finding *f;
    double log_ratios;
    uint32_t n_ratios;
} checker;

/* A case with a program that uses the kernel and one that does not. */
typedef struct pair {
    kernel_world world;
    program *with, *without;
    float *expected; /* [n_logits], of the one without */
} pair;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The first thing that is wrong is the reason. */
static void set_failed(checker *k, const char *format, ...)
{
    if (k->f->verdict != KERNEL_FAILED) {
        va_list list;
        va_start(list, format);
        k->f->verdict = KERNEL_FAILED;
        vsnprintf(k->f->why, sizeof k->f->why, format, list);
        va_end(list);
    }
}

/* Nothing but this unit; of the large cases of gated products, the products that stand beside it, too. */
static unit_choices only(const checker *k, bool itself)
{
    unit_choices choices;
    memset(&choices, 0, sizeof choices);
    for (int i = 0; i < UNIT_COUNT; i++) {
        choices.off[i] = true;
    }
    choices.off[k->unit] = !itself;
    if (k->unit >= UNIT_GATED) { /* it reads what products read */
        kernel_unit product = (kernel_unit)(k->unit - UNIT_GATED + UNIT_PRODUCT);
        choices.off[product] = !itself && k->verdicts.off[product];
    }
    return choices;
}

static mlxr_status open_pair(checker *k, const kernel_case *c, pair *out, mlxr_error *error)
{
    program_device with = *k->device, without = *k->device;
    *out = (pair){0};
    mlxr_status status = kernel_world_open(&out->world, c, false, error);
    if (status != MLXR_OK) {
        return status;
    }
    out->expected = region_array(&out->world.memory, out->world.n_logits, sizeof *out->expected);
    if (!out->expected) {
        return error_nomem(error, "case of a kernel", out->world.n_logits * sizeof *out->expected);
    }
    with.kernels = true;
    with.choices = only(k, true);
    without.choices = only(k, false);
    /* small cases show what is right: MLX's operations alone */
    without.kernels = c->timed && k->unit >= UNIT_GATED;
    status = mlx_program_open(&out->with, &out->world.p, &with, error);
    return status == MLXR_OK ? mlx_program_open(&out->without, &out->world.p, &without, error) : status;
}

static void close_pair(pair *p)
{
    mlx_program_close(&p->with);
    mlx_program_close(&p->without);
    kernel_world_close(&p->world);
}

/* Runs the kernel's side; what it says is the kernel's failure. < 0: it failed; else how long it took. */
static double run_kernel(checker *k, pair *p)
{
    mlxr_error error;
    memset(p->world.s.logits, 0, p->world.n_logits * sizeof *p->world.s.logits);
    double begin = seconds();
    if (mlx_program_run(p->with, &p->world.s, &error) != MLXR_OK) {
        set_failed(k, "%s", error.text);
        return -1;
    }
    return seconds() - begin;
}

static double difference(const float *found, const float *expected, size_t n)
{
    double wrong = 0, all = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double d = (double)found[i] - (double)expected[i];
        wrong = !(d * d <= wrong) ? d * d : wrong; /* a NaN stays */
        all += (double)expected[i] * (double)expected[i];
        if (isnan(wrong)) {
            break;
        }
    }
    return isfinite(wrong) ? wrong / (all / (double)n) : INFINITY;
}

static double difference_recorded(const kernel_world *w, const kernel_vector *v)
{
    float found[KERNEL_SAMPLES], expected[KERNEL_SAMPLES];
    memcpy(expected, v->samples, sizeof expected);
    for (uint32_t i = 0; i < KERNEL_SAMPLES; i++) {
        found[i] = w->s.logits[kernel_sample_at(w->n_logits, i)];
    }
    return difference(found, expected, KERNEL_SAMPLES);
}

/* Is what the kernel has just left in the logits right? */
static bool compare(checker *k, const pair *p, const kernel_case *c, uint32_t index, uint32_t threads)
{
    double most = c->kv == DTYPE_F16    ? CHECK_ERROR_MOST_F16
                  : c->kv == DTYPE_BF16 ? CHECK_ERROR_MOST_BF16
                                        : CHECK_ERROR_MOST;
    const kernel_vector *v = kernel_vector_find(k->vectors, k->unit, index);
    double recorded = v ? difference_recorded(&p->world, v) : INFINITY;
    double fallback = difference(p->world.s.logits, p->expected, p->world.n_logits);
    char of[48] = "";
    if (threads) {
        snprintf(of, sizeof of, " with %u threads", threads);
    }
    k->f->error_vectors = fmax(k->f->error_vectors, recorded);
    k->f->error_fallback = fmax(k->f->error_fallback, fallback);
    if (recorded > most) {
        set_failed(k, "case %u%s: %.1e from the recorded vector, at most %.0e", index, of, recorded, most);
    } else if (fallback > CHECK_ERROR_MOST_FALLBACK) {
        set_failed(k, "case %u%s: %.1e from what is done without it, at most %.0e", index, of, fallback,
                   CHECK_ERROR_MOST_FALLBACK);
    }
    return recorded <= most && fallback <= CHECK_ERROR_MOST_FALLBACK;
}

static void check_sizes(checker *k, pair *p, const kernel_case *c, uint32_t index)
{
    for (uint32_t i = 0; i < k->f->n_sizes; i++) {
        kernel_size *size = &k->f->sizes[i];
        p->with->choices.threads[k->unit] = size->threads;
        size->right = run_kernel(k, p) >= 0 && compare(k, p, c, index, size->threads) && size->right;
    }
    p->with->choices.threads[k->unit] = 0;
}

/* One small case. Only what is no kernel's fault is an error. */
static mlxr_status check_right(checker *k, const kernel_case *c, uint32_t index, mlxr_error *error)
{
    pair p;
    mlxr_status status = open_pair(k, c, &p, error);
    if (status == MLXR_OK) {
        status = mlx_program_run(p.without, &p.world.s, error);
    }
    if (status == MLXR_OK) {
        memcpy(p.expected, p.world.s.logits, p.world.n_logits * sizeof *p.expected);
        double first = run_kernel(k, &p);
        if (first >= 0) {
            k->f->n_cases++;
            k->f->first_s = fmax(k->f->first_s, first);
            compare(k, &p, c, index, 0);
            check_sizes(k, &p, c, index);
        }
    }
    close_pair(&p);
    return status;
}

static int by_size(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *times, uint32_t n)
{
    qsort(times, n, sizeof *times, by_size);
    return times[n / 2];
}

static mlxr_status time_case(checker *k, const kernel_case *c, mlxr_error *error)
{
    pair p;
    double with[REPEATS], without[REPEATS];
    mlxr_status status = open_pair(k, c, &p, error);
    for (uint32_t i = 0; status == MLXR_OK && i <= REPEATS; i++) { /* in turn; the first pair warms up */
        double s = run_kernel(k, &p), begin = seconds();
        status = mlx_program_run(p.without, &p.world.s, error);
        with[i ? i - 1 : 0] = s;
        without[i ? i - 1 : 0] = seconds() - begin;
        if (s < 0) {
            break;
        }
    }
    if (status == MLXR_OK && k->f->verdict != KERNEL_FAILED) {
        double kernel_s = median(with, REPEATS), fallback_s = median(without, REPEATS);
        k->f->kernel_s += kernel_s;
        k->f->fallback_s += fallback_s;
        k->log_ratios += log(kernel_s / fallback_s);
        k->n_ratios++;
        for (uint32_t i = 0; i < k->f->n_sizes; i++) {
            p.with->choices.threads[k->unit] = k->f->sizes[i].threads;
            for (uint32_t j = 0; j < REPEATS; j++) {
                with[j] = run_kernel(k, &p);
            }
            k->f->sizes[i].s += median(with, REPEATS);
        }
    }
    close_pair(&p);
    return status;
}

/* What the times say. */
static void judge(checker *k)
{
    kernel_finding *f = k->f;
    const kernel_size *best = NULL;
    if (k->n_ratios == 0 || f->verdict == KERNEL_FAILED) {
        return;
    }
    for (uint32_t i = 0; i < f->n_sizes; i++) {
        best = f->sizes[i].right && (!best || f->sizes[i].s < best->s) ? &f->sizes[i] : best;
    }
    f->ratio = exp(k->log_ratios / k->n_ratios);
    if (best && best->s < CHECK_BETTER * f->kernel_s) {
        f->threads = best->threads;
        f->ratio *= best->s / f->kernel_s;
    }
    if (f->ratio > CHECK_SLOWER) {
        f->verdict = KERNEL_SLOWER;
        snprintf(f->why, sizeof f->why, "takes %.2f times what is done without it", f->ratio);
    }
}

static mlxr_status check_unit(checker *k, mlxr_error *error)
{
    kernel_case cases[KERNEL_CASES_MAX];
    char name[UNIT_NAME_MAX];
    mlxr_status status = MLXR_OK;
    k->f = &k->report->findings[k->report->n_findings++];
    *k->f = (kernel_finding){.digest = unit_digest(k->unit), .error_vectors = -1, .error_fallback = -1};
    k->log_ratios = k->n_ratios = 0;
    unit_name(k->unit, name);
    snprintf(k->f->name, sizeof k->f->name, "%s", name);
    for (uint32_t i = 0; unit_has_sizes(k->unit) && i < N_SIZES; i++) {
        k->f->sizes[k->f->n_sizes++] = (kernel_size){.threads = sizes_tried[i], .right = true};
    }
    if (k->unit >= UNIT_GATED && k->verdicts.off[k->unit - UNIT_GATED + UNIT_PRODUCT]) {
        set_failed(k, "it reads weights as q_gemm_dequant does, which is put aside");
        return MLXR_OK;
    }
    uint32_t n = kernel_cases(k->unit, false, cases);
    for (uint32_t i = 0; i < n && status == MLXR_OK; i++) {
        status = check_right(k, &cases[i], i, error);
    }
    n = k->device->failures ? 0 : kernel_cases(k->unit, true, cases);
    for (uint32_t i = 0; i < n && status == MLXR_OK && k->f->verdict != KERNEL_FAILED; i++) {
        status = time_case(k, &cases[i], error);
    }
    judge(k);
    return status;
}

mlxr_status mlx_check_kernels(const program_device *device, const kernel_vector *vectors, kernel_report *out,
                              mlxr_error *error)
{
    checker k = {.device = device, .vectors = vectors, .report = out};
    mlxr_status status = MLXR_OK;
    *out = (kernel_report){.emulated = device->failures != NULL};
    snprintf(out->device, sizeof out->device, "%s", device->device.name);
    snprintf(out->library, sizeof out->library, "%s", device->device.version);
    for (k.unit = UNIT_RMS_NORM; k.unit < UNIT_COUNT && status == MLXR_OK; k.unit++) {
        status = check_unit(&k, error);
        k.verdicts.off[k.unit] = k.f->verdict != KERNEL_OK;
    }
    return status;
}
