/* SPDX-License-Identifier: Apache-2.0
 *
 * From events to parts. */
#include "talk.h"

#include "chosen.h"
#include "force.h"
#include "logprobs.h"
#include "ration.h"
#include "server.h"
#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void talk_new_id(char *out, size_t bytes, const char *prefix) {
	snprintf(out, bytes, "%s%016llx%08x", prefix, (unsigned long long)bb_random_seed(),
		(unsigned)bb_random_seed());
}

struct talk *talk_create(struct exchange *x, const struct talk_shape *shape, const char *prefix) {
	struct talk *t = calloc(1, sizeof(*t));
	if (t == NULL) {
		reply_no_memory(x);
		return NULL;
	}
	t->x = x;
	t->shape = shape;
	t->server = x->server;
	t->created = (long)time(NULL);
	talk_new_id(t->id, sizeof(t->id), prefix);
	return t;
}

json_t *talk_tool_calls(const struct answer_text *a) {
	json_t *list = json_array();
	size_t i;
	const json_t *call;
	json_array_foreach(a->calls, i, call) {
		json_array_append_new(list, json_pack("{s:O, s:s, s:{s:O, s:O}}", "id",
			json_object_get(call, "id"), "type", "function", "function", "name",
			json_object_get(call, "name"), "arguments", json_object_get(call, "arguments")));
	}
	return list;
}

/* What they have so far: there is nothing in them. */
static void drop_answers(struct talk *t) {
	for (int i = 0; t->answers != NULL && i < t->asked.n; i++) {
		struct answer_text *a = &t->answers[i];
		reader_finish(&a->reader);
		buf_finish(&a->content);
		buf_finish(&a->reasoning);
		buf_finish(&a->tail);
		json_decref(a->calls);
		json_decref(a->logprobs);
		json_decref(a->ids);
		a->calls = a->logprobs = a->ids = NULL;
	}
	json_decref(t->prompt_logprobs);
	t->prompt_logprobs = NULL;
}

void talk_destroy(struct talk *t) {
	if (t == NULL) {
		return;
	}
	turn_end(t->turn);
	drop_answers(t);
	free(t->answers);
	stops_finish(&t->stops);
	if (t->shape->drop != NULL) {
		t->shape->drop(t);
	}
	asked_finish(&t->asked);
	conversation_finish(&t->conversation);
	json_decref(t->entry);
	json_decref(t->token_id);
	free(t);
}

/* ---- events ---- */

struct place { /* where a part belongs */
	struct talk *t;
	int i;
};

static void add_call(struct answer_text *a, const struct part *part) {
	char id[64];
	talk_new_id(id, sizeof(id), "call_");
	json_array_append_new(a->calls, json_pack("{s:s, s:s, s:s%}", "id", id, "name", part->name,
		"arguments", part->text, part->bytes));
}

static void take_part(void *user, const struct part *part) {
	const struct place *p = user;
	struct talk *t = p->t;
	struct answer_text *a = &t->answers[p->i];
	switch (part->kind) {
	case PART_REASONING:
		if (t->hides_reasoning) {
			return;
		}
		buf_add(&a->reasoning, part->text, part->bytes);
		break;
	case PART_CONTENT:
		if (t->conversation.choice == TOOLS_REQUIRED && a->reader.n_calls > 0) {
			return; /* what was asked for is there */
		}
		buf_add(&a->content, part->text, part->bytes);
		break;
	case PART_CALL:
		if (t->conversation.one_call && json_array_size(a->calls) > 0) {
			return;
		}
		add_call(a, part);
		break;
	}
	if (t->out != NULL && t->shape->part != NULL) {
		t->shape->part(t, p->i, part, t->out);
	}
}

/* Where control tokens show, the one that ends the answer does too. */
static size_t text_bytes(const struct talk *t, const struct turn_event *e) {
	if (!t->asked.generation.special || e->finish != BB_FINISH_STOP ||
		!bb_token_is_end(t->server->engine, e->token.id)) {
		return e->bytes;
	}
	struct bb_text end = { 0 };
	struct bb_error err = { 0 };
	if (!bb_detokenize(t->server->engine, &e->token.id, 1, &end, &err)) {
		ration_lose_by(&err);
	}
	const bool is_behind = end.bytes > 0 && end.bytes <= e->bytes &&
		memcmp(e->text + e->bytes - end.bytes, end.data, end.bytes) == 0;
	const size_t bytes = e->bytes - (is_behind ? end.bytes : 0);
	bb_text_finish(&end);
	return bytes;
}

static void take_token(struct talk *t, const struct turn_event *e) {
	struct answer_text *a = &t->answers[e->branch];
	const bool is_end = e->finish == BB_FINISH_STOP &&
		bb_token_is_end(t->server->engine, e->token.id);
	if (t->n_output == 0) {
		t->x->first_s = seconds_now() - t->x->start;
	}
	t->n_output++;
	a->n_tokens++;
	a->n_thinking += a->reader.state == READER_THINKING;
	a->last_id = e->token.id;
	stops_add(&t->stops, t->server->engine, e->token.id, &a->tail);
	if (t->wants_logprobs) {
		t->entry = logprobs_entry(t->server->engine, &e->token, t->n_top, is_end,
			t->asked.ids_as_tokens);
		if (t->out == NULL) { /* else it's told at once */
			json_array_append(a->logprobs, t->entry);
		}
	}
	if (t->asked.with_ids) {
		t->token_id = json_integer(e->token.id);
		json_array_append(a->ids, t->token_id);
	}
	struct place p = { t, e->branch };
	reader_feed(&a->reader, e->text, text_bytes(t, e), false, take_part, &p);
	if (t->out != NULL && t->shape->token != NULL) {
		t->shape->token(t, e->branch, t->out);
	}
	json_decref(t->entry);
	json_decref(t->token_id);
	t->entry = NULL;
	t->token_id = NULL;
}

static void take_finish(struct talk *t, const struct turn_event *e) {
	struct answer_text *a = &t->answers[e->branch];
	struct place p = { t, e->branch };
	const struct buf *closing = &t->conversation.closing;
	const bool is_whole = e->finish == BB_FINISH_STOP && closing->bytes > 0;
	reader_feed(&a->reader, is_whole ? closing->data : "", is_whole ? closing->bytes : 0, true,
		take_part, &p);
	a->has_ended = true;
	a->finish = e->finish;
	t->n_open--;
	if (t->out != NULL && t->shape->finish != NULL) {
		t->shape->finish(t, e->branch, t->out);
	}
}

static void take_prompt(struct talk *t, const struct turn_event *e) {
	if (t->prompt_logprobs == NULL) {
		t->prompt_logprobs = json_array();
		json_array_append_new(t->prompt_logprobs, json_null()); /* nothing comes before the first */
	}
	json_array_append_new(t->prompt_logprobs, logprobs_of_prompt(t->server->engine, &e->token));
}

static void take_usage(struct talk *t, const struct turn_event *e) {
	t->usage = e->usage;
	t->has_usage = true;
	t->x->n_prompt = t->n_prompt;
	t->x->n_cached = e->usage.n_cached;
	t->x->n_output = t->n_output;
}

static void take(void *user, const struct turn_event *e, struct buf *out) {
	struct talk *t = user;
	const bool chooses = asked_effort_chooses(&t->asked.effort);
	t->out = chooses ? NULL : out;
	if (e->has_usage) {
		take_usage(t, e);
	}
	switch (e->kind) {
	case BB_EVENT_STARTED:
	case BB_EVENT_HIDDEN:
	case BB_EVENT_DECISION: /* read when all have ended */
		break;
	case BB_EVENT_PROMPT:
		take_prompt(t, e);
		break;
	case BB_EVENT_TOKEN:
		take_token(t, e);
		break;
	case BB_EVENT_FINISHED:
		take_finish(t, e);
		break;
	case BB_EVENT_FAILED:
		break;
	}
	t->out = NULL;
	if (e->has_usage && chooses && e->kind != BB_EVENT_FAILED) {
		chosen_find(t);
		if (out != NULL) {
			chosen_tell(t, out);
		}
	}
}

/* ---- streamed ---- */

static void tell_end(void *user, struct buf *out) {
	struct talk *t = user;
	t->shape->end(t, out);
}

static void fail(void *user, const struct bb_error *err, struct buf *out) {
	struct talk *t = user;
	if (err->code == BB_ERR_MEMORY) {
		drop_answers(t);
	}
	t->shape->fail(t, err, out);
}

static void idle(void *user, struct buf *out) {
	struct talk *t = user;
	t->shape->idle(t, out);
}

static const struct turn_listener listener = { take, tell_end, fail, idle };

static bool more(void *user, struct buf *out) {
	struct talk *t = user;
	if (!t->has_begun) {
		t->has_begun = true;
		if (t->shape->begin != NULL) {
			t->shape->begin(t, out);
		}
	}
	return turn_tell(t->turn, &listener, t, out);
}

static void end_stream(void *user) {
	talk_destroy(user);
}

/* ---- beginning ---- */

static bool make_answers(struct talk *t) {
	const struct server *s = t->server;
	const struct conversation *c = &t->conversation;
	const bool has_tools = c->tools != NULL && c->choice != TOOLS_NONE;
	const size_t n = (size_t)t->asked.n;
	t->answers = ration_take(n * sizeof(*t->answers)) ? calloc(n, sizeof(*t->answers)) : NULL;
	if (t->answers == NULL) {
		return reply_no_memory(t->x);
	}
	t->n_open = t->asked.n;
	t->n_answers = t->asked.n_given;
	for (int i = 0; i < t->asked.n; i++) {
		struct answer_text *a = &t->answers[i];
		a->branch = i;
		reader_init(&a->reader, has_tools ? s->tools : NULL, c->tools, &c->thinking);
		a->reader.is_strict = c->strict != NULL;
		a->calls = json_array();
		a->logprobs = t->wants_logprobs ? json_array() : NULL;
		a->ids = t->asked.with_ids ? json_array() : NULL;
		struct place p = { t, i };
		reader_feed(&a->reader, buf_string(&c->forced), c->forced.bytes, false, take_part, &p);
	}
	return true;
}

/* An answer that may have but one call ends with it. */
static void stop_behind_call(struct talk *t) {
	const struct conversation *c = &t->conversation;
	struct bb_generation_params *g = &t->asked.generation;
	if (t->asked.grammar != NULL) {
		return;
	}
	const bool is_forced = c->choice == TOOLS_REQUIRED && c->forced.bytes > 0;
	const bool is_one = c->one_call ? is_forced || c->choice == TOOLS_AUTO
		: is_forced && c->tool != NULL;
	if (is_one && t->server->tools != NULL && t->server->tools->end != NULL &&
		g->n_stop < ASKED_STOPS) {
		t->asked.stop[g->n_stop++] = t->server->tools->end;
	}
}

static bool begin(struct talk *t) {
	struct exchange *x = t->x;
	struct conversation *c = &t->conversation;
	const bool has_tools = c->tools != NULL && c->choice != TOOLS_NONE && t->server->tools != NULL;
	c->is_constrained = t->asked.grammar != NULL;
	if (!stops_copy(&t->stops, &t->asked.generation)) {
		return reply_no_memory(x);
	}
	const bool has_place = !c->is_constrained || t->asked.schema != NULL; /* for calls */
	if (!conversation_prompt(x, c) ||
		(has_place && !force_strict(x, c, t->asked.schema))) {
		return false;
	}
	if (c->grammar != NULL) { /* what must be called goes before what else the text must be */
		bb_grammar_destroy(t->asked.grammar);
		t->asked.grammar = c->grammar;
		c->grammar = NULL;
		t->asked.generation.sampling.grammar = t->asked.grammar;
	}
	stop_behind_call(t);
	t->n_prompt = (int)c->prompt.n;
	t->asked.generation.special |= has_tools && t->server->tools->has_special;
	t->asked.generation.sampling.n_logprobs = t->wants_logprobs ? t->n_top : 0;
	if (!asked_effort_place(x, &t->asked.effort, c->may_think, c->thinking.starts_inside,
		c->prompt.n, t->asked.generation.max_tokens) || !asked_check(x, &t->asked, c->prompt.n) ||
		!make_answers(t)) {
		return false;
	}
	t->turn = turn_create(x, t->id);
	if (t->turn == NULL) {
		return reply_no_memory(x);
	}
	turn_take_grammar(t->turn, &t->asked.grammar);
	struct bb_request_params params = asked_request(&t->asked, &c->prompt);
	params.segments = c->marks;
	params.n_segments = c->n_marks;
	return turn_add(t->turn, 0, &params, x);
}

void talk_run(struct talk *t) {
	struct exchange *x = t->x;
	if (!begin(t)) {
		talk_destroy(t);
		return;
	}
	if (t->asked.is_stream) {
		x->status = 200;
		x->stream = (struct stream){ more, end_stream, t };
		return;
	}
	if (turn_take_all(t->turn, &listener, t)) {
		reply_json_take(x, 200, t->shape->body(t));
	}
	talk_destroy(t);
}

/* ---- figures ---- */

const char *talk_reason(const struct talk *t, int i) {
	const struct answer_text *a = &t->answers[i];
	switch (a->finish) {
	case BB_FINISH_STOP:
		return a->reader.n_calls > 0 ? "tool_calls" : "stop";
	case BB_FINISH_CANCELLED:
	case BB_FINISH_DEADLINE:
	case BB_FINISH_DROPPED:
		return "abort";
	default:
		return "length";
	}
}

const char *talk_stop_string(const struct talk *t, int i) {
	const struct answer_text *a = &t->answers[i];
	return stops_found(&t->stops, t->server->engine, a->finish, a->last_id, &a->tail);
}

int talk_thinking(const struct talk *t) {
	int n = 0;
	for (int i = 0; i < t->asked.n; i++) {
		n += t->answers[i].n_thinking;
	}
	return t->has_usage ? t->usage.n_thinking : n;
}

json_t *talk_usage(const struct talk *t) {
	json_t *usage = json_pack("{s:i, s:i, s:i, s:{s:i}, s:{s:i, s:i, s:i}}", "prompt_tokens",
		t->n_prompt, "completion_tokens", t->n_output, "total_tokens", t->n_prompt + t->n_output,
		"prompt_tokens_details", "cached_tokens", t->usage.n_cached,
		"completion_tokens_details", "reasoning_tokens", talk_thinking(t),
		"accepted_prediction_tokens", 0, "rejected_prediction_tokens", 0);
	if (t->has_usage) {
		asked_effort_count(usage, &t->usage);
	}
	return usage;
}

void talk_decisions(const struct talk *t, json_t *object) {
	json_t *list = decisions_json(turn_decisions(t->turn, 0));
	if (json_array_size(list) > 0) {
		json_object_set(object, "decisions", list);
		json_object_set_new(object, "seed",
			json_integer((json_int_t)t->asked.generation.sampling.seed));
	}
	json_decref(list);
	list = t->has_usage ? turn_votes(t->turn, 0) : NULL;
	if (json_array_size(list) > 0) {
		json_object_set(object, "votes", list);
	}
	json_decref(list);
}

static double over(double a, double b) {
	return b > 0 ? a / b : 0; /* JSON has no infinity */
}

json_t *talk_timings(const struct talk *t) {
	return talk_timings_of(&t->usage);
}

json_t *talk_timings_of(const struct bb_usage *u) {
	const double n_read = u->n_prompt - u->n_cached, n_made = u->n_output;
	return json_pack("{s:i, s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:f}", "cache_n", u->n_cached,
		"prompt_n", u->n_prompt - u->n_cached, "prompt_ms", u->prompt_s * 1e3,
		"prompt_per_token_ms", over(u->prompt_s * 1e3, n_read),
		"prompt_per_second", over(n_read, u->prompt_s), "predicted_n", u->n_output,
		"predicted_ms", u->output_s * 1e3,
		"predicted_per_token_ms", over(u->output_s * 1e3, n_made),
		"predicted_per_second", over(n_made, u->output_s));
}
