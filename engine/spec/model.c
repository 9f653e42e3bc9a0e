/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts of a draft model: what a branch has more is read, drafts are drawn one by one behind it,
 * and taken back. */
#include "model.h"

#include "sample.h"

#include <assert.h>
#include <string.h>

struct spec_follower {
	struct bb_context *context;  /* reads the branch's tokens */
	struct bb_context *ahead;    /* where its drafts are drawn: it, or a fork while they are */
	int n_sure;                  /* of its tokens: the branch's */
	struct bb_sampler sampler;
	struct bb_sampled drawn;
	const int32_t *next;         /* [n_next]: what it reads in the step to come */
	int n_next;
};

/* More than that it reads before it draws, in steps in which nobody draws. */
enum { MANY = 32 };

/* ---- the same vocabulary ---- */

bool spec_model_check(const struct bb_engine *e, const struct bb_engine *draft,
	struct bb_error *err) {
	const int n = tokenizer_n_vocab(e->tokenizer), n_draft = tokenizer_n_vocab(draft->tokenizer);
	if (n != n_draft || tokenizer_is_vocabless(e->tokenizer) !=
		tokenizer_is_vocabless(draft->tokenizer)) {
		return base_fail(err, BB_ERR_USAGE, "the draft model has %d tokens, expected the model's "
			"%d", n_draft, n);
	}
	if (tokenizer_is_vocabless(e->tokenizer)) {
		const int rows = engine_n_vocab(e), draft_rows = engine_n_vocab(draft);
		return rows == draft_rows || base_fail(err, BB_ERR_USAGE, "the draft model has %d tokens, "
			"expected the model's %d", draft_rows, rows);
	}
	for (int32_t id = 0; id < n; id++) {
		const struct gguf_string a = tokenizer_piece(e->tokenizer, id, true);
		const struct gguf_string b = tokenizer_piece(draft->tokenizer, id, true);
		if (a.bytes != b.bytes || memcmp(a.data, b.data, a.bytes) != 0) {
			char shown[BASE_SHOWN], other[BASE_SHOWN];
			return base_fail(err, BB_ERR_USAGE, "token %d of the draft model is '%s', expected "
				"the model's '%s'", id, base_show(b.data, b.bytes, shown, sizeof(shown)),
				base_show(a.data, a.bytes, other, sizeof(other)));
		}
	}
	return true;
}

/* ---- followers ---- */

void spec_follower_destroy(struct spec_follower *f) {
	if (f != NULL) {
		if (f->ahead != f->context) {
			bb_context_destroy(f->ahead);
		}
		bb_context_destroy(f->context);
		sampler_finish(&f->sampler);
		base_free(f);
	}
}

static struct spec_follower *create(struct bb_engine *draft, const struct bb_sampling *from) {
	struct spec_follower *f = base_alloc(1, sizeof(*f));
	struct bb_error ignored = { 0 };
	/* what text the grammar lets through, and what else changes with the output, it doesn't know */
	struct bb_sampling p = *from;
	p.grammar = NULL;
	p.repetition_penalty = 1;
	p.presence_penalty = p.frequency_penalty = 0;
	p.n_logprobs = 0;
	p.wants_confidence = false;
	if (f != NULL && (!bb_context_create(&f->context, draft, NULL, &ignored) ||
		!sampler_init(&f->sampler, draft, &p, &ignored))) {
		bb_context_destroy(f->context);
		base_free(f);
		return NULL;
	}
	if (f != NULL) {
		f->ahead = f->context;
	}
	return f;
}

static void drop(struct spec_wish *w) {
	spec_follower_destroy(*w->follower);
	*w->follower = NULL;
	w->n_drafts = 0;
}

/* The context has a beginning of the branch's tokens, the last one not yet. */
static bool align(struct spec_wish *w) {
	struct spec_follower *f = *w->follower;
	const int32_t *there = bb_context_tokens(f->context);
	const int length = bb_context_length(f->context);
	struct bb_error ignored = { 0 };
	int n = f->n_sure;
	while (n < length && (size_t)n + 1 < w->n && there[n] == w->ids[n]) {
		n++;
	}
	f->n_sure = n;
	return n == length || bb_context_rewind(f->context, n, &ignored);
}

/* ---- steps ---- */

/* One step for those that have something to read; who `draws` gets a draft more. */
static bool step(struct bb_engine *draft, struct spec_wish *wishes, int n, bool draws) {
	struct bb_step_item items[SPEC_MODEL_ITEMS];
	struct bb_error ignored = { 0 };
	int n_items = 0;
	for (int i = 0; i < n; i++) {
		struct spec_follower *f = *wishes[i].follower;
		if (f != NULL && f->n_next > 0) {
			items[n_items++] = (struct bb_step_item){ .context = f->ahead, .tokens = f->next,
				.n_tokens = f->n_next, .sampler = draws ? &f->sampler : NULL,
				.sampled = draws ? &f->drawn : NULL };
		}
	}
	return n_items == 0 || bb_step(draft, items, n_items, &ignored);
}

/* What is left to read of the branches' tokens, within the rows of a step; whether for some it's
 * much, which then read alone. */
static bool plan_reading(struct bb_engine *draft, struct spec_wish *wishes, int n) {
	bool has_much = false;
	for (int i = 0; i < n; i++) {
		const struct spec_follower *f = *wishes[i].follower;
		has_much = has_much || (f != NULL && wishes[i].n - (size_t)f->n_sure > MANY);
	}
	int rows = draft->plan.max_rows;
	for (int i = 0; i < n; i++) {
		struct spec_follower *f = *wishes[i].follower;
		if (f == NULL) {
			continue;
		}
		const int left = (int)wishes[i].n - f->n_sure;
		f->next = wishes[i].ids + f->n_sure;
		f->n_next = left <= rows ? left : has_much ? rows : 0;
		f->n_next = has_much && left <= MANY ? 0 : f->n_next;
		rows -= f->n_next;
	}
	return has_much;
}

/* Behind the branch's last token a context that can't be cut makes place for a fork of it. */
static bool go_ahead(struct bb_engine *draft, struct spec_follower *f) {
	struct bb_error ignored = { 0 };
	return draft->states.bytes == 0 || bb_context_fork(&f->ahead, f->context, &ignored);
}

/* What was drawn is a draft, and what is read next, where more are wanted. */
static void take(struct bb_engine *draft, int n_vocab, struct spec_wish *w, bool is_first) {
	struct spec_follower *f = *w->follower;
	if (f == NULL || f->n_next == 0) {
		return;
	}
	const int32_t id = f->drawn.id;
	f->n_next = 0;
	if (id < 0 || id >= n_vocab || tokenizer_is_eog(draft->tokenizer, id)) {
		return;
	}
	w->drafts[w->n_drafts++] = id;
	f->next = &w->drafts[w->n_drafts - 1];
	f->n_next = w->n_drafts < w->most && (!is_first || go_ahead(draft, f));
}

static int draw(struct bb_engine *draft, int n_vocab, struct spec_wish *wishes, int n) {
	int n_steps = 0;
	for (bool goes_on = true; goes_on; n_steps++) {
		const bool ok = step(draft, wishes, n, true);
		goes_on = false;
		for (int i = 0; i < n; i++) {
			const struct spec_follower *f = *wishes[i].follower;
			if (!ok && f != NULL && f->n_next > 0) {
				drop(&wishes[i]);
				continue;
			}
			take(draft, n_vocab, &wishes[i], n_steps == 0);
			goes_on = goes_on || (f != NULL && f->n_next > 0);
		}
	}
	return n_steps;
}

int spec_model_draft(struct bb_engine *draft, int n_vocab, struct spec_wish *wishes, int n) {
	int n_steps = 0;
	assert(n <= SPEC_MODEL_ITEMS);
	for (int i = 0; i < n; i++) {
		struct spec_wish *w = &wishes[i];
		const bool fits = w->n + (size_t)w->most <= (size_t)draft->max_len;
		w->n_drafts = 0;
		if (*w->follower == NULL && fits) {
			*w->follower = create(draft, w->sampling);
		}
		if (*w->follower != NULL && (!fits || !align(w))) {
			drop(w);
		}
	}
	if (!plan_reading(draft, wishes, n)) {
		n_steps = draw(draft, n_vocab, wishes, n);
	} else if (!step(draft, wishes, n, false)) {
		for (int i = 0; i < n; i++) {
			drop(&wishes[i]);
		}
	}
	for (int i = 0; i < n; i++) {
		struct spec_follower *f = *wishes[i].follower;
		if (f != NULL && f->ahead != f->context) {
			bb_context_destroy(f->ahead);
			f->ahead = f->context;
		}
	}
	return n_steps;
}
