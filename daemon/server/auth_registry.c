/*
 * Keys from the registry.
 * Owner: the daemon. Lifetime: auth_registry_open to auth_registry_close.
 */
#include "server/auth_registry.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REMEMBERED 64u
#define REMEMBER_MS 1000u
#define BUSY_MS                                                                                                        \
    10000u /* so long what is known still holds while the registry writes: the loop does not wait for a disk */
#define DIGEST_BYTES 32u

typedef struct remembered {
    unsigned char digest[DIGEST_BYTES]; /* of the key's text, which itself is not kept */
    uint64_t until_ms;                  /* 0: empty */
    auth_identity identity;
} remembered;

struct auth_registry {
    registry *r;
    remembered keys[REMEMBERED];
    unsigned next;
    bool any;
    uint64_t any_until_ms;
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

mlxr_status auth_registry_open(auth_registry **out, registry *r, mlxr_error *error)
{
    auth_registry *a = calloc(1, sizeof *a);
    if (!a) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "no memory for keys"};
        return MLXR_NOMEM;
    }
    a->r = r;
    *out = a;
    return MLXR_OK;
}

void auth_registry_close(auth_registry **a)
{
    free(*a);
    *a = NULL;
}

/* What was known until then, while the registry is being written: usage is, every few seconds. */
static bool still_holds(const auth_registry *a, uint64_t until_ms, uint64_t now)
{
    return until_ms > 0 && now < until_ms + BUSY_MS && registry_is_busy(a->r);
}

/* A database that cannot be read is not one without keys: then nobody gets in. */
static bool any(void *user)
{
    auth_registry *a = user;
    mlxr_error error;
    uint64_t now = clock_ms();
    if (now >= a->any_until_ms && !still_holds(a, a->any_until_ms, now)) {
        bool there = true;
        a->any = registry_key_any(a->r, &there, &error) != MLXR_OK || there;
        a->any_until_ms = now + REMEMBER_MS;
    }
    return a->any;
}

static void read_key(const registry_key *key, auth_identity *out)
{
    *out = (auth_identity){
        .key_id = strtoull(key->id, NULL, 16),
        .scopes = (key->scopes & REGISTRY_SCOPE_INFERENCE ? AUTH_INFERENCE : 0u) |
                  (key->scopes & REGISTRY_SCOPE_READ ? AUTH_READ : 0u) |
                  (key->scopes & REGISTRY_SCOPE_ADMIN ? AUTH_ADMIN : 0u),
        .requests_per_minute = key->requests_per_minute,
        .tokens_per_day = key->tokens_per_day,
    };
    snprintf(out->id, sizeof out->id, "%s", key->id);
    snprintf(out->name, sizeof out->name, "%s", key->label);
    snprintf(out->models, sizeof out->models, "%s", key->models);
}

static bool verify(void *user, const char *text, size_t n, auth_identity *out)
{
    auth_registry *a = user;
    unsigned char digest[DIGEST_BYTES];
    registry_key key;
    mlxr_error error;
    uint64_t now = clock_ms();
    if (EVP_Digest(text, n, digest, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    for (unsigned i = 0; i < REMEMBERED; i++) {
        const remembered *m = &a->keys[i];
        if (m->until_ms > 0 && CRYPTO_memcmp(m->digest, digest, DIGEST_BYTES) == 0 &&
            (now < m->until_ms || still_holds(a, m->until_ms, now))) {
            *out = m->identity;
            return true;
        }
    }
    if (registry_key_verify(a->r, text, n, &key, &error) != MLXR_OK) {
        return false;
    }
    remembered *m = &a->keys[a->next++ % REMEMBERED];
    read_key(&key, &m->identity);
    memcpy(m->digest, digest, DIGEST_BYTES);
    m->until_ms = now + REMEMBER_MS;
    *out = m->identity;
    return true;
}

static uint64_t used_today(void *user, const char *id)
{
    auth_registry *a = user;
    registry_usage usage = {0};
    mlxr_error error;
    return registry_usage_today(a->r, id, &usage, &error) == MLXR_OK ? usage.prompt_tokens + usage.answer_tokens : 0;
}

auth_source auth_registry_source(auth_registry *a)
{
    return (auth_source){.user = a, .any = any, .verify = verify, .used_today = used_today};
}
