/* SPDX-License-Identifier: Apache-2.0
 *
 * Completions: prompts as they are, of text or ids, one or many, and what follows each. */
#include "asked.h"
#include "fields.h"
#include "logprobs.h"
#include "prompt_embeds.h"
#include "ration.h"
#include "routes.h"
#include "server.h"
#include "stops.h"
#include "talk.h"
#include "terminal.h"
#include "turn.h"

#include <stdlib.h>
#include <string.h>

struct choice { /* one of n for each prompt */
	struct buf text;
	json_t *tokens, *token_logprobs, *tops, *offsets; /* of logprobs; else NULL */
	json_t *ids;                                     /* of return_token_ids; else NULL */
	size_t offset;                                   /* of the text, in characters */
	const char *reason;                              /* NULL: goes on */
	enum bb_finish finish;                           /* the same, as the engine says it */
	struct buf tail;                                 /* for stops */
	int32_t last_id;
};

struct job {
	struct exchange *x;
	struct server *server;
	struct asked asked;
	int n_logprobs;                 /* -1: not asked for */
	bool echoes, only_reads;        /* only_reads: max_tokens is 0 */
	struct bb_tokens *prompts;      /* [n_prompts] */
	struct bb_text *texts;          /* [n_prompts], of echo */
	struct bb_vectors **vectors;    /* [n_prompts], of those that came as embeddings; else NULL */
	json_t **prompt_logprobs;       /* [n_prompts], of the field of that name */
	int n_prompts;
	struct choice *choices;         /* [n_prompts, n] */
	struct stops stops;
	struct turn *turn;
	char id[48];
	long created;
	int n_prompt, n_cached, n_output;
	int n_ended;                    /* prompts whose answers are whole */
	struct bb_usage usage;          /* of them, what answers need */
	bool has_begun;
};

static void destroy(void *user) {
	struct job *j = user;
	turn_end(j->turn);
	for (int i = 0; i < j->n_prompts; i++) {
		bb_tokens_finish(&j->prompts[i]);
		bb_text_finish(&j->texts[i]);
		prompt_embeds_free(j->server, j->vectors[i]);
		json_decref(j->prompt_logprobs[i]);
	}
	for (int i = 0; j->choices != NULL && i < j->n_prompts * j->asked.n; i++) {
		struct choice *c = &j->choices[i];
		buf_finish(&c->text);
		buf_finish(&c->tail);
		json_decref(c->tokens);
		json_decref(c->token_logprobs);
		json_decref(c->tops);
		json_decref(c->offsets);
		json_decref(c->ids);
	}
	free(j->prompts);
	free(j->texts);
	free(j->vectors);
	free(j->prompt_logprobs);
	free(j->choices);
	stops_finish(&j->stops);
	asked_finish(&j->asked);
	free(j);
}

/* ---- log-probabilities ---- */

static size_t n_letters(const json_t *text) {
	const char *at = json_string_value(text);
	size_t n = 0;
	for (size_t i = 0; i < json_string_length(text); i++) {
		n += ((unsigned char)at[i] & 0xC0) != 0x80;
	}
	return n;
}

static void set_top(const struct job *j, json_t *top, int32_t id, float logprob) {
	json_t *name = logprobs_token(j->server->engine, id, j->asked.ids_as_tokens);
	json_object_setn_new(top, json_string_value(name), json_string_length(name),
		json_real((double)logprob));
	json_decref(name);
}

/* The likeliest, and the token itself where it isn't one of them, as the API has it. */
static json_t *top_of(const struct job *j, const struct bb_sampled *t) {
	json_t *top = json_object();
	bool has_own = false;
	for (int i = 0; i < t->n_top && i < j->n_logprobs; i++) {
		set_top(j, top, t->top_ids[i], t->top_logprobs[i]);
		has_own = has_own || t->top_ids[i] == t->id;
	}
	if (!has_own && j->n_logprobs > 0) {
		set_top(j, top, t->id, t->logprob);
	}
	return top;
}

/* t NULL: the first token of a prompt, before which nothing comes. */
static void add_logprobs(const struct job *j, struct choice *c, int32_t id, bool is_end,
	const struct bb_sampled *t) {
	json_t *name = is_end ? json_string("")
		: logprobs_token(j->server->engine, id, j->asked.ids_as_tokens);
	json_array_append_new(c->offsets, json_integer((json_int_t)c->offset));
	c->offset += n_letters(name);
	json_array_append_new(c->tokens, name);
	json_array_append_new(c->token_logprobs, t != NULL ? json_real((double)t->logprob)
		: json_null());
	json_array_append_new(c->tops, t != NULL ? top_of(j, t) : json_null());
}

static json_t *logprobs_of(const struct choice *c) {
	return c->tokens == NULL ? json_null() : json_pack("{s:O, s:O, s:O, s:O}", "text_offset",
		c->offsets, "token_logprobs", c->token_logprobs, "tokens", c->tokens, "top_logprobs",
		c->tops);
}

/* ---- what both ways write ---- */

static json_t *usage_of(const struct job *j) {
	json_t *usage = json_pack("{s:i, s:i, s:i, s:{s:i}, s:{s:i, s:i, s:i}}", "prompt_tokens",
		j->n_prompt, "completion_tokens", j->n_output, "total_tokens", j->n_prompt + j->n_output,
		"prompt_tokens_details", "cached_tokens", j->n_cached,
		"completion_tokens_details", "reasoning_tokens", j->usage.n_thinking,
		"accepted_prediction_tokens", 0, "rejected_prediction_tokens", 0);
	if (j->n_ended == j->n_prompts) {
		asked_effort_count(usage, &j->usage);
	}
	return usage;
}

static void add_usage(struct bb_usage *to, const struct bb_usage *u) {
	to->n_thinking += u->n_thinking;
	to->n_cot_steps += u->n_cot_steps;
	to->n_branches += u->n_branches;
	to->n_dropped += u->n_dropped;
	to->n_probe_tokens += u->n_probe_tokens;
	to->flops += u->flops;
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		to->spec[i].n_drafted += u->spec[i].n_drafted;
		to->spec[i].n_accepted += u->spec[i].n_accepted;
	}
}

/* Adds what was decided, for each prompt in its turn, and the seed that it belongs to. */
static void add_decisions(const struct job *j, json_t *object) {
	json_t *all[] = { json_array(), json_array() };
	static const char *const names[] = { "decisions", "votes" };
	for (int i = 0; i < j->n_prompts; i++) {
		json_t *lists[] = { decisions_json(turn_decisions(j->turn, i)), turn_votes(j->turn, i) };
		for (int what = 0; what < 2; what++) {
			size_t k;
			json_t *one;
			json_array_foreach(lists[what], k, one) {
				if (j->n_prompts > 1) {
					json_object_set_new(one, "prompt", json_integer(i));
				}
			}
			json_array_extend(all[what], lists[what]);
			json_decref(lists[what]);
		}
	}
	for (int what = 0; what < 2; what++) {
		if (json_array_size(all[what]) > 0) {
			json_object_set(object, names[what], all[what]);
			json_object_set_new(object, "seed",
				json_integer((json_int_t)j->asked.generation.sampling.seed));
		}
		json_decref(all[what]);
	}
}

static json_t *wrap(const struct job *j, json_t *choices) {
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", j->id, "object", "text_completion",
		"created", (json_int_t)j->created, "model", j->server->names[0], "system_fingerprint",
		"bobbin-" BB_VERSION, "choices", choices);
}

static json_t *stop_reason(const struct job *j, const struct choice *c) {
	return stops_reason(&j->stops, j->server->engine, &j->asked.stop_ids, c->finish, c->last_id,
		&c->tail);
}

/* Of the k-th answer that is given to a prompt, or -1. */
static int choice_of(const struct job *j, int i_prompt, int k) {
	const int branch = asked_effort_chooses(&j->asked.effort)
		? decisions_given(turn_decisions(j->turn, i_prompt), k, j->asked.n) : k;
	return branch >= 0 ? i_prompt * j->asked.n + branch : -1;
}

/* The choice i, as the answer `index`. */
static json_t *choice_object(const struct job *j, int i, int index) {
	struct choice *c = &j->choices[i];
	json_t *object = json_pack("{s:i, s:o, s:o, s:s?, s:o}", "index", index, "text",
		json_stringn(buf_string(&c->text), c->text.bytes), "logprobs", logprobs_of(c),
		"finish_reason", c->reason, "stop_reason", stop_reason(j, c));
	if (c->ids != NULL) {
		json_object_set(object, "token_ids", c->ids);
	}
	const int i_prompt = i / j->asked.n;
	if (j->prompt_logprobs[i_prompt] != NULL && c->reason != NULL) {
		json_object_set(object, "prompt_logprobs", j->prompt_logprobs[i_prompt]);
	}
	return object;
}

/* What a chunk has told isn't told again. */
static void forget(struct choice *c) {
	buf_clear(&c->text);
	json_array_clear(c->tokens);
	json_array_clear(c->token_logprobs);
	json_array_clear(c->tops);
	json_array_clear(c->offsets);
	json_array_clear(c->ids);
}

/* ---- events ---- */

static void take_prompt(struct job *j, const struct turn_event *e) {
	json_t **list = &j->prompt_logprobs[e->slot];
	if (j->asked.n_prompt_logprobs >= 0) {
		*list = *list != NULL ? *list : json_pack("[n]");
		json_array_append_new(*list, logprobs_of_prompt(j->server->engine, &e->token));
	}
	for (int b = 0; j->echoes && j->n_logprobs >= 0 && b < j->asked.n; b++) {
		add_logprobs(j, &j->choices[e->slot * j->asked.n + b], e->token.id, false, &e->token);
	}
}

static void take_token(struct job *j, const struct turn_event *e, struct choice *c) {
	const bool is_end = e->finish == BB_FINISH_STOP &&
		bb_token_is_end(j->server->engine, e->token.id);
	if (j->n_output == 0) {
		j->x->first_s = seconds_now() - j->x->start;
	}
	c->last_id = e->token.id;
	if (j->only_reads) {
		return;
	}
	j->n_output++;
	stops_add(&j->stops, j->server->engine, e->token.id, &c->tail);
	buf_add(&c->text, e->text, e->bytes);
	if (j->n_logprobs >= 0) {
		add_logprobs(j, c, e->token.id, is_end, &e->token);
	}
	if (c->ids != NULL) {
		json_array_append_new(c->ids, json_integer(e->token.id));
	}
}

static const char *reason_of(const struct job *j, enum bb_finish finish) {
	switch (finish) {
	case BB_FINISH_STOP:
		return j->only_reads ? "length" : "stop";
	case BB_FINISH_CANCELLED:
	case BB_FINISH_DEADLINE:
	case BB_FINISH_DROPPED:
		return "abort";
	default:
		return "length";
	}
}

/* The choice that has something new to tell, or -1. */
static int take(struct job *j, const struct turn_event *e) {
	const int i = e->slot * j->asked.n + e->branch;
	struct choice *c = &j->choices[i];
	int told = -1;
	if (e->kind == BB_EVENT_PROMPT) {
		take_prompt(j, e);
	} else if (e->kind == BB_EVENT_TOKEN) {
		take_token(j, e, c);
		told = e->bytes > 0 || j->n_logprobs >= 0 || c->ids != NULL ? i : -1;
	} else if (e->kind == BB_EVENT_FINISHED) {
		c->reason = reason_of(j, e->finish);
		c->finish = e->finish;
		told = i;
	}
	if (e->has_usage) {
		j->n_ended++;
		add_usage(&j->usage, &e->usage);
		j->n_cached += e->usage.n_cached;
		j->x->n_prompt = j->n_prompt;
		j->x->n_cached = j->n_cached;
		j->x->n_output = j->n_output;
	}
	return told;
}

/* ---- streamed ---- */

static void tell(struct job *j, int i, int index, bool is_last, struct buf *out) {
	json_t *chunk = wrap(j, json_pack("[o]", choice_object(j, i, index)));
	if (is_last && !j->asked.with_usage) {
		add_decisions(j, chunk);
	}
	if (j->asked.usage_always) {
		json_object_set_new(chunk, "usage", usage_of(j));
	} else if (j->asked.with_usage) {
		json_object_set_new(chunk, "usage", json_null());
	}
	buf_event_take(out, chunk);
	forget(&j->choices[i]);
}

static void put_end(void *user, struct buf *out) {
	struct job *j = user;
	if (j->asked.with_usage) {
		json_t *chunk = wrap(j, json_array());
		json_object_set_new(chunk, "usage", usage_of(j));
		add_decisions(j, chunk);
		buf_event_take(out, chunk);
	}
	buf_text(out, "data: [DONE]\n\n");
}

static void fail(void *user, const struct bb_error *err, struct buf *out) {
	(void)user;
	buf_event_take(out, error_of_engine(DIALECT_OPENAI, err));
	buf_text(out, "data: [DONE]\n\n");
}

static void take_and_tell(void *user, const struct turn_event *e, struct buf *out) {
	struct job *j = user;
	const int i = take(j, e);
	const bool is_last = e->has_usage && j->n_ended == j->n_prompts;
	if (out == NULL) {
		return;
	}
	if (!asked_effort_chooses(&j->asked.effort)) {
		if (i >= 0) {
			tell(j, i, i, is_last, out);
		}
		return;
	}
	const int n = j->asked.n_given;
	for (int k = 0; e->has_usage && e->kind != BB_EVENT_FAILED && k < n; k++) {
		const int chosen = choice_of(j, e->slot, k);
		if (chosen >= 0) {
			tell(j, chosen, e->slot * n + k, is_last &&
				(k + 1 == n || choice_of(j, e->slot, k + 1) < 0), out);
		}
	}
}

static const struct turn_listener listener = { take_and_tell, put_end, fail, turn_idle };

static bool more(void *user, struct buf *out) {
	struct job *j = user;
	const bool waits = asked_effort_chooses(&j->asked.effort) || j->n_logprobs >= 0;
	for (int i = 0; j->echoes && !j->has_begun && !waits && i < j->n_prompts * j->asked.n; i++) {
		tell(j, i, i, false, out); /* else with what comes, or log-probabilities of the prompt */
	}
	j->has_begun = true;
	return turn_tell(j->turn, &listener, j, out);
}

/* ---- at once ---- */

static void answer(struct job *j) {
	if (!turn_take_all(j->turn, &listener, j)) {
		return;
	}
	json_t *choices = json_array();
	const int n = j->asked.n_given;
	for (int i = 0; i < j->n_prompts * n; i++) {
		const int chosen = choice_of(j, i / n, i % n);
		if (chosen >= 0) {
			json_array_append_new(choices, choice_object(j, chosen, i));
		}
	}
	json_t *all = wrap(j, choices);
	add_decisions(j, all);
	json_object_set_new(all, "usage", usage_of(j));
	reply_json_take(j->x, 200, all);
}

/* ---- fields ---- */

/* Whether the prompt and what was asked for fit together. */
static bool check(struct job *j, int i) {
	return asked_effort_place_behind(j->x, &j->asked.effort, &j->prompts[i],
		j->asked.generation.max_tokens) && asked_check(j->x, &j->asked, j->prompts[i].n);
}

static bool read_prompt(struct job *j, const json_t *prompt, int i) {
	struct exchange *x = j->x;
	struct bb_error err = { 0 };
	bool special = true;
	if (!field_bool(x, x->in, "add_special_tokens", &special)) {
		return false;
	}
	const bool ok = json_is_string(prompt)
		? bb_tokenize(j->server->engine, json_string_value(prompt), json_string_length(prompt),
			special, true, &j->prompts[i], &err) || reply_engine_error(x, "prompt", &err)
		: field_ids(x, prompt, "prompt", j->server->info.n_vocab, &j->prompts[i]);
	if (!ok || !check(j, i)) {
		return false;
	}
	j->n_prompt += (int)j->prompts[i].n;
	return !j->echoes || json_is_string(prompt) || bb_detokenize(j->server->engine,
		j->prompts[i].ids, j->prompts[i].n, &j->texts[i], &err) ||
		reply_engine_error(x, "prompt", &err);
}

static bool read_embeds(struct job *j, const json_t *embeds, int i) {
	struct exchange *x = j->x;
	if (j->echoes) {
		return reply_error(x, 400, "echo", "invalid_value",
			"'echo' is true, but 'prompt_embeds' has no text that could be repeated");
	}
	if (!prompt_embeds_read(x, embeds, "prompt_embeds", &j->vectors[i]) ||
		!prompt_embeds_push(x, j->vectors[i], &j->prompts[i]) || !check(j, i)) {
		return false;
	}
	j->n_prompt += (int)j->prompts[i].n;
	return true;
}

/* Those that come as embeddings are first. Some clients can't leave 'prompt' out, and send an empty
 * text beside them, which isn't meant. */
static bool read_prompts(struct job *j) {
	struct exchange *x = j->x;
	const json_t *embeds = field(x->in, "prompt_embeds");
	const json_t *prompt = field(x->in, "prompt"), *first = json_array_get(prompt, 0);
	const bool is_list = json_is_array(prompt) && (json_is_string(first) || json_is_array(first));
	const size_t n_embeds = json_is_array(embeds) ? json_array_size(embeds) : embeds != NULL;
	const bool has_none = prompt == NULL || (n_embeds > 0 && !field_asks(prompt));
	const size_t n_texts = has_none ? 0 : is_list ? json_array_size(prompt) : 1;
	const size_t n = n_embeds + n_texts;
	if (n == 0) {
		return reply_error(x, 400, "prompt", "missing", "'prompt' is missing");
	}
	if (!asked_prompts(x, &j->asked, n)) {
		return false;
	}
	const size_t n_choices = n * (size_t)j->asked.n;
	if (!ration_take(n_choices * sizeof(*j->choices))) {
		return reply_no_memory(x);
	}
	j->prompts = calloc(n, sizeof(*j->prompts));
	j->texts = calloc(n, sizeof(*j->texts));
	j->vectors = calloc(n, sizeof(*j->vectors));
	j->prompt_logprobs = calloc(n, sizeof(*j->prompt_logprobs));
	j->choices = calloc(n_choices, sizeof(*j->choices));
	if (!j->prompts || !j->texts || !j->vectors || !j->prompt_logprobs || !j->choices) {
		return reply_no_memory(x);
	}
	j->n_prompts = (int)n;
	for (size_t i = 0; i < n; i++) {
		const json_t *text = is_list ? json_array_get(prompt, i - n_embeds) : prompt;
		const json_t *tensor = json_is_array(embeds) ? json_array_get(embeds, i) : embeds;
		if (!(i < n_embeds ? read_embeds(j, tensor, (int)i) : read_prompt(j, text, (int)i))) {
			return false;
		}
	}
	return true;
}

static bool read_fields(struct job *j) {
	static const char *const unsupported[] = { "suffix", NULL };
	static const char *const lengths[] = { "max_tokens", "max_completion_tokens", "n_predict",
		NULL };
	struct exchange *x = j->x;
	struct bb_generation_params *g = &j->asked.generation;
	j->n_logprobs = -1;
	if (!field_model(x) || !asked_read(x, &j->asked)) {
		return false;
	}
	g->max_tokens = 16; /* as the API has always had it */
	if (!fields_unsupported(x, x->in, unsupported) ||
		!asked_length(x, &j->asked, lengths, 0) ||
		!field_bool(x, x->in, "echo", &j->echoes) ||
		!field_int(x, x->in, "logprobs", 0, BB_MAX_LOGPROBS, &j->n_logprobs)) {
		return false;
	}
	if (g->max_tokens == 0) { /* a token is drawn all the same, and not told */
		j->only_reads = true;
		g->max_tokens = 1;
		j->asked.has_max_tokens = false;
	}
	g->sampling.n_logprobs = j->n_logprobs > 0 ? j->n_logprobs : 0;
	return read_prompts(j);
}

/* ---- beginning ---- */

/* What echo puts before the answer. */
static bool echo(struct job *j) {
	const json_t *prompt = field(j->x->in, "prompt");
	for (int i = 0; i < j->n_prompts * j->asked.n; i++) {
		struct choice *c = &j->choices[i];
		const int k = i / j->asked.n;
		const json_t *text = json_is_array(prompt) ? json_array_get(prompt, (size_t)k) : prompt;
		if (json_is_string(text)) {
			buf_add(&c->text, json_string_value(text), json_string_length(text));
		} else { /* ids may end within a letter */
			json_t *whole = json_bytes(j->texts[k].bytes > 0 ? j->texts[k].data : "",
				j->texts[k].bytes);
			buf_add(&c->text, json_string_value(whole), json_string_length(whole));
			json_decref(whole);
		}
		if (c->text.has_failed) {
			return reply_no_memory(j->x);
		}
		if (j->n_logprobs >= 0) {
			add_logprobs(j, c, j->prompts[k].ids[0], false, NULL);
		}
	}
	return true;
}

static bool begin(struct job *j) {
	for (int i = 0; i < j->n_prompts * j->asked.n; i++) {
		struct choice *c = &j->choices[i];
		if (j->n_logprobs >= 0) {
			c->tokens = json_array();
			c->token_logprobs = json_array();
			c->tops = json_array();
			c->offsets = json_array();
		}
		c->ids = j->asked.with_ids ? json_array() : NULL;
	}
	j->turn = turn_create(j->x, j->id);
	if (j->turn == NULL || !stops_copy(&j->stops, &j->asked.generation)) {
		return reply_no_memory(j->x);
	}
	turn_take_grammar(j->turn, &j->asked.grammar);
	if (j->echoes && !echo(j)) {
		return false;
	}
	for (int i = 0; i < j->n_prompts; i++) {
		if (!asked_effort_place_behind(j->x, &j->asked.effort, &j->prompts[i],
			j->asked.generation.max_tokens)) {
			return false;
		}
		struct bb_request_params p = asked_request(&j->asked, &j->prompts[i]);
		if (j->echoes && j->n_logprobs >= 0) {
			const int n = j->n_logprobs > 1 ? j->n_logprobs : 1;
			p.n_prompt_logprobs = n > p.n_prompt_logprobs ? n : p.n_prompt_logprobs;
		}
		if (!turn_add(j->turn, i, &p, j->x)) {
			return false;
		}
	}
	return true;
}

void completions_handle(struct exchange *x) {
	struct job *j = calloc(1, sizeof(*j));
	if (j == NULL) {
		reply_no_memory(x);
		return;
	}
	j->x = x;
	j->server = x->server;
	j->created = (long)time(NULL);
	talk_new_id(j->id, sizeof(j->id), "cmpl-");
	if (!read_fields(j) || !begin(j)) {
		destroy(j);
	} else if (j->asked.is_stream) {
		x->status = 200;
		x->stream = (struct stream){ more, destroy, j };
	} else {
		answer(j);
		destroy(j);
	}
}
