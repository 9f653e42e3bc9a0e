/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP: listening, reading requests within limits, writing replies and streams. */
#ifndef HTTP_H
#define HTTP_H

#include "server.h"

struct http;
/* Takes the address and the port, before a model is loaded for nothing; clients are refused until
 * http_start. o is borrowed until then. */
bool http_create(struct http **out, const struct server_options *o, struct bb_error *err);
bool http_start(struct http *h, struct server *s, struct bb_error *err);
int http_port(const struct http *h);
/* Hangs up on those whose request takes too long to come. Once a second or so. */
void http_sweep(struct http *h);
/* Ends all connections, and frees it; NULL is fine. */
void http_stop(struct http *h);

#endif
