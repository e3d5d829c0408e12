/*
 * How far a row's product with the upper half of its bits may be from its logit.
 * Owner: none. Lifetime: the call. Functions are pure; any thread.
 *
 * They differ by r · x, where r is what the upper half leaves out. With any weights d > 0 (Cauchy and Schwarz)
 *
 *     |r · x| ≤ |r ∘ d| × |x / d|
 *
 * of which the first factor, a row's length, is known beforehand, and the second, an input's reach, once it is there.
 * The root of x's usual magnitudes as d makes the right side least; what is usual is learned from the first inputs, and
 * needs not be right for the bound to hold.
 *
 * Floats round, in either product and in comparing them. Of n = n_in / 32 blocks, a logit is n terms and so n + 2
 * roundings of each, and its terms' magnitudes add up to |w| |x| at most. A product with the upper half u is n / 2
 * terms a lane, which are added to those of other lanes, and theirs add up to |u| |x|. Comparing rounds twice more.
 * There is room for all of that, and for products of roundings, in (n + 32) 2⁻²⁴ (|w| + |u|) |x|; |x| is at most |x /
 * d|.
 *
 * A rounding's error is a part of what is rounded only above 2⁻¹²⁶. A term is unit × scale × an integer below 2²⁸, so
 * where unit × scale is less, it loses up to 2⁻¹²⁶ × 2²⁸ = 2⁻⁹⁸. With inputs of at least INPUT_LEAST and upper halves,
 * none of whose integers is zero, of at least WEIGHT_LEAST what is allowed for each term's roundings, 2⁻²⁴ × both
 * lengths, is 2⁻⁸⁸, and so has room for that. Smaller inputs, which no norm leaves, are not screened; zeros are exact.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/quantize_act.h"
#include "kernels/cpu/screen_few_parts.h"

#define SQUARE_LEAST 0x1p-10f /* of d², whose greatest is 1 */
#define BOUND_MOST 0x1p100    /* beyond it, sums might leave the range of floats */
#define INPUT_LEAST 0x1p-40   /* of an input's length, unless it is zero */
#define WEIGHT_LEAST 0x1p-24  /* of a row's length, unless it is zero: the least scale there is */
#define UP (1 + 0x1p-20)      /* above what doubles, and the rounding to a float, take away */

void few_squares(const double *sums, uint32_t n_in, float *squares)
{
    double most = 0;
    for (uint32_t i = 0; i < n_in; i++) {
        most = sums[i] > most ? sums[i] : most;
    }
    for (uint32_t i = 0; i < n_in; i++) {
        double square = most > 0 && most <= BOUND_MOST ? sqrt(sums[i] / most) : 1;
        squares[i] = square > (double)SQUARE_LEAST ? (float)square : SQUARE_LEAST; /* also where it is NaN */
    }
}

float few_length(halves_lengths l, uint32_t n_in, double *size)
{
    double both = (double)l.parts;
    *size = both <= BOUND_MOST ? both : INFINITY; /* also where it is NaN */
    both = both > 0 && both < WEIGHT_LEAST ? WEIGHT_LEAST : both;
    double length = (double)l.rest + (n_in / Q16_BLOCK + 32) * 0x1p-24 * both;
    return *size <= BOUND_MOST ? (float)(length * UP) : INFINITY;
}

float few_reach(const linear_input *input, const float *squares, double most)
{
    q16_place at = q16_find(input, 0);
    double whole = 0, stretched = 0;
    for (uint32_t b = 0; b < input->n_in / Q16_BLOCK; b++) {
        const int8_t *digits = (const int8_t *)at.q + b * at.record;
        float unit;
        double sum = 0, far = 0;
        memcpy(&unit, at.words + b * at.record + Q16_UNIT * at.word, sizeof unit);
        for (uint32_t k = 0; k < Q16_BLOCK; k++) {
            double value = 256 * digits[k] + digits[Q16_BLOCK + k];
            sum += value * value;
            far += value * value / (double)squares[b * Q16_BLOCK + k];
        }
        whole += (double)unit * (double)unit * sum;
        stretched += (double)unit * (double)unit * far;
    }
    whole = sqrt(whole);
    stretched = sqrt(stretched);
    bool known = 4 * stretched * most <= BOUND_MOST && (whole == 0 || whole >= INPUT_LEAST);
    return known ? (float)(stretched * UP) : NAN;
}
