/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers by a scheduler: from its events to texts, to the ones that are given, and to JSON. */
#include "answers.h"

#include "decision.h"
#include "speculation.h"
#include "terminal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool answers_init(struct answers *as, const struct bb_engine *e, const struct effort_request *r,
	bool is_shown, bool with_logprobs, bool shows_decisions, struct bb_error *err) {
	memset(as, 0, sizeof(*as));
	as->engine = e;
	as->shows_decisions = shows_decisions;
	as->chooses = r->effort.choice != BB_CHOICE_ALL;
	as->items = calloc((size_t)r->n, sizeof(*as->items));
	as->given = calloc((size_t)r->n, sizeof(*as->given));
	as->decisions = json_array();
	if (as->items == NULL || as->given == NULL || as->decisions == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for %d answers", r->n);
	}
	for (; as->n < r->n; as->n++) {
		if (!answer_init(&as->items[as->n].answer, is_shown && r->n == 1, with_logprobs, err)) {
			return false;
		}
	}
	return true;
}

void answers_finish(struct answers *as) {
	for (int i = 0; i < as->n; i++) {
		answer_finish(&as->items[i].answer);
		free(as->items[i].voted);
	}
	free(as->items);
	free(as->given);
	json_decref(as->decisions);
	memset(as, 0, sizeof(*as));
}

/* ---- events ---- */

static void give(struct answers *as, int branch) {
	if (branch >= 0 && branch < as->n && as->n_given < as->n) {
		as->given[as->n_given++] = branch;
	}
}

static void take_decision(struct answers *as, const struct bb_decision *d) {
	json_array_append_new(as->decisions, decision_json(d));
	if (d->kind == BB_DECISION_CHOOSE && as->chooses) {
		give(as, d->branch);
	}
	if (!as->shows_decisions) {
		return;
	}
	progress_clear();
	if (as->is_mid_line && out_meets_stderr()) {
		out_write("\n", 1);
		out_flush();
		as->is_mid_line = false;
	}
	decision_print(stderr, d);
}

static bool take_token(struct answers *as, const struct bb_event *event) {
	struct drawn *d = &as->items[event->branch];
	const struct bb_sampled *t = event->token;
	d->logprob += (double)t->logprob;
	d->confidence += (double)t->confidence;
	d->certainty += (double)t->certainty;
	d->answer.finish = event->finish;
	if (!answer_take(&d->answer, as->engine, t, event->text, event->bytes, &as->error)) {
		return false;
	}
	if (d->answer.is_shown && event->bytes > 0) {
		as->is_mid_line = event->text[event->bytes - 1] != '\n';
		out_write(event->text, event->bytes);
		out_flush();
	}
	return true;
}

static void on_event(void *user, const struct bb_event *event) {
	struct answers *as = user;
	progress_clear();
	if (event->kind == BB_EVENT_DECISION) {
		take_decision(as, event->decision);
	} else if (event->kind == BB_EVENT_TOKEN && !as->has_failed) {
		as->has_failed = !take_token(as, event);
	} else if (event->kind == BB_EVENT_FINISHED) {
		as->items[event->branch].answer.finish = event->finish;
	} else if (event->kind == BB_EVENT_FAILED && !as->has_failed) {
		as->has_failed = true;
		as->error = *event->error;
	}
	if (event->usage != NULL) {
		as->usage = *event->usage;
		as->is_over = true;
	}
}

/* ---- drawing ---- */

/* Of a long prompt, how far it is read. */
static void show_reading(struct bb_scheduler *s) {
	struct bb_request_info info;
	if (bb_scheduler_requests(s, &info, 1) > 0 && info.state == BB_REQUEST_READING) {
		progress_show(NULL, "reading the prompt", info.n_read, info.n_prompt);
	}
}

static bool run(struct answers *as, struct bb_scheduler *s, struct bb_request *request,
	struct bb_error *err) {
	bool is_cancelled = false;
	while (!as->is_over) {
		as->was_interrupted = as->was_interrupted || interrupted();
		const bool must_end = as->was_interrupted || as->has_failed || !out_flush();
		if (must_end && !is_cancelled) {
			bb_request_cancel(request);
			is_cancelled = true;
		}
		bool is_idle;
		if (!bb_scheduler_step(s, &is_idle, err) && !as->is_over) {
			return false;
		}
		if (is_idle && !as->is_over) {
			bb_scheduler_wait(s, 0.1);
		}
		show_reading(s);
	}
	progress_clear();
	return true;
}

/* What is given where nothing chooses: all that weren't dropped. */
static void give_all(struct answers *as) {
	for (int i = 0; i < as->n && !as->chooses; i++) {
		if (as->items[i].answer.finish != BB_FINISH_DROPPED &&
			(as->items[i].answer.tokens.n > 0 || as->n == 1)) {
			give(as, i);
		}
	}
}

static bool keep_votes(struct answers *as, const struct bb_request *request, struct bb_error *err) {
	for (int i = 0; i < as->n; i++) {
		struct drawn *d = &as->items[i];
		const char *text = bb_request_answer(request, i, &d->weight);
		d->voted = text != NULL ? strdup(text) : NULL;
		if (text != NULL && d->voted == NULL) {
			return input_fail(err, BB_ERR_MEMORY, "no memory for votes");
		}
	}
	return true;
}

static bool submit(struct answers *as, struct bb_request_params *p, struct bb_scheduler *s,
	const struct parts *parts, struct bb_request **out, struct bb_error *err) {
	struct bb_segment_mark *marks = calloc(parts->n + 1, sizeof(*marks));
	if (marks == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for a request");
	}
	for (size_t i = 0; i < parts->n; i++) {
		marks[i] = (struct bb_segment_mark){ parts->items[i].first, parts->items[i].role };
	}
	p->segments = marks;
	p->n_segments = (int)parts->n;
	p->event = on_event;
	p->user = as;
	const bool ok = bb_request_submit(out, s, p, err);
	free(marks);
	return ok;
}

bool answers_draw(struct answers *as, struct bb_scheduler *s, const struct effort_request *r,
	const struct bb_generation_params *params, const struct bb_tokens *prompt,
	const struct parts *parts, const char *conversation, struct bb_error *err) {
	struct bb_request *request;
	struct bb_request_params p = { .prompt = prompt->ids, .n_prompt = prompt->n,
		.generation = *params, .n = r->n, .effort = &r->effort, .conversation = conversation };
	if (!submit(as, &p, s, parts, &request, err)) {
		return false;
	}
	bool ok = run(as, s, request, err) && keep_votes(as, request, err);
	bb_request_release(request);
	if (ok && as->has_failed) {
		*err = as->error;
		ok = false;
	}
	for (int i = 0; i < as->n; i++) {
		ok = answer_close(&as->items[i].answer, err) && ok;
	}
	give_all(as);
	return ok;
}

/* ---- output ---- */

const struct answer *answers_best(const struct answers *as) {
	return as->n_given > 0 ? &as->items[as->given[0]].answer : NULL;
}

void answers_print(const struct answers *as) {
	for (int i = 0; i < as->n_given; i++) {
		const struct answer *a = &as->items[as->given[i]].answer;
		if (a->is_shown) {
			continue;
		}
		if (as->n_given > 1) {
			out_print("%s--- answer %d of %d ---\n", i > 0 ? "\n" : "", as->given[i] + 1, as->n);
		}
		out_write(a->text, a->text_bytes);
	}
}

static json_t *answer_object(const struct answers *as, int i) {
	const struct drawn *d = &as->items[i];
	const struct answer *a = &d->answer;
	const double n = a->tokens.n > 0 ? (double)a->tokens.n : 1;
	json_t *root = json_pack("{s:i, s:o, s:o, s:s, s:o, s:f, s:f, s:f}", "index", i, "text",
		json_bytes(a->text, a->text_bytes), "tokens", answer_ids(a), "finish_reason",
		answer_reason(a), "answer", d->voted != NULL ? json_bytes(d->voted, strlen(d->voted))
		: json_null(), "mean_logprob", d->logprob / n, "mean_confidence", d->confidence / n,
		"mean_certainty", d->certainty / n);
	if (root != NULL && a->logprobs != NULL) {
		json_object_set_new(root, "logprobs", json_pack("{s:O}", "content", a->logprobs));
	}
	return root;
}

struct tally { /* of an answer */
	const char *answer;
	int n;
	double weight;
};

/* Of `as`, by first come, into out [as->n]; how many. */
static int count_votes(const struct answers *as, struct tally *out) {
	int n = 0;
	for (int i = 0; i < as->n; i++) {
		const struct drawn *d = &as->items[i];
		int k = 0;
		if (d->voted == NULL || d->weight <= 0) {
			continue;
		}
		while (k < n && strcmp(out[k].answer, d->voted) != 0) {
			k++;
		}
		if (k == n) {
			out[n++] = (struct tally){ .answer = d->voted };
		}
		out[k].n++;
		out[k].weight += d->weight;
	}
	return n;
}

/* [{answer, votes, weight}...], the heaviest first, equals by first come. NULL: no memory. */
static json_t *votes_list(const struct answers *as) {
	struct tally *all = calloc((size_t)as->n, sizeof(*all));
	json_t *list = all != NULL ? json_array() : NULL;
	for (int n = all != NULL ? count_votes(as, all) : 0; n > 0; n--) {
		int best = 0;
		for (int k = 1; k < n; k++) {
			best = all[k].weight > all[best].weight ? k : best;
		}
		json_array_append_new(list, json_pack("{s:o, s:i, s:f}", "answer",
			json_bytes(all[best].answer, strlen(all[best].answer)), "votes", all[best].n,
			"weight", all[best].weight));
		memmove(&all[best], &all[best + 1], (size_t)(n - 1 - best) * sizeof(*all));
	}
	free(all);
	return list;
}

static json_t *usage_object(const struct bb_usage *u) {
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:o}", "prompt_tokens", u->n_prompt,
		"completion_tokens", u->n_output, "reasoning_tokens", u->n_thinking, "cot_steps",
		u->n_cot_steps, "branches", u->n_branches, "dropped_branches", u->n_dropped,
		"probe_tokens", u->n_probe_tokens, "flops", u->flops, "speculation",
		speculation_counts(u->spec));
}

/* Of all answers together. */
static struct answer total(const struct answers *as) {
	const struct bb_usage *u = &as->usage;
	return (struct answer){ .tokens.n = (size_t)u->n_output, .n_prompt = (size_t)u->n_prompt,
		.n_read = (size_t)(u->n_prompt - u->n_cached), .read_s = u->prompt_s,
		.generate_s = u->output_s };
}

json_t *answers_json(const struct answers *as, uint64_t seed) {
	const struct answer all = total(as), *best = answers_best(as);
	json_t *list = json_array(), *given = json_array();
	for (int i = 0; i < as->n; i++) {
		if (as->items[i].answer.tokens.n > 0) {
			json_array_append_new(list, answer_object(as, i));
		}
	}
	for (int i = 0; i < as->n_given; i++) {
		json_array_append_new(given, json_integer(as->given[i]));
	}
	return json_pack("{s:o, s:o, s:s, s:i, s:i, s:I, s:o, s:o, s:o, s:o, s:O, s:o}", "text",
		json_bytes(best != NULL ? best->text : "", best != NULL ? best->text_bytes : 0), "tokens",
		best != NULL ? answer_ids(best) : json_array(), "finish_reason",
		best != NULL ? answer_reason(best) : "abort", "prompt_tokens", as->usage.n_prompt,
		"completion_tokens", as->usage.n_output, "seed", (json_int_t)seed, "given", given,
		"answers", list, "votes", votes_list(as), "usage", usage_object(&as->usage), "decisions",
		as->decisions, "timings", answer_timings(&all, (size_t)as->usage.n_cached));
}

void answers_summary(const struct answers *as, uint64_t seed) {
	const struct answer all = total(as);
	const struct bb_usage *u = &as->usage;
	answer_summary(&all, seed);
	fprintf(stderr, "thinking: %d tokens; CoT steps: %d", u->n_thinking, u->n_cot_steps);
	if (as->n > 1) {
		fprintf(stderr, "; answers: %d of %d drawn, %d dropped", u->n_branches, as->n,
			u->n_dropped);
	}
	if (u->n_probe_tokens > 0) {
		fprintf(stderr, "; probes: %d tokens", u->n_probe_tokens);
	}
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		if (u->spec[i].n_drafted > 0) {
			fprintf(stderr, "; %s: %d of %d guesses right",
				bb_spec_source_name((enum bb_spec_source)i), (int)u->spec[i].n_accepted,
				(int)u->spec[i].n_drafted);
		}
	}
	fputc('\n', stderr);
}
