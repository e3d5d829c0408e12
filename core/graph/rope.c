/*
 * RoPE frequencies.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/rope.h"

#include <math.h>

static const double two_pi = 6.283185307179586;

/* The pair whose wave turns `rotations` times within the original context (YaRN, equation 17 solved for the index). */
static double pair_turning(double rotations, double n_rot, double theta, double n_ctx_orig)
{
    return n_rot * log(n_ctx_orig / (rotations * two_pi)) / (2 * log(theta));
}

static double yarn_frequency(double freq, uint32_t pair, uint32_t n_rot, double theta, const rope_scaling *s)
{
    double low = pair_turning(s->beta_fast, n_rot, theta, s->n_ctx_orig);
    double high = pair_turning(s->beta_slow, n_rot, theta, s->n_ctx_orig);
    if (!s->untruncated) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, n_rot - 1.0);
    if (high <= low) {
        high = low + 0.001;
    }
    double ramp = fmin(fmax((pair - low) / (high - low), 0), 1);
    return freq / s->factor * ramp + freq * (1 - ramp);
}

static double llama3_frequency(double freq, const rope_scaling *s)
{
    double wavelength = two_pi / freq;
    double low_wavelength = s->n_ctx_orig / (double)s->low_freq_factor;
    double high_wavelength = s->n_ctx_orig / (double)s->high_freq_factor;
    if (wavelength < high_wavelength) {
        return freq;
    }
    if (wavelength > low_wavelength) {
        return freq / s->factor;
    }
    double smooth = (s->n_ctx_orig / wavelength - s->low_freq_factor) /
                    ((double)s->high_freq_factor - s->low_freq_factor);
    return (1 - smooth) * freq / s->factor + smooth * freq;
}

void rope_frequencies(uint32_t n_rot, float theta, const rope_scaling *scaling, const float *factors, float *inv_freq,
                      float *magnitude)
{
    double base = (double)theta;
    if (scaling->kind == ROPE_SCALING_NTK && n_rot > 2) {
        base *= pow((double)scaling->factor, n_rot / (n_rot - 2.0));
    }
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double freq = pow(base, -2.0 * i / n_rot);
        switch (scaling->kind) {
        case ROPE_SCALING_NONE:
        case ROPE_SCALING_NTK:      /* all in the base */
        case ROPE_SCALING_LONGROPE: /* all in the factors */
            break;
        case ROPE_SCALING_LINEAR:
            freq /= scaling->factor;
            break;
        case ROPE_SCALING_YARN:
            freq = yarn_frequency(freq, i, n_rot, theta, scaling);
            break;
        case ROPE_SCALING_LLAMA3:
            freq = llama3_frequency(freq, scaling);
            break;
        }
        bool still = factors && factors[i] >= ROPE_FACTOR_STILL;
        inv_freq[i] = still ? 0 : (float)(factors ? freq / factors[i] : freq);
    }
    *magnitude = 1;
    if (scaling->kind == ROPE_SCALING_YARN) {
        *magnitude = scaling->attn_factor > 0 ? scaling->attn_factor
                     : scaling->factor > 1    ? (float)(0.1 * log(scaling->factor) + 1)
                                              : 1;
    } else if (scaling->kind == ROPE_SCALING_LONGROPE) {
        double more = scaling->factor > 1 ? log(scaling->factor) / log(scaling->n_ctx_orig) : 0;
        *magnitude = scaling->attn_factor > 0 ? scaling->attn_factor : (float)sqrt(1 + more);
    }
}
