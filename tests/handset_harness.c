/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models as judges of an engine: writing, opening and playing them. */
#include "handset_harness.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- models ---- */

static const struct handset_kind *find(const char *name) {
	static const struct handset_kind *const unlisted[] = { &handset_fading_parity,
		&handset_s5_unscaled };
	for (int i = 0; i < 2; i++) {
		if (strcmp(unlisted[i]->name, name) == 0) {
			return unlisted[i];
		}
	}
	return handset_find(name);
}

bool hand_write(struct hand_model *m, const struct hand_spec *spec, struct bb_error *err) {
	static int n_models;
	*m = (struct hand_model){ .kind = find(spec->kind) };
	assert(m->kind != NULL);
	m->options = (struct handset_options){ .tables = m->tables, .length = spec->length,
		.bits = spec->bits, .recency = spec->recency, .non_negative = spec->non_negative,
		.type = spec->type };
	size_t n = (size_t)snprintf(m->name, sizeof(m->name), "%s%s%s", spec->kind,
		spec->recency ? " --recency" : "", spec->non_negative ? " --non-negative" : "");
	for (int i = 0; i < HAND_TABLES && spec->tables[i] != NULL; i++) {
		if (!handset_table_builtin(&m->tables[i], spec->tables[i], err)) {
			return false;
		}
		m->options.n_tables++;
		n += (size_t)snprintf(m->name + n, sizeof(m->name) - n, "%s%s", i > 0 ? "+" : " ",
			spec->tables[i]);
	}
	snprintf(m->path, sizeof(m->path), "/tmp/bobbin-hand-%d-%d.gguf", (int)getpid(), n_models++);
	return handset_check(m->kind, &m->options, err) &&
		handset_write(m->kind, &m->options, m->path, err);
}

bool hand_load(struct hand_model *m, const struct bb_engine_params *params, struct bb_error *err) {
	static const char *const types[] = { [HANDSET_F32] = "f32", [HANDSET_F16] = "f16",
		[HANDSET_BF16] = "bf16" };
	struct bb_engine_params p = *params;
	struct bb_engine_info info;
	bb_engine_destroy(m->engine);
	free(m->logits);
	m->engine = NULL;
	m->logits = NULL;
	p.path = m->path;
	m->window = p.window;
	m->kv_type = p.kv_type;
	snprintf(m->setting, sizeof(m->setting), "%s, %s ISA level, %s KV, window %d, %s weights",
		p.device != NULL ? p.device : "cpu", p.isa != NULL ? p.isa : "best",
		bb_kv_type_name(p.kv_type), p.window, types[m->options.type]);
	if (!bb_engine_open(&m->engine, bb_models, &p, err)) {
		return false;
	}
	bb_engine_info(m->engine, &info);
	m->n_vocab = info.n_vocab;
	m->logits = malloc(HAND_ROWS * (size_t)m->n_vocab * sizeof(*m->logits));
	assert(m->logits != NULL);
	return true;
}

void hand_close(struct hand_model *m) {
	bb_engine_destroy(m->engine);
	free(m->logits);
	if (m->path[0] != '\0') {
		unlink(m->path);
	}
	for (int i = 0; i < m->options.n_tables; i++) {
		handset_table_finish(&m->tables[i]);
	}
	*m = (struct hand_model){ 0 };
}

void hand_expect(const struct hand_model *m, const int32_t *ids, int n, int32_t *expected) {
	struct bb_error err = { 0 };
	if (!m->kind->expect(&m->options, ids, (size_t)n, expected, &err)) {
		fprintf(stderr, "%s: %s\n", m->name, err.text);
		abort();
	}
}

/* ---- playing ---- */

static bool step(const struct hand_model *m, struct bb_context *c, const int32_t *ids, int n,
	float *logits, struct bb_error *err) {
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = n,
		.logits = logits, .all_logits = true };
	return bb_step(m->engine, &item, 1, err);
}

float *hand_calm(const struct hand_model *m, const int32_t *ids, int n) {
	struct bb_context *c = NULL;
	struct bb_error err = { 0 };
	if (hand_knows_rows(m)) {
		return NULL;
	}
	float *rows = malloc((size_t)n * (size_t)m->n_vocab * sizeof(*rows));
	bool ok = rows != NULL && bb_context_create(&c, m->engine, NULL, &err);
	for (int i = 0; ok && i < n; i += HAND_ROWS) {
		ok = step(m, c, ids + i, n - i < HAND_ROWS ? n - i : HAND_ROWS,
			rows + (size_t)i * (size_t)m->n_vocab, &err);
	}
	if (!ok) {
		fprintf(stderr, "%s: %s\n", m->name, err.text);
		abort();
	}
	bb_context_destroy(c);
	return rows;
}

/* whole[first + n] and what must come behind each; calm begins at `first`. */
static int play(struct hand_model *m, struct bb_context *c, const int32_t *whole,
	const int32_t *expected, int first, int n, int chunk, const float *calm) {
	struct bb_error err = { 0 };
	const size_t n_vocab = (size_t)m->n_vocab;
	int n_defined = 0;
	for (int i = 0; i < n; i += chunk) {
		const int rows = n - i < chunk ? n - i : chunk;
		if (!step(m, c, whole + first + i, rows, m->logits, &err)) {
			snprintf(m->failure, sizeof(m->failure), "%s, %s: %s", m->name, m->setting, err.text);
			return -1;
		}
		for (int r = 0; r < rows; r++) {
			const int at = first + i + r;
			const struct hand_place place = { at, whole[at], expected[at],
				calm != NULL ? calm + (size_t)(i + r) * n_vocab : NULL };
			if (place.want >= 0 && !hand_is_right(m, m->logits + (size_t)r * n_vocab, &place,
				"")) {
				return -1;
			}
			n_defined += place.want >= 0;
		}
	}
	return n_defined;
}

int hand_play(struct hand_model *m, struct bb_context *c, const int32_t *ids, int n, int chunk,
	const float *calm) {
	const int first = bb_context_length(c);
	int32_t *whole = malloc((size_t)(first + n) * sizeof(*whole));
	int32_t *expected = malloc((size_t)(first + n) * sizeof(*expected));
	assert(whole != NULL && expected != NULL && chunk <= HAND_ROWS);
	if (first > 0) {
		memcpy(whole, bb_context_tokens(c), (size_t)first * sizeof(*whole));
	}
	memcpy(whole + first, ids, (size_t)n * sizeof(*whole));
	hand_expect(m, whole, first + n, expected);
	const int n_defined = play(m, c, whole, expected, first, n, chunk, calm);
	free(whole);
	free(expected);
	return n_defined;
}

int hand_generate(struct hand_model *m, struct bb_context *c, int32_t next, int n, int eos,
	float *rows) {
	for (int i = 0; i < n; i++) {
		const int n_defined = hand_play(m, c, &next, 1, 1, NULL);
		if (n_defined == 0) {
			snprintf(m->failure, sizeof(m->failure), "%s, %s: nothing is expected behind token "
				"%d, which is %d", m->name, m->setting, bb_context_length(c) - 1, next);
		}
		if (n_defined != 1) {
			return -1;
		}
		if (rows != NULL) {
			memcpy(rows + (size_t)i * (size_t)m->n_vocab, m->logits,
				(size_t)m->n_vocab * sizeof(*rows));
		}
		next = hand_largest(m->logits, m->n_vocab);
		if (next == eos) {
			return i + 1;
		}
	}
	return n;
}
