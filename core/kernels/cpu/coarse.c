/*
 * Inputs for rows with one scale each; see coarse.h.
 * Owner: none. Lifetime: the call.
 */
#include "kernels/cpu/coarse.h"

#include <math.h>
#include <string.h>

#define LOW_MOST 127
#define FAR_MOST 32600 /* of two digits: the higher one is 127 at most */
#define UNIT_LEAST 0x1p-100f
#define SIZE_MOST 0x1p60f /* of values: no float between them and the products overflows */

enum { FOURS_MOST = COARSE_IN_MOST / 4 };

/* The largest magnitude of each four of a token's values; false: one is no number, or too large. */
static bool look_at_fours(const float *x, uint32_t n_fours, float *most)
{
    bool fine = true;
    for (uint32_t i = 0; i < n_fours; i++, x += 4) {
        float a = fmaxf(fabsf(x[0]), fabsf(x[1])), b = fmaxf(fabsf(x[2]), fabsf(x[3]));
        most[i] = fmaxf(a, b);
        fine = fine && a + b <= SIZE_MOST && x[0] + x[1] + x[2] + x[3] <= 4 * SIZE_MOST; /* fmaxf drops NaN */
    }
    return fine;
}

static float mean_of(const float *x, uint32_t n)
{
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum / (float)n;
}

/* The COARSE_FAR fours that stand out most, and takes them out of `score`. */
static uint32_t choose_far(float *score, uint32_t n_fours, uint32_t *far)
{
    uint32_t n = 0;
    for (; n < COARSE_FAR; n++) {
        uint32_t at = 0;
        for (uint32_t i = 1; i < n_fours; i++) {
            at = score[i] > score[at] ? i : at;
        }
        if (!(score[at] > 0)) {
            break;
        }
        far[n] = at;
        score[at] = -1;
    }
    return n;
}

/* What one of a token's integers is. */
static float unit_of(const float *most, const float *score, uint32_t n_fours)
{
    float near = 0, far = 0;
    for (uint32_t i = 0; i < n_fours; i++) {
        near = fmaxf(near, score[i] < 0 ? 0 : most[i]);
        far = fmaxf(far, score[i] < 0 ? most[i] : 0);
    }
    return fmaxf(near / LOW_MOST, far / FAR_MOST);
}

static int32_t round_within(float x, int32_t most)
{
    float whole = rintf(x);
    return whole > (float)most ? most : whole < (float)-most ? -most : (int32_t)whole;
}

static void pack_token(const float *x, uint32_t n_in, uint32_t token, coarse_tile *out)
{
    int8_t *low = coarse_low(out) + token * 4, *high = coarse_high(out) + token * 4;
    float by = out->unit[token] > 0 ? 1 / out->unit[token] : 0;
    int32_t sum = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        int32_t q = round_within(x[i] * by, LOW_MOST);
        low[i / 4 * COARSE_TILE * 4 + i % 4] = (int8_t)q;
        sum += q;
    }
    for (uint32_t f = 0; f < out->n_far; f++) {
        for (uint32_t k = 0; k < 4; k++) {
            size_t at = out->far[f] * (size_t)COARSE_TILE * 4 + k;
            int32_t q = round_within(x[out->far[f] * 4 + k] * by, FAR_MOST), above = (q + 128) >> 8;
            sum += q - low[at];
            low[at] = (int8_t)(q - 256 * above);
            high[f * COARSE_TILE * 4 + k] = (int8_t)above;
        }
    }
    out->minus[token] = -128 * sum;
}

/* The largest magnitudes of all tokens' fours, [n_tokens][n_fours], lie where their lower digits will, which take as
 * many bytes: on the stack they would be 128 KiB, all that a thread of musl's has. */
void coarse_pack(uint32_t n_in, uint32_t n_tokens, const float *const src[COARSE_TILE], coarse_tile *out)
{
    uint32_t n_fours = n_in / 4;
    float score[FOURS_MOST] = {0}, *most = (float *)(void *)coarse_low(out);
    bool fine[COARSE_TILE];
    memset(out, 0, coarse_tile_bytes(n_in));
    for (uint32_t t = 0; t < n_tokens; t++) {
        float *of = most + (size_t)t * n_fours;
        fine[t] = look_at_fours(src[t], n_fours, of);
        float by = fine[t] ? mean_of(of, n_fours) : 0;
        by = by > 0 ? 1 / by : 0;
        for (uint32_t i = 0; i < n_fours && by > 0; i++) {
            score[i] = fmaxf(score[i], of[i] * by);
        }
    }
    out->n_far = choose_far(score, n_fours, out->far);
    for (uint32_t t = 0; t < n_tokens; t++) {
        out->unit[t] = fine[t] ? unit_of(most + (size_t)t * n_fours, score, n_fours) : NAN;
        fine[t] = fine[t] && !(out->unit[t] > 0 && out->unit[t] < UNIT_LEAST); /* its inverse would be no number */
        out->unit[t] = fine[t] ? out->unit[t] : NAN;
    }
    memset(most, 0, (size_t)n_tokens * n_fours * sizeof *most);
    for (uint32_t t = 0; t < n_tokens; t++) {
        if (fine[t]) {
            pack_token(src[t], n_in, t, out);
        }
    }
}

void coarse_read(const coarse_tile *t, uint32_t token, uint32_t n_in, int32_t *out)
{
    const int8_t *low = coarse_low(t) + token * 4, *high = coarse_high(t) + token * 4;
    for (uint32_t i = 0; i < n_in; i++) {
        out[i] = low[i / 4 * COARSE_TILE * 4 + i % 4];
    }
    for (uint32_t f = 0; f < t->n_far; f++) {
        for (uint32_t k = 0; k < 4; k++) {
            out[t->far[f] * 4 + k] += 256 * high[f * COARSE_TILE * 4 + k];
        }
    }
}
