/*
 * RoPE frequencies: every scaling comes down to one frequency a pair and a magnitude.
 * Owner: the model's graph (memory from its region). Lifetime: the model's.
 */
#ifndef MLXR_GRAPH_ROPE_H
#define MLXR_GRAPH_ROPE_H

#include "graph/hparams.h"

/* Frequencies of n_rot/2 pairs: inv_freq[i] = theta^(−2i/n_rot) (Su et al. 2021), then
 *   linear   ÷ factor (Chen et al. 2023);
 *   NTK      a theta × factor^(n_rot/(n_rot − 2)), so that the slowest pair is divided by factor (bloc97 2023);
 *   YaRN     between ÷ factor and unscaled by wavelength, magnitude 0.1·ln(factor) + 1 (Peng et al. 2023);
 *   LongRoPE each pair by a factor of its own, `factors`; magnitude √(1 + ln(factor) / ln(n_ctx_orig)) (Ding et al.
 * 2024); Llama 3  long waves ÷ factor, short ones untouched, a ramp between (Llama 3.1 model card).
 * `factors` [n_rot/2] divides each frequency in addition (GGUF's rope_freqs.weight), or is NULL. Proportional RoPE
 * (Gemma 4) is no more than such factors: the pairs behind a share of the head have ROPE_FACTOR_STILL and do not turn,
 * while the frequencies of the others are those of a head that turns as a whole. */
void rope_frequencies(uint32_t n_rot, float theta, const rope_scaling *scaling, const float *factors, float *inv_freq,
                      float *magnitude);

#endif
