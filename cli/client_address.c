/*
 * Where a daemon is, as $MLXR_HOST and --server say it.
 * Owner: the caller. Lifetime: the call.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define LISTENS_MS 500

static bool read_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || number == 0 || number > 65535) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

/* "host", "host:port", ":port", "[::1]:port", "::1"; what is left out stays. */
static bool split(char *text, const char **host, uint16_t *port)
{
    char *colon = strrchr(text, ':'), *bracket = strchr(text, ']');
    if (*text == '[') {
        if (!bracket || (bracket[1] && bracket[1] != ':')) {
            return false;
        }
        *bracket = '\0';
        *host = text + 1;
        return bracket[1] ? read_port(bracket + 2, port) : true;
    }
    bool v6 = colon && strchr(text, ':') != colon;
    if (colon && !v6) {
        *colon = '\0';
        if (!read_port(colon + 1, port)) {
            return false;
        }
    }
    *host = *text ? text : *host;
    return true;
}

/* What may stand in a host's name: nothing that would make another URL of it. */
static bool host_is_plain(const char *host)
{
    return *host && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%") == strlen(host);
}

bool client_address_parse(const char *text, client_address *out)
{
    char copy[256];
    const char *host = "127.0.0.1";
    *out = (client_address){.port = CLIENT_PORT};
    if (strncmp(text, "unix:", 5) == 0 || *text == '/') {
        text += *text == '/' ? 0 : 5;
        snprintf(out->url, sizeof out->url, "http://localhost");
        snprintf(out->host, sizeof out->host, "localhost");
        return *text == '/' && snprintf(out->socket, sizeof out->socket, "%s", text) < (int)sizeof out->socket;
    }
    if (strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0) {
        out->tls = text[4] != ':';
        out->port = out->tls ? 443 : 80;
        text += out->tls ? 8 : 7;
    }
    size_t n = strlen(text);
    n -= n > 0 && text[n - 1] == '/';
    if (n >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (!split(copy, &host, &out->port) || !host_is_plain(host)) {
        return false;
    }
    snprintf(out->bind, sizeof out->bind, "%s", host);
    /* To listen everywhere is no place to connect to. */
    host = strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(host, "::") == 0 ? "::1" : host;
    bool v6 = strchr(host, ':') != NULL;
    snprintf(out->host, sizeof out->host, "%s", host);
    snprintf(out->url, sizeof out->url, "%s://%s%s%s:%u", out->tls ? "https" : "http", v6 ? "[" : "", out->host,
             v6 ? "]" : "", out->port);
    return true;
}

/* False: refused. One whose queue is full may not answer at all: that is somebody. */
static bool connects(int family, const struct sockaddr *address, socklen_t n)
{
    int fd = socket(family, SOCK_STREAM, 0), problem = 0;
    socklen_t n_problem = sizeof problem;
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || connect(fd, address, n) != 0) {
        problem = errno;
    }
    if (problem == EINPROGRESS) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        problem = poll(&wait, 1, LISTENS_MS) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &n_problem) != 0
                      ? errno
                      : problem;
    }
    if (fd >= 0) {
        close(fd);
    }
    return problem == 0 || problem == EINPROGRESS || problem == EAGAIN;
}

/* On this machine a refusal comes at once; elsewhere it is left to who asks, who has a time limit. */
bool client_listens(const client_address *a)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    struct sockaddr_un file = {.sun_family = AF_UNIX};
    if (*a->socket) {
        return strlen(a->socket) < sizeof file.sun_path &&
               snprintf(file.sun_path, sizeof file.sun_path, "%s", a->socket) > 0 &&
               connects(AF_UNIX, (const struct sockaddr *)&file, sizeof file);
    }
    bool loopback = strncmp(a->host, "127.", 4) == 0 && inet_pton(AF_INET, a->host, &v4.sin_addr) == 1;
    return !loopback || connects(AF_INET, (const struct sockaddr *)&v4, sizeof v4);
}

bool client_on_this_machine(const client_address *a)
{
    return *a->socket || strcmp(a->host, "localhost") == 0 || strcmp(a->host, "::1") == 0 ||
           strncmp(a->host, "127.", 4) == 0;
}

const char *client_address_text(const client_address *a)
{
    return *a->socket ? a->socket : a->url;
}
