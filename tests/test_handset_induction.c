/* SPDX-License-Identifier: Apache-2.0
 *
 * Induction heads with hand-set weights: every logit of every defined answer; one match in any
 * precision, the newest of several in f32; and that boxes round the keys of a page rank pages
 * rightly where keys have no negative numbers. */
#include "handset_asserts.h"

#include "engine.h"

#include <math.h>

static struct hand_random dice;

/* ids[n]: some of 1 .. n_vocab - 1, each once, in any order. */
static void make_distinct(int32_t *ids, int n, int n_vocab) {
	int32_t *all = malloc((size_t)n_vocab * sizeof(*all));
	for (int i = 1; i < n_vocab; i++) {
		all[i] = i;
	}
	for (int i = 0; i < n; i++) {
		const int from = 1 + i + hand_below(&dice, n_vocab - 1 - i);
		ids[i] = all[from];
		all[from] = all[1 + i];
	}
	free(all);
}

/* Rows behind ids [first, n). Returns how many were defined. */
static int play_rows(struct hand_model *p, struct bb_context *c, const int32_t *ids, int n,
	int first) {
	struct bb_error err = { 0 };
	cr_assert(first == 0 || bb_prefill(c, ids, (size_t)first, NULL, NULL, NULL, &err), "%s",
		err.text);
	return expect_rows(p, c, ids + first, n - first, HAND_ROWS);
}

/* ---- one match ---- */

enum { N_BODY = 2000, N_QUERIES = 200 };

/* Distinct tokens, then some of them again. */
static void play_distinct(const struct hand_case *s) {
	struct hand_model p;
	int32_t ids[N_BODY + N_QUERIES + 2];
	open_case(&p, s);
	const int n_body = p.n_vocab - 1 < N_BODY ? p.n_vocab - 1 : N_BODY;
	const int n_queries = n_body / 10 + 2;
	make_distinct(ids, n_body, p.n_vocab);
	for (int i = 0; i < n_queries; i++) {
		ids[n_body + i] = ids[hand_below(&dice, n_body)];
	}
	struct bb_context *c = new_context(p.engine);
	const int n_defined = play_rows(&p, c, ids, n_body + n_queries, n_body);
	cr_assert(n_defined >= n_queries / 2, "%d of %d defined", n_defined, n_queries);
	bb_context_destroy(c);
	hand_close(&p);
}

static void play_everywhere(struct hand_case s) {
	static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };
	for (size_t i = 0; i < COUNT(kv_types); i++) {
		s.params.kv_type = kv_types[i];
		play_distinct(&s);
	}
	s.params.kv_type = BB_KV_AUTO;
	s.spec.type = HANDSET_F16;
	play_distinct(&s);
	s.spec.type = HANDSET_BF16;
	play_distinct(&s);
	s.spec.type = HANDSET_F32;
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		s.params.isa = *isa;
		s.spec.bits = 9;
		if (bb_isa_is_available(*isa)) {
			play_distinct(&s);
		}
	}
}

Test(handset_induction, one_match_answers_in_any_precision, .timeout = 600) {
	play_everywhere((struct hand_case){ { "induction" } });
}

Test(handset_induction, one_match_answers_keys_without_negative_numbers, .timeout = 600) {
	play_everywhere((struct hand_case){ { "induction", .non_negative = true } });
	play_distinct(&(struct hand_case){ { "induction", .non_negative = true, .bits = 7 } });
	play_distinct(&(struct hand_case){ { "induction", .non_negative = true, .bits = 4 } });
}

/* Pairs of a rare token and a common one, far apart in common ones; then the rare ones again. */
static void play_needles(int n, int n_needles, enum bb_kv_type kv_type) {
	enum { COMMON = 64 };
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "induction", .bits = 10 },
		{ .kv_type = kv_type } });
	int32_t *ids = malloc((size_t)(n + 2 * n_needles) * sizeof(*ids));
	for (int i = 0; i < n; i++) {
		ids[i] = hand_below(&dice, COMMON);
	}
	for (int i = 0; i < n_needles; i++) {
		ids[1 + i * (n / n_needles) + hand_below(&dice, n / n_needles - 2)] = COMMON + i;
	}
	for (int i = 0; i < n_needles; i++) {
		ids[n + 2 * i] = COMMON + (i * 7 + 3) % n_needles;
		ids[n + 2 * i + 1] = hand_below(&dice, COMMON);
	}
	struct bb_context *c = new_context(p.engine);
	const int n_defined = play_rows(&p, c, ids, n + 2 * n_needles, n);
	cr_assert_eq(n_defined, n_needles, "%d defined", n_defined);
	bb_context_destroy(c);
	free(ids);
	hand_close(&p);
}

Test(handset_induction, rare_tokens_are_found_from_afar, .timeout = 600) {
	play_needles(8000, 61, BB_KV_F16);
}

/* ---- the newest of several ---- */

/* Random tokens of few symbols: nearly every one has many matches. */
static void play_recent(int n, int n_symbols, int bits) {
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "induction", .recency = true, .length = n,
		.bits = bits }, { .kv_type = BB_KV_F32 } });
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	ids[0] = 0;
	for (int i = 1; i < n; i++) {
		ids[i] = 1 + hand_below(&dice, n_symbols);
	}
	struct bb_context *c = new_context(p.engine);
	const int n_defined = play_rows(&p, c, ids, n, 0);
	cr_assert(n_defined > n - 8 * n_symbols && n_defined < n, "%d of %d defined", n_defined, n);
	bb_context_destroy(c);
	free(ids);
	hand_close(&p);
}

Test(handset_induction, newest_match_answers, .timeout = 600) {
	play_recent(64, 4, 4);
	play_recent(1024, 16, 12);
	play_recent(4096, 200, 8);
}

Test(handset_induction, recency_and_no_negative_numbers_exclude_each_other) {
	struct handset_options o = { .recency = true, .non_negative = true };
	struct bb_error err = { 0 };
	const struct handset_kind *kind = handset_find("induction");
	cr_assert(handset_check(kind, &o, &err), "%s", err.text);
	cr_assert_not(handset_write(kind, &o, "/tmp/bobbin-no-such.gguf", &err));
	cr_assert_eq(err.code, BB_ERR_USAGE);
	cr_assert(strstr(err.text, "--recency or --non-negative, got both") != NULL, "%s", err.text);
}

Test(handset_induction, on_a_device, .timeout = 600) {
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	play_distinct(&(struct hand_case){ { "induction", .bits = 7 }, { .kv_type = BB_KV_INT8,
		.device = test_device() } });
	play_distinct(&(struct hand_case){ { "induction", .bits = 7, .non_negative = true },
		{ .device = test_device() } });
}

/* ---- what boxes round keys say ---- */

/* Keys of the second layer, as they lie in pages, and the last query. */
struct keys {
	int n_tokens, head_dim;
	float *k; /* [n_tokens, head_dim] */
	const float *q; /* [head_dim] */
};

static void read_keys(struct keys *keys, const struct hand_model *p, const struct bb_context *c) {
	const struct bb_engine *e = p->engine;
	const struct bb_kv_layout *layout = engine_kv_layout(e, c->kv_type);
	keys->n_tokens = bb_context_length(c);
	keys->head_dim = hparam_int(&e->plan.hp, H_HEAD);
	keys->k = malloc((size_t)keys->n_tokens * (size_t)keys->head_dim * sizeof(float));
	keys->q = e->plan.acts[ACT_Q]; /* of the last layer, which nothing has overwritten */
	for (int t = 0; t < keys->n_tokens; t++) {
		const uint8_t *page = kv_page(&c->tables[0], t / BB_PAGE);
		layout->read(page + engine_slab_bytes(e, c->kv_type), c->kv_type, keys->head_dim,
			e->kv_group, t % BB_PAGE, keys->k + (size_t)t * (size_t)keys->head_dim, NULL);
	}
}

/* The most that the query can get from the box round n keys, and what it gets from one of them. */
static void bound_of(const struct keys *keys, int first, int n, double *bound, double *score) {
	*bound = 0;
	*score = -INFINITY;
	for (int d = 0; d < keys->head_dim; d++) {
		float least = INFINITY, largest = -INFINITY;
		for (int t = first; t < first + n; t++) {
			const float k = keys->k[(size_t)t * (size_t)keys->head_dim + (size_t)d];
			least = k < least ? k : least;
			largest = k > largest ? k : largest;
		}
		*bound += keys->q[d] * (double)(keys->q[d] > 0 ? largest : least);
	}
	for (int t = first; t < first + n; t++) {
		double sum = 0;
		for (int d = 0; d < keys->head_dim; d++) {
			sum += keys->q[d] * (double)keys->k[(size_t)t * (size_t)keys->head_dim + (size_t)d];
		}
		*score = sum > *score ? sum : *score;
	}
}

/* Of boxes of `size` tokens, how many but that of the match reach its bound, which must be the
 * largest of all. */
static int count_rivals(const struct keys *keys, int size, int match, bool is_tight) {
	double best, score;
	bound_of(keys, match / size * size, size, &best, &score);
	cr_assert(fabs(best - score) <= 1e-4 * best, "bound %g, score %g", best, score);
	int n_rivals = 0;
	for (int first = 0; first + size <= keys->n_tokens; first += size) {
		double bound, most;
		bound_of(keys, first, size, &bound, &most);
		cr_assert(bound <= best * (1 + 1e-4), "box of token %d: %g, that of the match %g", first,
			bound, best);
		cr_assert(!is_tight || fabs(bound - most) <= 1e-4 * best, "box of token %d: %g, its best "
			"key gives %g", first, bound, most);
		n_rivals += first != match / size * size && bound >= best * (1 - 1e-4);
	}
	return n_rivals;
}

/* Queries of tokens that stand once in n_pages pages. `share` of the other boxes may reach the
 * bound of the right one, in boxes of a page and of half of one. */
static void rank_pages(struct hand_case s, int n_pages, bool is_distinct, double share,
	double half_share, bool is_tight) {
	enum { N_ASKED = 24, COMMON = 64 };
	struct hand_model p;
	struct bb_error err = { 0 };
	const int n = n_pages * BB_PAGE;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	long n_rivals[2] = { 0 };
	open_case(&p, &s);
	if (is_distinct) {
		make_distinct(ids, n, p.n_vocab);
	}
	for (int i = 0; !is_distinct && i < n; i++) { /* a rare token in each page, many common ones */
		ids[i] = i % BB_PAGE == 9 ? COMMON + i / BB_PAGE : hand_below(&dice, COMMON);
	}
	struct bb_context *c = new_context(p.engine);
	cr_assert(bb_prefill(c, ids, (size_t)n, NULL, NULL, NULL, &err), "%s", err.text);
	for (int i = 0; i < N_ASKED; i++) {
		const int at = is_distinct ? hand_below(&dice, n - 1)
			: hand_below(&dice, n_pages) * BB_PAGE + 9;
		struct keys keys;
		feed(c, p.engine, &ids[at], 1, p.logits);
		expect_row(&p, p.logits, n, ids[at], ids[at + 1]);
		read_keys(&keys, &p, c);
		keys.n_tokens = n;
		for (size_t d = 0; d < (size_t)n * (size_t)keys.head_dim; d++) {
			cr_assert(keys.k[d] > -1e-20f, "a key has %g", (double)keys.k[d]);
		}
		n_rivals[0] += count_rivals(&keys, BB_PAGE, at + 1, is_tight);
		n_rivals[1] += count_rivals(&keys, BB_PAGE / 2, at + 1, is_tight);
		free(keys.k);
		cr_assert(bb_context_rewind(c, n, &err), "%s", err.text);
	}
	const double all = (double)N_ASKED * (n_pages - 1), all_halves = (double)N_ASKED *
		(2 * n_pages - 1);
	cr_log_info("%s: of other pages %.3f reach the bound, of other halves %.3f",
		p.name, (double)n_rivals[0] / all, (double)n_rivals[1] / all_halves);
	cr_assert((double)n_rivals[0] <= share * all && (double)n_rivals[1] <= half_share * all_halves,
		"%s: of other pages %.3f reach the bound, expected %.3f at most, of other halves %.3f, "
		"%.3f", p.name, (double)n_rivals[0] / all, share, (double)n_rivals[1] / all_halves,
		half_share);
	bb_context_destroy(c);
	free(ids);
	hand_close(&p);
}

/* With one digit a box's bound is the score of its best key, so the page of the match, and no
 * other, has the largest: for every prompt, not only these. */
Test(handset_induction, box_of_one_digit_is_exact, .timeout = 600) {
	static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_INT8 };
	for (size_t i = 0; i < COUNT(kv_types); i++) {
		rank_pages((struct hand_case){ { "induction", .non_negative = true, .bits = 7 },
			{ .kv_type = kv_types[i] } }, 32, false, 0, 0, true);
	}
}

/* With three, a page of 64 other keys reaches it where each digit occurs in one of them:
 * (1 - (63/64)^64)^3 = 0.254; a box of 32 keys (1 - (63/64)^32)^3 = 0.062. */
Test(handset_induction, boxes_of_three_digits_rank_most_pages_behind, .timeout = 600) {
	rank_pages((struct hand_case){ { "induction", .non_negative = true } }, 60, true, 0.32, 0.09,
		false);
}

/* Signs tell nothing: among 64 random keys each element is -1 and 1, and every box has the same
 * bound. */
Test(handset_induction, boxes_of_signs_tell_nothing, .timeout = 600) {
	struct hand_case s = { { "induction" }, { .kv_type = BB_KV_F32 } };
	struct hand_model p;
	struct bb_error err = { 0 };
	enum { N = 32 * BB_PAGE };
	static int32_t ids[N];
	struct keys keys;
	open_case(&p, &s);
	make_distinct(ids, N, p.n_vocab);
	struct bb_context *c = new_context(p.engine);
	cr_assert(bb_prefill(c, ids, N, NULL, NULL, NULL, &err), "%s", err.text);
	feed(c, p.engine, &ids[100], 1, p.logits);
	read_keys(&keys, &p, c);
	keys.n_tokens = N;
	cr_assert_eq(count_rivals(&keys, BB_PAGE, 101, false), N / BB_PAGE - 1);
	free(keys.k);
	bb_context_destroy(c);
	hand_close(&p);
}
