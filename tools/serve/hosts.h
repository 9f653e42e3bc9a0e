/* SPDX-License-Identifier: Apache-2.0
 *
 * By which names a server may be called that listens to its own machine alone. A page of a stranger
 * can have its name resolve to this machine (DNS rebinding); then its requests come from here, and
 * Origin and Host agree, but both say the stranger's name. */
#ifndef HOSTS_H
#define HOSTS_H

#include "server.h"

#include <sys/socket.h>

/* Whether nobody but this machine can reach the address. */
bool host_is_loopback(const struct sockaddr *address);
/* A Host header, with or without a port; NULL, which no browser sends, is allowed. */
bool host_is_allowed(const struct server_options *o, const char *host);

#endif
