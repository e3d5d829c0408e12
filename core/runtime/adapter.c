/*
 * Adapters, and models that have some: a model that shares everything of another one but its KV cache.
 * Owner: whoever holds a reference. Lifetime: load to the last unref; immutable in between.
 */
#include "mlxr_adapter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "graph/adapter.h"
#include "runtime/engine.h"

struct mlxr_adapter {
    atomic_uint refs;
    model_mark *mark; /* of the model it was made for */
    graph_adapter made;
    kv_hash hash;        /* of the file's bytes */
    bool changes_output; /* the output matrix is one of its targets */
    mlxr_adapter_info info;
    region memory;
};

struct model_adapters {
    step_adapter list[MLXR_ADAPTERS_MAX];
    mlxr_adapter *owned[MLXR_ADAPTERS_MAX];
    uint32_t n;
};

struct model_mark {
    atomic_uint refs;
};

model_mark *model_mark_open(void)
{
    model_mark *mark = calloc(1, sizeof *mark);
    if (mark) {
        atomic_init(&mark->refs, 1);
    }
    return mark;
}

static model_mark *mark_ref(model_mark *mark)
{
    atomic_fetch_add(&mark->refs, 1);
    return mark;
}

void model_mark_unref(model_mark **pointer)
{
    model_mark *mark = *pointer;
    *pointer = NULL;
    if (mark && atomic_fetch_sub(&mark->refs, 1) == 1) {
        free(mark);
    }
}

mlxr_status mlxr_adapter_load(mlxr_adapter **out, const mlxr_model *model, const char *path, mlxr_error *error)
{
    const mlxr_model *base = model_base(model);
    adapter_file *file = NULL;
    mlxr_adapter *a = calloc(1, sizeof *a);
    if (!a) {
        return error_nomem(error, "adapter", sizeof *a);
    }
    atomic_init(&a->refs, 1);
    a->mark = mark_ref(base->mark);
    const adapter_model of = graph_adapter_model(&base->graph->h);
    mlxr_status status = adapter_file_open(&file, path, &of, error);
    if (status == MLXR_OK) {
        status = graph_adapter_bind(&a->made, base->graph, base->file, file, &a->memory, error);
        status = status == MLXR_OK ? status : error_prefix(error, status, "%s", path);
    }
    const char *kept = status == MLXR_OK ? region_strndup(&a->memory, path, strlen(path)) : NULL;
    if (status == MLXR_OK && !kept) {
        status = error_nomem(error, "adapter", strlen(path));
    }
    if (status != MLXR_OK) {
        adapter_file_close(&file);
        mlxr_adapter_unref(&a);
        return status;
    }
    a->hash = (kv_hash){file->hash_low, file->hash_high};
    a->info = (mlxr_adapter_info){
        .path = kept, .n_targets = file->n_targets, .scale = file->targets[0].scale, .n_bytes = a->made.n_bytes};
    for (uint32_t i = 0; i < file->n_targets; i++) {
        a->info.rank = file->targets[i].rank > a->info.rank ? file->targets[i].rank : a->info.rank;
        a->changes_output = a->changes_output || strcmp(file->targets[i].name, "output.weight") == 0;
    }
    adapter_file_close(&file);
    *out = a;
    return MLXR_OK;
}

mlxr_status mlxr_adapter_check(const char *model_path, const char *path, mlxr_error *error)
{
    model_file *model = NULL;
    graph *g = NULL;
    adapter_file *file = NULL;
    graph_adapter made;
    region memory = {0};
    mlxr_status status = model_file_open(&model, model_path, error);
    status = status == MLXR_OK ? graph_build(&g, model, NULL, false, error) : status;
    if (status == MLXR_OK) {
        const adapter_model of = graph_adapter_model(&g->h);
        status = adapter_file_open(&file, path, &of, error);
    }
    if (status == MLXR_OK) {
        status = graph_adapter_bind(&made, g, model, file, &memory, error);
        status = status == MLXR_OK ? status : error_prefix(error, status, "%s", path);
    }
    adapter_file_close(&file);
    graph_close(&g);
    model_file_close(&model);
    region_close(&memory);
    return status;
}

mlxr_adapter *mlxr_adapter_ref(mlxr_adapter *adapter)
{
    atomic_fetch_add(&adapter->refs, 1);
    return adapter;
}

void mlxr_adapter_unref(mlxr_adapter **pointer)
{
    mlxr_adapter *a = *pointer;
    *pointer = NULL;
    if (a && atomic_fetch_sub(&a->refs, 1) == 1) {
        model_mark_unref(&a->mark);
        region_close(&a->memory);
        free(a);
    }
}

const mlxr_adapter_info *mlxr_adapter_info_get(const mlxr_adapter *adapter)
{
    return &adapter->info;
}

/* ---- models with adapters ---------------------------------------------------------------------------------------- */

const step_adapter *model_adapters_of(const mlxr_model *model, uint32_t *n)
{
    *n = model->adapters ? model->adapters->n : 0;
    return model->adapters ? model->adapters->list : NULL;
}

bool model_adapts_output(const mlxr_model *model)
{
    for (uint32_t i = 0; model->adapters && i < model->adapters->n; i++) {
        if (model->adapters->owned[i]->changes_output) {
            return true;
        }
    }
    return false;
}

/* Made once, also where the backend refuses it each time somebody asks: its memory is the model's until the end. */
static mlxr_status make_adapted_plan(mlxr_model *base, bool hidden, mlxr_error *error)
{
    mlxr_status status = hidden ? model_hidden_plan(base, error) : MLXR_OK;
    const plan **made = &base->adapted_plan[hidden];
    if (status == MLXR_OK && !*made) {
        *made = graph_adapted_plan(hidden ? base->hidden_plan : &base->graph->plan, &base->memory);
        status = *made ? MLXR_OK : error_nomem(error, "plan with adapters", sizeof **made);
    }
    return status;
}

mlxr_status model_adapted_program(mlxr_model *base, bool hidden, program **out, mlxr_error *error)
{
    program **made = hidden ? &base->adapted_hidden : &base->adapted;
    mlxr_status status = MLXR_OK;
    if (!*made) {
        status = make_adapted_plan(base, hidden, error);
        status = status == MLXR_OK
                     ? base->engine->ops->prepare(base->engine->device, base->adapted_plan[hidden], made, error)
                     : status;
    }
    *out = *made;
    return status;
}

/* The name of what computes this model's pages: the base's, then each adapter with its scale. */
static kv_hash name_pages(const mlxr_model *base, const mlxr_adapter_use *uses, size_t n)
{
    struct {
        kv_hash base, adapters[MLXR_ADAPTERS_MAX];
        float scales[MLXR_ADAPTERS_MAX];
        uint64_t n;
    } named;
    memset(&named, 0, sizeof named);
    named.base = base->cache.fingerprint;
    named.n = n;
    for (size_t i = 0; i < n; i++) {
        named.adapters[i] = uses[i].adapter->hash;
        named.scales[i] = uses[i].scale;
    }
    XXH128_hash_t h = XXH3_128bits(&named, sizeof named);
    return (kv_hash){h.low64, h.high64};
}

static mlxr_status check_count(size_t n, mlxr_error *error)
{
    return n <= MLXR_ADAPTERS_MAX
               ? MLXR_OK
               : error_set(error, MLXR_LIMIT, "%zu adapters at once; at most %d are supported", n, MLXR_ADAPTERS_MAX);
}

static mlxr_status check_uses(const mlxr_model *base, const mlxr_adapter_use *uses, size_t n, mlxr_error *error)
{
    mlxr_status status = check_count(n, error);
    if (status != MLXR_OK) {
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        if (!uses[i].adapter || uses[i].adapter->mark != base->mark) {
            return error_set(error, MLXR_ARG, "adapter %zu was loaded for another model", i);
        }
        if (!(uses[i].scale >= -1e6f && uses[i].scale <= 1e6f)) {
            return error_set(error, MLXR_ARG, "adapter %zu: its scale is no number between -1e6 and 1e6", i);
        }
    }
    return MLXR_OK;
}

mlxr_status mlxr_model_adapt(mlxr_model **out, mlxr_model *model, const mlxr_adapter_use *uses, size_t n_uses,
                             mlxr_error *error)
{
    mlxr_model *base = model_base_of(model);
    program *unused;
    mlxr_status status = check_uses(base, uses, n_uses, error);
    if (status == MLXR_OK && n_uses) {
        status = model_adapted_program(base, base->graph->plan.both_ways || base->graph->h.headless, &unused, error);
    }
    if (status != MLXR_OK) {
        return status;
    }
    if (n_uses && base->program && base->engine->ops->refuse_halves) {
        base->engine->ops->refuse_halves(base->program);
    }
    if (n_uses == 0) {
        *out = mlxr_model_ref(base);
        return MLXR_OK;
    }
    mlxr_model *m = calloc(1, sizeof *m);
    struct model_adapters *list = calloc(1, sizeof *list);
    if (!m || !list) {
        free(m);
        free(list);
        return error_nomem(error, "model with adapters", sizeof *m);
    }
    *m = *base;
    m->memory = (region){0};
    m->base = mlxr_model_ref(base);
    m->refs = 1;
    m->adapters = list;
    m->trie = NULL;
    m->kept = NULL;
    m->grammars = (grammar_cache){0};
    m->times = (step_times){0};
    m->cache.fingerprint = name_pages(base, uses, n_uses);
    m->cache_open = false;
    status = prefix_index_open(&m->cache.index, &m->graph->plan, m->pools, m->cache.fingerprint, error);
    if (status != MLXR_OK) {
        mlxr_model_unref(&m->base);
        free(list);
        free(m);
        return status;
    }
    m->cache_open = true;
    for (size_t i = 0; i < n_uses; i++) {
        list->owned[i] = mlxr_adapter_ref(uses[i].adapter);
        list->list[i] = (step_adapter){.products = uses[i].adapter->made.products,
                                       .name = {uses[i].adapter->hash.low, uses[i].adapter->hash.high},
                                       .scale = uses[i].scale};
    }
    list->n = (uint32_t)n_uses;
    m->next = m->engine->models;
    m->engine->models = m;
    m->engine->n_models++;
    *out = m;
    return MLXR_OK;
}

void model_adapters_close(mlxr_model *m)
{
    for (uint32_t i = 0; m->adapters && i < m->adapters->n; i++) {
        mlxr_adapter_unref(&m->adapters->owned[i]);
    }
    free(m->adapters);
    m->adapters = NULL;
}

/* ---- what a model keeps of them ---------------------------------------------------------------------------------- */

#define KEPT_FILES 64
#define KEPT_MODELS 8

struct kept_adapters {
    pthread_mutex_t lock; /* of the files */
    char *paths[KEPT_FILES];
    mlxr_adapter *adapters[KEPT_FILES];
    size_t n;
    mlxr_model *models[KEPT_MODELS]; /* least recently asked for first */
    size_t n_models;
};

struct kept_adapters *model_kept_open(void)
{
    struct kept_adapters *k = calloc(1, sizeof *k);
    if (k) {
        pthread_mutex_init(&k->lock, NULL);
    }
    return k;
}

void model_kept_close(mlxr_model *base)
{
    struct kept_adapters *k = base->kept;
    base->kept = NULL;
    for (size_t i = 0; k && i < k->n_models; i++) {
        model_close(k->models[i]);
    }
    for (size_t i = 0; k && i < k->n; i++) {
        mlxr_adapter_unref(&k->adapters[i]);
        free(k->paths[i]);
    }
    if (k) {
        pthread_mutex_destroy(&k->lock);
    }
    free(k);
}

static mlxr_status no_place(const char *path, mlxr_error *error)
{
    return error_set(error, MLXR_LIMIT, "a model keeps %d adapters; %s would be one more", KEPT_FILES, path);
}

static mlxr_adapter *find_file(const struct kept_adapters *k, const char *path)
{
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->paths[i], path) == 0) {
            return k->adapters[i];
        }
    }
    return NULL;
}

/* Under the lock. Takes the adapter over, or, where somebody else was faster, lets it go; *out is the one that stays.
 */
static mlxr_status keep_file(mlxr_model *base, mlxr_adapter *made, const char *path, mlxr_adapter **out,
                             mlxr_error *error)
{
    struct kept_adapters *k = base->kept;
    mlxr_adapter *there = find_file(k, path);
    char *name = !there && k->n < KEPT_FILES ? strdup(path) : NULL;
    if (!name) {
        mlxr_adapter_unref(&made);
        *out = there;
        return there ? MLXR_OK : k->n == KEPT_FILES ? no_place(path, error) : error_nomem(error, "adapters", sizeof *k);
    }
    k->paths[k->n] = name;
    k->adapters[k->n++] = made;
    *out = made;
    return MLXR_OK;
}

/* Any thread. Nobody waits for a file that another one reads: it is read twice rather than that. */
static mlxr_status kept_adapter(mlxr_model *base, const char *path, mlxr_adapter **out, mlxr_error *error)
{
    struct kept_adapters *k = base->kept;
    pthread_mutex_lock(&k->lock);
    *out = find_file(k, path);
    bool full = k->n == KEPT_FILES;
    pthread_mutex_unlock(&k->lock);
    if (*out || full) { /* a file that could not stay is not read */
        return *out ? MLXR_OK : no_place(path, error);
    }
    mlxr_adapter *made;
    mlxr_status status = mlxr_adapter_load(&made, base, path, error);
    if (status == MLXR_OK) {
        pthread_mutex_lock(&k->lock);
        status = keep_file(base, made, path, out, error);
        pthread_mutex_unlock(&k->lock);
    }
    return status;
}

mlxr_status mlxr_model_read_adapters(mlxr_model *model, const mlxr_adapter_path *files, size_t n_files,
                                     mlxr_error *error)
{
    mlxr_status status = check_count(n_files, error);
    for (size_t i = 0; i < n_files && status == MLXR_OK; i++) {
        mlxr_adapter *unused;
        status = kept_adapter(model_base_of(model), files[i].path, &unused, error);
    }
    return status;
}

/* Takes the i-th out of the list. */
static mlxr_model *take_out(struct kept_adapters *k, size_t i)
{
    mlxr_model *m = k->models[i];
    k->n_models--;
    memmove(&k->models[i], &k->models[i + 1], (k->n_models - i) * sizeof *k->models);
    return m;
}

static mlxr_model *find_kept(struct kept_adapters *k, kv_hash name)
{
    for (size_t i = 0; i < k->n_models; i++) {
        kv_hash h = k->models[i]->cache.fingerprint;
        if (h.low == name.low && h.high == name.high) {
            mlxr_model *m = take_out(k, i);
            k->models[k->n_models++] = m;
            if (m->refs++ == 0) {
                mlxr_model_ref(m->base);
            }
            return m;
        }
    }
    return NULL;
}

/* It is in use now, and stays when it no longer is; one that nobody uses may have to go for it. */
static void keep(struct kept_adapters *k, mlxr_model *m)
{
    for (size_t i = 0; k->n_models == KEPT_MODELS && i < k->n_models; i++) {
        if (k->models[i]->refs == 0) {
            model_close(take_out(k, i));
        }
    }
    if (k->n_models < KEPT_MODELS) {
        m->is_kept = true;
        k->models[k->n_models++] = m;
    }
}

mlxr_status mlxr_model_with(mlxr_model **out, mlxr_model *model, const mlxr_adapter_path *files, size_t n_files,
                            mlxr_error *error)
{
    mlxr_model *base = model_base_of(model);
    mlxr_adapter_use uses[MLXR_ADAPTERS_MAX] = {0};
    mlxr_status status = check_count(n_files, error);
    if (status != MLXR_OK) {
        return status;
    }
    for (size_t i = 0; i < n_files; i++) {
        status = kept_adapter(base, files[i].path, &uses[i].adapter, error);
        if (status != MLXR_OK) {
            return status;
        }
        uses[i].scale = files[i].scale;
    }
    mlxr_model *found = n_files ? find_kept(base->kept, name_pages(base, uses, n_files)) : NULL;
    if (found) {
        *out = found;
        return MLXR_OK;
    }
    status = mlxr_model_adapt(out, base, uses, n_files, error);
    if (status == MLXR_OK && n_files) {
        keep(base->kept, *out);
    }
    return status;
}
