/*
 * Profiles of tests, one after the other, as one JSON text and one trace.
 * Owner: the verb `bench`. Lifetime: {0} to bench_profile_close.
 */
#include "bench_profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mlxr_profile.h"
#include "output.h"
#include "telemetry/profiler.h"

#define STEPS_MAX 100000u

bool bench_profile_begin(mlxr_engine *engine)
{
    mlxr_error error;
    if (mlxr_profile_begin(engine, STEPS_MAX, &error) != MLXR_OK) {
        print_failure(&error);
        return false;
    }
    return true;
}

bool bench_profile_take(bench_profile *b, mlxr_engine *engine, const char *name)
{
    mlxr_error error;
    mlxr_profile *p = NULL;
    if (mlxr_profile_take(engine, &p, &error) != MLXR_OK) {
        print_failure(&error);
        return false;
    }
    if (b->n_tests == 0) {
        profiler_trace_begin(&b->trace);
    }
    text_add_string(&b->json, b->n_tests ? ",\n" : "{\"tests\":[\n");
    text_add_string(&b->json, "{\"test\":");
    text_add_json(&b->json, name, strlen(name));
    text_add_string(&b->json, ",\"profile\":");
    bool ok = profiler_json(p, true, &b->json);
    text_add_string(&b->json, "}");
    profiler_trace_add(p, name, ++b->n_tests, &b->trace);
    mlxr_profile_free(&p);
    ok = ok && !b->json.failed && !b->trace.failed;
    if (!ok) {
        print_error("out of memory for the profile of %s", name);
    }
    return ok;
}

static int write_file(const char *path, const text_buffer *t)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(t->data, 1, t->n, file) == t->n;
    ok = (!file || fclose(file) == 0) && ok;
    if (!ok) {
        print_error("%s: %s", path, strerror(errno));
    }
    return ok ? EXIT_OK : EXIT_FAILED;
}

int bench_profile_write(bench_profile *b, const options *o)
{
    text_add_string(&b->json, "\n]}\n");
    profiler_trace_end(&b->trace);
    if (b->json.failed || b->trace.failed) {
        print_error("out of memory for the profile");
        return EXIT_FAILED;
    }
    int code = o->profile ? write_file(o->profile, &b->json) : EXIT_OK;
    return code == EXIT_OK && o->trace ? write_file(o->trace, &b->trace) : code;
}

void bench_profile_close(bench_profile *b)
{
    text_buffer_close(&b->json);
    text_buffer_close(&b->trace);
}
