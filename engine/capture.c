/* SPDX-License-Identifier: Apache-2.0
 *
 * The captured steps of an engine, the least recently used of which makes room for a new one. */
#include "engine.h"

#include <assert.h>
#include <string.h>

int capture_kept(int n_tokens) {
	int n_splits = (int)(((int64_t)n_tokens + BB_SPLIT - 1) / BB_SPLIT), step = 1;
	while (n_splits / step >= 8) {
		step *= 2;
	}
	n_splits = (n_splits + step - 1) / step * step;
	const int most = INT32_MAX / BB_SPLIT;
	return (n_splits < most ? n_splits : most) * BB_SPLIT;
}

static bool is_same(const struct capture_key *a, const struct capture_key *b) {
	return a->n_rows == b->n_rows && a->n_out == b->n_out && a->max_kept == b->max_kept &&
		a->n_shares == b->n_shares && a->n_shared_rows == b->n_shared_rows &&
		a->kv_type == b->kv_type && a->draws == b->draws;
}

static void drop(struct bb_engine *e, int i) {
	e->memory.device.module->graph_destroy(e->captures.entries[i].graph);
	e->captures.entries[i].graph = NULL;
}

void captures_drop(struct bb_engine *e) {
	for (int i = 0; i < MAX_CAPTURES; i++) {
		if (e->captures.entries[i].graph != NULL) {
			drop(e, i);
		}
	}
}

static bb_graph *find(struct captures *c, const struct capture_key *key) {
	for (int i = 0; i < MAX_CAPTURES; i++) {
		if (c->entries[i].graph != NULL && is_same(&c->entries[i].key, key)) {
			c->entries[i].last_use = ++c->n_uses;
			return c->entries[i].graph;
		}
	}
	return NULL;
}

/* NULL when it can't be captured. */
static bb_graph *capture(struct bb_engine *e, const struct capture_key *key) {
	const struct bb_module *module = e->memory.device.module;
	struct captures *c = &e->captures;
	char why[256];
	int oldest = 0;
	for (int i = 1; i < MAX_CAPTURES; i++) {
		if (c->entries[i].last_use < c->entries[oldest].last_use) {
			oldest = i;
		}
	}
	module->capture_begin(e->memory.queue);
	graph_run(e, true);
	if (key->draws) {
		draws_run(e, 0, key->n_out);
	}
	bb_graph *graph = module->capture_end(e->memory.queue, why, sizeof(why));
	if (graph == NULL) {
		return NULL;
	}
	drop(e, oldest);
	c->entries[oldest].key = *key;
	c->entries[oldest].graph = graph;
	c->entries[oldest].last_use = ++c->n_uses;
	return graph;
}

/* Every context decodes one token, which is no vector, planned memory holds all logits, and nobody
 * looks in. */
static bool can_capture(const struct bb_engine *e) {
	const struct batch *b = &e->batch;
	return !e->can_tap && b->n_vectors == 0 && b->n_hidden == 0 && b->n_rows == b->n_seqs &&
		b->n_out <= e->plan.logits_rows;
}

/* Whether a capture draws too: from all rows, for otherwise who draws would have to be known. */
static bool all_draw(const struct bb_engine *e) {
	return draws_there(e) && e->batch.n_draws == e->batch.n_out;
}

/* The graph of the step, captured now if need be; NULL where it can't be. */
static bb_graph *graph_of_step(struct bb_engine *e) {
	struct batch *b = &e->batch;
	if (!can_capture(e)) {
		return NULL;
	}
	b->max_kept = capture_kept(b->max_kept);
	const struct capture_key key = { b->n_rows, b->n_out, b->max_kept, b->n_shares,
		b->n_shared_rows, b->kv_type, all_draw(e) };
	bb_graph *graph = find(&e->captures, &key);
	return graph != NULL ? graph : capture(e, &key);
}

bool capture_step(struct bb_engine *e, struct bb_error *err) {
	if (memory_is_host(&e->memory)) {
		graph_run(e, false);
		return true;
	}
	bb_graph *graph = graph_of_step(e);
	if (graph != NULL) {
		e->memory.device.module->graph_launch(e->memory.queue, graph);
		if (!all_draw(e)) {
			draws_run(e, 0, e->batch.n_out);
		}
		graph_give_logits(e, 0, e->batch.n_out);
	} else {
		graph_run(e, false); /* where a capture failed, says what is wrong, if it still is */
	}
	draws_fetch(e);
	return memory_wait(&e->memory, err);
}
