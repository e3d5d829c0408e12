/*
 * Fuzz target: LoRA adapters from bytes. What begins with "GGUF" is that; else it is adapter_config.json and PEFT's
 * weights, with a line "%%" between them. What opens must be wholly readable.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: loaders */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/adapter_file.h"

/* What adapters are read for. */
static const adapter_model llama = {.arch = "llama", .n_layers = 4, .n_expert = 3, .n_expert_in = 8, .n_ff_expert = 4};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile float sink;

static mlxr_status read_any(adapter_file **out, const uint8_t *data, size_t n, mlxr_error *error)
{
    static const char nothing[1];
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) {
        return adapter_file_open_memory(out, (text_view){0}, data, n, &llama, error);
    }
    const uint8_t *line = n ? memmem(data, n, "\n%%\n", 4) : NULL;
    size_t n_config = line ? (size_t)(line - data) : n;
    text_view config = {n ? (const char *)data : nothing, n_config};
    return adapter_file_open_memory(out, config, line ? line + 4 : data, line ? n - n_config - 4 : 0, &llama, error);
}

/* All numbers of a target, as whoever binds it reads them. */
static void read_target(const adapter_target *t)
{
    float *a = malloc((size_t)t->n_in * t->rank * sizeof *a), *b = malloc(t->rank * sizeof *b);
    for (uint32_t expert = 0; a && b && expert < t->n; expert++) {
        adapter_target_a(t, expert, a);
        sink += a[0] + a[t->n_in * t->rank - 1];
        for (uint64_t row = 0; row < t->n_out; row++) {
            adapter_target_b(t, expert, row, b);
            sink += b[0] + b[t->rank - 1];
        }
    }
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    adapter_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = read_any(&file, data, n, &error);
    if ((status == MLXR_OK) != (file != NULL) ||
        (status != MLXR_OK && (error.text[0] == 0 || strchr(error.text, '\n')))) {
        abort();
    }
    for (uint32_t i = 0; file && i < file->n_targets; i++) {
        const adapter_target *t = &file->targets[i];
        if (!isfinite(t->scale) || t->rank == 0 || t->n == 0) {
            abort();
        }
        sink += t->name[0];
        read_target(t);
    }
    adapter_file_close(&file);
    return 0;
}
