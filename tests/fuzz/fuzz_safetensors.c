/*
 * Fuzz target: a safetensors model from bytes. The input is config.json, tokenizer_config.json, generation_config.json
 * and the weight file, with a line "%%" between them.
 * Owner: the fuzzer. Lifetime: one input.
 */
/* links: loaders */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile double sink;

/* The bytes before the next "\n%%\n", which is skipped. */
static text_view next_section(const char **at, const char *end)
{
    const char *begin = *at, *line = begin < end ? memmem(begin, (size_t)(end - begin), "\n%%\n", 4) : NULL;
    *at = line ? line + 4 : end;
    return (text_view){begin, (size_t)((line ? line : end) - begin)};
}

static void read_all(const model_file *file)
{
    for (uint64_t i = 0; i < file->n_meta; i++) {
        const meta_value *value = &file->meta[i];
        if (model_file_meta(file, value->key) != value) {
            abort();
        }
        sink += value->type == META_STRING && value->s.n ? value->s.data[value->s.n - 1] : 0;
        for (uint64_t k = 0; value->type == META_ARRAY && k < value->array.n; k++) {
            sink += meta_array_number(&value->array, k);
        }
    }
    for (uint64_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        const uint8_t *bytes = t->data;
        if (model_file_tensor(file, t->name) != t || t->n_bytes % t->row_bytes != 0 ||
            (t->n_dims == 1 && t->type != DTYPE_F32)) {
            abort();
        }
        sink += bytes[0] + bytes[t->n_bytes - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *at = (const char *)data, *end = at + n;
    safetensors_texts texts = {.name = "fuzz"};
    texts.config = next_section(&at, end);
    texts.tokenizer_config = next_section(&at, end);
    texts.generation_config = next_section(&at, end);
    model_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = safetensors_open_memory(&file, &texts, at, (size_t)(end - at), &error);
    if ((status == MLXR_OK) != (file != NULL) ||
        (status != MLXR_OK && (error.text[0] == 0 || strchr(error.text, '\n')))) {
        abort();
    }
    if (file &&
        model_file_unpack(file, UINT32_MAX, &error) != MLXR_OK) { /* a few times the input: there is memory for it */
        abort();
    }
    if (file) {
        read_all(file);
        model_file_close(&file);
    }
    return 0;
}
