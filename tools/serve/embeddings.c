/* SPDX-License-Identifier: Apache-2.0
 *
 * Embeddings: texts or ids in, vectors out, as numbers or as base64 of little-endian floats. */
#include "base64.h"
#include "embed_queue.h"
#include "fields.h"
#include "routes.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 2048 };

static json_t *as_base64(const void *data, size_t bytes) {
	struct buf out = { 0 };
	base64_encode(&out, data, bytes);
	json_t *text = out.has_failed ? NULL : json_stringn(buf_string(&out), out.bytes);
	buf_finish(&out);
	return text;
}

static json_t *vector(const float *v, int n, bool as_text) {
	if (as_text) {
		return as_base64(v, (size_t)n * sizeof(*v));
	}
	json_t *list = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(list, json_real((double)v[i]));
	}
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

struct job {
	struct exchange *x;
	float *v;            /* [n_embd] */
	int dimensions;
	bool as_text;
	json_t *data;
	int n_tokens;
};

/* The first numbers of a vector, scaled to length 1 again. */
static void shorten(float *v, int n) {
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += (double)v[i] * (double)v[i];
	}
	for (int i = 0; i < n && sum > 0; i++) {
		v[i] = (float)((double)v[i] / __builtin_sqrt(sum));
	}
}

static bool add(struct job *j, const json_t *input) {
	struct exchange *x = j->x;
	struct bb_tokens ids = { 0 };
	const bool ok = read_ids(x, input, &ids) && embed_queue_run(x, &ids, j->v);
	if (ok) {
		if (j->dimensions < x->server->info.n_embd) {
			shorten(j->v, j->dimensions);
		}
		j->n_tokens += (int)ids.n;
		json_array_append_new(j->data, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index",
			(json_int_t)json_array_size(j->data), "embedding",
			vector(j->v, j->dimensions, j->as_text)));
	}
	bb_tokens_finish(&ids);
	return ok;
}

static bool add_all(struct job *j, const json_t *input) {
	struct exchange *x = j->x;
	const bool is_list = json_is_array(input) && (json_is_string(json_array_get(input, 0)) ||
		json_is_array(json_array_get(input, 0)));
	if (!is_list) {
		return add(j, input);
	}
	if (json_array_size(input) > MOST_INPUTS) {
		return reply_error(x, 400, "input", "invalid_value",
			"'input' has %zu texts, expected at most %d", json_array_size(input), MOST_INPUTS);
	}
	for (size_t i = 0; i < json_array_size(input); i++) {
		if (!add(j, json_array_get(input, i))) {
			return false;
		}
	}
	return true;
}

void embeddings_handle(struct exchange *x) {
	const int n_embd = x->server->info.n_embd;
	const char *format = "float";
	struct job j = { .x = x, .dimensions = n_embd };
	const json_t *input = field(x->in, "input");
	if (!field_model(x) || !field_string(x, x->in, "encoding_format", &format) ||
		!field_int(x, x->in, "dimensions", 1, n_embd, &j.dimensions)) {
		return;
	}
	if (input == NULL) {
		reply_error(x, 400, "input", "missing", "'input' is missing");
		return;
	}
	j.as_text = strcmp(format, "base64") == 0;
	if (!j.as_text && strcmp(format, "float") != 0) {
		reply_error(x, 400, "encoding_format", "invalid_value",
			"'encoding_format' is '%.40s', expected float or base64", format);
		return;
	}
	j.v = malloc((size_t)n_embd * sizeof(*j.v));
	j.data = json_array();
	if (j.v == NULL || j.data == NULL) {
		reply_no_memory(x);
	} else if (add_all(&j, input)) {
		x->n_prompt = j.n_tokens;
		reply_json_take(x, 200, json_pack("{s:s, s:O, s:s, s:{s:i, s:i}}", "object", "list",
			"data", j.data, "model", x->server->names[0], "usage", "prompt_tokens", j.n_tokens,
			"total_tokens", j.n_tokens));
	}
	json_decref(j.data);
	free(j.v);
}
