/*
 * Whose store it is: a daemon's, or this process's.
 * Owner: the verb. Lifetime: store_open to store_close.
 */
#include "store.h"

#include "output.h"

int store_open(store *out, const options *o, unsigned flags)
{
    client *c = NULL;
    *out = (store){.ops = NULL};
    int code = client_find(&c, o, CLIENT_IF_THERE);
    if (code != EXIT_OK) {
        return code;
    }
    if (c && (flags & STORE_FILES)) {
        bool same = client_same_store(c);
        if (!same) {
            print_error("the daemon at %s cannot read files of yours; --server none uses the store of this machine",
                        client_where(c));
        }
        client_close(&c);
        if (!same) {
            return EXIT_FAILED;
        }
    }
    if (!c) {
        return store_open_direct(out, flags & STORE_CHANGE);
    }
    store_open_daemon(out, c);
    return EXIT_OK;
}

void store_close(store *s)
{
    s->ops->close(s);
}
