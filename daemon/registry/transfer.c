/*
 * HTTP requests of downloads.
 * Owner: the pull. Lifetime: transfer_open to transfer_close.
 */
#include "registry/transfer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "registry/address.h"
#include "registry/digest.h"
#include "registry/fail.h"
#include "registry/http_text.h"
#include "registry/registry.h"

#define HEAD_BYTES_MAX ((size_t)64 << 10)
#define OTHER_BODY_MAX ((size_t)64 << 10) /* of answers nobody reads */
#define SLOW_BYTES_PER_S 64L

void registry_prepare(void)
{
    uint8_t digest[32];
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    (void)digest_raw("", 0, digest);
}

mlxr_status transfer_open(transfer **out, const transfer_options *options, mlxr_error *error)
{
    transfer *t = calloc(1, sizeof *t);
    /* Counted, and safe among threads since 7.84. */
    CURLcode ready = t ? curl_global_init(CURL_GLOBAL_DEFAULT) : CURLE_OUT_OF_MEMORY;
    if (ready != CURLE_OK) {
        free(t);
        return ready == CURLE_OUT_OF_MEMORY
                   ? registry_fail_nomem(error)
                   : daemon_error(error, MLXR_IO, "libcurl, which downloads, is not installed or does not start (%s)",
                                  curl_easy_strerror(ready));
    }
    t->options = *options;
    t->options.stall_s = options->stall_s ? options->stall_s : 30;
    t->options.retry_ms = options->retry_ms ? options->retry_ms : 500;
    t->options.n_retries = options->n_retries ? options->n_retries : 5;
    t->multi = curl_multi_init();
    if (!t->multi) {
        transfer_close(&t);
        return registry_fail_nomem(error);
    }
    *out = t;
    return MLXR_OK;
}

void transfer_close(transfer **pointer)
{
    transfer *t = *pointer;
    if (t) {
        curl_multi_cleanup(t->multi);
        curl_global_cleanup();
        free(t);
        *pointer = NULL;
    }
}

/* ---- URLs -------------------------------------------------------------------------------------------------------- */

static fetch_result give_up(fetch *f, fetch_result result, mlxr_status status, const char *what)
{
    f->status = daemon_error(&f->error, status, "%s: %s", f->host[0] ? f->host : f->begin_url, what);
    return f->result = result;
}

/* One part of a URL into a buffer. */
static bool url_part(CURLU *url, CURLUPart part, unsigned flags, char *out, size_t cap)
{
    char *text = NULL;
    bool ok = curl_url_get(url, part, &text, flags) == CURLUE_OK && strlen(text) < cap;
    if (ok) {
        snprintf(out, cap, "%s", text);
    }
    curl_free(text);
    return ok;
}

typedef struct url_parts {
    char scheme[8], host[256], port[8], whole[TRANSFER_URL_MAX];
} url_parts;

/* Reads a URL, one that is relative to `base` if that is not NULL. False: not one we take. */
static bool url_read(const char *text, const char *base, url_parts *out)
{
    CURLU *url = curl_url();
    bool ok = url && (!base || curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK) &&
              curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              url_part(url, CURLUPART_SCHEME, 0, out->scheme, sizeof out->scheme) &&
              url_part(url, CURLUPART_HOST, 0, out->host, sizeof out->host) &&
              url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, out->port, sizeof out->port) &&
              url_part(url, CURLUPART_URL, 0, out->whole, sizeof out->whole);
    char *name = NULL, *password = NULL; /* "https://good@evil/" is a trick */
    if (ok) {
        ok = curl_url_get(url, CURLUPART_USER, &name, 0) != CURLUE_OK &&
             curl_url_get(url, CURLUPART_PASSWORD, &password, 0) != CURLUE_OK;
    }
    curl_free(name);
    curl_free(password);
    curl_url_cleanup(url);
    return ok && (strcmp(out->scheme, "http") == 0 || strcmp(out->scheme, "https") == 0);
}

bool transfer_same_host(const char *a, const char *b)
{
    url_parts x, y;
    return url_read(a, NULL, &x) && url_read(b, NULL, &y) && strcmp(x.scheme, y.scheme) == 0 &&
           strcasecmp(x.host, y.host) == 0 && strcmp(x.port, y.port) == 0;
}

/* The proxy the environment names for a host, or NULL. */
static const char *find_proxy(bool secure, const char *host)
{
    const char *proxy = getenv(secure ? "https_proxy" : "http_proxy"), *except = getenv("no_proxy");
    proxy = proxy || !secure ? proxy : getenv("HTTPS_PROXY"); /* HTTP_PROXY can come from a header of CGI: not taken */
    proxy = proxy ? proxy : getenv("all_proxy");
    proxy = proxy ? proxy : getenv("ALL_PROXY");
    except = except ? except : getenv("NO_PROXY");
    size_t n_host = strlen(host);
    for (const char *at = except ? except : ""; proxy && *at;) {
        at += strspn(at, ", .");
        size_t n = strcspn(at, ", ");
        bool tail = n > 0 && n <= n_host && strncasecmp(host + n_host - n, at, n) == 0 &&
                    (n == n_host || host[n_host - n - 1] == '.');
        if (tail || (n == 1 && *at == '*')) {
            return NULL;
        }
        at += n;
    }
    return proxy && *proxy ? proxy : NULL;
}

/* ---- what curl calls --------------------------------------------------------------------------------------------- */

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    fetch *f = user;
    (void)purpose;
    if (!f->proxied && address_is_private(&address->addr) &&
        !address_allowed(f->owner->options.allow_private, f->host, f->port)) {
        f->refused = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype, address->protocol);
    if (fd >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC); /* macOS has no SOCK_CLOEXEC */
    }
    return fd;
}

static bool header_is(const char *line, size_t n, const char *name, const char **value, size_t *n_value)
{
    size_t n_name = strlen(name);
    if (n <= n_name || strncasecmp(line, name, n_name) != 0 || line[n_name] != ':') {
        return false;
    }
    const char *at = line + n_name + 1, *end = line + n;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    while (end > at && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *value = at;
    *n_value = (size_t)(end - at);
    return true;
}

static bool keep(char *out, size_t cap, const char *value, size_t n)
{
    if (n >= cap || memchr(value, '\0', n)) {
        return false;
    }
    memcpy(out, value, n);
    out[n] = '\0';
    return true;
}

static void forget_head(fetch *f)
{
    f->code = 0;
    f->has_length = f->has_range = f->encoded = false;
    f->location[0] = f->challenge[0] = f->link[0] = f->etag[0] = '\0';
    f->retry_after_s = 0;
    f->n_head = 0;
}

static bool read_header(fetch *f, const char *line, size_t n)
{
    const char *value;
    size_t n_value;
    char text[128];
    if (header_is(line, n, "Location", &value, &n_value)) {
        return keep(f->location, sizeof f->location, value, n_value);
    }
    if (header_is(line, n, "Content-Length", &value, &n_value)) {
        f->has_length = keep(text, sizeof text, value, n_value) && http_number(text, &f->length);
        return f->has_length;
    }
    if (header_is(line, n, "Content-Range", &value, &n_value)) {
        f->has_range = keep(text, sizeof text, value, n_value) &&
                       http_content_range(text, &f->range_first, &f->range_last, &f->range_total);
    } else if (header_is(line, n, "Content-Encoding", &value, &n_value)) {
        f->encoded = n_value > 0 && !(n_value == 8 && strncasecmp(value, "identity", 8) == 0);
    } else if (header_is(line, n, "WWW-Authenticate", &value, &n_value)) {
        keep(f->challenge, sizeof f->challenge, value, n_value);
    } else if (header_is(line, n, "Link", &value, &n_value)) {
        keep(f->link, sizeof f->link, value, n_value);
    } else if (header_is(line, n, "ETag", &value, &n_value)) {
        keep(f->etag, sizeof f->etag, value, n_value);
    } else if (header_is(line, n, "Retry-After", &value, &n_value) && keep(text, sizeof text, value, n_value)) {
        f->retry_after_s = http_retry_after_s(text, 120, 5);
    }
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    fetch *f = user;
    n *= size;
    if (n > 5 && strncasecmp(line, "HTTP/", 5) == 0) {
        forget_head(f);
        curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->code);
    }
    f->n_head += n;
    if (f->n_head > HEAD_BYTES_MAX || !read_header(f, line, n)) {
        give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server sends headers that are too long, or malformed");
        return 0;
    }
    return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    fetch *f = user;
    n *= size;
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->code);
    if (!f->method && (f->code == 200 || f->code == 206)) {
        if (f->encoded) {
            give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server compresses what it was asked to send as it is");
            return 0;
        }
        f->n_body += n;
        return f->sink(f, data, n) ? n : 0;
    }
    f->n_body += n;
    return f->n_body <= OTHER_BODY_MAX && (f->code >= 400 || f->method) ? n : 0; /* the head says all that is needed */
}

static size_t on_upload(char *data, size_t size, size_t n, void *user)
{
    fetch *f = user;
    uint64_t left = f->n_upload - f->n_sent;
    n = size * n < left ? size * n : (size_t)left;
    if (n > 0 && !f->source(f, f->n_sent, data, n)) {
        give_up(f, FETCH_FAILED, MLXR_IO, "what is to be sent cannot be read");
        return CURL_READFUNC_ABORT;
    }
    f->n_sent += n;
    return n;
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

static bool add_header(fetch *f, const char *format, const char *value)
{
    char line[2100];
    int n = snprintf(line, sizeof line, format, value);
    if (n < 0 || (size_t)n >= sizeof line || strpbrk(line, "\r\n")) {
        return false;
    }
    struct curl_slist *more = curl_slist_append(f->headers, line);
    f->headers = more ? more : f->headers;
    return more != NULL;
}

static bool set_headers(fetch *f)
{
    char range[64];
    bool ok = add_header(f, "Accept: %s", f->accept ? f->accept : "*/*") &&
              add_header(f, "Accept-Encoding: %s", "identity");
    if (f->bearer && transfer_same_host(f->begin_url, f->url)) {
        ok = ok && add_header(f, "Authorization: Bearer %s", f->bearer);
    }
    if (f->to > f->from) {
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)f->from, (unsigned long long)f->to - 1);
        ok = ok && add_header(f, "Range: bytes=%s", range);
        ok = ok && (!f->if_range || add_header(f, "If-Range: %s", f->if_range));
    }
    if (f->method) {
        ok = ok && add_header(f, "Expect:%s", "") &&
             (!f->content_type || add_header(f, "Content-Type: %s", f->content_type));
    }
    return ok;
}

static bool set_options(fetch *f, const char *proxy)
{
    CURL *e = f->easy;
    const char *trusted = getenv("SSL_CERT_FILE"); /* as for curl and others: who has an authority of their own */
    long connect_ms = (long)f->owner->options.stall_s * 1000;
    CURLcode bad = CURLE_OK;
#define SET(option, value) bad = bad ? bad : curl_easy_setopt(e, option, value)
    SET(CURLOPT_URL, f->url);
    SET(CURLOPT_HTTPHEADER, f->headers);
    SET(CURLOPT_USERAGENT, "mlxr/" MLXR_VERSION);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PROXY, proxy ? proxy : "");
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    SET(CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES_PER_S);
    SET(CURLOPT_LOW_SPEED_TIME, (long)f->owner->options.stall_s);
    SET(CURLOPT_ERRORBUFFER, f->why);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, f);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, f);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, f);
    SET(CURLOPT_PRIVATE, f);
    if (trusted && *trusted) {
        SET(CURLOPT_CAINFO, trusted);
    }
    if (f->method && strcmp(f->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (f->method) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_CUSTOMREQUEST, f->method);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)f->n_upload);
        SET(CURLOPT_READFUNCTION, on_upload);
        SET(CURLOPT_READDATA, f);
    }
#undef SET
    return bad == CURLE_OK;
}

/* Sends the request for f->url, which was checked. */
static void send_request(fetch *f)
{
    const char *proxy = find_proxy(f->secure, f->host);
    f->proxied = proxy != NULL;
    f->refused = false;
    f->why[0] = '\0';
    f->n_body = 0;
    f->n_sent = 0;
    f->result = FETCH_RUNNING;
    forget_head(f);
    if (f->proxied && address_name_is_private(f->host) &&
        !address_allowed(f->owner->options.allow_private, f->host, f->port)) {
        f->refused = true;
        give_up(f, FETCH_FAILED, MLXR_ARG, "a private address; MLXR_ALLOW_PRIVATE=host lets it be used");
        return;
    }
    f->easy = curl_easy_init();
    if (!f->easy || !set_headers(f) || !set_options(f, proxy) ||
        curl_multi_add_handle(f->owner->multi, f->easy) != CURLM_OK) {
        fetch_stop(f);
        give_up(f, FETCH_FAILED, MLXR_NOMEM, "out of memory, or a header that cannot be sent");
    }
}

/* Takes a URL over after checking it. */
static bool go_to(fetch *f, const char *url, const char *base)
{
    url_parts parts;
    if (!url_read(url, base, &parts)) {
        give_up(f, FETCH_FAILED, MLXR_ARG, "the URL is none that can be fetched: http or https, and no user in it");
        return false;
    }
    bool secure = strcmp(parts.scheme, "https") == 0;
    if (base && f->secure && !secure) {
        give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server redirects from https to http");
        return false;
    }
    f->secure = secure;
    f->port = (unsigned)strtoul(parts.port, NULL, 10);
    snprintf(f->host, sizeof f->host, "%s", parts.host);
    snprintf(f->url, sizeof f->url, "%s", parts.whole);
    return true;
}

void fetch_start(fetch *f)
{
    f->n_redirects = 0;
    f->status = MLXR_OK;
    f->easy = NULL;
    f->headers = NULL;
    f->host[0] = '\0';
    if (go_to(f, f->begin_url, NULL)) {
        send_request(f);
    }
}

void fetch_stop(fetch *f)
{
    if (f->easy) {
        curl_multi_remove_handle(f->owner->multi, f->easy);
        curl_easy_cleanup(f->easy);
    }
    curl_slist_free_all(f->headers);
    f->easy = NULL;
    f->headers = NULL;
}

static bool is_redirect(long code)
{
    return code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
}

static void follow(fetch *f)
{
    char location[TRANSFER_URL_MAX], base[TRANSFER_URL_MAX];
    fetch_stop(f);
    if (!f->location[0]) {
        give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server redirects without telling where to");
    } else if (++f->n_redirects > TRANSFER_REDIRECTS_MAX) {
        give_up(f, FETCH_FAILED, MLXR_LIMIT, "more than 10 redirects");
    } else {
        snprintf(location, sizeof location, "%s", f->location);
        snprintf(base, sizeof base, "%s", f->url);
        if (go_to(f, location, base)) {
            send_request(f);
        }
    }
}

static void judge_code(fetch *f)
{
    char text[160];
    long c = f->code;
    snprintf(text, sizeof text, "the server answers %ld%s", c,
             c == 401   ? ": it wants a login, or the model does not exist"
             : c == 403 ? ": it does not give this to us; some models want their terms accepted, and HF_TOKEN set"
             : c == 404 ? ": not found"
                        : "");
    if (c == 408 || c == 429 || c >= 500) {
        give_up(f, FETCH_RETRY, MLXR_IO, text);
    } else {
        give_up(f, FETCH_FAILED, MLXR_ARG, text);
    }
}

/* A request is over: what became of it. */
static void finish(fetch *f, CURLcode code)
{
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->code);
    if (f->result == FETCH_FAILED) { /* a callback has said why */
    } else if (f->refused) {
        give_up(f, FETCH_FAILED, MLXR_ARG, "a private address; MLXR_ALLOW_PRIVATE=host lets it be used");
    } else if (f->method && is_redirect(f->code)) {
        give_up(f, FETCH_FAILED, MLXR_UNSUPPORTED, "the server wants uploads to be sent elsewhere");
    } else if (f->method && f->code >= 200 && f->code < 300 && code == CURLE_OK) {
        f->result = FETCH_DONE;
    } else if (is_redirect(f->code) && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
        follow(f);
        return;
    } else if (f->code >= 300 && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
        judge_code(f);
    } else if (f->code > 200 && f->code != 206 && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
        give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server answers with something that is no file");
    } else if (f->status != MLXR_OK) { /* the sink stopped it */
        f->result = f->result == FETCH_RUNNING ? FETCH_FAILED : f->result;
    } else if (code == CURLE_OUT_OF_MEMORY) {
        give_up(f, FETCH_FAILED, MLXR_NOMEM, "out of memory");
    } else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
        give_up(f, FETCH_FAILED, MLXR_IO, f->why[0] ? f->why : curl_easy_strerror(code));
    } else if (code != CURLE_OK) {
        give_up(f, FETCH_RETRY, MLXR_IO, f->why[0] ? f->why : curl_easy_strerror(code));
    } else if (f->code != 200 && f->code != 206) {
        give_up(f, FETCH_FAILED, MLXR_FORMAT, "the server answers with something that is no file");
    } else {
        f->result = FETCH_DONE;
    }
    fetch_stop(f);
}

/* ---- driving ----------------------------------------------------------------------------------------------------- */

static mlxr_status check_cancel(const transfer *t, mlxr_error *error)
{
    if (t->options.go_on && !t->options.go_on(t->options.user)) {
        return daemon_error(error, MLXR_LIMIT, "cancelled; what was downloaded is kept for the next time");
    }
    return MLXR_OK;
}

/* Ends the requests that are over. Returns how many. */
static size_t finish_all(transfer *t)
{
    int n_left;
    size_t n = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(t->multi, &n_left)) != NULL;) {
        fetch *f = NULL;
        if (message->msg == CURLMSG_DONE) {
            CURLcode result = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&f);
            finish(f, result);
            n++;
        }
    }
    return n;
}

mlxr_status transfer_turn(transfer *t, int wait_ms, mlxr_error *error)
{
    int n_running = 0;
    CURLMcode code = curl_multi_perform(t->multi, &n_running);
    if (code == CURLM_OK && finish_all(t) == 0) {
        code = curl_multi_poll(t->multi, NULL, 0, wait_ms < 100 ? wait_ms : 100, NULL);
        code = code == CURLM_OK ? curl_multi_perform(t->multi, &n_running) : code;
        finish_all(t);
    }
    if (code != CURLM_OK) {
        return daemon_error(error, code == CURLM_OUT_OF_MEMORY ? MLXR_NOMEM : MLXR_IO, "the download cannot go on: %s",
                            curl_multi_strerror(code));
    }
    return check_cancel(t, error);
}

mlxr_status transfer_pause(transfer *t, uint64_t wait_ms, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (uint64_t waited = 0; waited < wait_ms && status == MLXR_OK; waited += 50) {
        uint64_t step = wait_ms - waited < 50 ? wait_ms - waited : 50;
        nanosleep(&(struct timespec){.tv_nsec = (long)step * 1000000}, NULL);
        status = check_cancel(t, error);
    }
    return status;
}

uint64_t transfer_backoff_ms(const transfer *t, const fetch *f, unsigned n)
{
    uint64_t wait = (uint64_t)t->options.retry_ms << (n < 7 ? n - 1 : 6);
    wait = wait < 30000 ? wait : 30000;
    uint64_t asked = (uint64_t)f->retry_after_s * 1000;
    return wait > asked ? wait : asked;
}

/* ---- small documents --------------------------------------------------------------------------------------------- */

typedef struct document {
    char *data;
    size_t n, limit;
} document;

static bool collect(fetch *f, const char *data, size_t n)
{
    document *d = f->user;
    if (n > d->limit - d->n) {
        give_up(f, FETCH_FAILED, MLXR_LIMIT, "the answer is longer than such a document may be");
        return false;
    }
    char *grown = realloc(d->data, d->n + n + 1);
    if (!grown) {
        give_up(f, FETCH_FAILED, MLXR_NOMEM, "out of memory");
        return false;
    }
    memcpy(grown + d->n, data, n);
    d->data = grown;
    d->n += n;
    d->data[d->n] = '\0';
    return true;
}

static mlxr_status get_once(transfer *t, fetch *f, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    fetch_start(f);
    while (f->result == FETCH_RUNNING && status == MLXR_OK) {
        status = transfer_turn(t, 100, error);
    }
    fetch_stop(f);
    return status;
}

mlxr_status transfer_get(transfer *t, const char *url, const char *accept, const char *bearer, size_t limit,
                         transfer_answer *out, mlxr_error *error)
{
    document d = {.limit = limit};
    fetch *f = calloc(1, sizeof *f);
    mlxr_status status = f ? MLXR_OK : registry_fail_nomem(error);
    *out = (transfer_answer){0};
    for (unsigned n = 0; status == MLXR_OK; n++) {
        *f = (fetch){.owner = t, .begin_url = url, .accept = accept, .bearer = bearer, .sink = collect, .user = &d};
        d.n = 0;
        status = get_once(t, f, error);
        if (status != MLXR_OK || f->result != FETCH_RETRY || n == t->options.n_retries) {
            break;
        }
        status = transfer_pause(t, transfer_backoff_ms(t, f, n + 1), error);
    }
    if (status == MLXR_OK) {
        bool challenge = f->code == 401 && f->challenge[0] && f->n_redirects == 0;
        if (f->result != FETCH_DONE && !challenge) {
            status = daemon_error(error, f->status, "%s", f->error.text);
        }
        out->code = f->code;
        memcpy(out->challenge, f->challenge, sizeof out->challenge);
        memcpy(out->link, f->link, sizeof out->link);
    }
    free(f);
    if (status == MLXR_OK && !d.data && out->code == 200) { /* empty */
        d.data = calloc(1, 1);
        status = d.data ? MLXR_OK : registry_fail_nomem(error);
    }
    if (status != MLXR_OK) {
        free(d.data);
        return status;
    }
    out->body = d.data;
    out->n = d.n;
    return MLXR_OK;
}

mlxr_status transfer_send(transfer *t, fetch *f, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    f->owner = t;
    for (unsigned n = 0; status == MLXR_OK; n++) {
        status = get_once(t, f, error);
        if (status != MLXR_OK || f->result != FETCH_RETRY || n == t->options.n_retries) {
            break;
        }
        status = transfer_pause(t, transfer_backoff_ms(t, f, n + 1), error);
    }
    return status;
}

bool transfer_location(const char *base, const char *location, char *out)
{
    url_parts parts;
    if (!*location || !url_read(location, base, &parts) || !transfer_same_host(base, parts.whole)) {
        return false;
    }
    snprintf(out, TRANSFER_URL_MAX, "%s", parts.whole);
    return true;
}
