/*
 * `mlxr key`: the keys that a daemon asks for. Works on the store itself; a running daemon sees it within a second.
 * Owner: main. Lifetime: the call.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "output.h"
#include "registry/registry.h"
#include "verbs.h"

static const struct {
    const char *name;
    uint32_t scope;
} scopes[] = {{"inference", REGISTRY_SCOPE_INFERENCE}, {"read", REGISTRY_SCOPE_READ}, {"admin", REGISTRY_SCOPE_ADMIN}};

/* "inference,read" */
static bool read_scopes(const char *text, uint32_t *out)
{
    *out = 0;
    while (text && *text) {
        size_t n = strcspn(text, ","), i = 0;
        while (i < 3 && (strlen(scopes[i].name) != n || memcmp(scopes[i].name, text, n) != 0)) {
            i++;
        }
        if (i == 3) {
            print_error("--scopes %s: inference, read and admin are known, with commas between", text);
            return false;
        }
        *out |= scopes[i].scope;
        text += n + (text[n] == ',');
    }
    return true;
}

static void write_scopes(uint32_t set, char *out, size_t cap)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < 3; i++) {
        if (set & scopes[i].scope) {
            used += (size_t)snprintf(out + used, cap - used, "%s%s", used ? "," : "", scopes[i].name);
        }
    }
}

static json_t *time_json(int64_t us)
{
    char text[32];
    time_t s = (time_t)(us / 1000000);
    struct tm parts;
    if (!us) {
        return json_null();
    }
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &parts));
    return json_string(text);
}

static json_t *key_json(const registry_key *key)
{
    char set[64];
    write_scopes(key->scopes, set, sizeof set);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "id", key->id, "label", key->label, "scopes", set,
                     "models", key->models, "requests_per_minute", (json_int_t)key->requests_per_minute,
                     "tokens_per_day", (json_int_t)key->tokens_per_day, "created", time_json(key->created_us),
                     "expires", time_json(key->expires_us), "revoked", time_json(key->revoked_us));
}

static int create(const options *o, registry *r)
{
    mlxr_error error;
    char text[REGISTRY_KEY_TEXT_MAX];
    registry_key key = {.requests_per_minute = o->n_rpm, .tokens_per_day = o->n_tpd};
    const char *label = o->n_args > 1 ? o->args[1] : "", *models = o->key_models ? o->key_models : "";
    if (strlen(label) >= sizeof key.label || strlen(models) >= sizeof key.models) {
        print_error("the label may have %zu bytes, the list of models %zu", sizeof key.label - 1,
                    sizeof key.models - 1);
        return EXIT_USAGE;
    }
    if (!read_scopes(o->scopes, &key.scopes)) {
        return EXIT_USAGE;
    }
    snprintf(key.label, sizeof key.label, "%s", label);
    snprintf(key.models, sizeof key.models, "%s", models);
    key.expires_us = o->n_days ? ((int64_t)time(NULL) + (int64_t)o->n_days * 86400) * 1000000 : 0;
    if (registry_key_create(r, &key, text, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    if (o->json) {
        json_t *made = key_json(&key);
        json_object_set_new(made, "key", json_string(text));
        return print_json(made);
    }
    printf("%s\n", text);
    print_note("this key can be seen only now; the store keeps a hash of it. Its id is %s", key.id);
    return finish_output(EXIT_OK);
}

static mlxr_status add_key(void *user, const registry_key *key, mlxr_error *error)
{
    (void)error;
    json_array_append_new(user, key_json(key));
    return MLXR_OK;
}

static const char *member(const json_t *entry, const char *name)
{
    const char *text = json_string_value(json_object_get(entry, name));
    return text ? text : "-";
}

static int list(const options *o, registry *r)
{
    mlxr_error error;
    json_t *all = json_array(), *entry;
    size_t i;
    if (registry_key_each(r, add_key, all, &error) != MLXR_OK) {
        json_decref(all);
        return print_failure(&error);
    }
    if (o->json) {
        return print_json(all);
    }
    if (json_array_size(all)) {
        printf("%-16s  %-20s  %-22s  %-20s  %s\n", "ID", "LABEL", "SCOPES", "CREATED", "STATE");
    }
    json_array_foreach(all, i, entry)
    {
        printf("%-16s  %-20s  %-22s  %-20s  %s%s\n", member(entry, "id"), member(entry, "label"),
               member(entry, "scopes"), member(entry, "created"),
               json_is_string(json_object_get(entry, "revoked"))   ? "revoked "
               : json_is_string(json_object_get(entry, "expires")) ? "expires "
                                                                   : "valid",
               json_is_string(json_object_get(entry, "revoked"))   ? member(entry, "revoked")
               : json_is_string(json_object_get(entry, "expires")) ? member(entry, "expires")
                                                                   : "");
    }
    json_decref(all);
    return finish_output(EXIT_OK);
}

static int revoke(const options *o, registry *r)
{
    mlxr_error error;
    if (o->n_args != 2) {
        print_error("mlxr key revoke ID; mlxr key list shows the ids");
        return EXIT_USAGE;
    }
    if (registry_key_revoke(r, o->args[1], &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

int verb_key(options *o)
{
    static const struct {
        const char *name;
        int (*run)(const options *o, registry *r);
        bool reads;
    } actions[] = {{"create", create, false}, {"list", list, true}, {"revoke", revoke, false}};
    registry *r;
    mlxr_error error;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(actions[i].name, o->args[0]) == 0) {
            registry_options how = {.read_only = actions[i].reads};
            if (registry_open(&r, NULL, &how, &error) != MLXR_OK) {
                return print_failure(&error);
            }
            int code = actions[i].run(o, r);
            registry_close(&r);
            return code;
        }
    }
    print_error("mlxr key create, list or revoke; not '%s'", o->args[0]);
    return EXIT_USAGE;
}
