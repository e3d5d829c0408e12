/*
 * Where the numbers of a plan lie: widths of its slots, groups of layers with their caches and states.
 * Owner: graph_build. Lifetime: the call; what is made lies in the graph's region.
 */
#include "graph/plan_builder.h"

/* What is cached of a token in a layer with a window, or in one without. */
kv_group plan_kv_of(const hparams *h, bool window)
{
    kv_group kv = {.n_head_kv = window ? h->n_head_kv_window : h->n_head_kv,
                   .head_dim = window ? h->head_dim_window : h->head_dim,
                   .window = window ? h->window : 0,
                   .chunked = window && h->fam->chunk > 0};
    if (h->fam->latent) {
        kv.n_head_kv = 1;
        kv.head_dim = hparams_latent_row(h);
        kv.one_row = true;
    }
    return kv;
}

static void set_mixer_slots(plan *p, const hparams *h)
{
    if (h->qkv_by_heads) {
        p->slot_width[SLOT_QG] = 3 * h->n_head * h->head_dim;
    }
    if (h->fam->gated_attention) {
        p->slot_width[SLOT_QG] = h->fam->gate_apart ? 0 : 2 * h->n_head * h->head_dim;
        p->slot_width[SLOT_AG] = h->n_head * h->head_dim;
    }
    p->slot_width[SLOT_SW] = h->n_ff_shared && h->fam->gated_shared;
    if (h->fam->mixer != MIXER_NONE) {
        p->slot_width[SLOT_C] = h->conv_width;
        p->slot_width[SLOT_Z] = p->slot_width[SLOT_M] = hparams_mixer_width(h);
        p->slot_width[SLOT_D] = p->slot_width[SLOT_B] = h->n_mixer_heads;
    }
    if (h->fam->mixer == MIXER_DELTA) {
        p->slot_width[SLOT_W] = h->conv_width + hparams_mixer_width(h);
        p->slot_width[SLOT_DB] = 2 * h->n_mixer_heads;
    }
}

void plan_set_slots(plan *p, const hparams *h, bool ahead)
{
    uint32_t q = 0, kv = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        uint32_t head = hparams_head_dim(h, i), n_kv = hparams_n_head_kv(h, i) * head;
        q = h->n_head * head > q ? h->n_head * head : q;
        kv = n_kv > kv ? n_kv : kv;
    }
    p->slot_width[SLOT_X] = p->slot_width[SLOT_N] = p->slot_width[SLOT_O] = h->n_embd;
    p->slot_width[SLOT_Q] = p->slot_width[SLOT_A] = q;
    p->slot_width[SLOT_K] = p->slot_width[SLOT_V] = kv;
    p->slot_width[SLOT_G] = p->slot_width[SLOT_U] = h->n_ff;
    if (h->n_embd_layer) {
        uint32_t n = h->n_ff > h->n_embd_layer ? h->n_ff : h->n_embd_layer;
        p->slot_width[SLOT_G] = p->slot_width[SLOT_U] = n;
        p->slot_width[SLOT_LE] = p->slot_width[SLOT_LP] = h->n_layers * h->n_embd_layer;
    }
    bool sum_normed = h->n_ff_shared && (h->fam->norms == NORMS_AROUND || h->fam->norms == NORMS_AFTER);
    p->slot_width[SLOT_P] = h->n_expert && (h->fam->experts_beside || sum_normed) ? h->n_embd : h->n_expert_latent;
    if (h->n_expert_latent > h->n_embd) {
        p->slot_width[SLOT_O] = h->n_expert_latent;
    }
    p->slot_width[SLOT_R] = h->n_expert;
    p->slot_width[SLOT_SG] = p->slot_width[SLOT_SU] = h->n_ff_shared;
    set_mixer_slots(p, h);
    p->slot_width[SLOT_H] = ahead ? h->n_embd : 0;
    p->slot_width[SLOT_EH] = ahead ? 2 * h->n_embd : 0;
    if (h->fam->latent) {
        p->slot_width[SLOT_Q] = p->slot_width[SLOT_A] = h->n_head * hparams_latent_row(h);
        p->slot_width[SLOT_K] = hparams_latent_row(h);
        p->slot_width[SLOT_V] = 0;
        p->slot_width[SLOT_QG] = q;
        p->slot_width[SLOT_QL] = h->n_latent_q;
        p->slot_width[SLOT_KL] = h->n_latent_kv;
        p->slot_width[SLOT_KR] = h->n_rot;
        p->slot_width[SLOT_AG] = h->n_head * h->head_v;
    }
    p->slot_width[SLOT_LOGITS] = h->fam->encoder ? h->n_embd : h->n_vocab;
    p->both_ways = h->fam->encoder;
    p->n_positions = h->fam->positions ? h->n_ctx_train : 0;
}

/* Layers of one group share a page table; window layers have their own, because their old pages can be dropped. */
void plan_set_groups(builder *b)
{
    const hparams *h = &b->g->h;
    plan *p = &b->g->plan;
    uint32_t n_full = 0, n_window = 0, n_mixer = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        bool attends = h->layer_kinds[i] == LAYER_ATTENTION && !hparams_reads_kv(h, i);
        n_window += attends && h->layer_has_window[i];
        n_full += attends && !h->layer_has_window[i];
        n_mixer += hparams_mixes(h, i);
    }
    kv_group full = plan_kv_of(h, false), window = plan_kv_of(h, true);
    full.n_layers = n_full + b->ahead;
    window.n_layers = n_window;
    if (full.n_layers) {
        b->group_full = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = full;
    }
    if (window.n_layers) {
        b->group_window = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = window;
    }
    if (n_mixer) {
        b->group_mixer = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = (kv_group){
            .n_layers = n_mixer,
            .state_width = (h->conv_rows - 1) * h->conv_width + h->n_mixer_heads * h->mixer_head_k * h->mixer_head_v};
    }
    if (b->ahead) { /* the hidden state behind the newest token, which belongs to the next one */
        b->group_ahead = (uint16_t)p->n_kv_groups;
        p->kv_groups[p->n_kv_groups++] = (kv_group){.n_layers = 1, .state_width = h->n_embd};
    }
}
