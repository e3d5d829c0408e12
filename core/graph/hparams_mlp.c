/*
 * Hyper-parameters of MLPs and experts.
 * Owner: the model's graph. Lifetime: the call.
 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/hparams_reader.h"

static void refuse_feed_forward(reader *r, const hparams *h, const char *what)
{
    char key[160];
    if (r->status == MLXR_OK) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED, "metadata '%s': expected %s for each of %u layers",
                              key_of(r, "feed_forward_length", key, sizeof key), what, h->n_layers);
    }
}

void read_feed_forward(reader *r, hparams *h)
{
    char key[160];
    const uint32_t most = 1u << 22;
    key_of(r, "feed_forward_length", key, sizeof key);
    const meta_value *value = model_file_meta(r->file, key);
    if (r->status != MLXR_OK || !value || value->type != META_ARRAY) {
        need_u32(r, "feed_forward_length", most, &h->n_ff);
        for (uint32_t i = 0; i < h->n_layers; i++) {
            h->layer_ff[i] = h->n_ff;
        }
        return;
    }
    const meta_array *a = &value->array;
    if (a->type == META_STRING || a->n < h->n_layers) {
        refuse_feed_forward(r, h, "a number");
        return;
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        double x = meta_array_number(a, i);
        if (!(x >= !h->fam->one_block && x <= most)) {
            refuse_feed_forward(r, h, h->fam->one_block ? "0 or a number up to 4194304" : "1 to 4194304");
        } else if (h->fam->one_block && x > 0 && h->layer_kinds[i] != LAYER_MIXER) {
            refuse_feed_forward(r, h, "0 where it has attention, and else 0 or a number up to 4194304");
        } else if (h->fam->one_block && x > 0) { /* no attention, and its MLP says that it has no mixer either */
            h->layer_kinds[i] = LAYER_MLP;
        }
        h->layer_ff[i] = r->status == MLXR_OK ? (uint32_t)x : 0;
        h->n_ff = h->layer_ff[i] > h->n_ff ? h->layer_ff[i] : h->n_ff;
    }
    if (h->n_ff == 0) {
        refuse_feed_forward(r, h, "at least once a number above 0");
    }
    /* The list may go on to the layer that predicts ahead, which is none where it is not in the file. */
    double ahead = h->predicts_ahead && a->n > h->n_layers ? meta_array_number(a, h->n_layers) : 0;
    if (r->status == MLXR_OK && ahead >= 1 && ahead <= most) {
        h->layer_ff[h->n_layers] = (uint32_t)ahead;
        h->n_ff = h->layer_ff[h->n_layers] > h->n_ff ? h->layer_ff[h->n_layers] : h->n_ff;
    }
}

/* GGUF's expert_gating_func. */
static void read_gating(reader *r, hparams *h)
{
    static const routing_kind kinds[] = {[1] = ROUTE_SOFTMAX, [2] = ROUTE_SIGMOID, [3] = ROUTE_TOP_SOFTMAX};
    uint32_t function = 0, normalise = h->normalise_experts;
    read_u32(r, "expert_gating_func", &function);
    read_flag(r, "expert_weights_norm", &normalise);
    h->normalise_experts = normalise != 0;
    if (r->status == MLXR_OK && function >= sizeof kinds / sizeof *kinds) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "metadata '%s.expert_gating_func' is %u; 1, 2 and 3 are known", r->arch, function);
    } else if (function) {
        h->routing = kinds[function];
    }
}

void read_experts(reader *r, hparams *h)
{
    uint32_t n_shared = h->fam->n_shared;
    h->expert_step = 1;
    h->routing = h->fam->routing;
    h->normalise_experts = h->fam->normalise_experts;
    h->expert_scale = 1;
    read_u32(r, "expert_count", &h->n_expert);
    if (r->status != MLXR_OK || h->n_expert == 0) {
        return;
    }
    need_u32(r, "expert_used_count", h->n_expert < EXPERTS_USED_MAX ? h->n_expert : EXPERTS_USED_MAX,
             &h->n_expert_used);
    read_u32(r, "expert_feed_forward_length", &h->n_ff_expert);
    read_u32(r, "expert_shared_count", &n_shared);
    h->n_ff_shared = n_shared * h->n_ff_expert;
    read_u32(r, "expert_shared_feed_forward_length", &h->n_ff_shared);
    read_u32(r, "leading_dense_block_count", &h->n_layers_dense);
    read_u32(r, "interleave_moe_layer_step", &h->expert_step);
    read_u32(r, "expert_group_count", &h->n_expert_groups);
    read_u32(r, "expert_group_used_count", &h->n_expert_groups_used);
    read_f32(r, "expert_weights_scale", &h->expert_scale);
    read_u32(r, "moe_latent_size", &h->n_expert_latent);
    read_gating(r, h);
    uint32_t by_best = h->fam->latent && h->routing == ROUTE_SOFTMAX; /* DeepSeek V2; no other program's key tells it */
    read_u32(r, "expert_group_by_best", &by_best);
    h->groups_by_best = by_best != 0;
    if (r->status == MLXR_OK && (h->expert_step == 0 || h->expert_step > h->n_layers)) {
        r->status = error_set(r->error, MLXR_FORMAT,
                              "metadata '%s.interleave_moe_layer_step' is %u; it must be 1 to %u, the number of layers",
                              r->arch, h->expert_step, h->n_layers);
        h->expert_step = 1;
    }
    h->expert_scale = h->expert_scale == 0 ? 1 : h->expert_scale; /* what files write that have none */
    if (r->status == MLXR_OK && (h->n_expert > EXPERTS_MAX || h->n_ff_expert > 1u << 22 || h->n_ff_shared > 1u << 22 ||
                                 h->n_expert_latent > 1u << 20 || h->n_layers_dense > h->n_layers)) {
        r->status = error_set(r->error, MLXR_UNSUPPORTED,
                              "%u experts of %u and %u shared elements behind %u dense layers; at most %u experts",
                              h->n_expert, h->n_ff_expert, h->n_ff_shared, h->n_layers_dense, EXPERTS_MAX);
    }
}

void read_activation(reader *r, hparams *h)
{
    static const struct {
        const char *name;
        activation act;
    } known[] = {{"silu", ACT_SILU},          {"swish", ACT_SILU},          {"swiglu", ACT_SILU},
                 {"gelu", ACT_GELU_ERF},      {"geglu", ACT_GELU_ERF},      {"gelu_pytorch_tanh", ACT_GELU_TANH},
                 {"gelu_new", ACT_GELU_TANH}, {"gelu_fast", ACT_GELU_TANH}, {"relu", ACT_RELU},
                 {"reglu", ACT_RELU}};
    char key[160];
    text_view name = {0};
    h->act = h->fam->act;
    key_of(r, "hidden_activation", key, sizeof key);
    r->status = model_file_text(r->file, key, &name, r->error);
    if (r->status != MLXR_OK || !name.data) {
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (name.n == strlen(known[i].name) && memcmp(name.data, known[i].name, name.n) == 0) {
            h->act = known[i].act;
            return;
        }
    }
    r->status = error_set(r->error, MLXR_UNSUPPORTED,
                          "metadata '%s' is '%.*s'; silu, gelu, gelu_pytorch_tanh and relu are supported", key,
                          (int)(name.n < 40 ? name.n : 40), name.data);
}

static bool numbers_are_finite(const meta_value *value)
{
    bool finite = value->type == META_ARRAY || isfinite(value->f);
    for (uint64_t i = 0; value->type == META_ARRAY && i < value->array.n; i++) {
        finite = finite && isfinite(meta_array_number(&value->array, i));
    }
    return finite;
}

/* GGUF's names have no architecture before them. */
void read_xielu(reader *r, hparams *h)
{
    static const char *const keys[XIELU_NUMBERS] = {[XIELU_FALL] = "xielu.alpha_n",
                                                    [XIELU_RISE] = "xielu.alpha_p",
                                                    [XIELU_SLOPE] = "xielu.beta",
                                                    [XIELU_LIMIT] = "xielu.eps"};
    const char *missing = NULL;
    size_t n_found = 0;
    for (size_t i = 0; h->fam->xielu && i < XIELU_NUMBERS && r->status == MLXR_OK; i++) {
        const meta_value *value = model_file_meta(r->file, keys[i]);
        bool list = value && value->type == META_ARRAY;
        n_found += value != NULL;
        missing = value || missing ? missing : keys[i];
        if (value && (list ? value->array.type == META_STRING || value->array.n < h->n_layers
                           : value->type != META_F32 && value->type != META_F64)) {
            r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': expected one number for each of %u layers",
                                  keys[i], h->n_layers);
        } else if (value && !numbers_are_finite(value)) {
            r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s': a number that is not finite", keys[i]);
        }
        h->xielu[i] = value;
    }
    if (r->status == MLXR_OK && n_found > 0 && missing) {
        r->status = error_set(r->error, MLXR_FORMAT, "metadata '%s' is missing beside the other numbers of xIELU",
                              missing);
    }
}
