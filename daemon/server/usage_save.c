/*
 * Writing what the registry has counted.
 * Owner: the daemon. Lifetime: a write's, one at a time; the registry's end writes what came behind the last one.
 *
 *   counted ─▶ timer ─▶ pool: one transaction ─▶ loop: again, if more was counted, or it could not be written
 */
#include "server/usage_save.h"

#include "registry/registry.h"
#include "server/daemon_private.h"

#define SAVE_MS 5000u    /* a write of the disk each, under load */
#define TELL_FAILURES 3u /* less may be who else is changing the registry: a thread or a process */

static void write_usage(void *user)
{
    struct daemon *d = user;
    usage_save *s = &d->own->usage;
    s->status = registry_usage_flush(d->registry, false, &s->error);
}

static void written(void *user)
{
    struct daemon *d = user;
    usage_save *s = &d->own->usage;
    bool failed = s->status != MLXR_OK, more = s->more;
    s->writing = s->more = false;
    s->n_failed = failed ? s->n_failed + 1 : 0;
    if (s->n_failed == TELL_FAILURES) {
        daemon_log(d, MLXR_LOG_WARN, "usage cannot be saved; trying again: %s", s->error.text);
    }
    if (failed || more) {
        usage_save_soon(d);
    }
}

static void on_timer(void *user)
{
    struct daemon *d = user;
    usage_save *s = &d->own->usage;
    s->timer = 0;
    s->writing = http_work(d->http, write_usage, written, d) == 0;
    if (!s->writing) {
        usage_save_soon(d);
    }
}

void usage_save_soon(struct daemon *d)
{
    usage_save *s = &d->own->usage;
    s->more = s->more || s->writing;
    if (!s->writing && !s->timer && !*registry_closed(d->registry)) {
        s->timer = http_timer(d->http, SAVE_MS, on_timer, d);
    }
}
