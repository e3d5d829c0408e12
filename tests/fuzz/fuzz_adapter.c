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
#include "quant/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile float sink;

static mlxr_status read_any(adapter_file **out, const uint8_t *data, size_t n, mlxr_error *error)
{
    static const char nothing[1];
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) {
        return adapter_file_open_memory(out, (text_view){0}, data, n, "llama", 4, error);
    }
    const uint8_t *line = n ? memmem(data, n, "\n%%\n", 4) : NULL;
    size_t n_config = line ? (size_t)(line - data) : n;
    text_view config = {n ? (const char *)data : nothing, n_config};
    return adapter_file_open_memory(out, config, line ? line + 4 : data, line ? n - n_config - 4 : 0, "llama", 4,
                                    error);
}

static void read_matrix(const tensor *t)
{
    float *row = malloc((size_t)t->shape[0] * sizeof *row);
    for (uint64_t i = 0; row && i < t->shape[1]; i++) {
        codec_decode(t->type, (const uint8_t *)t->data + i * t->row_bytes, row, (size_t)t->shape[0]);
        sink += row[0] + row[t->shape[0] - 1];
    }
    free(row);
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
        if (!isfinite(t->scale) || t->rank == 0 || t->rank != t->a->shape[1] || t->rank != t->b->shape[0]) {
            abort();
        }
        sink += t->name[0];
        read_matrix(t->a);
        read_matrix(t->b);
    }
    adapter_file_close(&file);
    return 0;
}
