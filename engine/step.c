/* SPDX-License-Identifier: Apache-2.0
 *
 * One step: checks the items, makes room in their contexts, composes the batch, runs the graph
 * and commits. Either every item is appended or none. What can fail on the host comes before the
 * first kernel runs. */
#include "engine.h"

#include <assert.h>
#include <string.h>

bool engine_check_ids(const struct bb_engine *e, const int32_t *ids, size_t n,
	struct bb_error *err) {
	const int n_vocab = engine_n_vocab(e);
	for (size_t i = 0; i < n; i++) {
		if (vectors_is(ids[i]) && e->vectors != NULL && vectors_has(e->vectors, ids[i])) {
			continue;
		}
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
		assert(items[i].hidden == NULL || (items[i].logits == NULL && items[i].sampler == NULL));
		assert(items[i].sampler == NULL || (items[i].sampled != NULL && !items[i].all_logits));
		assert(items[i].n_drafts == 0 || (items[i].n_drafts < items[i].n_tokens &&
			items[i].sampler != NULL && items[i].logits == NULL && e->taps == NULL));
		assert(items[i].context->kv_type == items[0].context->kv_type);
		for (int j = 0; j < i; j++) {
			assert(items[j].context != items[i].context);
			assert(items[i].sampler == NULL || items[j].sampler != items[i].sampler);
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

static void unreserve(const struct bb_step_item *items, int n_items) {
	for (int i = 0; i < n_items; i++) {
		context_unreserve(items[i].context);
	}
}

static bool reserve_all(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	int n = 0;
	bool ok = true;
	while (ok && n < n_items && context_reserve(items[n].context, items[n].n_tokens,
		items[n].n_drafts, err)) {
		ok = timeline_reserve_vectors(&items[n].context->timeline, items[n].tokens,
			items[n].n_tokens, err);
		n++;
	}
	if (!ok || n < n_items || !batch_reserve(e, items, n_items, err)) {
		unreserve(items, n);
		return false;
	}
	return true;
}

/* Sequences of the batch follow one another in its order: their rows, and their wanted logits. */
static void commit(struct bb_engine *e, const struct bb_step_item *items, int n_items) {
	const struct batch *b = &e->batch;
	for (int i = 0, row = 0, out = 0; i < n_items; i++) {
		const struct bb_step_item *item = &items[b->order[i]];
		const bool has_out = item->logits != NULL || item->sampler != NULL;
		const bool has_all = item->logits != NULL && item->all_logits;
		const int n = item->n_tokens - item->n_drafts;
		const struct ahead ahead = {
			.n = item->n_drafts, .row = row + n, .out = out + 1, .n_steps = e->stats.n_steps,
		};
		context_commit(item->context, item->tokens, n, ahead);
		row += item->n_tokens;
		out += has_all ? item->n_tokens : has_out ? 1 + item->n_drafts : 0;
	}
}

bool bb_step(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err) {
	assert(e->is_packed && n_items >= 1);
	if (!check_items(e, items, n_items, err) || !taps_begin(e, items, n_items, err) ||
		!draws_reserve(e, items, n_items, err) || !reserve_all(e, items, n_items, err)) {
		return false;
	}
	batch_compose(e, items, n_items);
	draws_send(e);
	if (!capture_step(e, err) || !taps_end(e)) {
		for (int i = 0; i < n_items; i++) { /* a state that was written in place is no more */
			items[i].context->is_lost = items[i].context->next_state != NULL &&
				items[i].context->next_state == items[i].context->state;
		}
		unreserve(items, n_items);
		return false;
	}
	cost_add_step(e, items, n_items);
	commit(e, items, n_items);
	return draws_read(e, err);
}

bool bb_step_follow(struct bb_context *c, struct bb_sampled *out, bool *follows,
	struct bb_error *err) {
	struct bb_engine *e = c->engine;
	*follows = false;
	if (c->ahead.n == 0 || c->ahead.n_steps != e->stats.n_steps) {
		return true;
	}
	const int32_t token = e->batch.on_host.ids[c->ahead.row];
	if (!draws_prepare(e, c->ahead.out, token)) {
		return true;
	}
	context_follow(c, token);
	*follows = true;
	return draws_follow(e, c->ahead.out - 1, out, err);
}

bool bb_prefill(struct bb_context *c, const int32_t *tokens, size_t n_tokens, float *logits,
	bb_progress_fn *progress, void *user, struct bb_error *err) {
	return engine_prefill(c, tokens, n_tokens, logits, NULL, NULL, progress, user, err);
}

bool engine_prefill(struct bb_context *c, const int32_t *tokens, size_t n_tokens, float *logits,
	struct bb_sampler *sampler, struct bb_sampled *sampled, bb_progress_fn *progress, void *user,
	struct bb_error *err) {
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
		const struct bb_step_item item = {
			.context = c, .tokens = tokens + done, .n_tokens = (int)n,
			.logits = is_last ? logits : NULL, .sampler = is_last ? sampler : NULL,
			.sampled = sampled,
		};
		bool ok = bb_step(e, &item, 1, err);
		done += n;
		if (ok && progress != NULL && !progress(user, "reading", (double)done, (double)n_tokens)) {
			ok = base_fail(err, BB_ERR_CANCELLED, "reading the prompt was stopped");
		}
		if (!ok) {
			struct bb_error ignored = { 0 };
			if (!context_rewind(c, start, &ignored)) {
				bb_context_rewind(c, 0, &ignored);
			}
			return false;
		}
	}
	return true;
}
