/*
 * `mlxr key`: the keys that a daemon asks for. Where the store itself is changed, a running daemon sees it within a
 * second.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "output.h"
#include "store.h"
#include "verbs.h"

static int create(const options *o, store *s)
{
    mlxr_error error;
    registry_key key = {.requests_per_minute = o->n_rpm, .tokens_per_day = o->n_tpd};
    const char *label = o->n_args > 1 ? o->args[1] : "", *models = o->key_models ? o->key_models : "";
    json_t *made = NULL;
    if (strlen(label) >= sizeof key.label || strlen(models) >= sizeof key.models) {
        print_error("the label may have %zu bytes, the list of models %zu", sizeof key.label - 1,
                    sizeof key.models - 1);
        return EXIT_USAGE;
    }
    if (!registry_scopes_parse(o->scopes ? o->scopes : "", &key.scopes)) {
        print_error("--scopes %s: inference, read and admin are known, with commas between", o->scopes);
        return EXIT_USAGE;
    }
    snprintf(key.label, sizeof key.label, "%s", label);
    snprintf(key.models, sizeof key.models, "%s", models);
    key.expires_us = o->n_days ? ((int64_t)time(NULL) + (int64_t)o->n_days * 86400) * 1000000 : 0;
    if (s->ops->key_create(s, &key, &made, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    if (o->json) {
        return print_json(made);
    }
    printf("%s\n", json_string_value(json_object_get(made, "key")));
    print_note("this key can be seen only now; the store keeps a hash of it. Its id is %s",
               json_string_value(json_object_get(made, "id")));
    json_decref(made);
    return finish_output(EXIT_OK);
}

/* A label is whatever the one who made the key wrote. Good until the fourth call after this one (plain_line). */
static const char *member(const json_t *entry, const char *name)
{
    const char *text = json_string_value(json_object_get(entry, name));
    return text ? text : "-"; /* table_add makes it plain */
}

static void add_row(json_t *rows, const json_t *entry)
{
    const char *ends = json_is_string(json_object_get(entry, "revoked"))   ? "revoked"
                       : json_is_string(json_object_get(entry, "expires")) ? "expires"
                                                                           : NULL;
    char state[96];
    snprintf(state, sizeof state, "%s%s%s", ends ? ends : "valid", ends ? " " : "", ends ? member(entry, ends) : "");
    const char *texts[] = {member(entry, "id"), member(entry, "label"), member(entry, "scopes"),
                           member(entry, "created"), state};
    table_add(rows, texts, 5);
}

static int list(const options *o, store *s)
{
    static const char *const head[] = {"ID", "LABEL", "SCOPES", "CREATED", "STATE"};
    mlxr_error error;
    json_t *all = NULL, *entry, *rows;
    size_t i;
    if (s->ops->keys(s, &all, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    if (o->json) {
        return print_json(all);
    }
    if (!json_array_size(all)) {
        print_note("there are no keys: programs on this machine need none; mlxr key create [LABEL] makes one");
    } else {
        rows = json_array();
        json_array_foreach(all, i, entry)
        {
            add_row(rows, entry);
        }
        table_print(rows, head, 5);
        json_decref(rows);
    }
    json_decref(all);
    return finish_output(EXIT_OK);
}

static int revoke_key(const options *o, store *s)
{
    mlxr_error error;
    if (o->n_args != 2) {
        print_error("mlxr key revoke ID; mlxr key list shows the ids");
        return EXIT_USAGE;
    }
    if (s->ops->key_revoke(s, o->args[1], &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

int verb_key(options *o)
{
    static const struct {
        const char *name;
        int (*run)(const options *o, store *s);
        bool reads;
    } actions[] = {{"create", create, false}, {"list", list, true}, {"revoke", revoke_key, false}};
    store s;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(actions[i].name, o->args[0]) == 0) {
            int code = store_open(&s, o, actions[i].reads ? 0 : STORE_CHANGE);
            if (code == EXIT_OK) {
                code = actions[i].run(o, &s);
                store_close(&s);
            }
            return code;
        }
    }
    print_error("mlxr key create, list or revoke; not '%s'", o->args[0]);
    return EXIT_USAGE;
}
