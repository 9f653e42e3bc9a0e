/* SPDX-License-Identifier: Apache-2.0
 *
 * libmicrohttpd with a thread for each connection: an endpoint may wait for the engine where it
 * stands. A body is read whole, within its limits, before an endpoint sees the request. */
#include "http.h"

#include "access.h"
#include "auth.h"
#include "clients.h"
#include "fields.h"
#include "hosts.h"
#include "ration.h"
#include "routes.h"
#include "terminal.h"

#include <microhttpd.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of a body that will be refused so much is read and forgotten, for a client that writes sees no
 * reply before it has written all. */
#define MOST_FORGOTTEN ((size_t)256 << 20)
/* What is made of a body's JSON takes at most so many times its bytes: a prompt, and an id of four
 * bytes for each of its own. */
enum { OF_BODY = 5 };
enum { HEAD_BYTES = 64 << 10, STREAM_BLOCK = 16 << 10, THREAD_STACK = 1 << 20 };

struct http {
	struct server *server;
	struct MHD_Daemon *daemon;
	struct clients clients;
	int fd;           /* that listens; -1: the daemon has it */
	int port;
	bool is_loopback; /* only this machine can reach it */
	atomic_ullong n_exchanges;
};

/* A request on its way through the library. */
struct call {
	struct exchange x;
	struct http *http;
	struct MHD_Connection *connection;
	const struct route *route;
	char methods[ROUTE_METHODS_BYTES]; /* of the path, where the one that came isn't among them */
	size_t n_read;
	bool is_answered; /* a refusal waits in x for the body to end */
	bool is_counted;
	char origin[256]; /* that CORS allows, or "" */
	struct buf pending; /* of a stream: [sent, bytes) is to be written */
	size_t sent;
	bool has_ended;
};

static const char *header(const struct call *c, const char *name) {
	return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name);
}

static const struct call *call_of(const struct exchange *x) {
	return (const struct call *)((const char *)x - offsetof(struct call, x));
}

const char *exchange_header(const struct exchange *x, const char *name) {
	return header(call_of(x), name);
}

const char *exchange_query(const struct exchange *x, const char *name) {
	return MHD_lookup_connection_value(call_of(x)->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* Off while an endpoint works; setting it counts from now. */
static void set_idle_limit(const struct call *c, int seconds) {
	MHD_set_connection_option(c->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	if (seconds > 0) {
		MHD_set_connection_option(c->connection, MHD_CONNECTION_OPTION_TIMEOUT,
			(unsigned)seconds);
	}
}

/* ---- writing ---- */

static ssize_t read_stream(void *user, uint64_t at, char *out, size_t most) {
	struct call *c = user;
	(void)at;
	set_idle_limit(c, 0);
	while (c->sent == c->pending.bytes) {
		if (c->has_ended) {
			return MHD_CONTENT_READER_END_OF_STREAM;
		}
		buf_clear(&c->pending);
		c->sent = 0;
		c->has_ended = !c->x.stream.more(c->x.stream.user, &c->pending);
		if (c->pending.has_failed) {
			return MHD_CONTENT_READER_END_WITH_ERROR;
		}
	}
	set_idle_limit(c, c->http->server->options.idle_s);
	const size_t left = c->pending.bytes - c->sent, n = left < most ? left : most;
	memcpy(out, c->pending.data + c->sent, n);
	c->sent += n;
	return (ssize_t)n;
}

static struct MHD_Response *make_response(struct call *c) {
	struct exchange *x = &c->x;
	if (x->stream.more != NULL) {
		return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, c,
			NULL);
	}
	if (x->fixed != NULL) {
		return MHD_create_response_from_buffer(strlen(x->fixed), (void *)(size_t)x->fixed,
			MHD_RESPMEM_PERSISTENT);
	}
	/* x lives until the connection is done with the response. */
	return MHD_create_response_from_buffer(x->out.bytes, (void *)(size_t)buf_string(&x->out),
		MHD_RESPMEM_PERSISTENT);
}

static void add_headers(struct call *c, struct MHD_Response *r) {
	const struct exchange *x = &c->x;
	const bool is_stream = x->stream.more != NULL;
	if (x->status != MHD_HTTP_NO_CONTENT) {
		MHD_add_response_header(r, "Content-Type", is_stream ? "text/event-stream"
			: x->type != NULL ? x->type : "application/json");
	}
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, x->dialect == DIALECT_ANTHROPIC ? "request-id" : "x-request-id",
		x->id);
	if (x->policy != NULL) {
		MHD_add_response_header(r, "Content-Security-Policy", x->policy);
		MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
	}
	if (x->retry_after_s > 0) {
		char seconds[16];
		snprintf(seconds, sizeof(seconds), "%d", x->retry_after_s);
		MHD_add_response_header(r, "Retry-After", seconds);
	}
	if (x->status == MHD_HTTP_UNAUTHORIZED) {
		MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
	}
	if (c->origin[0] != '\0') {
		MHD_add_response_header(r, "Access-Control-Allow-Origin", c->origin);
		MHD_add_response_header(r, "Vary", "Origin");
		MHD_add_response_header(r, "Access-Control-Expose-Headers", "x-request-id, request-id");
	}
	if (x->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
		MHD_add_response_header(r, "Allow", c->methods);
	}
	if (x->status == MHD_HTTP_NO_CONTENT) { /* what a browser asks before a page of elsewhere may */
		const char *asked = header(c, "Access-Control-Request-Headers");
		MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
		MHD_add_response_header(r, "Access-Control-Allow-Headers",
			asked != NULL ? asked : "authorization, content-type");
		MHD_add_response_header(r, "Access-Control-Max-Age", "600");
	}
	if (atomic_load(&c->http->server->is_draining)) {
		MHD_add_response_header(r, "Connection", "close");
	}
}

static enum MHD_Result answer(struct call *c) {
	struct MHD_Response *response = make_response(c);
	if (response == NULL) {
		return MHD_NO;
	}
	add_headers(c, response);
	set_idle_limit(c, c->http->server->options.idle_s);
	const enum MHD_Result done = MHD_queue_response(c->connection, (unsigned)c->x.status,
		response);
	MHD_destroy_response(response);
	return done;
}

/* ---- reading ---- */

/* A page of somebody else's may not use this server through the browser of who may. */
static bool check_origin(struct call *c) {
	const struct arg_texts *allowed = &c->http->server->options.origins;
	const char *origin = header(c, "Origin"), *host = header(c, "Host");
	if (origin == NULL) {
		return true;
	}
	for (int i = 0; i < allowed->n; i++) {
		if (strcmp(allowed->v[i], "*") == 0 || strcmp(allowed->v[i], origin) == 0) {
			snprintf(c->origin, sizeof(c->origin), "%s",
				strcmp(allowed->v[i], "*") == 0 ? "*" : origin);
			return true;
		}
	}
	const char *slashes = strstr(origin, "://");
	return slashes != NULL && host != NULL && strcasecmp(slashes + 3, host) == 0;
}

/* Anthropic's clients say so, also where they ask for what both APIs have. */
static enum dialect dialect_of(const struct call *c, enum dialect of_path) {
	return header(c, "anthropic-version") != NULL ? DIALECT_ANTHROPIC : of_path;
}

/* What the head alone decides; true: the endpoint is to be called. */
static bool check_head(struct call *c) {
	struct exchange *x = &c->x;
	const struct server *s = c->http->server;
	const char *host = header(c, "Host");
	x->dialect = dialect_of(c, x->dialect);
	if (c->http->is_loopback && !host_is_allowed(&s->options, host)) {
		return reply_error(x, 403, NULL, "host_not_allowed",
			"requests for the host '%.100s' aren't allowed, expected localhost or a name that "
			"--allowed-host gives", host);
	}
	if (!check_origin(c)) {
		return reply_error(x, 403, NULL, "origin_not_allowed",
			"requests from pages of other origins aren't allowed; --cors-origin allows one");
	}
	if (strcmp(x->method, "OPTIONS") == 0 && c->origin[0] != '\0') {
		x->status = MHD_HTTP_NO_CONTENT;
		return false;
	}
	c->route = route_find(x->method, x->path, c->methods);
	if (c->route == NULL && c->methods[0] != '\0') {
		return reply_error(x, 405, NULL, "method_not_allowed", "%.40s isn't for this path, "
			"expected %s", x->method, c->methods);
	}
	if (c->route == NULL) {
		return reply_error(x, 404, NULL, "not_found", "there is nothing at '%.200s'", x->path);
	}
	x->dialect = dialect_of(c, c->route->dialect);
	x->key = auth_key(&s->options.keys, header(c, "Authorization"), header(c, "x-api-key"));
	if (!c->route->is_open && x->key < 0) {
		const bool has_key = header(c, "Authorization") != NULL || header(c, "x-api-key") != NULL;
		return reply_error(x, 401, NULL, "invalid_api_key", "%s, expected 'Authorization: Bearer "
			"KEY'", has_key ? "the key that came isn't one of this server" : "no key came");
	}
	return true;
}

static bool check_length(struct call *c) {
	const char *length = header(c, "Content-Length");
	const size_t most = c->http->server->options.max_body_bytes;
	if (length != NULL && strtoull(length, NULL, 10) > most) {
		return reply_error(&c->x, 413, NULL, "request_too_large",
			"the body has %.20s bytes, expected at most %zu", length, most);
	}
	return true;
}

static enum MHD_Result begin(struct call *c) {
	c->is_answered = !check_head(c) || !check_length(c);
	const char *length = header(c, "Content-Length");
	const bool waits = header(c, "Expect") != NULL;
	const bool is_huge = length != NULL && strtoull(length, NULL, 10) > MOST_FORGOTTEN;
	return c->is_answered && (waits || is_huge) ? answer(c) : MHD_YES;
}

static enum MHD_Result receive(struct call *c, const char *data, size_t *bytes) {
	const size_t most = c->http->server->options.max_body_bytes;
	c->n_read += *bytes;
	if (!c->is_answered && c->n_read > most) {
		c->is_answered = true;
		buf_finish(&c->x.body);
		reply_error(&c->x, 413, NULL, "request_too_large",
			"the body has more than %zu bytes", most);
	}
	if (!c->is_answered) {
		buf_add(&c->x.body, data, *bytes);
	}
	if (!c->is_answered && c->x.body.has_failed) {
		c->is_answered = true;
		buf_finish(&c->x.body);
		reply_no_memory(&c->x);
	}
	*bytes = 0;
	return c->n_read > MOST_FORGOTTEN ? MHD_NO : MHD_YES;
}

static void work(struct call *c) {
	struct exchange *x = &c->x;
	struct server *s = c->http->server;
	if (c->route->is_work && atomic_load(&s->is_draining)) {
		reply_error(x, 503, NULL, "shutting_down", "the server is about to end");
		return;
	}
	if (c->route->is_work && atomic_load(&s->is_broken)) {
		reply_error(x, 503, NULL, "server_error", "%s", s->broken.text);
		return;
	}
	const size_t bytes = x->body.bytes;
	if (!c->route->has_body || fields_parse(x)) {
		buf_finish(&x->body);
		if (ration_take(OF_BODY * bytes)) {
			c->route->handle(x);
		} else {
			reply_no_memory(x);
		}
	}
	exchange_drop_input(x);
}

static enum MHD_Result finish_request(struct call *c) {
	if (!c->is_answered) {
		clients_mark(&c->http->clients, c->x.client, true);
		set_idle_limit(c, 0);
		work(c);
	}
	return answer(c);
}

static struct call *new_call(struct http *h, struct MHD_Connection *connection, const char *method,
	const char *path) {
	struct call *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	c->http = h;
	c->connection = connection;
	c->x = (struct exchange){ .server = h->server, .method = method, .path = path,
		.dialect = route_dialect(path), .start = seconds_now(), .first_s = -1, .client = -1 };
	snprintf(c->x.id, sizeof(c->x.id), "req_%08llx%08llx",
		(unsigned long long)(bb_random_seed() & 0xFFFFFFFF),
		atomic_fetch_add(&h->n_exchanges, 1) & 0xFFFFFFFF);
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	c->x.client = info != NULL ? info->connect_fd : -1;
	atomic_fetch_add(&h->server->n_open, 1);
	return c;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *path,
	const char *method, const char *version, const char *data, size_t *bytes, void **state) {
	(void)version;
	struct call *c = *state;
	if (c == NULL) {
		c = *state = new_call(user, connection, method, path);
		return c != NULL ? begin(c) : MHD_NO;
	}
	return *bytes > 0 ? receive(c, data, bytes) : finish_request(c);
}

static void completed(void *user, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code) {
	struct http *h = user;
	struct call *c = *state;
	(void)connection;
	if (c == NULL) {
		return;
	}
	*state = NULL;
	if (c->x.stream.more != NULL) {
		c->x.stream.end(c->x.stream.user);
	}
	access_log(&c->x, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	metrics_reply(&h->server->metrics, &c->x);
	set_idle_limit(c, h->server->options.idle_s);
	clients_mark(&h->clients, c->x.client, false);
	buf_finish(&c->x.body);
	buf_finish(&c->x.out);
	buf_finish(&c->pending);
	json_decref(c->x.in);
	free(c);
	ration_forget();
	atomic_fetch_sub(&h->server->n_open, 1);
}

/* ---- connections ---- */

static void connected(void *user, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode code) {
	struct http *h = user;
	(void)context;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info != NULL && code == MHD_CONNECTION_NOTIFY_STARTED) {
		clients_add(&h->clients, info->connect_fd);
	} else if (info != NULL) {
		clients_remove(&h->clients, info->connect_fd);
	}
}

static void no_log(void *user, const char *format, va_list args) {
	(void)user, (void)format, (void)args;
}

static bool bind_to(const struct addrinfo *a, int *fd) {
	const int on = 1;
	*fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd >= 0) {
		setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(*fd, a->ai_addr, a->ai_addrlen) == 0) {
			return true;
		}
		const int reason = errno;
		close(*fd);
		errno = reason;
	}
	return false;
}

static bool fail_to_listen(const struct server_options *o, int reason, struct bb_error *err) {
	return server_fail(err, BB_ERR_IO, "'%.100s' port %d can't be listened on: %s", o->host,
		o->port, strerror(reason));
}

static bool open_port(struct http *h, const struct server_options *o, struct bb_error *err) {
	char digits[16];
	snprintf(digits, sizeof(digits), "%d", o->port);
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list = NULL;
	const int status = getaddrinfo(o->host, digits, &want, &list);
	if (status != 0) {
		return server_fail(err, BB_ERR_USAGE, "'%.100s' is no address to listen on: %s", o->host,
			gai_strerror(status));
	}
	bool ok = false;
	for (const struct addrinfo *a = list; !ok && a != NULL; a = a->ai_next) {
		ok = bind_to(a, &h->fd);
	}
	const int reason = errno;
	freeaddrinfo(list);
	if (!ok) {
		h->fd = -1;
		return fail_to_listen(o, reason, err);
	}
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	getsockname(h->fd, (struct sockaddr *)&address, &bytes);
	char name[NI_MAXSERV] = "";
	getnameinfo((struct sockaddr *)&address, bytes, NULL, 0, name, sizeof(name), NI_NUMERICSERV);
	h->port = atoi(name);
	h->is_loopback = host_is_loopback((struct sockaddr *)&address);
	return true;
}

bool http_create(struct http **out, const struct server_options *o, struct bb_error *err) {
	*out = NULL;
	struct http *h = calloc(1, sizeof(*h));
	if (h == NULL) {
		return server_fail(err, BB_ERR_MEMORY, "no memory for the server");
	}
	h->fd = -1;
	clients_init(&h->clients);
	if (!open_port(h, o, err)) {
		http_stop(h);
		return false;
	}
	*out = h;
	return true;
}

bool http_start(struct http *h, struct server *s, struct bb_error *err) {
	h->server = s;
	if (listen(h->fd, 1024) != 0) {
		return fail_to_listen(&s->options, errno, err);
	}
	h->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
		MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, h,
		MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->fd,
		MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_NOTIFY_CONNECTION, connected, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.max_connections,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->options.idle_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_STACK, MHD_OPTION_END);
	if (h->daemon == NULL) {
		return server_fail(err, BB_ERR_IO, "the HTTP server couldn't be started");
	}
	h->fd = -1;
	return true;
}

int http_port(const struct http *h) {
	return h->port;
}

void http_sweep(struct http *h) {
	clients_sweep(&h->clients, h->server->options.receive_s);
}

void http_stop(struct http *h) {
	if (h == NULL) {
		return;
	}
	if (h->daemon != NULL) {
		MHD_stop_daemon(h->daemon);
	}
	if (h->fd >= 0) {
		close(h->fd);
	}
	clients_finish(&h->clients);
	free(h);
}
