/*
 * The models that are loaded at the start and stay.
 * Owner: the daemon. Lifetime: load_start until all are there, or one cannot be had; leases until the daemon stops.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/daemon_private.h"

/* What a file's stem becomes as a name: what no name has turns into a dash. NULL where the registry makes it itself. */
static const char *name_of(const char *path, char *out, size_t cap)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, cap, "%s", slash ? slash + 1 : path);
    char *ending = strrchr(out, '.');
    if (ending && ending > out && strcmp(ending, ".gguf") == 0) {
        *ending = '\0';
    }
    if (registry_name_valid(out)) {
        return NULL;
    }
    for (char *c = out; *c; c++) {
        *c = isalnum((unsigned char)*c) || strchr("._-", *c) ? *c : '-';
    }
    return out;
}

/* Where this model lies; one given by path is known by its file's stem from now on. */
static mlxr_status find(struct daemon *d, const char *item, char *path, size_t cap, mlxr_error *error)
{
    registry_model m;
    char name[REGISTRY_NAME_MAX + 1];
    if (*item == '/' || *item == '.') {
        const char *own = name_of(item, name, sizeof name);
        snprintf(path, cap, "%s", item);
        snprintf(d->default_model, sizeof d->default_model, "%s", name);
        return registry_register_path(d->registry, item, own, false, error);
    }
    mlxr_status status = registry_resolve(d->registry, item, &m, error);
    if (status == MLXR_OK) {
        snprintf(path, cap, "%s", m.path);
        snprintf(d->default_model, sizeof d->default_model, "%s", m.name);
        registry_model_close(&m);
    }
    return status;
}

static void *load(void *user)
{
    struct daemon_private *p = user;
    struct daemon *d = p->d;
    mlxr_error error;
    char path[REGISTRY_PATH_MAX];
    bool ok = true;
    for (size_t i = 0; ok && i < p->options.models.n && atomic_load(&p->state) == DAEMON_LOADING; i++) {
        daemon_log(d, MLXR_LOG_INFO, "loading %s", p->options.models.items[i]);
        ok = find(d, p->options.models.items[i], path, sizeof path, &error) == MLXR_OK &&
             model_table_wait(d->models, path, 0, &p->leases[i], &error) == MLXR_OK;
        p->n_leases += ok;
        ok = ok && model_table_pin(d->models, path, true, &error) == MLXR_OK; /* so that lists tell it stays */
        if (!ok) {
            daemon_log(d, MLXR_LOG_ERROR, "%s", error.text);
        }
    }
    if (p->options.models.n != 1) { /* of several none is meant more than the others */
        d->default_model[0] = '\0';
    }
    int loading = DAEMON_LOADING;
    if (!ok) {
        p->failure = error;
        atomic_store(&p->failed, true);
        daemon_drain(d, true);
    } else {
        atomic_compare_exchange_strong(&p->state, &loading, DAEMON_READY);
    }
    pthread_mutex_lock(&p->lock);
    p->loaded = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

mlxr_status load_start(struct daemon_private *p, mlxr_error *error)
{
    size_t n = p->options.models.n;
    if (n == 0) {
        atomic_store(&p->state, DAEMON_READY);
        p->loaded = true;
        return MLXR_OK;
    }
    p->leases = calloc(n, sizeof *p->leases);
    p->has_load = p->leases && pthread_create(&p->load, NULL, load, p) == 0;
    if (!p->has_load) {
        *error = (mlxr_error){.status = MLXR_LIMIT, .text = "the system has no thread for loading models"};
        return MLXR_LIMIT;
    }
    return MLXR_OK;
}
