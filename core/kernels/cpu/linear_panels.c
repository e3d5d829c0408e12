/*
 * The walk over panels and tiles of an integer linear layer; the arithmetic is in the instruction sets' files.
 * Owner: none; scratch is the calling thread's. Lifetime: the call.
 */
#include "kernels/cpu/linear_panels.h"

#include <string.h>

#include "kernels/cpu/linear_ahead.h"

/* Unpacked weights that share L2 with the input; see linear_scratch_bytes. */
#define PANELS_BYTES LINEAR_PANELS_BYTES
/* Up to so many tiles, fetching weights takes a good part of the time: as few panels as a tile takes, so that the next
 * ones' rows come evenly while these are multiplied. */
#define FEW_TILES 6u

static panel_output output_at(const linear_output *output, uint32_t token, uint32_t row, uint32_t n_rows)
{
    return (panel_output){.dst = output->dst + token * output->stride + row,
                          .stride = output->stride,
                          .bias = output->bias ? output->bias + row : NULL,
                          .n_rows = n_rows,
                          .add = output->add};
}

/* The panel's rows where they lie or, for the last rows of a matrix, in a copy with zero rows (all formats decode zero
 * bytes to zero) after them: nothing is read beyond `end`. */
static const uint8_t *panel_rows(const panel_kernel *k, const linear_weight *weight, uint32_t row, uint32_t end,
                                 uint8_t *copy)
{
    const uint8_t *rows = (const uint8_t *)weight->data + row * weight->row_bytes;
    if (end - row >= k->rows) {
        return rows;
    }
    size_t n_bytes = (end - row) * weight->row_bytes;
    memcpy(copy, rows, n_bytes);
    memset(copy + n_bytes, 0, k->rows * weight->row_bytes - n_bytes);
    return copy;
}

/* The function for as few tokens, or NULL. */
static panel_direct_fn *direct_of(const panel_kernel *k, const linear_input *input)
{
    if (input->n_tokens > PANEL_DIRECT) {
        return NULL;
    }
    return input->format == LINEAR_Q16  ? k->direct[input->n_tokens]
           : input->format == LINEAR_Q8 ? k->direct_rounded[input->n_tokens]
                                        : NULL;
}

/* What is fetched while a panel that ends before row `next` is multiplied. A matrix smaller than a panel is met in its
 * copy, and nothing behind it. */
static panel_next next_of_panel(const panel_kernel *k, const linear_weight *weight, uint32_t next, uint32_t end,
                                const uint8_t *copy)
{
    const size_t n_bytes = k->rows * weight->row_bytes;
    if (weight->n_out < k->rows && !weight->soon.rows) {
        return (panel_next){copy, copy};
    }
    return (panel_next){.rows = linear_ahead(weight, next, end, n_bytes, 0),
                        .far = linear_ahead(weight, next, end, n_bytes, PANEL_FAR)};
}

static void run_direct(panel_direct_fn *direct, const panel_kernel *k, const linear_weight *weight,
                       const linear_input *input, const linear_output *output, uint32_t begin, uint32_t end,
                       uint8_t *copy)
{
    for (uint32_t row = begin; row < end; row += k->rows) {
        uint32_t n_rows = end - row < k->rows ? end - row : k->rows;
        panel_next next = next_of_panel(k, weight, row + n_rows, end, copy);
        panel_output out = output_at(output, 0, row, n_rows);
        direct(panel_rows(k, weight, row, end, copy), weight->row_bytes, weight->n_in, input->data, &out, next);
    }
}

/* Rows that come next, at most as many as the group has, fetched while it is multiplied: n_calls take `step` bytes of
 * them with each block. */
static panel_ahead ahead_of(const linear_soon *next, size_t n_calls, size_t n_blocks)
{
    size_t n_lines = next->n_rows * next->row_bytes / 64, n_steps = n_calls * n_blocks;
    return (panel_ahead){.bytes = next->rows,
                         .step = (n_lines + n_steps - 1) / n_steps * 64,
                         .end = (const uint8_t *)next->rows + next->n_rows * next->row_bytes};
}

/* Panels of a group × all tokens: a tile of tokens stays in L1 while the panels pass, where `all` has no order of its
 * own. Without fetching ahead, unpacking the next ones would wait for memory, row by row. */
static void run_group(const panel_path *k, uint32_t panel_rows, const linear_weight *weight, const linear_input *input,
                      const linear_output *output, uint32_t first, uint32_t last, const uint8_t *panels,
                      const linear_soon *next)
{
    size_t n_blocks = weight->n_in / Q16_BLOCK, panel_bytes = n_blocks * k->block_bytes;
    uint32_t n_tiles = (input->n_tokens + LINEAR_TILE - 1) / LINEAR_TILE, tile_rows = panel_rows * k->n_panels;
    panel_ahead ahead = ahead_of(next, (size_t)n_tiles * ((last - first + tile_rows - 1) / tile_rows), n_blocks);
    if (k->all) {
        panel_output out = output_at(output, 0, first, last - first);
        k->all(panels, input, &out, &ahead);
        return;
    }
    for (uint32_t i = 0; i < n_tiles; i++) {
        uint32_t token = i * LINEAR_TILE;
        const uint8_t *tile = q16_tile(input, token);
        int n_tokens = (int)q16_tile_tokens(input->n_tokens, token);
        for (uint32_t row = first; row < last; row += tile_rows) {
            panel_output out = output_at(output, token, row, last - row < tile_rows ? last - row : tile_rows);
            ahead.step = ahead.bytes < ahead.end ? ahead.step : 0;
            k->tile(panels + (row - first) / panel_rows * panel_bytes, weight->n_in, tile, n_tokens, &out, &ahead);
            ahead.bytes += n_blocks * ahead.step;
        }
    }
}

/* What to fetch while rows [first, last) are multiplied: what follows them in the range, or else what the caller says,
 * or else what follows them in the matrix. */
static linear_soon next_of(const linear_weight *weight, uint32_t first, uint32_t last, uint32_t end)
{
    linear_soon next = weight->soon;
    if (last < end || !next.rows) {
        next = (linear_soon){.rows = (const uint8_t *)weight->data + last * weight->row_bytes,
                             .row_bytes = weight->row_bytes,
                             .n_rows = weight->n_out - last};
    }
    next.n_rows = next.n_rows < last - first ? next.n_rows : last - first;
    return next;
}

static void run_many(const panel_kernel *k, const linear_weight *weight, const linear_input *input,
                     const linear_output *output, uint32_t begin, uint32_t end, uint8_t *copy)
{
    for (uint32_t row = begin, last; row < end; row = last) {
        last = end - row < k->rows ? end : row + k->rows;
        linear_soon next = next_of(weight, row, last, end);
        panel_ahead ahead = ahead_of(&next, 1, weight->n_in / Q16_BLOCK);
        panel_output out = output_at(output, 0, row, last - row);
        k->many(panel_rows(k, weight, row, end, copy), weight->row_bytes, weight->n_in, input, &out, &ahead);
    }
}

void linear_panels_run(const panel_kernel *kernel, const linear_weight *weight, const linear_input *input,
                       const linear_output *output, uint32_t begin, uint32_t end, void *scratch)
{
    const panel_path *k = input->format == LINEAR_Q16  ? &kernel->digits
                          : input->format == LINEAR_Q8 ? &kernel->digit
                                                       : &kernel->words;
    size_t panel_bytes = weight->n_in / Q16_BLOCK * k->block_bytes, tile_bytes = k->n_panels * panel_bytes;
    /* `all` brings back tokens that L2 has no room for once a group: of long rows it takes what words would. */
    const size_t room = k->all ? linear_panels_bytes(weight->n_in) : PANELS_BYTES;
    uint8_t *panels = scratch, *copy = panels + (tile_bytes > room ? tile_bytes : room);
    if (input->n_tokens == 0) {
        return;
    }
    panel_direct_fn *direct = direct_of(kernel, input);
    if (direct) {
        run_direct(direct, kernel, weight, input, output, begin, end, copy);
        return;
    }
    if (kernel->many && input->format == LINEAR_C16 && input->n_tokens <= PANEL_MANY) {
        run_many(kernel, weight, input, output, begin, end, copy);
        return;
    }
    uint32_t n_panels = k->n_panels;
    if (input->n_tokens > FEW_TILES * LINEAR_TILE && tile_bytes && tile_bytes < room) {
        n_panels *= (uint32_t)(room / tile_bytes);
    }
    for (uint32_t first = begin; first < end;) {
        uint32_t last = end - first < n_panels * kernel->rows ? end : first + n_panels * kernel->rows;
        for (uint32_t row = first; row < last; row += kernel->rows) {
            k->unpack(panel_rows(kernel, weight, row, end, copy), weight->row_bytes, weight->n_in,
                      panels + (row - first) / kernel->rows * panel_bytes);
        }
        linear_soon next = next_of(weight, first, last, end);
        run_group(k, kernel->rows, weight, input, output, first, last, panels, &next);
        first = last;
    }
}
