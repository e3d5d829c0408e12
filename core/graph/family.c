/*
 * The table of model families.
 * Owner: none; const table. Lifetime: static.
 */
#include "graph/family.h"

#include <string.h>

static const family families[] = {
    /* Llama 1–3, Mistral (a window on every layer), SmolLM, TinyLlama. Touvron et al. 2023; Jiang et al. 2023. */
    {.name = "llama", .gguf_rope = ROPE_PAIRS},
    /* Yang et al. 2024 */
    {.name = "qwen2", .qkv_bias = true},
    /* Yang et al. 2025 */
    {.name = "qwen3", .qk_norm = true},
    /* Gemma Team 2025: five window layers to one full; the 27B scales by the width of a query head of the residual. */
    {.name = "gemma3",
     .qk_norm = true,
     .post_norms = true,
     .scale_embedding = true,
     .act = ACT_GELU_TANH,
     .full_every = 6,
     .local_rope_theta = 10000.0f,
     .wide_head_scale_layers = 62},
};

const family *family_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strlen(families[i].name) == n && memcmp(families[i].name, name, n) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

const family *family_at(size_t index)
{
    return index < sizeof families / sizeof *families ? &families[index] : NULL;
}
