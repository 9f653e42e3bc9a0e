/* SPDX-License-Identifier: Apache-2.0
 *
 * One job: prompts in, events to answers, answers to a body or a stream. */
#include "peers.h"

#include "fields.h"
#include "logprobs.h"
#include "ration.h"
#include "server.h"
#include "talk.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

static void destroy(void *user) {
	struct peer_job *j = user;
	turn_end(j->turn);
	for (int i = 0; j->answers != NULL && i < j->n_prompts * j->asked.n; i++) {
		struct peer_answer *a = &j->answers[i];
		buf_finish(&a->text);
		buf_finish(&a->tail);
		json_decref(a->ids);
		json_decref(a->entries);
	}
	for (int i = 0; j->prompts != NULL && i < j->n_prompts; i++) {
		bb_tokens_finish(&j->prompts[i]);
	}
	free(j->prompts);
	free(j->usages);
	free(j->answers);
	stops_finish(&j->stops);
	asked_finish(&j->asked);
	free(j);
}

const char *peer_stop(const struct peer_job *j, int i) {
	const struct peer_answer *a = &j->answers[i];
	return stops_found(&j->stops, j->x->server->engine, a->finish, a->last_id, &a->tail);
}

void peer_decisions(const struct peer_job *j, int i, json_t *object) {
	json_t *all = decisions_json(turn_decisions(j->turn, i / j->asked.n));
	json_t *own = json_array(), *one;
	size_t k;
	json_array_foreach(all, k, one) {
		const json_int_t branch = json_integer_value(json_object_get(one, "branch"));
		if (branch < 0 || branch == i % j->asked.n) {
			json_array_append(own, one);
		}
	}
	if (json_array_size(own) > 0) {
		json_object_set(object, "decisions", own);
	}
	json_decref(own);
	json_decref(all);
}

/* ---- events ---- */

static void take_token(struct peer_job *j, const struct turn_event *e, struct peer_answer *a) {
	const struct bb_engine *engine = j->x->server->engine;
	if (j->x->n_output++ == 0) {
		j->x->first_s = seconds_now() - j->x->start;
	}
	a->last_id = e->token.id;
	stops_add(&j->stops, engine, e->token.id, &a->tail);
	buf_add(&a->text, e->text, e->bytes);
	json_array_append_new(a->ids, json_integer(e->token.id));
	if (a->entries != NULL) {
		const bool is_end = e->finish == BB_FINISH_STOP && bb_token_is_end(engine, e->token.id);
		json_t *entry = logprobs_entry(engine, &e->token, j->n_top, is_end, false);
		json_object_set_new(entry, "id", json_integer(e->token.id));
		json_array_append_new(a->entries, entry);
	}
}

/* Which answer has something to tell, or -1. */
static int take(struct peer_job *j, const struct turn_event *e) {
	const int i = e->slot * j->asked.n + e->branch;
	int told = -1;
	if (e->kind == BB_EVENT_TOKEN) {
		take_token(j, e, &j->answers[i]);
		told = e->bytes > 0 ? i : -1;
	} else if (e->kind == BB_EVENT_FINISHED) {
		j->answers[i].has_ended = true;
		j->answers[i].finish = e->finish;
		told = i;
	}
	if (e->has_usage) {
		j->usages[e->slot] = e->usage;
		j->x->n_prompt += e->usage.n_prompt;
		j->x->n_cached += e->usage.n_cached;
	}
	return told;
}

/* ---- streamed ---- */

static void tell(struct peer_job *j, int i, struct buf *out) {
	struct peer_answer *a = &j->answers[i];
	buf_event_take(out, j->shape->object(j, i));
	a->text_told = a->text.bytes;
	a->ids_told = json_array_size(a->ids);
}

static void end(void *user, struct buf *out) {
	const struct peer_job *j = user;
	buf_text(out, j->shape->ends_with_done ? "data: [DONE]\n\n" : "");
}

static void fail(void *user, const struct bb_error *err, struct buf *out) {
	buf_event_take(out, error_of_engine(DIALECT_OPENAI, err));
	end(user, out);
}

static void take_and_tell(void *user, const struct turn_event *e, struct buf *out) {
	struct peer_job *j = user;
	const int i = take(j, e);
	if (out != NULL && i >= 0) {
		tell(j, i, out);
	}
}

static const struct turn_listener listener = { take_and_tell, end, fail, turn_idle };

static bool more(void *user, struct buf *out) {
	struct peer_job *j = user;
	return turn_tell(j->turn, &listener, j, out);
}

/* ---- at once ---- */

static void answer(struct peer_job *j) {
	if (!turn_take_all(j->turn, &listener, j)) {
		return;
	}
	const int n = j->n_prompts * j->asked.n;
	json_t *all = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(all, j->shape->object(j, i));
	}
	json_t *body = j->is_list || n > 1 ? json_incref(all) : json_incref(json_array_get(all, 0));
	json_decref(all);
	reply_json_take(j->x, 200, body);
}

/* ---- prompts ---- */

/* Of a prompt, which begins with `special` tokens. */
static bool add_text(struct exchange *x, const json_t *text, bool special, struct bb_tokens *out) {
	struct bb_error err = { 0 };
	return bb_tokenize(x->server->engine, json_string_value(text), json_string_length(text),
		special, true, out, &err) || reply_engine_error(x, "prompt", &err);
}

/* A text, or ids with texts among them. */
static bool read_prompt(struct peer_job *j, const json_t *prompt, int i) {
	struct exchange *x = j->x;
	struct bb_tokens *out = &j->prompts[i];
	size_t k;
	const json_t *part;
	bool ok = json_is_array(prompt) || (json_is_string(prompt) ? add_text(x, prompt, true, out)
		: reply_error(x, 400, "prompt", "invalid_type",
			"a prompt must be a text or an array of token ids and texts"));
	json_array_foreach(prompt, k, part) {
		ok = ok && (json_is_string(part) ? add_text(x, part, k == 0, out)
			: field_id(x, part, "prompt", x->server->info.n_vocab, out));
	}
	return ok &&
		asked_effort_place_behind(x, &j->asked.effort, out, j->asked.generation.max_tokens) &&
		asked_check(x, &j->asked, out->n);
}

/* Several prompts; where an id is among them it's one. */
static bool is_list(const json_t *prompt) {
	size_t k;
	const json_t *part;
	json_array_foreach(prompt, k, part) {
		if (json_is_number(part)) {
			return false;
		}
	}
	return json_array_size(prompt) > 0;
}

static bool read_prompts(struct peer_job *j) {
	struct exchange *x = j->x;
	const json_t *prompt = field(x->in, "prompt");
	j->is_list = is_list(prompt);
	const size_t n = j->is_list ? json_array_size(prompt) : 1;
	if (prompt == NULL) {
		return reply_error(x, 400, "prompt", "missing", "the prompt is missing");
	}
	if (!asked_prompts(x, &j->asked, n)) {
		return false;
	}
	const size_t n_answers = n * (size_t)j->asked.n;
	if (!ration_take(n_answers * sizeof(*j->answers))) {
		return reply_no_memory(x);
	}
	j->prompts = calloc(n, sizeof(*j->prompts));
	j->usages = calloc(n, sizeof(*j->usages));
	j->answers = calloc(n_answers, sizeof(*j->answers));
	if (j->prompts == NULL || j->usages == NULL || j->answers == NULL) {
		return reply_no_memory(x);
	}
	j->n_prompts = (int)n;
	for (size_t i = 0; i < n; i++) {
		if (!read_prompt(j, j->is_list ? json_array_get(prompt, i) : prompt, (int)i)) {
			return false;
		}
	}
	return true;
}

/* ---- beginning ---- */

static bool begin(struct peer_job *j) {
	for (int i = 0; i < j->n_prompts * j->asked.n; i++) {
		j->answers[i].ids = json_array();
		j->answers[i].entries = j->n_top >= 0 ? json_array() : NULL;
	}
	j->turn = turn_create(j->x, j->id);
	if (j->turn == NULL || !stops_copy(&j->stops, &j->asked.generation)) {
		return reply_no_memory(j->x);
	}
	turn_take_grammar(j->turn, &j->asked.grammar);
	for (int i = 0; i < j->n_prompts; i++) {
		if (!asked_effort_place_behind(j->x, &j->asked.effort, &j->prompts[i],
			j->asked.generation.max_tokens)) {
			return false;
		}
		const struct bb_request_params p = asked_request(&j->asked, &j->prompts[i]);
		if (!turn_add(j->turn, i, &p, j->x)) {
			return false;
		}
	}
	return true;
}

void peer_run(struct exchange *x, json_t *in, const struct peer_shape *shape, int max_tokens,
	bool gives_way, int n_top) {
	struct peer_job *j = in != NULL ? calloc(1, sizeof(*j)) : NULL;
	if (j == NULL) {
		json_decref(in);
		reply_no_memory(x);
		return;
	}
	json_decref(x->in);
	x->in = in;
	j->x = x;
	j->shape = shape;
	j->n_top = n_top;
	talk_new_id(j->id, sizeof(j->id), "gen-");
	if (!field_model(x) || !asked_read(x, &j->asked)) {
		free(j);
		return;
	}
	if (asked_effort_chooses(&j->asked.effort)) {
		reply_error(x, 400, "best_of", "unsupported_parameter", "answers aren't chosen among "
			"here: ask /v1/completions for 'best_of' and votes");
		asked_finish(&j->asked);
		free(j);
		return;
	}
	j->asked.generation.max_tokens = max_tokens;
	j->asked.has_max_tokens = max_tokens >= 0 && !gives_way;
	j->asked.generation.sampling.n_logprobs = n_top > 0 ? n_top : 0;
	if (!read_prompts(j) || !begin(j)) {
		destroy(j);
	} else if (j->asked.is_stream) {
		x->status = 200;
		x->stream = (struct stream){ more, destroy, j };
	} else {
		answer(j);
		destroy(j);
	}
}
