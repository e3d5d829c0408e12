/*
 * /ui-api/models and its kin: what is asked about models and answered at once.
 * Owner: a call belongs to its exchange and the service's answer together. Lifetime: until both have ended.
 *
 *   handler ─▶ model_jobs_… ─▶ answered ─▶ the call's own `tell` ─▶ response
 *                  the client leaves before ─▶ the answer is thrown away
 */
#include <stdlib.h>
#include <string.h>

#include "server/admin_parts.h"
#include "server/errors.h"

typedef struct admin_call {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool answered;
    json_t *(*tell)(const struct admin_call *c, const model_answer *a); /* the body of a success */
} admin_call;

static void free_call(admin_call *c)
{
    if (!c->x && c->answered) {
        free(c);
    }
}

static void on_gone(void *user)
{
    admin_call *c = user;
    c->x = NULL;
    free_call(c);
}

static void answered(void *user, const model_answer *a)
{
    admin_call *c = user;
    c->answered = true;
    if (c->x && a->status == 200) {
        admin_respond(c->x, c->tell(c, a));
    } else if (c->x) {
        error_respond(c->x, a->status, *a->code ? a->code : NULL, a->message, NULL);
    } else {
        free_call(c);
    }
}

typedef json_t *teller(const admin_call *c, const model_answer *a);

/* Who asks, for the service; call->x is set once it was taken. NULL: no memory, which has been answered. */
static admin_call *begin(struct daemon *d, http_exchange *x, teller *tell, model_asker *asker)
{
    admin_call *c = calloc(1, sizeof *c);
    if (!c) {
        admin_no_memory(x);
        return NULL;
    }
    *c = (admin_call){.d = d, .x = x, .tell = tell};
    *asker = (model_asker){.done = answered, .user = c, .identity = *route_identity(x)};
    return c;
}

static void end_begin(admin_call *c, bool taken)
{
    if (taken) {
        http_on_gone(c->x, on_gone, c);
    } else {
        admin_no_memory(c->x);
        free(c);
    }
}

/* ---- what is told ------------------------------------------------------------------------------------------------ */

static json_t *tell_done(const admin_call *c, const model_answer *a)
{
    (void)c;
    (void)a;
    return json_pack("{s:s}", "status", "done");
}

static json_t *tell_models(const admin_call *c, const model_answer *a)
{
    json_t *list = json_array();
    (void)c;
    for (size_t i = 0; i < a->n_models; i++) {
        json_array_append_new(list, registry_model_json(&a->models[i]));
    }
    return json_pack("{s:o}", "models", list);
}

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Of the context, what a model should have room for besides its weights. */
#define FIT_TOKENS 4096u

typedef struct fit {
    uint64_t weights, loaded;    /* bytes: its own; of models that are loaded */
    uint64_t streamed;           /* of its own: experts that may be read as they are needed */
    uint64_t budget;             /* of weights and KV cache together, 0: no such bound */
    uint64_t context;            /* the KV cache of a short conversation */
    uint64_t machine, available; /* memory; 0: not known */
} fit;

/* Weights are mapped: those of loaded models are what the system calls available, but they are not free. */
static const char *fit_word(const fit *f)
{
    uint64_t least = f->budget / 8, need = f->weights + f->context;
    uint64_t available = f->available > f->loaded ? f->available - f->loaded : 0;
    bool never = (f->budget && f->weights + least > f->budget) || (f->machine && need > f->machine);
    bool alone = !f->available || need <= f->available;
    bool now = (!f->budget || f->loaded + f->weights + least <= f->budget) && (!f->available || need <= available);
    if (never && f->streamed) { /* what is left of them is as much as there is room for */
        fit rest = *f;
        rest.weights -= f->streamed;
        rest.streamed = 0;
        return strcmp(fit_word(&rest), "never") == 0 ? "never" : "by_streaming_experts";
    }
    return never ? "never" : now ? "now" : alone ? "when_others_are_unloaded" : "when_memory_is_free";
}

/* Experts that this daemon reads as they are needed where the weights do not fit (mlxr_engine_options.expert_bytes). */
static uint64_t streamed_bytes(const struct daemon *d, const json_t *memory)
{
    const mlxr_engine_options *e = &d->options->engine;
    uint64_t all = number(memory, "streamable_expert_bytes");
    bool streams = strncmp(mlxr_engine_info_get(d->engine)->backend, "cpu", 3) == 0 &&
                   e->expert_bytes != MLXR_EXPERTS_UNBOUND;
    return !streams ? 0 : e->expert_bytes < all ? all - e->expert_bytes : 0;
}

/* Is there room for it? The model table judges by the budget when it loads it; this is what a user sees before. */
static json_t *fit_json(const struct daemon *d, const model_answer *a, const json_t *description)
{
    const json_t *memory = json_object_get(description, "memory");
    if (!json_is_object(memory)) {
        return json_null();
    }
    uint64_t per_token = number(memory, "kv_bytes_per_token_f16"), full = number(memory, "kv_bytes_full_context_f16");
    fit f = {.weights = number(memory, "weight_bytes"),
             .streamed = streamed_bytes(d, memory),
             .loaded = model_table_stats_get(d->models).weight_bytes,
             .budget = d->options->memory_bytes,
             .context = FIT_TOKENS * per_token < full ? FIT_TOKENS * per_token : full,
             .machine = a->memory_bytes,
             .available = a->memory_free_bytes};
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "fits", a->is_loaded ? "now" : fit_word(&f),
                     "loaded", a->is_loaded, "weight_bytes", (json_int_t)f.weights, "context_bytes",
                     (json_int_t)f.context, "loaded_weight_bytes", (json_int_t)f.loaded, "budget_bytes",
                     (json_int_t)f.budget, "machine_bytes", (json_int_t)f.machine, "available_bytes",
                     (json_int_t)f.available, "memory", memory);
}

static json_t *tell_model(const admin_call *c, const model_answer *a)
{
    char *modelfile = registry_modelfile_text(&a->models[0]);
    json_t *description = a->description ? json_loads(a->description, 0, NULL) : NULL;
    json_t *made = json_pack("{s:o, s:o}", "model", registry_model_json(&a->models[0]), "modelfile",
                             modelfile ? json_string(modelfile) : json_null());
    if (description) {
        json_object_set_new(made, "fit", fit_json(c->d, a, description));
        json_object_set_new(made, "description", description);
    }
    free(modelfile);
    return made;
}

static json_t *tell_load(const admin_call *c, const model_answer *a)
{
    const mlxr_engine_info *engine = mlxr_engine_info_get(c->d->engine);
    return json_pack("{s:o, s:f, s:b, s:I}", "model", registry_model_json(&a->models[0]), "load_ms",
                     (double)a->load_us / 1e3, "batch_invariant", engine->batch_invariant, "activations",
                     (json_int_t)engine->activation_bits);
}

static json_t *tell_unload(const admin_call *c, const model_answer *a)
{
    (void)c;
    return json_pack("{s:o, s:s, s:b}", "model", registry_model_json(&a->models[0]), "state", a->left, "was_loaded",
                     strcmp(a->left, "not_loaded") != 0);
}

json_t *admin_loaded_json(const model_loaded *l)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:s?, s:f, s:o}", "name",
                     l->name, "path", l->path, "digest", l->digest, "family", l->family, "quantization", l->quant,
                     "n_params", (json_int_t)l->n_params, "file_bytes", (json_int_t)l->file_bytes, "weight_bytes",
                     (json_int_t)l->weight_bytes, "kv_bytes_per_token", (json_int_t)l->kv_bytes_per_token, "n_ctx",
                     (json_int_t)l->n_ctx, "n_uses", (json_int_t)l->n_uses, "loading", l->loading, "pinned", l->pinned,
                     "mtp", l->mtp, "rope_scaling", l->rope_scaling, "rope_factor", (double)l->rope_factor,
                     "expires_in_ms", l->expires_in_ms < 0 ? json_null() : json_integer(l->expires_in_ms));
}

static json_t *tell_loaded(const admin_call *c, const model_answer *a)
{
    json_t *list = json_array();
    (void)c;
    for (size_t i = 0; i < a->n_loaded; i++) {
        json_array_append_new(list, admin_loaded_json(&a->loaded[i]));
    }
    return json_pack("{s:o}", "loaded", list);
}

static json_t *tell_catalogue(const admin_call *c, const model_answer *a)
{
    (void)c;
    return json_pack("{s:o, s:I}", "models", registry_catalogue_json(), "machine_bytes", (json_int_t)a->memory_bytes);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

void admin_respond(http_exchange *x, json_t *body)
{
    http_header_add(x, "Cache-Control", "no-store");
    http_respond_json(x, 200, body);
}

void admin_no_memory(http_exchange *x)
{
    error_respond(x, 503, NULL, "out of memory", NULL);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

void admin_models(void *service, http_exchange *x)
{
    struct daemon *d = service;
    model_asker asker;
    admin_call *c = begin(d, x, tell_models, &asker);
    if (c) {
        end_begin(c, model_jobs_list(d->jobs, &asker));
    }
}

void admin_model(void *service, http_exchange *x)
{
    struct daemon *d = service;
    model_asker asker;
    bool details = false;
    if (!route_query_flag(x, "details", &details)) {
        return;
    }
    admin_call *c = begin(d, x, tell_model, &asker);
    if (c) {
        end_begin(c, model_jobs_show(d->jobs, http_path_param(x, "name"), details, &asker));
    }
}

/* With ?grace_s=N it can be brought back for so long. */
void admin_delete(void *service, http_exchange *x)
{
    struct daemon *d = service;
    model_asker asker;
    uint64_t grace_s = 0;
    if (!route_query_number(x, "grace_s", 0, 86400, &grace_s)) {
        return;
    }
    admin_call *c = begin(d, x, tell_done, &asker);
    if (c) {
        end_begin(c, model_jobs_delete(d->jobs, http_path_param(x, "name"), (uint32_t)grace_s, &asker));
    }
}

void admin_loaded(void *service, http_exchange *x)
{
    struct daemon *d = service;
    model_asker asker;
    admin_call *c = begin(d, x, tell_loaded, &asker);
    if (c) {
        end_begin(c, model_jobs_loaded(d->jobs, &asker));
    }
}

static bool ask_load(struct daemon *d, const admin_fields *f, const model_asker *asker)
{
    int64_t keep_ms = f->keep_alive_s == INT64_MIN ? MODEL_KEEP_DEFAULT
                      : f->keep_alive_s < 0        ? MODEL_KEEP_FOR_EVER
                                                   : f->keep_alive_s * 1000;
    return model_jobs_load(d->jobs, f->model, keep_ms, asker);
}

static bool ask_unload(struct daemon *d, const admin_fields *f, const model_asker *asker)
{
    return model_jobs_unload(d->jobs, f->model, asker);
}

static bool ask_restore(struct daemon *d, const admin_fields *f, const model_asker *asker)
{
    return model_jobs_restore(d->jobs, f->model, asker);
}

static bool ask_copy(struct daemon *d, const admin_fields *f, const model_asker *asker)
{
    return model_jobs_copy(d->jobs, f->from, f->to, f->alias, asker);
}

/* One that has a body. */
static void handle(struct daemon *d, http_exchange *x, teller *tell,
                   bool (*ask)(struct daemon *d, const admin_fields *f, const model_asker *asker), bool copies)
{
    admin_fields f;
    model_asker asker;
    if (!admin_fields_read(&f, x)) {
        return;
    }
    bool whole = copies ? admin_fields_need(x, "from", f.from) && admin_fields_need(x, "to", f.to)
                        : admin_fields_need(x, "model", f.model);
    admin_call *c = whole ? begin(d, x, tell, &asker) : NULL;
    if (c) {
        end_begin(c, ask(d, &f, &asker));
    }
    admin_fields_close(&f);
}

void admin_load(void *service, http_exchange *x)
{
    handle(service, x, tell_load, ask_load, false);
}

void admin_unload(void *service, http_exchange *x)
{
    handle(service, x, tell_unload, ask_unload, false);
}

void admin_restore(void *service, http_exchange *x)
{
    handle(service, x, tell_done, ask_restore, false);
}

void admin_copy(void *service, http_exchange *x)
{
    handle(service, x, tell_done, ask_copy, true);
}

/* With the machine's memory, by which somebody who has no model yet is offered one. */
void admin_catalogue(void *service, http_exchange *x)
{
    struct daemon *d = service;
    model_asker asker;
    admin_call *c = begin(d, x, tell_catalogue, &asker);
    if (c) {
        end_begin(c, model_jobs_machine(d->jobs, &asker));
    }
}
