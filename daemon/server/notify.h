/*
 * The service manager: what systemd is told, and the sockets it hands over. The protocol is a datagram and three
 * variables of the environment, so that no library is needed. Owner: daemon_run. Lifetime: the process.
 */
#ifndef MLXR_SERVER_NOTIFY_H
#define MLXR_SERVER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1", …; nothing without $NOTIFY_SOCKET. False: it was not delivered. */
bool notify_send(const char *state);
/* How often the manager wants to hear of a living daemon; 0: not at all. */
uint64_t notify_watchdog_us(void);
/* How many listening sockets were handed over; they are NOTIFY_FIRST_FD and those behind it. The environment forgets
 * them, so that no child takes them for its own. */
#define NOTIFY_FIRST_FD 3
unsigned notify_sockets(void);

#endif
