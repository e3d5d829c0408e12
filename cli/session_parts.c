/*
 * Session: the grammar that binds answers and the drafts that hasten them.
 * Owner: the verb. Lifetime: the session's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "models.h"
#include "output.h"
#include "session.h"
#include "verbs.h"

/* Logits of a step are kept below this, so that a vocabulary of 262k tokens does not need half a gigabyte. */
#define LOGITS_BYTES ((size_t)64 << 20)

int session_load_grammar(session *s, const options *o)
{
    mlxr_error error;
    mlxr_grammar *made = NULL;
    const char *path = o->schema ? o->schema : o->grammar;
    size_t n = 0;
    if (o->schema && o->grammar) {
        print_error("--grammar and --schema: an answer follows one of them, not both");
        return EXIT_USAGE;
    }
    if (path) {
        char *text = read_all(path, &n);
        if (!text) {
            return EXIT_FAILED;
        }
        mlxr_status status = o->schema ? mlxr_grammar_open_schema(&made, s->model, text, n, &error)
                                       : mlxr_grammar_open_gbnf(&made, s->model, text, n, &error);
        free(text);
        if (status != MLXR_OK) {
            print_error("%s: %s", path, error.text);
            return EXIT_FAILED;
        }
    }
    mlxr_grammar_close(&s->grammar);
    s->grammar = made;
    return EXIT_OK;
}

static bool is_ngram(const options *o)
{
    return strcmp(o->draft, "ngram") == 0;
}

bool session_drafts_ahead(const options *o)
{
    return o->draft && strcmp(o->draft, "mtp") == 0;
}

static mlxr_status begin_drafting(mlxr_sequence *sequence, mlxr_model *model, const options *o, mlxr_error *error)
{
    return session_drafts_ahead(o) ? mlxr_sequence_draft_mtp(sequence, o->n_draft_max, error)
                                   : mlxr_sequence_draft(sequence, model, o->n_draft_max, error);
}

/* With the adapters that are a part of it; those of --lora are the other model's. */
static int load_draft_model(const session *s, const options *o, mlxr_model **out)
{
    mlxr_error error;
    registry_model entry;
    if (!models_resolve(o->draft, &entry)) {
        return EXIT_FAILED;
    }
    mlxr_model_options limits = context_of_draft(s->model);
    int code = mlxr_model_load(out, s->engine, entry.path, &limits, &error) == MLXR_OK ? EXIT_OK
                                                                                       : print_failure(&error);
    code = code == EXIT_OK ? session_adapt(out, &entry, o, false) : code;
    if (code != EXIT_OK) {
        mlxr_model_unref(out);
    }
    registry_model_close(&entry);
    return code;
}

int session_load_draft(session *s, const options *o)
{
    mlxr_error error;
    mlxr_model *model = NULL;
    if (!o->draft) {
        if (o->n_draft_max) {
            print_error("--draft-max needs --draft: MODEL, ngram or mtp");
            return EXIT_USAGE;
        }
        return EXIT_OK;
    }
    if (session_drafts_ahead(o) && !mlxr_model_info_get(s->model)->mtp) {
        print_error("--draft mtp has to be there when the model is loaded: it was loaded without its head");
        return EXIT_FAILED;
    }
    if (!is_ngram(o) && !session_drafts_ahead(o)) {
        int code = load_draft_model(s, o, &model);
        if (code != EXIT_OK) {
            return code;
        }
    }
    if (s->sequence && begin_drafting(s->sequence, model, o, &error) != MLXR_OK) {
        mlxr_model_unref(&model);
        return print_failure(&error);
    }
    mlxr_model_unref(&s->draft_model);
    s->draft_model = model;
    return EXIT_OK;
}

int session_open_sequence(session *s, const options *o, mlxr_sequence **out)
{
    mlxr_error error;
    mlxr_status status = mlxr_sampling_check(s->model, &o->sampling, &error);
    if (status == MLXR_OK) {
        status = mlxr_sequence_open(out, s->model, &o->sampling, &error);
    }
    if (status == MLXR_OK && s->grammar) {
        status = mlxr_sequence_constrain(*out, s->grammar, &error);
    }
    if (status == MLXR_OK && o->draft) {
        status = begin_drafting(*out, s->draft_model, o, &error);
    }
    if (status != MLXR_OK) {
        mlxr_sequence_close(out);
        return print_failure(&error);
    }
    return EXIT_OK;
}

int session_sequence(session *s, const options *o)
{
    mlxr_sequence_close(&s->sequence);
    return session_open_sequence(s, o, &s->sequence);
}

/* ---- making a change true ---------------------------------------------------------------------------------------- */

/* The sequence goes on with another sampler: a copy that shares all that is computed. */
bool session_change_sampler(session *s, const options *o)
{
    mlxr_error error;
    mlxr_sequence *changed = NULL;
    if (mlxr_sequence_fork(&changed, s->sequence, &o->sampling, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return false;
    }
    mlxr_sequence_close(&s->sequence);
    s->sequence = changed;
    return true;
}

bool session_change_grammar(session *s, const options *o)
{
    mlxr_error error;
    if (session_load_grammar(s, o) != EXIT_OK) {
        return false;
    }
    if (mlxr_sequence_constrain(s->sequence, s->grammar, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return false;
    }
    return true;
}

/* A sequence cannot stop drafting; another one with the same tokens finds what is computed in the KV cache. */
bool session_change_draft(session *s, const options *o)
{
    mlxr_error error;
    mlxr_sequence *changed = NULL;
    if (o->draft) {
        return session_load_draft(s, o) == EXIT_OK;
    }
    if (session_open_sequence(s, o, &changed) != EXIT_OK) {
        return false;
    }
    if (mlxr_sequence_append(changed, mlxr_sequence_tokens(s->sequence), mlxr_sequence_length(s->sequence), &error) !=
        MLXR_OK) {
        print_error("%s", error.text);
        mlxr_sequence_close(&changed);
        return false;
    }
    mlxr_sequence_close(&s->sequence);
    s->sequence = changed;
    mlxr_model_unref(&s->draft_model);
    return true;
}

/* ---- what drafts came to ----------------------------------------------------------------------------------------- */

static uint32_t n_positions(const mlxr_draft_stats *stats)
{
    uint32_t n = DRAFT_MAX;
    while (n > 0 && stats->drafted_at[n - 1] == 0) {
        n--;
    }
    return n;
}

json_t *session_draft_json(const options *o, mlxr_draft_stats stats)
{
    if (!o->draft) {
        return NULL;
    }
    json_t *positions = json_array();
    for (uint32_t i = 0; i < n_positions(&stats); i++) {
        json_array_append_new(positions, json_pack("{s:I, s:I}", "drafted", (json_int_t)stats.drafted_at[i], "accepted",
                                                   (json_int_t)stats.accepted_at[i]));
    }
    double share = stats.n_drafted ? (double)stats.n_accepted / (double)stats.n_drafted : 0;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "by", is_ngram(o) ? "ngram" : o->draft, "steps",
                     (json_int_t)stats.n_steps, "drafting_steps", (json_int_t)stats.n_drafting_steps, "drafted",
                     (json_int_t)stats.n_drafted, "accepted", (json_int_t)stats.n_accepted, "accepted_share",
                     json_number(share), "acceptance", json_number(stats.acceptance), "row_cost",
                     json_number(stats.row_cost), "positions", positions);
}

void session_draft_note(const options *o, mlxr_draft_stats stats)
{
    char positions[256] = "";
    size_t used = 0;
    if (!o->draft) {
        return;
    }
    for (uint32_t i = 0; i < n_positions(&stats) && used < sizeof positions; i++) {
        double share = stats.drafted_at[i] ? (double)stats.accepted_at[i] / (double)stats.drafted_at[i] : 0;
        used += (size_t)snprintf(positions + used, sizeof positions - used, "%s%.0f", i ? " " : ", by position ",
                                 100 * share);
    }
    print_note(
        "drafts by %s: %llu of %llu tokens accepted%s%s; %llu of %llu steps drafted; a drafted row costs %.2f of "
        "a plain step",
        is_ngram(o) ? "ngram" : o->draft, (unsigned long long)stats.n_accepted, (unsigned long long)stats.n_drafted,
        positions, *positions ? " %" : "", (unsigned long long)stats.n_drafting_steps,
        (unsigned long long)stats.n_steps, stats.row_cost);
}

void session_expert_note(const mlxr_engine *engine)
{
    mlxr_expert_stats x = mlxr_expert_stats_get(engine);
    if (x.bytes_all) {
        char hot[32], budget[32], all[32], locked[32], got[32];
        snprintf(hot, sizeof hot, "%s", human_bytes(x.bytes_hot));
        snprintf(budget, sizeof budget, "%s", human_bytes(x.bytes_budget));
        snprintf(all, sizeof all, "%s", human_bytes(x.bytes_all));
        snprintf(locked, sizeof locked, "%s", human_bytes(x.bytes_locked));
        snprintf(got, sizeof got, "%s", human_bytes(x.bytes_read));
        print_note("experts: %s of %s kept, budget %s, locked %s; %llu of %llu uses found; %s read", hot, all, budget,
                   locked, (unsigned long long)x.n_hits, (unsigned long long)(x.n_hits + x.n_misses), got);
    }
}

void session_logits_note(const mlxr_model *model)
{
    mlxr_logits_stats x = mlxr_logits_stats_get(model);
    if (x.n_steps) {
        char kept[32];
        snprintf(kept, sizeof kept, "%s", human_bytes(x.bytes_kept));
        print_note(
            "logits: %llu steps found the greatest ones from half of the matrix's bits, without %s; %s of memory",
            (unsigned long long)x.n_steps, human_bytes(x.bytes_saved), kept);
    }
}

/* ---- what the registry has for a model --------------------------------------------------------------------------- */

/* The option that a parameter of a Modelfile is, or NULL. */
static const option_spec *parameter_option(const char *name)
{
    static const char *const others[][2] = {{"temperature", "temp"},
                                            {"typical_p", "typical"},
                                            {"num_ctx", "ctx"},
                                            {"num_predict", "tokens"},
                                            {"num_thread", "threads"}};
    char dashed[64];
    snprintf(dashed, sizeof dashed, "%s", name);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(name, others[i][0]) == 0) {
            snprintf(dashed, sizeof dashed, "%s", others[i][1]);
        }
    }
    for (char *c = dashed; *c; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    return options_find(dashed, strlen(dashed), GROUP_RUN | GROUP_SAMPLING | GROUP_CONTEXT);
}

bool session_apply_parameter(options *o, const char *name, const char *value)
{
    const option_spec *spec = parameter_option(name);
    bool context = spec && (spec->groups & GROUP_CONTEXT); /* session_open, or the daemon, has seen to it */
    if (!spec || context) {
        if (o->verbose && !context) {
            print_note("mlxr: the model's parameter %s has no effect here", name);
        }
        return true;
    }
    return options_given(o, spec) || options_set(o, spec, value);
}

int session_apply_entry(session *s, options *o)
{
    const registry_model *m = &s->entry;
    if (!o->system && !o->raw) {
        o->system = m->system;
    }
    for (size_t i = 0; i < m->parameters.n; i++) {
        if (!session_apply_parameter(o, m->parameters.items[i].name, m->parameters.items[i].value)) {
            return EXIT_FAILED;
        }
    }
    return EXIT_OK;
}

int32_t session_bos(const session *s)
{
    size_t n = 0;
    int32_t bos = -1;
    if (mlxr_model_info_get(s->model)->adds_bos) {
        int32_t *ids = session_tokenize(s, "", 0, MLXR_TOKENIZE_ADD_SPECIAL, &n);
        bos = ids && n > 0 ? ids[0] : -1;
        free(ids);
    }
    return bos;
}

uint32_t session_rows_max(const session *s)
{
    size_t rows = LOGITS_BYTES / sizeof(float) / mlxr_model_info_get(s->model)->n_vocab;
    size_t max = mlxr_step_tokens_max(s->engine);
    return (uint32_t)(rows < 1 ? 1 : rows < max ? rows : max);
}
