/*
 * Streaming tensors through the encoder. Every tensor is cut into pieces of whole rows; a member of the team takes the
 * next piece, decodes, encodes and writes it, and gives the pages it was read from back.
 * Owner: the caller; a member owns its buffers. Lifetime: the call.
 */
#include "convert/write.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/mapping.h"
#include "base/region.h"
#include "base/team.h"
#include "convert/files_out.h"
#include "convert/heads.h"
#include "convert/merge.h"
#include "kernels/cpu/encode.h"
#include "quant/codec.h"

#define HALF_OVERFLOW 65520.0f      /* from here on F16 rounds to infinity */
#define PIECE_WEIGHTS (256u * 1024) /* with 4 bytes in and 4 out it stays in L2 and L3 */

typedef struct work {
    const out_tensor *tensors; /* [n] */
    size_t n;
    uint32_t *first_piece; /* [n + 1] */
    files_out files;
    encode_fn *encode;
    const write_options *options;
    uint64_t n_weights;
    _Atomic uint64_t n_done;
    _Atomic bool stopped;
    _Atomic int claimed; /* the first failure has the error */
    mlxr_status status;
    mlxr_error *error;
} work;

static uint64_t n_rows_of(const tensor *t)
{
    return t->shape[1] * t->shape[2] * t->shape[3];
}

/* Rows of a piece. */
static uint64_t piece_rows(const out_tensor *t)
{
    uint64_t rows = PIECE_WEIGHTS / t->in->shape[0];
    return rows ? rows : 1;
}

static void fail(work *w, mlxr_status status, const mlxr_error *error)
{
    if (atomic_exchange(&w->claimed, 1) == 0) {
        w->status = status;
        if (w->error) {
            *w->error = *error;
        }
    }
    atomic_store(&w->stopped, true);
}

/* Rows are written in the order they have. */
static bool keeps_rows(const out_tensor *t)
{
    return !t->n_pair_heads && (!t->order || t->order->columns);
}

/* Which row of the file becomes row `row`. */
static uint64_t source_row(const out_tensor *t, uint64_t row)
{
    if (t->order && !t->order->columns) {
        return head_order_source(t->order, row);
    }
    if (!t->n_pair_heads) {
        return row;
    }
    uint64_t n = t->in->shape[1] / t->n_pair_heads, at = row % n;
    return at < t->n_pair_rows ? row - at + at % 2 * (t->n_pair_rows / 2) + at / 2 : row;
}

/* No NaN, and nothing at or beyond ±limit. */
static bool all_within(const float *x, size_t n, float limit)
{
    uint32_t n_bad = 0;
    for (size_t i = 0; i < n; i++) {
        n_bad += !(fabsf(x[i]) < limit);
    }
    return n_bad == 0;
}

static mlxr_status check_weights(const out_tensor *t, dtype type, uint64_t first, uint64_t n, const float *x,
                                 mlxr_error *error)
{
    size_t n_weights = (size_t)(n * t->in->shape[0]);
    if (!all_within(x, n_weights, INFINITY)) {
        return error_set(error, MLXR_FORMAT,
                         "tensor '%s': a weight in rows %" PRIu64 " to %" PRIu64
                         "%s is no finite number; the file is damaged, or the model was",
                         t->in->name, first, first + n - 1, t->scales ? " × its multiplier" : "");
    }
    if (type == DTYPE_F16 && !all_within(x, n_weights, HALF_OVERFLOW)) {
        return error_set(error, MLXR_UNSUPPORTED,
                         "tensor '%s': a weight in rows %" PRIu64 " to %" PRIu64
                         " is too large for F16, which ends at 65,504; BF16 and F32 hold it",
                         t->in->name, first, first + n - 1);
    }
    return MLXR_OK;
}

/* Rows [first, first + n) in the type they have: where they lie if that will do, else made or copied to `room`. */
static const uint8_t *take_rows(const out_tensor *t, uint64_t first, uint64_t n, uint8_t *room)
{
    const uint8_t *data = t->in->data;
    size_t row_bytes = t->in->row_bytes;
    if (t->packed && keeps_rows(t)) {
        packed_rows(t->packed, first, n, room);
        return room;
    }
    if (keeps_rows(t)) {
        return data + first * row_bytes;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t row = source_row(t, first + i);
        if (t->packed) {
            packed_rows(t->packed, row, 1, room + i * row_bytes);
        } else {
            memcpy(room + i * row_bytes, data + row * row_bytes, row_bytes);
        }
    }
    return room;
}

/* The tensor that row `row` of t lies in, *from_row there. */
static const out_tensor *source_of(const out_tensor *t, uint64_t row, uint64_t *from_row)
{
    if (!t->parts) {
        *from_row = row;
        return t;
    }
    const out_part *part = &t->parts[row / t->in->shape[1]];
    *from_row = part->first_row + row % t->in->shape[1];
    return part->from;
}

/* The one that the rows before lie in; NULL: there are none. */
static const out_tensor *source_before(const work *w, const out_tensor *t, uint64_t row)
{
    if (row == 0 && t == w->tensors) {
        return NULL;
    }
    return row ? source_of(t, row - 1, &row) : source_of(t - 1, n_rows_of(t[-1].in) - 1, &row);
}

/* What rows [first, first + n) of t, which are `from`'s from_row and on, were read from leaves memory. Rows of packed
 * tensors may lie side by side: what is left of one all at once, when the next one is begun. */
static void forget_source(const work *w, const out_tensor *t, uint64_t first, uint64_t n, const out_tensor *from,
                          uint64_t from_row)
{
    const out_tensor *before = source_before(w, t, first);
    if (before && before != from && before->packed) {
        packed_forget(before->packed);
    }
    for (uint64_t done = 0, some; done < n; done += some) { /* rows that lie together */
        uint64_t row = from->order ? source_row(from, from_row + done) : from_row;
        for (some = from->order ? 1 : n; done + some < n; some++) {
            if (source_row(from, from_row + done + some) != row + some) {
                break;
            }
        }
        if (from->packed) {
            packed_forget_rows(from->packed, row, some);
        } else {
            mapping_forget_part((const uint8_t *)from->in->data + row * from->in->row_bytes,
                                (size_t)some * from->in->row_bytes);
        }
    }
}

/* Columns of n rows of row_bytes in the order of heads; `room` is for a row. */
static void order_columns(const head_order *order, const uint8_t *from, uint64_t n, size_t row_bytes, uint8_t *room,
                          uint8_t *to)
{
    size_t head_bytes = row_bytes / order->n_heads;
    for (uint64_t row = 0; row < n; row++) {
        memcpy(room, from + row * row_bytes, row_bytes);
        for (uint32_t head = 0; head < order->n_heads; head++) {
            uint64_t of = head_order_source(order, head * order->size) / order->size;
            memcpy(to + row * row_bytes + head * head_bytes, room + of * head_bytes, head_bytes);
        }
    }
}

/* Encodes rows that may belong to several matrices, each with its own importance. */
static void encode_rows(const work *w, const out_tensor *t, uint64_t first, uint64_t n, const float *x, uint8_t *out)
{
    size_t n_in = (size_t)t->in->shape[0], row_bytes = dtype_row_bytes(t->type, n_in);
    for (uint64_t done = 0; done < n;) {
        uint64_t matrix = (first + done) / t->in->shape[1], left = (matrix + 1) * t->in->shape[1] - (first + done);
        uint64_t some = t->n_matrices > 1 && left < n - done ? left : n - done;
        encode_job job = {.type = t->type,
                          .src = x + done * n_in,
                          .dst = out + done * row_bytes,
                          .n_rows = (size_t)some,
                          .n_in = n_in,
                          .importance = t->importance};
        if (t->importance && t->n_matrices > 1) {
            job.importance += matrix * n_in;
        }
        w->encode(&job);
        done += some;
    }
}

/* Rows of one source. */
static mlxr_status write_rows(const work *w, const out_tensor *t, uint64_t first, uint64_t n, float *x, uint8_t *out,
                              mlxr_error *error)
{
    size_t at = (size_t)(t - w->tensors);
    const new_file *file = &w->files.files[w->files.file_of[at]];
    size_t n_in = (size_t)t->in->shape[0], row_bytes = dtype_row_bytes(t->type, n_in);
    uint64_t from_row = 0;
    const out_tensor *from = source_of(t, first, &from_row);
    const head_order *columns = from->order && from->order->columns ? from->order : NULL;
    const uint8_t *bytes = take_rows(from, from_row, n, out);
    if (t->type != from->in->type || from->merged || from->scales) {
        codec_decode(from->in->type, bytes, x, (size_t)n * n_in);
        for (uint64_t i = 0; i < n && from->merged; i++) {
            merge_row(from->merged, source_row(from, from_row + i), x + i * n_in);
        }
        for (uint64_t i = 0; i < n && from->scales; i++) {
            float factor = row_scale_of(from, from_row + i);
            for (size_t j = 0; j < n_in; j++) {
                x[i * n_in + j] *= factor;
            }
        }
        if (columns) {
            order_columns(columns, (uint8_t *)x, n, n_in * sizeof *x, out, (uint8_t *)x);
        }
        mlxr_status status = check_weights(from, t->type, from_row, n, x, error);
        if (status != MLXR_OK) {
            return status;
        }
        encode_rows(w, t, first, n, x, out);
        bytes = out;
    } else if (columns) {
        order_columns(columns, bytes, n, row_bytes, (uint8_t *)x, out);
        bytes = out;
    }
    mlxr_status status = new_file_write(file, w->files.offsets[at] + first * row_bytes, bytes, (size_t)n * row_bytes,
                                        error);
    forget_source(w, t, first, n, from, from_row);
    return status;
}

static mlxr_status write_piece(const work *w, const out_tensor *t, uint64_t first, uint64_t n, float *x, uint8_t *out,
                               mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (uint64_t done = 0; done < n && status == MLXR_OK;) {
        uint64_t left = t->in->shape[1] - (first + done) % t->in->shape[1];
        uint64_t some = t->parts && left < n - done ? left : n - done;
        status = write_rows(w, t, first + done, some, x, out, error);
        done += some;
    }
    return status;
}

static size_t widest_piece(const work *w)
{
    size_t most = 0;
    for (size_t i = 0; i < w->n; i++) {
        size_t n = (size_t)(piece_rows(&w->tensors[i]) * w->tensors[i].in->shape[0]);
        most = n > most ? n : most;
    }
    return most;
}

static void member_writes(void *context, const team_member *member)
{
    work *w = context;
    size_t n_piece = widest_piece(w), at = 0;
    float *x = malloc(n_piece * sizeof *x);
    uint8_t *out = malloc(n_piece * sizeof *x + 512);
    mlxr_error error;
    team_chunks_reset(member);
    if (!x || !out) {
        fail(w, error_nomem(&error, "a piece of a tensor", n_piece * 8), &error);
    }
    for (uint32_t piece = team_next_chunk(member); piece < w->first_piece[w->n] && !atomic_load(&w->stopped);
         piece = team_next_chunk(member)) {
        while (piece >= w->first_piece[at + 1]) {
            at++;
        }
        const out_tensor *t = &w->tensors[at];
        uint64_t rows = piece_rows(t), first = (piece - w->first_piece[at]) * rows, all = n_rows_of(t->in);
        uint64_t n = all - first < rows ? all - first : rows;
        mlxr_status status = write_piece(w, t, first, n, x, out, &error);
        if (status != MLXR_OK) {
            fail(w, status, &error);
        }
        uint64_t done = atomic_fetch_add(&w->n_done, n * t->in->shape[0]) + n * t->in->shape[0];
        if (member->index == 0 && w->options->progress &&
            !w->options->progress(w->options->user, done, w->n_weights, t->in->name)) {
            fail(w, error_set(&error, MLXR_IO, "stopped"), &error);
        }
    }
    free(x);
    free(out);
}

/* Pieces, and the files with their headers. */
static mlxr_status lay_out(work *w, const char *path, const gguf_out *header, region *memory, mlxr_error *error)
{
    gguf_tensor *table = region_array(memory, w->n, sizeof *table);
    w->first_piece = region_array(memory, w->n + 1, sizeof *w->first_piece);
    if (!table || !w->first_piece) {
        return error_nomem(error, "the tensor table", w->n * sizeof *table);
    }
    uint64_t n_pieces = 0;
    for (size_t i = 0; i < w->n; i++) {
        const out_tensor *t = &w->tensors[i];
        uint64_t n_rows = n_rows_of(t->in);
        w->first_piece[i] = (uint32_t)n_pieces;
        n_pieces += (n_rows + piece_rows(t) - 1) / piece_rows(t);
        w->n_weights += n_rows * t->in->shape[0];
        table[i] = (gguf_tensor){.name = t->in->name,
                                 .type = t->type,
                                 .n_dims = t->in->n_dims,
                                 .shape = t->in->shape,
                                 .n_bytes = n_rows * dtype_row_bytes(t->type, (size_t)t->in->shape[0])};
        if (n_pieces > UINT32_MAX) {
            return error_set(error, MLXR_LIMIT, "tensor '%s': more weights than can be counted", t->in->name);
        }
    }
    w->first_piece[w->n] = (uint32_t)n_pieces;
    return files_out_open(&w->files, path, header, table, w->n, w->options->most_bytes, error);
}

static mlxr_status run(work *w, mlxr_error *error)
{
    team *t = NULL;
    uint32_t n_threads = w->options->n_threads ? w->options->n_threads : cpu_cores_usable();
    mlxr_status status = team_open(&t, n_threads, error);
    if (status == MLXR_OK) {
        team_run(t, member_writes, w);
        status = w->status;
    }
    team_close(&t);
    return status;
}

mlxr_status write_model(const char *path, const gguf_out *header, const out_tensor *tensors, size_t n,
                        const write_options *options, write_result *result, mlxr_error *error)
{
    region memory = {0};
    work w = {.tensors = tensors, .n = n, .encode = encode_find(options->features), .options = options, .error = error};
    mlxr_status status = lay_out(&w, path, header, &memory, error);
    if (status == MLXR_OK) {
        *result = (write_result){.n_bytes = w.files.n_bytes, .n_files = w.files.n_files};
        status = run(&w, error);
    }
    if (status == MLXR_OK) {
        status = files_out_commit(&w.files, error);
    } else {
        files_out_discard(&w.files);
    }
    region_close(&memory);
    return status;
}
