/*
 * Who asks: keys, what they allow, and how much of it.
 * Owner: the daemon. Lifetime: auth_open to auth_close; the loop thread, except where "any thread" is said.
 */
#ifndef MLXR_SERVER_AUTH_H
#define MLXR_SERVER_AUTH_H

#include "mlxr.h"

enum { /* scopes */
       AUTH_INFERENCE = 1u << 0,
       AUTH_READ = 1u << 1,
       AUTH_ADMIN = 1u << 2, /* has the other two, too */
       AUTH_ALL = AUTH_INFERENCE | AUTH_READ | AUTH_ADMIN
};

typedef struct auth_identity {
    uint64_t key_id; /* 0: nobody in particular: no keys are configured, or a public route */
    char id[17];     /* the same as text; "" */
    char name[65];   /* what its owner calls it */
    unsigned scopes;
    uint32_t requests_per_minute; /* 0: no limit */
    uint64_t tokens_per_minute;   /* 0: no limit */
    uint64_t tokens_per_day;      /* 0: no limit */
    uint64_t client;              /* who shares fairly with whom: the key, else the peer */
    char models[513]; /* names it may use, with commas between; "": all; a * at an end stands for anything */
} auth_identity;

/* Where keys are kept: the registry's tables. Called on the loop thread; must not block for long. */
typedef struct auth_source {
    void *user;
    bool (*any)(void *user); /* is there a key at all? */
    /* Is this the text of a key that is not revoked? The comparison takes the same time whatever the text. */
    bool (*verify)(void *user, const char *text, size_t n, auth_identity *out);
    /* Tokens this key has used today, from before this process, too; may be NULL. */
    uint64_t (*used_today)(void *user, const char *id);
} auth_source;

typedef struct auth auth;

mlxr_status auth_open(auth **out, const auth_source *source, mlxr_error *error); /* source NULL: there are no keys */
void auth_close(auth **a);
bool auth_has_keys(auth *a);
/* Who shows these headers (NULL: absent). False: a key is needed and there is none, or it is wrong, or the two headers
 * disagree. Without any key configured everybody has all scopes. */
bool auth_identify(auth *a, const char *authorization, const char *x_api_key, auth_identity *out);
/* Takes one request from the key's quota; 0, or the seconds after which to try again. */
unsigned auth_admit(auth *a, const auth_identity *who, uint64_t now_ms);
/* Any thread: tokens were used by a key; admit refuses while it has used more than it may. */
void auth_spend(auth *a, uint64_t key_id, uint64_t n_tokens);
/* May this key use a model of this name? */
bool auth_allows_model(const auth_identity *who, const char *name);

#endif
