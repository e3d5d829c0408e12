/*
 * Plan: what a model computes for a step, as a flat list of mid-level operations over named scratch slots. Built once
 * per model by core/graph, run by every backend.
 * Owner: the model. Lifetime: the model's. Immutable after building; any thread.
 *
 * A slot is a matrix of f32 with one row per token of the step (slot X, N, …) or, after OP_TAKE_ROWS, one row per
 * wanted row. Its rows are as wide as the operation that last wrote them made them: layers may have heads of their own
 * size. The scalar CPU backend defines what each operation means.
 */
#ifndef MLXR_KERNELS_PLAN_H
#define MLXR_KERNELS_PLAN_H

#include "base/mapping.h"
#include "quant/tensor.h"

typedef enum slot {
    SLOT_NONE,
    SLOT_X,  /* residual stream        [n_embd] */
    SLOT_N,  /* normalised input       [n_embd] */
    SLOT_Q,  /* queries                [n_head × head_dim] */
    SLOT_K,  /* keys                   [n_head_kv × head_dim] */
    SLOT_V,  /* values                 [n_head_kv × head_dim] */
    SLOT_A,  /* attention's output     [n_head × head_dim] */
    SLOT_O,  /* a block's output, before it joins X [n_embd] */
    SLOT_G,  /* gate, then activation  [n_ff] */
    SLOT_U,  /* up                     [n_ff] */
    SLOT_R,  /* what a router makes of the experts [n_expert] */
    SLOT_SG, /* gate and up of experts that all tokens share */
    SLOT_SU,
    SLOT_SW,     /* what these weigh            [1] */
    SLOT_QG,     /* queries and their gates, head by head */
    SLOT_AG,     /* gates of attention's output [n_head × head_dim] */
    SLOT_W,      /* all that a mixer reads, as one matrix gives it */
    SLOT_C,      /* what a mixer convolves      [queries, keys and values of the mixer] */
    SLOT_Z,      /* gate of a mixer's output */
    SLOT_M,      /* a mixer's output */
    SLOT_D,      /* time steps of its heads     [n_head of the mixer] */
    SLOT_B,      /* how much each head learns   [n_head of the mixer] */
    SLOT_DB,     /* both, as one matrix gives them */
    SLOT_QL,     /* what latent attention makes queries of    [n_latent_q] */
    SLOT_KL,     /* … and what stands for keys and values     [n_latent_kv] */
    SLOT_KR,     /* the turned part of a key                  [n_rot] */
    SLOT_LE,     /* what each layer has of the token, layer by layer [n_layers × n_embd_layer] */
    SLOT_LP,     /* the same made of X */
    SLOT_P,      /* what joins a block's output before that joins X [n_embd], or what it is made of */
    SLOT_H,      /* the hidden state behind the token before  [n_embd] */
    SLOT_EH,     /* the next token's embedding, then SLOT_H    [2 × n_embd] */
    SLOT_LOGITS, /* what a step gives: logits [n_vocab], or hidden states of a plan that ends with its last norm */
    SLOT_COUNT,
} slot;

typedef enum op_kind {
    OP_EMBED,    /* dst = rows of `weight` [width, n_vocab] named by the step's tokens, × scale (+ bias) */
    OP_POSITION, /* dst = rows of `weight` [width, n_positions] named by the step's positions (+ bias) */
    OP_KIND,     /* dst = row 1 of `weight` [width, 2 or more] from the slice's position `second` on, before it row 0 */
    OP_NORM,     /* dst = norm(src) over groups of norm.width; × weight [norm.width] (+ bias) */
    OP_LINEAR,   /* dst = src · weightᵀ (+ bias); weight [n_in, n_out] */
    OP_ROPE,     /* dst rotated in place by the step's positions */
    OP_KV_WRITE, /* SLOT_K, SLOT_V → the sequence's pages; of a group with `one_row` SLOT_K alone */
    OP_ATTEND,   /* SLOT_A = attention of SLOT_Q over the pages */
    OP_GATED,    /* dst = activation(dst) ∘ src: SLOT_G, SLOT_U; SLOT_NONE: activation(dst) alone */
    OP_ADD,      /* dst += src × scale */
    OP_EXPERTS,  /* dst = Σ weight · expert(src), or Σ expert(weight · src), over those that SLOT_R chooses for the row
                  */
    OP_ADAPT,    /* dst += Σ scale · (src · aᵀ) · b over the adapters of the row's slice (adapter_product `product`);
                    `weight` is the product's own. src SLOT_NONE: behind OP_EMBED, of whose row's token aᵀ has a row */
    OP_SCALE,    /* dst × scale */
    OP_SOFTCAP,  /* dst = cap · tanh(dst / cap) */
    OP_CURVE,    /* dst = curve(dst), element by element */
    OP_CONV,  /* dst = Σ of its last n rows, each × weight [n, width] (+ bias); those before the first are the state */
    OP_RECUR, /* dst = what the queries in src find in a state that each row's keys and values change */
    OP_PICK,  /* dst[to …] = elements [from, from + n) of each group of src */
    OP_HEADS, /* dst[to …] = src[from …] · weightᵀ, with a matrix for each head */
    OP_WEIGH, /* dst × σ(src), one number a row */
    OP_SCAN,  /* dst += weight ∘ (dst of the row before), row after row; the first row's is the sequence's state */
    OP_LOAD,  /* dst = the row's part of step.carried [width] */
    OP_STORE, /* the row's part of step.carried = src */
    OP_TAKE_ROWS, /* keeps only the wanted rows of dst; all later operations run on those */
    OP_KIND_COUNT,
} op_kind;

typedef enum norm_kind { NORM_RMS, NORM_LAYER } norm_kind;
typedef enum rope_kind { ROPE_HALVES /* (i, i + n/2), NEOX */, ROPE_PAIRS /* (2i, 2i + 1) */ } rope_kind;
typedef enum activation {
    ACT_SILU,
    ACT_GELU_TANH,
    ACT_GELU_ERF,
    ACT_RELU,
    ACT_RELU_SQUARED,
    ACT_SWIGLU_CLAMPED, /* of two: g σ(1.702 g) (u + 1) with g ≤ 7, |u| ≤ 7 (gpt-oss) */
    ACT_NONE,           /* x */
    ACT_SIGMOID,
    ACT_COUNT,
} activation;

typedef struct op_norm {
    norm_kind kind;
    uint32_t width; /* elements a group: n_embd, or head_dim for per-head norms */
    float eps;
    bool whole_weight; /* weight and bias are [width of dst], not the same for each group */
} op_norm;

/* Every RoPE scaling known (linear, NTK, YaRN, LongRoPE, Llama 3) comes down to these frequencies and a magnitude. */
typedef struct op_rope {
    rope_kind kind;
    uint32_t head_dim, n_rot; /* the first n_rot elements of each head turn; n_rot even, ≤ head_dim */
    const float *inv_freq;    /* [n_rot / 2]: angle of pair i at position p is p × inv_freq[i] */
    float magnitude;          /* factor on cos and sin; 1 usually */
    float temperature;        /* a further factor 1 + temperature · ln(1 + ⌊(p + from) / span⌋), for queries; 0: none */
    uint32_t temperature_span, temperature_from;
} op_rope;

typedef struct op_attend {
    uint32_t n_head, n_head_kv, head_dim;
    float scale;        /* on q·k */
    float softcap;      /* 0: none */
    uint32_t first;     /* positions before it hold nothing and are not seen; a query always sees its own */
    uint32_t window;    /* 0: all earlier tokens; else the last `window`, the query's own position included … */
    bool chunked;       /* … or, of positions cut into chunks of `window`, those of its own chunk (plan_first_seen) */
    bool both_ways;     /* … and as many later ones, to the slice's end: a step has whole sequences then */
    uint16_t kv_group;  /* which layer group's pages */
    uint16_t kv_layer;  /* index within the group */
    const float *sinks; /* [n_head] logits that join the softmax without a value, or NULL */
} op_attend;

/* Which recurrent state an operation goes on from and leaves behind it. OP_SCAN, the sum that decays by `weight`
 * [width] for each channel, is the simplest of its kind; no family has it. Whatever a later one computes: its state is
 * F32, and the bits of a result must not depend on where steps cut the rows. */
typedef struct op_state {
    uint16_t kv_group; /* a recurrent one */
    uint16_t kv_layer; /* index within the group */
    uint32_t first;    /* element of the layer's state where the operation's own begins */
} op_state;

/* Functions of one number that have numbers of their own. */
typedef enum curve_kind {
    CURVE_CLAMP, /* kept from −limit to limit */
    CURVE_XIELU, /* Huang & Schlag 2024: above 0 rise x² + slope x, else fall (e^min(x, limit) − 1 − x) + slope x */
} curve_kind;

typedef struct op_curve {
    curve_kind kind;
    float limit, rise, fall, slope;
} op_curve;

/* A short convolution. State: [n − 1][width], the rows before, oldest first. */
typedef struct op_conv {
    op_state state;
    uint32_t n; /* rows that a result sees, its own included */
    bool silu;  /* of the result */
} op_conv;

#define CONV_ROWS_MAX 16u

/* Linear attention with a state S [n_head][head_k][head_v] that fades. For each head, with the step d = softplus(D +
 * step_bias) and the fading f = exp(d · fade):
 *   RECUR_SSM    Mamba-2 (Dao & Gu 2024): S = f S + k (d v)ᵀ,  out = Sᵀ q + skip · v
 *   RECUR_DELTA  gated delta rule (Yang et al. 2024), q and k of length 1:
 *                S = f S + k (b (v − (f S)ᵀ k))ᵀ,  b = σ(B),  out = Sᵀ q / √head_k
 * Queries and keys are shared: head h has those of h ÷ (n_head / n_head_k), or where they take turns h mod n_head_k. */
typedef enum recur_kind { RECUR_SSM, RECUR_DELTA } recur_kind;

typedef struct op_recur {
    recur_kind kind;
    bool take_turns;
    uint32_t n_head, n_head_k, head_k, head_v;
    uint32_t q_first, k_first, v_first;   /* in a row of src */
    const float *fade, *step_bias, *skip; /* [n_head]; skip of RECUR_SSM alone */
    float step_least, step_most;          /* what steps are kept to */
    op_state state;
} op_recur;

#define RECUR_HEAD_MAX 1024u /* elements of a key or value */
#define RECUR_EPS 1e-6f      /* in the length of RECUR_DELTA's queries and keys */

/* Groups of `group` elements of src (0: the same ones for all groups), n of each from `from` on; they lie from `to` of
 * dst side by side, or so far apart. */
typedef struct op_pick {
    uint32_t n_groups, group, from, n, to, apart;
} op_pick;

/* A product for each head: its n_in elements of src, from_apart from those of the one before, make n_out of dst. */
typedef struct op_heads {
    uint32_t n_heads, n_in, n_out;
    uint32_t from, from_apart, to, to_apart;
    const tensor *weights; /* [n_heads] matrices [n_in, n_out] */
    const tensor *whole;   /* the file's matrix that they are made of, if they are no part of it; it would meet … */
    slot whole_src;        /* … this, which observers are told */
} op_heads;

/* How the experts of a row and their weights follow from the router's numbers. Of equal ones the first is chosen. */
typedef enum routing_kind {
    ROUTE_SOFTMAX,     /* the most probable, weighted by their probabilities */
    ROUTE_TOP_SOFTMAX, /* the largest, weighted by the softmax over these alone */
    ROUTE_SIGMOID,     /* as the first, each number by itself made a probability */
} routing_kind;

/* A mixture: MLPs of which each row goes through n_used. */
typedef struct op_experts {
    uint32_t n_expert, n_used, n_in, n_ff;
    routing_kind routing;
    bool normalise;           /* weights are made to sum to 1 … */
    float scale;              /* … and multiplied by this */
    bool weigh_input;         /* a weight is of what an expert reads, not of what it gives; there are no biases then */
    const float *choice_bias; /* [n_expert] added where experts are chosen, not where they are weighted; or NULL */
    uint32_t n_groups,
        n_groups_used;          /* experts are first chosen by groups (by the sum of a group's two best); 0, 1: no */
    bool groups_by_best;        /* … by the best alone */
    const float *expert_scales; /* [n_expert] multiply the weight of each, or NULL */
    activation act;
    /* [n_expert] matrices [n_in, n_ff], [n_ff, n_in]; gate NULL: an expert is down(act(up(x))) */
    const tensor *gate, *up, *down;
    const float *gate_bias, *up_bias, *down_bias; /* [n_expert][n_ff or n_in] or NULL */
    bool adapts; /* adapters of a row's slice add to these three (adapter_product `product` and the two behind it) … */
    uint32_t product; /* … in the order gate, up, down */
} op_experts;

/* What an adapter adds to one matrix product: B · A of a low rank; rank 0: nothing. Of experts to each one's. */
typedef struct adapter_product {
    uint32_t rank;
    const float *a, *b; /* [rank][n_in], [rank][n_out]; of experts [n_expert] such matrices */
} adapter_product;

#define EXPERTS_MAX 1024u
#define EXPERTS_USED_MAX 64u

typedef struct op {
    op_kind kind;
    uint16_t layer; /* of the model, for profiling and messages */
    slot dst, src;
    uint32_t width;              /* elements a row of dst */
    const tensor *weight, *bias; /* or NULL; bias is F32 */
    float scale;                 /* EMBED, ADD, SCALE, ADAPT: 1 usually; SOFTCAP: the cap */
    union {
        op_norm norm;
        op_rope rope;
        op_attend attend; /* KV_WRITE and ATTEND */
        op_state state;   /* SCAN */
        op_curve curve;
        op_conv conv;
        op_pick pick;
        const op_heads *heads;
        const op_recur *recur;
        activation act;   /* GATED */
        uint32_t product; /* ADAPT: number of the product it follows */
        const op_experts *experts;
    };
} op;

#define KV_GROUPS_MAX 4

/* Layers that share one page table: all see the same span of tokens. Three kinds:
 *   full attention   every earlier position
 *   window           the last `window` positions, or those of the newest chunk of so many
 *   recurrent        no position but a state of fixed size that stands for all of them; `state_width` is not 0 */
typedef struct kv_group {
    uint32_t n_layers, n_head_kv, head_dim;
    uint32_t window;      /* 0: full attention, or recurrent */
    uint32_t state_width; /* F32 elements of a layer's state; 0: attention */
    bool one_row;         /* a value is the whole of its key, and is kept once */
    bool chunked;         /* a window's positions are those of chunks */
} kv_group;

/* The first position that a query at `position` sees: 0, of a window the last `window` positions, of chunks the first
 * one of its own. No later query sees further back: what is cached before it can go. */
static inline uint64_t plan_first_seen(uint32_t window, bool chunked, uint64_t position)
{
    if (window == 0 || position < window) {
        return 0;
    }
    return chunked ? position - position % window : position - window + 1;
}

typedef struct plan {
    const op *ops; /* [n_ops] */
    uint32_t n_ops;
    uint32_t slot_width[SLOT_COUNT]; /* elements of the widest row; 0: unused */
    kv_group kv_groups[KV_GROUPS_MAX];
    uint32_t n_kv_groups;
    uint32_t n_vocab, n_embd, n_layers;
    uint32_t n_positions;  /* of the shortest table of positions; 0: any */
    uint32_t carried;      /* elements a row of step.carried; 0: the plan neither loads nor stores any */
    bool two_texts;        /* OP_KIND tells the second text of a slice from the first */
    bool both_ways;        /* an encoder: each slice is a whole sequence, and the plan ends with hidden states */
    const mapping *mapped; /* [n_mapped] files' mappings: what of them is given back comes again when it is read */
    uint32_t n_mapped;
    bool logits_mapped; /* the matrix of logits lies in a mapping of a file, which has its pages again when asked */
} plan;

#endif
