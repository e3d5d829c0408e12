/*
 * The process's own key, before those of the registry.
 * Owner: the daemon. Lifetime: the daemon's.
 */
#include "server/auth_own.h"

#include <openssl/crypto.h>
#include <string.h>

static bool any(void *user)
{
    const auth_own *own = user;
    return own->keys.any(own->keys.user);
}

static bool verify(void *user, const char *text, size_t n, auth_identity *out)
{
    const auth_own *own = user;
    if (own->text && n == strlen(own->text) && CRYPTO_memcmp(text, own->text, n) == 0) {
        *out = (auth_identity){.name = "this process", .scopes = AUTH_ALL};
        return true;
    }
    return own->keys.verify(own->keys.user, text, n, out);
}

static uint64_t used_today(void *user, const char *id)
{
    const auth_own *own = user;
    return *id && own->keys.used_today ? own->keys.used_today(own->keys.user, id) : 0;
}

auth_source auth_own_source(auth_own *own)
{
    return (auth_source){.user = own, .any = any, .verify = verify, .used_today = used_today};
}
