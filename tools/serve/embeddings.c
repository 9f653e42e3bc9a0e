/* SPDX-License-Identifier: Apache-2.0
 *
 * Embeddings: texts or ids in, vectors out, as numbers or as base64 of little-endian floats. The
 * vector is the row that the model's head is multiplied with, behind the last token, scaled to
 * length 1. Texts are requests of the scheduler, some at a time. */
#include "base64.h"
#include "fields.h"
#include "routes.h"
#include "server.h"
#include "turn.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 2048, AT_ONCE = 16 };

struct job {
	struct exchange *x;
	int dimensions, priority;
	const char *cache_salt;      /* of x->in, or NULL */
	bool as_text;
	struct bb_tokens *ids;       /* [n] */
	json_t **vectors;            /* [n]; NULL: not there yet */
	int n, n_begun, n_ended, n_tokens, n_cached;
	struct turn *turn;
};

static json_t *as_base64(const void *data, size_t bytes) {
	struct buf out = { 0 };
	base64_encode(&out, data, bytes);
	json_t *text = out.has_failed ? NULL : json_stringn(buf_string(&out), out.bytes);
	buf_finish(&out);
	return text;
}

/* The first numbers of a row, as a vector of length 1. */
static json_t *vector(const struct job *j, const float *row) {
	double sum = 0;
	for (int i = 0; i < j->dimensions; i++) {
		sum += (double)row[i] * (double)row[i];
	}
	const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
	float *v = malloc((size_t)j->dimensions * sizeof(*v));
	json_t *list = v != NULL && !j->as_text ? json_array() : NULL;
	for (int i = 0; v != NULL && i < j->dimensions; i++) {
		v[i] = (float)((double)row[i] * scale);
		if (list != NULL) {
			json_array_append_new(list, json_real((double)v[i]));
		}
	}
	if (v != NULL && j->as_text) {
		list = as_base64(v, (size_t)j->dimensions * sizeof(*v));
	}
	free(v);
	return list;
}

static bool read_ids(struct exchange *x, const json_t *input, struct bb_tokens *ids) {
	struct bb_error err = { 0 };
	const int most = x->server->info.max_len;
	if (json_is_string(input)) {
		if (!bb_tokenize(x->server->engine, json_string_value(input), json_string_length(input),
			true, true, ids, &err)) {
			return reply_engine_error(x, "input", &err);
		}
	} else if (!field_ids(x, input, "input", x->server->info.n_vocab, ids)) {
		return false;
	}
	if (ids->n == 0) {
		return reply_error(x, 400, "input", "invalid_value", "'input' has a text of no tokens");
	}
	return ids->n <= (size_t)most || reply_error(x, 400, "input", "context_length_exceeded",
		"this model's maximum context length is %d tokens, and a text has %zu", most, ids->n);
}

static bool read_inputs(struct job *j, const json_t *input) {
	struct exchange *x = j->x;
	const bool is_list = json_is_array(input) && (json_is_string(json_array_get(input, 0)) ||
		json_is_array(json_array_get(input, 0)));
	const size_t n = is_list ? json_array_size(input) : 1;
	if (n > MOST_INPUTS) {
		return reply_error(x, 400, "input", "invalid_value",
			"'input' has %zu texts, expected at most %d", n, MOST_INPUTS);
	}
	j->ids = calloc(n, sizeof(*j->ids));
	j->vectors = calloc(n, sizeof(json_t *));
	if (j->ids == NULL || j->vectors == NULL) {
		return reply_no_memory(x);
	}
	j->n = (int)n;
	for (int i = 0; i < j->n; i++) {
		if (!read_ids(x, is_list ? json_array_get(input, (size_t)i) : input, &j->ids[i])) {
			return false;
		}
		j->n_tokens += (int)j->ids[i].n;
	}
	return true;
}

static bool read_fields(struct job *j) {
	struct exchange *x = j->x;
	const char *format = "float";
	const json_t *input = field(x->in, "input");
	j->dimensions = x->server->info.n_embd;
	if (!field_model(x) || !field_string(x, x->in, "encoding_format", &format) ||
		!field_int(x, x->in, "dimensions", 1, j->dimensions, &j->dimensions) ||
		!field_int(x, x->in, "priority", INT_MIN, INT_MAX, &j->priority) ||
		!field_string(x, x->in, "cache_salt", &j->cache_salt)) {
		return false;
	}
	j->as_text = strcmp(format, "base64") == 0;
	if (!j->as_text && strcmp(format, "float") != 0) {
		return reply_error(x, 400, "encoding_format", "invalid_value",
			"'encoding_format' is '%.40s', expected float or base64", format);
	}
	return input != NULL ? read_inputs(j, input)
		: reply_error(x, 400, "input", "missing", "'input' is missing");
}

/* Some texts are on their way at a time, so that a long list leaves room in the queue. */
static bool begin_some(struct job *j) {
	const int half = j->x->server->options.max_waiting / 2;
	const int most = half < 1 ? 1 : half < AT_ONCE ? half : AT_ONCE;
	while (j->n_begun < j->n && j->n_begun - j->n_ended < most) {
		const struct bb_request_params p = {
			.prompt = j->ids[j->n_begun].ids, .n_prompt = j->ids[j->n_begun].n,
			.wants_hidden = true, .priority = j->priority, .cache_salt = j->cache_salt,
		};
		if (!turn_add(j->turn, j->n_begun, &p, j->x)) {
			return false;
		}
		j->n_begun++;
	}
	return true;
}

static bool take(struct job *j, const struct turn_event *e) {
	struct exchange *x = j->x;
	if (e->kind == BB_EVENT_HIDDEN) {
		j->vectors[e->slot] = vector(j, (const float *)(const void *)e->text);
		if (j->vectors[e->slot] == NULL) {
			return reply_no_memory(x);
		}
	} else if (e->kind == BB_EVENT_FAILED) {
		return reply_engine_error(x, "input", e->error);
	}
	if (e->has_usage) {
		j->n_ended++;
		j->n_cached += e->usage.n_cached;
		if (j->vectors[e->slot] == NULL) {
			return reply_error(x, 503, NULL, "cancelled", "the server is ending");
		}
	}
	return true;
}

static bool run(struct job *j) {
	j->turn = turn_create(j->x, j->x->id);
	if (j->turn == NULL) {
		return reply_no_memory(j->x);
	}
	while (j->n_ended < j->n) {
		bool is_gone;
		if (!begin_some(j)) {
			return false;
		}
		struct turn_event *e = turn_next(j->turn, -1, &is_gone);
		if (e == NULL) {
			return turn_reply_gone(j->x);
		}
		const bool ok = take(j, e);
		turn_event_free(e);
		if (!ok) {
			return false;
		}
	}
	return true;
}

static void reply(struct job *j) {
	json_t *data = json_array();
	for (int i = 0; i < j->n; i++) {
		json_array_append_new(data, json_pack("{s:s, s:i, s:O}", "object", "embedding", "index", i,
			"embedding", j->vectors[i]));
	}
	j->x->n_prompt = j->n_tokens;
	j->x->n_cached = j->n_cached;
	reply_json_take(j->x, 200, json_pack("{s:s, s:o, s:s, s:{s:i, s:i}}", "object", "list", "data",
		data, "model", j->x->server->names[0], "usage", "prompt_tokens", j->n_tokens,
		"total_tokens", j->n_tokens));
}

void embeddings_handle(struct exchange *x) {
	struct job j = { .x = x };
	if (read_fields(&j) && run(&j)) {
		reply(&j);
	}
	turn_end(j.turn);
	for (int i = 0; i < j.n; i++) {
		bb_tokens_finish(&j.ids[i]);
		json_decref(j.vectors[i]);
	}
	free(j.ids);
	free(j.vectors);
}
