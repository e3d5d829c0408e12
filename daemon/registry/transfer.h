/*
 * HTTP requests of downloads, each with its redirects, on one thread.
 * Owner: the pull. Lifetime: transfer_open to transfer_close.
 *
 * What every request keeps to, whatever the server says: http and https only, no way back from https to http, at most
 * 10 redirects, a token for the host it is meant for and no other, no private address unless that is allowed (looked at
 * where the socket is opened, so that no name can change its mind), no compressed bodies, an end to every header and
 * body, and to silence.
 *
 *   fetch_start ─▶ under way ─▶ redirected: started again, elsewhere
 *                            ├▶ FETCH_DONE: the whole answer came     ├▶ FETCH_RETRY: it may go better next time
 *                            └▶ FETCH_FAILED: it will not
 */
#ifndef MLXR_REGISTRY_TRANSFER_H
#define MLXR_REGISTRY_TRANSFER_H

#include <curl/curl.h>

#include "mlxr.h"

#define TRANSFER_URL_MAX 4096u
#define TRANSFER_REDIRECTS_MAX 10u

typedef struct transfer_options {
    const char *allow_private; /* hosts, or hosts with ports, with commas between; "*": all. NULL: none */
    uint32_t stall_s;          /* how long nearly nothing may come; 0: 30 */
    uint32_t retry_ms;         /* before the first retry; doubles. 0: 500 */
    uint32_t n_retries;        /* one after the other without any progress; 0: 5 */
    bool (*go_on)(void *user); /* asked ten times a second; false: cancelled. May be NULL */
    void *user;
} transfer_options;

typedef struct transfer {
    CURLM *multi;
    transfer_options options;
} transfer;

typedef enum fetch_result { FETCH_RUNNING, FETCH_DONE, FETCH_RETRY, FETCH_FAILED } fetch_result;

typedef struct fetch fetch;
/* The body of an answer with status 200 or 206, piece by piece. False: stop; the error is filled. */
typedef bool fetch_sink(fetch *f, const char *data, size_t n);

struct fetch {
    transfer *owner;
    const char *begin_url, *accept, *bearer; /* the caller's; accept and bearer may be NULL */
    uint64_t from, to;                       /* the range asked for, `to` behind its end; both 0: everything */
    const char *if_range;                    /* with a range: only if the file has this ETag still; NULL: any */
    fetch_sink *sink;
    /* NULL: GET. "HEAD", "POST" and "PUT" end well with any 2xx, whose body is not looked at, and follow no redirects.
     */
    const char *method;
    const char *content_type; /* of what is sent */
    uint64_t n_upload;        /* bytes to be sent, which `source` gives from `at` on; false: they cannot be read */
    bool (*source)(fetch *f, uint64_t at, char *data, size_t n);
    void *user;
    /* what became of it */
    fetch_result result;
    mlxr_status status;
    mlxr_error error;
    unsigned n_redirects, retry_after_s;
    uint64_t n_body;
    /* the head of the last answer */
    long code;
    bool has_length, has_range, encoded;
    uint64_t length, range_first, range_last, range_total;
    char location[TRANSFER_URL_MAX], challenge[1024], link[TRANSFER_URL_MAX], etag[160];
    size_t n_head;
    /* inside */
    CURL *easy;
    struct curl_slist *headers;
    char url[TRANSFER_URL_MAX], host[256], why[CURL_ERROR_SIZE];
    unsigned port;
    bool secure, proxied, refused;
    uint64_t n_sent;
};

mlxr_status transfer_open(transfer **out, const transfer_options *options, mlxr_error *error);
void transfer_close(transfer **t);

/* Starts a request of begin_url; FETCH_FAILED at once if it may not be made. */
void fetch_start(fetch *f);
/* Ends it, whatever it was doing. */
void fetch_stop(fetch *f);
/* Lets the requests under way go on, for at most wait_ms. MLXR_LIMIT: cancelled. */
mlxr_status transfer_turn(transfer *t, int wait_ms, mlxr_error *error);
/* Waits; MLXR_LIMIT: cancelled. */
mlxr_status transfer_pause(transfer *t, uint64_t wait_ms, mlxr_error *error);
/* How long to wait before attempt n (from 1) of a request that ended with FETCH_RETRY. */
uint64_t transfer_backoff_ms(const transfer *t, const fetch *f, unsigned n);

typedef struct transfer_answer {
    long code; /* 200, or 401 with a challenge */
    char *body;
    size_t n;
    char challenge[1024], link[TRANSFER_URL_MAX];
} transfer_answer;

/* A small document, with retries. More than `limit` bytes is MLXR_LIMIT. The caller frees the body. */
mlxr_status transfer_get(transfer *t, const char *url, const char *accept, const char *bearer, size_t limit,
                         transfer_answer *out, mlxr_error *error);

/* A request that is no GET, with retries. The answer's head is in f; MLXR_OK also for a code that is none of success:
 * see f->result and f->code. */
mlxr_status transfer_send(transfer *t, fetch *f, mlxr_error *error);
/* Where a Location leads; false: nowhere a request may go, or to another host. out: TRANSFER_URL_MAX bytes. */
bool transfer_location(const char *base, const char *location, char *out);

/* Whether two URLs have the same scheme, host and port. */
bool transfer_same_host(const char *a, const char *b);

#endif
