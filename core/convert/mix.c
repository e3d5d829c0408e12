/*
 * The table of quantisation mixes and the rules about tensors' names.
 * Owner: none; const tables. Lifetime: static.
 */
#include "convert/mix.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

/* Which layers a rule is for. */
typedef enum when {
    NEVER,
    ALWAYS,
    FIRST_2,
    FIRST_4,
    EIGHTH,          /* the first eighth of the layers */
    EIGHTH_WEIGHTED, /* … with an importance matrix */
    EIGHTH_PLAIN,    /* … without one */
    SIXTEENTH,
    MORE_BITS,   /* the first eighth, the last, and every third between */
    SHARED_HEADS /* four query heads and more read the same keys and values: these are small and matter */
} when;

typedef struct rule {
    when when;
    dtype type;
} rule;

struct mix {
    const char *name;
    const char *alias; /* NULL: none */
    uint32_t file_type;
    dtype plain;         /* of what no rule is for */
    rule value[2];       /* attn_v; the first that holds */
    rule down[2];        /* ffn_down */
    dtype out;           /* attn_output; 0 (F32): as plain */
    bool more_for_eight; /* with eight experts, attn_output gets Q5_K */
    bool experts_only;   /* of a mixture of experts all but these are Q8_0 */
};

/* file_type: GGUF's general.file_type. */
static const mix mixes[] = {
    {.name = "F32", .file_type = 0, .plain = DTYPE_F32},
    {.name = "F16", .file_type = 1, .plain = DTYPE_F16},
    {.name = "BF16", .file_type = 32, .plain = DTYPE_BF16},
    {.name = "Q4_0", .file_type = 2, .plain = DTYPE_Q4_0, .down = {{EIGHTH_WEIGHTED, DTYPE_Q4_1}}},
    {.name = "Q4_1", .file_type = 3, .plain = DTYPE_Q4_1},
    {.name = "Q5_0", .file_type = 8, .plain = DTYPE_Q5_0, .down = {{EIGHTH_WEIGHTED, DTYPE_Q5_1}}},
    {.name = "Q5_1", .file_type = 9, .plain = DTYPE_Q5_1},
    {.name = "Q8_0", .file_type = 7, .plain = DTYPE_Q8_0},
    {.name = "Q2_K",
     .file_type = 10,
     .plain = DTYPE_Q2_K,
     .value = {{SHARED_HEADS, DTYPE_Q4_K}, {ALWAYS, DTYPE_Q3_K}},
     .down = {{ALWAYS, DTYPE_Q3_K}},
     .out = DTYPE_Q3_K,
     .more_for_eight = true},
    {.name = "Q2_K_S",
     .file_type = 21,
     .plain = DTYPE_Q2_K,
     .value = {{SHARED_HEADS, DTYPE_Q4_K}},
     .down = {{EIGHTH, DTYPE_Q4_K}}},
    {.name = "Q3_K_S", .file_type = 11, .plain = DTYPE_Q3_K, .more_for_eight = true},
    {.name = "Q3_K_M",
     .alias = "Q3_K",
     .file_type = 12,
     .plain = DTYPE_Q3_K,
     .value = {{FIRST_2, DTYPE_Q5_K}, {ALWAYS, DTYPE_Q4_K}},
     .down = {{SIXTEENTH, DTYPE_Q5_K}, {ALWAYS, DTYPE_Q4_K}},
     .out = DTYPE_Q4_K,
     .more_for_eight = true},
    {.name = "Q3_K_L",
     .file_type = 13,
     .plain = DTYPE_Q3_K,
     .value = {{ALWAYS, DTYPE_Q5_K}},
     .down = {{ALWAYS, DTYPE_Q5_K}},
     .out = DTYPE_Q5_K},
    {.name = "Q4_K_S",
     .file_type = 14,
     .plain = DTYPE_Q4_K,
     .value = {{FIRST_4, DTYPE_Q5_K}},
     .down = {{EIGHTH, DTYPE_Q5_K}},
     .more_for_eight = true},
    {.name = "Q4_K_M",
     .alias = "Q4_K",
     .file_type = 15,
     .plain = DTYPE_Q4_K,
     .value = {{MORE_BITS, DTYPE_Q6_K}},
     .down = {{MORE_BITS, DTYPE_Q6_K}},
     .more_for_eight = true},
    {.name = "Q5_K_S", .file_type = 16, .plain = DTYPE_Q5_K},
    {.name = "Q5_K_M",
     .alias = "Q5_K",
     .file_type = 17,
     .plain = DTYPE_Q5_K,
     .value = {{MORE_BITS, DTYPE_Q6_K}},
     .down = {{MORE_BITS, DTYPE_Q6_K}}},
    {.name = "Q6_K", .file_type = 18, .plain = DTYPE_Q6_K},
    {.name = "IQ4_NL",
     .file_type = 25,
     .plain = DTYPE_IQ4_NL,
     .value = {{SHARED_HEADS, DTYPE_Q5_K}},
     .down = {{EIGHTH_PLAIN, DTYPE_Q5_K}},
     .more_for_eight = true},
    {.name = "IQ4_XS",
     .file_type = 30,
     .plain = DTYPE_IQ4_XS,
     .value = {{SHARED_HEADS, DTYPE_Q5_K}},
     .down = {{EIGHTH_PLAIN, DTYPE_Q5_K}},
     .more_for_eight = true},
    {.name = "MXFP4", .alias = "MXFP4_MOE", .file_type = 38, .plain = DTYPE_MXFP4, .experts_only = true},
};

const mix *mix_find(const char *name)
{
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        const char *alias = mixes[i].alias;
        if (strcasecmp(mixes[i].name, name) == 0 || (alias && strcasecmp(alias, name) == 0)) {
            return &mixes[i];
        }
    }
    return NULL;
}

const char *mix_names(void)
{
    return "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, IQ4_NL, IQ4_XS, "
           "MXFP4, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, Q2_K_S";
}

uint32_t mix_file_type(const mix *m)
{
    return m->file_type;
}

static bool mix_quantises(const mix *m)
{
    return dtype_find((uint32_t)m->plain)->block_size > 1;
}

/* The scale of Q8_0's blocks follows from the largest weight: nothing is chosen. */
bool mix_weighs(const mix *m)
{
    return mix_quantises(m) && m->plain != DTYPE_Q8_0;
}

uint32_t mix_file_type_of(dtype type)
{
    static const uint8_t read_only[MIX_TYPES] = {
        [DTYPE_IQ2_XXS] = 19, [DTYPE_IQ2_XS] = 20, [DTYPE_IQ3_XXS] = 23, [DTYPE_IQ1_S] = 24, [DTYPE_IQ3_S] = 26,
        [DTYPE_IQ2_S] = 28,   [DTYPE_IQ1_M] = 31,  [DTYPE_TQ1_0] = 36,   [DTYPE_TQ2_0] = 37, [DTYPE_NVFP4] = 39,
    };
    uint32_t found = read_only[type];
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes && found == 0; i++) {
        const mix *m = &mixes[i];
        found = m->plain == type && (m->alias || strcmp(m->name, dtype_name(type)) == 0) ? m->file_type : 0;
    }
    return found; /* 0 is F32's; Q8_K is no type of weights in files */
}

/* ---- what it depends on ---- */

static uint32_t read_u32(const model_file *file, text_view arch, const char *name)
{
    char key[128];
    uint32_t value = 0;
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.n < 64 ? arch.n : 64), arch.data ? arch.data : "", name);
    model_file_u32(file, key, &value, NULL); /* absent or odd: 0; what loads the model tells */
    return value;
}

mix_model mix_model_of(const model_file *file, bool weighted)
{
    text_view arch = {0};
    model_file_text(file, "general.architecture", &arch, NULL);
    mix_model m = {.n_layers = read_u32(file, arch, "block_count"),
                   .n_head = read_u32(file, arch, "attention.head_count"),
                   .n_head_kv = read_u32(file, arch, "attention.head_count_kv"),
                   .n_expert = read_u32(file, arch, "expert_count"),
                   .tied = model_file_tensor(file, "output.weight") == NULL,
                   .weighted = weighted};
    m.n_head_kv = m.n_head_kv ? m.n_head_kv : m.n_head;
    return m;
}

static bool holds(when w, const mix_model *m, uint32_t layer)
{
    uint32_t n = m->n_layers;
    switch (w) {
    case NEVER:
        return false;
    case ALWAYS:
        return true;
    case FIRST_2:
        return layer < 2;
    case FIRST_4:
        return layer < 4;
    case EIGHTH:
        return layer < n / 8;
    case EIGHTH_WEIGHTED:
        return layer < n / 8 && m->weighted;
    case EIGHTH_PLAIN:
        return layer < n / 8 && !m->weighted;
    case SIXTEENTH:
        return layer < n / 16;
    case MORE_BITS:
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    case SHARED_HEADS:
        return m->n_head_kv && m->n_head / m->n_head_kv >= 4;
    }
    return false;
}

static dtype first_that_holds(const rule rules[2], const mix_model *m, uint32_t layer, dtype otherwise)
{
    for (int i = 0; i < 2; i++) {
        if (holds(rules[i].when, m, layer)) {
            return rules[i].type;
        }
    }
    return otherwise;
}

/* ---- tensors' names ---- */

/* Norms, biases, routers, tables of positions and small convolutions stay as they are: they take little and matter. */
static bool may_change(const tensor *t)
{
    static const char *const kept[] = {"_norm.weight",
                                       "ffn_gate_inp",
                                       "ssm_conv1d",
                                       "shortconv.conv",
                                       "position_embd",
                                       "token_types.weight",
                                       "attn_rel_b.weight",
                                       "time_mix_",
                                       "per_layer_model_proj",
                                       "altup",
                                       "laurel",
                                       "rope_freqs"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (strstr(t->name, kept[i])) {
            return false;
        }
    }
    return t->n_dims >= 2 && text_ends_with(t->name, "weight");
}

/* Of latent attention: each head has its own, though the cache has one. */
static bool is_value_of_head(const char *name)
{
    return text_ends_with(name, "attn_v_b.weight");
}

static bool is_value(const char *name)
{
    return text_ends_with(name, "attn_v.weight") || text_ends_with(name, "attn_qkv.weight") ||
           text_ends_with(name, "attn_kv_b.weight") || is_value_of_head(name);
}

static dtype wanted_type(const mix *m, const mix_model *model, const char *name)
{
    bool eight = model->n_expert == 8;
    unsigned layer = 0;
    sscanf(name, "blk.%u.", &layer);
    if (!mix_quantises(m)) {
        return m->plain;
    }
    if (strcmp(name, "output.weight") == 0 || (model->tied && strcmp(name, "token_embd.weight") == 0)) {
        return m->plain == DTYPE_Q8_0 || m->experts_only ? DTYPE_Q8_0 : DTYPE_Q6_K;
    }
    if (m->experts_only) {
        return model->n_expert && !strstr(name, "_exps.") ? DTYPE_Q8_0 : m->plain;
    }
    if (is_value(name)) {
        mix_model own = *model;
        own.n_head_kv = is_value_of_head(name) ? own.n_head : own.n_head_kv;
        dtype type = first_that_holds(m->value, &own, layer, m->plain);
        /* Eight query heads read one of 80 layers' value heads: what more bits cost is next to nothing. */
        bool large = own.n_layers == 80 && own.n_head_kv && own.n_head / own.n_head_kv == 8;
        type = large && (type == DTYPE_Q3_K || type == DTYPE_Q4_K) ? DTYPE_Q5_K : type;
        return eight ? DTYPE_Q8_0 : type;
    }
    if (text_ends_with(name, "attn_k.weight") && eight) {
        return DTYPE_Q8_0;
    }
    if (strstr(name, "ffn_down")) {
        return first_that_holds(m->down, model, layer, m->plain);
    }
    if (text_ends_with(name, "attn_output.weight")) {
        return eight ? (m->more_for_eight ? DTYPE_Q5_K : m->plain) : m->out != DTYPE_F32 ? m->out : m->plain;
    }
    return m->plain;
}

/* For rows that do not divide into blocks of 256: about as many bits in blocks of 32. */
static dtype smaller_blocks(dtype type)
{
    switch (type) {
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
        return DTYPE_Q4_0;
    case DTYPE_IQ4_XS:
        return DTYPE_IQ4_NL;
    case DTYPE_Q4_K:
        return DTYPE_Q5_0;
    case DTYPE_Q5_K:
        return DTYPE_Q5_1;
    case DTYPE_Q6_K:
        return DTYPE_Q8_0;
    default:
        return type;
    }
}

dtype mix_type(const mix *m, const mix_model *model, const tensor *t, bool *gave_way)
{
    *gave_way = false;
    if (m->plain == DTYPE_F32) {
        return DTYPE_F32;
    }
    if (!may_change(t)) {
        return t->type;
    }
    dtype wanted = wanted_type(m, model, t->name), type = wanted;
    if (t->shape[0] % dtype_find((uint32_t)type)->block_size != 0) {
        type = smaller_blocks(type);
    }
    if (t->shape[0] % dtype_find((uint32_t)type)->block_size != 0) {
        type = DTYPE_F16;
    }
    *gave_way = type != wanted;
    return type;
}
