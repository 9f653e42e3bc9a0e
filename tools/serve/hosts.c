/* SPDX-License-Identifier: Apache-2.0
 *
 * Names are compared without their ports and without the brackets of IPv6 addresses. */
#include "hosts.h"

#include <netinet/in.h>
#include <string.h>
#include <strings.h>

bool host_is_loopback(const struct sockaddr *address) {
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)address;
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	const struct sockaddr_in6 *in6 = (const void *)address;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/* Whether `host` is this name, and behind it nothing or a port. */
static bool is_host(const char *host, const char *name) {
	const bool has_brackets = host[0] == '[';
	const size_t n = strlen(name);
	host += has_brackets;
	if (n == 0 || strncasecmp(host, name, n) != 0 ||
		has_brackets != (strchr(name, ':') != NULL)) {
		return false;
	}
	host += n;
	if (has_brackets && *host++ != ']') {
		return false;
	}
	return *host == '\0' || (*host == ':' && strspn(host + 1, "0123456789") == strlen(host + 1));
}

bool host_is_allowed(const struct server_options *o, const char *host) {
	static const char *const own[] = { "localhost", "127.0.0.1", "::1" };
	bool ok = host == NULL || is_host(host, o->host);
	for (size_t i = 0; !ok && i < sizeof(own) / sizeof(own[0]); i++) {
		ok = is_host(host, own[i]);
	}
	for (int i = 0; !ok && i < o->hosts.n; i++) {
		ok = is_host(host, o->hosts.v[i]);
	}
	return ok;
}
