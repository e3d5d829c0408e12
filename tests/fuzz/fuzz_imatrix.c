/*
 * Fuzz target: importance matrices of both formats from bytes; those that begin with "GGUF" are that.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: convert */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convert/importance.h"
#include "loaders/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile double sink;

static mlxr_status read_any(importance *out, const uint8_t *data, size_t n, mlxr_error *error)
{
    model_file *file = NULL;
    *out = (importance){0};
    if (n < 4 || memcmp(data, "GGUF", 4) != 0) {
        return importance_read_legacy(out, data, n, "fuzz", error);
    }
    mlxr_status status = gguf_open_memory(&file, data, n, error);
    if (status == MLXR_OK) {
        status = importance_read_gguf(out, file, "fuzz", error);
    }
    model_file_close(&file);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    importance imp;
    mlxr_error error = {0};
    mlxr_status status = read_any(&imp, data, n, &error);
    if (status != MLXR_OK) {
        if (error.text[0] == 0 || imp.entries) {
            abort();
        }
        return 0;
    }
    for (uint64_t i = 0; i < imp.n; i++) {
        const importance_entry *e = &imp.entries[i];
        if (importance_find(&imp, e->name) != e || e->n_matrices == 0 || e->n % e->n_matrices != 0) {
            abort();
        }
        for (uint64_t k = 0; k < e->n; k++) {
            if (!(e->values[k] >= 0) || isinf(e->values[k])) {
                abort();
            }
            sink += (double)e->values[k];
        }
    }
    sink += imp.dataset[0];
    importance_close(&imp);
    return 0;
}
