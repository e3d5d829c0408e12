/*
 * Model: mapped file, graph, tokenizer, chat template and the program a backend made of its plan.
 * Owner: whoever holds a reference. Lifetime: mlxr_model_load to the last mlxr_model_unref; immutable in between.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mapping.h"
#include "base/memory_size.h"
#include "graph/rope_extend.h"
#include "graph/vocabulary.h"
#include "kernels/plan_check.h"
#include "runtime/context_words.h"
#include "runtime/engine.h"
#include "runtime/fingerprint.h"
#include "runtime/kv_choice.h"

static mlxr_status open_pools(mlxr_model *m, mlxr_error *error)
{
    const plan *p = &m->graph->plan;
    for (uint32_t g = 0; g < p->n_kv_groups; g++) {
        mlxr_status status = kv_layout_check(&p->kv_groups[g], m->kv_type, error);
        if (status != MLXR_OK) {
            return status;
        }
        kv_layout layout = kv_layout_make(&p->kv_groups[g], m->kv_type, ENGINE_PAGE_TOKENS);
        status = kv_pool_open(&m->pools[g], &m->engine->arena, &layout, error);
        if (status != MLXR_OK) {
            return status;
        }
    }
    return MLXR_OK;
}

/* The fingerprint is needed only where blocks outlive the process: reading every byte of a model costs time. */
static mlxr_status name_cache(mlxr_model *m, mlxr_error *error)
{
    m->cache.off = m->engine->no_prefix_cache || m->graph->plan.both_ways; /* a prefix is another one with each end */
    if (m->engine->store) {
        const backend_ops *ops = m->engine->ops;
        fingerprint_options options = {.backend = ops->name,
                                       .numerics = ops->numerics ? ops->numerics(m->engine->device) : NULL,
                                       .device = &m->engine->options,
                                       .kv_type = m->kv_type,
                                       .page_tokens = ENGINE_PAGE_TOKENS,
                                       .rope_is_long = m->graph->h.rope_is_long,
                                       .rope = &m->graph->h,
                                       .ahead = m->graph->ahead_plan.n_ops > 0};
        if (!fingerprint_make(m->file, &options, &m->cache.fingerprint)) {
            return error_nomem(error, "fingerprint", sizeof m->cache.fingerprint);
        }
        m->cache.store = m->engine->store;
    }
    return MLXR_OK;
}

static mlxr_status open_cache(mlxr_model *m, mlxr_error *error)
{
    mlxr_status status = prefix_index_open(&m->cache.index, &m->graph->plan, m->pools, m->cache.fingerprint, error);
    m->cache_open = status == MLXR_OK;
    return status;
}

/* A template that does not compile spoils only chats: the reason is kept for mlxr_chat_render. */
static void open_chat_template(mlxr_model *m)
{
    text_view source = {0};
    m->chat_error.status = MLXR_UNSUPPORTED;
    error_set(&m->chat_error, MLXR_UNSUPPORTED, "%s has no chat template", m->info.path);
    if (model_file_text(m->file, "tokenizer.chat_template", &source, &m->chat_error) != MLXR_OK || !source.data) {
        return;
    }
    if (chat_template_open(&m->chat, source.data, source.n, &m->chat_error) != MLXR_OK) {
        error_prefix(&m->chat_error, MLXR_UNSUPPORTED, "chat template of %s", m->info.path);
    }
}

/* "Q4_1, Q8_0, F32": the types of the weights, most bytes first. */
static const char *weight_types(mlxr_model *m)
{
    uint64_t bytes[64] = {0};
    char text[256] = "";
    size_t n = 0;
    for (uint64_t i = 0; i < m->file->n_tensors; i++) {
        bytes[m->file->tensors[i].type % 64] += m->file->tensors[i].n_bytes;
    }
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < 64; i++) {
            best = bytes[i] > bytes[best] ? i : best;
        }
        if (bytes[best] == 0 || n >= sizeof text) {
            break;
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "", dtype_name((dtype)best));
        bytes[best] = 0;
    }
    return region_strndup(&m->memory, text, strlen(text));
}

static mlxr_status fill_info(mlxr_model *m, const char *path, mlxr_error *error)
{
    const hparams *h = &m->graph->h;
    text_view name = {"", 0};
    mlxr_status status = model_file_text(m->file, "general.name", &name, error);
    if (status != MLXR_OK) {
        return status;
    }
    m->info = (mlxr_model_info){
        .path = region_strndup(&m->memory, path, strlen(path)),
        .family = h->fam->name,
        .name = region_strndup(&m->memory, name.data, name.n),
        .weight_types = weight_types(m),
        .n_layers = h->n_layers,
        .n_embd = h->n_embd,
        .n_head = h->n_head,
        .n_head_kv = h->n_head_kv,
        .head_dim = h->head_dim,
        .n_ff = h->n_ff,
        .n_vocab = h->n_vocab,
        .n_ctx_train = h->n_ctx_train,
        .rope_scaling = m->graph->rope_name,
        .rope_factor = rope_factor(h),
        .rope_base = h->rope_theta,
        .rope_changed = h->rope_changed,
        .n_params = m->graph->n_params,
        .file_bytes = m->file->file_bytes,
        .weight_bytes = m->graph->weight_bytes,
        .bytes_per_token = m->graph->bytes_per_token,
        .adds_bos = tokenizer_adds_bos(m->tokenizer),
        .has_mtp = h->predicts_ahead,
        .mtp = m->ahead != NULL,
        .mtp_bytes = m->graph->ahead_bytes,
    };
    if (!m->info.path || !m->info.name || !m->info.weight_types) {
        return error_nomem(error, "model information", strlen(path) + name.n);
    }
    return MLXR_OK;
}

static mlxr_status check_vocabulary(const mlxr_model *m, mlxr_error *error)
{
    if (tokenizer_size(m->tokenizer) > m->graph->h.n_vocab) {
        return error_set(error, MLXR_FORMAT, "the tokenizer has %u tokens, tensor 'token_embd.weight' only %u rows",
                         tokenizer_size(m->tokenizer), m->graph->h.n_vocab);
    }
    return MLXR_OK;
}

static program_halves halves_of(const mlxr_model *m)
{
    const backend_ops *ops = m->engine->ops;
    return ops->halves && m->program ? ops->halves(m->program) : (program_halves){0};
}

/* What of the weights has to be in memory, too. */
static mlxr_status open_experts(mlxr_model *m, mlxr_error *error)
{
    const mlxr_engine *e = m->engine;
    m->info.resident_bytes = m->graph->weight_bytes + halves_of(m).bytes_most;
    if (e->no_expert_cache) {
        return MLXR_OK;
    }
    mlxr_status status = expert_cache_open(&m->experts, m->graph, m->file, &e->experts, error);
    if (m->experts) {
        mlxr_expert_stats stats = expert_cache_stats(m->experts);
        m->info.resident_bytes -= stats.bytes_all - stats.bytes_budget;
    }
    return status;
}

static const tensor *logits_weight(const plan *p)
{
    const tensor *found = NULL;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        found = o->kind == OP_LINEAR && o->dst == SLOT_LOGITS ? o->weight : found;
    }
    return found;
}

/* Where weights lie, of which a backend that keeps some in its own way may give back the file's pages: those of logits
 * unless a head that predicts ahead reads them, too. */
static void note_mappings(mlxr_model *m)
{
    const tensor *w = logits_weight(&m->graph->plan), *ahead = logits_weight(&m->graph->ahead_plan);
    bool shared = w && ahead && w->data == ahead->data;
    m->graph->plan.mapped = m->file->parts;
    m->graph->plan.n_mapped = m->file->n_parts;
    m->graph->plan.logits_mapped = w && !shared && model_file_maps(m->file, w->data, w->n_bytes);
}

/* Graph and programs; the head's first: what a backend does not run it says of that. On a failure there is neither. */
static mlxr_status build(mlxr_model *m, const mlxr_model_options *options, bool ahead, mlxr_error *error)
{
    const backend_ops *ops = m->engine->ops;
    backend *device = m->engine->device;
    mlxr_status status = graph_build(&m->graph, m->file, options, ahead, error);
    if (status == MLXR_OK) {
        status = graph_make_weights(m->graph, error);
    }
    if (status == MLXR_OK) {
        note_mappings(m);
        m->kv_type = m->engine->kv_type_auto ? kv_type_choose(m->graph, ops) : m->engine->kv_type;
    }
    if (status == MLXR_OK && ahead) {
        status = ops->prepare(device, &m->graph->ahead_plan, &m->ahead, error);
    }
    if (status == MLXR_OK) {
        status = ops->prepare(device, &m->graph->plan, &m->program, error);
    }
    if (status != MLXR_OK) {
        if (m->ahead) {
            ops->release(device, &m->ahead);
        }
        graph_close(&m->graph);
    }
    return status;
}

/* A ranker of BERT's kind whose file has no pooler's layer gives other scores than the model it was made of. */
static void warn_of_lost_pooler(const mlxr_model *m, const char *path)
{
    const hparams *h = &m->graph->h;
    if (h->ranks && h->fam->encoder && !m->graph->weights.cls) {
        engine_log(m->engine, MLXR_LOG_WARN,
                   "%s: the pooler's layer (cls.weight, cls.bias) was left out when this file was made, so that its "
                   "scores are not the model's; convert the model's folder with mlxr convert",
                   path);
    }
}

/* With the head that predicts ahead and with RoPE stretched, or without what is wanted only if possible. */
static mlxr_status build_as_asked(mlxr_model *m, const mlxr_model_options *options, mlxr_error *error)
{
    mlxr_model_options o = options ? *options : (mlxr_model_options){0};
    mlxr_error why = {0};
    for (;;) {
        mlxr_status status = build(m, &o, o.mtp != MLXR_MTP_OFF, &why);
        if (status == MLXR_UNSUPPORTED && o.mtp == MLXR_MTP_IF_ANY) {
            o.mtp = MLXR_MTP_OFF;
            m->ahead_missed = true;
        } else if (status == MLXR_UNSUPPORTED && o.rope.if_possible) {
            m->rope_missed = why;
            o.rope = (mlxr_rope_options){0};
            o.mtp = options->mtp;
            m->ahead_missed = false;
        } else {
            return status == MLXR_OK ? status : error_set(error, status, "%s", why.text);
        }
    }
}

/* A head that is not asked for stays packed: it can be as large as many layers. */
static mlxr_status unpack(const mlxr_model *m, const mlxr_model_options *options, mlxr_error *error)
{
    bool with_head = options && options->mtp != MLXR_MTP_OFF;
    return model_file_unpack(m->file, with_head ? UINT32_MAX : hparams_layers_own(m->file), error);
}

/* Weights that all stay are mapped in large pages, where they were not read in small ones before: found with less ado,
 * they decode 1.05 to 1.28 times as fast on a Zen 4 (bench/history/2026-11-30-large-pages.json). Larger files keep the
 * system's own unit, so that what is not used has the least reason to come into memory, and so do experts that come and
 * go, and a matrix of logits that is kept in halves: its rows are given back, and a large page would come back whole
 * with any of them. */
static void choose_pages(const mlxr_model *m)
{
    const model_file *file = m->file;
    const tensor *logits = logits_weight(&m->graph->plan);
    const mlxr_engine *e = m->engine;
    bool stays = file->file_bytes <= memory_for_weights() &&
                 (e->no_expert_cache || !expert_cache_serves(m->graph, file, &e->experts));
    for (uint32_t i = 0; stays && i < file->n_parts; i++) {
        mapping_in_large_pages(file->parts[i].data, file->parts[i].n_bytes);
    }
    if (stays && m->graph->plan.logits_mapped && halves_of(m).bytes_most) {
        mapping_in_small_pages(logits->data, logits->n_bytes);
    }
}

static mlxr_status open_parts(mlxr_model *m, const char *path, const mlxr_model_options *options, mlxr_error *error)
{
    mlxr_status status = model_file_open(&m->file, path, error);
    if (status == MLXR_OK) {
        status = unpack(m, options, error);
    }
    if (status != MLXR_OK) {
        return status; /* names the file itself */
    }
    status = build_as_asked(m, options, error);
    if (status == MLXR_OK) {
        choose_pages(m);
        warn_of_lost_pooler(m, path);
        status = vocabulary_open(&m->tokenizer, m->file, error);
    }
    if (status == MLXR_OK) {
        status = check_vocabulary(m, error);
    }
    if (status == MLXR_OK) {
        status = fill_info(m, path, error);
    }
    if (status == MLXR_OK) {
        status = name_cache(m, error);
    }
    if (status == MLXR_OK) {
        status = open_experts(m, error);
    }
    if (status != MLXR_OK) {
        return error_prefix(error, status, "%s", path);
    }
    m->n_ctx_asked = options ? options->n_ctx_max : 0;
    m->info.n_ctx = m->n_ctx = m->graph->h.n_ctx;
    open_chat_template(m);
    m->info.has_chat_template = m->chat != NULL;
    model_file_forget_metadata(m->file);
    return MLXR_OK;
}

static void close_experts(mlxr_model *m)
{
    if (m->experts && m->cache_open) { /* it was attached: this is the engine's thread */
        mlxr_expert_stats one = expert_cache_stats(m->experts), *all = &m->engine->experts_before;
        all->n_hits += one.n_hits;
        all->n_misses += one.n_misses;
        all->n_given_back += one.n_given_back;
        all->bytes_read += one.bytes_read;
    }
    expert_cache_close(&m->experts);
}

void model_close(mlxr_model *m)
{
    model_kept_close(m);
    for (mlxr_model **link = &m->engine->models; *link; link = &(*link)->next) {
        if (*link == m) {
            *link = m->next;
            m->engine->n_models--;
            break;
        }
    }
    if (m->cache_open) {
        kv_cache_save_all(&m->cache);
        prefix_index_close(&m->cache.index);
    }
    if (m->base) {
        mlxr_model *base = m->base;
        bool counted = !m->is_kept;
        model_adapters_close(m);
        region_close(&m->memory);
        free(m);
        if (counted) {
            mlxr_model_unref(&base);
        }
        return;
    }
    if (m->adapted) {
        m->engine->ops->release(m->engine->device, &m->adapted);
    }
    if (m->adapted_hidden) {
        m->engine->ops->release(m->engine->device, &m->adapted_hidden);
    }
    if (m->program) { /* first: it may hold views of the pages */
        m->engine->ops->release(m->engine->device, &m->program);
    }
    if (m->hidden) {
        m->engine->ops->release(m->engine->device, &m->hidden);
    }
    if (m->ahead) {
        m->engine->ops->release(m->engine->device, &m->ahead);
    }
    for (uint32_t g = 0; g < KV_GROUPS_MAX; g++) {
        kv_pool_close(&m->pools[g]);
    }
    close_experts(m);
    grammar_cache_close(&m->grammars);
    token_trie_close(&m->trie);
    chat_template_close(&m->chat);
    tokenizer_close(&m->tokenizer);
    graph_close(&m->graph);
    model_file_close(&m->file);
    region_close(&m->memory);
    model_mark_unref(&m->mark);
    free(m);
}

mlxr_status mlxr_model_read(mlxr_model **out, mlxr_engine *engine, const char *path, const mlxr_model_options *options,
                            mlxr_error *error)
{
    mlxr_model *m = calloc(1, sizeof *m);
    if (!m) {
        return error_nomem(error, "model", sizeof *m);
    }
    m->engine = engine;
    m->refs = 1;
    m->mark = model_mark_open();
    m->kept = model_kept_open();
    mlxr_status status = m->mark && m->kept ? open_parts(m, path, options, error)
                                            : error_nomem(error, "model", sizeof *m);
    if (status != MLXR_OK) {
        model_close(m);
        return status;
    }
    *out = m;
    return MLXR_OK;
}

/* Of a context that somebody has asked for it is a warning; one of the file is more than many machines hold. */
static void say_what_fits(const mlxr_model *m)
{
    uint64_t whole = mlxr_model_kv_bytes(m, m->n_ctx - 1, 1), budget = mlxr_kv_stats_get(m->engine).bytes_budget;
    if (whole > budget) {
        engine_log(m->engine, m->n_ctx_asked || m->graph->h.rope_changed ? MLXR_LOG_WARN : MLXR_LOG_INFO,
                   "%s: one text as long as the context of %u tokens needs %llu MiB of KV memory and there are %llu; "
                   "longer ones than that holds fail: more --kv-bytes, or a smaller --kv-type",
                   m->info.path, m->n_ctx, (unsigned long long)(whole >> 20), (unsigned long long)(budget >> 20));
    }
}

static void log_loaded(const mlxr_model *m)
{
    const mlxr_engine *e = m->engine;
    char scaling[64] = "";
    if (m->info.rope_factor != 1) {
        snprintf(scaling, sizeof scaling, ", RoPE scaling %s by %g", m->info.rope_scaling, (double)m->info.rope_factor);
    }
    engine_log(e, MLXR_LOG_INFO, "%s: %s, %llu M parameters, %s, context %u%s, KV type %s", m->info.path,
               m->info.family, (unsigned long long)(m->info.n_params / 1000000), m->info.weight_types, m->n_ctx,
               scaling, m->info.kv_type);
    if (m->experts) {
        mlxr_expert_stats x = expert_cache_stats(m->experts);
        engine_log(e, MLXR_LOG_INFO, "%s: %llu MiB of experts are read as they are needed, %llu MiB of them stay",
                   m->info.path, (unsigned long long)(x.bytes_all >> 20), (unsigned long long)(x.bytes_budget >> 20));
    }
    context_words(m);
    say_what_fits(m);
    if (m->ahead_missed) {
        engine_log(e, MLXR_LOG_INFO, "%s: %s; --draft mtp does nothing for it", m->info.path,
                   m->info.has_mtp ? "this backend cannot run its multi-token-prediction head"
                                   : "it has no multi-token-prediction head");
    }
    text_view source = {0};
    if (!m->chat && model_file_text(m->file, "tokenizer.chat_template", &source, NULL) == MLXR_OK && source.data) {
        engine_log(e, MLXR_LOG_WARN, "%s", m->chat_error.text);
    }
}

mlxr_status mlxr_model_attach(mlxr_model *m, mlxr_error *error)
{
    mlxr_status status = m->cache_open ? error_set(error, MLXR_ARG, "the model is attached already") : MLXR_OK;
    if (status == MLXR_OK) {
        status = open_pools(m, error);
    }
    if (status == MLXR_OK) {
        status = open_cache(m, error);
    }
    if (status != MLXR_OK) {
        for (uint32_t g = 0; g < KV_GROUPS_MAX && !m->cache_open; g++) {
            kv_pool_close(&m->pools[g]);
        }
        return error_prefix(error, status, "%s", m->info.path);
    }
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups; g++) {
        m->info.kv_bytes_per_token += kv_layout_token_bytes(&m->pools[g]->layout);
    }
    m->info.kv_type = kv_type_name(m->kv_type);
    m->next = m->engine->models;
    m->engine->models = m;
    m->engine->n_models++;
    log_loaded(m);
    return MLXR_OK;
}

mlxr_status mlxr_model_load(mlxr_model **out, mlxr_engine *engine, const char *path, const mlxr_model_options *options,
                            mlxr_error *error)
{
    mlxr_model *m = NULL;
    mlxr_status status = mlxr_model_read(&m, engine, path, options, error);
    if (status == MLXR_OK) {
        status = mlxr_model_attach(m, error);
    }
    if (status != MLXR_OK) {
        mlxr_model_unref(&m);
        return status;
    }
    *out = m;
    return MLXR_OK;
}

mlxr_model *mlxr_model_ref(mlxr_model *model)
{
    model->refs++;
    return model;
}

void mlxr_model_unref(mlxr_model **pointer)
{
    mlxr_model *m = *pointer;
    *pointer = NULL;
    if (m && --m->refs == 0) {
        if (m->is_kept) {
            mlxr_model *base = m->base;
            mlxr_model_unref(&base);
            return;
        }
        model_close(m);
    }
}

mlxr_logits_stats mlxr_logits_stats_get(const mlxr_model *model)
{
    program_halves halves = model->base ? (program_halves){0} : halves_of(model);
    return (mlxr_logits_stats){.n_steps = halves.n_steps,
                               .bytes_saved = halves.bytes_saved,
                               .bytes_kept = halves.bytes_kept,
                               .prepares = halves.prepares,
                               .lays = halves.lays};
}

const mlxr_model_info *mlxr_model_info_get(const mlxr_model *model)
{
    return &model->info;
}

/* Keys that the first n tokens see between them, of chunks so long. */
static double keys_in_chunks(uint32_t chunk, size_t n)
{
    double whole = (double)(n / chunk), rest = (double)(n % chunk);
    return (whole * chunk * (chunk + 1.0) + rest * (rest + 1)) / 2;
}

/* Keys that tokens n_computed … n_computed + n_more − 1 see between them. */
static double keys_seen(const op_attend *a, size_t n_computed, size_t n_more)
{
    double first = (double)n_computed + 1, last = (double)(n_computed + n_more), w = (double)a->window;
    if (a->window && a->chunked) {
        return keys_in_chunks(a->window, n_computed + n_more) - keys_in_chunks(a->window, n_computed);
    }
    if (a->window == 0 || last <= w) {
        return (first + last) / 2 * (double)n_more;
    }
    double n_growing = first <= w ? w - first + 1 : 0; /* those that still see everything before them */
    return (first + w) / 2 * n_growing + w * ((double)n_more - n_growing);
}

double mlxr_model_flops(const mlxr_model *m, size_t n_computed, size_t n_more, size_t n_logits)
{
    const plan *p = &m->graph->plan;
    double flops = 0;
    uint32_t n_serving = plan_serving_ops(p);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const op *o = &p->ops[i];
        size_t n_seeing = i < n_serving ? n_more : n_logits;
        double n_rows = (double)n_seeing;
        if (o->kind == OP_LINEAR) {
            flops += 2.0 * (double)o->weight->shape[0] * (double)o->weight->shape[1] * n_rows;
        } else if (o->kind == OP_HEADS) {
            flops += 2.0 * o->heads->n_heads * o->heads->n_in * o->heads->n_out * n_rows;
        } else if (o->kind == OP_EXPERTS) {
            flops += (o->experts->gate ? 6.0 : 4.0) * o->experts->n_in * o->experts->n_ff * o->experts->n_used * n_rows;
        } else if (o->kind == OP_ATTEND) { /* q·k and p·v */
            flops += 4.0 * o->attend.n_head * o->attend.head_dim *
                     keys_seen(&o->attend, n_computed + n_more - n_seeing, n_seeing);
        }
    }
    return flops;
}

static uint64_t pages_most(const kv_group *group, uint64_t n_tokens, uint64_t n_rows)
{
    /* A step that ends with the first position of the last page: a window sees the most pages then. */
    uint64_t end = n_tokens - (n_tokens - 1) % ENGINE_PAGE_TOKENS, begin = end > n_rows ? end - n_rows : 0;
    uint64_t most = pager_pages_needed(group, ENGINE_PAGE_TOKENS, begin, end - begin);
    if (!group->chunked || group->window == 0) {
        return most;
    }
    /* Steps that begin with the last position of a chunk: of so many one has every place in a page that any has. */
    uint64_t n_chunks = n_tokens / group->window;
    for (uint64_t i = 0; i <= ENGINE_PAGE_TOKENS + 1 && i < n_chunks; i++) {
        begin = (n_chunks - i) * group->window - 1;
        uint64_t rows = n_tokens - begin < n_rows ? n_tokens - begin : n_rows;
        uint64_t n_pages = pager_pages_needed(group, ENGINE_PAGE_TOKENS, begin, rows);
        most = n_pages > most ? n_pages : most;
    }
    return most;
}

uint64_t mlxr_model_kv_bytes_most(const mlxr_model *m, size_t n_tokens, size_t n_rows)
{
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups && n_tokens; g++) {
        const kv_group *group = &m->graph->plan.kv_groups[g];
        uint64_t n_pages = group->state_width ? PAGER_STATES_HELD : pages_most(group, n_tokens, n_rows);
        n_bytes += n_pages * m->pools[g]->layout.page_bytes;
    }
    return n_bytes;
}

uint64_t mlxr_model_kv_bytes(const mlxr_model *m, size_t n_computed, size_t n_more)
{
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < m->graph->plan.n_kv_groups; g++) {
        const kv_group *group = &m->graph->plan.kv_groups[g];
        uint64_t n_pages = group->state_width ? PAGER_STATES_HELD
                                              : pager_pages_needed(group, ENGINE_PAGE_TOKENS, n_computed, n_more);
        n_bytes += n_pages * m->pools[g]->layout.page_bytes;
    }
    return n_bytes;
}
