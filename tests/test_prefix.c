/* SPDX-License-Identifier: Apache-2.0
 *
 * The prefix cache beside a search through all contexts: what is found is the best there is and
 * goes on with the bits of a fresh context, also what lies aside, the account is what destroying
 * frees, what goes first, salts, many contexts, and memory that can't be had. */
#include "models.h"

#include "engine.h"
#include "prefix.h"
#include "swap.h"

enum { MAX_LEN = 4096 };

static struct bb_engine *open_tiny(const char *name) {
	const struct bb_engine_params params = { .path = tiny_path(name), .n_threads = 1,
		.max_model_len = MAX_LEN };
	return open_with(&params);
}

static struct prefix *new_prefix(struct bb_engine *e, size_t max_bytes, struct swap_space *space) {
	struct prefix *p;
	struct bb_error err = { 0 };
	cr_assert(prefix_create(&p, e, max_bytes, space, &err), "%s", err.text);
	return p;
}

static struct prefix_stats stats_of(const struct prefix *p) {
	struct prefix_stats stats;
	prefix_stats(p, &stats);
	return stats;
}

/* Bytes of pages and states that some context refers to. */
static size_t used(const struct bb_engine *e) {
	size_t bytes = (size_t)(e->states.n_all - e->states.n_free) * e->states.bytes;
	for (int i = 0; i < e->plan.n_paged; i++) {
		for (int type = 0; type < N_KV_TYPES; type++) {
			bytes += e->pools[i][type].n_used * e->pools[i][type].page_bytes;
		}
	}
	return bytes;
}

/* Tokens with the segments that they are cut into. */
struct text {
	int32_t ids[MAX_LEN];
	struct { int first; enum bb_role role; } segments[200];
	int n, n_segments;
};

static void say(struct text *t, enum bb_role role, const int32_t *ids, int n) {
	t->segments[t->n_segments].first = t->n;
	t->segments[t->n_segments++].role = role;
	memcpy(t->ids + t->n, ids, (size_t)n * sizeof(*ids));
	t->n += n;
}

static void append(struct bb_context *c, const int32_t *ids, int n, float *logits) {
	struct bb_error err = { 0 };
	cr_assert(bb_prefill(c, ids, (size_t)n, logits, NULL, NULL, &err), "%s", err.text);
}

/* Reads the rest of t, of which the context has the beginning, segment by segment. */
static void read_rest(struct bb_context *c, const struct text *t, float *logits) {
	struct bb_error err = { 0 };
	for (int i = 0; i < t->n_segments; i++) {
		const int first = t->segments[i].first, length = bb_context_length(c);
		const int end = i + 1 < t->n_segments ? t->segments[i + 1].first : t->n;
		if (first >= length) {
			cr_assert(bb_context_begin_segment(c, first, t->segments[i].role, &err), "%s",
				err.text);
		}
		if (end > length) {
			append(c, t->ids + length, end - length, end == t->n ? logits : NULL);
		}
	}
}

/* The beginning that t has in the cache, or a new context of the salt. */
static struct bb_context *find(struct prefix *p, struct bb_engine *e, const char *salt,
	const int32_t *ids, int n, int *n_found) {
	struct bb_context *c;
	*n_found = prefix_find(p, salt, ids, n, &c);
	cr_assert_eq(*n_found > 0, c != NULL);
	if (c == NULL) {
		c = new_context(e);
		prefix_enter(p, salt, c);
	}
	cr_assert_eq(bb_context_length(c), *n_found);
	for (int i = 0; i < *n_found; i++) {
		cr_assert_eq(bb_context_tokens(c)[i], ids[i]);
	}
	return c;
}

/* How much of ids the cache could give, found by looking at all contexts. */
static int best_reach(const struct prefix *p, struct bb_engine *e, const char *salt,
	const int32_t *ids, int n, int *n_common) {
	struct bb_context probe = { 0 };
	int best = 0;
	prefix_enter(p, salt, &probe);
	*n_common = 0;
	for (const struct bb_context *c = e->contexts; c != NULL; c = c->after) {
		int m = 0;
		while (m < n && m < bb_context_length(c) && bb_context_tokens(c)[m] == ids[m]) {
			m++;
		}
		if (!c->is_kept || c->domain != probe.domain) {
			continue;
		}
		const int reach = context_state_reach(c, m);
		*n_common = m > *n_common ? m : *n_common;
		best = reach > best && context_holds(c, reach) ? reach : best;
	}
	return best;
}

/* The context's logits behind t are those of a context that never knew of anything else. */
static void check_bits(struct bb_engine *e, const struct text *t, const float *logits) {
	struct bb_context *fresh = new_context(e);
	const size_t bytes = (size_t)vocab_of(e) * sizeof(float);
	float *want = malloc(bytes);
	append(fresh, t->ids, t->n, want);
	cr_assert_eq(memcmp(logits, want, bytes), 0);
	free(want);
	bb_context_destroy(fresh);
}

/* ---- random conversations ---- */

enum { N_TURNS = 9, N_TALKS = 5, N_REQUESTS = 70 };

struct world {
	struct bb_engine *e;
	struct prefix *p;
	struct swap_space space;     /* for what lies aside; of 0 bytes: none */
	int32_t turns[N_TURNS][200]; /* what can be said: some begin alike */
	int lengths[N_TURNS];
	struct text talks[N_TALKS];
	uint32_t random;
	size_t n_found, n_best;
};

static int roll(struct world *w, int n) {
	w->random = w->random * 1664525u + 1013904223u;
	return (int)((w->random >> 8) % (uint32_t)n);
}

static void make_world(struct world *w, const char *model, size_t most, size_t space, int seed) {
	static const int lengths[N_TURNS] = { 1, 7, 63, 64, 65, 100, 130, 130, 200 };
	w->e = open_tiny(model);
	w->space.max_bytes = space;
	w->p = new_prefix(w->e, most, space > 0 ? &w->space : NULL);
	w->random = (uint32_t)seed;
	for (int i = 0; i < N_TURNS; i++) {
		w->lengths[i] = lengths[i];
		make_ids(w->turns[i], lengths[i], vocab_of(w->e), i / 2);
		w->turns[i][lengths[i] - 1] = i;
	}
	for (int i = 0; i < N_TALKS; i++) {
		const int turn = 6 + i % 2;
		w->talks[i] = (struct text){ 0 };
		say(&w->talks[i], BB_ROLE_SYSTEM, w->turns[turn], w->lengths[turn]);
	}
}

/* The conversation goes on, or goes back, or becomes a branch of another one. */
static void change(struct world *w, struct text *t) {
	const int way = roll(w, 5);
	if (way == 0) {
		*t = w->talks[roll(w, N_TALKS)];
	}
	if (way <= 1 || t->n > 1400) {
		t->n_segments = 1 + roll(w, t->n_segments);
		t->n = t->n_segments == 1 ? t->segments[0].first + 100 : t->segments[--t->n_segments].first;
	}
	const int turn = roll(w, N_TURNS);
	say(t, BB_ROLE_USER, w->turns[turn], w->lengths[turn]);
}

static void request(struct world *w, int i_talk) {
	static const char *const salts[] = { NULL, "salt" }, *const names[] = { "a", "b", NULL };
	struct text *t = &w->talks[i_talk];
	const char *salt = salts[i_talk % 2];
	int n_found, n_common;
	change(w, t);
	float *logits = malloc((size_t)vocab_of(w->e) * sizeof(float));
	const int best = best_reach(w->p, w->e, salt, t->ids, t->n - 1, &n_common);
	struct bb_context *c = find(w->p, w->e, salt, t->ids, t->n - 1, &n_found);
	/* what lies aside doesn't show what windows have let go */
	cr_assert(n_found == best || (w->space.max_bytes > 0 && n_found < best));
	cr_assert_eq(c->wanted, n_found > 0 && n_common > n_found ? n_common : 0);
	read_rest(c, t, logits);
	check_bits(w->e, t, logits);
	const int turn = roll(w, N_TURNS);
	say(t, BB_ROLE_ASSISTANT, w->turns[turn], w->lengths[turn]);
	read_rest(c, t, NULL);
	prefix_keep(w->p, salt, names[i_talk % 3], c);
	free(logits);
}

static void check_account(const struct world *w) {
	const size_t before = used(w->e), kept = stats_of(w->p).bytes;
	prefix_destroy(w->p);
	cr_assert_eq(before - used(w->e), kept);
}

static void play(const char *model, size_t max_bytes, size_t space_bytes, int seed) {
	struct world *w = calloc(1, sizeof(*w));
	int n_found;
	make_world(w, model, max_bytes, space_bytes, seed);
	for (int i = 0; i < N_REQUESTS; i++) {
		request(w, roll(w, N_TALKS));
		const struct prefix_stats s = stats_of(w->p);
		cr_assert_leq(s.bytes, max_bytes);
		cr_assert_leq(w->space.used_bytes, space_bytes);
		cr_assert_eq(s.n_contexts, w->e->n_contexts);
	}
	const struct prefix_stats s = stats_of(w->p);
	cr_assert_gt(s.n_hits, max_bytes == SIZE_MAX ? N_REQUESTS / 2 : N_REQUESTS / 10, "%s: %d hits",
		model, (int)s.n_hits);
	cr_assert(max_bytes == SIZE_MAX || s.n_evicted > 0);
	cr_assert_eq(s.n_put_aside > 0, space_bytes > 0);
	/* a running context shares pages and states with kept ones, which are then not the cache's */
	struct bb_context *running = find(w->p, w->e, NULL, w->talks[0].ids, w->talks[0].n, &n_found);
	check_account(w);
	bb_context_destroy(running);
	cr_assert_eq(used(w->e), 0);
	cr_assert_eq(w->space.used_bytes, 0);
	bb_engine_destroy(w->e);
	free(w);
}

/* Attention, with windows, recurrent, hybrids of all kinds. */
static const char *const models[] = { "llama", "gemma3", "mamba2", "falcon-h1", "lfm2", "rwkv7",
	"recurrent_gemma" };

Test(prefix, finds_the_best_there_is_with_the_same_bits) {
	for (size_t i = 0; i < COUNT(models); i++) {
		play(models[i], SIZE_MAX, 0, (int)i);
	}
}

Test(prefix, stays_within_its_limit) {
	for (size_t i = 0; i < COUNT(models); i++) {
		play(models[i], 300 << 10, 0, 10 + (int)i);
	}
}

Test(prefix, finds_what_lies_aside) {
	for (int i = 0; i < 2 * (int)COUNT(models); i++) {
		play(models[i / 2], 300 << 10, i % 2 == 0 ? SIZE_MAX / 2 : 150 << 10, 20 + i);
	}
}

/* ---- what goes first ---- */

/* Keeps a context of t, of which the cache may have the beginning. */
static void keep(struct prefix *p, struct bb_engine *e, const char *salt, const char *conversation,
	const struct text *t) {
	int n_found;
	struct bb_context *c = find(p, e, salt, t->ids, t->n - 1, &n_found);
	read_rest(c, t, NULL);
	prefix_keep(p, salt, conversation, c);
}

/* How much of t there is. Changes what was used last. */
static int have(struct prefix *p, struct bb_engine *e, const struct text *t) {
	int n_found;
	bb_context_destroy(find(p, e, NULL, t->ids, t->n, &n_found));
	return n_found;
}

/* t[n] are turns of one conversation, which ask and answer; all others are of other ids. */
static void make_talk(struct text *t, int n, struct bb_engine *e, int seed) {
	int32_t ids[100];
	for (int i = 0; i < n; i++) {
		t[i] = i > 0 ? t[i - 1] : (struct text){ 0 };
		make_ids(ids, 100, vocab_of(e), 100 * seed + i);
		say(&t[i], BB_ROLE_USER, ids, 60);
		say(&t[i], BB_ROLE_ASSISTANT, ids + 60, 40);
	}
}

/* Evicts contexts one by one until so many are left. */
static void trim_to(struct prefix *p, struct bb_engine *e, int n) {
	while (stats_of(p).n_contexts > n) {
		const size_t before = used(e), freed = prefix_trim(p, 1);
		cr_assert_gt(freed, 0);
		cr_assert_eq(before - used(e), freed);
	}
	cr_assert_eq(stats_of(p).n_contexts, n);
}

Test(prefix, superseded_turns_go_first_then_what_was_not_used) {
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	static struct text a[4], b[1], c[1];
	make_talk(b, 1, e, 1);
	make_talk(a, 4, e, 2);
	make_talk(c, 1, e, 3);
	keep(p, e, NULL, NULL, b);
	for (int i = 0; i < 4; i++) {
		keep(p, e, NULL, NULL, &a[i]);
	}
	keep(p, e, NULL, NULL, c);
	cr_assert_eq(stats_of(p).n_contexts, 6);
	cr_assert_eq(stats_of(p).n_superseded, 3);
	trim_to(p, e, 3);
	cr_assert_eq(stats_of(p).n_superseded, 0);
	cr_assert_eq(have(p, e, b), b->n); /* used now: the other conversation is older */
	trim_to(p, e, 2);
	cr_assert_eq(have(p, e, &a[3]), 0);
	cr_assert_eq(have(p, e, b), b->n);
	cr_assert_eq(have(p, e, c), c->n);
	trim_to(p, e, 1);
	cr_assert_eq(have(p, e, b), 0);
	prefix_trim(p, SIZE_MAX);
	cr_assert_eq(used(e), 0);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, a_turn_written_anew_is_superseded) {
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	static struct text a[3], other, thinking;
	make_talk(a, 3, e, 1);
	keep(p, e, NULL, NULL, &a[1]);
	other = a[1]; /* the answer is another one, and then in two parts */
	other.ids[other.n - 40] ^= 1;
	keep(p, e, NULL, NULL, &other);
	cr_assert_eq(stats_of(p).n_superseded, 1);
	thinking = other;
	thinking.segments[3].role = BB_ROLE_THINKING;
	thinking.n = other.segments[3].first + 20;
	thinking.ids[thinking.n - 20] ^= 3;
	say(&thinking, BB_ROLE_ASSISTANT, other.ids, 20);
	keep(p, e, NULL, NULL, &thinking);
	cr_assert_eq(stats_of(p).n_superseded, 2);
	/* the next turn has the answer without the thinking */
	a[2].ids[other.segments[3].first] = thinking.ids[thinking.n - 20];
	keep(p, e, NULL, NULL, &a[2]);
	cr_assert_eq(stats_of(p).n_superseded, 3);
	/* other questions behind the same beginning take nobody's place */
	a[2].ids[a[0].n] ^= 1;
	keep(p, e, NULL, NULL, &a[2]);
	cr_assert_eq(stats_of(p).n_superseded, 3);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, conversations_with_names_supersede_their_own_turns) {
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	static struct text a[2], b[2];
	make_talk(a, 2, e, 1);
	make_talk(b, 2, e, 2);
	keep(p, e, NULL, "a", &a[0]);
	keep(p, e, NULL, "b", &a[1]); /* of another one, though it begins so */
	cr_assert_eq(stats_of(p).n_superseded, 0);
	keep(p, e, "salt", "a", &b[1]); /* of another salt */
	cr_assert_eq(stats_of(p).n_superseded, 0);
	keep(p, e, NULL, "a", &b[0]); /* rewritten from the first token on */
	cr_assert_eq(stats_of(p).n_superseded, 1);
	cr_assert_eq(have(p, e, &a[0]), a[0].n); /* of use again */
	cr_assert_eq(stats_of(p).n_superseded, 0);
	keep(p, e, NULL, NULL, &b[1]); /* of no name */
	cr_assert_eq(stats_of(p).n_superseded, 1);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, equal_timelines_are_kept_once) {
	struct bb_engine *e = open_tiny("falcon-h1");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	static struct text a[2];
	make_talk(a, 2, e, 1);
	for (int i = 0; i < 6; i++) {
		keep(p, e, NULL, i % 3 == 0 ? NULL : "name", &a[i % 2]);
		cr_assert_eq(stats_of(p).n_contexts, i > 0 ? 2 : 1);
		cr_assert_eq(have(p, e, &a[i % 2]), a[i % 2].n);
	}
	const size_t before = used(e), kept = stats_of(p).bytes;
	cr_assert_eq(prefix_trim(p, SIZE_MAX), kept);
	cr_assert_eq(before - used(e), kept);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, what_a_running_context_uses_stays) {
	for (size_t i = 0; i < COUNT(models); i++) {
		struct bb_engine *e = open_tiny(models[i]);
		struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
		static struct text a[3];
		int n_found;
		make_talk(a, 3, e, 1);
		keep(p, e, NULL, NULL, &a[1]);
		struct bb_context *c = find(p, e, NULL, a[2].ids, a[2].n - 1, &n_found);
		cr_assert_eq(n_found, a[1].n);
		prefix_trim(p, SIZE_MAX);
		cr_assert_gt(used(e), 0);
		cr_assert_eq(stats_of(p).bytes, 0);
		float *logits = malloc((size_t)vocab_of(e) * sizeof(float));
		read_rest(c, &a[2], logits);
		prefix_trim(p, SIZE_MAX);
		check_bits(e, &a[2], logits);
		free(logits);
		bb_context_destroy(c);
		prefix_trim(p, SIZE_MAX);
		cr_assert_eq(stats_of(p).n_contexts, 0);
		cr_assert_eq(used(e), 0);
		prefix_destroy(p);
		bb_engine_destroy(e);
	}
}

/* A limit on pages is no reason to fail while the cache has some. */
Test(prefix, gives_its_pages_to_a_step) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1,
		.max_model_len = MAX_LEN, .max_kv_bytes = 1 << 20 };
	struct bb_engine *e = open_with(&params);
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	struct bb_error err = { 0 };
	static int32_t ids[MAX_LEN];
	int n_refused = 0;
	for (int i = 0; i < 12; i++) {
		struct bb_context *c = new_context(e);
		make_ids(ids, 512, vocab_of(e), i);
		while (!bb_context_reserve(c, 512, &err)) {
			cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
			err = (struct bb_error){ 0 };
			cr_assert_gt(prefix_trim(p, 1), 0);
			n_refused++;
		}
		append(c, ids, 512, NULL);
		prefix_keep(p, NULL, NULL, c);
	}
	cr_assert_gt(n_refused, 0);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

/* ---- salts ---- */

Test(prefix, salts_share_nothing) {
	struct bb_engine *e = open_tiny("mamba2");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	static struct text t;
	struct bb_context *x, *again;
	struct bb_error err = { 0 };
	static int32_t ids[1200];
	int n_found;
	make_ids(ids, 1200, vocab_of(e), 1);
	say(&t, BB_ROLE_USER, ids, 1200);
	keep(p, e, "x", NULL, &t);
	bb_context_destroy(find(p, e, "y", ids, 1200, &n_found));
	cr_assert_eq(n_found, 0);
	bb_context_destroy(find(p, e, NULL, ids, 1200, &n_found));
	cr_assert_eq(n_found, 0);
	keep(p, e, "y", NULL, &t);
	/* what is computed again for x helps x alone */
	cr_assert_gt(prefix_find(p, "x", ids, 1200, &x), 0);
	cr_assert(bb_context_rewind(x, 700, &err), "%s", err.text);
	cr_assert_eq(prefix_find(p, "x", ids, 700, &again), 700);
	bb_context_destroy(again);
	cr_assert_eq(prefix_find(p, "y", ids, 700, &again), 512);
	bb_context_destroy(again);
	bb_context_destroy(x);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

/* ---- where timelines part ---- */

/* The first that leaves a timeline leaves a state there, so the second computes nothing again. */
Test(prefix, states_are_kept_where_timelines_part) {
	for (int reserved = 0; reserved < 2; reserved++) {
		struct bb_engine *e = open_tiny("falcon-h1");
		struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
		struct bb_error err = { 0 };
		static struct text t;
		static int32_t ids[1600];
		int n_found;
		make_ids(ids, 1600, vocab_of(e), 1);
		t = (struct text){ 0 };
		say(&t, BB_ROLE_USER, ids, 1000);
		keep(p, e, NULL, NULL, &t);
		static const int found[] = { 512, 700, 700 };
		for (int i = 0; i < 3; i++) {
			memcpy(t.ids + 700, ids + 1000, 600 * sizeof(*ids));
			t.ids[700] = 3 + i;
			t.n = i == 1 ? 701 : 1300;
			struct bb_context *c = find(p, e, NULL, t.ids, t.n, &n_found);
			cr_assert_eq(n_found, found[i]);
			if (reserved) {
				cr_assert(bb_context_reserve(c, t.n - n_found, &err), "%s", err.text);
				base_forbid_alloc(true);
			}
			append(c, t.ids + n_found, t.n - n_found, NULL);
			base_forbid_alloc(false);
			prefix_keep(p, NULL, NULL, c);
		}
		prefix_destroy(p);
		bb_engine_destroy(e);
	}
}

/* ---- agents ---- */

enum { N_AGENTS = 4, N_AGENT_TURNS = 40 };

/* What of a request other requests, or answers to them, have begun with. */
static int reusable(struct text *const *known, int n_known, const struct text *t) {
	int most = 0;
	for (int i = 0; i < n_known; i++) {
		int n = 0;
		while (n < t->n - 1 && n < known[i]->n && known[i]->ids[n] == t->ids[n]) {
			n++;
		}
		most = n > most ? n : most;
	}
	return most;
}

/* The prompt of an agent's turn: the system's words are those of all agents, then two of them have
 * notes, which change every eight turns, and then follows what was said. */
static void make_prompt(struct text *t, struct bb_engine *e, int agent, int turn) {
	static int32_t ids[400];
	*t = (struct text){ 0 };
	make_ids(ids, 400, vocab_of(e), 0);
	say(t, BB_ROLE_SYSTEM, ids, 150);
	if (agent >= 2) {
		make_ids(ids, 400, vocab_of(e), 1000 * agent + turn / 8);
		say(t, BB_ROLE_SYSTEM, ids, 60);
	}
	for (int i = 0; i <= turn; i++) {
		make_ids(ids, 400, vocab_of(e), 100 * agent + i + 1);
		say(t, i % 3 == 0 ? BB_ROLE_USER : BB_ROLE_TOOL, ids, 10 + ids[0] % 60);
		if (i < turn) {
			say(t, BB_ROLE_ASSISTANT, ids + 200, 5 + ids[1] % 30);
		}
	}
}

/* 4 agents take turns, 40 each, with memory for so many checkpoints, and in the prefix cache for so
 * many contexts of the greatest length, in the host's memory for n_aside more. Every other one
 * thinks before it answers, which its next prompt doesn't have. */
static void play_agents(const char *model, int n_checkpoints, int n_contexts, int n_aside) {
	struct bb_engine_params params = { .path = tiny_path(model), .n_threads = 1,
		.max_model_len = MAX_LEN };
	struct bb_engine *e = open_with(&params);
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	const size_t context_bytes = info.state_bytes + info.kv_bytes_per_token * MAX_LEN;
	params.state_cache_bytes = (size_t)n_checkpoints * info.state_bytes;
	bb_engine_destroy(e);
	e = open_with(&params);
	struct swap_space space = { .max_bytes = (size_t)n_aside * context_bytes };
	struct prefix *p = new_prefix(e, (size_t)n_contexts * context_bytes, &space);
	static struct text *known[N_AGENTS * N_AGENT_TURNS];
	static int32_t thoughts[40];
	int64_t n_reusable = 0, n_reused = 0;
	int n_known = 0, n_found;
	for (int turn = 0; turn < N_AGENT_TURNS; turn++) {
		for (int agent = 0; agent < N_AGENTS; agent++) {
			struct text *t = malloc(sizeof(*t)), *next = malloc(sizeof(*next));
			make_prompt(t, e, agent, turn);
			make_prompt(next, e, agent, turn + 1);
			struct bb_context *c = find(p, e, NULL, t->ids, t->n - 1, &n_found);
			n_reusable += reusable(known, n_known, t);
			n_reused += n_found;
			read_rest(c, t, NULL);
			if (agent % 2 == 0) {
				make_ids(thoughts, 40, vocab_of(e), 7 * turn + agent);
				say(t, BB_ROLE_THINKING, thoughts, 40);
			}
			const int answer = next->segments[next->n_segments - 2].first;
			say(t, BB_ROLE_ASSISTANT, next->ids + answer,
				next->segments[next->n_segments - 1].first - answer);
			read_rest(c, t, NULL);
			prefix_keep(p, NULL, NULL, c);
			known[n_known++] = t;
			free(next);
		}
	}
	fprintf(stderr, "%s: %.2f %% of %lld reusable tokens\n", model,
		100.0 * (double)n_reused / (double)n_reusable, (long long)n_reusable);
	cr_assert_geq(n_reused * 100, n_reusable * 95);
	while (n_known > 0) {
		free(known[--n_known]);
	}
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, agents_reuse_what_can_be_reused) {
	play_agents("llama", 0, 4, 0);
	play_agents("mamba2", 20, 60, 0);
	play_agents("falcon-h1", 20, 4, 0);
	play_agents("llama", 0, 1, 4);
	play_agents("mamba2", 20, 22, 4);
	play_agents("falcon-h1", 20, 4, 4);
}

/* ---- many ---- */

/* Seconds for which one of many searches lasted at least. */
static double time_find(struct prefix *p, const int32_t *ids, int n) {
	double least = 1;
	for (int i = 0; i < 50; i++) {
		struct bb_context *c;
		const double start = base_seconds();
		cr_assert_eq(prefix_find(p, NULL, ids, n, &c), n);
		const double seconds = base_seconds() - start;
		least = seconds < least ? seconds : least;
		bb_context_destroy(c);
	}
	return least;
}

/* Contexts of the same beginning [300], each with tokens of its own. */
static void keep_many(struct prefix *p, struct bb_context *shared, int from, int to) {
	struct bb_error err = { 0 };
	for (int i = from; i < to; i++) {
		const int32_t own[] = { i % 100, i / 100, 5, 6 };
		struct bb_context *c;
		cr_assert(bb_context_fork(&c, shared, &err), "%s", err.text);
		append(c, own, 4, NULL);
		prefix_keep(p, NULL, NULL, c);
	}
}

static void find_among_many(const char *model) {
	enum { FEW = 10, MANY = 10000, N = 300 };
	struct bb_engine *e = open_tiny(model);
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	struct bb_context *shared = new_context(e);
	static int32_t ids[N + 4];
	make_ids(ids, N, vocab_of(e), 1);
	append(shared, ids, N, NULL);
	keep_many(p, shared, 0, FEW);
	memcpy(ids + N, (int32_t[]){ 3, 0, 5, 6 }, 4 * sizeof(*ids));
	const double few = time_find(p, ids, N + 4);
	const double start = base_seconds();
	keep_many(p, shared, FEW, MANY);
	const double kept = base_seconds() - start;
	cr_assert_eq(stats_of(p).n_contexts, MANY);
	const double many = time_find(p, ids, N + 4);
	for (int i = 0; i < MANY; i += 97) {
		struct bb_context *c;
		ids[N] = i % 100;
		ids[N + 1] = i / 100;
		cr_assert_eq(prefix_find(p, NULL, ids, N + 4, &c), N + 4);
		bb_context_destroy(c);
	}
	fprintf(stderr, "%s: %.1f us among %d, %.1f us among %d, kept in %.1f us each\n", model,
		few * 1e6, FEW, many * 1e6, MANY, kept * 1e6 / MANY);
	cr_assert_lt(many, 4 * few + 50e-6);
	bb_context_destroy(shared);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, ten_thousand_contexts) {
	find_among_many("llama");
	find_among_many("mamba2");
}

/* ---- no memory ---- */

/* One request while allocation n fails; true if it did. */
static bool request_without(struct prefix *p, struct bb_engine *e, const struct text *t, long n) {
	struct bb_context *c;
	const long before = base_count_allocs();
	base_fail_alloc_at(n);
	int n_found = prefix_find(p, NULL, t->ids, t->n - 1, &c);
	bool failed = base_count_allocs() - before >= n;
	const long used_up = base_count_allocs() - before;
	base_fail_alloc_at(0);
	if (c == NULL) {
		cr_assert_eq(n_found, 0);
		c = new_context(e);
		prefix_enter(p, NULL, c);
	}
	cr_assert_eq(bb_context_length(c), n_found);
	read_rest(c, t, NULL);
	base_fail_alloc_at(failed ? 0 : n - used_up);
	const long middle = base_count_allocs();
	prefix_keep(p, NULL, "name", c);
	failed = failed || base_count_allocs() - middle >= n - used_up;
	base_fail_alloc_at(0);
	return failed;
}

Test(prefix, without_memory_it_finds_nothing_and_keeps_nothing) {
	for (size_t i = 0; i < COUNT(models); i++) {
		struct bb_engine *e = open_tiny(models[i]);
		struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
		static struct text a[3], t;
		int n_found, n_common;
		long n = 1;
		make_talk(a, 3, e, 1);
		keep(p, e, NULL, NULL, &a[1]);
		bool failed = true;
		for (; failed; n++) {
			t = a[2];
			t.ids[a[0].n + 20] = (int)n; /* parts from the others within an edge */
			failed = request_without(p, e, &t, n);
			cr_assert_eq(stats_of(p).n_contexts, e->n_contexts);
			const int best = best_reach(p, e, NULL, t.ids, t.n, &n_common);
			bb_context_destroy(find(p, e, NULL, t.ids, t.n, &n_found));
			cr_assert_eq(n_found, best);
		}
		cr_assert_gt(n, 6);
		const size_t before = used(e), kept = stats_of(p).bytes;
		prefix_destroy(p);
		cr_assert_eq(before - used(e), kept);
		cr_assert_eq(used(e), 0);
		bb_engine_destroy(e);
	}
}

/* Chains of the table grow where it can't. */
Test(prefix, a_table_that_can_t_grow_finds_all_the_same) {
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	struct bb_context *c;
	for (int i = 0; i < 200; i++) {
		const int32_t own[] = { i % 100, i / 100, 5 };
		c = new_context(e);
		append(c, own, 3, NULL);
		/* the entry, three nodes and the salt come before the table */
		base_fail_alloc_at(6);
		prefix_keep(p, NULL, NULL, c);
		base_fail_alloc_at(0);
	}
	cr_assert_eq(stats_of(p).n_contexts, 200);
	for (int i = 0; i < 200; i++) {
		const int32_t own[] = { i % 100, i / 100, 5 };
		cr_assert_eq(prefix_find(p, NULL, own, 3, &c), 3);
		bb_context_destroy(c);
	}
	prefix_destroy(p);
	bb_engine_destroy(e);
}

/* The first of three that part at one token, used last and let go first, since the others are in
 * use: what is left of their common stretch is still known. */
Test(prefix, who_was_used_last_may_go_first) {
	enum { N_COMMON = 70, N = 200 };
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	int32_t ids[3][N];
	struct bb_context *held[3];
	int n_found;
	for (int i = 0; i < 3; i++) {
		make_ids(ids[i], N, vocab_of(e), 1 + i);
		memcpy(ids[i], ids[0], N_COMMON * sizeof(ids[0][0]));
		ids[i][N_COMMON] = i;
		struct bb_context *c = find(p, e, NULL, ids[i], N, &n_found);
		append(c, ids[i] + n_found, N - n_found, NULL);
		prefix_keep(p, NULL, NULL, c);
	}
	for (int i = 2; i >= 0; i--) {
		held[i] = find(p, e, NULL, ids[i], N, &n_found);
		cr_assert_eq(n_found, N);
	}
	bb_context_destroy(held[0]);
	cr_assert_gt(prefix_trim(p, 1), 0);
	for (int i = 0; i < 3; i++) {
		struct bb_context *c = find(p, e, NULL, ids[i], N, &n_found);
		cr_assert_eq(n_found, i == 0 ? N_COMMON : N);
		bb_context_destroy(c);
	}
	bb_context_destroy(held[1]);
	bb_context_destroy(held[2]);
	prefix_destroy(p);
	bb_engine_destroy(e);
}

Test(prefix, what_others_would_compute_otherwise_is_not_kept) {
	struct bb_engine *e = open_tiny("llama");
	struct prefix *p = new_prefix(e, SIZE_MAX, NULL);
	const struct bb_context_params params[] = { { .kv_type = BB_KV_INT8 }, { .max_len = 100 } };
	const int32_t ids[] = { 1, 2, 3 };
	struct bb_context *c;
	struct bb_error err = { 0 };
	for (size_t i = 0; i < COUNT(params); i++) {
		cr_assert(bb_context_create(&c, e, &params[i], &err), "%s", err.text);
		append(c, ids, 3, NULL);
		prefix_keep(p, NULL, NULL, c);
		cr_assert_eq(prefix_find(p, NULL, ids, 3, &c), 0);
	}
	prefix_keep(p, NULL, NULL, new_context(e));
	cr_assert_eq(stats_of(p).n_contexts, 0);
	cr_assert_eq(e->n_contexts, 0);
	prefix_destroy(p);
	bb_engine_destroy(e);
}
