/*
 * Asking a daemon (libcurl).
 * Owner: the verb. Lifetime: client_find to client_close.
 *
 * One connection, one request at a time. The transfer is waited for in short slices, so that Ctrl-C is seen within one
 * of them; an answer that is not wanted any more ends with the connection, and the daemon sees that at once.
 */
#include "client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "registry/registry.h"
#include "telemetry/daemon_error.h"
#include "telemetry/text_buffer.h"

#define SLICE_MS 50
#define TRY_MS 2000L /* for a daemon to say that it is one */
#define CONNECT_MS 10000L
#define BODY_MAX (64u << 20) /* of a whole answer */
#define LINE_MAX_BYTES (16u << 20)

struct client {
    CURL *easy;
    CURLM *multi;
    client_address address;
    struct curl_slist *headers;       /* of every request */
    struct curl_slist *json_headers;  /* of one with a body */
    struct curl_slist *event_headers; /* of a stream without one */
    char version[64], store[32];
    bool lasts;
};

typedef struct exchange { /* one request under way */
    client *c;
    text_buffer body;         /* of an answer that is taken whole; of a stream the line under way */
    client_on_event on_event; /* NULL: taken whole */
    void *user;
    char name[64];    /* of the event under way */
    text_buffer data; /* and its lines */
    bool judged, stream, events, enough, too_much;
} exchange;

static bool add(text_buffer *b, const char *more, size_t n, size_t max)
{
    if (b->n + n >= max) {
        return false;
    }
    text_add(b, more, n);
    return !b->failed;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void tell_event(exchange *x, const char *text, size_t n)
{
    client_event event = {.name = x->name, .text = text, .n = n, .json = json_loadb(text, n, 0, NULL)};
    x->enough = !x->on_event(x->user, &event);
    json_decref(event.json);
}

/* A line of text/event-stream: a blank one ends an event, a colon begins a comment. */
static bool take_event_line(exchange *x, const char *line, size_t n)
{
    if (n == 0) {
        if (x->data.n > 0) {
            tell_event(x, x->data.data, x->data.n - 1); /* without its last line feed */
        }
        x->data.n = 0;
        x->name[0] = '\0';
        return true;
    }
    size_t length = (size_t)((const char *)memchr(line, ':', n) ? (const char *)memchr(line, ':', n) - line : (long)n);
    const char *value = line + (length < n ? length + 1 : n);
    value += value < line + n && *value == ' ';
    size_t n_value = (size_t)(line + n - value);
    if (length == 5 && memcmp(line, "event", 5) == 0) {
        snprintf(x->name, sizeof x->name, "%.*s", (int)(n_value < 63 ? n_value : 63), value);
    } else if (length == 4 && memcmp(line, "data", 4) == 0) {
        return add(&x->data, value, n_value, LINE_MAX_BYTES) && add(&x->data, "\n", 1, LINE_MAX_BYTES);
    }
    return true;
}

static bool take_stream(exchange *x, const char *text, size_t n)
{
    while (n > 0 && !x->enough) {
        const char *end = memchr(text, '\n', n);
        size_t part = end ? (size_t)(end - text) : n;
        if (!add(&x->body, text, part, LINE_MAX_BYTES)) {
            return false;
        }
        text += part + (end ? 1 : 0);
        n -= part + (end ? 1 : 0);
        if (end) {
            size_t length = x->body.n - (x->body.n > 0 && x->body.data[x->body.n - 1] == '\r');
            bool ok = true;
            if (x->events) {
                ok = take_event_line(x, x->body.data, length);
            } else if (length > 0) {
                tell_event(x, x->body.data, length);
            }
            x->body.n = 0;
            if (!ok) {
                return false;
            }
        }
    }
    return true;
}

/* An error is taken whole, whatever was asked for. */
static void judge(exchange *x)
{
    long code = 0;
    const char *type = NULL;
    curl_easy_getinfo(x->c->easy, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(x->c->easy, CURLINFO_CONTENT_TYPE, &type);
    x->judged = true;
    x->stream = x->on_event && code / 100 == 2;
    x->events = type && strncmp(type, "text/event-stream", 17) == 0;
}

static size_t on_data(char *text, size_t one, size_t n, void *user)
{
    exchange *x = user;
    (void)one;
    if (!x->judged) {
        judge(x);
    }
    bool ok = x->stream ? take_stream(x, text, n) : add(&x->body, text, n, BODY_MAX);
    x->too_much = !ok;
    return ok && !x->enough ? n : n + 1; /* another number ends the transfer */
}

/* ---- transfers --------------------------------------------------------------------------------------------------- */

static bool set_up(client *c, exchange *x, const char *method, const char *url, const char *body, size_t n_body)
{
    CURL *e = c->easy;
    CURLcode bad = CURLE_OK;
    curl_easy_reset(e);
#define SET(option, value) bad = bad ? bad : curl_easy_setopt(e, option, value)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_CUSTOMREQUEST, method);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* a daemon is asked directly */
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    SET(CURLOPT_HTTPHEADER, body ? c->json_headers : x->on_event ? c->event_headers : c->headers);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, x);
    if (*c->address.socket) {
        SET(CURLOPT_UNIX_SOCKET_PATH, c->address.socket);
    }
    if (body) {
        SET(CURLOPT_POSTFIELDS, body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n_body);
    }
    const char *ca = getenv("SSL_CERT_FILE");
    if (c->address.tls && ca && *ca) {
        SET(CURLOPT_CAINFO, ca);
    }
#undef SET
    return bad == CURLE_OK;
}

/* Until the transfer has ended; CURLE_ABORTED_BY_CALLBACK: somebody has pressed Ctrl-C. timeout_ms 0: none. */
static CURLcode perform(client *c, const volatile sig_atomic_t *interrupted, long timeout_ms)
{
    int running = 1, left = 0;
    double end = timeout_ms ? now_seconds() + (double)timeout_ms / 1e3 : 0;
    CURLcode code = CURLE_OK;
    if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK) {
        return CURLE_OUT_OF_MEMORY;
    }
    while (running && code == CURLE_OK) {
        if (curl_multi_perform(c->multi, &running) != CURLM_OK) {
            code = CURLE_OUT_OF_MEMORY;
        } else if (interrupted && *interrupted) {
            code = CURLE_ABORTED_BY_CALLBACK;
        } else if (end > 0 && now_seconds() > end) {
            code = CURLE_OPERATION_TIMEDOUT;
        } else if (running) {
            curl_multi_poll(c->multi, NULL, 0, SLICE_MS, NULL);
        }
    }
    for (CURLMsg *message; (message = curl_multi_info_read(c->multi, &left)) != NULL;) {
        if (message->msg == CURLMSG_DONE && code == CURLE_OK) {
            code = message->data.result;
        }
    }
    curl_multi_remove_handle(c->multi, c->easy);
    return code;
}

/* Sends it and waits. MLXR_OK: there is an answer, of whatever status. */
static mlxr_status run(client *c, exchange *x, const char *method, const char *path, const json_t *body,
                       const volatile sig_atomic_t *interrupted, long timeout_ms, mlxr_error *error)
{
    char url[2048], *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if ((body && !text) || snprintf(url, sizeof url, "%s%s", c->address.url, path) >= (int)sizeof url ||
        !set_up(c, x, method, url, text, text ? strlen(text) : 0)) {
        free(text);
        return daemon_error(error, MLXR_NOMEM,
                            "the request to %s cannot be made: out of memory, or its path is too long",
                            client_where(c));
    }
    CURLcode code = perform(c, interrupted, timeout_ms);
    free(text);
    if (code == CURLE_OK || x->enough || code == CURLE_ABORTED_BY_CALLBACK) {
        return MLXR_OK;
    }
    if (x->too_much) {
        return daemon_error(error, MLXR_LIMIT, "the answer of the daemon at %s is too large", client_where(c));
    }
    return daemon_error(error, MLXR_IO, "the daemon at %s %s: %s", client_where(c),
                        x->judged ? "broke its answer off" : "does not answer", curl_easy_strerror(code));
}

static void close_exchange(exchange *x)
{
    text_buffer_close(&x->body);
    text_buffer_close(&x->data);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static const char *message_of(const json_t *body)
{
    const json_t *error = json_object_get(body, "error");
    const char *text = json_string_value(error);
    return text ? text : json_string_value(json_object_get(error, "message"));
}

static mlxr_status status_of(long code)
{
    return code == 501                                ? MLXR_UNSUPPORTED
           : code == 429 || code == 503               ? MLXR_LIMIT
           : code >= 400 && code < 500 && code != 408 ? MLXR_ARG
                                                      : MLXR_IO;
}

/* What an answer that is no success means. */
static mlxr_status refused(client *c, const char *method, const char *path, const json_t *body, mlxr_error *error)
{
    long code = 0;
    const char *message = message_of(body);
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &code);
    const char *word = json_string_value(json_object_get(json_object_get(body, "error"), "code"));
    bool no_route = code == 405 || (code == 404 && (!message || (word && strcmp(word, "not_found") == 0)));
    if (code == 401) {
        return daemon_error(error, MLXR_IO,
                            "the daemon at %s wants %s API key: set MLXR_API_KEY; mlxr key create makes one",
                            client_where(c), getenv("MLXR_API_KEY") ? "another" : "an");
    }
    if (code == 403) {
        return daemon_error(error, MLXR_IO, "the daemon at %s does not allow it: %s", client_where(c),
                            message ? message : "403");
    }
    if (no_route && strcmp(c->version, mlxr_version()) != 0) {
        return daemon_error(error, MLXR_UNSUPPORTED,
                            "the daemon at %s is version %s and has no %s %s; this program is version %s",
                            client_where(c), c->version, method, path, mlxr_version());
    }
    if (message) {
        return daemon_error(error, status_of(code), "%s", message);
    }
    return daemon_error(error, status_of(code), "the daemon at %s answered %s %s with status %ld", client_where(c),
                        method, path, code);
}

static mlxr_status judge_answer(client *c, exchange *x, const char *method, const char *path, json_t **out,
                                mlxr_error *error)
{
    long code = 0;
    json_t *body = x->body.n ? json_loadb(x->body.data, x->body.n, JSON_DECODE_ANY, NULL) : NULL;
    mlxr_status status = MLXR_OK;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &code);
    if (code / 100 != 2) {
        status = refused(c, method, path, body, error);
    } else if (out && !body) {
        status = daemon_error(error, MLXR_FORMAT, "the daemon at %s answered %s %s with what is no JSON",
                              client_where(c), method, path);
    }
    if (out) {
        *out = status == MLXR_OK ? json_incref(body) : NULL;
    }
    json_decref(body);
    return status;
}

mlxr_status client_ask(client *c, const char *method, const char *path, json_t *body, json_t **out, mlxr_error *error)
{
    exchange x = {.c = c};
    mlxr_status status = run(c, &x, method, path, body, NULL, 0, error);
    status = status == MLXR_OK ? judge_answer(c, &x, method, path, out, error) : status;
    json_decref(body);
    close_exchange(&x);
    return status;
}

mlxr_status client_stream(client *c, const char *method, const char *path, json_t *body, client_on_event on_event,
                          void *user, const volatile sig_atomic_t *interrupted, mlxr_error *error)
{
    exchange x = {.c = c, .on_event = on_event, .user = user};
    mlxr_status status = run(c, &x, method, path, body, interrupted, 0, error);
    bool broken_off = x.enough || (interrupted && *interrupted);
    if (status == MLXR_OK && !x.stream && !broken_off) {
        status = judge_answer(c, &x, method, path, NULL, error);
    }
    json_decref(body);
    close_exchange(&x);
    return status;
}

bool client_escape(const char *text, char *out, size_t cap)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    bool ok = escaped && snprintf(out, cap, "%s", escaped) < (int)cap;
    curl_free(escaped);
    return ok;
}

/* ---- finding one ------------------------------------------------------------------------------------------------- */

/* Who it is; *other: somebody answers, and is no MLXR daemon. */
static bool introduce(client *c, bool *other)
{
    exchange x = {.c = c};
    mlxr_error error;
    json_t *body = NULL;
    bool answered = run(c, &x, "GET", "/ui-api/version", NULL, NULL, TRY_MS, &error) == MLXR_OK;
    bool ok = answered && judge_answer(c, &x, "GET", "/ui-api/version", &body, &error) == MLXR_OK;
    const char *server = json_string_value(json_object_get(body, "server"));
    const char *version = json_string_value(json_object_get(body, "version"));
    const char *store = json_string_value(json_object_get(body, "store"));
    long connected = 0;
    curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connected);
    ok = ok && server && version && strcmp(server, "mlxr") == 0;
    snprintf(c->version, sizeof c->version, "%s", ok ? version : "");
    c->lasts = !json_is_false(json_object_get(body, "lasting"));
    snprintf(c->store, sizeof c->store, "%s", store ? store : "");
    *other = !ok && (answered || connected > 0);
    json_decref(body);
    close_exchange(&x);
    return ok;
}

static void free_headers(client *c)
{
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->json_headers);
    curl_slist_free_all(c->event_headers);
    c->headers = c->json_headers = c->event_headers = NULL;
}

/* Without "Expect", then `extra` (NULL: nothing) and the key's line ("": none). NULL: no memory. */
static struct curl_slist *header_list(const char *extra, const char *key_line)
{
    const char *const lines[] = {"Expect:", extra, *key_line ? key_line : NULL};
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct curl_slist *longer = lines[i] ? curl_slist_append(list, lines[i]) : list;
        if (lines[i] && !longer) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

/* From here on the key goes with every request; one that cannot stand in a header does not. */
static bool set_headers(client *c, const char *key)
{
    char line[512] = "";
    bool sent = key && *key && strlen(key) < sizeof line - 32 && !strpbrk(key, "\r\n");
    if (sent) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", key);
    }
    free_headers(c);
    c->headers = header_list(NULL, line);
    c->json_headers = header_list("Content-Type: application/json", line);
    c->event_headers = header_list("Accept: text/event-stream", line);
    return c->headers && c->json_headers && c->event_headers;
}

bool client_use_key(client *c, const char *key)
{
    return set_headers(c, key);
}

client *client_try(const client_address *a, bool *other)
{
    *other = false;
    if (!client_listens(a)) {
        return NULL;
    }
    client *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(c);
        return NULL;
    }
    c->address = *a;
    c->easy = curl_easy_init();
    c->multi = curl_multi_init();
    if (!c->easy || !c->multi || !set_headers(c, NULL) || !introduce(c, other) ||
        !set_headers(c, getenv("MLXR_API_KEY"))) {
        client_close(&c);
    }
    return c;
}

void client_close(client **pointer)
{
    client *c = *pointer;
    if (c) {
        free_headers(c);
        curl_easy_cleanup(c->easy);
        curl_multi_cleanup(c->multi);
        curl_global_cleanup();
        free(c);
        *pointer = NULL;
    }
}

const char *client_where(const client *c)
{
    return client_address_text(&c->address);
}

bool client_lasts(const client *c)
{
    return c->lasts;
}

const client_address *client_address_of(const client *c)
{
    return &c->address;
}

const char *client_version(const client *c)
{
    return c->version;
}

bool client_same_store(const client *c)
{
    char mark[REGISTRY_MARK_MAX];
    registry_mark(NULL, mark);
    return *mark && strcmp(mark, c->store) == 0;
}

bool client_is_meant(const client *c)
{
    const char *models = getenv("MLXR_MODELS");
    return !models || !*models || client_same_store(c);
}

int client_find(client **out, const options *o, client_need need)
{
    client_address address;
    bool other = false;
    const char *variable = getenv("MLXR_HOST");
    const char *named = o->server ? o->server : variable && *variable ? variable : NULL;
    *out = NULL;
    if (named && strcmp(named, "none") == 0) {
        if (need == CLIENT_NEEDED) {
            print_error("this asks a daemon, and %s says none", o->server ? "--server" : "MLXR_HOST");
            return EXIT_USAGE;
        }
        return EXIT_OK;
    }
    if (!client_address_parse(named ? named : "127.0.0.1", &address)) {
        print_error("%s %s: HOST, HOST:PORT, http://HOST:PORT, unix:/PATH or none is needed",
                    o->server ? "--server" : "MLXR_HOST", named);
        return EXIT_USAGE;
    }
    *out = client_try(&address, &other);
    if (*out && (named || client_is_meant(*out))) {
        return EXIT_OK;
    }
    bool elsewhere = *out != NULL;
    client_close(out);
    const char *where = client_address_text(&address);
    if (elsewhere && need == CLIENT_NEEDED) {
        print_error("the daemon at %s has another store than $MLXR_MODELS; --server %s asks it nevertheless", where,
                    where);
    } else if (other && (named || need == CLIENT_NEEDED)) {
        print_error("what answers at %s is no MLXR daemon, or an older one", where);
    } else if (named || need == CLIENT_NEEDED) {
        print_error("no daemon answers at %s; mlxr serve starts one", where);
    } else {
        return EXIT_OK;
    }
    return EXIT_FAILED;
}
