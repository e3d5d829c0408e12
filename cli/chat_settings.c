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

/* The value as people are shown it: "usual" where it stands for what help tells in brackets, or the library's own. */
static const char *shown(const options *o, const option_spec *spec, const char *value)
{
    const void *field = (const char *)o + spec->offset;
    bool usual = (field == &o->n_predict && o->n_predict < 0) || (field == &o->n_draft_max && o->n_draft_max == 0) ||
                 (field == &o->breakers && o->breakers.n == 0);
    return usual ? "usual" : !*value || strcmp(value, "0 given") == 0 ? "none" : value;
}

/* The other way round: sets what is shown as "usual", where the value is that word and the setting has such a value. */
static bool set_usual(options *o, const option_spec *spec, const char *value)
{
    const void *field = (const char *)o + spec->offset;
    if (strcmp(value, "usual") != 0) {
        return false;
    }
    if (field == &o->n_predict) {
        o->n_predict = -1;
    } else if (field == &o->n_draft_max) {
        o->n_draft_max = 0;
    } else if (field == &o->breakers) {
        o->breakers.n = o->sampling.n_dry_breakers = 0;
        o->sampling.dry_breakers = NULL;
    } else {
        return false;
    }
    return true;
}

static void list_settings(const options *o)
{
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        char value[128], left[160];
        if (is_setting(spec)) {
            options_format(o, spec, value, sizeof value);
            snprintf(left, sizeof left, "  %-22s%s", spec->name, shown(o, spec, value));
            print_entry(left, 34, spec->help);
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

/* ---- the command ------------------------------------------------------------------------------------------------- */

static bool set_sampling(answerer *a, options *o, const option_spec *spec, const char *value)
{
    options before = *o;
    if (!set_usual(o, spec, value) && !options_set(o, spec, value)) {
        return false;
    }
    options_mark(o, spec);
    if (!(spec->groups & GROUP_SAMPLING) || a->ops->change(a, o, GROUP_SAMPLING)) {
        return true;
    }
    mlxr_sampling *now = &o->sampling; /* the library refused the value */
    *now = before.sampling;
    now->logit_bias = o->bias; /* the arrays may have moved */
    o->breakers.n = now->n_dry_breakers;
    now->dry_breakers = o->breakers.n ? o->breakers.items : NULL;
    return false;
}

/* A grammar and a schema exclude each other: the newer one takes the place of the older. */
static bool set_grammar(answerer *a, options *o, const option_spec *spec, const char *value)
{
    const char *grammar = o->grammar, *schema = o->schema;
    const char *given = strcmp(value, "none") == 0 ? NULL : value;
    bool is_schema = strcmp(spec->name, "schema") == 0;
    o->schema = is_schema ? given : given ? NULL : schema;
    o->grammar = is_schema ? (given ? NULL : grammar) : given;
    if (a->ops->change(a, o, GROUP_GRAMMAR)) {
        return true;
    }
    o->grammar = grammar;
    o->schema = schema;
    return false;
}

static bool set_draft(answerer *a, options *o, const option_spec *spec, const char *value)
{
    const char *draft = o->draft;
    uint32_t n_max = o->n_draft_max;
    if (spec->kind != OPTION_DRAFT) {
        if (!set_usual(o, spec, value) && !options_set(o, spec, value)) {
            return false;
        }
    } else {
        o->draft = strcmp(value, "none") == 0 ? NULL : value;
        o->n_draft_max = o->draft ? n_max : 0;
    }
    if (a->ops->change(a, o, GROUP_DRAFT)) {
        return true;
    }
    o->draft = draft;
    o->n_draft_max = n_max;
    return false;
}

void settings_change(answerer *a, options *o, text_list *kept, const char *argument)
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
        set_grammar(a, o, spec, copy);
    } else if (spec->groups & GROUP_DRAFT) {
        set_draft(a, o, spec, copy);
    } else {
        set_sampling(a, o, spec, copy);
    }
}
