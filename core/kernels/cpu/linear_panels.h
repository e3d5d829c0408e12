/*
 * Integer linear layers by panels: the part that does not depend on the instruction set, and what each set provides.
 * Owner: const tables of function pointers. Lifetime: static.
 *
 * A panel is a few consecutive weight rows (16 for AVX-512, 8 for AVX2), interleaved so that four consecutive k of all
 * its rows fill one vector: a vector of weights times four broadcast activations is one instruction, without shuffles
 * or horizontal sums, and leaves one sum a row in each lane. A panel is a list of blocks of 32 k:
 *
 *     u8 or s8 w[8][rows][4] | f32 vectors [rows]: scale, then the minimum (PANEL_MIN) and second halves (PANEL_HALVES)
 *
 * or has words of 16 bits instead of bytes (linear_words.h): twice as much to unpack, less to do for each token. For
 * the usual small batches, blocks are unpacked in registers and used at once; with some instructions laid ones also for
 * PANEL_MANY. More tokens share panels unpacked into the scratch: of bytes or of words, as the input's format says
 * (linear_kernels.few, .many). Every path computes, for a row and a token, block after block,
 *
 *     acc = fma(scale × activation_scale, Σ w q, acc);  acc = fma(minimum, activation_scaled_sum, acc)
 *
 * and so all of them give the same bits.
 */
#ifndef MLXR_KERNELS_CPU_LINEAR_PANELS_H
#define MLXR_KERNELS_CPU_LINEAR_PANELS_H

#include "kernels/cpu/quantize_act.h"

enum {
    PANEL_MIN = 1,    /* values are scale × w + minimum */
    PANEL_HALVES = 2, /* scales (and minima) belong to 16 k, not 32 */
};

/* Where the results of one panel and one tile go. */
typedef struct panel_output {
    float *dst; /* first token, first row of the panel */
    size_t stride;
    const float *bias; /* first row of the panel, or NULL */
    uint32_t n_rows;   /* of the panels that exist */
    bool add;
} panel_output;

typedef struct panel_kernel panel_kernel;

/* rows: whole rows of the panel, `row_bytes` apart → n_in / 32 panel blocks. */
typedef void panel_unpack_fn(const uint8_t *rows, size_t row_bytes, uint32_t n_in, uint8_t *panel);
/* What the thread will read behind the panel that it multiplies, as many bytes as that has: the next one, and what lies
 * PANEL_FAR bytes further. Both stay within the range; behind its last panel they are the begin of what comes next
 * (linear_ahead.h). */
typedef struct panel_next {
    const uint8_t *rows, *far;
} panel_next;
#define PANEL_FAR 8192

/* Rows straight from the file × one tile of as many tokens as the function is for. `next` is fetched meanwhile: as many
 * bytes as the rows have. */
typedef void panel_direct_fn(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const uint8_t *tile,
                             const panel_output *out, panel_next next);
/* Bytes that will be wanted soon: `step` of them, whole cache lines, are fetched with each block of 32 k. All at once
 * they would have to wait for each other. */
typedef struct panel_ahead {
    const uint8_t *bytes;
    size_t step; /* 0: nothing to fetch */
    const uint8_t *end;
} panel_ahead;

/* As many unpacked panels as out->n_rows are in, at most n_panels, × one tile of n_tokens ≤ LINEAR_TILE. */
typedef void panel_tile_fn(const uint8_t *panel, uint32_t n_in, const uint8_t *tile, int n_tokens,
                           const panel_output *out, const panel_ahead *ahead);

/* As many unpacked panels as out->n_rows are in × all tokens; what is fetched meanwhile goes on from ahead->bytes. */
typedef void panel_all_fn(const uint8_t *panels, const linear_input *input, const panel_output *out,
                          panel_ahead *ahead);

/* Rows straight from where they lie × all tokens of a LINEAR_C16, at most PANEL_MANY: a block is unpacked into
 * registers and stays there until it has met each of them. */
typedef void panel_many_fn(const uint8_t *rows, size_t row_bytes, uint32_t n_in, const linear_input *input,
                           const panel_output *out, const panel_ahead *ahead);

/* A way through unpacked panels. */
typedef struct panel_path {
    uint32_t n_panels;       /* that `tile` takes at a time; of `all` any number of them */
    size_t block_bytes;      /* of a panel's block of 32 k */
    panel_unpack_fn *unpack; /* NULL: there is no such way */
    panel_tile_fn *tile;
    panel_all_fn *all; /* instead of `tile` */
} panel_path;

#define LINEAR_PANELS_BYTES ((size_t)256 * 1024)

/* Bytes of a scratch for unpacked panels: two panels of 16 rows, of which 32 elements take 1,024 bytes as words and up
 * to six vectors of 16 words; or LINEAR_PANELS_BYTES. */
static inline size_t linear_panels_bytes(uint32_t n_in)
{
    const size_t two = 2 * (((size_t)n_in + Q16_BLOCK - 1) / Q16_BLOCK) * (1024 + 6 * 64);
    return two > LINEAR_PANELS_BYTES ? two : LINEAR_PANELS_BYTES;
}

#define PANEL_DIRECT LINEAR_DIRECT /* tokens of whole records: more gain nothing over a panel that is still in L1 */

/* Tokens: of more, unpacking a panel costs as little a token, and two panels share what is read of tokens. */
#define PANEL_MANY 32

struct panel_kernel {
    uint32_t rows; /* a panel */
    /* Of LINEAR_Q16 and LINEAR_Q8, by number of tokens; NULL: through panels. */
    panel_direct_fn *direct[PANEL_DIRECT + 1], *direct_rounded[PANEL_DIRECT + 1];
    /* By the input's format: LINEAR_Q16; words of the kind that the kernel is for, LINEAR_W16, LINEAR_C16 or
     * LINEAR_W15; LINEAR_Q8. */
    panel_path digits, words, digit;
    panel_many_fn *many; /* NULL: through panels */
};

/* By type; what an instruction set has no kernel for is zero. One array a set, in linear_<set>.c. */
extern const panel_kernel linear_panels_avx2[LINEAR_TYPES];
extern const panel_kernel linear_panels_laid_avx2[LINEAR_TYPES]; /* of laid panels (linear_laid.h) */
extern const panel_kernel linear_panels_avxvnni[LINEAR_TYPES];
extern const panel_kernel linear_panels_laid_avxvnni[LINEAR_TYPES];
extern const panel_kernel linear_panels_avx512vnni[LINEAR_TYPES];
extern const panel_kernel linear_panels_crossed_avx512vnni[LINEAR_TYPES]; /* words alone, of LINEAR_C16 */
extern const panel_kernel linear_panels_laid_avx512vnni[LINEAR_TYPES];
extern const panel_kernel linear_panels_laid_crossed_avx512vnni[LINEAR_TYPES];
extern const panel_kernel linear_panels_amx[LINEAR_TYPES];
extern const panel_kernel linear_panels_neon[LINEAR_TYPES];
extern const panel_kernel linear_panels_dotprod[LINEAR_TYPES];
extern const panel_kernel linear_panels_i8mm[LINEAR_TYPES];

/* Rows [begin, end): the whole linear_rows of an integer format, by the way that the input's format names. */
void linear_panels_run(const panel_kernel *kernel, const linear_weight *weight, const linear_input *input,
                       const linear_output *output, uint32_t begin, uint32_t end, void *scratch);

#endif
