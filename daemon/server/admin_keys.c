/*
 * /ui-api/keys: who may ask.
 * Owner: a call belongs to its exchange and the pool's work together. Lifetime: until both have ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/admin_parts.h"
#include "server/errors.h"

typedef struct key_call {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool worked;
    void (*run)(struct key_call *c);
    registry_key key; /* to be made, or whose id is to be revoked */
    json_t *answer;
    mlxr_status status;
    mlxr_error error;
} key_call;

static void free_call(key_call *c)
{
    if (!c->x && c->worked) {
        json_decref(c->answer);
        free(c);
    }
}

static void on_gone(void *user)
{
    key_call *c = user;
    c->x = NULL;
    free_call(c);
}

static void work(void *user)
{
    key_call *c = user;
    c->run(c);
}

static void done(void *user)
{
    key_call *c = user;
    c->worked = true;
    if (c->x && c->status == MLXR_OK && c->answer) {
        admin_respond(c->x, json_incref(c->answer));
    } else if (c->x) {
        int status = c->status == MLXR_OK ? 503 : error_status_of(c->status);
        error_respond(c->x, status, NULL, c->status == MLXR_OK ? "out of memory" : c->error.text, NULL);
    } else {
        free_call(c);
    }
}

static void start(struct daemon *d, http_exchange *x, void (*run)(key_call *c), const registry_key *key)
{
    key_call *c = calloc(1, sizeof *c);
    if (c) {
        *c = (key_call){.d = d, .x = x, .run = run, .key = *key};
    }
    if (!c || http_work(d->http, work, done, c) != 0) {
        free(c);
        admin_no_memory(x);
        return;
    }
    http_on_gone(x, on_gone, c);
}

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

static mlxr_status add_key(void *user, const registry_key *key, mlxr_error *error)
{
    (void)error;
    json_t *one = registry_key_json(key);
    return one && json_array_append_new(user, one) == 0 ? MLXR_OK : MLXR_NOMEM;
}

static void list_keys(key_call *c)
{
    json_t *list = json_array();
    c->status = registry_key_each(c->d->registry, add_key, list, &c->error);
    c->answer = json_pack("{s:o}", "keys", list);
}

static void create_key(key_call *c)
{
    char text[REGISTRY_KEY_TEXT_MAX];
    c->status = registry_key_create(c->d->registry, &c->key, text, &c->error);
    if (c->status == MLXR_OK) {
        c->answer = registry_key_json(&c->key);
        json_object_set_new(c->answer, "key", json_string(text));
    }
}

static void revoke_key(key_call *c)
{
    c->status = registry_key_revoke(c->d->registry, c->key.id, &c->error);
    c->answer = json_pack("{s:s}", "status", "revoked");
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

void admin_keys(void *service, http_exchange *x)
{
    start(service, x, list_keys, &(registry_key){.scopes = 0});
}

void admin_key_create(void *service, http_exchange *x)
{
    admin_fields f;
    registry_key key = {.scopes = 0};
    if (!admin_fields_read(&f, x)) {
        return;
    }
    if (f.scopes && !registry_scopes_parse(f.scopes, &key.scopes)) {
        error_respond(x, 400, "invalid_value", "scopes: inference, read and admin are known, with commas between",
                      "scopes");
    } else if (strlen(f.label ? f.label : "") >= sizeof key.label ||
               strlen(f.models ? f.models : "") >= sizeof key.models) {
        error_respondf(x, 400, "invalid_value", "label", "the label may have %zu bytes, the list of models %zu",
                       sizeof key.label - 1, sizeof key.models - 1);
    } else {
        snprintf(key.label, sizeof key.label, "%s", f.label ? f.label : "");
        snprintf(key.models, sizeof key.models, "%s", f.models ? f.models : "");
        key.requests_per_minute = (uint32_t)f.requests_per_minute;
        key.tokens_per_day = (uint64_t)f.tokens_per_day;
        key.expires_us = f.expires_at * 1000000;
        start(service, x, create_key, &key);
    }
    admin_fields_close(&f);
}

void admin_key_revoke(void *service, http_exchange *x)
{
    registry_key key = {.scopes = 0};
    const char *id = http_path_param(x, "id");
    if (strlen(id) >= sizeof key.id) {
        error_respond(x, 404, "key_not_found", "there is no such key", NULL);
        return;
    }
    snprintf(key.id, sizeof key.id, "%s", id);
    start(service, x, revoke_key, &key);
}
