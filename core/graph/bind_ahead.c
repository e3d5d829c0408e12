/*
 * Binding of a head for multi-token prediction.
 * Owner: the model's graph. Lifetime: the model's.
 */
#include "graph/bind_ahead.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "graph/bind_tensor.h"

/* What stands behind "blk.<i>.nextn."; shapes are [n_embd] (0), or [in × n_embd, n_embd or n_vocab]. */
static const struct {
    const char *name;
    size_t field;
    uint32_t in;
    bool to_vocab, required;
} ahead_slots[] = {
#define SLOT(field) offsetof(ahead_weights, field)
    {"eh_proj.weight", SLOT(joined), 2, false, true},
    {"enorm.weight", SLOT(embd_norm), 0, false, true},
    {"hnorm.weight", SLOT(hidden_norm), 0, false, true},
    {"shared_head_norm.weight", SLOT(output_norm), 0, false, false},
    {"embed_tokens.weight", SLOT(embedding), 1, true, false},
    {"shared_head_head.weight", SLOT(output), 1, true, false},
#undef SLOT
};
#define N_AHEAD_SLOTS (sizeof ahead_slots / sizeof *ahead_slots)

bool ahead_knows(const char *name)
{
    for (size_t i = 0; i < N_AHEAD_SLOTS; i++) {
        if (strncmp(name, "nextn.", 6) == 0 && strcmp(name + 6, ahead_slots[i].name) == 0) {
            return true;
        }
    }
    return false;
}

mlxr_status bind_ahead(model_weights *w, const hparams *h, const model_file *file, uint64_t *n_bound, mlxr_error *error)
{
    for (size_t i = 0; i < N_AHEAD_SLOTS; i++) {
        char name[96];
        snprintf(name, sizeof name, "blk.%u.nextn.%s", h->n_layers, ahead_slots[i].name);
        const tensor **field = (const tensor **)(void *)((char *)&w->ahead + ahead_slots[i].field);
        uint64_t n_in = ahead_slots[i].in ? ahead_slots[i].in * (uint64_t)h->n_embd : h->n_embd;
        uint64_t n_out = ahead_slots[i].in == 0 ? 0 : ahead_slots[i].to_vocab ? h->n_vocab : h->n_embd;
        mlxr_status status = bind_tensor(field, file, name, n_in, n_out, ahead_slots[i].required, false, error);
        if (status != MLXR_OK) {
            return status;
        }
        *n_bound += *field != NULL;
    }
    w->ahead.output_norm = w->ahead.output_norm ? w->ahead.output_norm : w->output_norm;
    w->ahead.embedding = w->ahead.embedding ? w->ahead.embedding : w->embedding;
    w->ahead.output = w->ahead.output ? w->ahead.output : w->output;
    return MLXR_OK;
}
