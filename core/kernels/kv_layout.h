/*
 * Where a key or value lies inside a KV page, and what its bytes are.
 * Owner: none; plain values, computed once per layer group. Lifetime: the arena's.
 *
 * A page holds `page_tokens` consecutive positions for every layer of its group:
 *   page: [layer][K: [head_kv][token][head_dim] | V: [head_kv][token][head_dim]]
 * so that one head's keys are contiguous for the attention kernels. Where values are the keys themselves (latent
 * attention) there is no V.
 *
 * A row of F32, F16 or BF16 is the head's elements. A row of Q8_0 or Q4_0 is the head turned by a Hadamard matrix, in
 * blocks of 32. A block's scale follows from its largest element, and a few channels of keys are many times as large as
 * the others; turned, an element is a sum of all with signs, so that the large ones are spread evenly (QuaRot, Ashkboos
 * et al. 2024). Scores need no turning back, (Hq)·(Hk) = q·k: a query is turned instead of its keys, and what the
 * values sum up to is turned back once.
 *
 * Rows of I16 lie in parts of 32 positions, which integer products take whole (kv_words.h): a head's rows are
 *   [part][half of 16][words of 16 rows | 16 scales F32]
 * and row_bytes is what a row takes of a part, not a distance.
 *
 * A page of a recurrent group holds one state, whatever the number of positions before it:
 *   page: [layer][state_width] F32
 */
#ifndef MLXR_KERNELS_KV_LAYOUT_H
#define MLXR_KERNELS_KV_LAYOUT_H

#include <string.h>

#include "kernels/plan.h"
#include "mlxr.h"

#define KV_PAGE_NONE UINT32_MAX

/* The types of a KV cache: enum name, name in options. */
#define KV_TYPE_LIST(X)                                                                                                \
    X(F32, "f32")                                                                                                      \
    X(F16, "f16")                                                                                                      \
    X(BF16, "bf16")                                                                                                    \
    X(I16, "i16")                                                                                                      \
    X(Q8_0, "q8_0")                                                                                                    \
    X(Q4_0, "q4_0")
#define KV_TYPE_DEFAULT DTYPE_F16

/* Elements turned together at most: heads are seldom wider, and rows are turned on the stack. */
#define KV_TURN_MAX 256u

/* Positions whose rows of I16 lie together; page_tokens is a multiple of it then. */
#define KV_PART 32u

typedef struct kv_layout {
    dtype type;           /* one of KV_TYPE_LIST */
    uint32_t page_tokens; /* a power of two */
    uint32_t n_layers, n_head_kv, head_dim;
    uint32_t state_width; /* recurrent: F32 elements of a layer; 0: attention */
    size_t row_bytes;     /* one head of one token */
    size_t head_bytes;    /* page_tokens × row_bytes */
    bool one_row;         /* values are the keys */
    size_t layer_bytes;   /* 2 × n_head_kv × head_bytes, or once that */
    size_t page_bytes;    /* n_layers × layer_bytes */
} kv_layout;

/* False for a name that is no KV type. */
bool kv_type_find(const char *name, dtype *type);
/* As in options; NULL for a type no KV cache has. */
const char *kv_type_name(dtype type);
/* "f32, f16, …": all names, for people. */
const char *kv_type_names(void);
/* MLXR_UNSUPPORTED, in words, where rows of this group cannot be stored in the type. */
mlxr_status kv_layout_check(const kv_group *group, dtype type, mlxr_error *error);

/* How many elements of a row are turned together: the largest power of two that divides head_dim, up to KV_TURN_MAX; 0
 * where rows are stored as they are. At least 32 where kv_layout_check says yes. */
static inline uint32_t kv_turn_length(dtype type, uint32_t head_dim)
{
    uint32_t power = head_dim & (~head_dim + 1);
    return type != DTYPE_Q8_0 && type != DTYPE_Q4_0 ? 0 : power < KV_TURN_MAX ? power : KV_TURN_MAX;
}

/* A turned row is f × H × row, with H of ±1 and f the power of two near 1 / √length that loses no bits. */
static inline float kv_turn_factor(uint32_t length)
{
    float f = 1.0f;
    for (; length > 1; length /= 4) {
        f *= 0.5f;
    }
    return f;
}

/* … and back it goes, queries and sums of values too, by H once more with this factor: H × H = length. */
static inline float kv_turn_back_factor(uint32_t length)
{
    return 1.0f / ((float)length * kv_turn_factor(length));
}

static inline kv_layout kv_layout_make(const kv_group *group, dtype type, uint32_t page_tokens)
{
    kv_layout l; /* no initialiser: C++ reads this too, and warns of fields that one leaves out */
    memset(&l, 0, sizeof l);
    l.type = type;
    l.page_tokens = page_tokens;
    l.n_layers = group->n_layers;
    l.n_head_kv = group->n_head_kv;
    l.head_dim = group->head_dim;
    l.state_width = group->state_width;
    l.row_bytes = type == DTYPE_I16 ? group->head_dim * sizeof(int16_t) + sizeof(float)
                                    : dtype_row_bytes(type, group->head_dim);
    l.head_bytes = page_tokens * l.row_bytes;
    l.one_row = group->one_row;
    l.layer_bytes = (l.one_row ? 1 : 2) * l.n_head_kv * l.head_bytes;
    if (group->state_width) {
        l.type = DTYPE_F32;
        l.layer_bytes = group->state_width * sizeof(float);
    }
    l.page_bytes = l.n_layers * l.layer_bytes;
    return l;
}

/* Bytes that one position takes, on average; 0 in recurrent groups. */
static inline size_t kv_layout_token_bytes(const kv_layout *l)
{
    return l->state_width ? 0 : l->page_bytes / l->page_tokens;
}

/* Bytes from a key to its value. */
static inline size_t kv_layout_value_offset(const kv_layout *l)
{
    return l->one_row ? 0 : l->n_head_kv * l->head_bytes;
}

/* Byte offsets within a page of the first token's row of one head. */
static inline size_t kv_layout_k(const kv_layout *l, uint32_t layer, uint32_t head)
{
    return layer * l->layer_bytes + head * l->head_bytes;
}

static inline size_t kv_layout_v(const kv_layout *l, uint32_t layer, uint32_t head)
{
    return kv_layout_k(l, layer, head) + kv_layout_value_offset(l);
}

#endif
