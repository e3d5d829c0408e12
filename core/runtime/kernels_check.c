/*
 * A backend's report on its own kernels, as JSON.
 * Owner: the caller gets the text. Lifetime: the call.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/error.h"
#include "runtime/engine.h"

/* Infinite and unknown ones as null. */
static json_t *number(double x, bool known)
{
    return known && isfinite(x) ? json_real(x) : json_null();
}

static json_t *sizes_json(const kernel_finding *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->n_sizes; i++) {
        const kernel_size *size = &f->sizes[i];
        json_array_append_new(list, json_pack("{s:i, s:b, s:o}", "threads", (int)size->threads, "right", size->right,
                                              "ms", number(size->s * 1e3, size->s > 0)));
    }
    return list;
}

static json_t *finding_json(const kernel_finding *f)
{
    static const char *const names[] = {[KERNEL_OK] = "ok", [KERNEL_SLOWER] = "slower", [KERNEL_FAILED] = "failed"};
    char digest[24];
    snprintf(digest, sizeof digest, "%016" PRIx64, f->digest);
    json_t *entry = json_pack("{s:s, s:s, s:s, s:i}", "kernel", f->name, "verdict", names[f->verdict], "digest", digest,
                              "cases", (int)f->n_cases);
    json_object_set_new(entry, "why", *f->why ? json_string(f->why) : json_null());
    json_object_set_new(entry, "error_recorded", number(f->error_vectors, f->error_vectors >= 0));
    json_object_set_new(entry, "error_fallback", number(f->error_fallback, f->error_fallback >= 0));
    json_object_set_new(entry, "first_ms", number(f->first_s * 1e3, f->n_cases > 0));
    json_object_set_new(entry, "kernel_ms", number(f->kernel_s * 1e3, f->kernel_s > 0));
    json_object_set_new(entry, "fallback_ms", number(f->fallback_s * 1e3, f->fallback_s > 0));
    json_object_set_new(entry, "ratio", number(f->ratio, f->ratio > 0));
    json_object_set_new(entry, "threads", f->threads ? json_integer(f->threads) : json_null());
    json_object_set_new(entry, "sizes", sizes_json(f));
    return entry;
}

static mlxr_status report_json(const kernel_report *r, const char *name, char **json, mlxr_error *error)
{
    struct utsname os;
    char system[sizeof os.sysname + sizeof os.release + sizeof os.machine + 3] = "unknown";
    if (uname(&os) == 0) {
        snprintf(system, sizeof system, "%s %s %s", os.sysname, os.release, os.machine);
    }
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->n_findings; i++) {
        json_array_append_new(list, finding_json(&r->findings[i]));
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "version", MLXR_VERSION, "backend", name, "device",
                             r->device, "system", system, "mlx", r->library, "emulated", r->emulated, "kernels", list);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) {
        return error_nomem(error, "report on kernels", 0);
    }
    *json = text;
    return MLXR_OK;
}

/* Opens the backend of that name, or the first that has kernels of its own and can be opened. */
static mlxr_status open_any(const char *name, const backend_ops **out, backend **b, mlxr_error *error)
{
    const backend_options options = {.n_threads = 1};
    mlxr_status status = error_set(error, MLXR_UNSUPPORTED,
                                   name ? "backend '%s' has no kernels of its own that could be checked"
                                        : "this build has no Metal kernels: they come with the MLX backend%s",
                                   name ? name : " (docs/apple.md)");
    for (const backend_ops *const *ops = backend_list(); *ops; ops++) {
        if ((*ops)->check_kernels && (!name || strcmp((*ops)->name, name) == 0)) {
            status = (*ops)->open(b, &options, error);
            if (status == MLXR_OK) {
                *out = *ops;
                return status;
            }
        }
    }
    return status;
}

mlxr_status mlxr_kernels_check(const char *backend_name, const char *file, char **json, mlxr_error *error)
{
    const backend_ops *ops = NULL;
    backend *b = NULL;
    kernel_report *report = calloc(1, sizeof *report);
    if (!report) {
        return error_nomem(error, "report on kernels", sizeof *report);
    }
    mlxr_status status = open_any(backend_name, &ops, &b, error);
    if (status == MLXR_OK) {
        status = ops->check_kernels(b, file, report, error);
        ops->close(&b);
    }
    if (status == MLXR_OK) {
        status = report_json(report, ops->name, json, error);
    }
    free(report);
    return status;
}
