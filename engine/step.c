/* SPDX-License-Identifier: Apache-2.0
 *
 * One step: checks the items, makes room in their contexts, composes the batch, runs the graph
 * and commits. Either every item is appended or none. What can fail comes before the first
 * kernel runs. */
#include "engine.h"

#include <assert.h>
#include <string.h>

bool engine_check_ids(const struct bb_engine *e, const int32_t *ids, size_t n,
	struct bb_error *err) {
	const int n_vocab = engine_n_vocab(e);
	for (size_t i = 0; i < n; i++) {
		if (ids[i] < 0 || ids[i] >= n_vocab) {
			return base_fail(err, BB_ERR_INPUT, "token id %d at index %zu, expected 0 to %d",
				ids[i], i, n_vocab - 1);
		}
	}
	return true;
}

static bool check_items(const struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	int n_rows = 0;
	for (int i = 0; i < n_items; i++) {
		assert(items[i].n_tokens >= 1 && items[i].context->engine == e);
		assert(items[i].context->kv_type == items[0].context->kv_type);
		for (int j = 0; j < i; j++) {
			assert(items[j].context != items[i].context);
		}
		if (!engine_check_ids(e, items[i].tokens, (size_t)items[i].n_tokens, err)) {
			return false;
		}
		if (items[i].n_tokens > e->plan.max_rows - n_rows) {
			return base_fail(err, BB_ERR_USAGE, "a step of more than %d tokens", e->plan.max_rows);
		}
		n_rows += items[i].n_tokens;
	}
	return true;
}

static bool reserve_all(const struct bb_step_item *items, int n_items, struct bb_error *err) {
	for (int i = 0; i < n_items; i++) {
		if (!context_reserve(items[i].context, items[i].n_tokens, err)) {
			for (int j = 0; j < i; j++) {
				context_unreserve(items[j].context);
			}
			return false;
		}
	}
	return true;
}

static void compose(struct bb_engine *e, const struct bb_step_item *items, int n_items) {
	struct batch *b = &e->batch;
	const size_t n_vocab = (size_t)hparam_int(&e->plan.hp, H_VOCAB);
	b->n_rows = b->n_out = 0;
	b->n_seqs = n_items;
	b->kv_type = items[0].context->kv_type;
	for (int i = 0; i < n_items; i++) {
		const struct bb_step_item *item = &items[i];
		const int pos0 = bb_context_length(item->context);
		float *logits = item->logits;
		for (int kind = 0; kind < e->plan.n_kinds; kind++) {
			b->kept[kind][i] = (struct bb_kept){
				(void *const *const *)item->context->tables[kind].chunks, pos0,
			};
			b->seqs[kind][i] = (struct bb_attention_seq){
				.groups = &b->kept[kind][i], .row0 = b->n_rows, .n_rows = item->n_tokens,
			};
		}
		for (int t = 0; t < item->n_tokens; t++) {
			if (logits != NULL && (item->all_logits || t == item->n_tokens - 1)) {
				b->logits[b->n_out] = logits;
				b->out_row[b->n_out++] = b->n_rows;
				logits += n_vocab;
			}
			b->ids[b->n_rows] = item->tokens[t];
			b->pos[b->n_rows++] = pos0 + t;
		}
	}
}

bool bb_step(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	assert(e->is_packed && n_items >= 1);
	if (!check_items(e, items, n_items, err) || !reserve_all(items, n_items, err)) {
		return false;
	}
	compose(e, items, n_items);
	graph_run(e);
	for (int i = 0; i < n_items; i++) {
		context_commit(items[i].context, items[i].tokens, items[i].n_tokens);
	}
	return true;
}

bool bb_prefill(struct bb_context *c, const int32_t *tokens, size_t n_tokens, float *logits,
	bb_progress_fn *progress, void *user, struct bb_error *err) {
	struct bb_engine *e = c->engine;
	const int start = bb_context_length(c);
	assert(n_tokens >= 1);
	if (n_tokens > (size_t)(c->max_len - start)) {
		return base_fail(err, BB_ERR_CONTEXT,
			"the context holds %d of at most %d tokens; %zu more don't fit", start, c->max_len,
			n_tokens);
	}
	const size_t max_rows = (size_t)e->plan.max_rows;
	for (size_t done = 0; done < n_tokens;) {
		const size_t n = n_tokens - done < max_rows ? n_tokens - done : max_rows;
		const bool is_last = done + n == n_tokens;
		const struct bb_step_item item = { c, tokens + done, (int)n, is_last ? logits : NULL,
			false };
		bool ok = bb_step(e, &item, 1, err);
		done += n;
		if (ok && progress != NULL && !progress(user, "reading", (double)done, (double)n_tokens)) {
			ok = base_fail(err, BB_ERR_CANCELLED, "reading the prompt was stopped");
		}
		if (!ok) {
			struct bb_error ignored = { 0 };
			if (!bb_context_rewind(c, start, &ignored)) {
				bb_context_rewind(c, 0, &ignored);
			}
			return false;
		}
	}
	return true;
}
