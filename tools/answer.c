/* SPDX-License-Identifier: Apache-2.0
 *
 * Generating one answer, with its clock. */
#include "answer.h"

#include "input.h"
#include "terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool answer_init(struct answer *a, bool is_shown, bool with_logprobs, struct bb_error *err) {
	memset(a, 0, sizeof(*a));
	a->is_shown = is_shown;
	a->logprobs = with_logprobs ? json_array() : NULL;
	a->text_file = open_memstream(&a->text, &a->text_bytes);
	return a->text_file != NULL ||
		input_fail(err, BB_ERR_MEMORY, "no memory for an answer: %s", strerror(errno));
}

void answer_finish(struct answer *a) {
	if (a->text_file != NULL) {
		fclose(a->text_file);
	}
	free(a->text);
	json_decref(a->logprobs);
	bb_tokens_finish(&a->tokens);
	memset(a, 0, sizeof(*a));
}

/* ---- log-probabilities ---- */

static json_t *alternative(const struct bb_engine *e, int32_t id, double logprob, bool is_end) {
	struct bb_text piece = { 0 };
	struct bb_error ignored = { 0 };
	if (!is_end && !bb_detokenize(e, &id, 1, &piece, &ignored)) {
		piece.bytes = 0;
	}
	json_t *bytes = json_array();
	for (size_t i = 0; i < piece.bytes; i++) {
		json_array_append_new(bytes, json_integer((unsigned char)piece.data[i]));
	}
	json_t *entry = json_pack("{s:i, s:o, s:f, s:o}", "id", (int)id, "token",
		json_bytes(piece.data != NULL ? piece.data : "", piece.bytes), "logprob", logprob, "bytes",
		bytes);
	bb_text_finish(&piece);
	return entry;
}

static void add_logprobs(struct answer *a, const struct bb_engine *e, const struct bb_sampled *t) {
	const bool is_end = a->finish == BB_FINISH_STOP && bb_token_is_end(e, t->id);
	json_t *entry = alternative(e, t->id, (double)t->logprob, is_end);
	json_t *top = json_array();
	for (int i = 0; i < t->n_top; i++) {
		json_array_append_new(top,
			alternative(e, t->top_ids[i], (double)t->top_logprobs[i], false));
	}
	json_object_set_new(entry, "top_logprobs", top);
	json_array_append_new(a->logprobs, entry);
}

bool answer_take(struct answer *a, const struct bb_engine *e, const struct bb_sampled *token,
	const char *text, size_t bytes, struct bb_error *err) {
	if (!bb_tokens_push(&a->tokens, token->id, err)) {
		return false;
	}
	fwrite(text, 1, bytes, a->text_file);
	if (a->logprobs != NULL) {
		add_logprobs(a, e, token);
	}
	return true;
}

bool answer_close(struct answer *a, struct bb_error *err) {
	return fflush(a->text_file) == 0 ||
		input_fail(err, BB_ERR_MEMORY, "no memory for the answer: %s", strerror(errno));
}

/* ---- generating ---- */

/* The next of what others say. */
static bool feed(struct answer *a, struct bb_generation *g, struct bb_error *err) {
	const int32_t *id = &a->feed->ids[a->tokens.n - 1];
	return bb_generation_feed(g, id, 1, err) &&
		(a->trace == NULL || bb_tokens_push(&a->trace->read, *id, err));
}

/* Behind the last of what others say the answer is at its length. */
static bool has_more(struct answer *a) {
	if (a->finish == BB_FINISH_NONE && a->feed != NULL && a->tokens.n > a->feed->n) {
		a->finish = BB_FINISH_LENGTH;
	}
	a->was_interrupted = a->finish == BB_FINISH_NONE && interrupted();
	return a->finish == BB_FINISH_NONE && !a->was_interrupted;
}

static bool generate(struct answer *a, struct bb_engine *e, struct bb_context *c,
	struct bb_generation *g, struct bb_error *err) {
	const double start = seconds_now();
	a->was_interrupted = interrupted();
	while (a->finish == BB_FINISH_NONE && !a->was_interrupted) {
		struct bb_sampled token;
		const char *text;
		size_t bytes;
		if (!bb_generation_next(g, &token, &text, &bytes, &a->finish, err) ||
			!answer_take(a, e, &token, text, bytes, err)) {
			return false;
		}
		a->generate_s = seconds_now() - start;
		a->first_s = a->tokens.n == 1 ? a->generate_s : a->first_s;
		const bool goes_on = has_more(a);
		if (a->trace != NULL && !trace_add(a->trace, e, c, g, token.id, !goes_on)) {
			return true;
		}
		if (goes_on && a->feed != NULL && !feed(a, g, err)) {
			return false;
		}
		if (a->is_shown && bytes > 0 && (!out_write(text, bytes) || !out_flush())) {
			return true;
		}
	}
	return true;
}

/* With nothing to generate the prompt is read all the same: its speed may be what was asked for. */
static bool read_only(struct answer *a, struct bb_context *c, const struct bb_tokens *rest,
	struct bb_error *err) {
	a->finish = BB_FINISH_LENGTH;
	return bb_prefill(c, rest->ids, rest->n, NULL, progress_show, NULL, err);
}

bool answer_generate(struct answer *a, struct bb_engine *e, struct bb_context *c,
	const struct bb_generation_params *params, const struct bb_tokens *prompt,
	const struct parts *parts, struct bb_error *err) {
	const size_t n_kept = (size_t)bb_context_length(c);
	const struct bb_tokens rest = { prompt->ids + n_kept, prompt->n - n_kept, 0 };
	a->n_prompt = prompt->n;
	a->n_read = rest.n;
	const double start = seconds_now();
	struct bb_generation *g = NULL;
	bool ok = params->max_tokens == 0
		? read_only(a, c, &rest, err)
		: bb_generation_create(&g, c, params, rest.ids, rest.n, progress_show, NULL, err);
	ok = ok && parts_begin(parts, c, (int)n_kept, err);
	a->read_s = seconds_now() - start;
	progress_clear();
	if (!ok && err->code == BB_ERR_CANCELLED) {
		a->was_interrupted = true;
		a->n_read = 0; /* how far it came isn't known, and nothing of it is kept */
		ok = true;
	} else if (ok && g != NULL) {
		ok = generate(a, e, c, g, err);
	}
	bb_generation_destroy(g);
	struct bb_error ignored = { 0 };
	return answer_close(a, ok ? err : &ignored) && ok;
}

/* ---- figures ---- */

const char *answer_reason(const struct answer *a) {
	switch (a->finish) {
	case BB_FINISH_NONE:
	case BB_FINISH_CANCELLED:
		return "abort";
	case BB_FINISH_STOP:
		return "stop";
	case BB_FINISH_DROPPED:
		return "dropped";
	default:
		return "length";
	}
}

double answer_read_rate(const struct answer *a) {
	return a->read_s > 0 ? (double)a->n_read / a->read_s : 0;
}

double answer_generate_rate(const struct answer *a) {
	const double steps_s = a->generate_s - a->first_s;
	return a->tokens.n > 1 && steps_s > 0 ? (double)(a->tokens.n - 1) / steps_s : 0;
}

json_t *answer_ids(const struct answer *a) {
	json_t *ids = json_array();
	for (size_t i = 0; i < a->tokens.n; i++) {
		json_array_append_new(ids, json_integer(a->tokens.ids[i]));
	}
	return ids;
}

/* Where the clock is too coarse to see it, a rate is 0; JSON has no infinity. */
json_t *answer_timings(const struct answer *a, size_t n_cached) {
	const double n_read = (double)a->n_read, n_made = (double)a->tokens.n;
	return json_pack("{s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:f}", "cache_n",
		(json_int_t)n_cached, "prompt_n", (json_int_t)a->n_read, "prompt_ms", a->read_s * 1e3,
		"prompt_per_token_ms", n_read > 0 ? a->read_s * 1e3 / n_read : 0.0, "prompt_per_second",
		answer_read_rate(a), "predicted_n", (json_int_t)a->tokens.n, "predicted_ms",
		a->generate_s * 1e3, "predicted_per_token_ms", n_made > 0 ? a->generate_s * 1e3 / n_made
		: 0.0, "predicted_per_second", answer_generate_rate(a));
}

void answer_summary(const struct answer *a, uint64_t seed) {
	fprintf(stderr, "prompt: %zu tokens, %.1f tokens/s; generated: %zu tokens, %.1f "
		"tokens/s; seed %" PRIu64 "\n", a->n_prompt, answer_read_rate(a), a->tokens.n,
		answer_generate_rate(a), seed);
}
