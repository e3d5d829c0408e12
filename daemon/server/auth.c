/*
 * Keys and quotas.
 * Owner: the daemon. Lifetime: auth_open to auth_close.
 *
 * A quota is a bucket: it fills steadily up to what may be used in its period, and a request needs one that is not
 * empty. Tokens are taken when they have been used, so that a bucket may fall below zero and then keeps its key
 * waiting.
 */
#include "server/auth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DAY_S 86400.0

typedef struct bucket {
    double level, size, per_s; /* size 0: no limit */
} bucket;

typedef struct account {
    struct account *next;
    uint64_t key_id;
    uint64_t seen_ms;
    bucket requests, minute, day;
} account;

struct auth {
    auth_source source;
    pthread_mutex_t lock; /* of the accounts */
    account *accounts;
};

mlxr_status auth_open(auth **out, const auth_source *source, mlxr_error *error)
{
    auth *a = calloc(1, sizeof *a);
    if (!a || pthread_mutex_init(&a->lock, NULL) != 0) {
        free(a);
        if (error) {
            *error = (mlxr_error){.status = MLXR_NOMEM, .text = "no memory for keys"};
        }
        return MLXR_NOMEM;
    }
    a->source = source ? *source : (auth_source){0};
    *out = a;
    return MLXR_OK;
}

void auth_close(auth **pointer)
{
    auth *a = *pointer;
    if (!a) {
        return;
    }
    while (a->accounts) {
        account *next = a->accounts->next;
        free(a->accounts);
        a->accounts = next;
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
    *pointer = NULL;
}

bool auth_has_keys(auth *a)
{
    return a->source.any && a->source.any(a->source.user);
}

/* The token of "Bearer TOKEN"; NULL: something else. */
static const char *bearer(const char *authorization)
{
    if (strncasecmp(authorization, "Bearer", 6) != 0 || (authorization[6] != ' ' && authorization[6] != '\t')) {
        return NULL;
    }
    return authorization + 6 + strspn(authorization + 6, " \t");
}

static bool verify(auth *a, const char *text, auth_identity *out)
{
    size_t n = strlen(text);
    return n > 0 && n <= 512 && a->source.verify(a->source.user, text, n, out);
}

bool auth_identify(auth *a, const char *authorization, const char *x_api_key, auth_identity *out)
{
    auth_identity other = {0};
    *out = (auth_identity){0};
    if (!auth_has_keys(a)) { /* clients that must send something send anything */
        out->scopes = AUTH_ALL;
        return true;
    }
    const char *token = authorization ? bearer(authorization) : NULL;
    if ((authorization && !token) || (!token && !x_api_key)) {
        return false;
    }
    if (!verify(a, token ? token : x_api_key, out)) {
        *out = (auth_identity){0};
        return false;
    }
    if (token && x_api_key && (!verify(a, x_api_key, &other) || other.key_id != out->key_id)) {
        *out = (auth_identity){0};
        return false;
    }
    out->scopes |= out->scopes & AUTH_ADMIN ? AUTH_ALL : 0;
    return true;
}

/* ---- quotas ------------------------------------------------------------------------------------------------------ */

static void bucket_set(bucket *b, double size, double period_s)
{
    if (b->size != size) { /* new, or the key's limit was changed */
        *b = (bucket){.level = size, .size = size, .per_s = size / period_s};
    }
}

static void bucket_fill(bucket *b, double seconds)
{
    b->level += b->per_s * seconds;
    b->level = b->level < b->size ? b->level : b->size;
}

/* Seconds until it holds `least`; 0: it does. */
static double bucket_wait(const bucket *b, double least)
{
    return b->size <= 0 || b->level >= least ? 0 : (least - b->level) / b->per_s;
}

/* Under the lock. */
static account *find_account(auth *a, uint64_t key_id)
{
    account *found = a->accounts;
    while (found && found->key_id != key_id) {
        found = found->next;
    }
    return found;
}

/* Under the lock. NULL: no memory. */
static account *need_account(auth *a, const auth_identity *who, uint64_t now_ms)
{
    account *found = find_account(a, who->key_id);
    if (!found && (found = calloc(1, sizeof *found))) {
        *found = (account){.next = a->accounts, .key_id = who->key_id, .seen_ms = now_ms};
        a->accounts = found;
        bucket_set(&found->day, (double)who->tokens_per_day, DAY_S);
        if (a->source.used_today && who->tokens_per_day) {
            found->day.level -= (double)a->source.used_today(a->source.user, who->id);
        }
    }
    return found;
}

unsigned auth_admit(auth *a, const auth_identity *who, uint64_t now_ms)
{
    if (!who->requests_per_minute && !who->tokens_per_minute && !who->tokens_per_day) {
        return 0;
    }
    pthread_mutex_lock(&a->lock);
    account *found = need_account(a, who, now_ms);
    double wait = 1; /* without memory for an account nobody is let past their quota */
    if (found) {
        double seconds = now_ms > found->seen_ms ? (double)(now_ms - found->seen_ms) / 1e3 : 0;
        found->seen_ms = now_ms;
        bucket_set(&found->requests, who->requests_per_minute, 60);
        bucket_set(&found->minute, (double)who->tokens_per_minute, 60);
        bucket_set(&found->day, (double)who->tokens_per_day, DAY_S);
        bucket_fill(&found->requests, seconds);
        bucket_fill(&found->minute, seconds);
        bucket_fill(&found->day, seconds);
        double waits[] = {bucket_wait(&found->requests, 1), bucket_wait(&found->minute, 1),
                          bucket_wait(&found->day, 1)};
        wait = 0;
        for (unsigned i = 0; i < 3; i++) {
            wait = waits[i] > wait ? waits[i] : wait;
        }
        found->requests.level -= wait > 0 ? 0 : 1;
    }
    pthread_mutex_unlock(&a->lock);
    return wait <= 0 ? 0 : wait >= DAY_S ? (unsigned)DAY_S : (unsigned)wait + 1;
}

void auth_spend(auth *a, uint64_t key_id, uint64_t n_tokens)
{
    pthread_mutex_lock(&a->lock);
    account *found = find_account(a, key_id);
    if (found) {
        found->minute.level -= (double)n_tokens;
        found->day.level -= (double)n_tokens;
    }
    pthread_mutex_unlock(&a->lock);
}

bool auth_allows_model(const auth_identity *who, const char *name)
{
    size_t n = strlen(name);
    if (!who->models[0]) {
        return true;
    }
    for (const char *at = who->models; *at;) {
        size_t length = strcspn(at, ",");
        bool open = length > 0 && at[length - 1] == '*';
        if (open ? strncmp(at, name, length - 1) == 0 : length == n && memcmp(at, name, n) == 0) {
            return true;
        }
        at += length + (at[length] == ',');
    }
    return false;
}
