/* SPDX-License-Identifier: Apache-2.0
 *
 * From a text to vectors of the engine. */
#include "prompt_embeds.h"

#include "base64.h"
#include "server.h"
#include "torch.h"

#include <stdlib.h>

static size_t bytes_of(const struct server *s, size_t n) {
	return n * (size_t)s->info.n_embd * sizeof(float);
}

/* Counts n rows more: those of prompts that wait are a thousand times as large as the tokens that
 * queues are made for. One prompt always may. */
static bool enter(struct exchange *x, const char *param, int n) {
	const size_t bytes = bytes_of(x->server, (size_t)n);
	const size_t most = x->server->options.max_embeds_bytes;
	const size_t before = atomic_fetch_add(&x->server->embeds_bytes, bytes);
	if (before == 0 || before + bytes <= most) {
		return true;
	}
	atomic_fetch_sub(&x->server->embeds_bytes, bytes);
	return reply_error(x, 429, param, "queue_full",
		"prompts of %zu bytes of embeddings aren't answered yet, and at most %zu may be", before,
		most);
}

static void leave(struct server *s, int n) {
	atomic_fetch_sub(&s->embeds_bytes, bytes_of(s, (size_t)n));
}

void prompt_embeds_free(struct server *s, struct bb_vectors *v) {
	if (v != NULL) {
		leave(s, bb_vectors_count(v));
		bb_vectors_destroy(v);
	}
}

static bool make(struct exchange *x, const struct torch_tensor *t, const char *param, int n,
	struct bb_vectors **out) {
	const int width = x->server->info.n_embd;
	struct bb_error err = { 0 };
	if (!enter(x, param, n)) {
		return false;
	}
	float *rows = malloc(bytes_of(x->server, (size_t)n));
	for (int i = 0; rows != NULL && i < n; i++) {
		for (int j = 0; j < width; j++) {
			rows[(size_t)i * (size_t)width + (size_t)j] = torch_at(t, i, j);
		}
	}
	const bool ok = rows != NULL ? bb_vectors_create(out, x->server->engine, rows, n, &err) ||
		reply_engine_error(x, param, &err) : reply_no_memory(x);
	if (!ok) {
		leave(x->server, n);
	}
	free(rows);
	return ok;
}

static bool check(struct exchange *x, const struct torch_tensor *t, const char *param,
	struct bb_vectors **out) {
	const int width = x->server->info.n_embd, most = x->server->info.max_len;
	const int64_t *shape = t->shape;
	const int64_t n = t->n_dims >= 2 ? shape[t->n_dims - 2] : 0;
	char says[80];
	snprintf(says, sizeof(says), t->n_dims == 1 ? "[%lld]" : t->n_dims == 2 ? "[%lld, %lld]"
		: "[%lld, %lld, %lld]", (long long)shape[0], (long long)shape[1], (long long)shape[2]);
	if (t->n_dims < 2 || (t->n_dims == 3 && shape[0] != 1) || shape[t->n_dims - 1] != width) {
		return reply_error(x, 400, param, "invalid_value",
			"'%s' has the shape %s, expected [n, %d] or [1, n, %d]", param, says, width, width);
	}
	if (n >= most) {
		return reply_error(x, 400, param, "context_length_exceeded",
			"this model's maximum context length is %d tokens, and '%s' has %lld rows", most,
			param, (long long)n);
	}
	return make(x, t, param, (int)n, out);
}

bool prompt_embeds_read(struct exchange *x, const json_t *value, const char *param,
	struct bb_vectors **out) {
	struct buf file = { 0 };
	struct torch_tensor t;
	struct bb_error err = { 0 };
	*out = NULL;
	if (!x->server->options.prompt_embeds) {
		return reply_error(x, 400, param, "unsupported_parameter",
			"'%s' needs a server that was started with --enable-prompt-embeds", param);
	}
	bool ok = json_is_string(value) || reply_error(x, 400, param, "invalid_type",
		"'%s' must be a string, or strings, of base64", param);
	if (ok && !base64_decode(&file, json_string_value(value), json_string_length(value))) {
		ok = reply_error(x, 400, param, "invalid_value", "'%s' isn't base64", param);
	}
	if (ok && file.has_failed) {
		ok = reply_no_memory(x);
	}
	if (ok && !torch_read(&t, (const uint8_t *)buf_string(&file), file.bytes, &err)) {
		ok = reply_error(x, 400, param, "invalid_value", "'%s' can't be read: %s", param,
			err.text);
	}
	ok = ok && check(x, &t, param, out);
	buf_finish(&file);
	return ok;
}

bool prompt_embeds_push(struct exchange *x, const struct bb_vectors *v, struct bb_tokens *ids) {
	struct bb_error err = { 0 };
	for (int i = 0; i < bb_vectors_count(v); i++) {
		if (!bb_tokens_push(ids, bb_vectors_ids(v)[i], &err)) {
			return reply_no_memory(x);
		}
	}
	return true;
}
