/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies and errors in the shapes that clients turn into their exception classes. */
#include "exchange.h"

#include "ration.h"
#include "server.h"
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

const char *exchange_rest(const struct exchange *x, const char *prefix) {
	const size_t n = strlen(prefix);
	return strncmp(x->path, prefix, n) == 0 ? x->path + n : "";
}

void exchange_drop_input(struct exchange *x) {
	buf_finish(&x->body);
	json_decref(x->in);
	x->in = NULL;
}

int exchange_wait(const struct exchange *x, int fd, int most_ms) {
	struct pollfd fds[3] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = x->client, .events = POLLRDHUP },
		{ .fd = x->server->cut_fd, .events = POLLIN },
	};
	int n;
	do {
		n = poll(fds, 3, most_ms);
	} while (n < 0 && errno == EINTR);
	if (fds[1].revents != 0 || fds[2].revents != 0 || n < 0) {
		return -1;
	}
	return n > 0;
}

void reply_json_take(struct exchange *x, int status, json_t *value) {
	buf_clear(&x->out);
	x->fixed = NULL;
	buf_json_take(&x->out, value);
	x->status = status;
	x->type = NULL;
	if (x->out.has_failed || ration_has_gap()) { /* something may be missing in it */
		reply_no_memory(x);
	}
}

void reply_text(struct exchange *x, int status, const char *type, const char *text) {
	buf_clear(&x->out);
	buf_text(&x->out, text);
	x->status = status;
	x->type = type;
	if (x->out.has_failed) {
		reply_no_memory(x);
	}
}

/* ---- errors ---- */

static const char *openai_type(int status) {
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	case 500:
		return "server_error";
	case 503:
		return "service_unavailable_error";
	default:
		return "invalid_request_error";
	}
}

static const char *anthropic_type(int status) {
	switch (status) {
	case 401:
	case 403:
	case 404:
		return openai_type(status);
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 500:
		return "api_error";
	case 503:
		return "overloaded_error";
	default:
		return "invalid_request_error";
	}
}

/* A sentence may quote bytes of the request: JSON wants them to be UTF-8. */
json_t *error_body(enum dialect dialect, int status, const char *param, const char *code,
	const char *message) {
	json_t *text = json_bytes(message, strlen(message));
	if (dialect == DIALECT_ANTHROPIC) {
		return json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type",
			anthropic_type(status), "message", text);
	}
	json_t *name = param != NULL ? json_bytes(param, strlen(param)) : json_null();
	return json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message", text, "type",
		openai_type(status), "param", name, "code", code);
}

bool reply_error(struct exchange *x, int status, const char *param, const char *code,
	const char *format, ...) {
	char message[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	x->error = code != NULL ? code : "error";
	x->retry_after_s = status == 429 || status == 503 ? 1 : 0;
	reply_json_take(x, status, error_body(x->dialect, status, param, code, message));
	return false;
}

/* Needs no memory. */
bool reply_no_memory(struct exchange *x) {
#define OPENAI(text) "{\"error\":{\"message\":\"" text "\",\"type\":" \
	"\"service_unavailable_error\",\"param\":null,\"code\":\"out_of_memory\"}}"
#define ANTHROPIC(text) "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"," \
	"\"message\":\"" text "\"}}"
	static const char *const texts[2][2] = {
		{ OPENAI(RATION_LOST), ANTHROPIC(RATION_LOST) },
		{ OPENAI(RATION_SHORT), ANTHROPIC(RATION_SHORT) },
	};
#undef OPENAI
#undef ANTHROPIC
	buf_finish(&x->out);
	x->fixed = texts[ration_is_short()][x->dialect == DIALECT_ANTHROPIC];
	x->status = 503;
	x->type = NULL;
	x->retry_after_s = 1;
	x->error = "out_of_memory";
	return false;
}

int error_status(enum bb_code code) {
	switch (code) {
	case BB_ERR_BUSY:
		return 429;
	case BB_ERR_MEMORY:
	case BB_ERR_CANCELLED:
		return 503;
	case BB_ERR_IO:
	case BB_ERR_FORMAT:
	case BB_ERR_DEVICE:
		return 500;
	default:
		return 400;
	}
}

const char *error_code(enum bb_code code) {
	switch (code) {
	case BB_ERR_BUSY:
		return "queue_full";
	case BB_ERR_MEMORY:
		return "out_of_memory";
	case BB_ERR_CANCELLED:
		return "shutting_down";
	case BB_ERR_CONTEXT:
		return "context_length_exceeded";
	case BB_ERR_TEMPLATE:
		return "template_error";
	case BB_ERR_UNSUPPORTED:
		return "unsupported";
	case BB_ERR_IO:
	case BB_ERR_FORMAT:
	case BB_ERR_DEVICE:
		return "server_error";
	default:
		return "invalid_value";
	}
}

json_t *error_of_engine(enum dialect dialect, const struct bb_error *err) {
	return error_body(dialect, error_status(err->code), NULL, error_code(err->code), err->text);
}

bool reply_engine_error(struct exchange *x, const char *param, const struct bb_error *err) {
	return reply_error(x, error_status(err->code), param, error_code(err->code), "%s", err->text);
}
