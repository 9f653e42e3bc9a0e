/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts: timelines, memory, limits, windows, forks that share what they can, and that a failed
 * operation loses nothing. At the end all of it against a naive copy, in random order. */
#include "models.h"

#include "engine.h"

#include <sys/mman.h>

static struct bb_engine *open_tiny(const char *name, int max_len, int window, size_t max_kv_bytes) {
	const struct bb_engine_params params = { .path = tiny_path(name), .n_threads = 1,
		.max_model_len = max_len, .window = window, .max_kv_bytes = max_kv_bytes };
	return open_with(&params);
}

static const int32_t ids[] = { 5, 17, 23, 99, 3, 42, 8, 111, 64, 2 };

Test(context, starts_empty) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e);
	cr_assert_eq(bb_context_length(c), 0);
	cr_assert_eq(bb_context_kv_bytes(c), 0);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, destroy_accepts_null) {
	bb_context_destroy(NULL);
	bb_engine_destroy(NULL);
	bb_generation_destroy(NULL);
}

Test(context, timeline_holds_what_was_fed) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e);
	feed(c, e, ids, 4, NULL);
	feed(c, e, ids + 4, 6, NULL);
	cr_assert_eq(bb_context_length(c), 10);
	cr_assert_eq(memcmp(bb_context_tokens(c), ids, sizeof(ids)), 0);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, fork_shares_pages_until_written) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e), *fork;
	struct bb_error err = { 0 };
	int32_t many[200];
	make_ids(many, 200, vocab_of(e), 1);
	feed(c, e, many, 200, NULL);
	const size_t before = bb_context_kv_bytes(c);
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	cr_assert_eq(bb_context_kv_bytes(fork), before);
	cr_assert_eq(bb_context_length(fork), 200);
	feed(fork, e, ids, 3, NULL);
	cr_assert_eq(bb_context_length(c), 200);
	cr_assert_eq(memcmp(bb_context_tokens(c), many, sizeof(many)), 0);
	bb_context_destroy(c);
	cr_assert_eq(memcmp(bb_context_tokens(fork), many, sizeof(many)), 0);
	bb_context_destroy(fork);
	bb_engine_destroy(e);
}

Test(context, rewind_out_of_range_is_refused) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e);
	feed(c, e, ids, 10, NULL);
	struct bb_error err = { 0 };
	cr_assert_not(bb_context_rewind(c, 11, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	err = (struct bb_error){ 0 };
	cr_assert_not(bb_context_rewind(c, -1, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_eq(bb_context_length(c), 10);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, full_context_is_refused_and_unchanged) {
	struct bb_engine *e = open_tiny("llama", 12, 0, 0);
	struct bb_context *c = new_context(e);
	feed(c, e, ids, 10, NULL);
	struct bb_error err = { 0 };
	const struct bb_step_item item = { c, ids, 3, NULL, false };
	cr_assert_not(bb_step(e, &item, 1, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_not_null(strstr(err.text, "10 of at most 12"), "%s", err.text);
	cr_assert_eq(bb_context_length(c), 10);
	feed(c, e, ids, 2, NULL);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, one_full_context_stops_the_whole_step) {
	struct bb_engine *e = open_tiny("llama", 12, 0, 0);
	struct bb_context *a = new_context(e), *b = new_context(e);
	feed(b, e, ids, 10, NULL);
	struct bb_error err = { 0 };
	const struct bb_step_item items[] = { { a, ids, 3, NULL, false }, { b, ids, 3, NULL, false } };
	cr_assert_not(bb_step(e, items, 2, &err));
	cr_assert_eq(bb_context_length(a), 0);
	cr_assert_eq(bb_context_kv_bytes(a), 0);
	cr_assert_eq(bb_context_length(b), 10);
	bb_context_destroy(a);
	bb_context_destroy(b);
	bb_engine_destroy(e);
}

Test(context, token_out_of_range_is_refused) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e);
	const int32_t bad[] = { 1, 2, 199 };
	struct bb_error err = { 0 };
	const struct bb_step_item item = { c, bad, 3, NULL, false };
	cr_assert_not(bb_step(e, &item, 1, &err));
	cr_assert_eq(err.code, BB_ERR_INPUT);
	cr_assert_not_null(strstr(err.text, "199"), "%s", err.text);
	cr_assert_eq(bb_context_length(c), 0);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, too_many_rows_are_refused) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_batch_tokens = 8 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	const struct bb_step_item item = { c, ids, 9, NULL, false };
	cr_assert_not(bb_step(e, &item, 1, &err));
	cr_assert_eq(err.code, BB_ERR_USAGE);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, kv_limit_is_an_error_that_loses_nothing) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 64 << 10);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t chunk[64];
	int n = 0;
	make_ids(chunk, 64, vocab_of(e), 4);
	struct bb_step_item item = { c, chunk, 64, NULL, false };
	while (n < 100000 && bb_step(e, &item, 1, &err)) {
		n += 64;
	}
	cr_assert_eq(err.code, BB_ERR_MEMORY);
	cr_assert_not_null(strstr(err.text, "limit"), "%s", err.text);
	cr_assert_eq(bb_context_length(c), n);
	err = (struct bb_error){ 0 };
	cr_assert(bb_context_rewind(c, 1, &err), "%s", err.text);
	feed(c, e, ids, 10, NULL);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, window_frees_pages) {
	struct bb_engine *e = open_tiny("llama-window", 100000, 0, 0);
	struct bb_context *c = new_context(e);
	int32_t chunk[256];
	make_ids(chunk, 256, vocab_of(e), 4);
	size_t most = 0;
	for (int i = 0; i < 20; i++) {
		feed(c, e, chunk, 256, NULL);
		if (i == 4) {
			most = bb_context_kv_bytes(c);
		}
	}
	cr_assert_gt(most, 0);
	cr_assert_leq(bb_context_kv_bytes(c), most);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, rewind_behind_a_window_names_the_first_token) {
	struct bb_engine *e = open_tiny("llama-window", 100000, 0, 0);
	struct bb_context *c = new_context(e);
	int32_t chunk[256];
	make_ids(chunk, 256, vocab_of(e), 4);
	for (int i = 0; i < 5; i++) {
		feed(c, e, chunk, 256, NULL);
	}
	struct bb_error err = { 0 };
	cr_assert_not(bb_context_rewind(c, 300, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	const char *at = strstr(err.text, "a rewind to ");
	int first = 0;
	for (; at != NULL; at = strstr(at + 1, "a rewind to ")) {
		first = atoi(at + strlen("a rewind to "));
	}
	cr_assert_gt(first, 300, "%s", err.text);
	err = (struct bb_error){ 0 };
	cr_assert_not(bb_context_rewind(c, first - 1, &err));
	err = (struct bb_error){ 0 };
	cr_assert(bb_context_rewind(c, first, &err), "%s", err.text);
	cr_assert(bb_context_rewind(c, 0, &err), "%s", err.text);
	feed(c, e, chunk, 256, NULL);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, window_option_limits_what_is_seen) {
	struct bb_engine *e = open_tiny("llama", 0, 4, 0);
	const int n_vocab = vocab_of(e);
	struct bb_context *a = new_context(e), *b = new_context(e);
	float *la = calloc((size_t)n_vocab, sizeof(float)),
		*lb = calloc((size_t)n_vocab, sizeof(float));
	struct bb_error err = { 0 };
	/* Three layers of window 4 see 3 * 3 + 1 tokens back at most: the first token is out of
	 * reach. */
	int32_t one[24], two[24];
	make_ids(one, 24, n_vocab, 5);
	memcpy(two, one, sizeof(two));
	two[0] = (one[0] + 1) % n_vocab;
	cr_assert(bb_prefill(a, one, 24, la, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_prefill(b, two, 24, lb, NULL, NULL, &err), "%s", err.text);
	cr_assert_eq(memcmp(la, lb, (size_t)n_vocab * sizeof(float)), 0);
	free(la);
	free(lb);
	bb_context_destroy(a);
	bb_context_destroy(b);
	bb_engine_destroy(e);
}

static bool stop_at_half(void *user, const char *what, double done, double total) {
	(void)user;
	(void)what;
	return done < total / 2;
}

Test(context, stopped_prefill_is_rewound) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_batch_tokens = 16 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t many[100];
	make_ids(many, 100, vocab_of(e), 1);
	feed(c, e, ids, 10, NULL);
	cr_assert_not(bb_prefill(c, many, 100, NULL, stop_at_half, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_CANCELLED);
	cr_assert_eq(bb_context_length(c), 10);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(context, kv_types_of_contexts_may_differ_from_the_engine) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	const struct bb_context_params params = { .kv_type = BB_KV_INT8, .max_len = 11 };
	struct bb_context *c = NULL, *d = new_context(e);
	struct bb_error err = { 0 };
	cr_assert(bb_context_create(&c, e, &params, &err), "%s", err.text);
	feed(c, e, ids, 10, NULL);
	feed(d, e, ids, 10, NULL);
	cr_assert_lt(bb_context_kv_bytes(c), bb_context_kv_bytes(d));
	const struct bb_step_item item = { c, ids, 2, NULL, false };
	cr_assert_not(bb_step(e, &item, 1, &err));
	bb_context_destroy(c);
	bb_context_destroy(d);
	bb_engine_destroy(e);
}

/* ---- forks share ---- */

Test(context, forks_share_token_ids_until_the_second_goes_on) {
	struct bb_engine *e = open_tiny("llama", 0, 0, 0);
	struct bb_context *c = new_context(e), *fork[2];
	struct bb_error err = { 0 };
	feed(c, e, ids, 6, NULL);
	const int32_t *const shared = bb_context_tokens(c);
	for (int i = 0; i < 2; i++) {
		cr_assert(bb_context_fork(&fork[i], c, &err), "%s", err.text);
		cr_assert_eq(bb_context_tokens(fork[i]), shared);
	}
	feed(fork[0], e, ids + 6, 2, NULL);
	feed(fork[1], e, ids + 8, 2, NULL);
	feed(c, e, ids + 6, 4, NULL);
	cr_assert_eq(bb_context_tokens(fork[0]), shared);
	cr_assert_neq(bb_context_tokens(fork[1]), shared);
	cr_assert_eq(memcmp(bb_context_tokens(c), ids, sizeof(ids)), 0);
	cr_assert_eq(memcmp(bb_context_tokens(fork[0]), ids, 8 * sizeof(ids[0])), 0);
	cr_assert_eq(memcmp(bb_context_tokens(fork[1]) + 6, ids + 8, 2 * sizeof(ids[0])), 0);
	bb_context_destroy(c);
	bb_context_destroy(fork[0]);
	cr_assert_eq(memcmp(bb_context_tokens(fork[1]), ids, 6 * sizeof(ids[0])), 0);
	bb_context_destroy(fork[1]);
	bb_engine_destroy(e);
}

/* Pages of table t from index `first` on become readable, or out of reach. */
static void set_reach(const struct kv_table *t, int first, int prot) {
	const size_t bytes = t->pool->page_bytes; /* a system's page */
	for (int i = first; i < t->n_pages; i++) {
		void *page = t->chunks[i / BB_CHUNK][i % BB_CHUNK];
		cr_assert_eq(mprotect(page, bytes, prot), 0);
	}
}

Test(context, fork_of_a_million_tokens_touches_no_page) {
	enum { N_TOKENS = 1000000 };
	const size_t system_page = (size_t)sysconf(_SC_PAGESIZE);
	struct kv_budget budget = { 0 };
	struct kv_pool pool;
	struct kv_table t, fork;
	struct bb_error err = { 0 };
	static const struct memory host;
	kv_pool_init(&pool, system_page, &host, &budget);
	cr_assert(kv_table_init(&t, &pool, 2 * N_TOKENS, &err), "%s", err.text);
	cr_assert(kv_reserve(&t, 0, N_TOKENS, 0, &err), "%s", err.text);
	cr_assert_eq(pool.n_used, N_TOKENS / BB_PAGE);
	set_reach(&t, 0, PROT_NONE);
	cr_assert(kv_table_init(&fork, &pool, 2 * N_TOKENS, &err), "%s", err.text);
	base_forbid_alloc(true);
	kv_fork(&fork, &t, N_TOKENS);
	base_forbid_alloc(false);
	for (int i = 0; i * BB_CHUNK < t.n_pages; i++) {
		cr_assert_eq(fork.chunks[i], t.chunks[i]);
	}
	/* Going on touches the last chunk's pages. */
	const int last_chunk = t.n_pages / BB_CHUNK * BB_CHUNK;
	set_reach(&t, last_chunk, PROT_READ | PROT_WRITE);
	cr_assert(kv_reserve(&fork, N_TOKENS, 1000, 0, &err), "%s", err.text);
	cr_assert_eq(fork.chunks[0], t.chunks[0]);
	cr_assert_neq(fork.chunks[last_chunk / BB_CHUNK], t.chunks[last_chunk / BB_CHUNK]);
	cr_assert_eq(pool.n_used, N_TOKENS / BB_PAGE + 16);
	kv_table_finish(&fork);
	cr_assert_eq(pool.n_used, N_TOKENS / BB_PAGE);
	set_reach(&t, 0, PROT_READ | PROT_WRITE);
	kv_table_finish(&t);
	cr_assert_eq(pool.n_used, 0);
	kv_pool_finish(&pool);
	cr_assert_eq(budget.used_bytes, 0);
}

/* ---- reserved room ---- */

Test(context, reserved_room_is_kept_until_given_back) {
	struct bb_engine *e = open_tiny("llama", 300, 0, 0);
	struct bb_context *c = new_context(e), *fork;
	struct bb_error err = { 0 };
	feed(c, e, ids, 10, NULL);
	const size_t one_page = bb_context_kv_bytes(c);
	cr_assert(bb_context_reserve(c, 200, &err), "%s", err.text);
	cr_assert_eq(bb_context_kv_bytes(c), 4 * one_page);
	cr_assert_eq(bb_context_length(c), 10);
	feed(c, e, ids, 10, NULL);
	cr_assert_eq(bb_context_kv_bytes(c), 4 * one_page);
	cr_assert_not(bb_context_reserve(c, 281, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_eq(bb_context_kv_bytes(c), 4 * one_page);
	err = (struct bb_error){ 0 };
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	cr_assert_eq(bb_context_kv_bytes(c), one_page);
	cr_assert_eq(bb_context_kv_bytes(fork), one_page);
	cr_assert(bb_context_reserve(fork, 280, &err), "%s", err.text);
	cr_assert(bb_context_rewind(fork, 20, &err), "%s", err.text);
	cr_assert_eq(bb_context_kv_bytes(fork), one_page);
	bb_context_destroy(c);
	bb_context_destroy(fork);
	bb_engine_destroy(e);
}

/* A failed step gives back its own room only. */
Test(context, failed_step_leaves_reserved_room) {
	struct bb_engine *e = open_tiny("llama", 100, 0, 0);
	struct bb_context *a = new_context(e), *b = new_context(e);
	struct bb_error err = { 0 };
	int32_t many[90];
	make_ids(many, 90, vocab_of(e), 1);
	feed(b, e, many, 90, NULL);
	cr_assert(bb_context_reserve(a, 10, &err), "%s", err.text);
	const size_t before = bb_context_kv_bytes(a);
	const struct bb_step_item items[] = {
		{ a, many, 80, NULL, false }, { b, many, 11, NULL, false },
	};
	cr_assert_not(bb_step(e, items, 2, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert_eq(bb_context_kv_bytes(a), before);
	base_forbid_alloc(true);
	feed(a, e, many, 10, NULL);
	base_forbid_alloc(false);
	bb_context_destroy(a);
	bb_context_destroy(b);
	bb_engine_destroy(e);
}

/* ---- every allocation fails once ---- */

enum operation { DO_CREATE, DO_FORK, DO_RESERVE, DO_STEP, DO_REWIND, N_OPERATIONS };

/* On c, which shares its chunk and partly filled page with `other`; *made: a new context, or
 * NULL. */
static bool operate(enum operation op, struct bb_context *c, struct bb_context *other,
	struct bb_context **made, struct bb_error *err) {
	const struct bb_step_item items[] = {
		{ c, ids, 10, NULL, false }, { other, ids, 2, NULL, false },
	};
	switch (op) {
	case DO_CREATE:
		return bb_context_create(made, c->engine, NULL, err);
	case DO_FORK:
		return bb_context_fork(made, c, err);
	case DO_RESERVE:
		return bb_context_reserve(c, 5000, err);
	case DO_STEP:
		return bb_step(c->engine, items, 2, err);
	default:
		return bb_context_rewind(c, 20, err);
	}
}

static void fail_every_allocation_of(enum operation op) {
	struct bb_engine *e = open_tiny("gemma3", 10000, 0, 0);
	int32_t many[200];
	make_ids(many, 200, vocab_of(e), 1);
	long n = 0;
	for (bool done = false; !done; n++) {
		struct bb_context *c = new_context(e), *fork, *made = NULL;
		struct bb_error err = { 0 };
		feed(c, e, many, 200, NULL);
		cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
		const size_t bytes = bb_context_kv_bytes(c);
		base_fail_alloc_at(n + 1);
		done = operate(op, c, fork, &made, &err);
		base_fail_alloc_at(0);
		bb_context_destroy(made);
		if (!done) {
			cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
			cr_assert_eq(bb_context_length(c), 200);
			cr_assert_eq(memcmp(bb_context_tokens(c), many, sizeof(many)), 0);
			cr_assert_eq(bb_context_kv_bytes(c), bytes);
			cr_assert_eq(bb_context_length(fork), 200);
			cr_assert_eq(memcmp(bb_context_tokens(fork), many, sizeof(many)), 0);
			cr_assert_eq(bb_context_kv_bytes(fork), bytes);
		}
		bb_context_destroy(c);
		bb_context_destroy(fork);
		for (int i = 0; i < e->plan.n_kinds; i++) {
			cr_assert_eq(e->pools[i][e->kv_type].n_used, 0);
		}
	}
	cr_assert_gt(n, 1, "operation %d", op);
	bb_engine_destroy(e);
}

Test(context, every_failed_allocation_loses_nothing) {
	for (int op = 0; op < N_OPERATIONS; op++) {
		fail_every_allocation_of(op);
	}
}

/* ---- random operations against a naive copy ---- */

enum { N_SLOTS = 8, MAX_TOKENS = 9000, MAX_SEGMENTS = 100, SLACK = 4 * BB_PAGE };

/* What a context should be: everything flat, nothing shared. */
struct naive {
	struct bb_context *c;                /* NULL: a free slot */
	int n, n_reserved;
	int first_page[MAX_LAYER_KINDS];
	uint64_t stamps[MAX_TOKENS];         /* [n]: a number per token; pages hold it too */
	int n_segments;
	struct bb_segment segments[MAX_SEGMENTS]; /* [n_segments]: those begun, without n_tokens */
};

struct world {
	struct bb_engine *e;
	uint64_t random, last_stamp;
	int n_failed, n_shared;              /* operations without memory; pages of two contexts */
	struct naive slots[N_SLOTS];
};

/* 0 to n - 1 (xorshift64*) */
static int draw(struct world *w, int n) {
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (int)((w->random * 2685821657736338717u >> 33) % (uint64_t)n);
}

static void *page_at(const struct naive *s, int kind, int i_page) {
	return s->c->tables[kind].chunks[i_page / BB_CHUNK][i_page % BB_CHUNK];
}

static int pages_for(int n_tokens) {
	return (n_tokens + BB_PAGE - 1) / BB_PAGE;
}

static int n_pages_of(const struct naive *s) {
	return pages_for(s->n > s->n_reserved ? s->n : s->n_reserved);
}

static void verify_segments(const struct naive *s) {
	int n = bb_context_n_segments(s->c), end = s->n;
	for (int i = s->n_segments - 1; i >= 0; i--) {
		const struct bb_segment want = s->segments[i], is = bb_context_segment(s->c, --n);
		cr_assert(is.first == want.first && is.role == want.role);
		cr_assert_eq(is.n_tokens, end - is.first);
		end = is.first;
	}
	cr_assert_eq(n, end > 0);
	cr_assert(end == 0 || (bb_context_segment(s->c, 0).role == BB_ROLE_NONE &&
		bb_context_segment(s->c, 0).n_tokens == end));
}

static void verify(const struct world *w, const struct naive *s) {
	size_t bytes = 0;
	cr_assert_eq(bb_context_length(s->c), s->n);
	verify_segments(s);
	for (int t = 0; t < s->n; t++) {
		cr_assert_eq(bb_context_tokens(s->c)[t], (int32_t)s->stamps[t]);
	}
	for (int kind = 0; kind < w->e->plan.n_kinds; kind++) {
		for (int t = s->first_page[kind] * BB_PAGE; t < s->n; t++) {
			const uint64_t *page = page_at(s, kind, t / BB_PAGE);
			cr_assert_eq(page[t % BB_PAGE], s->stamps[t], "kind %d token %d of %d", kind, t, s->n);
		}
		const size_t n_pages = (size_t)(n_pages_of(s) - s->first_page[kind]);
		bytes += n_pages * s->c->tables[kind].pool->page_bytes;
	}
	cr_assert_eq(bb_context_kv_bytes(s->c), bytes);
}

static int by_address(const void *a, const void *b) {
	const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
	return (x > y) - (x < y);
}

/* The pool holds as many pages as the contexts can see, each counted once. */
static void verify_pages(struct world *w, int kind) {
	static uintptr_t pages[N_SLOTS * (MAX_TOKENS / BB_PAGE + 1)];
	size_t n = 0, n_distinct = 0;
	for (int i = 0; i < N_SLOTS; i++) {
		const struct naive *s = &w->slots[i];
		for (int p = s->first_page[kind]; s->c != NULL && p < n_pages_of(s); p++) {
			pages[n++] = (uintptr_t)page_at(s, kind, p);
		}
	}
	qsort(pages, n, sizeof(pages[0]), by_address);
	for (size_t i = 0; i < n; i++) {
		n_distinct += i == 0 || pages[i] != pages[i - 1];
	}
	w->n_shared += n > n_distinct;
	cr_assert_eq(w->e->pools[kind][w->e->kv_type].n_used, n_distinct);
}

static int window_of(const struct world *w, int kind) {
	return w->e->plan.kinds[kind].window;
}

/* As a step, but what it stores is the tokens' numbers. */
static bool append(struct world *w, struct naive *s, struct bb_error *err) {
	const int n = draw(w, 8) == 0 ? 1 + draw(w, 2000) : 1 + draw(w, 90);
	static int32_t tokens[MAX_TOKENS];
	base_forbid_alloc(s->n + n <= s->n_reserved);
	const bool ok = context_reserve(s->c, n, 0, err);
	base_forbid_alloc(false);
	if (!ok) {
		cr_assert(err->code == BB_ERR_MEMORY || s->n + n > MAX_TOKENS, "%s", err->text);
		return false;
	}
	for (int t = s->n; t < s->n + n; t++) {
		s->stamps[t] = ++w->last_stamp;
		tokens[t - s->n] = (int32_t)w->last_stamp;
		for (int kind = 0; kind < w->e->plan.n_kinds; kind++) {
			((uint64_t *)page_at(s, kind, t / BB_PAGE))[t % BB_PAGE] = w->last_stamp;
		}
	}
	base_forbid_alloc(true);
	context_commit(s->c, tokens, n, (struct ahead){ 0 });
	base_forbid_alloc(false);
	s->n += n;
	for (int kind = 0; kind < w->e->plan.n_kinds; kind++) {
		const int first = window_of(w, kind) > 0 ? s->n + 1 - window_of(w, kind) - SLACK : 0;
		if (first / BB_PAGE > s->first_page[kind]) {
			s->first_page[kind] = first / BB_PAGE;
		}
	}
	return true;
}

static bool reserve(struct world *w, struct naive *s, struct bb_error *err) {
	const int n = 1 + draw(w, 500);
	const bool ok = bb_context_reserve(s->c, n, err);
	cr_assert(ok || err->code == BB_ERR_MEMORY || s->n + n > MAX_TOKENS, "%s", err->text);
	if (ok && s->n + n > s->n_reserved) {
		s->n_reserved = s->n + n;
	}
	return ok;
}

static void drop_segments(struct naive *s, int first) {
	while (s->n_segments > 0 && s->segments[s->n_segments - 1].first >= first) {
		s->n_segments--;
	}
}

static bool begin_segment(struct world *w, struct naive *s, struct bb_error *err) {
	const int last = s->n_segments > 0 ? s->segments[s->n_segments - 1].first : 0;
	const int first = draw(w, 2) == 0 ? s->n : last + draw(w, s->n - last + 1);
	const enum bb_role role = (enum bb_role)(1 + draw(w, 5));
	if (s->n_segments == MAX_SEGMENTS) {
		return true;
	}
	if (!bb_context_begin_segment(s->c, first, role, err)) {
		cr_assert_eq(err->code, BB_ERR_MEMORY, "%s", err->text);
		return false;
	}
	drop_segments(s, first);
	s->segments[s->n_segments++] = (struct bb_segment){ role, first, 0 };
	return true;
}

static bool rewind_some(struct world *w, struct naive *s, struct bb_error *err) {
	const int back = draw(w, 3) == 0 ? draw(w, s->n + 1) : draw(w, 200);
	const int to = back < s->n ? s->n - back : 0;
	bool is_held = true;
	for (int kind = 0; kind < w->e->plan.n_kinds; kind++) {
		const int window = window_of(w, kind), first = window > 0 ? to + 1 - window : 0;
		is_held = is_held && (first > 0 ? first : 0) >= s->first_page[kind] * BB_PAGE;
	}
	const bool may = to == 0 || to == s->n || is_held, ok = bb_context_rewind(s->c, to, err);
	cr_assert(ok ? may : err->code == (may ? BB_ERR_MEMORY : BB_ERR_CONTEXT), "%s", err->text);
	if (ok) {
		s->n = to;
		s->n_reserved = 0;
		drop_segments(s, to);
		for (int kind = 0; kind < w->e->plan.n_kinds; kind++) {
			const int n_pages = pages_for(to);
			s->first_page[kind] = s->first_page[kind] < n_pages ? s->first_page[kind] : n_pages;
		}
	}
	return ok;
}

static bool fork_to(struct naive *to, struct naive *from, struct bb_error *err) {
	struct bb_context *fork;
	if (!bb_context_fork(&fork, from->c, err)) {
		cr_assert_eq(err->code, BB_ERR_MEMORY, "%s", err->text);
		return false;
	}
	from->n_reserved = 0;
	*to = *from;
	to->c = fork;
	return true;
}

/* One operation on a random slot. */
static bool random_operation(struct world *w, struct naive *s, struct bb_error *err) {
	struct naive *other = &w->slots[draw(w, N_SLOTS)];
	if (s->c == NULL) {
		if (other->c != NULL) {
			return fork_to(s, other, err);
		}
		memset(s, 0, sizeof(*s));
		return bb_context_create(&s->c, w->e, NULL, err);
	}
	const int what = draw(w, 20);
	if (what == 0) {
		bb_context_destroy(s->c);
		s->c = NULL;
		return true;
	}
	return what < 4 ? rewind_some(w, s, err) : what < 6 ? reserve(w, s, err)
		: what < 9 ? begin_segment(w, s, err) : append(w, s, err);
}

/* max_pages: of the pool; 0 = no limit. */
static void run_random(const char *model, uint64_t seed, int n_operations, size_t max_pages) {
	static struct world w;
	memset(&w, 0, sizeof(w));
	w.random = seed;
	w.e = open_tiny(model, MAX_TOKENS, 0, 0);
	bb_context_destroy(new_context(w.e)); /* sets the pools up */
	w.e->budget.max_bytes = max_pages * w.e->pools[0][w.e->kv_type].page_bytes;
	for (int i = 0; i < n_operations; i++) {
		struct naive *s = &w.slots[draw(&w, N_SLOTS)];
		struct bb_error err = { 0 };
		base_fail_alloc_at(draw(&w, 4) == 0 ? 1 + draw(&w, 4) : 0);
		w.n_failed += !random_operation(&w, s, &err) && err.code == BB_ERR_MEMORY;
		base_fail_alloc_at(0);
		for (int j = 0; j < N_SLOTS; j++) {
			if (w.slots[j].c != NULL && (&w.slots[j] == s || i % 8 == 0)) {
				verify(&w, &w.slots[j]);
			}
		}
		for (int kind = 0; kind < w.e->plan.n_kinds; kind++) {
			verify_pages(&w, kind);
		}
	}
	cr_assert_gt(w.n_failed, n_operations / 100);
	cr_assert_gt(w.n_shared, n_operations / 10);
	for (int i = 0; i < N_SLOTS; i++) {
		bb_context_destroy(w.slots[i].c);
	}
	for (int kind = 0; kind < w.e->plan.n_kinds; kind++) {
		cr_assert_eq(w.e->pools[kind][w.e->kv_type].n_used, 0);
	}
	bb_engine_destroy(w.e);
}

Test(context, random_operations_on_full_layers, .timeout = 120) {
	for (uint64_t seed = 1; seed <= 4; seed++) {
		run_random("llama", seed, 2000, 400);
	}
}

Test(context, random_operations_behind_a_window, .timeout = 120) {
	for (uint64_t seed = 1; seed <= 4; seed++) {
		run_random("llama-window", seed, 2000, 60);
	}
}

Test(context, random_operations_on_two_kinds_of_layers, .timeout = 120) {
	for (uint64_t seed = 1; seed <= 4; seed++) {
		run_random("gemma3", seed, 2000, 0);
	}
}
