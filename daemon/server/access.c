/*
 * Host, Origin, Content-Type.
 * Owner: the router. Lifetime: the call.
 */
#include "server/access.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const access_verdict passes = {0};

static access_verdict refuse(int status, const char *message)
{
    return (access_verdict){status, message};
}

static bool same(const char *text, size_t n, const char *other)
{
    return strlen(other) == n && strncasecmp(text, other, n) == 0;
}

static bool in_list(const access_list *list, const char *text, size_t n)
{
    for (size_t i = 0; i < list->n; i++) {
        if (same(text, n, list->items[i])) {
            return true;
        }
    }
    return false;
}

/* Cuts "name:port" or "[address]:port"; *n is the length of the name, brackets and all. */
static bool split_host(const char *host, size_t *n)
{
    const char *end = host[0] == '[' ? strchr(host, ']') : host + strcspn(host, ":");
    if (!end) {
        return false;
    }
    end += *end == ']';
    *n = (size_t)(end - host);
    if (*n == 0 || *end == '\0') {
        return *n > 0;
    }
    size_t n_digits = end[0] == ':' ? strspn(end + 1, "0123456789") : 0;
    if (n_digits == 0 || n_digits > 5 || end[1 + n_digits]) {
        return false;
    }
    long port = strtol(end + 1, NULL, 10);
    return port > 0 && port <= 65535;
}

/* The address the client connected to, as a Host would spell it. */
static bool is_local(const char *local, const char *host, size_t n)
{
    if (strcmp(local, "unix") == 0) {
        return false;
    }
    if (strchr(local, ':')) {
        return n > 2 && host[0] == '[' && same(host + 1, n - 2, local);
    }
    return same(host, n, local);
}

access_verdict access_check_host(const access_rules *rules, const access_request *r)
{
    size_t n = 0;
    if (r->n_hosts != 1) {
        return refuse(400, r->n_hosts ? "the header Host is given more than once" : "the header Host is missing");
    }
    if (!split_host(r->host, &n)) {
        return refuse(403, "the header Host is not a host this server answers for");
    }
    if (same(r->host, n, "localhost") || same(r->host, n, "127.0.0.1") || same(r->host, n, "[::1]") ||
        is_local(r->local, r->host, n) || in_list(&rules->hosts, r->host, n)) {
        return passes;
    }
    return refuse(403, "the header Host is not a host this server answers for; --allow-host adds one");
}

/* The origin of pages that this server itself gives out. */
static bool own_origin(const access_request *r)
{
    const char *scheme = r->tls ? "https://" : "http://";
    size_t n = strlen(scheme);
    return strncasecmp(r->origin, scheme, n) == 0 && strcasecmp(r->origin + n, r->host) == 0;
}

access_verdict access_check_origin(const access_rules *rules, const access_request *r, bool *cross)
{
    if (cross) {
        *cross = false;
    }
    if (r->n_origins > 1) {
        return refuse(403, "the header Origin is given more than once");
    }
    if (r->origin && own_origin(r)) {
        return passes;
    }
    if (r->origin) {
        if (!in_list(&rules->origins, r->origin, strlen(r->origin))) {
            return refuse(403, "web pages of this origin may not use this server; --allow-origin adds one");
        }
        if (cross) {
            *cross = true;
        }
        return passes;
    }
    bool foreign = r->fetch_site &&
                   (strcasecmp(r->fetch_site, "cross-site") == 0 || strcasecmp(r->fetch_site, "same-site") == 0);
    bool followed_link = r->is_public && r->is_get && r->fetch_mode && strcasecmp(r->fetch_mode, "navigate") == 0;
    if (foreign && !followed_link) {
        return refuse(403, "web pages of other sites may not use this server");
    }
    return passes;
}

/* "application/json", perhaps with "; charset=utf-8". */
static bool says_json(const char *type)
{
    size_t n = strcspn(type, "; \t");
    if (!same(type, n, "application/json")) {
        return false;
    }
    type += n + strspn(type + n, " \t");
    if (!*type) {
        return true;
    }
    if (*type++ != ';') {
        return false;
    }
    type += strspn(type, " \t");
    return !*type || strcasecmp(type, "charset=utf-8") == 0 || strcasecmp(type, "charset=\"utf-8\"") == 0;
}

access_verdict access_check_json(const access_request *r)
{
    if (!r->has_body && r->n_content_types == 0) {
        return passes;
    }
    if (r->n_content_types != 1 || !says_json(r->content_type)) {
        return refuse(415, "the body must be JSON and say so: Content-Type: application/json");
    }
    return passes;
}

bool access_is_loopback(const char *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1) {
        return ntohl(four.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}
