/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation: prompt in, text out. Holds back what may become a stop string or half a character,
 * and says why it ended. */
#include "generate.h"

#include <assert.h>
#include <string.h>

void generation_free_stops(char **stop, int n) {
	for (int i = 0; stop != NULL && i < n; i++) {
		base_free(stop[i]);
	}
	base_free(stop);
}

char **generation_copy_stops(const char *const *stop, int n) {
	char **copy = base_alloc((size_t)n, sizeof(*copy));
	for (int i = 0; copy != NULL && i < n; i++) {
		copy[i] = base_strdup(stop[i]);
		if (copy[i] == NULL) {
			generation_free_stops(copy, i);
			copy = NULL;
		}
	}
	return copy;
}

static bool copy_stops(struct bb_generation *g, const struct bb_generation_params *p,
	struct bb_error *err) {
	g->stop = generation_copy_stops(p->stop, p->n_stop);
	g->n_stop = g->stop != NULL ? p->n_stop : 0;
	return g->stop != NULL ||
		base_no_memory(err, "stop strings", (size_t)p->n_stop * sizeof(*g->stop));
}

static bool copy_stop_ids(struct bb_generation *g, const struct bb_generation_params *p,
	struct bb_error *err) {
	const size_t n = (size_t)p->n_stop_token_ids;
	if (n == 0) {
		return true;
	}
	g->stop_ids = base_alloc(n, sizeof(*g->stop_ids));
	if (g->stop_ids == NULL) {
		return base_no_memory(err, "stop tokens", n * sizeof(*g->stop_ids));
	}
	memcpy(g->stop_ids, p->stop_token_ids, n * sizeof(*g->stop_ids));
	g->n_stop_ids = p->n_stop_token_ids;
	return true;
}

bool bb_generation_check(const struct bb_engine *e, const struct bb_generation_params *p,
	struct bb_error *err) {
	const int n_vocab = engine_n_vocab(e);
	for (int i = 0; i < p->n_stop; i++) {
		if (p->stop[i][0] == '\0') {
			return base_fail(err, BB_ERR_USAGE, "stop string %d is empty", i + 1);
		}
	}
	for (int i = 0; i < p->n_stop_token_ids; i++) {
		const int32_t id = p->stop_token_ids[i];
		if (id < 0 || id >= n_vocab) {
			return base_fail(err, BB_ERR_USAGE,
				"stop_token_ids has token id %d, expected 0 to %d", id, n_vocab - 1);
		}
	}
	const int most = p->max_tokens >= 0 ? p->max_tokens : INT32_MAX;
	if (p->min_tokens < 0 || p->min_tokens > most) {
		return base_fail(err, BB_ERR_USAGE, "min_tokens is %d, expected 0 to max_tokens, %d",
			p->min_tokens, most);
	}
	return bb_sampling_check(e, &p->sampling, err);
}

bool generation_create(struct bb_generation **out, struct bb_engine *e,
	const struct bb_generation_params *params, int max_len, struct bb_error *err) {
	assert(params->max_tokens != 0);
	*out = NULL;
	struct bb_generation *g = base_alloc(1, sizeof(*g));
	if (g == NULL) {
		return base_no_memory(err, "generation", sizeof(*g));
	}
	g->engine = e;
	g->max_len = max_len;
	g->max_tokens = params->max_tokens;
	g->min_tokens = params->min_tokens;
	g->special = params->special;
	g->cot.each_token = e->cot_each_token;
	g->stream.started = true; /* the text goes on after a prompt: its first space is real */
	if (!bb_generation_check(e, params, err) || !copy_stops(g, params, err) ||
		!copy_stop_ids(g, params, err) ||
		!bb_tokens_push(&g->pending, 0, err) || /* room for each token given out */
		!sampler_init(&g->sampler, e, &params->sampling, err) ||
		(g->min_tokens > 0 &&
			!sampler_ban_ends(&g->sampler, e, g->stop_ids, g->n_stop_ids, err))) {
		bb_generation_destroy(g);
		return false;
	}
	g->pending.n = 0;
	*out = g;
	return true;
}

void generation_prompt(struct bb_generation *g, const int32_t *ids, size_t n) {
	bb_sampler_prompt(&g->sampler, ids, n);
}

/* Ends are allowed from the draw on that makes min_tokens. */
static void allow_ends(struct bb_generation *g) {
	if (g->n_tokens > 0 && g->n_tokens == g->min_tokens && !g->allows_ends) {
		sampler_allow_ends(&g->sampler);
		g->allows_ends = true;
	}
}

bool generation_is_forced(const struct bb_generation *g) {
	return g->i_forced < g->forced.n;
}

static void aim(struct bb_generation *g) {
	allow_ends(g);
	sampler_force(&g->sampler, generation_is_forced(g) ? g->forced.ids[g->i_forced]
		: BB_SAMPLE_ID_NONE);
}

bool generation_prepare(struct bb_generation *g, struct bb_error *err) {
	aim(g);
	if (!sampler_prepare(&g->sampler, g->engine, err)) {
		return false;
	}
	if (!generation_is_forced(g) || sampler_allows(&g->sampler, g->forced.ids[g->i_forced])) {
		return true;
	}
	if (g->i_forced < g->n_must) {
		return base_fail(err, BB_ERR_INPUT, "the grammar doesn't let thinking end here");
	}
	g->forced.n = g->i_forced = 0;
	aim(g);
	return true;
}

void generation_draws(struct bb_generation *g, struct bb_step_item *item) {
	assert(!g->is_done && !g->has_next);
	aim(g);
	g->context = item->context;
	item->sampler = &g->sampler;
	item->sampled = &g->next;
	item->logits = g->keeps_row ? g->sampler.row : NULL;
}

bool generation_force(struct bb_generation *g, const int32_t *ids, size_t n, size_t n_must,
	struct bb_error *err) {
	g->forced.n = g->i_forced = 0;
	for (size_t i = 0; i < n; i++) {
		if (!bb_tokens_push(&g->forced, ids[i], err)) {
			g->forced.n = 0;
			return false;
		}
	}
	g->n_must = n_must;
	return true;
}

void generation_lean(struct bb_generation *g, int32_t id, float bias) {
	sampler_lean(&g->sampler, id, bias);
}

bool generation_keep_row(struct bb_generation *g, bool keeps, struct bb_error *err) {
	g->keeps_row = keeps;
	return !keeps || sampler_keep_row(&g->sampler, err);
}

bool generation_replace(struct bb_generation *g, const int32_t *ids, size_t n,
	struct bb_error *err) {
	assert(n >= 1 && !generation_is_forced(g));
	if (!generation_force(g, ids + 1, n - 1, 0, err)) {
		return false;
	}
	sampler_replace(&g->sampler, g->engine, ids[0], &g->next);
	g->is_replaced = true;
	return true;
}

int generation_most_drafts(const struct bb_generation *g) {
	const int max_len = g->max_len > 0 ? g->max_len : g->context->max_len;
	const int room = max_len - bb_context_length(g->context) - 2;
	const int most = g->max_tokens >= 0 ? g->max_tokens - g->n_tokens - 1 : room;
	return most < room ? most : room;
}

bool generation_follow(struct bb_generation *g, bool *follows, struct bb_error *err) {
	struct bb_error ignored = { 0 };
	*follows = false;
	/* where that fails the next step tells */
	return !generation_prepare(g, &ignored) || bb_step_follow(g->context, &g->next, follows, err);
}

bool bb_generation_create(struct bb_generation **out, struct bb_context *c,
	const struct bb_generation_params *params, const int32_t *prompt, size_t n_prompt,
	bb_progress_fn *progress, void *user, struct bb_error *err) {
	assert(n_prompt >= 1);
	struct bb_generation *g;
	*out = NULL;
	if (!generation_create(&g, c->engine, params, 0, err)) {
		return false;
	}
	g->context = c;
	bool ok = engine_check_ids(c->engine, prompt, n_prompt, err);
	if (ok) {
		generation_prompt(g, bb_context_tokens(c), (size_t)bb_context_length(c));
		generation_prompt(g, prompt, n_prompt);
		ok = engine_prefill(c, prompt, n_prompt, NULL, &g->sampler, &g->next, progress, user, err);
	}
	if (!ok) {
		bb_generation_destroy(g);
		return false;
	}
	g->has_next = true;
	*out = g;
	return true;
}

void bb_generation_destroy(struct bb_generation *g) {
	if (g == NULL) {
		return;
	}
	generation_free_stops(g->stop, g->n_stop);
	base_free(g->stop_ids);
	bb_tokens_finish(&g->pending);
	bb_tokens_finish(&g->forced);
	cot_finish(&g->cot);
	bb_text_finish(&g->held);
	bb_text_finish(&g->ready);
	sampler_finish(&g->sampler);
	base_free(g);
}

/* Where the first stop string starts in the held text; SIZE_MAX = none. */
static size_t find_stop(const struct bb_generation *g) {
	size_t first = SIZE_MAX;
	for (int i = 0; i < g->n_stop && g->held.bytes > 0; i++) {
		const char *at = memmem(g->held.data, g->held.bytes, g->stop[i], strlen(g->stop[i]));
		if (at != NULL && (size_t)(at - g->held.data) < first) {
			first = (size_t)(at - g->held.data);
		}
	}
	return first;
}

/* Bytes at the end of the held text that are the beginning of a stop string. */
static size_t stop_prefix_bytes(const struct bb_generation *g) {
	size_t most = 0;
	for (int i = 0; i < g->n_stop; i++) {
		const size_t whole = strlen(g->stop[i]);
		size_t n = whole - 1 < g->held.bytes ? whole - 1 : g->held.bytes;
		while (n > most && memcmp(g->held.data + g->held.bytes - n, g->stop[i], n) != 0) {
			n--;
		}
		most = n > most ? n : most;
	}
	return most;
}

/* Moves the first n held bytes to what this call gives out. */
static bool release(struct bb_generation *g, size_t n, struct bb_error *err) {
	if (n == 0) {
		return true;
	}
	if (!base_append(&g->ready, g->held.data, n, err)) {
		return false;
	}
	memmove(g->held.data, g->held.data + n, g->held.bytes - n);
	g->held.bytes -= n;
	return true;
}

/* What the next token is drawn behind joins the context. */
static bool step_pending(struct bb_generation *g, struct bb_error *err) {
	struct bb_context *c = g->context;
	const int length = bb_context_length(c);
	struct bb_step_item item = {
		.context = c, .tokens = g->pending.ids, .n_tokens = (int)g->pending.n,
	};
	generation_draws(g, &item);
	const bool ok = g->pending.n == 1 ? bb_step(c->engine, &item, 1, err)
		: engine_prefill(c, g->pending.ids, g->pending.n, NULL, &g->sampler, &g->next, NULL, NULL,
			err);
	if (!ok && bb_context_length(c) != length) {
		g->refused = *err;
	}
	return ok;
}

static bool add_text(struct bb_generation *g, int32_t id, struct bb_error *err) {
	const struct tokenizer *t = g->engine->tokenizer;
	if (tokenizer_is_vocabless(t)) {
		char digits[16];
		const int n = snprintf(digits, sizeof(digits), "%s%d", g->n_tokens > 1 ? " " : "", id);
		return base_append(&g->held, digits, (size_t)n, err);
	}
	if (tokenizer_is_eog(t, id) && !g->special) {
		return true;
	}
	return token_stream_push(&g->stream, t, id, g->special, &g->held, err);
}

/* Room for all that the next token's text may bring, so that nothing behind it can fail: a token
 * that was drawn isn't drawn again. A byte that is part of no character becomes U+FFFD, of three
 * bytes, and so may what the stream holds of one. */
static bool reserve_text(struct bb_generation *g, int32_t id, struct bb_error *err) {
	const struct tokenizer *t = g->engine->tokenizer;
	const size_t most = tokenizer_is_vocabless(t) ? 16
		: 3 * (tokenizer_piece(t, id, g->special).bytes + sizeof(g->stream.held));
	return base_reserve(&g->held, most, err) &&
		base_reserve(&g->ready, g->held.bytes + most, err) &&
		base_reserve(&g->cot.text, most, err);
}

/* The text of a token, also as a part of a CoT step. */
static bool add_token(struct bb_generation *g, const struct bb_sampled *token,
	struct bb_error *err) {
	const size_t before = g->held.bytes;
	return bb_tokens_push(&g->pending, token->id, err) && add_text(g, token->id, err) &&
		cot_add(&g->cot, bb_context_length(g->context), (double)token->logprob,
			g->held.data != NULL ? g->held.data + before : "", g->held.bytes - before, err);
}

static bool give_out(struct bb_generation *g, enum bb_finish *finish, struct bb_error *err) {
	const size_t stop = g->n_tokens >= g->min_tokens ? find_stop(g) : SIZE_MAX;
	if (stop != SIZE_MAX) {
		*finish = BB_FINISH_STOP;
		return release(g, stop, err);
	}
	if (*finish == BB_FINISH_NONE) {
		return release(g, g->held.bytes - stop_prefix_bytes(g), err);
	}
	return token_stream_flush(&g->stream, &g->held, err) && release(g, g->held.bytes, err);
}

static bool is_stop_id(const struct bb_generation *g, int32_t id) {
	for (int i = 0; i < g->n_stop_ids; i++) {
		if (g->stop_ids[i] == id) {
			return true;
		}
	}
	return false;
}

static enum bb_finish why_finished(const struct bb_generation *g, int32_t id) {
	const struct bb_engine *e = g->engine;
	if ((tokenizer_is_eog(e->tokenizer, id) && !g->sampler.params.ignore_eos) ||
		is_stop_id(g, id)) {
		return BB_FINISH_STOP;
	}
	if (g->max_tokens >= 0 && g->n_tokens >= g->max_tokens) {
		return BB_FINISH_LENGTH;
	}
	const int max_len = g->max_len > 0 ? g->max_len : g->context->max_len;
	return bb_context_length(g->context) + 1 >= max_len ? BB_FINISH_CONTEXT : BB_FINISH_NONE;
}

bool generation_take(struct bb_generation *g, struct bb_sampled *token, const char **text,
	size_t *bytes, enum bb_finish *finish, struct bb_error *err) {
	g->ready.bytes = 0;
	if (!reserve_text(g, g->next.id, err)) {
		return false;
	}
	*token = g->next;
	token->is_forced = g->is_replaced || generation_is_forced(g);
	g->i_forced += !g->is_replaced && generation_is_forced(g);
	g->is_replaced = false;
	g->pending.n = 0;
	g->has_next = false;
	g->n_tokens++;
	*finish = why_finished(g, token->id);
	const bool is_added = add_token(g, token, err), is_given = give_out(g, finish, err);
	assert(is_added && is_given); /* there was room */
	g->is_done = *finish != BB_FINISH_NONE;
	*text = g->ready.data != NULL ? g->ready.data : "";
	*bytes = g->ready.bytes;
	return true;
}

void generation_judge(struct bb_generation *g, const float *logits, int n_top,
	struct bb_sampled *token) {
	sampler_report(&g->sampler, g->engine, logits, n_top, token);
}

bool bb_generation_next(struct bb_generation *g, struct bb_sampled *token, const char **text,
	size_t *bytes, enum bb_finish *finish, struct bb_error *err) {
	assert(!g->is_done);
	if (g->refused.code != BB_OK) {
		*err = g->refused;
		return false;
	}
	g->has_next = g->has_next || step_pending(g, err);
	return g->has_next && generation_take(g, token, text, bytes, finish, err);
}

bool bb_generation_feed(struct bb_generation *g, const int32_t *ids, size_t n,
	struct bb_error *err) {
	assert(!g->is_done && !g->has_next);
	const struct bb_context *c = g->context;
	const size_t before = g->pending.n;
	const size_t room = (size_t)(c->max_len - bb_context_length(c)) - before;
	if (!engine_check_ids(c->engine, ids, n, err)) {
		return false;
	}
	if (n >= room) { /* and a token more */
		return base_fail(err, BB_ERR_CONTEXT, "the context holds %d of at most %d tokens; %zu more "
			"and an answer don't fit", bb_context_length(c) + (int)before, c->max_len, n);
	}
	for (size_t i = 0; i < n; i++) {
		if (!bb_tokens_push(&g->pending, ids[i], err)) {
			g->pending.n = before;
			return false;
		}
	}
	bb_sampler_prompt(&g->sampler, ids, n);
	return true;
}

bool bb_generation_cot_step(const struct bb_generation *g, struct bb_cot_step *step) {
	const struct cot *c = &g->cot;
	*step = (struct bb_cot_step){
		.index = c->i_step, .first = c->first, .n_tokens = c->n_tokens, .logprob = c->logprob,
		.text = c->text.data != NULL ? c->text.data : "", .bytes = c->text.bytes,
	};
	return c->n_tokens > 0 && (c->has_ended || g->is_done);
}
