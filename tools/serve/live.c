/* SPDX-License-Identifier: Apache-2.0
 *
 * A list under one lock, which is held while a request in it is looked at or steered, so that it
 * isn't released meanwhile. Who has a key sees and steers what came with the same one. */
#include "live.h"

#include "fields.h"
#include "routes.h"
#include "server.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a request's branches. */
enum { MOST_SHOWN = 256 };

void live_begin(struct live *l, const struct exchange *x, const char *id) {
	struct server *s = x->server;
	l->server = s;
	l->key = x->key;
	snprintf(l->id, sizeof(l->id), "%s", id);
	snprintf(l->exchange, sizeof(l->exchange), "%s", x->id);
	snprintf(l->path, sizeof(l->path), "%s", x->path);
	pthread_mutex_lock(&s->live_lock);
	l->next = s->live;
	l->at = &s->live;
	if (l->next != NULL) {
		l->next->at = &l->next;
	}
	s->live = l;
	pthread_mutex_unlock(&s->live_lock);
}

bool live_reserve(struct live *l) {
	if (l->n < l->cap) {
		return true;
	}
	const int cap = l->cap > 0 ? 2 * l->cap : 4;
	pthread_mutex_lock(&l->server->live_lock);
	struct live_request *list = realloc(l->requests, (size_t)cap * sizeof(*list));
	if (list != NULL) {
		l->requests = list;
		l->cap = cap;
	}
	pthread_mutex_unlock(&l->server->live_lock);
	return list != NULL;
}

void live_add(struct live *l, struct bb_request *r, struct decisions *d, int n_branches) {
	pthread_mutex_lock(&l->server->live_lock);
	l->requests[l->n++] = (struct live_request){ r, d, n_branches };
	pthread_mutex_unlock(&l->server->live_lock);
}

void live_end(struct live *l) {
	pthread_mutex_lock(&l->server->live_lock);
	if (l->at != NULL) {
		*l->at = l->next;
		if (l->next != NULL) {
			l->next->at = l->at;
		}
		l->at = NULL;
	}
	pthread_mutex_unlock(&l->server->live_lock);
}

/* ---- looking ---- */

static json_t *branch_object(const struct bb_branch_info *b) {
	static const char *const reasons[] = {
		[BB_FINISH_STOP] = "stop", [BB_FINISH_LENGTH] = "length", [BB_FINISH_CONTEXT] = "length",
		[BB_FINISH_CANCELLED] = "abort", [BB_FINISH_DEADLINE] = "abort",
		[BB_FINISH_DROPPED] = "dropped",
	};
	return json_pack("{s:i, s:b, s:b, s:i, s:i, s:i, s:o, s:f, s:f, s:s?}", "index", b->index,
		"live", b->is_live, "thinking", b->is_thinking, "output_tokens", b->n_output,
		"thinking_tokens", b->n_thinking, "cot_steps", b->n_cot_steps, "budget",
		b->max_thinking >= 0 ? json_integer(b->max_thinking) : json_null(), "mean_logprob",
		b->mean_logprob, "confidence", b->confidence, "finish_reason",
		b->finish != BB_FINISH_NONE ? reasons[b->finish] : NULL);
}

static json_t *request_object(const struct live *l, const struct live_request *r) {
	struct bb_branch_info list[MOST_SHOWN];
	const int n = bb_request_branches(r->request, list, MOST_SHOWN);
	const int n_shown = n < MOST_SHOWN ? n : MOST_SHOWN;
	json_t *branches = json_array();
	int budget = -1;
	for (int i = 0; i < n_shown; i++) {
		json_array_append_new(branches, branch_object(&list[i]));
		budget = list[i].is_live && list[i].max_thinking > budget ? list[i].max_thinking : budget;
	}
	return json_pack("{s:s, s:I, s:s, s:s, s:i, s:o, s:o, s:o}", "id", l->id, "number",
		(json_int_t)bb_request_id(r->request), "request_id", l->exchange, "path", l->path,
		"n_branches", n, "budget", budget >= 0 ? json_integer(budget) : json_null(), "branches",
		branches, "decisions", decisions_json(r->decisions));
}

/* A reply's id, a request's number, or what x-request-id says. */
static bool is_meant(const struct live *l, const struct live_request *r, const char *id) {
	char number[24];
	snprintf(number, sizeof(number), "%llu", (unsigned long long)bb_request_id(r->request));
	return strcmp(id, l->id) == 0 || strcmp(id, l->exchange) == 0 || strcmp(id, number) == 0;
}

/* Those that the caller may see, the newest exchange first. id NULL: all; else those meant. */
static json_t *objects(const struct exchange *x, const char *id) {
	struct server *s = x->server;
	json_t *list = json_array();
	pthread_mutex_lock(&s->live_lock);
	for (const struct live *l = s->live; l != NULL; l = l->next) {
		for (int i = 0; l->key == x->key && i < l->n; i++) {
			if (id == NULL || is_meant(l, &l->requests[i], id)) {
				json_array_append_new(list, request_object(l, &l->requests[i]));
			}
		}
	}
	pthread_mutex_unlock(&s->live_lock);
	return list;
}

void live_list(struct exchange *x) {
	reply_json_take(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", objects(x, NULL)));
}

static void not_there(struct exchange *x, const char *id) {
	reply_error(x, 404, "id", "request_not_found", "there is no request '%.100s' under way", id);
}

void live_get(struct exchange *x) {
	const char *id = exchange_rest(x, "/v1/requests/");
	json_t *list = objects(x, id);
	if (list != NULL && json_array_size(list) == 0) {
		not_there(x, id);
	} else {
		reply_json_take(x, 200, json_pack("{s:s, s:O}", "object", "list", "data", list));
	}
	json_decref(list);
}

/* ---- steering ---- */

/* How many were meant; *n_done of them took it, the last refusal in *err. */
static int control(const struct exchange *x, const char *id, const struct bb_control *c,
	int *n_done, struct bb_error *err) {
	struct server *s = x->server;
	int n = 0;
	*n_done = 0;
	pthread_mutex_lock(&s->live_lock);
	for (const struct live *l = s->live; l != NULL; l = l->next) {
		for (int i = 0; l->key == x->key && i < l->n; i++) {
			if (is_meant(l, &l->requests[i], id)) {
				struct bb_error one = { 0 };
				const bool ok = bb_request_control(l->requests[i].request, c, &one);
				*n_done += ok;
				*err = ok ? *err : one;
				n++;
			}
		}
	}
	pthread_mutex_unlock(&s->live_lock);
	return n;
}

static bool read_control(struct exchange *x, struct bb_control *c) {
	static const struct {
		const char *name;
		enum bb_control_kind kind;
		bool takes_branch, takes_tokens;
	} actions[] = {
		{ "close", BB_CONTROL_CLOSE, true, false }, { "extend", BB_CONTROL_EXTEND, true, true },
		{ "budget", BB_CONTROL_BUDGET, true, true }, { "drop", BB_CONTROL_DROP, true, false },
		{ "finish", BB_CONTROL_FINISH, false, false },
	};
	enum { N = sizeof(actions) / sizeof(actions[0]) };
	const char *name = NULL;
	int i = 0;
	*c = (struct bb_control){ .branch = -1, .n_tokens = 0 };
	if (!field_string(x, x->in, "action", &name) ||
		!field_int(x, x->in, "branch", 0, INT_MAX, &c->branch) ||
		!field_int(x, x->in, "tokens", 0, INT_MAX, &c->n_tokens)) {
		return false;
	}
	while (i < N && (name == NULL || strcmp(name, actions[i].name) != 0)) {
		i++;
	}
	if (i == N) {
		return reply_error(x, 400, "action", "invalid_value", "'action' is '%.40s', expected "
			"close, extend, budget, drop or finish", name != NULL ? name : "");
	}
	const bool has_tokens = field(x->in, "tokens") != NULL;
	const bool has_branch = field(x->in, "branch") != NULL;
	if (has_tokens != actions[i].takes_tokens) {
		return reply_error(x, 400, "tokens", "invalid_value", "'%s' %s", name,
			has_tokens ? "takes no 'tokens'" : "needs 'tokens'");
	}
	if ((has_branch && !actions[i].takes_branch) ||
		(!has_branch && actions[i].kind == BB_CONTROL_DROP)) {
		return reply_error(x, 400, "branch", "invalid_value", "'%s' %s", name,
			has_branch ? "is for all branches" : "needs 'branch'");
	}
	c->kind = actions[i].kind;
	return true;
}

void live_control(struct exchange *x) {
	static const char tail[] = "/control";
	const char *rest = exchange_rest(x, "/v1/requests/");
	const size_t n_rest = strlen(rest), n_tail = sizeof(tail) - 1;
	struct bb_error err = { 0 };
	struct bb_control c;
	char id[64];
	int n_done;
	if (n_rest <= n_tail || strcmp(rest + n_rest - n_tail, tail) != 0) {
		reply_error(x, 404, NULL, "not_found", "there is nothing at '%.200s'", x->path);
		return;
	}
	snprintf(id, sizeof(id), "%.*s", (int)(n_rest - n_tail), rest);
	if (!read_control(x, &c)) {
		return;
	}
	if (control(x, id, &c, &n_done, &err) == 0) {
		not_there(x, id);
	} else if (n_done == 0) {
		reply_engine_error(x, c.branch >= 0 ? "branch" : "action", &err);
	} else {
		reply_json_take(x, 200, json_pack("{s:s, s:O, s:b}", "id", id, "action",
			json_object_get(x->in, "action"), "success", 1));
	}
}

/* llama-server's: {"id", "action": "reasoning_end"}. What didn't work is 200 there, and said so. */
void llama_control(struct exchange *x) {
	const struct bb_control c = { .kind = BB_CONTROL_CLOSE, .branch = -1 };
	const char *id = NULL, *action = NULL;
	struct bb_error err = { 0 };
	int n_done;
	if (!field_string(x, x->in, "id", &id) || !field_string(x, x->in, "action", &action)) {
		return;
	}
	if (id == NULL || id[0] == '\0') {
		reply_error(x, 400, "id", "missing", "'id' is missing: that of the completion");
		return;
	}
	if (action == NULL || strcmp(action, "reasoning_end") != 0) {
		reply_error(x, 400, "action", "invalid_value",
			"'action' is '%.40s', expected reasoning_end", action != NULL ? action : "");
		return;
	}
	const int n = control(x, id, &c, &n_done, &err);
	reply_json_take(x, 200, n_done > 0 ? json_pack("{s:b}", "success", 1)
		: json_pack("{s:b, s:s}", "success", 0, "message",
			n == 0 ? "no active completion for this id" : err.text));
}
