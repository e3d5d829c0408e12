/*
 * Context words: contexts beyond the trained one, in the log.
 * Owner: none. Lifetime: the call.
 */
#include "runtime/context_words.h"

#include <stdio.h>
#include <string.h>

#include "graph/rope_extend.h"

/* What is to be expected of a context beyond the trained one. Figures: docs/contexts.md. */
static const char *expected_of(const mlxr_model_info *info)
{
    static const struct {
        const char *scaling, *words;
    } known[] = {{"linear", "expect clearly worse answers, also to short texts: yarn and ntk cost less"},
                 {"ntk", "expect somewhat worse answers, also to short texts"},
                 {"yarn", "expect somewhat worse answers, also to short texts"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].scaling, info->rope_scaling) == 0) {
            return known[i].words;
        }
    }
    return "expect worse answers";
}

/* Who says how many tokens a context is compared with. */
static const char *who_names_original(const hparams *h)
{
    return h->n_ctx_from_named                               ? "--rope-original names"
           : h->n_ctx_from > h->n_ctx_train && !h->rope_lost ? "its file's YaRN reads"
                                                             : "the model was trained for";
}

static void say_lost(const mlxr_model *m)
{
    const hparams *h = &m->graph->h;
    char by[32] = "";
    if (h->rope_lost_factor != 1) {
        snprintf(by, sizeof by, " by %g", (double)h->rope_lost_factor);
    }
    engine_log(m->engine, MLXR_LOG_WARN, "%s: the file's own RoPE scaling, %s%s,%s is taken away", m->info.path,
               h->rope_lost, by, strcmp(h->rope_lost, "yarn") == 0 ? "" : " which the model was trained with,");
}

static void say_longer(const mlxr_model *m)
{
    const hparams *h = &m->graph->h;
    char by[96] = "RoPE is not scaled",
         words[160] = "it has no position that is new to the model, but lengths that are";
    if (strcmp(m->info.rope_scaling, "none") == 0 && h->rope_slower) {
        snprintf(by, sizeof by, "RoPE base %g", (double)m->info.rope_base);
        snprintf(words, sizeof words, "%s", expected_of(&m->info));
    } else if (strcmp(m->info.rope_scaling, "none") == 0 && h->rope_lost) {
        snprintf(words, sizeof words, "expect nonsense beyond the trained length; its file's own %s is made for it",
                 h->rope_lost);
    } else if (strcmp(m->info.rope_scaling, "none") == 0) {
        snprintf(words, sizeof words, "expect nonsense beyond the trained length; %s", rope_advice(h));
    } else if (rope_turns(h)) {
        snprintf(by, sizeof by, "RoPE scaling %s by %g, base %g", m->info.rope_scaling, (double)m->info.rope_factor,
                 (double)m->info.rope_base);
        snprintf(words, sizeof words, "%s", expected_of(&m->info));
    }
    engine_log(m->engine, MLXR_LOG_WARN, "%s: context %u is %.3g times the %u tokens that %s; %s: %s", m->info.path,
               m->n_ctx, (double)m->n_ctx / h->n_ctx_from, h->n_ctx_from, who_names_original(h), by, words);
}

/* Scaled, though its context is no longer: by a scale that was named, or because a scaling was taken away. */
static void say_changed(const mlxr_model *m)
{
    engine_log(m->engine, MLXR_LOG_INFO, "%s: RoPE scaling %s by %g, base %g, not as in its file", m->info.path,
               m->info.rope_scaling, (double)m->info.rope_factor, (double)m->info.rope_base);
}

void context_words(const mlxr_model *m)
{
    const hparams *h = &m->graph->h;
    if (m->rope_missed.status != MLXR_OK) {
        engine_log(m->engine, MLXR_LOG_WARN, "%s: its context stays %u tokens: %s", m->info.path, m->n_ctx,
                   m->rope_missed.text);
    } else if (m->n_ctx_asked > m->n_ctx && m->n_ctx > h->n_ctx_from) {
        engine_log(m->engine, MLXR_LOG_WARN,
                   "%s: context of %u tokens was asked for; its RoPE scale allows %u, and it gets that", m->info.path,
                   m->n_ctx_asked, m->n_ctx);
    } else if (m->n_ctx_asked > m->n_ctx) {
        const char *advice = rope_advice(h);
        engine_log(m->engine, MLXR_LOG_WARN,
                   "%s: context of %u tokens was asked for; the model %s %u and gets that%s%s", m->info.path,
                   m->n_ctx_asked, m->n_ctx > h->n_ctx_train ? "reads by its file's YaRN" : "was trained for", m->n_ctx,
                   advice ? "; " : "", advice ? advice : "");
    }
    if (h->rope_lost) {
        say_lost(m);
    }
    if (m->n_ctx > h->n_ctx_from) {
        say_longer(m);
    } else if (h->rope_changed) {
        say_changed(m);
    }
}
