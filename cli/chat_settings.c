/*
 * Settings of a chat: sampling, grammar, drafts.
 * Owner: the chat. Lifetime: the call.
 */
#include "chat_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define SETTABLE (GROUP_SAMPLING | GROUP_GRAMMAR | GROUP_DRAFT)

static bool is_setting(const option_spec *spec)
{
    return (spec->groups & SETTABLE) || (strcmp(spec->name, "tokens") == 0 && (spec->groups & GROUP_RUN));
}

static void list_settings(const options *o)
{
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        char value[128];
        if (is_setting(spec)) {
            options_format(o, spec, value, sizeof value);
            printf("  %-22s %s\n", spec->name, value);
        }
    }
}

static const option_spec *find_setting(const char *name, size_t n)
{
    const option_spec *spec = options_find(name, n, SETTABLE);
    if (!spec) {
        spec = options_find(name, n, GROUP_RUN);
    }
    return spec && is_setting(spec) ? spec : NULL;
}

/* ---- making a change true ---------------------------------------------------------------------------------------- */

/* The sequence goes on with another sampler: a copy that shares all that is computed. */
static bool change_sampler(session *s, const options *o)
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

static bool change_grammar(session *s, const options *o)
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
static bool change_draft(session *s, const options *o)
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

/* ---- the command ------------------------------------------------------------------------------------------------- */

static bool set_sampling(session *s, options *o, const option_spec *spec, const char *value)
{
    options before = *o;
    if (!options_set(o, spec, value)) {
        return false;
    }
    if (!(spec->groups & GROUP_SAMPLING) || change_sampler(s, o)) {
        return true;
    }
    mlxr_sampling *now = &o->sampling; /* the library refused the value */
    *now = before.sampling;
    now->logit_bias = o->bias; /* the arrays may have moved */
    now->dry_breakers = o->breakers.items;
    o->breakers.n = now->n_dry_breakers;
    return false;
}

/* A grammar and a schema exclude each other: the newer one takes the place of the older. */
static bool set_grammar(session *s, options *o, const option_spec *spec, const char *value)
{
    const char *grammar = o->grammar, *schema = o->schema;
    const char *given = strcmp(value, "none") == 0 ? NULL : value;
    bool is_schema = strcmp(spec->name, "schema") == 0;
    o->schema = is_schema ? given : given ? NULL : schema;
    o->grammar = is_schema ? (given ? NULL : grammar) : given;
    if (change_grammar(s, o)) {
        return true;
    }
    o->grammar = grammar;
    o->schema = schema;
    return false;
}

static bool set_draft(session *s, options *o, const option_spec *spec, const char *value)
{
    const char *draft = o->draft;
    uint32_t n_max = o->n_draft_max;
    if (spec->kind != OPTION_DRAFT) {
        if (!options_set(o, spec, value)) {
            return false;
        }
    } else {
        o->draft = strcmp(value, "none") == 0 ? NULL : value;
        o->n_draft_max = o->draft ? n_max : 0;
    }
    if (change_draft(s, o)) {
        return true;
    }
    o->draft = draft;
    o->n_draft_max = n_max;
    return false;
}

void settings_change(session *s, options *o, text_list *kept, const char *argument)
{
    size_t n = strcspn(argument, " \t=");
    const char *value = argument + n + strspn(argument + n, " \t=");
    if (n == 0) {
        list_settings(o);
        return;
    }
    const option_spec *spec = find_setting(argument, n);
    if (!spec) {
        print_error("no setting '%.*s'; /set lists them", (int)(n < 60 ? n : 60), argument);
        return;
    }
    if (!*value) {
        print_error("/set %s needs a value: %s", spec->name, spec->argument);
        return;
    }
    char *copy = strdup(value);
    if (!copy || !text_list_add(kept, copy)) {
        free(copy);
        print_error("out of memory");
    } else if (spec->groups & GROUP_GRAMMAR) {
        set_grammar(s, o, spec, copy);
    } else if (spec->groups & GROUP_DRAFT) {
        set_draft(s, o, spec, copy);
    } else {
        set_sampling(s, o, spec, copy);
    }
}
