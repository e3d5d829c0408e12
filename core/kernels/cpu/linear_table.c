/*
 * The table of linear kernels, filled scalar-first and overwritten by what the features allow; sizes of its buffers.
 * Owner: the caller's linear_kernels. Lifetime: the call.
 */
#include "kernels/cpu/linear_table.h"

#include "base/checked.h"
#include "kernels/cpu/linear_panels.h"

void linear_init(linear_kernels *kernels, cpu_features features)
{
    *kernels = (linear_kernels){0};
    linear_table_scalar(kernels);
    linear_table_arch(kernels, features);
}

void linear_round(linear_kernels *kernels)
{
    for (uint32_t type = 0; type < LINEAR_TYPES; type++) {
        if (kernels->rounded[type] == LINEAR_F32) {
            continue;
        }
        kernels->few[type] = kernels->rounded_few[type];
        kernels->many[type] = kernels->rounded[type];
    }
    for (uint32_t format = 0; format < LINEAR_FORMAT_COUNT; format++) {
        if (kernels->pack_rounded[format]) {
            kernels->pack[format] = kernels->pack_rounded[format];
        }
    }
}

bool linear_use_words(linear_kernels *kernels)
{
    static const dtype types[] = {DTYPE_F32, DTYPE_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types && kernels->word_rows; i++) {
        kernels->few[types[i]] = kernels->many[types[i]] = LINEAR_W15;
        kernels->rows[types[i]] = kernels->word_rows;
        kernels->isa[types[i]] = kernels->word_isa;
    }
    return kernels->word_rows != NULL;
}

size_t linear_input_bytes(linear_format format, uint32_t n_tokens, uint32_t n_in)
{
    uint64_t bytes, per_token = 0;
    switch (format) {
    case LINEAR_F32:
        per_token = (uint64_t)n_in * sizeof(float);
        break;
    case LINEAR_BF16:
        per_token = (uint64_t)n_in * sizeof(uint16_t);
        break;
    case LINEAR_Q16:
    case LINEAR_W16:
    case LINEAR_W15:
    case LINEAR_Q8:
    case LINEAR_C16:
        per_token = ((uint64_t)n_in + Q16_BLOCK - 1) / Q16_BLOCK * q16_record_bytes(format);
        break;
    case LINEAR_FORMAT_COUNT:
        break;
    }
    if (!checked_mul(per_token, n_tokens, &bytes) || !checked_align(bytes, LINEAR_ALIGN, &bytes) || bytes > SIZE_MAX) {
        return 0;
    }
    return (size_t)bytes;
}

linear_input linear_input_make(linear_format format, uint32_t n_tokens, uint32_t n_in, void *data)
{
    return (linear_input){.format = format, .n_tokens = n_tokens, .n_in = n_in, .stride = n_in, .data = data};
}

linear_input linear_input_wrap(const float *rows, size_t stride, uint32_t n_tokens, uint32_t n_in)
{
    return (linear_input){
        .format = LINEAR_F32, .n_tokens = n_tokens, .n_in = n_in, .stride = stride, .data = (void *)(uintptr_t)rows};
}

linear_weight linear_weight_of(const tensor *t)
{
    return (linear_weight){.data = t->data,
                           .row_bytes = t->row_bytes,
                           .type = t->type,
                           .n_in = (uint32_t)t->shape[0],
                           .n_out = (uint32_t)t->shape[1]};
}

size_t linear_scratch_bytes(uint32_t n_in)
{
    /* Unpacked panels, and a copy of the last rows of a matrix whose row count is not a multiple of 16. */
    size_t blocks = ((size_t)n_in + 31) / 32;
    size_t rows = 16 * (blocks * 32 * sizeof(float) + 64);
    size_t decoded = (size_t)n_in * sizeof(float);
    size_t bytes = linear_panels_bytes(n_in) + rows + decoded + 4096;
    return (bytes + LINEAR_ALIGN - 1) / LINEAR_ALIGN * LINEAR_ALIGN;
}
