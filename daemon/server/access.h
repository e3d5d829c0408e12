/*
 * Access: which Host, Origin and Content-Type a request may come with. Pure functions over its headers.
 * Owner: the router; the rules are the daemon's. Lifetime: the call.
 *
 * Host defends against DNS rebinding: a page of evil.example whose name suddenly means 127.0.0.1 still says
 * evil.example. Origin and Sec-Fetch-Site defend against other pages of the same browser, Content-Type against their
 * plain forms.
 */
#ifndef MLXR_SERVER_ACCESS_H
#define MLXR_SERVER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct access_list {
    const char *const *items;
    size_t n;
} access_list;

typedef struct access_rules {
    access_list hosts;   /* names or addresses without port, besides localhost, 127.0.0.1 and [::1] */
    access_list origins; /* "https://chat.example", exactly */
} access_rules;

typedef struct access_request { /* headers; NULL: absent */
    const char *host, *origin, *fetch_site, *fetch_mode, *content_type;
    unsigned n_hosts, n_origins, n_content_types; /* how often each was given */
    const char *local;                            /* the address the client connected to, "unix" */
    bool tls, has_body, is_get, is_public;
} access_request;

typedef struct access_verdict {
    int status; /* 0: passes */
    const char *message;
} access_verdict;

/* Exact names only: no suffixes, no other spellings of an address. 400 if there is none or several, else 403. */
access_verdict access_check_host(const access_rules *rules, const access_request *r);
/* 403 for pages of other origins. *cross (may be NULL): from a page of another origin that is allowed. */
access_verdict access_check_origin(const access_rules *rules, const access_request *r, bool *cross);
/* 415 for a body that does not call itself JSON. */
access_verdict access_check_json(const access_request *r);
/* Is this address this machine's own: 127.0.0.0/8, ::1? */
bool access_is_loopback(const char *address);

#endif
