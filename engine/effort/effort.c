/* SPDX-License-Identifier: Apache-2.0
 *
 * Follows the tokens of a request's branches: where thinking begins and ends, how much there is of
 * it, how sure the model was. Owns the copy of what was asked for. */
#include "effort.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts as bytes of tokens, and as tokens ---- */

struct gguf_string effort_piece(const struct bb_engine *e, int32_t id, char room[16]) {
	if (!tokenizer_is_vocabless(e->tokenizer)) {
		return tokenizer_piece(e->tokenizer, id, true);
	}
	const int n = snprintf(room, 16, "<%d>", id);
	return (struct gguf_string){ room, (size_t)n };
}

/* *out: the text in the bytes of effort_piece, for the caller to free. */
static bool as_pieces(const struct bb_engine *e, const char *text, struct bb_text *out,
	struct bb_error *err) {
	if (!tokenizer_is_vocabless(e->tokenizer)) {
		return base_append(out, text, strlen(text), err);
	}
	struct bb_tokens ids = { 0 };
	bool ok = tokenizer_encode_behind(e->tokenizer, text, strlen(text), &ids, err);
	for (size_t i = 0; ok && i < ids.n; i++) {
		char room[16];
		const struct gguf_string piece = effort_piece(e, ids.ids[i], room);
		ok = base_append(out, piece.data, piece.bytes, err);
	}
	bb_tokens_finish(&ids);
	return ok;
}

/* Appends the ids of bytes of effort_piece. */
static bool from_pieces(const struct bb_engine *e, const char *text, size_t bytes,
	struct bb_tokens *out, struct bb_error *err) {
	if (!tokenizer_is_vocabless(e->tokenizer)) {
		return tokenizer_encode_behind(e->tokenizer, text, bytes, out, err);
	}
	for (const char *at = text; at < text + bytes; at = strchr(at, '>') + 1) {
		if (!bb_tokens_push(out, (int32_t)strtol(at + 1, NULL, 10), err)) {
			return false;
		}
	}
	return true;
}

/* ---- what was asked for ---- */

static bool copy_text(const char **text, struct bb_error *err) {
	if (*text != NULL && (*text = base_strdup(*text)) == NULL) {
		return base_no_memory(err, "effort", 1);
	}
	return true;
}

/* Names of policies are those of the table. */
static bool copy_replay(struct bb_effort *p, const struct bb_effort *from, struct bb_error *err) {
	const size_t n = from->replays ? (size_t)from->n_replay : 0;
	struct bb_decision *copy = base_alloc(n, sizeof(*copy));
	if (copy == NULL) {
		return base_no_memory(err, "decisions", n * sizeof(*copy));
	}
	for (size_t i = 0; i < n; i++) {
		const struct effort_policy *policy = effort_policy_find(from->replay[i].policy);
		copy[i] = from->replay[i];
		copy[i].policy = policy != NULL ? policy->name : effort_control;
	}
	p->replay = copy;
	p->n_replay = (int)n;
	return true;
}

static bool copy_params(struct effort *f, const struct bb_effort *from, struct bb_error *err) {
	struct bb_effort *p = &f->params;
	*p = *from;
	const char **texts[] = { &p->thinking.begin, &p->thinking.end, &p->thinking.closing,
		&p->thinking.extension, &p->answer_pattern, &p->probe_text };
	p->replay = NULL;
	bool ok = true;
	for (size_t i = 0; i < COUNT(texts); i++) {
		if (!ok) {
			*texts[i] = NULL; /* the caller's: not to be freed */
		} else {
			ok = copy_text(texts[i], err);
		}
	}
	p->thinking.starts_inside = p->thinking.starts_inside || p->thinking.begin == NULL;
	return ok && copy_replay(p, from, err);
}

static bool make_mark(struct effort *f, const char *text, struct mark *m, struct bb_error *err) {
	struct bb_text pieces = { 0 };
	const bool ok = text == NULL || (as_pieces(f->engine, text, &pieces, err) &&
		mark_init(m, pieces.data, pieces.bytes, err));
	bb_text_finish(&pieces);
	return ok;
}

/* What closes thinking: a line's end, the end, and two, unless the caller said it. */
static bool make_closing(struct effort *f, struct bb_error *err) {
	const struct bb_thinking *t = &f->params.thinking;
	const bool is_plain = tokenizer_is_vocabless(f->engine->tokenizer);
	struct bb_text text = { 0 };
	struct bb_tokens ids = { 0 };
	bool ok = t->closing != NULL ? as_pieces(f->engine, t->closing, &text, err)
		: (is_plain || base_append(&text, "\n", 1, err)) &&
			base_append(&text, f->end.text, f->end.bytes, err) &&
			(is_plain || base_append(&text, "\n\n", 2, err));
	f->closing = ok ? base_strndup(text.data, text.bytes) : NULL;
	ok = ok && (f->closing != NULL || base_no_memory(err, "effort", text.bytes));
	if (ok) {
		const char *at = strstr(f->closing, f->end.text);
		f->end_at = at != NULL ? (size_t)(at - f->closing) : 0;
		ok = (at != NULL || base_fail(err, BB_ERR_USAGE, "what closes thinking doesn't have what "
			"ends it")) && from_pieces(f->engine, text.data, text.bytes, &ids, err);
		f->n_closing = (int)ids.n;
		ids.n = 0;
	}
	ok = ok && from_pieces(f->engine, f->end.text, f->end.bytes, &ids, err);
	f->end_token = ok && ids.n > 0 ? ids.ids[0] : -1;
	bb_text_finish(&text);
	bb_tokens_finish(&ids);
	return ok;
}

static bool make_thinking(struct effort *f, struct bb_error *err) {
	const struct bb_thinking *t = &f->params.thinking;
	const bool has_words = !tokenizer_is_vocabless(f->engine->tokenizer);
	const char *extension = t->extension != NULL ? t->extension : has_words ? "Wait" : "";
	return t->end == NULL || (make_mark(f, t->begin, &f->begin, err) &&
		make_mark(f, t->end, &f->end, err) && make_closing(f, err) &&
		tokenizer_encode_behind(f->engine->tokenizer, extension, strlen(extension), &f->extension,
			err));
}

static bool make_branches(struct effort *f, struct bb_error *err) {
	const size_t n = (size_t)f->n, bytes = f->begin.bytes > f->end.bytes ? f->begin.bytes
		: f->end.bytes;
	f->branches = base_alloc(n, sizeof(*f->branches));
	if (f->branches == NULL) {
		return base_no_memory(err, "effort", n * sizeof(*f->branches));
	}
	for (int i = 0; i < f->n; i++) {
		struct effort_branch *b = &f->branches[i];
		*b = (struct effort_branch){ .effort = f, .index = i, .i_cot_step = -1,
			.phase = f->params.thinking.starts_inside ? EFFORT_THINKING : EFFORT_BEFORE,
			.max_thinking = f->params.has_budget ? f->params.max_thinking : -1, .to_come = -1,
			.min_thinking = f->params.min_thinking, .max_extended = f->params.max_extensions };
		if (!confidence_init(&b->group, f->params.group, err) ||
			!mark_place_init(&b->place, bytes, err)) {
			return false;
		}
	}
	return true;
}

/* What a probe is asked, where there are any. */
static bool make_probe(struct effort *f, struct bb_error *err) {
	struct bb_effort *p = &f->params;
	if (p->probe_every == 0 || p->answer_pattern == NULL) {
		return true;
	}
	if (p->probe_text == NULL) {
		p->probe_text = certaindex_text(answer_pattern_kind(f->ballot.pattern));
		if (!copy_text(&p->probe_text, err)) {
			return false;
		}
	}
	return tokenizer_encode_behind(f->engine->tokenizer, p->probe_text, strlen(p->probe_text),
		&f->probe, err);
}

bool effort_create(struct effort **out, const struct bb_engine *e, const struct bb_effort *params,
	int n, struct bb_error *err) {
	*out = NULL;
	struct effort *f = base_alloc(1, sizeof(*f));
	if (f == NULL) {
		return base_no_memory(err, "effort", sizeof(*f));
	}
	f->engine = e;
	f->n = n;
	bool ok = copy_params(f, params, err);
	struct bb_effort *p = &f->params;
	p->soft_from = p->soft_from > 0 ? p->soft_from : 0.8;
	p->max_extensions = p->max_extensions > 0 ? p->max_extensions : 8;
	p->answer_tokens = p->answer_tokens > 0 ? p->answer_tokens : 64;
	p->group = p->group > 0 ? p->group : 2048;
	p->group = p->group <= e->max_len ? p->group : e->max_len + 1; /* which nobody completes */
	p->keep = p->keep > 0 ? p->keep : 0.9;
	p->conf_share = p->conf_share > 0 ? p->conf_share : 0.95;
	p->probe_tokens = p->probe_tokens > 0 ? p->probe_tokens : 20;
	p->probe_stable = p->probe_stable > 0 ? p->probe_stable : 3;
	ok = ok && make_thinking(f, err) && make_branches(f, err) && ballot_init(&f->ballot, f, err) &&
		make_probe(f, err);
	for (int i = 0; effort_policies[i] != NULL; i++) {
		assert(i < (int)COUNT(f->is_wanted));
		f->is_wanted[i] = effort_policies[i]->is_wanted(p) &&
			!(p->replays && effort_policies[i]->is_load_dependent);
	}
	if (!ok) {
		effort_destroy(f);
		return false;
	}
	f->n_begun = effort_n_first(f);
	*out = f;
	return true;
}

void effort_destroy(struct effort *f) {
	if (f == NULL) {
		return;
	}
	const struct bb_effort *p = &f->params;
	const void *const owned[] = { p->thinking.begin, p->thinking.end, p->thinking.closing,
		p->thinking.extension, p->answer_pattern, p->probe_text, p->replay, f->closing };
	for (size_t i = 0; i < COUNT(owned); i++) {
		base_free((void *)(uintptr_t)owned[i]);
	}
	for (int i = 0; f->branches != NULL && i < f->n; i++) {
		confidence_finish(&f->branches[i].group);
		mark_place_finish(&f->branches[i].place);
		bb_text_finish(&f->branches[i].answer);
		certaindex_finish(&f->branches[i].probes);
	}
	ballot_finish(&f->ballot, f->n);
	bb_tokens_finish(&f->probe);
	base_free(f->branches);
	mark_finish(&f->begin);
	mark_finish(&f->end);
	bb_tokens_finish(&f->extension);
	base_free(f);
}

/* What began later by a decision that isn't taken again begins at once. */
int effort_n_first(const struct effort *f) {
	int n = f->n, least = 1;
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		/* whose decisions are done again, too */
		if (p->is_wanted(&f->params) && p->first != NULL) {
			const int first = p->first(f);
			n = first < n ? first : n;
		}
	}
	for (int i = 0; i < f->params.n_replay; i++) {
		const struct bb_decision *d = &f->params.replay[i];
		if (d->kind == BB_DECISION_START && d->is_load_dependent && d->branch >= least) {
			least = d->branch + 1;
		}
	}
	return n > least ? n : least;
}

/* ---- what is known ---- */

bool effort_has_thinking(const struct effort *f) {
	return f->end.bytes > 0;
}

bool effort_is_thinking(const struct effort_branch *b) {
	return effort_has_thinking(b->effort) && b->phase == EFFORT_THINKING && !b->is_closing;
}

bool effort_may_think(const struct effort_branch *b) {
	return effort_has_thinking(b->effort) && b->phase != EFFORT_ANSWER && !b->is_closing;
}

int effort_n_spent(const struct effort_branch *b) {
	return effort_is_thinking(b) ? b->n_output - b->first_thinking : b->n_thinking;
}

bool effort_may_extend(const struct effort_branch *b) {
	return effort_is_thinking(b) && effort_n_spent(b) < b->min_thinking &&
		b->n_extended < b->max_extended && b->effort->extension.n > 0;
}

/* What was asked for last goes before what was asked for at first. */
void effort_change(struct effort_branch *b, bool extends, int n) {
	const int n_spent = b->phase == EFFORT_THINKING ? effort_n_spent(b) : 0;
	if (extends) {
		b->min_thinking = n < INT_MAX - n_spent ? n_spent + n : INT_MAX;
		b->n_extended = 0;
	} else {
		b->max_thinking = n;
	}
	if (extends && b->max_thinking >= 0 && b->max_thinking < b->min_thinking) {
		b->max_thinking = b->min_thinking;
	} else if (!extends && b->min_thinking > n) {
		b->min_thinking = n;
	}
}

bool effort_is_end(const struct effort_branch *b, int32_t id) {
	const struct effort *f = b->effort;
	char room[16];
	const struct gguf_string piece = effort_piece(f->engine, id, room);
	return effort_has_thinking(f) && memmem(piece.data, piece.bytes, f->end.text,
		f->end.bytes) != NULL;
}

/* ---- one more token ---- */

/* A CoT step counts as soon as it has a token that is surely thinking. */
static void count_steps(struct effort_branch *b, const struct cot *cot) {
	b->n_cot_tail += cot->i_step != b->i_cot_step;
	b->i_cot_step = cot->i_step;
	if (b->place.n == 0) {
		b->n_cot_steps += b->n_cot_tail;
		b->n_cot_tail = 0;
	}
}

static bool think(struct effort_branch *b, const struct gguf_string *piece, const struct cot *cot) {
	const bool found = mark_follow(&b->effort->end, &b->place, piece->data, piece->bytes);
	if (!b->is_closing) {
		b->n_thinking = b->place.first - b->first_thinking;
		if (!found) {
			count_steps(b, cot);
		}
	}
	return found;
}

static bool add_answer(struct effort_branch *b, int32_t id, struct bb_error *err) {
	const struct bb_engine *e = b->effort->engine;
	char room[16];
	if (tokenizer_is_vocabless(e->tokenizer)) {
		const int n = snprintf(room, sizeof(room), " %d", id);
		return base_append(&b->answer, room, (size_t)n, err);
	}
	const struct gguf_string piece = tokenizer_piece(e->tokenizer, id, false);
	return base_append(&b->answer, piece.data, piece.bytes, err);
}

bool effort_follow(struct effort_branch *b, const struct bb_sampled *token, const struct cot *cot,
	double now, bool *ends, struct bb_error *err) {
	const struct effort *f = b->effort;
	char room[16];
	const struct gguf_string piece = effort_piece(f->engine, token->id, room);
	*ends = false;
	b->logprob += (double)token->logprob;
	b->confidence += (double)token->confidence;
	b->certainty += (double)token->certainty;
	confidence_add(&b->group, token->confidence);
	if (b->n_output > 0) {
		b->pace = b->n_output > 1 ? 0.8 * b->pace + 0.2 * (now - b->last) : now - b->last;
	}
	b->last = now;
	b->n_output++;
	b->may_pause = cot_may_pause(cot);
	if (!effort_has_thinking(f)) {
		b->n_cot_steps += cot->n_tokens == 1;
	}
	if (!effort_has_thinking(f) || b->phase == EFFORT_ANSWER) {
		return add_answer(b, token->id, err);
	}
	if (b->phase == EFFORT_THINKING) {
		const bool found = think(b, &piece, cot);
		*ends = found && !b->is_closing;
		if (found && b->is_closing) {
			effort_end(b);
		}
		return true;
	}
	if (mark_follow(&f->begin, &b->place, piece.data, piece.bytes)) {
		b->phase = EFFORT_THINKING;
		b->first_thinking = b->n_output;
		b->answer.bytes = 0;
		return true;
	}
	return add_answer(b, token->id, err);
}

void effort_end(struct effort_branch *b) {
	b->phase = EFFORT_ANSWER;
	b->is_closing = false;
	b->answer.bytes = 0;
}

static void count_tail(struct effort_branch *b) {
	b->n_thinking = b->n_output - b->first_thinking;
	b->n_cot_steps += b->n_cot_tail;
	b->n_cot_tail = 0;
}

void effort_go_on(struct effort_branch *b) {
	mark_forget(&b->place);
	count_tail(b);
}

void effort_finish(struct effort_branch *b, enum bb_finish finish) {
	if (effort_is_thinking(b)) {
		count_tail(b);
	}
	b->finish = finish;
}

bool effort_closing(const struct effort_branch *b, struct bb_tokens *out, struct bb_error *err) {
	const struct effort *f = b->effort;
	const char *rest = f->closing + (b->place.n > 0 ? f->end_at + b->place.n : 0);
	return from_pieces(f->engine, rest, strlen(rest), out, err);
}
