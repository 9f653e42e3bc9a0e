/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP: listening, reading requests within limits, writing replies and streams. */
#ifndef HTTP_H
#define HTTP_H

#include "server.h"

struct http;
bool http_start(struct http **out, struct server *s, struct bb_error *err);
int http_port(const struct http *h);
/* Hangs up on those whose request takes too long to come. Once a second or so. */
void http_sweep(struct http *h);
/* Ends all connections. */
void http_stop(struct http *h);

#endif
