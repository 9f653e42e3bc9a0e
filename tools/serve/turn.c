/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue between two threads. It is counted: by the exchange, and by each request until its last
 * event, for that may come when the exchange is gone. Requests whose client reads too slowly are
 * paused, while the events that wait hold all that they may. */
#include "turn.h"

#include "live.h"
#include "ration.h"
#include "server.h"
#include "terminal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { IDLE_MS = 10000 }; /* then a stream says that it lives */

struct turn {
	struct turn *next;            /* of those that have ended */
	struct exchange *x;           /* used by its own thread only */
	struct server *server;
	pthread_mutex_t lock;
	struct turn_event *first, **last;
	size_t bytes;                 /* of them */
	bool is_paused;
	int n_refs;
	bool has_left;                /* nobody reads events any more */
	bool has_lost;                /* an event had no memory */
	struct turn_event *loss;      /* says so; NULL once it was given */
	int fd;                       /* readable: there are events */
	double start;
	struct bb_grammar *grammar;   /* or NULL */
	struct live live;             /* its requests */
	struct slot *slots;           /* all of them, the newest first */
	int n_ended;                  /* requests whose last event was taken */
};

struct slot { /* what a request's events are called with */
	struct slot *next;
	struct turn *turn;
	int index;
	uint64_t seed;
	double *last;                 /* [branches]: when each had its last token */
	struct decisions decisions;
};

struct turn *turn_create(struct exchange *x, const char *id) {
	struct turn *t = calloc(1, sizeof(*t));
	if (t == NULL) {
		return NULL;
	}
	t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->loss = calloc(1, sizeof(*t->loss) + 1);
	struct bb_error *error = calloc(1, sizeof(*error));
	if (t->fd < 0 || t->loss == NULL || error == NULL) {
		if (t->fd >= 0) {
			close(t->fd);
		}
		free(error);
		free(t->loss);
		free(t);
		return NULL;
	}
	t->loss->kind = BB_EVENT_FAILED;
	t->loss->has_usage = true;
	t->loss->error = error;
	server_fail(error, BB_ERR_MEMORY, "no memory for a part of the answer");
	t->x = x;
	t->server = x->server;
	t->last = &t->first;
	t->n_refs = 1;
	t->start = x->start;
	pthread_mutex_init(&t->lock, NULL);
	live_begin(&t->live, x, id);
	return t;
}

void turn_event_free(struct turn_event *e) {
	if (e != NULL) {
		free(e->error);
		free(e);
	}
}

static void free_events(struct turn *t) {
	while (t->first != NULL) {
		struct turn_event *next = t->first->next;
		turn_event_free(t->first);
		t->first = next;
	}
	t->last = &t->first;
}

static size_t event_bytes(const struct turn_event *e) {
	return sizeof(*e) + e->bytes + (e->error != NULL ? sizeof(*e->error) : 0);
}

static void free_slot(struct slot *s) {
	decisions_finish(&s->decisions);
	free(s->last);
	free(s);
}

static void free_turn(struct turn *t) {
	free_events(t);
	turn_event_free(t->loss);
	bb_grammar_destroy(t->grammar);
	pthread_mutex_destroy(&t->lock);
	close(t->fd);
	free(t->live.requests);
	while (t->slots != NULL) {
		struct slot *next = t->slots->next;
		free_slot(t->slots);
		t->slots = next;
	}
	free(t);
}

static void drop(struct turn *t) {
	pthread_mutex_lock(&t->lock);
	const bool is_last = --t->n_refs == 0;
	pthread_mutex_unlock(&t->lock);
	if (is_last && t->grammar == NULL) {
		free_turn(t);
	} else if (is_last) {
		t->next = atomic_load(&t->server->ended);
		while (!atomic_compare_exchange_weak(&t->server->ended, &t->next, t)) {
		}
	}
}

void turn_free_ended(struct server *s) {
	struct turn *t = atomic_exchange(&s->ended, NULL);
	while (t != NULL) {
		struct turn *next = t->next;
		free_turn(t);
		t = next;
	}
}

/* ---- on the engine's thread ---- */

static struct turn_event *copy(const struct slot *slot, const struct bb_event *event) {
	const size_t n_hidden = (size_t)slot->turn->server->info.n_embd * sizeof(float);
	const size_t bytes = event->hidden != NULL ? n_hidden : event->bytes;
	struct turn_event *e = calloc(1, sizeof(*e) + bytes + 1);
	if (e == NULL) {
		return NULL;
	}
	e->kind = event->kind;
	e->slot = slot->index;
	e->branch = event->branch;
	e->index = event->index;
	e->finish = event->finish;
	if (event->token != NULL) {
		e->token = *event->token;
	}
	if (event->usage != NULL) {
		e->has_usage = true;
		e->usage = *event->usage;
	}
	if (event->error != NULL) {
		e->error = malloc(sizeof(*e->error));
		if (e->error == NULL) {
			free(e);
			return NULL;
		}
		*e->error = *event->error;
	}
	e->bytes = bytes;
	if (bytes > 0) {
		memcpy(e->text, event->hidden != NULL ? (const void *)event->hidden : event->text, bytes);
	}
	return e;
}

static void count(struct slot *slot, const struct bb_event *event) {
	struct turn *t = slot->turn;
	struct metrics *m = &t->server->metrics;
	const double now = seconds_now();
	if (event->kind == BB_EVENT_TOKEN) {
		double *last = &slot->last[event->branch];
		if (*last > 0) {
			metrics_between(m, now - *last);
		} else if (event->branch == 0) {
			metrics_first(m, now - t->start);
		}
		*last = now;
	}
	if (event->kind == BB_EVENT_FINISHED) {
		metrics_finish(m, event->finish);
	}
	if (event->usage != NULL) {
		metrics_request(m, event->usage, event->kind == BB_EVENT_FAILED, now - t->start);
	}
}

/* What was decided is kept for all who ask, and written down before the answer is whole. */
static void decide(struct slot *slot, const struct bb_event *event) {
	struct server *s = slot->turn->server;
	if (event->decision != NULL) {
		decisions_note(&slot->decisions, event->decision);
	}
	if (event->usage != NULL && s->decision_fd >= 0 &&
		!decisions_log(&slot->decisions, s->decision_fd, &s->has_torn_line, slot->turn->live.id,
			bb_request_id(event->request), slot->seed) && !s->has_lost_decisions) {
		s->has_lost_decisions = true;
		notice("'%s' can't be written: decisions are missing there", s->options.decision_log);
	}
}

static void receive(void *user, const struct bb_event *event) {
	struct slot *slot = user;
	struct turn *t = slot->turn;
	count(slot, event);
	decide(slot, event);
	if (event->kind == BB_EVENT_DECISION) {
		return;
	}
	struct turn_event *e = copy(slot, event);
	pthread_mutex_lock(&t->lock);
	if (t->has_left || t->has_lost) { /* an end behind a gap would look like a whole answer */
		turn_event_free(e);
	} else if (e == NULL) {
		t->has_lost = true;
	} else {
		*t->last = e;
		t->last = &e->next;
		t->bytes += event_bytes(e);
		if (t->bytes > ration_of_events() && event->usage == NULL) {
			t->is_paused = true;
			bb_request_pause(event->request, true);
		}
	}
	const uint64_t one = 1;
	const ssize_t written = write(t->fd, &one, sizeof(one));
	(void)written; /* full means readable, too */
	pthread_mutex_unlock(&t->lock);
	if (event->usage != NULL) {
		drop(t); /* and the slot with it, if it's the last one */
	}
}

/* ---- on the exchange's thread ---- */

void turn_take_grammar(struct turn *t, struct bb_grammar **g) {
	t->grammar = *g;
	*g = NULL;
}

bool turn_add(struct turn *t, int slot, const struct bb_request_params *params,
	struct exchange *x) {
	const int n_branches = params->n > 0 ? params->n : 1;
	struct slot *s = live_reserve(&t->live) ? calloc(1, sizeof(*s)) : NULL;
	double *last = s != NULL ? calloc((size_t)n_branches, sizeof(*last)) : NULL;
	/* ids of the prompt, for each answer */
	if (last == NULL ||
		!ration_take(params->n_prompt * (size_t)n_branches * sizeof(*params->prompt))) {
		free(last);
		free(s);
		return reply_no_memory(x);
	}
	*s = (struct slot){ .next = t->slots, .turn = t, .index = slot, .last = last,
		.seed = params->generation.sampling.seed };
	decisions_init(&s->decisions);
	t->slots = s;
	struct bb_request_params p = *params;
	p.event = receive;
	p.user = s;
	const struct server_options *o = &t->server->options;
	if (o->keys.n > 0) {
		p.account = o->keys.v[x->key];
		p.weight = o->weights[x->key];
	}
	pthread_mutex_lock(&t->lock);
	t->n_refs++;
	pthread_mutex_unlock(&t->lock);
	struct bb_error err = { 0 };
	struct bb_request *request;
	if (!bb_request_submit(&request, t->server->scheduler, &p, &err)) {
		drop(t);
		metrics_refuse(&t->server->metrics, err.code == BB_ERR_BUSY);
		return reply_engine_error(x, NULL, &err);
	}
	live_add(&t->live, request, &s->decisions, n_branches);
	return true;
}

struct decisions *turn_decisions(struct turn *t, int slot) {
	struct slot *s = t->slots;
	while (s != NULL && s->index != slot) {
		s = s->next;
	}
	return s != NULL ? &s->decisions : NULL;
}

json_t *turn_votes(struct turn *t, int slot) {
	const struct decisions *of_slot = turn_decisions(t, slot);
	json_t *list = json_array();
	for (int i = 0; i < t->live.n; i++) {
		const struct live_request *r = &t->live.requests[i];
		for (int b = 0; r->decisions == of_slot && b < r->n_branches; b++) {
			double weight = 0;
			const char *answer = bb_request_answer(r->request, b, &weight);
			if (answer != NULL) {
				json_array_append_new(list, json_pack("{s:i, s:o, s:f}", "branch", b, "answer",
					json_bytes(answer, strlen(answer)), "weight", weight));
			}
		}
	}
	return list;
}

/* Half of what waited was fetched; under the lock, so that no event pauses one in between. */
static void go_on(struct turn *t) {
	if (t->is_paused && t->bytes <= ration_of_events() / 2) {
		t->is_paused = false;
		for (int i = 0; i < t->live.n; i++) {
			bb_request_pause(t->live.requests[i].request, false);
		}
	}
}

struct turn_event *turn_next(struct turn *t, int most_ms, bool *is_gone) {
	*is_gone = atomic_load(&t->server->is_cut);
	while (!*is_gone) {
		pthread_mutex_lock(&t->lock);
		struct turn_event *e = t->first;
		if (e != NULL) {
			t->first = e->next;
			t->last = t->first != NULL ? t->last : &t->first;
			t->bytes -= event_bytes(e);
			go_on(t);
		} else {
			uint64_t n;
			const ssize_t cleared = read(t->fd, &n, sizeof(n));
			(void)cleared;
			if (t->has_lost) { /* the answer can't be whole */
				e = t->loss;
				t->loss = NULL;
				*is_gone = e == NULL;
			}
		}
		pthread_mutex_unlock(&t->lock);
		if (e != NULL || *is_gone) {
			return e;
		}
		const int ready = exchange_wait(t->x, t->fd, most_ms);
		if (ready <= 0) {
			*is_gone = ready < 0;
			return NULL;
		}
	}
	return NULL;
}

/* Whether it is gone because the server cuts it off. */
static bool is_cut(const struct exchange *x, struct bb_error *err) {
	return atomic_load(&x->server->is_cut) && !server_fail(err, BB_ERR_CANCELLED,
		"the server ends, and the answer isn't whole");
}

bool turn_reply_gone(struct exchange *x) {
	struct bb_error err = { 0 };
	return is_cut(x, &err) ? reply_engine_error(x, NULL, &err)
		: reply_error(x, 499, NULL, "client_left", "the client has left");
}

void turn_idle(void *user, struct buf *out) {
	(void)user;
	buf_text(out, ": waiting\n\n");
}

bool turn_take_all(struct turn *t, const struct turn_listener *l, void *user) {
	struct exchange *x = t->x;
	exchange_drop_input(x);
	while (t->n_ended < t->live.n) {
		bool is_gone;
		struct turn_event *e = turn_next(t, -1, &is_gone);
		if (e == NULL) {
			return turn_reply_gone(x);
		}
		t->n_ended += e->has_usage;
		l->take(user, e, NULL);
		const bool has_failed = e->kind == BB_EVENT_FAILED;
		if (has_failed) {
			reply_engine_error(x, NULL, e->error);
		}
		turn_event_free(e);
		if (has_failed || ration_has_gap()) {
			return has_failed ? false : reply_no_memory(x);
		}
	}
	return true;
}

/* One event; false: it was the last one. */
static bool tell_one(struct turn *t, const struct turn_listener *l, void *user, struct buf *out,
	const struct turn_event *e) {
	struct bb_error err = { 0 };
	t->n_ended += e->has_usage;
	const bool is_last = t->n_ended == t->live.n;
	l->take(user, e, out);
	if (e->kind == BB_EVENT_FAILED) {
		err = *e->error;
	} else if (is_last) {
		l->end(user, out);
	}
	if (err.code == BB_OK && ration_has_gap()) { /* what was made last has one */
		server_fail(&err, BB_ERR_MEMORY, "%s", ration_why());
		buf_finish(out);
	}
	if (err.code != BB_OK) {
		t->x->error = error_code(err.code);
		l->fail(user, &err, out);
	}
	return err.code == BB_OK && !is_last;
}

bool turn_tell(struct turn *t, const struct turn_listener *l, void *user, struct buf *out) {
	const double end = seconds_now() + IDLE_MS * 1e-3;
	bool goes_on = true;
	while (goes_on && out->bytes == 0) {
		bool is_gone;
		const double left_ms = (end - seconds_now()) * 1e3;
		if (left_ms <= 0) { /* events may come all the time that tell nothing yet */
			l->idle(user, out);
			return true;
		}
		struct turn_event *e = turn_next(t, (int)left_ms + 1, &is_gone);
		if (e != NULL) {
			goes_on = tell_one(t, l, user, out, e);
			turn_event_free(e);
		} else if (is_gone) {
			struct bb_error err = { 0 };
			t->x->error = is_cut(t->x, &err) ? error_code(err.code) : "client_left";
			if (err.code != BB_OK) {
				l->fail(user, &err, out);
			}
			return false;
		}
	}
	return goes_on;
}

void turn_end(struct turn *t) {
	if (t == NULL) {
		return;
	}
	live_end(&t->live);
	for (int i = 0; i < t->live.n; i++) { /* of those that have ended nothing is changed */
		bb_request_cancel(t->live.requests[i].request);
		bb_request_release(t->live.requests[i].request);
	}
	bb_scheduler_wake(t->server->scheduler);
	pthread_mutex_lock(&t->lock);
	t->has_left = true;
	free_events(t);
	pthread_mutex_unlock(&t->lock);
	drop(t);
}
