/*
 * Integer linear layers for ARM64 with int8 matrix products (SMMLA): panels of 4 rows.
 * Owner: const tables. Lifetime: static.
 *
 * SMMLA multiplies two rows of 8 bytes with two others. A token's two digits are two such rows, so that it is full even
 * for one token: two weight rows × both digits an instruction.
 *
 * Executed only under qemu-user so far (tools/check-arm): its speed is not known.
 */
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/unpack_neon.h"

#define LINEAR_SUFFIX linear_table_i8mm
#define LINEAR_PANELS linear_panels_i8mm
#define LINEAR_ISA "i8mm"
#define PASS_TOKENS 8
#define GROUP_TOKENS 2
#define MAKE_UNSIGNED false
#define OWN_SUM_DIGITS

INLINE void sum_digits(int bits, int shift, int n, const vint *w, int n_words, const uint8_t *q, const uint8_t *minus,
                       vint sum[])
{
    vint low[GROUP_TOKENS], high[GROUP_TOKENS]; /* of the panel's rows 0 and 1, 2 and 3: {row × digit}[2][2] */
    (void)bits;
    UNROLL
    for (int t = 0; t < n; t++) {
        low[t] = high[t] = v_words(0);
    }
    UNROLL
    for (int i = 0; i < n_words; i += 2) {
        int8x16_t rows01 = vreinterpretq_s8_s32(vzip1q_s32(w[i], w[i + 1]));
        int8x16_t rows23 = vreinterpretq_s8_s32(vzip2q_s32(w[i], w[i + 1]));
        UNROLL
        for (int t = 0; t < n; t++) {
            const uint8_t *at = q + t * Q16_DIGITS + 4 * i;
            int8x16_t digits = vreinterpretq_s8_u8(vcombine_u8(vld1_u8(at), vld1_u8(at + Q16_BLOCK)));
            low[t] = vmmlaq_s32(low[t], rows01, digits);
            high[t] = vmmlaq_s32(high[t], rows23, digits);
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) {
        vint offset = shift ? v_left32(v_words(word_at(minus + 4 * t)), shift) : v_words(0);
        vint high_digit = vuzp1q_s32(low[t], high[t]), low_digit = vuzp2q_s32(low[t], high[t]);
        sum[t] = v_add32(v_add32(low_digit, offset), v_left32(high_digit, 8));
    }
}

#include "kernels/cpu/linear_blocks.h"
