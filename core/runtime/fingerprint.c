/*
 * Fingerprint: the name of what computes a model's KV pages.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/fingerprint.h"

#include <string.h>
#include <xxhash.h>

static void add(XXH3_state_t *state, const void *data, size_t n)
{
    uint64_t length = n; /* so that no two lists of parts read alike */
    XXH3_128bits_update(state, &length, sizeof length);
    XXH3_128bits_update(state, data, n);
}

static void add_text(XXH3_state_t *state, const char *text)
{
    add(state, text, strlen(text));
}

static void add_array(XXH3_state_t *state, const meta_array *array)
{
    add(state, &array->n, sizeof array->n);
    for (uint64_t i = 0; i < array->n; i++) {
        if (array->strings) {
            add(state, array->strings[i].data, array->strings[i].n);
        } else {
            double number = meta_array_number(array, i);
            XXH3_128bits_update(state, &number, sizeof number);
        }
    }
}

/* Vocabularies and names compute nothing. */
static bool computes(const char *key)
{
    return strncmp(key, "tokenizer.", 10) != 0 && strcmp(key, "general.name") != 0;
}

static void add_meta(XXH3_state_t *state, const meta_value *value)
{
    add_text(state, value->key);
    if (value->type == META_STRING) {
        add(state, value->s.data, value->s.n);
    } else if (value->type == META_ARRAY) {
        add_array(state, &value->array);
    } else {
        add(state, &value->u, sizeof value->u); /* every scalar fills the union's eight bytes */
    }
}

/* What the configuration beside packed weights says of them makes other weights of the same bytes. */
static void add_packed(XXH3_state_t *state, const packed_weight *p)
{
    uint64_t numbers[] = {p->layout, p->type, p->group, p->group_rows, p->bits, p->zero_less_one, p->n_zip};
    add(state, numbers, sizeof numbers);
}

/* With the file, which is in the name, these say what turns queries and keys, and what attention is scaled by. */
static void add_rope(XXH3_state_t *state, const hparams *h)
{
    double numbers[] = {h->scaling.kind,      h->scaling.factor,   h->scaling.attn_factor, h->scaling.n_ctx_orig,
                        h->rope_stretch,      h->rope_theta,       h->attn_scale,          h->rope_unfactored,
                        h->scaling.beta_fast, h->scaling.beta_slow};
    add_text(state, "rope");
    add(state, numbers, sizeof numbers);
}

bool fingerprint_make(const model_file *file, const fingerprint_options *o, kv_hash *out)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        return false;
    }
    uint64_t numbers[] = {5 /* version of this scheme, and of the order in which kernels add up */,
                          o->kv_type,
                          o->page_tokens,
                          o->device->scalar,
                          o->device->features & ~(cpu_features)(CPU_HALVES | CPU_LAID), /* the same bits with them */
                          o->device->activation_bits,
                          file->rope_halves | (uint64_t)o->rope_is_long << 1 | (uint64_t)o->ahead << 2};
    XXH3_128bits_reset(state);
    add(state, numbers, sizeof numbers);
    add_text(state, fingerprint_numerics);
    add_text(state, o->backend);
    add_text(state, o->numerics ? o->numerics : "");
    if (o->rope && o->rope->rope_changed) {
        add_rope(state, o->rope);
    }
    for (uint64_t i = 0; i < file->n_meta; i++) {
        if (computes(file->meta[i].key)) {
            add_meta(state, &file->meta[i]);
        }
    }
    for (uint64_t i = 0; file->packed && i < file->n_tensors; i++) {
        if (file->packed[i]) {
            add_packed(state, file->packed[i]);
        }
    }
    for (uint32_t i = 0; i < file->n_parts; i++) {
        add(state, file->parts[i].data, file->parts[i].n_bytes);
    }
    XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    *out = (kv_hash){h.low64, h.high64};
    return true;
}
