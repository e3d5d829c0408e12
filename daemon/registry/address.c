/*
 * Which network addresses a download may connect to.
 * Owner: none. Lifetime: the call.
 */
#include "registry/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The registry of special-purpose addresses (RFC 6890 and its successors). */
static bool v4_is_private(uint32_t a)
{
    static const struct {
        uint32_t network, bits;
    } ranges[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
        {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
        {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if ((a ^ ranges[i].network) >> (32 - ranges[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t v4_at(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool v6_is_private(const uint8_t b[16])
{
    static const uint8_t zeros[16], nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(b, zeros, 10) == 0 && ((b[10] == 0xff && b[11] == 0xff) || (b[10] == 0 && b[11] == 0))) {
        return b[10] == 0 || v4_is_private(v4_at(b + 12)); /* mapped; unspecified, loopback and compatible ones */
    }
    if (memcmp(b, nat64, 12) == 0) {
        return v4_is_private(v4_at(b + 12));
    }
    if (b[0] == 0x20 && b[1] == 0x02) { /* 6to4 */
        return v4_is_private(v4_at(b + 2));
    }
    bool documentation = b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0d && b[3] == 0xb8;
    bool special = b[0] == 0x20 && b[1] == 0x01 && b[2] < 0x02; /* 2001::/23, Teredo among them */
    return (b[0] & 0xe0) != 0x20 || documentation || special;   /* global unicast is 2000::/3 */
}

bool address_is_private(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return v4_is_private(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        return v6_is_private(v6.sin6_addr.s6_addr);
    }
    return true;
}

bool address_name_is_private(const char *host)
{
    char bare[256];
    uint8_t v6[16];
    struct in_addr v4;
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof bare) {
        return true;
    }
    memcpy(bare, host, n);
    bare[n] = '\0';
    n -= bare[n - 1] == '.'; /* the root */
    bare[n] = '\0';
    if (inet_pton(AF_INET6, bare, v6) == 1) {
        return v6_is_private(v6);
    }
    if (inet_aton(bare, &v4)) { /* with all the old ways to write one */
        return v4_is_private(ntohl(v4.s_addr));
    }
    return strcasecmp(bare, "localhost") == 0 || (n > 10 && strcasecmp(bare + n - 10, ".localhost") == 0);
}

bool address_allowed(const char *allowed, const char *host, unsigned port)
{
    char with_port[300];
    snprintf(with_port, sizeof with_port, "%s:%u", host, port);
    for (const char *at = allowed ? allowed : ""; *at;) {
        size_t n = strcspn(at, ",");
        if ((n == 1 && (*at == '*' || *at == '1')) || (n == strlen(host) && strncasecmp(at, host, n) == 0) ||
            (n == strlen(with_port) && strncasecmp(at, with_port, n) == 0)) {
            return true;
        }
        at += n + (at[n] == ',');
    }
    return false;
}
