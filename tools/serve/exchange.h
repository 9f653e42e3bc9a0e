/* SPDX-License-Identifier: Apache-2.0
 *
 * One request and its reply, as the endpoints see them: no sockets, no library. An endpoint reads
 * `in`, and either fills `out` or leaves a stream behind. */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "bobbin.h"
#include "buf.h"

#include <stdint.h>

struct server;

/* How errors look. */
enum dialect { DIALECT_OPENAI, DIALECT_ANTHROPIC };

/* What is written while it comes to be, as server-sent events. */
struct stream {
	/* Waits for what comes next and adds it; false: there will be no more. */
	bool (*more)(void *user, struct buf *out);
	void (*end)(void *user); /* once, also when the client left in between */
	void *user;
};

struct exchange {
	struct server *server;
	const char *method, *path;   /* borrowed */
	enum dialect dialect;
	struct buf body;
	json_t *in;                  /* the body, an object; NULL where the route takes none */
	int client;                  /* its socket */
	char id[40];                 /* for x-request-id and the log */
	int key;                     /* which of the server's it came with; 0 where there are none */
	double start;                /* seconds_now() when the head had come */

	int status;                  /* 0: not replied yet */
	struct buf out;
	const char *fixed;           /* instead of out, where there is no memory; static */
	const char *type;            /* of the content; NULL: JSON */
	const char *policy;          /* its Content-Security-Policy, static; NULL: none */
	int retry_after_s;           /* 0: not said */
	struct stream stream;        /* more != NULL: instead of out */

	/* for the log and the metrics */
	int n_prompt, n_cached, n_output;
	double first_s;              /* until the first token, < 0: there was none */
	const char *error;           /* its code, static; NULL: none */
};

/* The rest of a path behind the route's, "": none. */
const char *exchange_rest(const struct exchange *x, const char *prefix);
/* What it said isn't needed any more: it's answered, or under way. */
void exchange_drop_input(struct exchange *x);
/* A field of the query behind the path, decoded; or of the head. NULL: it isn't there. Implemented
 * by who has the request, http.c. */
const char *exchange_query(const struct exchange *x, const char *name);
const char *exchange_header(const struct exchange *x, const char *name);
/* Sleeps until fd can be read, or for most_ms (-1: for ever): 1, or 0 after that time, or -1 as
 * soon as the client has left or the server cuts off what is under way. */
int exchange_wait(const struct exchange *x, int fd, int most_ms);

/* ---- replies ---- */

/* Drops the reference; NULL means there was no memory. */
void reply_json_take(struct exchange *x, int status, json_t *value);
void reply_text(struct exchange *x, int status, const char *type, const char *text);
/* An error in the route's dialect. param and code may be NULL; code is static. Always false, so
 * that a refusal reads `return reply_error(...)`. */
bool reply_error(struct exchange *x, int status, const char *param, const char *code,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The same for what the engine refused; param: the field that it is about where one is. */
bool reply_engine_error(struct exchange *x, const char *param, const struct bb_error *err);
/* Where there is none, or where ration_take gave none. */
bool reply_no_memory(struct exchange *x);
/* The body of such an error, for streams that have begun. */
json_t *error_body(enum dialect dialect, int status, const char *param, const char *code,
	const char *message);
json_t *error_of_engine(enum dialect dialect, const struct bb_error *err);
int error_status(enum bb_code code);
const char *error_code(enum bb_code code);

#endif
