/*
 * Fuzz target: any bytes as a GGUF file. What opens must be wholly readable: every name, value, string and tensor byte.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: loaders */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/readers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile double sink;

static void read_meta(const model_file *file)
{
    for (uint64_t i = 0; i < file->n_meta; i++) {
        const meta_value *value = &file->meta[i];
        uint32_t u32;
        float f32;
        bool yes;
        text_view text = {0};
        if (model_file_meta(file, value->key) != value) {
            abort();
        }
        sink += model_file_u32(file, value->key, &u32, NULL) == MLXR_OK;
        sink += model_file_f32(file, value->key, &f32, NULL) == MLXR_OK;
        sink += model_file_bool(file, value->key, &yes, NULL) == MLXR_OK;
        sink += model_file_text(file, value->key, &text, NULL) == MLXR_OK && text.n ? text.data[text.n - 1] : 0;
        for (uint64_t k = 0; value->type == META_ARRAY && k < value->array.n; k++) {
            const text_view *s = value->array.strings;
            sink += s ? (s[k].n ? s[k].data[0] + s[k].data[s[k].n - 1] : 0) : meta_array_number(&value->array, k);
        }
    }
}

static void read_tensors(const model_file *file)
{
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        const uint8_t *bytes = t->data;
        if (model_file_tensor(file, t->name) != t || t->row_bytes == 0 || t->n_bytes % t->row_bytes != 0) {
            abort();
        }
        sink += bytes[0] + bytes[t->n_bytes - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    model_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = gguf_open_memory(&file, data, n, &error);
    if ((status == MLXR_OK) != (file != NULL) ||
        (status != MLXR_OK && (error.text[0] == 0 || strchr(error.text, '\n')))) {
        abort();
    }
    if (file) {
        read_meta(file);
        read_tensors(file);
        model_file_close(&file);
    }
    return 0;
}
