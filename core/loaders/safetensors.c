/*
 * Safetensors reader: one weight file's header and tensors.
 * Format: 8 bytes of header length, a JSON object name → {dtype, shape, data_offsets}, then the data without gaps
 * (github.com/huggingface/safetensors, README).
 * Owner: the model_file being filled. Lifetime: tensor data points into the mapping, the rest lives in the region.
 */
#include "loaders/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "quant/codec.h"

#define NAME_BYTES_MAX 255
#define VECTOR_MAX (1u << 24)      /* elements of a norm or bias: they are copied */
#define COPY_MAX ((size_t)1 << 30) /* bytes of a tensor that is stored the other way round */

typedef struct reader {
    const char *name;    /* of the file, for errors */
    const uint8_t *data; /* behind the header */
    uint64_t n_data;
    uint64_t begin; /* of the data in the file */
    const hf_config *config;
    region *memory;
    mlxr_error *error;
} reader;

typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

static mlxr_status bad(const reader *r, mlxr_status status, const char *format, ...) ERROR_PRINTF(3, 4);

static mlxr_status bad(const reader *r, mlxr_status status, const char *format, ...)
{
    char text[sizeof r->error->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(r->error, status, "%s: %s", short_path(r->name), text);
}

/* ---- one tensor ------------------------------------------------------------------------------------------------ */

static mlxr_status read_type(const reader *r, const char *name, const json_t *entry, tensor *t)
{
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (!text) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s': no 'dtype'", name);
    }
    const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(dtype_name(types[i]), text) == 0) {
            t->type = types[i];
            return MLXR_OK;
        }
    }
    return bad(r, MLXR_UNSUPPORTED, "tensor '%.128s' has dtype '%.40s'; F32, F16 and BF16 are supported", name, text);
}

/* The header has the outermost dimension first, a tensor the innermost. A scalar becomes a vector of one. `size`: bytes
 * of an element. */
static mlxr_status read_shape(const reader *r, const char *name, const json_t *entry, size_t size, tensor *t)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > TENSOR_DIMS_MAX) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s': 'shape' is no array of up to %d numbers", name, TENSOR_DIMS_MAX);
    }
    t->n_dims = n ? (uint32_t)n : 1;
    uint64_t n_bytes = size;
    for (size_t i = 0; i < TENSOR_DIMS_MAX; i++) {
        t->shape[i] = 1;
        if (i >= n) {
            continue;
        }
        const json_t *count = json_array_get(shape, n - 1 - i);
        if (json_typeof(count) != JSON_INTEGER || json_integer_value(count) < 1) {
            return bad(r, MLXR_FORMAT, "tensor '%.128s': dimension %zu is no number above 0", name, n - 1 - i);
        }
        t->shape[i] = (uint64_t)json_integer_value(count);
        if (!checked_mul(n_bytes, t->shape[i], &n_bytes)) {
            return bad(r, MLXR_FORMAT, "tensor '%.128s': its shape overflows", name);
        }
    }
    t->n_bytes = (size_t)n_bytes;
    t->row_bytes = size * (size_t)t->shape[0];
    return MLXR_OK;
}

static mlxr_status read_offsets(const reader *r, const char *name, const json_t *entry, extent *e)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || json_typeof(first) != JSON_INTEGER || json_typeof(last) != JSON_INTEGER) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s': 'data_offsets' is no pair of whole numbers", name);
    }
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin) {
        return bad(r, MLXR_FORMAT,
                   "tensor '%.128s': data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT "] go backwards",
                   name, begin, end);
    }
    if ((uint64_t)end > r->n_data) {
        return bad(r, MLXR_FORMAT,
                   "tensor '%.128s': data ends at byte %" PRIu64 ", but the file has %" PRIu64
                   "; the file is truncated, download it again",
                   name, r->begin + (uint64_t)end, r->begin + r->n_data);
    }
    *e = (extent){(uint64_t)begin, (uint64_t)end, name};
    return MLXR_OK;
}

/* Norms and biases become F32, and Gemma's norms 1 + w, so that readers find what GGUF files have. */
static mlxr_status convert_vector(const reader *r, tensor *t, unsigned change)
{
    bool plus_one = (change & HF_PLUS_ONE) != 0, minus_exp = (change & HF_MINUS_EXP) != 0;
    if (t->type == DTYPE_F32 && !plus_one && !minus_exp) {
        return MLXR_OK;
    }
    if (t->shape[0] > VECTOR_MAX) {
        return bad(r, MLXR_LIMIT, "tensor '%.128s': a vector of %" PRIu64 " elements; at most %u are supported",
                   t->name, t->shape[0], VECTOR_MAX);
    }
    size_t n = (size_t)t->shape[0];
    float *values = region_alloc(r->memory, n * sizeof *values);
    if (!values) {
        return error_nomem(r->error, t->name, n * sizeof *values);
    }
    codec_decode(t->type, t->data, values, n);
    for (size_t i = 0; i < n; i++) {
        values[i] = minus_exp ? -expf(values[i]) : plus_one ? values[i] + 1.0f : values[i];
    }
    t->type = DTYPE_F32;
    t->data = values;
    t->row_bytes = t->n_bytes = n * sizeof *values;
    return MLXR_OK;
}

/* The weights of a short convolution [n][1][rows]: a matrix, and F32 whatever the others are. */
static mlxr_status squeeze(const reader *r, tensor *t)
{
    uint64_t n_rows = t->shape[0], n = t->shape[2];
    t->n_dims = 1;
    t->shape[0] = n_rows * n; /* the product is that of the shape, which was checked */
    t->shape[2] = 1;
    mlxr_status status = convert_vector(r, t, 0);
    t->n_dims = 2;
    t->shape[0] = n_rows;
    t->shape[1] = n;
    t->row_bytes = t->n_bytes / (size_t)n;
    return status;
}

/* A vector of n_rows rows, as GGUF has it. */
static mlxr_status fold_vector(const reader *r, tensor *t, uint64_t n_rows)
{
    if (n_rows == 0 || t->shape[0] % n_rows != 0) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s': %" PRIu64 " elements do not divide among %" PRIu64 " groups",
                   t->name, t->shape[0], n_rows);
    }
    t->n_dims = 2;
    t->shape[0] /= n_rows;
    t->shape[1] = n_rows;
    t->row_bytes /= (size_t)n_rows;
    return MLXR_OK;
}

static mlxr_status read_vector(const reader *r, tensor *t, unsigned change)
{
    mlxr_status status = convert_vector(r, t, change);
    if (status == MLXR_OK && change & (HF_COLUMN | HF_GROUPS)) {
        status = fold_vector(r, t, change & HF_COLUMN ? t->shape[0] : r->config->n_groups);
    }
    return status;
}

/* Elements 0, 2, 4 … of each row before 1, 3, 5 …: a copy. */
static mlxr_status unzip_rows(const reader *r, tensor *t)
{
    size_t size = dtype_row_bytes(t->type, 1), n = (size_t)t->shape[0];
    if (t->n_dims != 2 || t->n_bytes > COPY_MAX) {
        return bad(r, MLXR_LIMIT,
                   "tensor '%.128s' has %u dimensions and %zu bytes; it must be copied, which takes 2 and at most %zu",
                   t->name, t->n_dims, t->n_bytes, COPY_MAX);
    }
    uint8_t *copy = region_alloc(r->memory, t->n_bytes);
    if (!copy) {
        return error_nomem(r->error, t->name, t->n_bytes);
    }
    const uint8_t *from = t->data;
    for (size_t row = 0; row < t->shape[1]; row++) {
        for (size_t i = 0; i < n; i++) {
            size_t to = i / 2 + i % 2 * (n / 2);
            memcpy(copy + (row * n + to) * size, from + (row * n + i) * size, size);
        }
    }
    t->data = copy;
    return MLXR_OK;
}

/* A matrix, or a stack of them, whose inputs are outermost: rows are made when they are needed. */
static mlxr_status turn_stack(const reader *r, tensor *t, unsigned change, const packed_weight **packed)
{
    bool single = r->config->class->columns;
    if (t->n_dims != (single ? 2u : 3u)) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s' has %u dimensions; a %s", t->name, t->n_dims,
                   single ? "matrix has 2" : "stack of matrices has 3");
    }
    packed_weight *w = region_alloc(r->memory, sizeof *w);
    if (!w) {
        return error_nomem(r->error, t->name, sizeof *w);
    }
    *w = (packed_weight){.layout = PACKED_TURNED,
                         .type = t->type,
                         .n_in = t->shape[1],
                         .n_rows = t->shape[0],
                         .n_out = t->shape[0] * t->shape[2],
                         .n_zip = change & HF_ZIPPED ? t->shape[0] : 0,
                         .q = t->data,
                         .sources = {t->data},
                         .source_bytes = {t->n_bytes},
                         .n_sources = 1};
    t->data = NULL;
    t->shape[0] = w->n_in;
    t->shape[1] = w->n_rows;
    t->row_bytes = dtype_row_bytes(t->type, (size_t)w->n_in);
    *packed = w;
    return MLXR_OK;
}

/* What has to be done to a stack of a class whose stacks lie one way or the other: its shape tells which. */
static unsigned change_of_stack(const reader *r, const tensor *t, const char *ours)
{
    uint64_t n_embd = t->shape[strstr(ours, "ffn_down") ? 1 : 0]; /* if inputs are innermost */
    return n_embd == r->config->n_embd ? 0 : HF_TRANSPOSED;
}

/* Tensors of gate and up in turn, and those that are stored the other way round. */
static mlxr_status rearrange(const reader *r, tensor *t, unsigned change, const packed_weight **packed)
{
    if (change & HF_ZIPPED && t->shape[0] % 2) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s' holds pairs of gate and up, but has %" PRIu64, t->name,
                   t->shape[0]);
    }
    return change & HF_TRANSPOSED ? turn_stack(r, t, change, packed) : unzip_rows(r, t);
}

static mlxr_status check_bytes(const reader *r, const char *name, const tensor *t, const extent *e)
{
    if (e->end - e->begin != t->n_bytes) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s': its shape needs %zu bytes, data_offsets give %" PRIu64, name,
                   t->n_bytes, e->end - e->begin);
    }
    return MLXR_OK;
}

/* A piece of a quantised weight, as it lies in the file. */
static mlxr_status read_piece(const reader *r, const char *name, const json_t *entry, hf_part part, size_t n_stem,
                              const extent *e, packed_piece *out)
{
    uint32_t size;
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    *out = (packed_piece){.part = part, .stem = region_strndup(r->memory, name, n_stem)};
    if (!out->stem) {
        return error_nomem(r->error, "a tensor name", n_stem);
    }
    out->raw = raw_type_of(text ? text : "", &size, &out->t.type);
    if (out->raw == RAW_OTHER) {
        return bad(r, MLXR_UNSUPPORTED, "tensor '%.128s' of a quantised weight has dtype '%.40s'", name,
                   text ? text : "(none)");
    }
    mlxr_status status = read_shape(r, name, entry, size, &out->t);
    out->t.data = r->data + e->begin;
    return status == MLXR_OK ? check_bytes(r, name, &out->t, e) : status;
}

static mlxr_status read_tensor(const reader *r, const char *name, const json_t *entry, tensor *t, extent *e,
                               hf_fate *fate, bool *halves, const packed_weight **packed)
{
    char ours[NAME_BYTES_MAX + 1];
    unsigned change;
    if (name[0] == 0 || strlen(name) > NAME_BYTES_MAX) {
        return bad(r, MLXR_FORMAT, "a tensor name of %zu bytes; it must have 1 to %d", strlen(name), NAME_BYTES_MAX);
    }
    mlxr_status status = read_offsets(r, name, entry, e);
    *fate = hf_tensor_name(r->config, name, ours, sizeof ours, &change);
    if (status != MLXR_OK || *fate == HF_SKIP) {
        return status;
    }
    status = read_type(r, name, entry, t);
    if (status == MLXR_OK) {
        status = read_shape(r, name, entry, dtype_row_bytes(t->type, 1), t);
    }
    if (status == MLXR_OK) {
        status = check_bytes(r, name, t, e);
    }
    if (status != MLXR_OK) {
        return status;
    }
    t->data = r->data + e->begin;
    t->name = region_strndup(r->memory, ours, strlen(ours));
    if (!t->name) {
        return error_nomem(r->error, "a tensor name", strlen(ours) + 1);
    }
    if (change & HF_TRANSPOSED && r->config->class->stacks_turned) {
        change = change_of_stack(r, t, ours);
    }
    if (change & (HF_TRANSPOSED | HF_ZIPPED)) {
        return rearrange(r, t, change, packed);
    }
    uint64_t skipped = change & HF_POSITIONS ? r->config->class->first_position : 0;
    if (skipped && (t->n_dims != 2 || t->shape[1] <= skipped)) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s' has no position but the %" PRIu64 " of padding", t->name, skipped);
    }
    if (skipped) {
        t->shape[1] -= skipped;
        t->n_bytes -= skipped * t->row_bytes;
        t->data = (const uint8_t *)t->data + skipped * t->row_bytes;
    }
    if (change & HF_SQUEEZED && t->n_dims == 3 && t->shape[1] == 1) {
        return squeeze(r, t);
    }
    *halves = (change & HF_HALVES) != 0 && t->n_dims == 2;
    return t->n_dims == 1 ? read_vector(r, t, change) : MLXR_OK;
}

/* One tensor of two matrices, "ffn_gate…" the first, becomes two. */
static mlxr_status halve(const reader *r, tensor *first, tensor *second)
{
    const char *gate = strstr(first->name, "ffn_gate");
    char name[NAME_BYTES_MAX + 1];
    if (first->shape[1] % 2 || !gate) {
        return bad(r, MLXR_FORMAT, "tensor '%.128s' holds gate and up, but has %" PRIu64 " rows", first->name,
                   first->shape[1]);
    }
    snprintf(name, sizeof name, "%.*sffn_up%s", (int)(gate - first->name), first->name, gate + 8);
    first->shape[1] /= 2;
    first->n_bytes /= 2;
    *second = *first;
    second->data = (const uint8_t *)first->data + first->n_bytes;
    second->name = region_strndup(r->memory, name, strlen(name));
    return second->name ? MLXR_OK : error_nomem(r->error, "a tensor name", strlen(name) + 1);
}

/* ---- one file -------------------------------------------------------------------------------------------------- */

static int compare_extents(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return (x->end > y->end) - (x->end < y->end);
}

/* The specification forbids holes and overlaps: all of the data belongs to exactly one tensor. */
static mlxr_status check_extents(const reader *r, extent *extents, size_t n)
{
    uint64_t at = 0;
    qsort(extents, n, sizeof *extents, compare_extents);
    for (size_t i = 0; i < n; i++) {
        if (extents[i].begin != at) {
            return bad(r, MLXR_FORMAT,
                       "tensor '%.128s' begins at data byte %" PRIu64 ", the one before ends at %" PRIu64
                       "; safetensors may have neither gaps nor overlaps",
                       extents[i].name, extents[i].begin, at);
        }
        at = extents[i].end;
    }
    if (at != r->n_data) {
        return bad(r, MLXR_FORMAT, "tensors end at data byte %" PRIu64 ", but the file has %" PRIu64 " bytes of data",
                   at, r->n_data);
    }
    return MLXR_OK;
}

static mlxr_status read_entries(const reader *r, const json_t *header, tensor_list *out, extent *extents)
{
    size_t n_extents = 0;
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        if (json_typeof(entry) != JSON_OBJECT) {
            return bad(r, MLXR_FORMAT, "'%.128s' in the header is no object", name);
        }
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        size_t n_stem = 0;
        hf_fate fate = HF_SKIP;
        extent *e = &extents[n_extents++];
        const char *type = json_string_value(json_object_get(entry, "dtype"));
        hf_part part = hf_part_of(&r->config->quant, name, type ? type : "", &n_stem);
        mlxr_status status;
        if (part == HF_PART_NONE) {
            tensor *t = &out->tensors[out->n];
            bool halves = false;
            status = read_tensor(r, name, entry, t, e, &fate, &halves, &out->turned[out->n]);
            if (status == MLXR_OK && halves) {
                status = halve(r, t, t + 1);
            }
            out->n += fate == HF_KEEP ? 1u + halves : 0;
        } else {
            status = read_offsets(r, name, entry, e);
            if (status == MLXR_OK && part != HF_PART_SKIP) {
                status = read_piece(r, name, entry, part, n_stem, e, &out->packed.pieces[out->packed.n++]);
            }
        }
        if (status != MLXR_OK) {
            return status;
        }
    }
    return check_extents(r, extents, n_extents);
}

static mlxr_status read_header(reader *r, const mapping *bytes, json_t **header)
{
    if (bytes->n_bytes < 8) {
        return bad(r, MLXR_FORMAT, "not a safetensors file: it has only %zu bytes", bytes->n_bytes);
    }
    uint64_t n = load_u64le(bytes->data);
    if (n > JSON_TEXT_BYTES_MAX) {
        return bad(r, MLXR_LIMIT, "not a safetensors file: a header of %" PRIu64 " bytes; at most %zu are read", n,
                   JSON_TEXT_BYTES_MAX);
    }
    if (n > bytes->n_bytes - 8) {
        return bad(r, MLXR_FORMAT,
                   "the header needs %" PRIu64 " bytes, but the file has %zu; it is truncated, download it again", n,
                   bytes->n_bytes);
    }
    r->begin = 8 + n;
    r->data = bytes->data + r->begin;
    r->n_data = bytes->n_bytes - r->begin;
    char label[192];
    snprintf(label, sizeof label, "%s: header", short_path(r->name));
    return safetensors_parse_json(header, (text_view){(const char *)bytes->data + 8, (size_t)n}, label, r->error);
}

mlxr_status safetensors_read_part(tensor_list *out, const mapping *bytes, const char *name, const hf_config *config,
                                  region *memory, mlxr_error *error)
{
    reader r = {.name = name, .config = config, .memory = memory, .error = error};
    json_t *header = NULL;
    mlxr_status status = read_header(&r, bytes, &header);
    if (status != MLXR_OK) {
        return status;
    }
    size_t n = json_object_size(header);
    extent *extents = calloc(n + 1, sizeof *extents);
    bool mixers = config->class && config->class->mixer; /* one of theirs may become two */
    tensor_list list = {.tensors = region_array(memory, mixers ? 2 * n : n, sizeof *list.tensors)};
    list.turned = region_array(memory, mixers ? 2 * n : n, sizeof *list.turned);
    list.packed.pieces = region_array(memory, config->quant.kind ? n : 1, sizeof *list.packed.pieces);
    if (extents && list.tensors && list.turned && list.packed.pieces) {
        status = read_entries(&r, header, &list, extents);
    } else {
        status = error_nomem(error, "the tensor table", n * (sizeof *extents + sizeof *list.tensors));
    }
    if (status == MLXR_OK) {
        *out = list;
    }
    free(extents);
    json_decref(header);
    return status;
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

/* An untied model without an output matrix would silently be run as a tied one. */
static mlxr_status check_output(const model_file *file, const hf_config *config, mlxr_error *error)
{
    if (config->class && !config->class->encoder && !config->headless && !config->tied &&
        !model_file_tensor(file, "output.weight")) {
        return error_set(
            error, MLXR_FORMAT,
            "tensor '%s.weight' is missing, and config.json does not tie it to the embedding (output.weight in GGUF)",
            hf_output_name(config->class));
    }
    return MLXR_OK;
}

/* Quantised weights behind the others, under GGUF's names; in `table` how their rows are made. */
static mlxr_status add_packed(model_file *file, const hf_config *config, const packed_tensor *packed, uint64_t n_packed,
                              tensor *all, const packed_weight **table, uint64_t *at, mlxr_error *error)
{
    for (uint64_t i = 0; i < n_packed; i++) {
        char ours[NAME_BYTES_MAX + 16];
        unsigned change;
        if (hf_tensor_name(config, packed[i].name, ours, sizeof ours, &change) == HF_SKIP) {
            continue;
        }
        tensor *t = &all[*at];
        *t = packed[i].t;
        t->name = region_strndup(&file->memory, ours, strlen(ours));
        if (!t->name) {
            return error_nomem(error, "a tensor name", strlen(ours) + 1);
        }
        packed[i].weight->n_zip = change & HF_ZIPPED ? t->shape[1] : 0; /* MXFP4's stacks are not transposed */
        if ((change & HF_ZIPPED && t->shape[1] % 2) || change & ~(unsigned)(HF_TRANSPOSED | HF_ZIPPED)) {
            return error_set(error, MLXR_UNSUPPORTED, "tensor '%.128s' is quantised, which it cannot be",
                             packed[i].name);
        }
        table[(*at)++] = packed[i].weight;
    }
    return MLXR_OK;
}

static mlxr_status join(model_file *file, const hf_config *config, const tensor_list *parts, uint32_t n_parts,
                        mlxr_error *error)
{
    uint64_t n = config->n_extra, at = 0, n_packed = 0;
    packed_tensor *packed = NULL;
    packed_pieces *pieces = region_array(&file->memory, n_parts, sizeof *pieces);
    if (!pieces) {
        return error_nomem(error, "the table of parts", n_parts * sizeof *pieces);
    }
    for (uint32_t i = 0; i < n_parts; i++) {
        n += parts[i].n;
        pieces[i] = parts[i].packed;
    }
    mlxr_status status = packed_join(&packed, &n_packed, pieces, n_parts, &config->quant, &file->memory, error);
    if (status != MLXR_OK) {
        return status;
    }
    tensor *all = region_array(&file->memory, (size_t)(n + n_packed), sizeof *all);
    const packed_weight **table = region_array(&file->memory, (size_t)(n + n_packed), sizeof *table);
    if (!all || !table) {
        return error_nomem(error, "the tensor table", (size_t)(n + n_packed) * sizeof *all);
    }
    for (uint32_t i = 0; i < n_parts; i++) {
        memcpy(all + at, parts[i].tensors, (size_t)parts[i].n * sizeof *all);
        memcpy(table + at, parts[i].turned, (size_t)parts[i].n * sizeof *table);
        at += parts[i].n;
    }
    memcpy(all + at, config->extra, config->n_extra * sizeof *all);
    if (n_packed) {
        status = add_packed(file, config, packed, n_packed, all, table, &n, error);
    }
    file->packed = table;
    file->tensors = all;
    file->n_tensors = n;
    return status;
}

/* How many layers there are behind the last that config.json counts, which predict further tokens. */
static uint32_t count_layers_ahead(const model_file *file, const hf_config *config)
{
    uint32_t n = 0;
    bool ahead = config->class && config->class->mtp;
    for (uint64_t i = 0; config->class && i < file->n_tensors; i++) {
        unsigned layer;
        if (sscanf(file->tensors[i].name, "blk.%6u.", &layer) == 1 && layer >= config->n_layers) {
            n = layer + 1 - config->n_layers > n ? layer + 1 - config->n_layers : n;
            ahead = ahead || strstr(file->tensors[i].name, ".nextn.");
        }
    }
    return ahead ? n : 0;
}

/* The same array with n_more zeros behind it. */
static mlxr_status lengthen(meta_value *value, uint32_t n_more, region *memory, mlxr_error *error)
{
    size_t size = meta_type_bytes(value->array.type), n = (size_t)value->array.n;
    uint8_t *longer = region_alloc(memory, (n + n_more) * size);
    if (!longer) {
        return error_nomem(error, value->key, (n + n_more) * size);
    }
    memcpy(longer, value->array.data, n * size);
    memset(longer + n * size, 0, n_more * size);
    value->array.data = longer;
    value->array.n = n + n_more;
    return MLXR_OK;
}

/* Room for n_more rows of metadata behind those there are; NULL without memory. */
static meta_value *more_meta(model_file *file, size_t n_more, mlxr_status *status, mlxr_error *error)
{
    meta_value *meta = region_array(&file->memory, (size_t)file->n_meta + n_more, sizeof *meta);
    if (!meta) {
        *status = error_nomem(error, "metadata", (size_t)(file->n_meta + n_more) * sizeof *meta);
        return NULL;
    }
    memcpy(meta, file->meta, (size_t)file->n_meta * sizeof *meta);
    file->meta = meta;
    return meta;
}

/* "ARCH.suffix" and a number as a row of metadata, for which there is room. */
static mlxr_status add_number(model_file *file, const char *arch, const char *suffix, uint64_t number,
                              mlxr_error *error)
{
    meta_value *meta = (meta_value *)file->meta;
    size_t n_key = strlen(arch) + strlen(suffix) + 1;
    char *key = region_alloc(&file->memory, n_key);
    if (!key) {
        return error_nomem(error, "metadata", n_key);
    }
    snprintf(key, n_key, "%s%s", arch, suffix);
    meta[file->n_meta++] = (meta_value){.key = key, .type = META_U32, .u = number};
    return MLXR_OK;
}

/* The sizes of dense layers behind pooling, without which llama.cpp looks for none. */
static mlxr_status add_dense_sizes(model_file *file, const hf_config *config, mlxr_error *error)
{
    static const struct {
        const char *tensor, *in, *out;
    } layers[] = {{"dense_2.weight", ".dense_2_feat_in", ".dense_2_feat_out"},
                  {"dense_3.weight", ".dense_3_feat_in", ".dense_3_feat_out"}};
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < sizeof layers / sizeof *layers && status == MLXR_OK; i++) {
        const tensor *t = NULL; /* the index of names comes later */
        for (uint64_t k = 0; k < file->n_tensors && config->class; k++) {
            t = strcmp(file->tensors[k].name, layers[i].tensor) == 0 ? &file->tensors[k] : t;
        }
        if (!t || !more_meta(file, 2, &status, error)) {
            continue;
        }
        status = add_number(file, config->class->arch, layers[i].in, t->shape[0], error);
        if (status == MLXR_OK) {
            status = add_number(file, config->class->arch, layers[i].out, t->shape[1], error);
        }
    }
    return status;
}

/* config.json does not count these layers, and not all say that there are some: only the tensors do. */
static mlxr_status add_layers_ahead(model_file *file, const hf_config *config, mlxr_error *error)
{
    uint32_t n_more = count_layers_ahead(file, config);
    if (n_more == 0) {
        return MLXR_OK;
    }
    const char *arch = config->class->arch;
    mlxr_status status = MLXR_OK;
    meta_value *meta = more_meta(file, 1, &status, error);
    if (!meta) {
        return status;
    }
    for (uint64_t i = 0; i < file->n_meta && status == MLXR_OK; i++) {
        const char *of = strncmp(meta[i].key, arch, strlen(arch)) == 0 ? meta[i].key + strlen(arch) : "";
        if (strcmp(of, ".block_count") == 0) {
            meta[i].u += n_more;
        } else if (strcmp(of, ".attention.recurrent_layers") == 0) {
            status = lengthen(&meta[i], n_more, &file->memory, error);
        }
    }
    return status == MLXR_OK ? add_number(file, arch, ".nextn_predict_layers", n_more, error) : status;
}

mlxr_status safetensors_finish(model_file *file, const safetensors_texts *texts, const hf_config *config,
                               const tensor_list *parts, uint32_t n_parts, mlxr_error *error)
{
    mlxr_status status = join(file, config, parts, n_parts, error);
    if (status == MLXR_OK) {
        status = add_layers_ahead(file, config, error);
    }
    if (status == MLXR_OK) {
        status = add_dense_sizes(file, config, error);
    }
    if (status == MLXR_OK) {
        status = model_file_index(file, error);
    }
    if (status == MLXR_OK) {
        status = check_output(file, config, error);
    }
    file->format = MODEL_SAFETENSORS;
    file->rope_halves = true;
    file->tokenizer_json = texts->tokenizer_json;
    file->tokenizer_model = texts->tokenizer_model;
    file->tokenizer_config = texts->tokenizer_config;
    for (uint32_t i = 0; i < file->n_parts; i++) {
        file->file_bytes += file->parts[i].n_bytes;
    }
    return status;
}

static mlxr_status read_memory(model_file *file, const safetensors_texts *texts, const mapping *weights,
                               mlxr_error *error)
{
    mapping *part = region_array(&file->memory, 1, sizeof *part);
    hf_config config = {0};
    tensor_list list = {0};
    if (!part) {
        return error_nomem(error, "the table of parts", sizeof *part);
    }
    *part = *weights;
    file->parts = part;
    file->n_parts = 1;
    ((model_index *)file->index)->borrowed = true;
    mlxr_status status = hf_config_read(file, texts, &config, error);
    if (status == MLXR_OK) {
        status = safetensors_read_part(&list, part, "memory", &config, &file->memory, error);
    }
    return status == MLXR_OK ? safetensors_finish(file, texts, &config, &list, 1, error) : status;
}

mlxr_status safetensors_open_memory(model_file **out, const safetensors_texts *texts, const void *weights,
                                    size_t n_bytes, mlxr_error *error)
{
    model_file *file = NULL;
    mapping bytes = {weights, n_bytes};
    mlxr_status status = model_file_make(&file, error);
    if (status == MLXR_OK) {
        status = read_memory(file, texts, &bytes, error);
    }
    if (status != MLXR_OK) {
        model_file_close(&file);
        return status;
    }
    *out = file;
    return MLXR_OK;
}
