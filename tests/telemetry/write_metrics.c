/*
 * Writes what a scrape of the daemon looks like with every metric of the table in it, twice with an argument "twice".
 * Owner: none. Lifetime: the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/metric_table.h"

/* Two series of each metric; what is written a second time has grown. */
static void count(metrics *m)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        for (unsigned j = 0; j < 2; j++) {
            const char *const values[METRIC_LABELS_MAX] = {j ? "a \"quoted\" model" : "tiny", "second", "third"};
            metric_series *s = metrics_series(m, i, values);
            if (metric_table[i].kind == METRIC_HISTOGRAM) {
                metric_observe(s, 0.02 * (j + 1));
                metric_observe(s, 1e9);
            } else {
                metric_add(s, 1.5);
            }
        }
    }
}

int main(int argc, char **argv)
{
    metrics *m = NULL;
    mlxr_error error;
    unsigned n_times = argc > 1 && strcmp(argv[1], "twice") == 0 ? 2 : 1;
    if (metrics_open(&m, metric_table, METRIC_COUNT, &error) != MLXR_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (unsigned i = 0; i < n_times; i++) {
        char *text;
        size_t n;
        count(m);
        if (metrics_render(m, &text, &n, &error) != MLXR_OK) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
        fwrite(text, 1, n, stdout);
        fputs(i + 1 < n_times ? "\f" : "", stdout);
        free(text);
    }
    metrics_close(&m);
    return 0;
}
