/*
 * What this machine reaches at best.
 * Owner: the verb. Lifetime: the call.
 */
#include "machine.h"

#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "output.h"

/* Sizes are a factor of four apart; no cache is larger than the last. */
#define SMALLEST_BYTES ((uint64_t)1 << 20)
#define LARGEST_BYTES ((uint64_t)1 << 30)

static double limit_of(mlxr_engine *engine, const char *what, uint64_t n_bytes)
{
    double per_s = 0;
    return mlxr_engine_limit(engine, what, (size_t)n_bytes, &per_s, NULL) == MLXR_OK ? per_s : 0;
}

static void measure_here(machine *m, const options *o, uint64_t n_bytes)
{
    mlxr_engine *engine = NULL;
    mlxr_engine_options wanted = {
        .backend = o->backend, .n_threads = o->n_threads, .cpu_features = o->cpu_features, .no_prefix_cache = true};
    if (mlxr_engine_open(&engine, &wanted, NULL) != MLXR_OK) {
        return; /* opening it for the benchmark will tell why */
    }
    m->int8_per_s = limit_of(engine, "int8", 0);
    m->bf16_per_s = limit_of(engine, "bf16", 0);
    m->f32_per_s = limit_of(engine, "f32", 0);
    for (uint64_t size = SMALLEST_BYTES; m->n_sizes < MACHINE_SIZES_MAX && size <= LARGEST_BYTES; size *= 4) {
        double rate = limit_of(engine, "read", size);
        if (rate <= 0) {
            break;
        }
        m->sizes[m->n_sizes] = (double)size;
        m->read_bytes_per_s[m->n_sizes++] = rate;
        if (size >= n_bytes) {
            break;
        }
    }
    mlxr_engine_close(&engine);
}

void machine_measure(machine *m, const options *o, uint64_t n_bytes)
{
    int ends[2];
    *m = (machine){0};
    fflush(NULL); /* or the child has it to write, too */
    if (pipe(ends) != 0) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        machine found = {0};
        measure_here(&found, o, n_bytes);
        bool sent = write(ends[1], &found, sizeof found) == (ssize_t)sizeof found; /* less than a pipe holds at once */
        _exit(sent ? 0 : 1);
    }
    close(ends[1]);
    if (child > 0) {
        if (read(ends[0], m, sizeof *m) != (ssize_t)sizeof *m) {
            *m = (machine){0};
        }
        waitpid(child, NULL, 0);
    }
    close(ends[0]);
}

double machine_read_rate(const machine *m, double n_bytes)
{
    if (m->n_sizes == 0) {
        return 0;
    }
    unsigned i = 0;
    while (i + 1 < m->n_sizes && m->sizes[i + 1] < n_bytes) {
        i++;
    }
    if (i + 1 == m->n_sizes || n_bytes <= m->sizes[0]) {
        return m->read_bytes_per_s[i];
    }
    double t = log(n_bytes / m->sizes[i]) / log(m->sizes[i + 1] / m->sizes[i]);
    t = t < 1 ? t : 1;
    return m->read_bytes_per_s[i] + t * (m->read_bytes_per_s[i + 1] - m->read_bytes_per_s[i]);
}

double machine_peak(const machine *m, const char *weight_types)
{
    double floats = strncmp(weight_types, "BF16", 4) == 0 ? fmax(m->bf16_per_s, m->f32_per_s) : m->f32_per_s;
    return *weight_types == 'Q' && m->int8_per_s > 0 ? m->int8_per_s : floats;
}

static json_t *per_1e9(double value, double divisor)
{
    return value > 0 ? json_number(value / divisor) : json_null();
}

json_t *machine_json(const machine *m)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < m->n_sizes; i++) {
        json_array_append_new(list, json_pack("{s:I, s:o}", "bytes", (json_int_t)m->sizes[i], "gb_s",
                                              per_1e9(m->read_bytes_per_s[i], 1e9)));
    }
    return json_pack("{s:o, s:{s:o, s:o, s:o}}", "read", list, "peak_tops", "int8", per_1e9(m->int8_per_s, 1e12),
                     "bf16", per_1e9(m->bf16_per_s, 1e12), "f32", per_1e9(m->f32_per_s, 1e12));
}
