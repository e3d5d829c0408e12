/*
 * The axes of the matrix and their values.
 * Owner: none; static tables. Lifetime: the process.
 */
#include "matrix/axes.h"

#include "unit/runtime/recurrent.h"

static const uint32_t batches[] = {1, 8, 64}, choices[] = {1, 4};
static const char *const draft_names[] = {"no draft", "n-gram", "draft model", "its own head"};
static const char *const rule_names[] = {"no rule", "GBNF", "schema"};
static const char *const sampling_names[] = {"greedy", "seeded"};
static const char *const prefix_names[] = {"cold", "prefix in memory", "prefix on disk"};
static const char *const eviction_names[] = {"no eviction", "small budget", "pre-emption"};
/* i16: the CPU's backends only */
static const char *const kv_types[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "i16"};
/* What rounding to a KV type makes of sums in another order, where a backend does not promise bits: an element comes to
 * lie on the other side of a step. */
static const double roundings[] = {1e-4, 5e-3, 2e-2, 0.1, 4, 0}; /* seen: 4e-6, 2e-4, 5e-4, 5e-3, 0.4 */
/* One line a backend. A program that has one more backend linked in runs with it alone: MLXR_TEST_BACKEND names it. */
static const matrix_backend backends[] = {
    {"cpu", true, NULL, 0},
    {"cpu-scalar", true, NULL, 0},
    {"mlx", false, NULL, 0},
    {"mlx-emulated", false, "llama-wide", 8}, /* our Metal kernels in the emulator; heads of 64, which they know */
};
enum { N_LINKED = 2 };

#define N_OF(table) ((uint32_t)(sizeof(table) / sizeof *(table)))

static const matrix_backend *backend_at(uint32_t index)
{
    const char *name = getenv("MLXR_TEST_BACKEND");
    uint32_t i = name ? 0 : index;
    while (name && strcmp(backends[i].name, name) != 0) {
        i++;
        assert_true(i < N_OF(backends));
    }
    return &backends[i];
}

static matrix_family families[PAIRWISE_VALUES_MAX];

/* Every tiny model there is, then those with recurrent layers, and families that have some. Returns how many. */
static uint32_t make_families(void)
{
    uint32_t n = 0;
    const char *only = backend_at(0)->family;
    if (only) {
        families[0] = (matrix_family){.name = only, .tiny = *tiny_model_find(only)};
        return 1;
    }
    for (size_t i = 0; tiny_model_at(i); i++) {
        assert_true(n < PAIRWISE_VALUES_MAX - RECURRENT_HYBRIDS - MIXER_FAMILIES);
        families[n++] = (matrix_family){.name = tiny_model_at(i)->name, .tiny = *tiny_model_at(i)};
    }
    for (size_t i = 0; i < RECURRENT_HYBRIDS; i++, n++) {
        const recurrent_hybrid *hybrid = &recurrent_hybrids[i];
        families[n] = (matrix_family){
            .name = hybrid->name, .tiny = *tiny_model_find(hybrid->base), .recurrent_layers = hybrid->layers};
        families[n].tiny.name = hybrid->name;
    }
    for (size_t i = 0; i < MIXER_FAMILIES; i++) {
        const mixer_family *mixer = &mixer_families[i];
        families[n] = (matrix_family){.name = mixer->name, .tiny = *tiny_model_find("llama"), .folder = true};
        families[n].tiny.name = mixer->name;
        families[n++].tiny.head_dim = mixer->head_dim;
    }
    return n;
}

static uint32_t n_families(void)
{
    static uint32_t n;
    n = n ? n : make_families();
    return n;
}

bool matrix_has_head(const matrix_values *v)
{
    return has_mtp(v->family->name);
}

/* Quantised caches and words hold heads in blocks of 32, words no latent rows; few families have a head that drafts. */
static bool is_refused(uint32_t a, uint32_t value_a, uint32_t b, uint32_t value_b)
{
    if (a == AXIS_DRAFT && b == AXIS_FAMILY && value_a == DRAFT_MTP) {
        return !has_mtp(families[value_b].name);
    }
    bool words = a == AXIS_KV_TYPE && kv_types[value_a][0] == 'i';
    return a == AXIS_KV_TYPE && b == AXIS_FAMILY && (words || kv_types[value_a][0] == 'q') &&
           (families[value_b].tiny.head_dim % 32 != 0 || (words && keeps_latent(families[value_b].name)));
}

static uint32_t n_batches(void)
{
    uint32_t n = N_OF(batches), most = backend_at(0)->n_batch_most;
    while (most && batches[n - 1] > most) {
        n--;
    }
    return n;
}

bool matrix_is_whole(void)
{
    return n_batches() == N_OF(batches) && !backend_at(0)->family;
}

/* Where no family has a head (the emulator's only one), a draft of "its own head" would meet nothing. */
static uint32_t n_drafts(void)
{
    bool any = false;
    for (uint32_t i = 0; i < n_families(); i++) {
        any = any || has_mtp(families[i].name);
    }
    return any ? N_DRAFTS : DRAFT_MTP;
}

void matrix_space(pairwise_space *out)
{
    *out = (pairwise_space){.n_axes = N_AXES, .refused = is_refused};
    uint32_t *n = out->n_values;
    n[AXIS_BATCH] = n_batches();
    n[AXIS_DRAFT] = n_drafts();
    n[AXIS_RULE] = N_OF(rule_names);
    n[AXIS_SAMPLING] = N_OF(sampling_names);
    n[AXIS_CHOICES] = N_OF(choices);
    n[AXIS_KV_TYPE] = N_OF(kv_types) - (strncmp(backend_at(0)->name, "cpu", 3) != 0);
    n[AXIS_PREFIX] = N_OF(prefix_names);
    n[AXIS_EVICTION] = N_OF(eviction_names);
    n[AXIS_BACKEND] = getenv("MLXR_TEST_BACKEND") ? 1 : N_LINKED;
    n[AXIS_FAMILY] = n_families();
}

void matrix_values_of(const pairwise_cell *cell, matrix_values *out)
{
    const uint8_t *v = cell->value;
    *out = (matrix_values){.n_batch = batches[v[AXIS_BATCH]],
                           .n_choices = choices[v[AXIS_CHOICES]],
                           .draft = (matrix_draft)v[AXIS_DRAFT],
                           .rule = (matrix_rule)v[AXIS_RULE],
                           .sampling = (matrix_sampling)v[AXIS_SAMPLING],
                           .kv_type = kv_types[v[AXIS_KV_TYPE]],
                           .prefix = (matrix_prefix)v[AXIS_PREFIX],
                           .eviction = (matrix_eviction)v[AXIS_EVICTION],
                           .family = &families[v[AXIS_FAMILY]],
                           .backend = backend_at(v[AXIS_BACKEND])};
    out->tolerance = out->backend->exact ? 0 : roundings[v[AXIS_KV_TYPE]];
    snprintf(out->text, sizeof out->text, "%s on %s, %s: %u at once, %u choices, %s, %s, %s, %s, %s", out->family->name,
             out->backend->name, out->kv_type, out->n_batch, out->n_choices, draft_names[out->draft],
             rule_names[out->rule], sampling_names[out->sampling], prefix_names[out->prefix],
             eviction_names[out->eviction]);
}
