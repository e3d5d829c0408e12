/*
 * Which network addresses a download may connect to.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_ADDRESS_H
#define MLXR_REGISTRY_ADDRESS_H

#include <sys/socket.h>

#include "mlxr.h"

/* Whether an address is not a host of the public Internet's: loopback, private, link-local, shared, multicast,
 * reserved, and IPv6 forms that carry such an IPv4 address. Other families than IPv4 and IPv6 are. */
bool address_is_private(const struct sockaddr *address);
/* Whether a host's name is itself such an address, or means this machine ("localhost"). For connections through a
 * proxy, which resolves names where we cannot see it. */
bool address_name_is_private(const char *host);
/* Whether host:port is among those allowed: "host", "host:port", "*", with commas between. */
bool address_allowed(const char *allowed, const char *host, unsigned port);

#endif
